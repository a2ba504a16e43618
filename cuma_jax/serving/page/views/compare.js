// Compare: one question as title, the world in its colours, two groups beside what they really answered.
import { h, announce, notice } from "../lib/dom.js";
import { answers, loadWorld } from "../lib/data.js";
import { ANSWER_COLUMNS, answerRows, exportBar } from "../lib/export.js";
import { BAR_CAPTION } from "../lib/bars.js";
import { pair } from "./panel.js";
import { countryFigures, knownAnswers, mapEntry, modeOf } from "../lib/countries.js";
import { legend } from "../lib/colours.js";
import { optionChips, optionWords, questionPicker } from "../lib/questions.js";
import { shapes, worldMap } from "../lib/worldmap.js";

export const title = "Compare";

/** The view. `context` is of main.js: {data, state, set, question, chosen, redraw}. */
export function render(root, context) {
  const { data, state, set } = context;
  const question = context.question();
  const exports = h("div");
  const groups = pair(data, state, (letter, where) => {
    set({ [letter]: where });
    drawPair();
    drawMap();
  });
  const pick = (letter, name) => {
    set({ [letter]: { [data.run.country_field]: [name] } });
    announce(`${name} is now group ${letter.toUpperCase()}.`);
    context.redraw();
  };
  const toggle = (key, text) => h("label", { class: "check" }, h("input", { type: "checkbox", checked: state[key], onchange: (event) => { set({ [key]: event.target.checked }); drawPair(); } }), text);
  const map = h("div", { class: "map-box" });
  const hasMap = Object.keys(data.countries).length > 0;
  const sub = h("p", { class: "sub" });
  const say = () => { sub.textContent = hasMap ? `Share answering ${optionWords(question, context.chosen())}, as predicted. ${question.source || ""}` : question.source || ""; };
  say();
  const both = h("section", { class: "card", "aria-label": "Predicted beside real" }, groups.box);
  root.append(
    head(context, question, sub),
    h("div", { class: hasMap ? "grid first" : "grid" }, hasMap ? null : both,
      h("div", { class: "grid" }, hasMap ? h("section", { class: "card", "aria-label": "Map" },
        optionChips(question, context.chosen(), (opt) => { set({ opt }); say(); drawMap(); }), map) : null,
        h("section", { class: "card", "aria-label": "What it shows" }, groups.said, groups.legend,
          h("div", { class: "row" }, toggle("own", "the group’s own average"), toggle("logistic", "logistic regression")), exports)),
      hasMap ? both : null));

  async function drawPair() {
    groups.wait();
    const mine = context.turn("pair");
    try {
      const got = await answers(data, [state.a, state.b], question);
      if (!mine()) return;
      groups.show(got, question, { toggles: state });
      exports.replaceChildren(exportBar(data, { name: `compare-${question.id}`, title: question.text, columns: ANSWER_COLUMNS, rows: answerRows(got),
        charts: groups.charts, caption: `A: ${got[0].group} (blue). B: ${got[1].group} (orange). ${BAR_CAPTION}`,
        n: d3.sum(got, (answer) => answer.real_n || 0), questionStatus: question.status, groupStatus: got.find((answer) => answer.group_status !== "in training")?.group_status || "in training" }));
    } catch (error) {
      if (mine()) groups.fail(error);
    }
  }

  async function drawMap() {
    if (!hasMap) return;
    const known = knownAnswers(data, question);
    if (!known.size) {
      map.replaceChildren(notice("note", data.cells.complete === false
        ? [h("span", { "data-progress": "" }, context.progress()), " The map is drawn when this question’s turn has come."]
        : "The page holds no figures of this question by country. The view Map asks the server for them."));
      return;
    }
    const places = shapes(data, await loadWorld());
    const figures = countryFigures(known, question, context.chosen());
    const rows = [...figures.values()];
    const mode = modeOf("predicted", rows);
    const only = (where) => (Object.keys(where).length && where[data.run.country_field]?.length === 1 ? where[data.run.country_field][0] : null);
    const drawn = worldMap({ places, width: Math.max(300, map.clientWidth), colours: mode.colours, chosen: { a: only(state.a), b: only(state.b) }, onpick: pick,
      entryOf: ({ name, known: has }) => (has ? mapEntry(figures.get(name), mode.key, { minCell: data.run.min_cell, showUnasked: state.unasked }) : null),
      title: `Map: predicted share answering ${optionWords(question, context.chosen())}` });
    map.replaceChildren(mode.colours ? legend(mode.colours, mode.legend, mode.format, mode.middleName) : "", drawn.frame,
      h("p", { class: "dim" }, "Grey: never asked. Dashed outline: kept out of training. Click a country to compare it; the view Map has the list."));
  }

  context.onresize(() => { drawPair(); drawMap(); });
  drawPair();
  drawMap();
}

/** The title card: the question, what the map counts, and another question. */
function head(context, question, sub) {
  const { data, set } = context;
  return h("section", { class: "card title", "aria-label": "Question" },
    h("h1", { tabindex: "-1" }, `“${question.text}”`), h("div", { class: "row spread" }, sub,
    h("details", { class: "other" }, h("summary", {}, "Another question"),
      questionPicker(data, question.id, (q) => { set({ q, opt: [] }); context.redraw(); }))));
}
