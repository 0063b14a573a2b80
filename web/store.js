// What the page knows: the newest outcomes, the sources, and the state of the daemon. All of it is bounded.

import { answer, read, time } from "./format.js";

const KEPT_OUTCOMES = 1000;
const KEPT_FIXES = 3000;
const KEPT_LABELS = 1000;
const KEPT_SOURCES = 256;
const KEPT_SECONDS = 180;

/** Health events of which the fastest says how the daemon's clock goes. */
const CLOCKS = 30;

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
  const outcome = read(text);
  const model = outcome.model ? `${outcome.model}@${outcome.model_version}` : "";
  const kept = {
    text,
    id: outcome.frame_id,
    source: outcome.source,
    session: outcome.session_id,
    model,
    code: outcome.code ?? "",
    timestamp: outcome.timestamp,
    answered: time(outcome.timestamp),
    // When the signal was there: that of a replay or a backlog is older than its answer.
    taken: time(outcome.datetime ?? outcome.timestamp),
    took: outcome.inference_time_ms,
    answer: answer(outcome),
    label: outcome.labels?.[0]?.label,
    used: outcome.session?.used,
    leftOut: outcome.session?.left_out?.map(({ source }) => source),
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

/** What a frame is known by: ids are the senders' own. */
const labelKey = (source, id) => `${source}\n${id}`;

export class Store {
  constructor() {
    this.outcomes = [];
    /** The outcomes with a place, of which more are kept. */
    this.fixes = [];
    /** The labels of frames, by their sources and ids. */
    this.labels = new Map();
    this.colors = 0;
    this.sources = new Map();
    this.models = null;
    this.health = null;
    /** Seconds of the past: what each health event counted. */
    this.seconds = [];
    this.dropped = 0;
    this.filter = { source: "", model: "", code: "", text: "" };
    this.selected = null;
    /** The daemon's time less this page's own, as the last health events had it, milliseconds. */
    this.clocks = [];
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
    const keep = (all, most) => {
      all.push(kept);
      if (all.length > 1.2 * most) all.splice(0, all.length - most);
    };
    keep(this.outcomes, KEPT_OUTCOMES);
    if (kept.place) keep(this.fixes, KEPT_FIXES);
    if (kept.label) this.labels.set(labelKey(kept.source, kept.id), kept.label);
    if (this.labels.size > KEPT_LABELS) this.labels.delete(this.labels.keys().next().value);
    const source = this.sources.get(kept.source) ?? { color: this.colors++, receiver: null };
    if (kept.receiver) source.receiver = kept.receiver;
    source.seen = performance.now();
    // The one that was quiet for longest makes room.
    this.sources.delete(kept.source);
    this.sources.set(kept.source, source);
    if (this.sources.size > KEPT_SOURCES) this.sources.delete(this.sources.keys().next().value);
  }

  #health(health) {
    this.health = health;
    if (!health.ledger) return;
    // Another daemon: nothing of the one before says how its clock goes, or how fast counts grow.
    if (health.ledger.received < this.seconds.at(-1)?.received) [this.clocks, this.seconds] = [[], []];
    this.clocks.push(time(health.time) - performance.now());
    if (this.clocks.length > CLOCKS) this.clocks.shift();
    this.seconds.push({ at: performance.now() / 1000, ...health.ledger });
    if (this.seconds.length > KEPT_SECONDS) this.seconds.shift();
  }

  /** How long ago that was, in seconds by the daemon's clock; the browser's may go wrong. */
  age(moment) {
    const offset = this.clocks.length ? Math.max(...this.clocks) : Date.now() - performance.now();
    return Math.max(0, (performance.now() + offset - moment) / 1000);
  }

  /** The label of a frame, once it is there. */
  labelOf(source, id) {
    return this.labels.get(labelKey(source, id));
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
