// The world in colours. Every figure of it is in the country list too: the map is a picture, the list its equal.
import { h, s, badge, colour } from "./dom.js";
import { isNumber } from "./figures.js";
import { finished } from "./colours.js";

const SMALL = 14; // square pixels of a country below which a dot stands for it
const CLOSER = 1.07; // the Pacific at both edges is mostly water

const pad = (id) => String(id).padStart(3, "0");

/** Shapes by id of world-atlas, with the run's value that stands for each (the largest, where several do). */
export function shapes(data, world) {
  const sizes = new Map(data.fields.find((field) => field.name === data.run.country_field)?.values.map(({ value, n }) => [value, n]));
  const names = new Map();
  for (const [name, id] of Object.entries(data.countries)) {
    const held = names.get(pad(id));
    if (!held || (sizes.get(name) || 0) > (sizes.get(held) || 0)) names.set(pad(id), name);
  }
  return world.map((feature) => ({ feature, id: feature.id, name: names.get(feature.id) || feature.properties.name, known: names.has(feature.id) }));
}

/**
 * The map. `entryOf(shape)` gives `{value, unasked, held, lines, status}` or null; `scale` a colour for a value.
 * `chosen` is {a, b}: names of countries that are outlined. `onpick(letter, name)` sets a group.
 */
export function worldMap({ places, entryOf, colours, width, chosen, onpick, title }) {
  const entries = places.map((place) => ({ ...place, entry: entryOf(place) }));
  const hatches = new Map();
  const fill = ({ entry }) => {
    if (!entry || !isNumber(entry.value) || !colours) return colour("land");
    const shade = colours.scale(entry.value);
    if (!entry.unasked) return shade;
    if (!hatches.has(shade)) hatches.set(shade, `hatch-${hatches.size}`);
    return `url(#${hatches.get(shade)})`;
  };
  const fills = new Map(entries.map((entry) => [entry, fill(entry)]));
  const world = { type: "FeatureCollection", features: places.map(({ feature }) => feature) };
  const projection = d3.geoEqualEarth().fitWidth(width * CLOSER, world);
  const path = d3.geoPath(projection);
  const [[, north], [, south]] = path.bounds(world);
  const height = Math.ceil(south - north) + 8;
  const [left, top] = projection.translate();
  projection.translate([left - (width * (CLOSER - 1)) / 2, top - north + 4]);
  const isSmall = ({ feature }) => path.area(feature) < SMALL;
  const center = ({ feature }) => d3.geoCentroid(feature);
  const held = entries.filter(({ entry }) => entry?.held && isNumber(entry.value));
  const marked = ["a", "b"].flatMap((letter) => entries.filter(({ name, known }) => known && name === chosen[letter]).map((entry) => ({ letter, ...entry })));
  const shape = { geometry: "feature" };
  const dots = entries.filter((entry) => isNumber(entry.entry?.value) && isSmall(entry));
  const chart = Plot.plot({
    width, height, margin: 0, projection: () => projection, color: { type: "identity" }, ariaLabel: title,
    ariaDescription: "The list of countries holds the same figures.",
    marks: [
      Plot.geo(entries, { ...shape, fill: (entry) => fills.get(entry), stroke: colour("border"), strokeWidth: 0.5, className: "countries" }),
      Plot.geo(held, { ...shape, stroke: colour("text"), strokeWidth: 1.1, strokeDasharray: "3,2", pointerEvents: "none" }),
      Plot.dot(dots, { x: (entry) => center(entry)[0], y: (entry) => center(entry)[1], r: 3.6, fill: (entry) => fills.get(entry), stroke: colour("text"), strokeWidth: 0.7, className: "small-countries" }),
      Plot.geo(marked, { ...shape, stroke: (entry) => colour(entry.letter), strokeWidth: 2.2, pointerEvents: "none" }),
      Plot.dot(marked, { x: (entry) => center(entry)[0], y: (entry) => center(entry)[1], r: 9, fill: (entry) => colour(entry.letter), stroke: colour("card"), strokeWidth: 1.5, pointerEvents: "none" }),
      Plot.text(marked, { x: (entry) => center(entry)[0], y: (entry) => center(entry)[1], text: (entry) => entry.letter.toUpperCase(), fill: colour("on-group"), fontWeight: 700, fontSize: 11, pointerEvents: "none" }),
    ],
  });
  finished(chart);
  chart.prepend(s("defs", {}, ...[...hatches].map(([shade, id]) => hatch(id, shade))));
  const tip = h("div", { class: "tip", hidden: true });
  const frame = h("div", { class: "map" }, chart, tip);
  listen(frame, chart, tip, { entries, dots }, onpick);
  return { chart, frame };
}

function hatch(id, shade) {
  return s("pattern", { id, width: 5, height: 5, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" },
    s("rect", { width: 5, height: 5, fill: shade }), s("rect", { width: 1.6, height: 5, fill: colour("card") }));
}

/** Pointing shows a country's figures; a click keeps them, with buttons that choose it as A or B. */
function listen(frame, chart, tip, { entries, dots }, onpick) {
  let pinned = false;
  const show = (place, x, y, keep) => {
    pinned = keep;
    const lines = place.entry?.lines || ["No figure for this country"];
    tip.replaceChildren(...[h("strong", {}, place.name), place.entry?.status ? badge(place.entry.status) : null,
      ...lines.map((line) => h("div", {}, line)),
      keep && place.known && onpick ? h("div", { class: "row" }, ["a", "b"].map((letter) =>
        h("button", { type: "button", class: `pick ${letter}`, onclick: () => { hide(); onpick(letter, place.name); } }, `Set as ${letter.toUpperCase()}`))) : null].filter(Boolean));
    tip.hidden = false;
    tip.classList.toggle("pinned", keep);
    const room = frame.getBoundingClientRect();
    tip.style.left = `${Math.max(0, Math.min(x + 12, room.width - tip.offsetWidth - 4))}px`;
    tip.style.top = `${y + tip.offsetHeight + 16 > room.height ? Math.max(0, y - tip.offsetHeight - 8) : y + 14}px`;
  };
  const hide = () => { tip.hidden = true; pinned = false; };
  const bind = (selector, places) => chart.querySelectorAll(selector).forEach((node) => {
    const place = places[node.__data__];
    if (!place) return;
    const at = (event, keep) => {
      const room = frame.getBoundingClientRect();
      show(place, event.clientX - room.left, event.clientY - room.top, keep);
    };
    node.addEventListener("pointermove", (event) => { if (!pinned && event.pointerType === "mouse") at(event, false); });
    node.addEventListener("pointerleave", () => { if (!pinned) hide(); });
    node.addEventListener("click", (event) => { at(event, true); event.stopPropagation(); });
  });
  bind(".countries path", entries);
  bind(".small-countries circle", dots);
  frame.addEventListener("click", (event) => { if (!tip.contains(event.target)) hide(); });
  frame.addEventListener("keydown", (event) => { if (event.key === "Escape") hide(); });
}
