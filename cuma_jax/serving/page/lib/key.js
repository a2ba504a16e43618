// The server's key, where it asks for one: typed by the reader, kept in memory only, sent as a bearer token.
import { h, labelled } from "./dom.js";

let key = "";

/** Headers of a request: the key, if there is one. */
export const keyHeaders = () => (key ? { Authorization: `Bearer ${key}` } : {});

/** Shows the field for the key (once), above the view; `onkey` runs when it was given. */
export function askForKey(onkey) {
  if (document.getElementById("key")) return;
  const input = h("input", { type: "password", autocomplete: "off", required: true });
  const form = h("form", { id: "key", class: "card key", onsubmit: (event) => {
    event.preventDefault();
    key = input.value.trim();
    form.remove();
    onkey();
  } }, labelled("This server asks for its key", input), h("button", { type: "submit", class: "main" }, "Use it"));
  document.getElementById("main").before(form);
  input.focus();
}
