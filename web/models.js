// The models in service, and what an operator may do with them.

import { byId, h, showDialog } from "./dom.js";
import { count, metres, percent } from "./format.js";
import { authorization } from "./stream.js";

/** Asks a control endpoint; the error is what the daemon says. */
async function control(endpoint, request) {
  const headers = { "Content-Type": "application/json", ...authorization() };
  const body = JSON.stringify(request);
  const response = await fetch(`/api/v1/control/${endpoint}`, { method: "POST", headers, body });
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(answer.message ?? `HTTP status ${response.status}`);
  return answer;
}

/** Asks before it does something, and says how it went. */
function confirm(title, text, endpoint, request, fields = []) {
  const said = h("p", { role: "status" });
  const form = h("form", {}, h("p", {}, text), ...fields, h("button", { type: "submit" }, title), said);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    said.textContent = "…";
    try {
      const answer = await control(endpoint, request(new FormData(form)));
      said.textContent = "done";
      form.append(h("pre", { tabindex: "0" }, JSON.stringify(answer, null, 2)));
    } catch (error) {
      said.textContent = error.message;
    }
  });
  showDialog(title, form);
}

function calibration(version) {
  if (!version.truths) return "";
  const { coverage, promised_coverage: promised, error } = version;
  const held = coverage == null ? "" : `${percent(promised)} holds ${percent(coverage)}`;
  // Of classes it is the share of wrong ones.
  const off = error == null ? [] : [coverage == null ? `${percent(error)} wrong` : `off by ${metres(error)}`];
  return [held, ...off, `${count(version.truths)} truths`].filter(Boolean).join(", ");
}

function traffic(model, { version }) {
  const weights = model.split?.weights ?? {};
  const share = weights[version];
  const all = Object.values(weights).reduce((sum, each) => sum + each, 0);
  const parts = [
    model.active === version ? "active" : null,
    share == null ? null : `${percent(share / all)} of the frames`,
    model.shadow?.version === version ? "shadow" : null,
  ];
  return parts.filter(Boolean).join(", ");
}

export class ModelsPanel {
  constructor(store) {
    this.store = store;
    store.subscribe(500, () => this.update());
  }

  update() {
    const { models, health } = this.store;
    const mayControl = Boolean(sessionStorage.getItem("token"));
    const key = JSON.stringify([models, mayControl, health?.circuits?.map(({ state }) => state)]);
    if (!models || this.key === key) return;
    this.key = key;
    const circuit = (name, version) =>
      health?.circuits?.find((each) => each.model === name && each.version === version)?.state ?? "";
    const rows = models.flatMap((model) =>
      model.versions.map((version) =>
        h(
          "tr",
          { class: version.state === "failed" ? "failed" : "" },
          h("th", { scope: "row" }, `${model.name}@${version.version}`),
          h("td", {}, version.state + (version.reason ? `: ${version.reason}` : "")),
          h("td", {}, traffic(model, version)),
          h("td", {}, calibration(version)),
          h("td", {}, circuit(model.name, version.version).replace("_", " ")),
          mayControl ? h("td", { class: "actions" }, this.#actions(model, version)) : null,
        ),
      ),
    );
    const heads = ["Model", "State", "Traffic", "Calibration", "Circuit", ...(mayControl ? ["Actions"] : [])];
    byId("models-body").replaceChildren(
      h(
        "div",
        { class: "table", tabindex: "0", role: "region", "aria-label": "Versions of the models" },
        h(
          "table",
          {},
          h(
            "thead",
            {},
            h(
              "tr",
              {},
              heads.map((name) => h("th", { scope: "col" }, name)),
            ),
          ),
          h("tbody", {}, rows),
        ),
      ),
      h(
        "p",
        { class: "quiet" },
        mayControl ? "" : "Reload, split and circuits are for those who sign in with the token.",
      ),
    );
  }

  #actions(model, { version }) {
    const name = model.name;
    const button = (text, onclick) =>
      h("button", { type: "button", onclick, "aria-label": `${text} ${name}@${version}` }, text);
    const others = model.versions.filter((each) => each.version !== model.active && each.state !== "failed");
    const circuit = h(
      "select",
      { name: "force", "aria-label": "What the circuit is to do" },
      ["open", "close", "reset"].map((value) => h("option", { value }, value)),
    );
    return [
      button("Reload", () =>
        confirm(
          "Reload",
          `Loads ${name} again from its repository; no frame is lost.`,
          "models.reload",
          () => ({ model: name }),
        ),
      ),
      others.length && model.active !== version
        ? button("Split", () =>
            confirm(
              "Split",
              `Gives ${name}@${version} a share of the frames beside ${model.active}; 0 ends the split.`,
              "models.split",
              (form) => {
                const share = Number(form.get("share"));
                const weights = share > 0 ? { [model.active]: 100 - share, [version]: share } : {};
                return { model: name, weights };
              },
              [
                h(
                  "label",
                  {},
                  "Percent ",
                  h("input", {
                    name: "share",
                    type: "number",
                    min: "0",
                    max: "99",
                    value: "10",
                    required: true,
                  }),
                ),
              ],
            ),
          )
        : null,
      button("Circuit", () =>
        confirm(
          "Circuit",
          `Forces the circuit of ${name}@${version}.`,
          "breaker",
          (form) => ({ model: `${name}@${version}`, force: form.get("force") }),
          [circuit],
        ),
      ),
    ];
  }
}
