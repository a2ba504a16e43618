// Elements without markup: every text of the data goes in as a text node, so it cannot become HTML.

/** An element. `props`: `class`, `on…` listeners, `dataset`, properties (value, checked, disabled…), else attributes. */
export function h(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === undefined || value === null || value === false) continue;
    if (name === "class") element.className = value;
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "dataset") Object.assign(element.dataset, value);
    else if (["value", "checked", "disabled", "open", "selected", "hidden", "htmlFor"].includes(name)) element[name] = value;
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** An SVG element, attributes only. */
export function s(tag, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, String(value));
  element.append(...children);
  return element;
}

let lastId = 0;
/** An id that nothing else on the page has. */
export const newId = (stem) => `${stem}-${(lastId += 1)}`;

/** Says a sentence to people who listen to the page. */
export function announce(text) {
  const live = document.getElementById("live");
  live.textContent = "";
  setTimeout(() => { live.textContent = text; }, 60);
}

/** A label with its control below it. */
export function labelled(text, control) {
  control.id ||= newId("field");
  return h("div", { class: "field" }, h("label", { for: control.id }, text), control);
}

/** A notice of one kind: "note", "amber" or "wrong". */
export const notice = (kind, ...content) => h("p", { class: `notice ${kind}`, role: kind === "wrong" ? "alert" : null }, ...content);

const STATUS = {
  "in training": ["good", "✓", "Answers of this group were in training"],
  "held out": ["warn", "◇", "Kept out of training: the model never saw these answers"],
  unknown: ["dim", "?", "Not in the data: nothing is known of its error here"],
};

/** "in training", "held out" or "unknown", as a word, a sign and a colour. */
export function badge(status) {
  const [kind, sign, title] = STATUS[status] || STATUS.unknown;
  return h("span", { class: `badge ${kind}`, title }, h("span", { "aria-hidden": "true" }, `${sign} `), status || "unknown");
}

/** The value of a colour of base.css, as the theme has it now. */
export const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

/** Is the page dark now? */
export const isDark = () => {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
};
