// A group with its picker, its bars and what is known of them: the half of a comparison.
import { h, badge, notice } from "../lib/dom.js";
import { barChart, barLegend, widest } from "../lib/bars.js";
import { whereLabel } from "../lib/data.js";
import { groupPicker } from "../lib/groups.js";
import { answerError, decimal, distance, errorText, isNumber, percent, whole } from "../lib/figures.js";

const ASKED = ["in training", "held out"]; // of a question of the run

/** Two panels side by side, A and B. `onchange(letter, where)` when a picker moves. `show` fills them. */
export function pair(data, state, onchange) {
  const panels = { a: panel(data, "a", state.a, onchange), b: panel(data, "b", state.b, onchange) };
  const said = h("p", { class: "said" });
  const legend = h("div");
  const box = h("div", { class: "pair" }, panels.a.box, panels.b.box);
  let charts = [];

  const show = (answers, question, { toggles, uniform = false }) => {
    const top = Math.min(1, Math.max(widest(answers, toggles), uniform ? 1.1 / question.options.length : 0));
    charts = answers.map((answer, i) => ({ name: `${"AB"[i]}: ${answer.group} (${answer.group_status})`,
      chart: panels["ab"[i]].show(answer, question, { toggles, uniform, top, run: data.run }) }));
    said.textContent = difference(answers, question);
    legend.replaceChildren(barLegend(toggles, answers, uniform));
  };
  const say = (text, isBusy) => Object.values(panels).forEach((one) => one.say(text, isBusy));
  const wait = () => say("Asking the model…", true);
  const fail = (error) => Object.values(panels).forEach((one) => one.fail(error));
  return { box, said, legend, show, say, wait, fail, charts: () => charts };
}

function panel(data, letter, start, onchange) {
  const name = h("h2", {}, whereLabel(start));
  const status = h("span");
  const body = h("div", { class: "chart" });
  const facts = h("p", { class: "facts" });
  const picker = groupPicker(data, letter, start, (where) => {
    name.textContent = whereLabel(where);
    onchange(letter, where);
  });
  const box = h("section", { class: `panel ${letter}`, "aria-label": `Group ${letter.toUpperCase()}` },
    h("div", { class: "panel-head" }, h("span", { class: "letter", "aria-hidden": "true" }, letter.toUpperCase()), name, status), picker, body, facts);
  const show = (answer, question, { toggles, uniform, top, run }) => {
    status.replaceChildren(badge(answer.group_status));
    const chart = barChart(answer, { letter, width: Math.max(260, body.clientWidth || 460), top, toggles, uniform });
    body.replaceChildren(chart);
    facts.replaceChildren(...factLines(answer, question, run).map((line) => h("span", {}, `${line} `)));
    return chart;
  };
  const say = (text, isBusy = false) => body.replaceChildren(h("p", { class: "dim", "aria-busy": isBusy ? "true" : null }, text));
  const fail = (error) => {
    status.replaceChildren();
    facts.replaceChildren();
    body.replaceChildren(notice("wrong", error.message));
  };
  return { box, show, say, fail };
}

function factLines(answer, question, run) {
  const lines = [];
  const gap = distance(answer.shares, answer.real, question.ordered);
  if (answer.real) {
    const pooled = answer.pooled ? `; everybody’s average is ${decimal(distance(answer.pooled, answer.real, question.ordered))} off` : "";
    lines.push(`${whole(answer.real_n)} held-out answers; the prediction is ${decimal(gap)} off${pooled}.`);
  } else if (answer.asked === false) lines.push("Nobody of this group was asked this.");
  else if (!ASKED.includes(answer.question_status)) lines.push("Nobody was asked this.");
  else lines.push(`No real share: fewer than ${run.min_cell} held-out answers.`);
  const known = errorText(answerError(run, answer));
  if (known && !answer.real) lines.push(`Measured elsewhere: ${known}.`);
  if (isNumber(answer.n_people)) lines.push(`Averaged over ${whole(answer.n_people)} people of the data.`);
  if (isNumber(answer.order_sensitivity)) lines.push(`Another order of the options moves it by ${percent(answer.order_sensitivity, 1)}.`);
  return [...lines, ...(answer.notes || []).map((note) => `${note[0].toUpperCase()}${note.slice(1).replace(/[.;]?$/, ".")}`)];
}

/** Where two groups differ most, as a sentence. */
export function difference([first, second], question) {
  if (!first?.shares || !second?.shares) return "";
  const at = d3.greatestIndex(question.options, (x, y) => gap(x) - gap(y));
  function gap(option) {
    const i = question.options.indexOf(option);
    return Math.abs(first.shares[i] - second.shares[i]);
  }
  if (gap(question.options[at]) < 0.005) return "The model predicts the same for both.";
  const real = first.real && second.real ? `; real: ${percent(first.real[at])} and ${percent(second.real[at])}` : "";
  return `They differ most in “${question.options[at]}”: ${percent(first.shares[at])} in ${first.group}, ${percent(second.shares[at])} in ${second.group}${real}.`;
}
