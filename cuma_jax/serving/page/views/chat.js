// Chat: two simulated profiles and the base, side by side, with the same seed.
import { h, announce, labelled, notice } from "../lib/dom.js";
import { chat, whereLabel } from "../lib/data.js";
import { groupPicker, profileOf } from "../lib/groups.js";
import { exportBar } from "../lib/export.js";

export const title = "Chat";

const COLUMNS = [{ key: "who", label: "Who" }, { key: "role", label: "Role" }, { key: "text", label: "Text" }];

export function render(root, context) {
  const { data, state, set } = context;
  root.append(h("section", { class: "card title" }, h("h1", { tabindex: "-1" }, "Talk to two simulated profiles and the base"),
    notice("amber", h("strong", {}, "Simulated. "), "No person wrote this. A model writes what it takes to be likely; it can be wrong, and it can repeat stereotypes.")));
  if (data.run.static) {
    root.append(h("section", { class: "card" }, notice("note", "Chat needs the server: python -m cuma_jax.serve. This copy of the page is plain files.")));
    return;
  }
  const talks = { a: column("a"), b: column("b"), base: column("base") };
  const say = h("textarea", { rows: "2", maxlength: "4000", placeholder: "What matters in life?", onkeydown: (event) => {
    if (event.key === "Enter" && !event.shiftKey) { event.preventDefault(); send(); }
  } });
  const seed = h("input", { type: "number", value: "0", min: "0", step: "1" });
  const heat = h("input", { type: "number", value: "0.7", min: "0", max: "2", step: "0.1" });
  const button = h("button", { type: "submit", class: "main" }, "Send to all");
  const stop = h("button", { type: "button", class: "quiet", disabled: true, onclick: () => stopper?.abort() }, "Stop");
  const fresh = h("button", { type: "button", class: "quiet", onclick: () => { stopper?.abort(); for (const talk of Object.values(talks)) talk.clear(); take(); } }, "Start again");
  const exports = h("div");
  let stopper = null;
  root.append(h("div", { class: "talks" }, Object.values(talks).map((talk) => talk.box)),
    h("section", { class: "card", "aria-label": "Your message" }, h("form", { class: "say", onsubmit: (event) => { event.preventDefault(); send(); } },
      labelled("Message", say), h("div", { class: "row" }, labelled("Seed", seed), labelled("Temperature", heat), button, stop, fresh)), exports));
  take();

  function column(who) {
    const messages = [];
    const log = h("div", { class: "log", role: "log", "aria-live": "off", tabindex: "0", "aria-label": `Conversation with ${who === "base" ? "the base" : `group ${who.toUpperCase()}`}` });
    const note = h("p", { class: "dim" });
    const head = who === "base"
      ? [h("div", { class: "panel-head" }, h("span", { class: "letter", "aria-hidden": "true" }, "·"), h("h2", {}, "The base alone")), h("p", { class: "dim" }, `${data.run.base}, without the run’s adapters and without a profile.`)]
      : [h("div", { class: "panel-head" }, h("span", { class: "letter", "aria-hidden": "true" }, who.toUpperCase()), h("h2", {}, whereLabel(state[who]))),
        groupPicker(data, who, state[who], (where) => { set({ [who]: where }); box.querySelector("h2").textContent = whereLabel(where); check(); }), note];
    const box = h("section", { class: `card panel ${who}`, "aria-label": who === "base" ? "Base" : `Group ${who.toUpperCase()}` }, head, h("span", { class: "badge warn" }, "simulated"), log);
    function check() {
      const { several } = profileOf(state[who]);
      note.textContent = several.length ? `A chat is with one profile: the first value of ${several.join(", ")} is used.` : "";
    }
    if (who !== "base") check();
    const bubble = (role, text) => {
      const line = h("div", { class: `bubble ${role}` }, text);
      log.append(line);
      log.scrollTop = log.scrollHeight;
      return line;
    };
    return { who, box, messages, log, bubble, clear() { messages.length = 0; log.replaceChildren(); } };
  }

  async function send() {
    const text = say.value.trim();
    if (!text || !stop.disabled) return;
    say.value = "";
    stopper = new AbortController();
    button.disabled = true;
    stop.disabled = false;
    await Promise.all(Object.values(talks).map((talk) => reply(talk, text, stopper.signal)));
    button.disabled = false;
    stop.disabled = true;
    announce("The replies are written.");
    take();
  }

  async function reply(talk, text, signal) {
    talk.bubble("user", text);
    const asked = { role: "user", content: text };
    talk.messages.push(asked);
    const line = talk.bubble("assistant", "…");
    const body = { model: talk.who === "base" ? "base" : "run", messages: talk.messages, seed: Number(seed.value) || 0, temperature: Number(heat.value) };
    if (talk.who !== "base") body.profile = profileOf(state[talk.who]).profile;
    let written = "";
    try {
      for await (const piece of chat(data, body, signal)) {
        written += piece;
        line.textContent = written;
        talk.log.scrollTop = talk.log.scrollHeight;
      }
      if (!written) line.textContent = "(an empty reply)";
    } catch (error) {
      if (error.name === "AbortError") line.append(" (stopped)");
      else line.replaceChildren(notice("wrong", error.message));
    }
    if (talk.messages.at(-1) !== asked) return; // the talk was started again meanwhile
    // The server refuses an empty turn: a message without a reply would end the talk for good.
    if (written) talk.messages.push({ role: "assistant", content: written });
    else talk.messages.pop();
  }

  function take() {
    const rows = Object.values(talks).flatMap((talk) => talk.messages.map(({ role, content }) =>
      ({ who: talk.who === "base" ? "base" : whereLabel(state[talk.who]), role: role === "user" ? "you" : "simulated", text: content })));
    exports.replaceChildren(exportBar(data, { name: "chat", title: "Simulated chat", columns: COLUMNS, rows }));
  }
}
