// New question: a question that nobody was asked, for two groups and, if wanted, for every country.
import { h, announce, labelled, newId, notice } from "../lib/dom.js";
import { answers, loadWorld } from "../lib/data.js";
import { ANSWER_COLUMNS, answerRows, exportBar } from "../lib/export.js";
import { errorText, percent, usualOptions } from "../lib/figures.js";
import { pair } from "./panel.js";
import { COUNTRY_COLUMNS, countryFigures, countryGroups, countryTable, mapEntry, modeOf } from "../lib/countries.js";
import { legend } from "../lib/colours.js";
import { optionChips, optionWords } from "../lib/questions.js";
import { shapes, worldMap } from "../lib/worldmap.js";

export const title = "New question";
const FEWEST = 2;
const MOST = 26;
const EXAMPLE = { text: "Should people be allowed to work from home?", options: ["Never", "Sometimes", "Whenever they want"] };

export function render(root, context) {
  const { data, state, set } = context;
  const start = state.text || state.options.length ? { text: state.text, options: [...state.options] } : { text: EXAMPLE.text, options: [...EXAMPLE.options] };
  while (start.options.length < FEWEST) start.options.push("");
  const known = errorText(data.run.errors?.unseen_question);
  const text = h("textarea", { rows: "3", maxlength: "2000", value: start.text, oninput: keep });
  const list = h("ol", { class: "options" });
  const ordered = h("input", { type: "checkbox", checked: state.ordered, onchange: keep });
  const add = h("button", { type: "button", class: "quiet", onclick: () => { list.append(row("")); keep(); list.lastChild.querySelector("input").focus(); } }, "Add an answer");
  const wrong = h("div", { role: "alert" });
  const outcome = h("section", { class: "card", "aria-label": "Predicted answers", hidden: true });
  const mapCard = h("section", { class: "card", "aria-label": "Map of the new question", hidden: true });
  const groups = pair(data, state, (letter, where) => { set({ [letter]: where }); if (!outcome.hidden) predict(); });

  root.append(
    h("section", { class: "card title" }, h("h1", { tabindex: "-1" }, "Ask what nobody was asked"),
      notice("amber", h("strong", {}, "A guess about a question without any answers. "),
        known ? `On questions it never saw, this model was ${known}.` : "This run has no measured error on new questions: treat the figures as a guess.",
        " Beside it stands the case that all options are equal.")),
    h("div", { class: "grid ask" },
      h("section", { class: "card", "aria-label": "Your question" },
        h("form", { onsubmit: (event) => { event.preventDefault(); predict(); } },
          labelled("Question", text), h("fieldset", { class: "plain" }, h("legend", {}, `Answers (${FEWEST} to ${MOST})`), list, add),
          h("label", { class: "check" }, ordered, "the answers are a scale, in this order"), wrong,
          h("div", { class: "row" }, h("button", { type: "submit", class: "main" }, "Predict"),
            Object.keys(data.countries).length ? h("button", { type: "button", class: "quiet", onclick: drawMap }, "Draw the map") : null)),
        data.run.static ? notice("note", "This copy of the page is plain files. A new question needs the server: python -m cuma_jax.serve.") : null),
      h("section", { class: "card", "aria-label": "Two groups" }, groups.box)),
    outcome, mapCard);
  start.options.forEach((option) => list.append(row(option)));
  groups.say("Not asked yet: press Predict.");

  function row(value) {
    const input = h("input", { type: "text", maxlength: "300", value, oninput: keep, "aria-label": "Answer" });
    const item = h("li", {}, input, h("button", { type: "button", class: "quiet", "aria-label": "Remove this answer", onclick: () => {
      if (list.children.length <= FEWEST) return announce(`At least ${FEWEST} answers are needed.`);
      const next = item.nextElementSibling || item.previousElementSibling;
      item.remove();
      next.querySelector("input").focus();
      return keep();
    } }, "×"));
    return item;
  }

  function asked() {
    return { id: "", text: text.value.trim(), options: [...list.querySelectorAll("input")].map((input) => input.value.trim()), ordered: ordered.checked };
  }

  function keep() {
    const { text: words, options } = asked();
    add.disabled = options.length >= MOST;
    set({ text: words, options, ordered: ordered.checked });
  }

  /** What is wrong with the question, before the server is asked; "" if nothing. */
  function fault({ text: words, options }) {
    if (!words) return "The question is empty.";
    if (options.some((option) => !option)) return "An answer is empty: fill or remove it.";
    const twice = options.find((option, i) => options.indexOf(option) !== i);
    return twice ? `Two answers are equal: “${twice}”.` : "";
  }

  async function predict() {
    const question = asked();
    const mistake = fault(question);
    wrong.replaceChildren(mistake ? notice("wrong", mistake) : "");
    if (mistake) return;
    keep();
    const mine = context.turn("ask");
    groups.wait();
    try {
      const got = await answers(data, [state.a, state.b], question);
      if (!mine()) return;
      groups.show(got, question, { toggles: {}, uniform: true });
      const even = percent(1 / question.options.length);
      outcome.hidden = false;
      outcome.replaceChildren(groups.said, groups.legend, h("p", { class: "dim" }, `If all options were equal, each would have ${even}.`),
        exportBar(data, { name: "new-question", title: question.text, columns: ANSWER_COLUMNS, rows: answerRows(got), charts: groups.charts, questionStatus: "unknown",
          caption: `A: ${got[0].group} (blue). B: ${got[1].group} (orange). A question nobody was asked. Dotted: all options equal (${even}).` }));
      announce(groups.said.textContent);
    } catch (error) {
      if (mine()) groups.fail(error);
    }
  }

  async function drawMap() {
    const question = asked();
    const mistake = fault(question);
    wrong.replaceChildren(mistake ? notice("wrong", mistake) : "");
    if (mistake) return;
    const mine = context.turn("ask-map");
    const bar = h("progress", { max: "1", value: 0, "aria-label": "Countries asked" });
    mapCard.hidden = false;
    mapCard.replaceChildren(h("p", {}, "Asking the model about every country…"), bar);
    const places = countryGroups(data);
    try {
      const [got, world] = await Promise.all([answers(data, places.map(({ where }) => where), question, (done, all) => { bar.value = done / all; }), loadWorld()]);
      if (mine()) showMap(question, new Map(got.map((answer, i) => [places[i].name, answer])), world);
    } catch (error) {
      if (mine()) mapCard.replaceChildren(notice("wrong", error.message));
    }
  }

  function showMap(question, got, world) {
    let chosen = usualOptions(question, [...got.values()].map((answer) => answer.shares));
    const box = h("div", { class: "map-box" });
    const below = h("div");
    const draw = () => {
      const figures = countryFigures(got, question, chosen);
      const rows = [...figures.values()];
      const how = modeOf("predicted", rows);
      const { chart, frame } = worldMap({ places: shapes(data, world), width: Math.max(300, box.clientWidth), colours: how.colours, chosen: {}, onpick: null, title: `Map of a new question: ${question.text}`,
        entryOf: ({ name }) => { const entry = mapEntry(figures.get(name), "predicted", { minCell: data.run.min_cell, showUnasked: true }); return entry && { ...entry, lines: [entry.lines[0], "a question nobody was asked"] }; } });
      const key = legend(how.colours, how.legend, how.format, how.middleName);
      box.replaceChildren(key, frame);
      below.replaceChildren(exportBar(data, { name: "new-question-map", title: `${question.text} (${optionWords(question, chosen)})`, columns: COUNTRY_COLUMNS, rows, charts: () => [{ chart: key }, { chart, newRow: true }], questionStatus: "unknown",
        caption: "A question nobody was asked. Grey: not in the data. Dashed outline: kept out of training. Borders as in world-atlas." }),
      h("details", { id: newId("list") }, h("summary", {}, "The same as a list"), countryTable(rows, question, optionWords(question, chosen), null)));
    };
    mapCard.replaceChildren(h("h2", {}, `“${question.text}”, by country`), optionChips(question, chosen, (next) => { chosen = next; draw(); }), box, below);
    draw();
    context.onresize(() => { predict(); draw(); });
    announce("The map is drawn.");
  }

  context.onresize(() => { if (!outcome.hidden) predict(); });
  if (state.text && !data.run.static) predict();
}
