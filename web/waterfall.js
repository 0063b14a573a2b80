// The waterfall of a source: a row of colours for each spectrum, newest on top.

import { byId, h, setChoices, setText } from "./dom.js";
import { hertz, timeOfDay } from "./format.js";
import { EventStream } from "./stream.js";

const ROWS = 200;

/** Rows between two labels, at least. */
const LABEL_ROWS = 12;

/** Corners of the colour scale, black-blue over green to white-yellow, evenly spaced. */
const CORNERS = [
  [2, 5, 24],
  [38, 38, 110],
  [32, 90, 140],
  [33, 145, 140],
  [92, 200, 99],
  [253, 231, 37],
  [255, 255, 235],
];

/** The colours of 256 levels. */
export const COLORS = Array.from({ length: 256 }, (_, level) => {
  const at = (level / 255) * (CORNERS.length - 1);
  const first = Math.min(Math.floor(at), CORNERS.length - 2);
  return CORNERS[first].map((from, n) => Math.round(from + (CORNERS[first + 1][n] - from) * (at - first)));
});

/** The levels of a row, dB. */
export function levels({ rows, floor, step }) {
  return Float32Array.from(atob(rows), (character) => floor + step * character.charCodeAt(0));
}

export class Waterfall {
  constructor(store) {
    this.store = store;
    this.canvas = byId("rows");
    this.canvas.height = ROWS;
    this.context = this.canvas.getContext("2d", { willReadFrequently: true });
    this.pending = [];
    this.isVisible = false;
    this.number = 0;
    this.labels = [];
    this.select = byId("waterfall-source");
    this.select.addEventListener("change", () => this.#follow());
    new IntersectionObserver(([entry]) => {
      this.isVisible = entry.isIntersecting;
      this.#watch();
    }).observe(byId("waterfall"));
    document.addEventListener("visibilitychange", () => this.#watch());
    byId("waterfall").addEventListener("pointermove", (event) => this.#read(event));
    store.subscribe(500, () => this.#sources());
  }

  #sources() {
    const before = this.select.value;
    setChoices(
      this.select,
      [...this.store.sources.keys()].sort().map((name) => [name, name]),
    );
    if (this.select.value !== before) this.#follow();
  }

  #follow() {
    const source = this.select.value;
    this.stream?.stop();
    [this.pending, this.labels, this.number, this.range, this.row] = [[], [], 0, null, null];
    this.context.clearRect(0, 0, this.canvas.width, ROWS);
    const query = new URLSearchParams({ types: "waterfall", source });
    this.stream = source ? new EventStream(query, (_, data) => this.#take(JSON.parse(data))) : null;
    this.#watch();
  }

  /** Spectra are only asked for while somebody can see them. */
  #watch() {
    if (this.isVisible && !document.hidden) this.stream?.start();
    else this.stream?.stop();
  }

  #take(row) {
    if (row.source !== this.select.value) return;
    this.pending.push(row);
    if (this.pending.length > ROWS) this.pending.shift();
    this.frame ??= requestAnimationFrame(() => this.#draw());
  }

  #draw() {
    this.frame = null;
    const { canvas, context } = this;
    const rows = this.pending;
    this.pending = [];
    for (const row of rows) {
      const db = levels(row);
      if (canvas.width !== db.length) {
        canvas.width = db.length;
        [this.labels, this.range] = [[], null];
      }
      this.#scale(db);
      const [low, high] = this.range;
      const image = context.createImageData(db.length, 1);
      db.forEach((level, bin) => {
        const at = Math.round((255 * (level - low)) / (high - low));
        const [red, green, blue] = COLORS[Math.max(0, Math.min(255, at))];
        image.data.set([red, green, blue, 255], 4 * bin);
      });
      context.drawImage(canvas, 0, 1);
      context.putImageData(image, 0, 0);
      this.number += 1;
      this.#label(row);
    }
    this.row = rows.at(-1);
    [canvas.dataset.low, canvas.dataset.high] = this.range;
    this.#axis();
    this.#drawLabels();
  }

  /** Follows the levels: from a little below the noise to a little above the strongest. */
  #scale(db) {
    const sorted = Float32Array.from(db).sort();
    const [low, high] = [
      sorted[db.length >> 3] - 6,
      Math.max(sorted.at(-1) + 3, sorted[db.length >> 3] + 24),
    ];
    if (!this.range) this.range = [low, high];
    // Colours mean the same from row to row, unless the levels have moved.
    const [below, above] = this.range;
    if (Math.abs(low - below) > 6) this.range[0] += 0.1 * (low - below);
    if (high > above || high < above - 12) this.range[1] += (high > above ? 1 : 0.02) * (high - above);
  }

  #label(row) {
    const { label } = this.store.sources.get(row.source) ?? {};
    const last = this.labels.at(-1);
    if (!label || (last && this.number - last.number < LABEL_ROWS)) return;
    if (last?.label === label && this.number - last.number < 5 * LABEL_ROWS) return;
    this.labels.push({ label, number: this.number });
    if (this.labels.length > ROWS / LABEL_ROWS) this.labels.shift();
  }

  #drawLabels() {
    const canvas = byId("row-labels");
    const { clientWidth: width, clientHeight: height } = canvas;
    const ratio = window.devicePixelRatio || 1;
    [canvas.width, canvas.height] = [Math.round(width * ratio), Math.round(height * ratio)];
    const context = canvas.getContext("2d");
    context.scale(ratio, ratio);
    context.font = "bold 12px system-ui, sans-serif";
    for (const { label, number } of this.labels) {
      const y = ((this.number - number) / ROWS) * height + 12;
      if (y > height) continue;
      const wide = context.measureText(label).width;
      context.fillStyle = "#000b";
      context.fillRect(4, y - 11, wide + 8, 15);
      context.fillStyle = "#fff";
      context.fillText(label, 8, y);
    }
  }

  #axis() {
    const { f0, df } = this.row;
    const key = `${f0} ${df} ${this.canvas.width}`;
    if (this.axisKey === key) return;
    this.axisKey = key;
    const of = (share) => hertz(f0 + df * this.canvas.width * share);
    byId("frequencies").replaceChildren(...[0, 0.25, 0.5, 0.75, 1].map((share) => h("span", {}, of(share))));
  }

  #read({ offsetX, offsetY }) {
    if (!this.row) return;
    const { clientWidth, clientHeight } = this.canvas;
    const bin = Math.min(this.canvas.width - 1, Math.floor((offsetX / clientWidth) * this.canvas.width));
    const at = hertz(this.row.f0 + this.row.df * bin);
    const newest = offsetY / clientHeight < 1 / ROWS;
    const time = timeOfDay(new Date(this.row.t0 * 1000).toISOString());
    setText(
      byId("waterfall-readout"),
      newest ? `${at}, ${levels(this.row)[bin].toFixed(1)} dBFS at ${time}` : at,
    );
  }
}
