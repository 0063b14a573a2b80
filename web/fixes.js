// The layer of the map that shows receivers, fixes and their ellipses.

import { age } from "./format.js";
import { lines, spacing } from "./grid.js";
import { project } from "./store.js";

/** Older fixes of a source that are drawn with their ellipses. */
const TRAIL = 12;

/** Fixes that are drawn at all. */
const MOST = 600;

/** Within so many pixels of a click a fix is meant. */
const NEAR = 14;

const EARTH_CIRCUMFERENCE = 40_075_016.686;

const shortened = (name) => (name.length > 30 ? `${name.slice(0, 30)}…` : name);

export const FixLayer = L.Layer.extend({
  initialize(store, onSelect) {
    Object.assign(this, { store, onSelect, window: 300 });
  },

  onAdd(map) {
    this.map = map;
    this.canvas = L.DomUtil.create("canvas", "fixes");
    // Above the streets and the countries, below the controls.
    const pane = map.createPane("fixes");
    pane.style.zIndex = 450;
    pane.style.pointerEvents = "none";
    pane.append(this.canvas);
    map.on("move zoomend resize", this.draw, this);
    map.on("click", this.select, this);
    this.draw();
  },

  onRemove(map) {
    map.off("move zoomend resize", this.draw, this);
    map.off("click", this.select, this);
    this.canvas.remove();
  },

  /** The fixes to draw, oldest first. */
  fixes() {
    const found = [];
    for (let at = this.store.fixes.length - 1; at >= 0 && found.length < MOST; at -= 1) {
      const kept = this.store.fixes[at];
      if (this.store.age(kept.answered) > this.window) break;
      if (this.store.matches(kept)) found.push(kept);
    }
    return found.reverse();
  },

  draw() {
    const { map, canvas } = this;
    const { x: width, y: height } = map.getSize();
    const ratio = window.devicePixelRatio || 1;
    if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
      [canvas.width, canvas.height] = [Math.round(width * ratio), Math.round(height * ratio)];
      [canvas.style.width, canvas.style.height] = [`${width}px`, `${height}px`];
    }
    L.DomUtil.setPosition(canvas, map.containerPointToLayerPoint([0, 0]));
    const corner = map.getPixelBounds().min;
    const scale = 2 ** map.getZoom();
    this.toPixel = ([x, y]) => [x * scale - corner.x, y * scale - corner.y];
    const context = canvas.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    const style = getComputedStyle(document.documentElement);
    this.ink = style.getPropertyValue("--ink");
    this.halo = style.getPropertyValue("--surface");
    this.palette = style.getPropertyValue("--series").split(" ").filter(Boolean);
    this.grid(context, style.getPropertyValue("--grid"), width, height);
    this.receivers(context);
    this.ellipses(context);
  },

  color(source) {
    const number = this.store.sources.get(source)?.color ?? 0;
    return this.palette[number % this.palette.length];
  },

  /** Lines a whole number of metres apart, from the scale at which a degree is wide. */
  grid(context, color, width, height) {
    const bounds = this.map.getBounds();
    const middle = (bounds.getCenter().lat * Math.PI) / 180;
    const metresPerPixel = (EARTH_CIRCUMFERENCE * Math.cos(middle)) / (256 * 2 ** this.map.getZoom());
    this.gridMetres = null;
    if (metresPerPixel > 200) return;
    this.gridMetres = spacing(metresPerPixel);
    const [south, north] = [bounds.getSouth(), bounds.getNorth()];
    const [west, east] = [bounds.getWest(), bounds.getEast()];
    const { latitudes, longitudes } = lines({ south, north, west, east }, this.gridMetres);
    context.strokeStyle = color;
    context.lineWidth = 1;
    context.beginPath();
    for (const latitude of latitudes) {
      const y = Math.round(this.toPixel(project([west, latitude]))[1]) + 0.5;
      context.moveTo(0, y);
      context.lineTo(width, y);
    }
    for (const longitude of longitudes) {
      const x = Math.round(this.toPixel(project([longitude, south]))[0]) + 0.5;
      context.moveTo(x, 0);
      context.lineTo(x, height);
    }
    context.stroke();
  },

  receivers(context) {
    const { selected } = this.store;
    const used = selected?.used ?? (selected ? [selected.source] : []);
    for (const [name, { receiver, seen }] of this.store.sources) {
      if (!receiver || performance.now() - seen > 1000 * this.window) continue;
      const [x, y] = this.toPixel(project(receiver));
      context.fillStyle = this.ink;
      if (selected?.place && used.includes(name)) {
        context.strokeStyle = this.ink;
        context.setLineDash([6, 4]);
        context.beginPath();
        context.moveTo(x, y);
        context.lineTo(...this.toPixel(selected.place.centre));
        context.stroke();
        context.setLineDash([]);
      }
      context.beginPath();
      context.moveTo(x, y - 8);
      context.lineTo(x + 7, y + 5);
      context.lineTo(x - 7, y + 5);
      context.fill();
      if (selected?.leftOut?.includes(name)) {
        // Crossed out: the selected fix was made without it.
        context.strokeStyle = this.ink;
        context.beginPath();
        context.moveTo(x - 10, y - 10);
        context.lineTo(x + 10, y + 8);
        context.moveTo(x + 10, y - 10);
        context.lineTo(x - 10, y + 8);
        context.stroke();
      }
      this.label(context, shortened(name), x + 10, y + 5);
    }
  },

  ellipses(context) {
    const fixes = this.fixes();
    const newer = new Map();
    const ranks = fixes.toReversed().map((kept) => {
      const rank = newer.get(kept.source) ?? 0;
      newer.set(kept.source, rank + 1);
      return rank;
    });
    ranks.reverse();
    fixes.forEach((kept, at) => {
      const isSelected = kept === this.store.selected;
      const [x, y] = this.toPixel(kept.place.centre);
      const color = this.color(kept.source);
      context.globalAlpha = isSelected || ranks[at] === 0 ? 1 : Math.max(0.15, 0.6 - ranks[at] * 0.04);
      context.fillStyle = context.strokeStyle = color;
      if (ranks[at] <= TRAIL || isSelected) this.outline(context, kept, ranks[at] === 0 || isSelected);
      context.beginPath();
      context.arc(x, y, ranks[at] === 0 || isSelected ? 4 : 2, 0, 2 * Math.PI);
      context.fill();
    });
    context.globalAlpha = 1;
    fixes.forEach((kept, at) => {
      if (ranks[at] !== 0) return;
      const [x, y] = this.toPixel(kept.place.centre);
      this.label(context, `${shortened(kept.source)} · ${age(this.store.age(kept.taken))}`, x + 8, y - 8);
    });
    this.drawn = fixes;
  },

  outline(context, kept, isNewest) {
    context.lineWidth = isNewest ? 2 : 1;
    for (const ring of kept.place.outlines) {
      context.beginPath();
      for (let at = 0; at < ring.length; at += 2) context.lineTo(...this.toPixel([ring[at], ring[at + 1]]));
      context.closePath();
      if (isNewest) {
        context.globalAlpha = 0.18;
        context.fill();
        context.globalAlpha = 1;
      }
      context.stroke();
    }
  },

  label(context, text, x, y) {
    context.font = "12px system-ui, sans-serif";
    context.lineWidth = 3;
    context.strokeStyle = this.halo;
    context.strokeText(text, x, y);
    context.fillStyle = this.ink;
    context.fillText(text, x, y);
  },

  select({ containerPoint }) {
    let best = null;
    let nearest = NEAR;
    for (const kept of this.drawn ?? []) {
      const [x, y] = this.toPixel(kept.place.centre);
      const distance = Math.hypot(x - containerPoint.x, y - containerPoint.y);
      // Of equals the newest.
      if (distance <= nearest) [best, nearest] = [kept, distance];
    }
    if (best) this.onSelect(best);
  },
});
