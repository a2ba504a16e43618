// Tables: one behind every chart, and the list of countries beside the map.
import { h } from "./dom.js";
import { isNumber } from "./figures.js";

/**
 * A table from rows of objects. `columns`: [{key, label, text(row)?, cell(row)?, numeric?}]; `sortable` gives each
 * heading a button. A cell is text unless `cell` makes an element.
 */
export function table(caption, columns, rows, { sortable = false, limit = Infinity } = {}) {
  const body = h("tbody");
  const order = { key: null, down: true };
  const draw = () => {
    const sorted = order.key === null ? rows : [...rows].sort((x, y) => compare(x[order.key], y[order.key], order.down));
    body.replaceChildren(...sorted.slice(0, limit).map((row) => h("tr", {}, columns.map((column, i) => {
      const content = column.cell ? column.cell(row) : column.text ? column.text(row) : String(row[column.key] ?? "–");
      return i === 0 ? h("th", { scope: "row" }, content) : h("td", { class: column.numeric ? "number" : null }, content);
    }))));
  };
  const heads = columns.map((column) => {
    const head = h("th", { scope: "col", class: column.numeric ? "number" : null });
    const press = () => {
      order.down = order.key === column.key ? !order.down : Boolean(column.numeric);
      order.key = column.key;
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", order.down ? "descending" : "ascending");
      draw();
    };
    head.append(sortable ? h("button", { type: "button", class: "sort", onclick: press }, column.label) : column.label);
    return head;
  });
  draw();
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    h("table", {}, h("caption", {}, caption), h("thead", {}, h("tr", {}, heads)), body));
}

function compare(x, y, down) {
  const empty = (value) => value === null || value === undefined;
  if (empty(x) || empty(y)) return Number(empty(x)) - Number(empty(y));
  const sign = isNumber(x) && isNumber(y) ? x - y : String(x).localeCompare(String(y));
  return down ? -sign : sign;
}
