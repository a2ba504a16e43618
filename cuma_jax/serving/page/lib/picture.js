// A view as one picture: title, charts, footer. The page's policy allows no image made here, so a PNG is drawn by hand:
// each shape of the charts goes onto a canvas with its computed style. An SVG gets the same styles as attributes.
import { colour } from "./dom.js";

const WIDE = 760;
const WIDEST = 1260;
const EDGE = 18;
const GAP = 12;
const FONT = "system-ui, sans-serif";
const TITLE = `600 18px ${FONT}`;
const NAME = `600 14px ${FONT}`;
const SMALL = `11px ${FONT}`;
const STYLES = ["fill", "fill-opacity", "stroke", "stroke-width", "stroke-opacity", "stroke-dasharray", "stroke-linejoin",
  "stroke-linecap", "opacity", "font-family", "font-size", "font-weight", "text-anchor", "paint-order"];

function wrap(text, font, width) {
  const ink = document.createElement("canvas").getContext("2d");
  ink.font = font;
  const lines = [""];
  for (const word of text.split(/\s+/)) {
    const longer = `${lines.at(-1)} ${word}`.trim();
    if (lines.at(-1) && ink.measureText(longer).width > width) lines.push(word);
    else lines[lines.length - 1] = longer;
  }
  return lines;
}

/** Charts in rows as long as they fit: [[{chart, name, x, width, height}]]. */
function inRows(charts) {
  const rows = [];
  let right = Infinity;
  for (const { chart, name = "", newRow = false } of charts) {
    const { width, height } = chart.viewBox.baseVal;
    if (newRow || right + width > WIDEST) {
      rows.push([]);
      right = 0;
    }
    rows.at(-1).push({ chart, name, x: right, width, height });
    right += width + 2 * GAP;
  }
  return rows;
}

/** Where everything stands: [{text, font, x, y}] and [{chart, x, y}], and the size of the whole. */
function layout({ title, charts, footer }) {
  const rows = inRows(charts);
  const width = Math.max(WIDE, ...rows.map((row) => row.at(-1).x + row.at(-1).width)) + 2 * EDGE;
  const texts = [];
  let y = EDGE;
  const write = (text, font, step, fill) => {
    for (const line of wrap(text, font, width - 2 * EDGE)) texts.push({ text: line, font, fill, x: EDGE, y: (y += step) });
  };
  write(title, TITLE, 22, colour("text"));
  y += GAP;
  const placed = rows.flatMap((row) => {
    if (row.some(({ name }) => name)) y += 20;
    for (const { name, x } of row) if (name) texts.push({ text: name, font: NAME, fill: colour("text"), x: EDGE + x, y: y - 6 });
    const places = row.map(({ chart, x }) => ({ chart, x: EDGE + x, y }));
    y += Math.max(...row.map(({ height }) => height)) + GAP;
    return places;
  });
  for (const line of footer) write(line, SMALL, 15, colour("muted"));
  return { texts, placed, width, height: y + EDGE };
}

