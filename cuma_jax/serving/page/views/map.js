// Map: predicted, real and error by country, the list that is equal to it, and the culture map of `analyze`.
import { h, announce, notice } from "../lib/dom.js";
import { answers, loadWorld } from "../lib/data.js";
import { distanceName } from "../lib/figures.js";
import { exportBar } from "../lib/export.js";
import { COUNTRY_COLUMNS, countryFigures, countryGroups, countryTable, knownAnswers, mapEntry, modeOf } from "../lib/countries.js";
import { legend } from "../lib/colours.js";
import { optionChips, optionWords, questionPicker } from "../lib/questions.js";
import { shapes, worldMap } from "../lib/worldmap.js";
import { renderCulture } from "./culture.js";

export const title = "Map";
const MODES = { predicted: "Predicted", real: "Real", error: "Error", culture: "Culture map" };

export function render(root, context) {
  const { data, state, set } = context;
  const question = context.question();
  const mode = MODES[state.mode] ? state.mode : "predicted";
  const modes = h("fieldset", { class: "chips" }, h("legend", {}, "Shown"), Object.entries(MODES).map(([key, text]) =>
    h("label", { class: "chip" }, h("input", { type: "radio", name: "mode", value: key, checked: key === mode, dataset: { keep: `mode-${key}` }, onchange: () => { set({ mode: key }); context.redraw(); } }), text)));
  if (mode === "culture") {
    root.append(h("section", { class: "card title" }, h("h1", { tabindex: "-1" }, "Culture map"), modes));
    renderCulture(root, context);
    return;
  }
  const hasMap = Object.keys(data.countries).length > 0;
  const few = mode === "predicted" ? "" : `, or fewer than ${data.run.min_cell} held-out answers`;
  const sub = h("p", { class: "sub" });
  const map = h("div", { class: "map-box" });
  const list = h("div");
  const said = h("p", { class: "dim" });
  const exports = h("div");
  const found = { answers: knownAnswers(data, question), world: null, more: new Map() };
  const unasked = h("label", { class: "check" }, h("input", { type: "checkbox", checked: state.unasked, onchange: (event) => { set({ unasked: event.target.checked }); drawAll(); } }),
    "colour countries that were never asked (hatched)");
  root.append(
    h("section", { class: "card title", "aria-label": "Question" }, h("h1", { tabindex: "-1" }, `“${question.text}”`), sub,
      h("div", { class: "row spread" }, modes, optionChips(question, context.chosen(), (opt) => { set({ opt }); drawAll(); })),
      h("div", { class: "row spread" }, unasked, h("details", { class: "other" }, h("summary", {}, "Another question"),
        questionPicker(data, question.id, (q) => { set({ q, opt: [] }); context.redraw(); })))),
    h("section", { class: "card", "aria-label": "Map" }, map, said, exports),
    h("section", { class: "card", "aria-label": "List of countries" }, h("h2", {}, "The same as a list"), list));
  const pick = (letter, name) => {
    set({ [letter]: { [data.run.country_field]: [name] } });
    announce(`${name} is now group ${letter.toUpperCase()} of the view Compare.`);
    draw(false);
  };

  function draw(isNew = true) {
    const words = optionWords(question, context.chosen());
    sub.textContent = mode === "error" ? `How far the predicted answers are from the real ones (${distanceName(question.ordered)}).` : `Share answering ${words}, ${mode === "real" ? "as people answered" : "as predicted"}. ${question.source || ""}`;
    const figures = countryFigures(new Map([...found.answers, ...found.more]), question, context.chosen());
    const rows = [...figures.values()];
    const how = modeOf(mode, rows);
    const only = (where) => where[data.run.country_field]?.[0];
    const drawn = !hasMap ? null : worldMap({ places: shapes(data, found.world), width: Math.max(300, map.clientWidth), colours: how.colours, chosen: { a: only(state.a), b: only(state.b) }, onpick: pick,
      entryOf: ({ name }) => mapEntry(figures.get(name), how.key, { minCell: data.run.min_cell, showUnasked: state.unasked }), title: `Map: ${sub.textContent}` });
    const key = how.colours && hasMap ? legend(how.colours, how.legend, how.format, how.middleName) : null;
    map.replaceChildren(...[key, drawn?.frame || notice("note", "The map knows none of this run’s countries; the list has their figures.")].filter(Boolean));
    if (!isNew) return;
    const shown = state.unasked ? rows : rows.filter((row) => !row.unasked);
    list.replaceChildren(countryTable(shown, question, words, pick));
    exports.replaceChildren(exportBar(data, { name: `map-${mode}-${question.id}`, isTable: true, title: `${question.text} (${mode}: ${words})`, columns: COUNTRY_COLUMNS, rows: shown,
      charts: hasMap ? () => [key && { chart: key }, { chart: drawn.chart, newRow: true }].filter(Boolean) : null, n: d3.sum(shown, (row) => row.real_n), questionStatus: question.status,
      caption: `Grey: never asked${few}. Hatched: a guess where nobody was asked. Dashed outline: kept out of training. Borders as in world-atlas.` }));
    if (!hasMap) return;
    said.textContent = `Grey: never asked${few}. Dashed outline: kept out of training.${state.unasked && data.run.static ? " Countries that are not in the data need the server." : ""}`;
  }

  async function drawAll() {
    const mine = context.turn("map");
    try {
      found.world = await loadWorld();
      if (!found.answers.size) await ask(countryGroups(data), found.answers, (answer) => answer, mine, {});
      if (!mine()) return;
      draw();
      if (hasMap && state.unasked && mode === "predicted" && !data.run.static && !found.more.size) {
        const strangers = shapes(data, found.world).filter(({ known }) => !known).map(({ name }) => ({ name, where: { [data.run.country_field]: [name] } }));
        await ask(strangers, found.more, (answer) => ({ ...answer, asked: false, group_status: "unknown" }), mine, { average_over: "profile" });
        if (mine()) draw();
      }
    } catch (error) {
      if (!mine()) return;
      if (!map.firstChild) map.replaceChildren(notice("wrong", error.message));
      else said.replaceChildren(notice("note", `Countries that are not in the data stay grey: ${error.message}`));
    }
  }

  async function ask(groups, into, turn, mine, extra) {
    const progress = (done, all) => { if (mine()) announce(said.textContent = `Asking the model: ${done} of ${all} countries`); };
    said.textContent = "Asking the model…";
    const got = await answers(data, groups.map(({ where }) => where), question, progress, extra);
    got.forEach((answer, i) => into.set(groups[i].name, turn(answer)));
  }

  if (!countryGroups(data).length) {
    map.replaceChildren(notice("note", "This run has no field of countries; there is nothing to draw on a map."));
    return;
  }
  context.onresize(() => { if (found.world) draw(); });
  drawAll();
}
