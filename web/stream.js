// The daemon's events, over fetch: unlike EventSource it can send a token.

const FIRST_RETRY_MS = 500;
const LONGEST_RETRY_MS = 8000;

/** Headers with the token, where there is one. */
export function authorization() {
  const token = sessionStorage.getItem("token");
  return token ? { Authorization: `Bearer ${token}` } : {};
}

export class EventStream {
  /**
   * @param {string} query what follows `/api/v1/events?`
   * @param {(kind: string, data: string) => void} onEvent
   * @param {(state: "connected" | "connecting" | "refused", why?: string) => void} onState
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

  restart() {
    this.stop();
    this.start();
  }

  async #run(signal) {
    let retry = FIRST_RETRY_MS;
    while (!signal.aborted) {
      try {
        const headers = { ...authorization(), ...(this.lastId ? { "Last-Event-ID": this.lastId } : {}) };
        const response = await fetch(`/api/v1/events?${this.query}`, { headers, signal, cache: "no-store" });
        if (!response.ok) {
          const { message } = await response.json().catch(() => ({}));
          this.onState("refused", message ?? `HTTP status ${response.status}`);
          // Without the right token it stays refused.
          if (response.status === 401) return this.stop();
        } else {
          this.onState("connected");
          retry = FIRST_RETRY_MS;
          await this.#read(response.body.getReader());
          if (!signal.aborted) this.onState("connecting");
        }
      } catch {
        if (!signal.aborted) this.onState("connecting");
      }
      await new Promise((resolve) => setTimeout(resolve, retry));
      retry = Math.min(2 * retry, LONGEST_RETRY_MS);
    }
  }

  async #read(reader) {
    const decoder = new TextDecoder();
    let rest = "";
    for (;;) {
      const { done, value } = await reader.read();
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
