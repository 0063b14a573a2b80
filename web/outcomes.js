// The table of outcomes and its filters.

import { byId, h, setChoices, setText } from "./dom.js";
import { milliseconds, timeOfDay } from "./format.js";

const ROWS = 60;

export class OutcomeTable {
  constructor(store, onSelect) {
    Object.assign(this, { store, onSelect, isPaused: false, shown: [] });
    this.form = byId("filters");
    this.rows = Array.from({ length: ROWS }, (_, at) => this.#row(at));
    byId("rows-of-outcomes").append(...this.rows.map((row) => row.element));
    this.form.addEventListener("input", () => {
      const value = (name) => this.form.elements[name].value;
      const text = value("text").trim().toLowerCase();
      store.filter = { source: value("source"), model: value("model"), code: value("code"), text };
      store.changed();
    });
    this.form.addEventListener("submit", (event) => event.preventDefault());
    byId("pause").addEventListener("click", () => this.pause(!this.isPaused));
    store.subscribe(250, () => this.update());
  }

  #row(at) {
    const open = h("button", { type: "button", class: "open" });
    open.addEventListener("click", () => this.shown[at] && this.onSelect(this.shown[at]));
    const [source, result, model, took] = ["", "result", "", "number"].map((name) =>
      h("td", { class: name }),
    );
    const element = h("tr", { hidden: true }, h("td", {}, open), source, result, model, took);
    return { element, open, source, result, model, took };
  }

  pause(isPaused) {
    this.isPaused = isPaused;
    byId("pause").setAttribute("aria-pressed", String(isPaused));
    setText(byId("pause"), isPaused ? "Go on" : "Pause");
    this.update();
  }

  /** Moves the focus along the rows. */
  step(by) {
    const at = this.rows.findIndex((row) => row.open === document.activeElement);
    const next = Math.max(0, Math.min(this.shown.length - 1, at + by));
    this.rows[next]?.open.focus();
  }

  update() {
    this.#choices();
    if (!this.isPaused) this.shown = this.store.newest(ROWS);
    this.rows.forEach((row, at) => {
      const kept = this.shown[at];
      row.element.hidden = !kept;
      if (!kept) return;
      row.element.className = kept.code ? "failed" : "";
      row.element.setAttribute("aria-selected", String(kept === this.store.selected));
      setText(row.open, timeOfDay(kept.timestamp));
      setText(row.source, kept.source);
      setText(row.result, kept.answer);
      setText(row.model, kept.model);
      setText(row.took, kept.took == null ? "" : milliseconds(kept.took));
    });
    const { dropped, outcomes } = this.store;
    const missing = dropped ? `, ${dropped} not shown: too many for this page, or too large` : "";
    setText(byId("shown"), `${this.isPaused ? "paused, " : ""}newest of ${outcomes.length}${missing}`);
  }

  #choices() {
    const { outcomes } = this.store;
    const of = (name) => [...new Set(outcomes.map((kept) => kept[name]).filter(Boolean))].sort();
    const choices = (all, values) => [["", all], ...values.map((value) => [value, value])];
    setChoices(this.form.elements.source, choices("all", [...this.store.sources.keys()].sort()));
    setChoices(this.form.elements.model, choices("all", of("model")));
    const codes = [
      ["predictions", "predictions"],
      ["failures", "failures"],
      ...of("code").map((code) => [code, code]),
    ];
    setChoices(this.form.elements.code, [["", "all"], ...codes]);
  }
}
