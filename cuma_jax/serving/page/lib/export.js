// What leaves the page: CSV, SVG, PNG, a link, how to cite. Every file carries the warnings.
import { h, announce, newId } from "./dom.js";
import { table } from "./table.js";
import { errorText, errorFor, isNumber, whole } from "./figures.js";
import { pictureAsPng, pictureAsSvg } from "./picture.js";

/** A cell of a CSV: quoted where needed, and no spreadsheet takes a text for a formula. */
export function csvCell(value) {
  if (value === null || value === undefined) return "";
  if (isNumber(value)) return String(value);
  let text = String(value);
  if (/^[\s]*[=+\-@\t\r|%]/.test(text)) text = `'${text}`;
  return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

/** Rows of objects as CSV; `run` and `note` stand in every row, so that no row leaves without them. */
export function toCsv(columns, rows, run) {
  const note = ["Model estimates, not a poll.", ...run.warnings].join(" ");
  const lines = [[...columns.map(({ key }) => key), "run", "data", "note"],
    ...rows.map((row) => [...columns.map(({ key }) => row[key]), run.name, run.data.citation || run.data.name, note])];
  return lines.map((line) => line.map(csvCell).join(",")).join("\r\n") + "\r\n";
}

/** The footer of a picture: what it is, from what, how wrong, and the warnings. */
export function footer(run, { caption = "", n = null, questionStatus = "in training", groupStatus = "in training" } = {}) {
  const known = errorText(errorFor(run, questionStatus, groupStatus));
  const source = [run.data.name, run.data.waves].filter(Boolean).join(", ");
  return [caption, `Model estimates, not a poll; nobody was asked. ${run.warnings.join(" ")}`,
    [`Run ${run.name} (${run.base}); data: ${source}`, n ? `n = ${whole(n)}` : "", known ? `measured error: ${known}` : ""].filter(Boolean).join("; ") + ".",
    run.cite].filter(Boolean);
}

/** Has the browser save a file. */
export function save(name, blob) {
  const link = h("a", { href: URL.createObjectURL(blob), download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  announce(`${name} is saved.`);
}

const safeName = (text) => text.replace(/[^\w.-]+/g, "_").slice(0, 80);

/**
 * The row of buttons under a view, with the table that is behind the chart.
 * `view`: {name, title, columns, rows, charts() -> [{chart, name, newRow}], facts for `footer`}; `isTable` where the table is shown anyway.
 */
export function exportBar(data, view) {
  const { run } = data;
  const name = safeName(`${run.name}-${view.name}`);
  const picture = () => ({ title: view.title, charts: view.charts(), footer: footer(run, view) });
  const cite = h("p", { class: "cite", hidden: true, tabindex: "-1" }, run.cite || `${run.name}, ${run.created}`, " Data: ", run.data.citation || run.data.name);
  const behind = h("div", { hidden: true, id: newId("table") });
  const toggle = (box, what) => (event) => {
    box.hidden = !box.hidden;
    event.currentTarget.setAttribute("aria-expanded", String(!box.hidden));
    announce(box.hidden ? `${what} hidden.` : `${what} shown.`);
  };
  const link = h("button", { type: "button", class: "plain", onclick: async () => {
    try {
      await navigator.clipboard.writeText(location.href);
      announce("The link is copied.");
      link.textContent = "Link copied";
    } catch {
      link.textContent = "Copy it from the address bar";
    }
    setTimeout(() => { link.textContent = "Link to this view"; }, 2500);
  } }, "Link to this view");
  const hasChart = Boolean(view.charts);
  return h("div", { class: "exports" }, h("div", { class: "row", role: "group", "aria-label": `Take ${view.name} away` },
    view.isTable ? null : h("button", { type: "button", class: "plain", "aria-expanded": "false", "aria-controls": behind.id, onclick: (event) => {
      if (!behind.firstChild) behind.append(table(`${view.title}: the figures`, view.columns, view.rows));
      toggle(behind, "The table")(event);
    } }, "Table"),
    h("button", { type: "button", class: "plain", onclick: () => save(`${name}.csv`, new Blob(["\ufeff", toCsv(view.columns, view.rows, run)], { type: "text/csv;charset=utf-8" })) }, "CSV"),
    hasChart ? h("button", { type: "button", class: "plain", onclick: () => save(`${name}.svg`, new Blob([pictureAsSvg(picture())], { type: "image/svg+xml" })) }, "SVG") : null,
    hasChart ? h("button", { type: "button", class: "plain", onclick: async () => save(`${name}.png`, await pictureAsPng(picture())) }, "PNG") : null,
    link,
    h("button", { type: "button", class: "plain", "aria-expanded": "false", onclick: toggle(cite, "How to cite") }, "How to cite")), cite, behind);
}

/** Columns of the table of answers: one row a group and option. */
export const ANSWER_COLUMNS = [
  { key: "group", label: "Group" }, { key: "question", label: "Question" }, { key: "option", label: "Answer" },
  ...[["share", "Predicted"], ["real", "Real"], ["low", "Real, low"], ["high", "Real, high"], ["pooled", "Pooled"],
    ["own_average", "Own average"], ["logistic", "Logistic"]].map(([key, label]) =>
    ({ key, label, numeric: true, text: (row) => (isNumber(row[key]) ? `${(100 * row[key]).toFixed(1)}%` : "–") })),
  { key: "real_n", label: "Real n", numeric: true, text: (row) => whole(row.real_n) },
  { key: "group_status", label: "Group is" }, { key: "question_status", label: "Question is" },
];

/** Answers as rows of that table. */
export const answerRows = (answers) => answers.flatMap((answer) => answer.options.map((option, i) => ({
  group: answer.group, question: answer.question, option, share: answer.shares[i], real: answer.real?.[i] ?? null,
  low: answer.low?.[i] ?? null, high: answer.high?.[i] ?? null, pooled: answer.pooled?.[i] ?? null,
  own_average: answer.own_average?.[i] ?? null, logistic: answer.logistic?.[i] ?? null, real_n: answer.real_n ?? null,
  group_status: answer.group_status, question_status: answer.question_status })));
