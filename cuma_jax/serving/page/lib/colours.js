// Colours of the maps and heat maps, for light and dark; figures stand beside them everywhere.
import { colour, isDark } from "./dom.js";
import { isNumber } from "./figures.js";

const RAMPS = {
  light: { less: ["#f4f0ea", "#b9b2d8", "#7a63ab", "#3b1368"], more: ["#f4f0ea", "#f4c07c", "#d97b1c", "#7f3b08"],
    one: ["#eef3f4", "#a9d3cf", "#4f9fa8", "#1f5f83", "#15304f"] },
  dark: { less: ["#454650", "#6f66a3", "#a795e6", "#d8ccff"], more: ["#454650", "#96642f", "#e0923e", "#ffd9a3"],
    one: ["#31424b", "#2f6f7c", "#43a3ab", "#8fd6cf", "#e4fbf4"] },
};

const ramps = () => RAMPS[isDark() ? "dark" : "light"];

/** Colours on both sides of `middle`, as wide as the values are; null without values. */
export function aroundMiddle(values, middle) {
  const known = values.filter(isNumber);
  if (!known.length || !isNumber(middle)) return null;
  const reach = Math.max(0.02, d3.quantile(known.map((value) => Math.abs(value - middle)), 0.98));
  const { less, more } = ramps();
  const side = [d3.interpolateRgbBasis(less), d3.interpolateRgbBasis(more)];
  const scale = (value) => side[Number(value >= middle)](Math.min(1, Math.abs(value - middle) / reach));
  const domain = [Math.max(0, middle - reach), Math.min(1, middle + reach)];
  return { scale, domain, middle };
}

/** Colours from little to much. */
export function fromZero(values, top = undefined) {
  const known = values.filter(isNumber);
  if (!known.length) return null;
  const end = top ?? Math.max(1e-6, d3.quantile(known, 0.98));
  const ramp = d3.interpolateRgbBasis(ramps().one);
  return { scale: (value) => ramp(Math.min(1, Math.max(0, value / end))), domain: [0, end], middle: null };
}

/** Difference colours around 0. */
export function aroundZero(values) {
  const reach = Math.max(1e-6, d3.max(values, Math.abs) || 0);
  const { less, more } = ramps();
  const side = [d3.interpolateRgbBasis(less), d3.interpolateRgbBasis(more)];
  return { scale: (value) => side[Number(value >= 0)](Math.abs(value) / reach), domain: [-reach, reach], middle: 0 };
}

const STEPS = 48;

/** The legend of a scale as a chart of its own: small squares, so that it needs no gradient. */
export function legend({ scale, domain, middle }, title, format, middleName = "") {
  const [low, high] = domain;
  const step = (high - low) / STEPS;
  const squares = d3.range(STEPS).map((i) => ({ x1: low + i * step, x2: low + (i + 1) * step, fill: scale(low + (i + 0.5) * step) }));
  const marks = [Plot.rect(squares, { x1: "x1", x2: "x2", y1: 0, y2: 1, fill: "fill", insetRight: -0.5 })];
  if (middle !== null && middle > low && middle < high)
    marks.push(Plot.ruleX([middle], { stroke: colour("text"), y1: 0, y2: 1.15 }));
  const chart = Plot.plot({
    width: 250, height: 46, marginTop: 17, marginBottom: 18, marginLeft: 14, marginRight: 22,
    x: { domain, ticks: 4, tickFormat: format, label: null, tickSize: 3, insetLeft: 0 }, y: { axis: null, domain: [0, 1] },
    color: { type: "identity" }, ariaLabel: `Legend: ${title}`, marks: [...marks,
      Plot.text([middleName && middle !== null ? `${title} (line: ${middleName})` : title], { frameAnchor: "top-left", dy: -15, fontWeight: 600, fontSize: 11 })],
  });
  return finished(chart);
}

/**
 * A chart of Plot made fit for the page: one picture with one description (its parts have labels that say nothing), and
 * without its style element, which the page's policy would refuse; views.css has the same rules.
 */
export function finished(chart) {
  for (const style of chart.querySelectorAll("style")) style.remove();
  for (const part of chart.querySelectorAll("[aria-label]")) part.removeAttribute("aria-label");
  chart.setAttribute("role", "img");
  const told = chart.getAttribute("aria-description");
  if (told) chart.setAttribute("aria-label", `${chart.getAttribute("aria-label")}. ${told}`);
  chart.removeAttribute("aria-description");
  return chart;
}
