// What the page knows: the newest outcomes, the sources, and the state of the daemon. All of it is bounded.

import { answer } from "./format.js";

const KEPT_OUTCOMES = 1000;
const KEPT_SOURCES = 256;
const KEPT_SECONDS = 180;

/** The place on the map of the world, 256 wide, in Web Mercator's units. */
export function project([longitude, latitude]) {
  const sine = Math.sin((Math.max(-85.06, Math.min(85.06, latitude)) * Math.PI) / 180);
  return [(longitude / 360 + 0.5) * 256, (0.5 - Math.log((1 + sine) / (1 - sine)) / (4 * Math.PI)) * 256];
}

/** The rings of a Feature's ellipse, projected: pairs one after the other. */
function outlines(feature) {
  const shape = feature.geometry.geometries[1];
  if (!shape) return [];
  const polygons = shape.type === "Polygon" ? [shape.coordinates] : shape.coordinates;
  return polygons.map(([ring]) => Float64Array.from(ring.flatMap(project)));
}

/** An outcome as the page keeps it: its text, and what is drawn and searched of it. */
function entry(text) {
  const outcome = JSON.parse(text);
  const model = outcome.model ? `${outcome.model}@${outcome.model_version}` : "";
  const kept = {
    text,
    id: outcome.frame_id,
    source: outcome.source,
    session: outcome.session_id,
    model,
    code: outcome.code ?? "",
    timestamp: outcome.timestamp,
    time: Date.parse(outcome.timestamp),
    took: outcome.inference_time_ms,
    answer: answer(outcome),
    label: outcome.labels?.[0]?.label,
    used: outcome.session?.used,
    receiver: outcome.geolocation?.coordinates,
    place: null,
  };
  kept.search = `${kept.source} ${model} ${kept.id} ${kept.session ?? ""} ${kept.answer}`.toLowerCase();
  if (outcome.geojson) {
    const at = outcome.geojson.geometry.geometries[0].coordinates;
    const share = outcome.uncertainty?.confidence_interval;
    kept.place = { at, centre: project(at), outlines: outlines(outcome.geojson), share };
  }
  return kept;
}

export class Store {
  constructor() {
    this.outcomes = [];
    this.sources = new Map();
    this.models = null;
    this.health = null;
    /** Seconds of the past: what each health event counted. */
    this.seconds = [];
    this.dropped = 0;
    this.filter = { source: "", model: "", code: "", text: "" };
    this.selected = null;
    /** How far the daemon's clock is behind this one, less the shortest delay seen, milliseconds. */
    this.clockOffset = Infinity;
    this.version = 0;
    this.listeners = [];
  }

  /** Calls `listener` after changes, at most every `interval` milliseconds. */
  subscribe(interval, listener) {
    this.listeners.push({ interval, listener, seen: -1, timer: 0 });
  }

  changed() {
    this.version += 1;
    for (const each of this.listeners) {
      if (each.timer) continue;
      each.timer = setTimeout(() => {
        each.timer = 0;
        if (each.seen !== this.version) {
          each.seen = this.version;
          each.listener();
        }
      }, each.interval);
    }
  }

  take(kind, data) {
    if (kind === "outcome") this.#outcome(entry(data));
    else if (kind === "health") this.#health(JSON.parse(data));
    else if (kind === "models") this.models = JSON.parse(data).models;
    else if (kind === "dropped") this.dropped += JSON.parse(data).count;
    this.changed();
  }

  #outcome(kept) {
    this.outcomes.push(kept);
    if (this.outcomes.length > 1.2 * KEPT_OUTCOMES)
      this.outcomes.splice(0, this.outcomes.length - KEPT_OUTCOMES);
    this.clockOffset = Math.min(this.clockOffset, Date.now() - kept.time);
    const source = this.sources.get(kept.source) ?? { color: this.sources.size, receiver: null, label: null };
    if (kept.receiver) source.receiver = kept.receiver;
    if (kept.label) source.label = kept.label;
    if (this.sources.size < KEPT_SOURCES || this.sources.has(kept.source))
      this.sources.set(kept.source, source);
  }

  #health(health) {
    this.health = health;
    this.seconds.push({ at: performance.now() / 1000, ...health.ledger });
    if (this.seconds.length > KEPT_SECONDS) this.seconds.shift();
  }

  /** The age of an outcome in seconds, by the daemon's clock. */
  age(kept) {
    return (Date.now() - this.clockOffset - kept.time) / 1000;
  }

  matches(kept) {
    const { source, model, code, text } = this.filter;
    if (source && kept.source !== source) return false;
    if (model && kept.model !== model) return false;
    if (code === "predictions" && kept.code) return false;
    if (code === "failures" && !kept.code) return false;
    if (code && !["predictions", "failures"].includes(code) && kept.code !== code) return false;
    return !text || kept.search.includes(text);
  }

  /** The outcomes that pass the filter, newest first, at most so many. */
  newest(limit = Infinity) {
    const found = [];
    for (let at = this.outcomes.length - 1; at >= 0 && found.length < limit; at -= 1) {
      if (this.matches(this.outcomes[at])) found.push(this.outcomes[at]);
    }
    return found;
  }

  /** Frames per second of the last seconds, of a count of the ledger. */
  rate(count, over = 5) {
    const last = this.seconds.at(-1);
    const first = this.seconds.at(-1 - Math.min(over, this.seconds.length - 1));
    if (!last || first === last) return null;
    return (last[count] - first[count]) / (last.at - first.at);
  }
}
