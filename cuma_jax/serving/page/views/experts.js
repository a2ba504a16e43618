// Experts: how much each expert of each layer takes part for two groups, and where they differ.
import { h, colour, notice } from "../lib/dom.js";
import { gates, whereLabel } from "../lib/data.js";
import { decimal } from "../lib/figures.js";
import { exportBar } from "../lib/export.js";
import { groupPicker } from "../lib/groups.js";
import { questionPicker } from "../lib/questions.js";
import { aroundZero, fromZero, legend, finished } from "../lib/colours.js";

export const title = "Experts";

const COLUMNS = [{ key: "layer", label: "Layer" }, { key: "expert", label: "Expert" },
  ...[["a", "A"], ["b", "B"], ["difference", "B − A"]].map(([key, label]) => ({ key, label, numeric: true, text: (row) => decimal(row[key], 4) }))];

export function render(root, context) {
  const { data, state, set } = context;
  const question = context.question();
  const box = h("section", { class: "card", "aria-label": "Gates" });
  const picker = (letter) => h("div", { class: `panel ${letter}` }, h("div", { class: "panel-head" }, h("span", { class: "letter", "aria-hidden": "true" }, letter.toUpperCase()), h("h2", {}, `Group ${letter.toUpperCase()}`)),
    groupPicker(data, letter, state[letter], (where) => { set({ [letter]: where }); load(); }));
  root.append(h("section", { class: "card title" }, h("h1", { tabindex: "-1" }, "Which experts speak for whom"),
    h("p", { class: "sub" }, "Mean gates by layer and expert. An expert that is strong for one group and weak for the other is where the model tells them apart.")));
  if (!data.run.has_router) {
    root.append(h("section", { class: "card" }, notice("note", "This run has no router: its adapters are the same for everybody, so there are no gates to show.")));
    return;
  }
  root.append(h("section", { class: "card", "aria-label": "What is asked" }, h("p", {}, `“${question.text}”`),
    h("details", { class: "other" }, h("summary", {}, "Another question"), questionPicker(data, question.id, (q) => { set({ q, opt: [] }); context.redraw(); })),
    h("div", { class: "pair" }, picker("a"), picker("b"))), box);

  let found = null;
  async function load() {
    const mine = context.turn("gates");
    box.replaceChildren(h("p", { class: "dim", "aria-busy": "true" }, "Asking the model…"));
    try {
      found = await gates(data, [state.a, state.b], question);
      if (mine()) draw();
    } catch (error) {
      if (mine()) box.replaceChildren(notice("wrong", error.message));
    }
  }

  function draw() {
    const names = [whereLabel(state.a), whereLabel(state.b)];
    const rows = found.layers.flatMap((layer, l) => d3.range(found.experts).map((expert) => {
      const [a, b] = [found.gates[0], found.gates.at(-1)].map(({ gate }) => gate[l][expert]); // one where A and B are the same
      return { layer, expert: expert + 1, a, b, difference: b - a };
    }));
    const one = fromZero(rows.flatMap(({ a, b }) => [a, b]), d3.max(rows, ({ a, b }) => Math.max(a, b)));
    const two = aroundZero(rows.map(({ difference }) => difference));
    const width = box.clientWidth - 40;
    const isWide = width > 640;
    const each = isWide ? (width - 40) / 3 : width;
    const heat = (key, colours, name) => finished(Plot.plot({
      width: Math.max(230, each), height: 60 + 15 * found.layers.length, marginTop: 44, marginLeft: 40, marginRight: 4, marginBottom: 6, padding: 0,
      x: { axis: "top", label: "expert", labelAnchor: "left", tickSize: 0, ticks: found.experts > 16 ? d3.range(1, found.experts + 1, 4) : undefined }, y: { label: "layer", tickSize: 0, reverse: true, domain: found.layers }, color: { type: "identity" },
      ariaLabel: `Gates: ${name}`, ariaDescription: "The table holds the same figures.",
      marks: [Plot.cell(rows, { x: "expert", y: "layer", fill: (row) => colours.scale(row[key]), inset: 0.5, rx: 2, title: (row) => `layer ${row.layer}, expert ${row.expert}: ${decimal(row[key])}` })],
    }));
    const charts = [legend(one, "gate", (x) => x.toFixed(2)), heat("a", one, names[0]), heat("b", one, names[1]),
      legend(two, "difference of gates", (x) => x.toFixed(2)), heat("difference", two, `${names[1]} less ${names[0]}`)];
    const figure = (at, name) => h("figure", {}, h("figcaption", {}, name), charts[at]);
    const most = d3.greatest(rows, ({ difference }) => Math.abs(difference));
    box.replaceChildren(
      h("div", { class: "row spread" }, charts[0], charts[3]),
      h("div", { class: "heats" }, figure(1, `A: ${names[0]}`), figure(2, `B: ${names[1]}`), figure(4, "B less A")),
      h("p", { class: "said" }, `They differ most in expert ${most.expert} of layer ${most.layer}: ${decimal(most.a)} and ${decimal(most.b)}.`),
      exportBar(data, { name: `experts-${question.id}`, title: `Gates: ${names[0]} (A), ${names[1]} (B)`, columns: COLUMNS, rows,
        charts: () => [{ chart: charts[0] }, { chart: charts[3] }, { chart: charts[1], name: `A: ${names[0]}`, newRow: true }, { chart: charts[2], name: `B: ${names[1]}` }, { chart: charts[4], name: "B less A" }],
        caption: `Mean gates by layer and expert. Question: ${question.text}` }));
  }

  context.onresize(() => { if (found) draw(); });
  load();
}