const escaped = (text) => text.replace(/[&<>"']/g, (sign) => `&#${sign.charCodeAt(0)};`).replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f]/g, "");

function markup(node) {
  if (node.nodeType === Node.TEXT_NODE) return escaped(node.data);
  if (node.nodeType !== Node.ELEMENT_NODE || node.tagName === "style") return "";
  const computed = getComputedStyle(node);
  const skip = new Set(["style", "class", ...STYLES]);
  const own = [...node.attributes].filter(({ name }) => !skip.has(name) && !name.startsWith("on"));
  // Definitions are not drawn, so their style is not computed: their attributes stand as they are.
  const styles = node.closest("defs") ? [...node.attributes].filter(({ name }) => STYLES.includes(name)).map(({ name, value }) => [name, value])
    : STYLES.map((name) => [name, computed.getPropertyValue(name).replaceAll('url("#', "url(#").replaceAll('")', ")")]);
  const open = node.tagName === "svg" ? [["overflow", "visible"]] : [];
  const text = [...open, ...own.map(({ name, value }) => [name, value]), ...styles].map(([name, value]) => ` ${name}="${escaped(value)}"`).join("");
  return `<${node.tagName}${text}>${[...node.childNodes].map(markup).join("")}</${node.tagName}>`;
}

/** The picture as the text of an SVG file. */
export function pictureAsSvg(picture) {
  const { texts, placed, width, height } = layout(picture);
  const lines = texts.map(({ text, font, fill, x, y }) => {
    const [, weight, size] = /^(?:(\d+) )?([\d.]+)px/.exec(font);
    return `<text x="${x}" y="${y}" font-family="${FONT}" font-size="${size}" font-weight="${weight || 400}" fill="${escaped(fill)}">${escaped(text)}</text>`;
  });
  const inner = placed.map(({ chart, x, y }) => `<g transform="translate(${x},${y})">${markup(chart)}</g>`);
  return `<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}">`
    + `<rect width="${width}" height="${height}" fill="${escaped(colour("card"))}"/>${lines.join("")}${inner.join("")}</svg>`;
}

/** The picture as a PNG file, twice as fine as the screen. */
export async function pictureAsPng(picture, fine = 2) {
  const { texts, placed, width, height } = layout(picture);
  const canvas = document.createElement("canvas");
  canvas.width = Math.ceil(width * fine);
  canvas.height = Math.ceil(height * fine);
  const ink = canvas.getContext("2d");
  ink.setTransform(fine, 0, 0, fine, 0, 0);
  ink.fillStyle = colour("card");
  ink.fillRect(0, 0, width, height);
  for (const { text, font, fill, x, y } of texts) {
    ink.font = font;
    ink.fillStyle = fill;
    ink.fillText(text, x, y);
  }
  for (const { chart, x, y } of placed) drawChart(ink, chart, new DOMMatrix([fine, 0, 0, fine, fine * x, fine * y]));
  return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
}

function drawChart(ink, chart, place) {
  const size = chart.viewBox.baseVal;
  const zoom = size.width / (chart.getBoundingClientRect().width || size.width); // a chart may stand smaller than it is
  const back = chart.getScreenCTM().inverse();
  for (const node of chart.querySelectorAll("path, rect, circle, line, text")) {
    const matrix = node.closest("defs") ? null : node.getScreenCTM();
    if (!matrix || !zoom) continue;
    ink.save();
    ink.setTransform(place.multiply(DOMMatrix.fromMatrix(back.multiply(matrix))));
    drawNode(ink, chart, node, getComputedStyle(node));
    ink.restore();
  }
}

function outline(node) {
  const length = (name) => node[name].baseVal.value;
  const path = new Path2D(node.tagName === "path" ? node.getAttribute("d") || "" : "");
  if (node.tagName === "rect") path.rect(length("x"), length("y"), length("width"), length("height"));
  if (node.tagName === "circle") path.arc(length("cx"), length("cy"), length("r"), 0, 2 * Math.PI);
  if (node.tagName === "line") {
    path.moveTo(length("x1"), length("y1"));
    path.lineTo(length("x2"), length("y2"));
  }
  return path;
}

function drawNode(ink, chart, node, style) {
  const number = (name, usual) => { const value = parseFloat(style.getPropertyValue(name)); return Number.isFinite(value) ? value : usual; };
  const hasFill = style.fill !== "none" && node.tagName !== "line";
  const hasStroke = style.stroke !== "none" && number("stroke-width", 1) > 0;
  ink.fillStyle = hasFill ? paint(ink, chart, style.fill) : "transparent";
  ink.strokeStyle = hasStroke ? style.stroke : "transparent";
  ink.lineWidth = number("stroke-width", 1);
  ink.lineJoin = style.strokeLinejoin;
  ink.lineCap = style.strokeLinecap;
  ink.setLineDash(style.strokeDasharray === "none" ? [] : style.strokeDasharray.split(/[,\s]+/).map(parseFloat));
  const shown = opacity(node, chart);
  const fillAlpha = shown * number("fill-opacity", 1);
  const strokeAlpha = shown * number("stroke-opacity", 1);
  if (node.tagName === "text") {
    ink.font = `${style.fontWeight} ${style.fontSize} ${style.fontFamily}`;
    for (const { text, x, y } of lines(node)) {
      ink.globalAlpha = strokeAlpha;
      if (hasStroke) ink.strokeText(text, x, y);
      ink.globalAlpha = fillAlpha;
      if (hasFill) ink.fillText(text, x, y);
    }
    return;
  }
  const path = outline(node);
  ink.globalAlpha = fillAlpha;
  if (hasFill) ink.fill(path);
  ink.globalAlpha = strokeAlpha;
  if (hasStroke) ink.stroke(path);
}

/** Opacity of a node with all that it stands in. */
function opacity(node, chart) {
  let shown = 1;
  for (let at = node; at && at !== chart; at = at.parentElement) shown *= parseFloat(getComputedStyle(at).opacity);
  return shown;
}

/** Lines of a text element, each where the browser puts its first letter. */
function lines(node) {
  const pieces = node.querySelector("tspan") ? [...node.querySelectorAll("tspan")] : [node];
  return pieces.filter((piece) => piece.getNumberOfChars() > 0).map((piece) => {
    const { x, y } = piece.getStartPositionOfChar(0);
    return { text: [...piece.childNodes].filter((child) => child.nodeType === Node.TEXT_NODE).map((child) => child.data).join(""), x, y };
  });
}

/** A colour, or a hatch as a canvas pattern. */
function paint(ink, chart, fill) {
  const id = /url\("?#([^")]+)"?\)/.exec(fill)?.[1];
  const hatch = id && chart.querySelector(`#${CSS.escape(id)}`);
  if (!hatch) return fill;
  const [ground, line] = [...hatch.querySelectorAll("rect")].map((rect) => rect.getAttribute("fill"));
  const tile = document.createElement("canvas");
  tile.width = tile.height = 10;
  const brush = tile.getContext("2d");
  brush.fillStyle = ground;
  brush.fillRect(0, 0, 10, 10);
  brush.fillStyle = line;
  brush.fillRect(0, 0, 3.2, 10);
  const pattern = ink.createPattern(tile, "repeat");
  pattern.setTransform(new DOMMatrix().rotate(45).scale(0.5));
  return pattern;
}
