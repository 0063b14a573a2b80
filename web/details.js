// All about one outcome.

import { byId, h } from "./dom.js";
import { bearing, hertz, metres, milliseconds, percent, read, text } from "./format.js";

function facts(outcome) {
  const { position, ellipse, uncertainty, session } = outcome;
  return [
    ["Source", outcome.source],
    ["Frame", outcome.frame_id],
    ["Trace id", outcome.trace_id],
    ["Session", outcome.session_id],
    ["Sequence", outcome.seq],
    ["Taken", outcome.datetime],
    ["Answered", outcome.timestamp],
    ["Frequency", outcome.frequency == null ? null : hertz(outcome.frequency)],
    ["Position", position ? `${position.latitude.toFixed(6)}, ${position.longitude.toFixed(6)}` : null],
    [
      uncertainty ? `${percent(uncertainty.confidence_interval)} ellipse` : "Ellipse",
      ellipse
        ? `${metres(ellipse.semi_major)} × ${metres(ellipse.semi_minor)}, its axis at bearing ${bearing(ellipse.rotation)}°`
        : null,
    ],
    ["Confidence", outcome.confidence == null ? null : percent(outcome.confidence)],
    ["Receivers used", session?.used?.join(", ")],
    ["Left out", session?.left_out?.map(({ source, reason }) => `${source} (${reason})`).join(", ")],
    [
      "Receiver at",
      outcome.geolocation?.coordinates
        .slice(0, 2)
        .toReversed()
        .map((each) => each.toFixed(5))
        .join(", "),
    ],
    ["Model", outcome.model ? `${outcome.model}@${outcome.model_version}` : null],
    ["From the cache", outcome._cache_hit ? "yes" : null],
    ["Failure", outcome.code],
    ["Message", outcome.message],
  ].filter(([, value]) => value != null && value !== "");
}

/** The stages as bars, each where it began after the one before. */
function stages(outcome) {
  const all = Object.entries(outcome.stages_ms ?? {});
  if (all.length === 0) return null;
  const total =
    Math.max(
      outcome.inference_time_ms ?? 0,
      all.reduce((sum, [, ms]) => sum + ms, 0),
    ) || 1;
  let from = 0;
  const rows = all.map(([name, ms]) => {
    const bar = h("span", { class: "bar", "aria-hidden": "true" });
    bar.style.marginLeft = `${(100 * from) / total}%`;
    bar.style.width = `max(2px, ${(100 * ms) / total}%)`;
    from += ms;
    return h(
      "tr",
      {},
      h("th", { scope: "row" }, name.replaceAll("_", " ")),
      h("td", { class: "bars" }, bar),
      h("td", { class: "number" }, `${ms.toFixed(2)} ms`),
    );
  });
  return [
    h("h3", {}, `Stages, together ${milliseconds(outcome.inference_time_ms ?? total)}`),
    h("table", { class: "stages" }, h("tbody", {}, rows)),
  ];
}

function labels(outcome) {
  if (!outcome.labels?.length) return null;
  const rows = outcome.labels.map(({ label, score }) => {
    const bar = h("span", { class: "bar", "aria-hidden": "true" });
    bar.style.width = `${100 * Math.max(0, Math.min(1, score ?? 0))}%`;
    return h(
      "tr",
      {},
      h("th", { scope: "row" }, label),
      h("td", { class: "bars" }, bar),
      h("td", { class: "number" }, score?.toFixed(3) ?? ""),
    );
  });
  return [h("h3", {}, "Labels"), h("table", { class: "stages" }, h("tbody", {}, rows))];
}

export function showDetails(kept, onClose) {
  const panel = byId("details");
  panel.hidden = !kept;
  if (!kept) return panel.replaceChildren();
  const outcome = read(kept.text);
  const close = h(
    "button",
    { type: "button", class: "close", "aria-label": "Close the details", onclick: onClose },
    "×",
  );
  const rows = facts(outcome).flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, text(value))]);
  const { geojson, ...rest } = outcome;
  panel.replaceChildren(
    h(
      "div",
      { class: "title" },
      h("h2", { id: "details-title" }, kept.code ? "Failure" : "Prediction"),
      close,
    ),
    h("dl", { class: "facts" }, rows),
    ...(labels(outcome) ?? []),
    ...(stages(outcome) ?? []),
    h("details", {}, h("summary", {}, "As JSON"), h("pre", { tabindex: "0" }, JSON.stringify(rest, null, 2))),
  );
}
