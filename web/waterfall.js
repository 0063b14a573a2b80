// The waterfall of a source: a row of colours for each spectrum, newest on top.

import { byId, h, setChoices, setText } from "./dom.js";
import { hertz, timeOfDay } from "./format.js";

const ROWS = 200;

/** Columns; each row of fewer bins is drawn as wide. */
const COLUMNS = 1024;

/** Rows between two labels, at least. */
const LABEL_ROWS = 12;

/** After so many rows the same label is written again. */
const REPEATED = 60;

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
  /** `watch` is called with the source whose spectra are wanted, or with none while nobody can see them. */
  constructor(store, watch) {
    Object.assign(this, { store, watch, watched: "", pending: [], rows: [], isVisible: false });
    this.canvas = byId("rows");
    [this.canvas.width, this.canvas.height] = [COLUMNS, ROWS];
    this.context = this.canvas.getContext("2d", { willReadFrequently: true });
    this.select = byId("waterfall-source");
    this.select.addEventListener("change", () => this.#follow());
    new IntersectionObserver(([entry]) => {
      this.isVisible = entry.isIntersecting;
      this.#follow();
    }).observe(byId("waterfall"));
    document.addEventListener("visibilitychange", () => this.#follow());
    byId("waterfall").addEventListener("pointermove", (event) => this.#read(event));
    store.subscribe(500, () => this.#sources());
  }

  #sources() {
    const names = [...this.store.sources.keys()].sort();
    setChoices(
      this.select,
      names.map((name) => [name, name]),
    );
    this.#follow();
  }

  /** Spectra are only asked for while somebody can see them. */
  #follow() {
    const source = this.select.value;
    if (this.source !== source) {
      [this.source, this.pending, this.rows, this.range] = [source, [], [], null];
      this.axisKey = null;
      byId("frequencies").replaceChildren();
      setText(byId("waterfall-readout"), "");
      this.context.clearRect(0, 0, COLUMNS, ROWS);
    }
    const wanted = this.isVisible && !document.hidden ? source : "";
    if (this.watched === wanted) return;
    this.watched = wanted;
    this.watch(wanted);
  }

  /** Takes an event. */
  take(data) {
    const row = JSON.parse(data);
    if (row.source !== this.source) return;
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
      this.#scale(db);
      const [low, high] = this.range;
      const image = context.createImageData(COLUMNS, 1);
      for (let column = 0; column < COLUMNS; column += 1) {
        const level = db[Math.floor((column * db.length) / COLUMNS)];
        const at = Math.round((255 * (level - low)) / (high - low));
        const [red, green, blue] = COLORS[Math.max(0, Math.min(255, at))];
        image.data.set([red, green, blue, 255], 4 * column);
      }
      context.drawImage(canvas, 0, 1);
      context.putImageData(image, 0, 0);
      const { f0, df, t0, sample_rate: rate, frame_id: id } = row;
      this.rows.unshift({ f0, df, t0, rate, id, db });
    }
    this.rows.length = Math.min(this.rows.length, ROWS);
    if (rows.length) [canvas.dataset.low, canvas.dataset.high] = this.range;
    this.#axis();
    this.#labels();
  }

  /** Follows the levels: from a little below the noise to a little above the strongest. */
  #scale(db) {
    const sorted = Float32Array.from(db).sort();
    const noise = sorted[db.length >> 3];
    const [low, high] = [noise - 6, Math.max(sorted.at(-1) + 3, noise + 24)];
    if (!this.range) this.range = [low, high];
    // Colours mean the same from row to row, unless the levels have moved.
    const [below, above] = this.range;
    if (Math.abs(low - below) > 6) this.range[0] += 0.1 * (low - below);
    if (high > above || high < above - 12) this.range[1] += (high > above ? 1 : 0.02) * (high - above);
  }

  /** Writes what the model says of a row's frame beside the row. */
  #labels() {
    const canvas = byId("row-labels");
    const { clientWidth: width, clientHeight: height } = canvas;
    const ratio = window.devicePixelRatio || 1;
    [canvas.width, canvas.height] = [Math.round(width * ratio), Math.round(height * ratio)];
    const context = canvas.getContext("2d");
    context.scale(ratio, ratio);
    context.font = "bold 12px system-ui, sans-serif";
    let last = null;
    // From the oldest on, so that labels move with their rows.
    for (let at = this.rows.length - 1; at >= 0; at -= 1) {
      const row = this.rows[at];
      row.label ??= this.store.labelOf(this.source, row.id);
      if (row.isLabelled === undefined && row.label) {
        const since = last ? last.at - at : Infinity;
        row.isLabelled = since >= (last?.label === row.label ? REPEATED : LABEL_ROWS);
      }
      if (!row.isLabelled) continue;
      last = { at, label: row.label };
      const y = (at / ROWS) * height + 12;
      const wide = context.measureText(row.label).width;
      context.fillStyle = "#000b";
      context.fillRect(4, y - 11, wide + 8, 15);
      context.fillStyle = "#fff";
      context.fillText(row.label, 8, y);
    }
  }

  /** The frequencies of the newest row. */
  #axis() {
    const [newest] = this.rows;
    const shown = (share) => frequency(newest, Math.round(share * newest.db.length));
    const key = newest ? `${newest.f0} ${newest.df} ${newest.rate}` : "";
    if (!newest || this.axisKey === key) return;
    this.axisKey = key;
    byId("frequencies").replaceChildren(
      ...[0, 0.25, 0.5, 0.75, 1].map((share) => h("span", {}, shown(share))),
    );
  }

  #read({ offsetX, offsetY }) {
    const { clientWidth, clientHeight } = this.canvas;
    const row = this.rows[Math.floor((offsetY / clientHeight) * ROWS)];
    if (!row) return setText(byId("waterfall-readout"), "");
    const bin = Math.min(row.db.length - 1, Math.max(0, Math.floor((offsetX / clientWidth) * row.db.length)));
    const time = timeOfDay(new Date(row.t0 * 1000).toISOString());
    setText(byId("waterfall-readout"), `${frequency(row, bin)}, ${row.db[bin].toFixed(1)} dBFS at ${time}`);
  }
}

/** The frequency of a bin; without a sample rate it is in cycles a sample. */
function frequency({ f0, df, rate }, bin) {
  const value = f0 + df * bin;
  return rate == null ? `${value.toFixed(3)} cycles/sample` : hertz(value);
}
