// Numbers and outcomes as people read them.

export function metres(value) {
  if (!Number.isFinite(value)) return "?";
  if (value >= 1e5) return `${Math.round(value / 1000)} km`;
  if (value >= 1000) return `${(value / 1000).toFixed(1)} km`;
  return value >= 10 ? `${Math.round(value)} m` : `${value.toFixed(1)} m`;
}

export function hertz(value) {
  const size = Math.abs(value);
  if (size < 0.0005) return "0 Hz";
  if (size >= 1e9) return `${(value / 1e9).toFixed(6)} GHz`;
  if (size >= 1e6) return `${(value / 1e6).toFixed(4)} MHz`;
  if (size >= 1e3) return `${(value / 1e3).toFixed(2)} kHz`;
  return size >= 10 ? `${Math.round(value)} Hz` : `${value.toFixed(3)} Hz`;
}

export const milliseconds = (value) =>
  value == null ? "–" : value >= 100 ? `${Math.round(value)} ms` : `${value.toFixed(1)} ms`;

export const percent = (share) => (share == null ? "–" : `${Math.round(1000 * share) / 10} %`);

export function count(value) {
  if (value == null) return "–";
  return value.toLocaleString("en").replaceAll(",", "\u202f");
}

export function bytes(value) {
  if (value == null) return "–";
  return value >= 1 << 30 ? `${(value / (1 << 30)).toFixed(1)} GiB` : `${Math.round(value / (1 << 20))} MiB`;
}

export function age(seconds) {
  if (seconds < 60) return `${Math.max(0, Math.round(seconds))} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  return `${Math.floor(seconds / 3600)} h`;
}

/** The time of day in UTC, of an RFC 3339 time. */
export const timeOfDay = (timestamp) => (timestamp ?? "").slice(11, 23).replace(/Z$/, "");

/** Reads JSON; whole numbers that JavaScript cannot hold stay the text they were. */
export const read = (text) =>
  JSON.parse(text, (_, value, context) => {
    const isTooLarge = typeof value === "number" && Number.isInteger(value) && !Number.isSafeInteger(value);
    return isTooLarge && /^-?\d+$/.test(context?.source) ? JSON.rawJSON(context.source) : value;
  });

/** A value as text. */
export const text = (value) => String(value?.rawJSON ?? value);

/** The bearing of an axis, degrees clockwise from north, of its rotation counter-clockwise from east. */
export const bearing = (rotation) =>
  String(Math.round((((90 - rotation) % 180) + 180) % 180)).padStart(3, "0");

/** The time of an RFC 3339 text, milliseconds since 1970; that of a leap second is a second earlier. */
export const time = (text) => Date.parse((text ?? "").replace(/:60(?=[.Z+-])/, ":59"));

/** What an outcome says, in one line. */
export function answer(outcome) {
  if (outcome.code) return `${outcome.code}: ${outcome.message}`;
  if (outcome.position) {
    const { latitude, longitude } = outcome.position;
    const place = `${latitude.toFixed(5)}, ${longitude.toFixed(5)}`;
    const { ellipse } = outcome;
    return ellipse ? `${place} ± ${metres(ellipse.semi_major)} × ${metres(ellipse.semi_minor)}` : place;
  }
  if (outcome.labels) {
    const label = ({ label, score }) => (score == null ? label : `${label} ${score.toFixed(2)}`);
    const [best, ...others] = outcome.labels;
    return [best, ...others.filter(({ score }) => score >= 0.05)]
      .slice(0, 3)
      .filter(Boolean)
      .map(label)
      .join(", ");
  }
  return `tensors ${Object.keys(outcome.tensors ?? {}).join(", ")}`;
}
