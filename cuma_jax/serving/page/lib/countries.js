// Figures by country: what the map colours and the list of countries holds.
import { h, badge } from "./dom.js";
import { table } from "./table.js";
import { cellAnswer, cellRow } from "./data.js";
import { decimal, distance, percent, shareOf, whole } from "./figures.js";
import { aroundMiddle, fromZero } from "./colours.js";

/** Every country of the run with its filter. */
export function countryGroups(data) {
  const field = data.fields.find(({ name }) => name === data.run.country_field);
  return (field?.values || []).map(({ value }) => ({ name: value, where: { [field.name]: [value] } }));
}

/** Answers by country that the page has already: name -> answer; empty for a question it holds no figures of. */
export function knownAnswers(data, question) {
  const out = new Map();
  for (const { name, where } of countryGroups(data)) {
    const row = cellRow(data, where, question);
    if (row !== undefined) out.set(name, cellAnswer(data, row, question));
  }
  return out;
}

/** The figures of one country that a map or list shows. */
function figures(name, answer, question, chosen) {
  return {
    name, answer, predicted: shareOf(answer.shares, chosen), real: shareOf(answer.real, chosen), real_n: answer.real_n || 0,
    error: distance(answer.shares, answer.real, question.ordered), status: answer.group_status, unasked: answer.asked === false,
    pooled: shareOf(answer.pooled, chosen),
  };
}

/** Figures of all countries that have an answer, by name. */
export const countryFigures = (answers, question, chosen) =>
  new Map([...answers].map(([name, answer]) => [name, figures(name, answer, question, chosen)]));

/** Which figure a mode shows, its colours and the words of its legend. */
export function modeOf(mode, rows) {
  if (mode === "error")
    return { key: "error", colours: fromZero(rows.map((row) => row.error)), format: (x) => x.toFixed(2), legend: "distance from predicted to real" };
  const key = mode === "real" ? "real" : "predicted";
  const shown = rows.filter((row) => !row.unasked);
  const middle = rows.find((row) => row.pooled !== null)?.pooled ?? d3.mean(rows, (row) => row[key]);
  return { key, colours: aroundMiddle((shown.length ? shown : rows).map((row) => row[key]), middle), format: (x) => `${Math.round(100 * x)}%`,
    legend: key === "real" ? "real share" : "predicted share", middleName: rows.some((row) => row.pooled !== null) ? "everybody’s average" : "mean" };
}

/** What the map draws for one country: null leaves it grey. */
export function mapEntry(row, key, { minCell, showUnasked }) {
  if (!row) return null;
  const lines = [`predicted ${percent(row.predicted, 1)}`];
  if (row.real !== null) lines.push(`real ${percent(row.real, 1)} (${whole(row.real_n)} people), distance ${decimal(row.error)}`);
  else lines.push(row.unasked ? "never asked this: nothing to compare with" : `no real share: fewer than ${minCell} held-out answers`);
  const value = row.unasked && !showUnasked ? null : row[key];
  if (row.unasked && !showUnasked) lines.shift();
  return { value, unasked: row.unasked, held: row.status === "held out", status: row.status, lines };
}

/** The list that is equal to the map; with buttons that choose A and B where `onpick` is given. */
export function countryTable(rows, question, words, onpick) {
  const share = (key, label) => ({ key, label, numeric: true, text: (row) => percent(row[key], 1) });
  const columns = [
    { key: "name", label: "Country" }, share("predicted", "Predicted"), share("real", "Real"),
    { key: "error", label: "Distance", numeric: true, text: (row) => decimal(row.error) },
    { key: "real_n", label: "Real n", numeric: true, text: (row) => whole(row.real_n) },
    { key: "status", label: "Status", cell: (row) => (row.unasked ? h("span", { class: "badge dim" }, "never asked") : badge(row.status)) },
  ];
  if (onpick) columns.push({ key: "name", label: "Compare", cell: (row) => h("span", { class: "row" }, ["a", "b"].map((letter) =>
    h("button", { type: "button", class: `pick ${letter}`, "aria-label": `Compare ${row.name} as ${letter.toUpperCase()}`, onclick: () => onpick(letter, row.name) }, letter.toUpperCase()))) });
  const sorted = [...rows].sort((x, y) => y.predicted - x.predicted);
  return table(`Share answering ${words}, by country`, columns, sorted, { sortable: true });
}

/** Columns of the countries' table as a file. */
export const COUNTRY_COLUMNS = [["name", "Country"], ["predicted", "Predicted"], ["real", "Real"], ["error", "Distance"], ["real_n", "Real n"],
  ["status", "Group is"], ["unasked", "Never asked"]].map(([key, label]) => ({ key, label }));
