// The daemon's events, over fetch: unlike EventSource it can send a token.

const FIRST_RETRY_MS = 500;
const LONGEST_RETRY_MS = 8000;

/** Nothing for so long, and the connection is taken for dead: the daemon says how it is every second. */
const SILENCE_MS = 5000;

/** Headers with the token, where there is one. */
export function authorization() {
  const token = sessionStorage.getItem("token");
  return token ? { Authorization: `Bearer ${token}` } : {};
}

export class EventStream {
  /**
   * @param {string} query what follows `/api/v1/events?`
   * @param {(kind: string, data: string) => void} onEvent
   * @param {(state: "connected" | "connecting" | "refused" | "unauthorized", why?: string) => void} onState
   */
  constructor(query, onEvent, onState = () => {}) {
    Object.assign(this, { query, onEvent, onState, lastId: null, running: null });
  }

  start() {
    if (this.running) return;
    this.running = new AbortController();
    this.#run(this.running.signal);
  }

  stop() {
    this.running?.abort();
    this.running = null;
  }

  restart(query = this.query) {
    this.query = query;
    this.stop();
    this.start();
  }

  async #run(signal) {
    let retry = FIRST_RETRY_MS;
    while (!signal.aborted) {
      const connection = new AbortController();
      const stop = () => connection.abort();
      signal.addEventListener("abort", stop);
      try {
        const headers = { ...authorization(), ...(this.lastId ? { "Last-Event-ID": this.lastId } : {}) };
        const asked = { headers, signal: connection.signal, cache: "no-store" };
        const response = await within(SILENCE_MS, stop, fetch(`/api/v1/events?${this.query}`, asked));
        if (response.ok) {
          this.onState("connected");
          retry = FIRST_RETRY_MS;
          await this.#read(response.body.getReader(), stop);
          if (!signal.aborted) this.onState("connecting");
        } else {
          const { message } = await response.json().catch(() => ({}));
          // Without the right token it stays refused.
          const isForGood = response.status === 401;
          this.onState(isForGood ? "unauthorized" : "refused", message ?? `HTTP status ${response.status}`);
          if (isForGood) return this.stop();
        }
      } catch {
        if (!signal.aborted) this.onState("connecting", "no connection to the daemon");
      } finally {
        signal.removeEventListener("abort", stop);
      }
      await new Promise((resolve) => setTimeout(resolve, retry));
      retry = Math.min(2 * retry, LONGEST_RETRY_MS);
    }
  }

  async #read(reader, stop) {
    const decoder = new TextDecoder();
    let rest = "";
    for (;;) {
      const { done, value } = await within(SILENCE_MS, stop, reader.read());
      if (done) return;
      const events = (rest + decoder.decode(value, { stream: true })).split("\n\n");
      rest = events.pop();
      for (const event of events) this.#take(event);
    }
  }

  #take(event) {
    let kind = "message";
    let data = null;
    for (const line of event.split("\n")) {
      if (line.startsWith("event: ")) kind = line.slice(7);
      else if (line.startsWith("data: ")) data = line.slice(6);
      else if (line.startsWith("id: ")) this.lastId = line.slice(4);
    }
    if (data !== null) this.onEvent(kind, data);
  }
}

/** What is promised; `late` is called where it takes longer. */
async function within(milliseconds, late, promised) {
  const timer = setTimeout(late, milliseconds);
  try {
    return await promised;
  } finally {
    clearTimeout(timer);
  }
}
