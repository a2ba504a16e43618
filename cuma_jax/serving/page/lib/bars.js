// One group's answers: bars predicted, dot and whisker real, ticks for the baselines.
import { h, s, colour } from "./dom.js";
import { isNumber, percent } from "./figures.js";
import { finished } from "./colours.js";

const LONG = 16; // letters of an answer that still stand left of its bar
const MANY = 6; // answers above which all stand left, cut where they are long

/** The widest share that the answers show, so that two charts have one axis. */
export function widest(answers, toggles) {
  const all = answers.flatMap((answer) => [answer.shares, answer.high, answer.pooled,
    toggles.own && answer.own_average, toggles.logistic && answer.logistic]).flatMap((shares) => shares || []);
  return Math.min(1, Math.max(0.1, d3.max(all) || 0) * 1.02);
}

/** The chart of one answer. `letter` is a or b (its colour); `top` the end of the axis; `uniform` draws 1/K. */
export function barChart(answer, { letter, width, top, toggles, uniform = false }) {
  const { options } = answer;
  const letters = d3.max(options, (option) => option.length);
  const isLong = letters > LONG && options.length <= MANY;
  const rowHeight = isLong ? 44 : options.length > MANY ? 22 : 32;
  const fill = colour(letter);
  const rows = options.map((option, i) => ({ i, option, share: answer.shares[i], real: answer.real?.[i], low: answer.low?.[i],
    high: answer.high?.[i], pooled: answer.pooled?.[i], own: answer.own_average?.[i], logistic: answer.logistic?.[i] }));
  const have = (key) => rows.filter((row) => isNumber(row[key]));
  const inset = { insetTop: isLong ? 19 : 3.5, insetBottom: isLong ? 4 : 3.5 };
  const middle = isLong ? 7.5 : 0;
  const symbol = (key, shape) => Plot.dot(have(key), { x: key, y: "i", symbol: shape, r: 4.5, dy: middle, fill: colour("card"), stroke: colour("text"), strokeWidth: 1.6 });
  const left = isLong ? 2 : Math.max(48, Math.min(12 + 6.6 * letters, 0.3 * width));
  const labels = rows.map((row) => ({ ...row, text: row.option }));
  const chart = Plot.plot({
    width, height: rowHeight * options.length + 26, marginLeft: left, marginRight: 92, marginTop: 0, marginBottom: 26,
    x: { domain: [0, top], ticks: 4, tickFormat: (x) => `${Math.round(100 * x)}%`, label: null, grid: true },
    y: { domain: d3.range(options.length), axis: null, padding: 0 },
    ariaLabel: `Predicted answers of ${answer.group}`, ariaDescription: sentence(answer),
    marks: [
      Plot.barX(rows, { x: "share", y: "i", fill, rx: 2, ...inset }),
      isLong
        ? Plot.text(labels, { y: "i", text: "text", frameAnchor: "left", textAnchor: "start", dy: -13, lineWidth: width / 12.5, textOverflow: "ellipsis", fontSize: 12 })
        : Plot.text(labels, { y: "i", text: "text", frameAnchor: "left", textAnchor: "end", dx: -6, fontSize: 12, lineWidth: (left - 6) / 12, textOverflow: "ellipsis" }),
      Plot.tickX(have("pooled"), { x: "pooled", y: "i", stroke: colour("card"), strokeWidth: 4, strokeOpacity: 0.75, ...inset }),
      Plot.tickX(have("pooled"), { x: "pooled", y: "i", stroke: colour("text"), strokeDasharray: "3,2", strokeWidth: 1.5, ...inset }),
      uniform ? Plot.ruleX([1 / options.length], { stroke: colour("muted"), strokeDasharray: "1,3", strokeWidth: 2 }) : null,
      Plot.ruleY(have("low"), { x1: "low", x2: "high", y: "i", dy: middle, stroke: colour("card"), strokeWidth: 5 }),
      Plot.ruleY(have("low"), { x1: "low", x2: "high", y: "i", dy: middle, stroke: colour("text"), strokeWidth: 2 }),
      Plot.dot(have("real"), { x: "real", y: "i", dy: middle, r: 5, fill: colour("card"), stroke: colour("text"), strokeWidth: 2 }),
      toggles.own ? symbol("own", "diamond") : null,
      toggles.logistic ? symbol("logistic", "triangle") : null,
      Plot.text(rows, { y: "i", frameAnchor: "right", textAnchor: "start", dx: 10, dy: middle, fontSize: 13, fontWeight: 700, text: (row) => percent(row.share) }),
      Plot.text(have("real"), { y: "i", frameAnchor: "right", textAnchor: "start", dx: 47, dy: middle, fontSize: 11, fill: colour("muted"), text: (row) => `real ${Math.round(100 * row.real)}` }),
    ],
  });
  return finished(chart);
}

