// The operator's page: wires its parts to the daemon's events.

import { byId, download, h, showDialog } from "./dom.js";
import { showDetails } from "./details.js";
import { FORMATS } from "./export.js";
import { read } from "./format.js";
import { HealthPanel } from "./health.js";
import { isDark, MapPanel } from "./map.js";
import { ModelsPanel } from "./models.js";
import { OutcomeTable } from "./outcomes.js";
import { Store } from "./store.js";
import { EventStream } from "./stream.js";
import { Waterfall } from "./waterfall.js";

const SHORTCUTS = [
  ["/", "Search the outcomes"],
  ["j, k", "Next, previous outcome"],
  ["Enter", "Show the outcome"],
  ["Escape", "Close the details"],
  ["p", "Pause the table, go on"],
  ["f", "Show all fixes on the map"],
  ["t", "Switch between dark and light"],
  ["?", "This list"],
];

const store = new Store();
const health = new HealthPanel(store);
const map = new MapPanel(store, select);
const table = new OutcomeTable(store, select);
new ModelsPanel(store);

const needsToken = document.documentElement.dataset.token === "needed";
byId("sign-in").hidden = !needsToken;

const events = new EventStream(
  "",
  (kind, data) => (kind === "waterfall" ? waterfall.take(data) : store.take(kind, data)),
  (state, why) => {
    health.connection(state, why);
    if (state === "connected") map.showBasemap();
    if (state === "unauthorized" && !byId("dialog").open) signIn();
  },
);

// One connection for everything: a browser has few to a server.
const waterfall = new Waterfall(store, (source) =>
  events.restart(source ? new URLSearchParams({ waterfall: source }).toString() : ""),
);

function select(kept) {
  store.selected = kept;
  document.querySelector("main").classList.toggle("looking", kept !== null);
  showDetails(kept, () => select(null));
  store.changed();
  if (kept) byId("details").scrollIntoView({ block: "nearest" });
}

function signIn() {
  const input = h("input", {
    name: "token",
    type: "password",
    autocomplete: "current-password",
    required: true,
  });
  const said = h("p", { role: "status" });
  const form = h(
    "form",
    {},
    h("p", {}, "The value of http.token in the daemon's configuration. It is kept until this tab is closed."),
    // Password managers ask for one.
    h("input", { type: "text", autocomplete: "username", value: "sferic", hidden: true }),
    h("label", {}, "Token ", input),
    h("button", { type: "submit" }, "Sign in"),
    said,
  );
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    // Others cannot be in a header, and no token has them.
    if (!/^[\x21-\x7e]+$/.test(input.value)) {
      said.textContent = "A token has printable ASCII characters without spaces.";
      return;
    }
    sessionStorage.setItem("token", input.value);
    byId("dialog").close();
    events.restart();
    store.changed();
  });
  showDialog("Token", form);
}

function switchTheme() {
  const theme = isDark() ? "light" : "dark";
  document.documentElement.dataset.theme = theme;
  localStorage.setItem("theme", theme);
  map.restyle();
}

function help() {
  const rows = SHORTCUTS.map(([keys, what]) =>
    h("tr", {}, h("th", { scope: "row" }, keys), h("td", {}, what)),
  );
  showDialog("Keyboard", h("table", { class: "shortcuts" }, h("tbody", {}, rows)));
}

byId("sign-in").addEventListener("click", signIn);
byId("theme").addEventListener("click", switchTheme);
byId("help").addEventListener("click", help);
byId("export").addEventListener("change", ({ target }) => {
  const [ending, type, write] = FORMATS[target.value] ?? [];
  target.value = "";
  if (!write) return;
  const outcomes = store
    .newest()
    .reverse()
    .map((kept) => read(kept.text));
  download(`sferic-outcomes.${ending}`, type, write(outcomes));
});

document.addEventListener("keydown", (event) => {
  const isTyping = event.target.closest("input, select, textarea, dialog");
  if (isTyping || event.ctrlKey || event.metaKey || event.altKey) return;
  const actions = {
    "/": () => byId("filters").elements.text.focus(),
    j: () => table.step(1),
    k: () => table.step(-1),
    p: () => table.pause(!table.isPaused),
    f: () => map.fit(),
    t: switchTheme,
    "?": help,
    Escape: () => select(null),
  };
  const action = actions[event.key];
  if (!action) return;
  event.preventDefault();
  action();
});

const theme = localStorage.getItem("theme");
if (theme) document.documentElement.dataset.theme = theme;
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => map.restyle());
map.restyle();
events.start();
