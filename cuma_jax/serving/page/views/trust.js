// Trust: how wrong it was where answers are known, what it learned from, and what it is not for.
import { h, colour, notice } from "../lib/dom.js";
import { cellAnswer, file } from "../lib/data.js";
import { decimal, isNumber, splitName, whole } from "../lib/figures.js";
import { exportBar, save } from "../lib/export.js";
import { table } from "../lib/table.js";
import { signs } from "../lib/bars.js";
import { finished } from "../lib/colours.js";

export const title = "Trust";
const MOST_DOTS = 2500;

const METHODS = [["emd", "this run", "circle"], ["pooled", "everybody’s average", "square"], ["own_average", "the group’s own average", "diamond"], ["logistic", "logistic regression", "triangle"]];
const number = (key, label, digits = 3) => ({ key, label, numeric: true, text: (row) => decimal(row[key], digits) });
const COLUMNS = [{ key: "split", label: "Measured on" }, number("emd", "Distance"), number("low", "95% from"), number("high", "to"), number("pooled", "Everybody’s average"),
  number("own_average", "Own average"), number("logistic", "Logistic"), number("uniform", "All options equal"), number("floor", "Sampling noise alone"), number("points", "Points an option", 1)];
const DOT_COLUMNS = [{ key: "group", label: "Group" }, { key: "question", label: "Question" }, { key: "option", label: "Answer" }, number("predicted", "Predicted"), number("real", "Real")];

export function render(root, context) {
  const { data } = context;
  const { run } = data;
  const splits = Object.entries(run.errors || {}).filter(([, error]) => error).map(([split, error]) => ({ ...error, split: splitName(split) }));
  const bars = h("div", { class: "chart" });
  const dots = h("div", { class: "chart" });
  const cells = knownCells(data);
  let charts = [];
  root.append(
    h("section", { class: "card title" }, h("h1", { tabindex: "-1" }, "How far to trust it"),
      h("ul", { class: "warnings" }, run.warnings.map((warning) => h("li", {}, warning)))),
    h("section", { class: "card", "aria-label": "Measured error" }, h("h2", {}, "Measured where people’s answers are known"),
      splits.length ? [h("p", { class: "sub" }, "Distance of predicted and real answers; less is better. 0 is equal, 1 all answers at opposite ends of the scale."), bars, signs(METHODS.map(([, text, sign]) => [sign, colour("text"), text])), table("Measured error by split", COLUMNS, splits),
        exportBar(data, { name: "error", isTable: true, title: "Measured error", columns: COLUMNS, rows: splits, charts: () => [{ chart: charts[0] }],
          caption: METHODS.map(([, text, sign]) => `${sign}: ${text}`).join("; ") })]
        : notice("note", "This run was not scored. python -m cuma_jax.evaluate scores it.")),
    h("section", { class: "card", "aria-label": "Predicted against real" }, h("h2", {}, "Predicted against real, by group and answer"),
      cells.length ? [h("p", { class: "sub" }, `One dot a group and answer, ${whole(cells.length)} of them drawn by lot; on the line the two are equal.`), dots,
        exportBar(data, { name: "calibration", title: "Predicted against real", columns: DOT_COLUMNS, rows: cells, charts: () => [{ chart: charts[1] }],
          caption: "One dot a group and answer; on the line the two are equal." })]
        : notice("note", "The page holds no real answers of this run.")),
    sheet(data));

  function draw() {
    charts = [splits.length ? errorChart(splits, bars) : null, cells.length ? dotChart(cells, dots) : null];
    if (charts[0]) bars.replaceChildren(charts[0]);
    if (charts[1]) dots.replaceChildren(charts[1]);
  }
  draw();
  context.onresize(draw);
}

/** An even choice of the cells with enough real answers, one row an option. */
function knownCells(data) {
  const all = data.cells.questions.flatMap((id) => (data.cells.real?.[id] || []).map((real, row) => ({ id, row, real })))
    .filter(({ id, real }) => real && data.byId.has(id));
  const rows = [];
  for (const { id, row } of d3.shuffler(d3.randomLcg(0))(all)) {
    const answer = cellAnswer(data, row, data.byId.get(id));
    if (answer.real && answer.shares) answer.options.forEach((option, i) => rows.push({ group: answer.group, question: id, option, predicted: answer.shares[i], real: answer.real[i] }));
    if (rows.length >= MOST_DOTS) break;
  }
  return rows;
}

