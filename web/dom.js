// Elements, made and changed.

/** Makes an element with attributes, listeners (under `on…`) and children. */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== false && value != null) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child != null));
  return element;
}

export const byId = (id) => document.getElementById(id);

/** Sets a text where it has changed: what stays the same is not laid out again. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Names that are longer are cut where they are shown. */
const LONGEST_NAME = 60;

const shortened = (text) => (text.length > LONGEST_NAME ? `${text.slice(0, LONGEST_NAME)}…` : text);

/** Fills a choice with values, and keeps what is chosen, also where it is no value any more. */
export function setChoices(select, choices) {
  const chosen = select.value;
  if (chosen && !choices.some(([value]) => value === chosen)) choices = [...choices, [chosen, chosen]];
  const key = JSON.stringify(choices);
  if (select.dataset.choices === key) return;
  select.dataset.choices = key;
  select.replaceChildren(...choices.map(([value, text]) => h("option", { value }, shortened(text))));
  select.value = chosen || (choices[0]?.[0] ?? "");
}

/** Shows a dialog with a heading. */
export function showDialog(title, ...content) {
  const dialog = byId("dialog");
  const close = h("button", { type: "button", class: "close", "aria-label": "Close" }, "×");
  close.addEventListener("click", () => dialog.close());
  dialog.replaceChildren(
    h("div", { class: "title" }, h("h2", { id: "dialog-title" }, title), close),
    ...content,
  );
  if (!dialog.open) dialog.showModal();
  return dialog;
}

/** Offers a file for download. */
export function download(name, type, content) {
  const url = URL.createObjectURL(new Blob([content], { type }));
  const link = h("a", { href: url, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