/** The picture in a sentence, for people who hear it. */
function sentence(answer) {
  const parts = answer.options.map((option, i) => {
    const real = answer.real ? `, real ${percent(answer.real[i])}` : "";
    return `${option}: predicted ${percent(answer.shares[i])}${real}`;
  });
  return parts.join("; ");
}

const SIGNS = {
  bar: (fill) => s("rect", { x: 1, y: 3, width: 20, height: 8, rx: 1.5, fill }),
  whisker: (ink) => s("g", { stroke: ink, "stroke-width": 2, fill: colour("card") }, s("line", { x1: 1, x2: 21, y1: 7, y2: 7 }), s("circle", { cx: 11, cy: 7, r: 4 })),
  dashed: (ink) => s("line", { x1: 11, x2: 11, y1: 0, y2: 14, stroke: ink, "stroke-width": 1.6, "stroke-dasharray": "3,2" }),
  dotted: (ink) => s("line", { x1: 11, x2: 11, y1: 0, y2: 14, stroke: ink, "stroke-width": 2, "stroke-dasharray": "1,3" }),
  circle: (ink) => s("circle", { cx: 11, cy: 7, r: 5, fill: colour("a"), stroke: ink, "stroke-width": 1.5 }),
  square: (ink) => s("rect", { x: 6, y: 2, width: 10, height: 10, fill: colour("card"), stroke: ink, "stroke-width": 1.6 }),
  diamond: (ink) => s("path", { d: "M11,1L17,7L11,13L5,7Z", fill: colour("card"), stroke: ink, "stroke-width": 1.6 }),
  triangle: (ink) => s("path", { d: "M11,1L18,13L4,13Z", fill: colour("card"), stroke: ink, "stroke-width": 1.6 }),
};

/** What the signs mean, in words and signs. */
export function barLegend(toggles, answers, uniform = false) {
  const has = (key) => answers.some((answer) => answer[key]);
  const entries = [["bar", colour("muted"), "predicted"], has("real") && ["whisker", colour("text"), "what people answered, 95% interval"],
    has("pooled") && ["dashed", colour("text"), "everybody’s average (pooled)"], uniform && ["dotted", colour("muted"), "all options equal"],
    toggles.own && ["diamond", colour("text"), `the group’s own average in training${has("own_average") ? "" : ": not known for these groups"}`],
    toggles.logistic && ["triangle", colour("text"), `logistic regression${has("logistic") ? "" : ": not known for these groups"}`]].filter(Boolean);
  return signs(entries);
}

/** A legend of signs: [name of the sign, its colour, what it means]. */
export function signs(entries) {
  return h("ul", { class: "signs" }, entries.map(([sign, ink, text]) =>
    h("li", {}, s("svg", { viewBox: "0 0 22 14", width: 22, height: 14, "aria-hidden": "true" }, SIGNS[sign](ink)), text)));
}

/** The same in words, for the footer of a picture. */
export const BAR_CAPTION = "Bars: predicted. Dots with whiskers: what people answered, 95% interval. Dashed: everybody’s average (pooled).";
