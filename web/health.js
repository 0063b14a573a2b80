// The state of the daemon: the ledger, rates, circuits, queue and cache.

import { byId, h, setText } from "./dom.js";
import { bytes, count, milliseconds, percent } from "./format.js";

const SVG = "http://www.w3.org/2000/svg";

export class HealthPanel {
  constructor(store) {
    this.store = store;
    this.figures = new Map();
    store.subscribe(500, () => this.update());
  }

  connection(state, why) {
    Object.assign(this, { state, why });
    this.#status();
  }

  #status() {
    const { health } = this.store;
    const pill = byId("status");
    // What is shown is old while nothing comes.
    document.body.classList.toggle("stale", this.state !== "connected");
    const isThere = this.state === "connected" && health;
    pill.dataset.state = isThere
      ? health.status
      : ["refused", "unauthorized"].includes(this.state)
        ? this.state
        : "starting";
    const text = isThere
      ? health.status + (health.reason ? `: ${health.reason}` : "")
      : (this.why ?? "connecting");
    setText(pill, text);
  }

  #figure(name, value) {
    let element = this.figures.get(name);
    if (!element) {
      element = h("dd", {});
      byId("figures").append(h("div", {}, h("dt", {}, name), element));
      this.figures.set(name, element);
    }
    setText(element, value);
  }

  update() {
    this.#status();
    const { health } = this.store;
    // There is none while the daemon is starting.
    if (!health?.ledger) return;
    const { ledger } = health;
    const rate = this.store.rate("received");
    this.#figure("per second", rate == null ? "–" : rate.toFixed(rate < 10 ? 1 : 0));
    for (const name of ["received", "predictions", "failures", "lost"])
      this.#figure(name, count(ledger[name]));
    this.#figure("in flight", count(ledger.in_flight));
    this.#figure(
      "p50 / p99",
      `${milliseconds(health.latency_ms?.p50)} / ${milliseconds(health.latency_ms?.p99)}`,
    );
    this.#body(health);
  }

  #body(health) {
    const fact = (name, value) => [h("dt", {}, name), h("dd", {}, value)];
    const { pool = {}, cache = {}, in_flight: inFlight = {}, process: used = {} } = health;
    const open = (health.circuits ?? []).filter(({ state }) => state !== "closed");
    const circuits = (health.circuits ?? []).map(({ model, version, state, reason }) =>
      h(
        "li",
        { class: state === "closed" ? "" : "failed" },
        `${model}@${version}: ${state.replace("_", " ")}${reason ? `, ${reason}` : ""}`,
      ),
    );
    byId("health-body").replaceChildren(
      this.#chart(),
      h(
        "dl",
        { class: "facts" },
        fact("Waiting for a session", count(pool.depth)),
        fact("Bytes in flight", bytes(inFlight.bytes)),
        fact("Answered from the cache", percent(cache.hit_rate)),
        fact("Resident memory", bytes(used.resident_bytes)),
        fact("Open circuits", `${open.length} of ${circuits.length}`),
      ),
      h("ul", { class: "circuits", "aria-label": "Circuits" }, circuits),
    );
  }

  /** Frames per second over the last minutes. */
  #chart() {
    const { seconds } = this.store;
    const rates = seconds
      .slice(1)
      .map((second, at) => (second.received - seconds[at].received) / (second.at - seconds[at].at || 1));
    const highest = Math.max(1, ...rates);
    const svg = document.createElementNS(SVG, "svg");
    const latest = rates.at(-1)?.toFixed(0) ?? "0";
    svg.setAttribute("viewBox", "0 0 180 40");
    svg.setAttribute("preserveAspectRatio", "none");
    svg.setAttribute("role", "img");
    svg.setAttribute(
      "aria-label",
      `Frames per second over the last ${rates.length} seconds, at most ${highest.toFixed(0)}, now ${latest}`,
    );
    const line = document.createElementNS(SVG, "polyline");
    const points = rates.map((rate, at) => `${180 - rates.length + at + 1},${39 - (38 * rate) / highest}`);
    line.setAttribute("points", points.join(" "));
    svg.append(line);
    return h(
      "figure",
      { class: "chart" },
      svg,
      h("figcaption", { class: "quiet" }, `frames a second, at most ${highest.toFixed(0)}`),
    );
  }
}
