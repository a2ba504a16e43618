// The culture map that `analyze` makes: an arrow from each group's real place to its predicted one.
import { h, colour, notice } from "../lib/dom.js";
import { loadCultureMap } from "../lib/data.js";
import { decimal } from "../lib/figures.js";
import { exportBar } from "../lib/export.js";
import { finished } from "../lib/colours.js";

const COLUMNS = [{ key: "group", label: "Group" }, ...[["real_x", "Real, first axis"], ["real_y", "Real, second axis"], ["predicted_x", "Predicted, first axis"],
  ["predicted_y", "Predicted, second axis"], ["moved", "Apart"]].map(([key, label]) => ({ key, label, numeric: true, text: (row) => decimal(row[key], 2) }))];

/** The rows whose names do not lie on an earlier one's; the table has all. */
function apart(rows, width) {
  const [x, y] = ["x", "y"].map((axis) => d3.scaleLinear(d3.extent(rows.flatMap((row) => [row[`real_${axis}`], row[`predicted_${axis}`]])), [0, axis === "x" ? width - 72 : 0.6 * width - 72]));
  const kept = [];
  for (const row of rows) {
    const box = { row, x: x(row.real_x), y: y(row.real_y), half: 3.2 * row.group.length + 4 };
    if (kept.every((other) => Math.abs(other.x - box.x) > other.half + box.half || Math.abs(other.y - box.y) > 14)) kept.push(box);
  }
  return kept.map(({ row }) => row);
}

export async function renderCulture(root, context) {
  const { data } = context;
  const box = h("section", { class: "card", "aria-label": "Culture map" }, h("p", { class: "dim" }, "Loading…"));
  root.append(box);
  let found;
  try {
    found = await loadCultureMap();
  } catch (error) {
    box.replaceChildren(notice("wrong", error.message));
    return;
  }
  if (!found?.points?.length) {
    box.replaceChildren(notice("note", "No culture map was made for this run. python -m cuma_jax.analyze makes one where a router sees who asks and three groups or more are scored."));
    return;
  }
  const rows = found.points.map(({ group, real, predicted }) => ({ group, real_x: real[0], real_y: real[1], predicted_x: predicted[0], predicted_y: predicted[1],
    moved: Math.hypot(real[0] - predicted[0], real[1] - predicted[1]) }));
  const chart = h("div", { class: "chart" });
  let svg = null;
  const draw = () => {
    const width = Math.max(300, chart.clientWidth || 900);
    svg = finished(Plot.plot({
      width, height: Math.min(620, Math.max(380, width * 0.6)), margin: 36, grid: true, ariaLabel: "Culture map", ariaDescription: "The table below holds the same figures.",
      x: { label: "first axis →" }, y: { label: "↑ second axis" },
      marks: [
        Plot.arrow(rows, { x1: "real_x", y1: "real_y", x2: "predicted_x", y2: "predicted_y", stroke: colour("b"), strokeWidth: 1.6, headLength: 7, bend: 0 }),
        Plot.dot(rows, { x: "real_x", y: "real_y", r: 3.5, fill: colour("a"), stroke: colour("card") }),
        Plot.text(apart(rows, width), { x: "real_x", y: "real_y", text: "group", dy: -9, fontSize: 10.5, fill: colour("text"), stroke: colour("card"), strokeWidth: 3 }),
      ],
    }));
    chart.replaceChildren(svg);
  };
  box.replaceChildren(h("p", { class: "sub" }, "Groups that answer alike stand close. Dots: where the real answers put a group. Arrows: from there to where the predicted answers put it. Names that would overlap are left out; the table has all."),
    chart, exportBar(data, { name: "culture-map", title: "Culture map", columns: COLUMNS, rows, charts: () => [{ chart: svg }],
      caption: "Dots: where the real answers put a group. Arrows lead from there to where the predicted answers put it." }));
  draw();
  context.onresize(draw);
}
