// The outcomes shown, as files that other programs read.

import { circleRadius } from "./circle.js";
import { text, time } from "./format.js";

/** The columns of `sferic watch --csv`: a key, or a path of keys. */
const COLUMNS = [
  "timestamp",
  "source",
  "seq",
  "frame_id",
  "session_id",
  "datetime",
  "frequency",
  "kind",
  "code",
  "position.latitude",
  "position.longitude",
  "uncertainty.sigma_x",
  "uncertainty.sigma_y",
  "uncertainty.theta",
  "uncertainty.confidence_interval",
  "ellipse.semi_major",
  "ellipse.semi_minor",
  "ellipse.rotation",
  "confidence",
  "label",
  "score",
  "model",
  "model_version",
  "inference_time_ms",
  "message",
];

/** Keys that the events add to an outcome. */
const ADDED = ["geojson", "geolocation", "trace_id"];

function cell(outcome, column) {
  const best = outcome.labels?.[0];
  const value = ["label", "score"].includes(column)
    ? best?.[column]
    : column.split(".").reduce((value, key) => value?.[key], outcome);
  if (value == null) return "";
  const plain = text(value);
  // What a spreadsheet would take for a formula; senders choose sources, ids and labels.
  const isFormula = /^[=+\-@\t\r]/.test(plain) && !Number.isFinite(Number(plain));
  const shown = isFormula ? `'${plain}` : plain;
  return /[",\n\r]/.test(shown) ? `"${shown.replaceAll('"', '""')}"` : shown;
}

function csv(outcomes) {
  const lines = outcomes.map((outcome) => COLUMNS.map((column) => cell(outcome, column)).join(","));
  return [COLUMNS.map((column) => column.replaceAll(".", "_")).join(","), ...lines, ""].join("\n");
}

const without = (outcome, keys) =>
  Object.fromEntries(Object.entries(outcome).filter(([key]) => !keys.includes(key)));

function geojson(outcomes) {
  const features = outcomes.flatMap((outcome) => {
    if (!outcome.geojson) return [];
    return [{ ...outcome.geojson, properties: without(outcome, ["position", ...ADDED]) }];
  });
  return JSON.stringify({ type: "FeatureCollection", features }, null, 1);
}

const escaped = (text) =>
  String(text ?? "")
    // Characters that XML does not have.
    .replace(/[\u0000-\u001f\u007f-\u009f\ufffe\uffff]/g, "")
    .replaceAll("&", "&amp;")
    .replaceAll("<", "&lt;")
    .replaceAll(">", "&gt;")
    .replaceAll('"', "&quot;");

function event(outcome) {
  const { latitude, longitude } = outcome.position;
  const { sigma_x, sigma_y } = outcome.uncertainty ?? {};
  const circle = circleRadius(sigma_x, sigma_y)?.toFixed(1) ?? "9999999.0";
  const shown = (milliseconds) => new Date(milliseconds).toISOString();
  const made = time(outcome.timestamp);
  const taken = time(outcome.datetime ?? outcome.timestamp);
  const stale = made + 5 * 60_000;
  const track = outcome.session_id || outcome.source;
  const frequency = outcome.frequency == null ? "" : `, ${outcome.frequency / 1e6} MHz`;
  const confidence = outcome.confidence == null ? "" : `, confidence ${outcome.confidence.toFixed(2)}`;
  const remarks = `${outcome.model}@${outcome.model_version}${frequency}${confidence}`;
  return (
    `<event version="2.0" uid="${escaped(`sferic.${track}`)}" type="a-u-G" how="m-r" time="${shown(made)}" ` +
    `start="${shown(taken)}" stale="${shown(stale)}"><point lat="${latitude.toFixed(7)}" ` +
    `lon="${longitude.toFixed(7)}" ` +
    `hae="9999999.0" ce="${circle}" le="9999999.0"/><detail><contact callsign="${escaped(track)}"/>` +
    `<remarks>${escaped(remarks)}</remarks></detail></event>`
  );
}

function cot(outcomes) {
  const fixes = outcomes.filter((outcome) => outcome.geojson);
  return `<?xml version="1.0" encoding="UTF-8"?>\n<events>\n${fixes.map(event).join("\n")}\n</events>\n`;
}

/** Annotations without samples: their places are microseconds from the time of the one capture. */
function sigmf(outcomes) {
  const at = (outcome) => time(outcome.datetime ?? outcome.timestamp);
  const sorted = outcomes.toSorted((a, b) => at(a) - at(b));
  const first = sorted.length ? at(sorted[0]) : Date.now();
  const annotations = sorted.map((outcome) => ({
    "core:sample_start": Math.round((at(outcome) - first) * 1000),
    "core:label": outcome.labels?.[0]?.label ?? outcome.code ?? outcome.kind,
    "core:comment": `${outcome.source} ${outcome.frame_id}`,
    "sferic:outcome": without(outcome, ADDED),
  }));
  return JSON.stringify(
    {
      global: {
        "core:version": "1.2.0",
        "core:datatype": "cf32_le",
        "core:sample_rate": 1e6,
        "core:metadata_only": true,
        "core:description": "outcomes of sferic; sample_start counts microseconds from the capture's time",
        "core:extensions": [{ name: "sferic", version: "1.0.0", optional: true }],
      },
      captures: [{ "core:sample_start": 0, "core:datetime": new Date(first).toISOString() }],
      annotations,
    },
    null,
    1,
  );
}

/** By format: the file's ending, its type, and what writes it. */
export const FORMATS = {
  geojson: ["geojson", "application/geo+json", geojson],
  csv: ["csv", "text/csv", csv],
  sigmf: ["sigmf-meta", "application/json", sigmf],
  cot: ["xml", "application/xml", cot],
};