function errorChart(splits, box) {
  const rows = splits.flatMap((error) => METHODS.filter(([key]) => isNumber(error[key])).map(([key, name]) => ({ split: error.split, name, value: error[key] })));
  const width = Math.max(280, Math.min(860, box.clientWidth || 800));
  return finished(Plot.plot({
    width, height: 46 + 46 * splits.length, marginLeft: 6, marginRight: 20, marginTop: 8, x: { domain: [0, 1.1 * d3.max(splits, (error) => Math.max(error.high || 0, ...METHODS.map(([key]) => error[key] || 0)))], label: "distance →", grid: true, ticks: 5 },
    y: { axis: null, domain: splits.map(({ split }) => split) }, symbol: { domain: METHODS.map(([, name]) => name), range: METHODS.map(([, , sign]) => sign) },
    ariaLabel: "Measured error by split", ariaDescription: "The table below holds the same figures.",
    marks: [
      Plot.ruleY(splits, { y: "split", stroke: colour("border"), dy: 8 }),
      Plot.text(splits, { y: "split", text: "split", frameAnchor: "left", textAnchor: "start", dy: -11, fontSize: 12, fontWeight: 600 }),
      Plot.ruleY(splits.filter((error) => isNumber(error.low)), { x1: "low", x2: "high", y: "split", dy: 8, stroke: colour("a"), strokeWidth: 3 }),
      Plot.dot(rows, { x: "value", y: "split", symbol: "name", dy: 8, r: 6, stroke: colour("text"), strokeWidth: 1.5, fill: (row) => (row.name === METHODS[0][1] ? colour("a") : colour("card")), title: (row) => `${row.name}: ${decimal(row.value)}` }),
    ],
    color: { type: "identity" },
  }));
}

function dotChart(cells, box) {
  const width = Math.max(280, Math.min(620, box.clientWidth || 600));
  const domain = [0, 1];
  const tickFormat = (x) => `${Math.round(100 * x)}%`;
  return finished(Plot.plot({
    width, height: Math.min(520, width * 0.85), marginLeft: 46, marginBottom: 36, grid: true, x: { domain, tickFormat, label: "real →" }, y: { domain, tickFormat, label: "↑ predicted" },
    ariaLabel: "Predicted against real", ariaDescription: "The table below holds the same figures.",
    marks: [Plot.dot(cells, { x: "real", y: "predicted", r: 2.2, fill: colour("a"), fillOpacity: 0.35 }), Plot.link([0], { x1: 0, y1: 0, x2: 1, y2: 1, stroke: colour("text"), strokeDasharray: "4,3" })],
  }));
}

/** The data sheet: what it was made from, with which licence, and how to cite it. */
function sheet({ run, fields, questions, cells }) {
  const held = questions.filter(({ status }) => status === "held out").length;
  const facts = [["Run", run.name], ["Base", run.base], ["Made", [run.created, run.version && `cuma_jax ${run.version}`].filter(Boolean).join(", ")], ["Data", run.data.name], ["Waves", run.data.waves],
    ["Licence of the data", run.data.licence], ["Source of the data", run.data.citation], ["Questions", `${questions.length}${held ? `, ${held} of them kept out of training` : ""}`],
    ["Groups with figures", whole(cells.groups.length)], ["Fields of a profile", fields.map(({ label }) => label).join(", ")], ["Real shares are shown from", `${run.min_cell} held-out answers on`], ["How to cite", run.cite]];
  const every = "every figure as CSV";
  const away = run.static ? [h("a", { href: "data/cells.csv", download: "cells.csv" }, every)]
    : [fetched("v1/cells.csv", "cells.csv", every), fetched("openapi.json", "openapi.json", "the server’s interface")];
  return h("section", { class: "card", "aria-label": "Data sheet" }, h("h2", {}, "Data sheet"),
    h("dl", {}, facts.filter(([, value]) => value).map(([name, value]) => [h("dt", {}, name), h("dd", {}, String(value))])),
    h("p", { class: "dim" }, "The map’s borders are those of world-atlas (Natural Earth); they take no side."),
    h("div", { class: "row" }, run.can_predict === false ? away.slice(1) : away));
}

/** A button that saves a file of the server: a link would come without the key. */
function fetched(path, name, text) {
  const said = h("span", { role: "status" });
  return [h("button", { type: "button", class: "plain", onclick: async () => {
    said.replaceChildren();
    try {
      save(name, await file(path));
    } catch (error) {
      said.replaceChildren(notice("wrong", error.message));
    }
  } }, text), said];
}
