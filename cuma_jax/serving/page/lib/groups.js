// Who is answering: a picker of a group from the run's fields.
import { h, labelled, newId } from "./dom.js";
import { whole } from "./figures.js";

const SEVERAL = "\u0000several";
const SHOWN = 3;

/**
 * A fieldset that edits a filter. `onchange(where)` gets a new filter each time; fields with every value are left out.
 * The country (or the first field) stands in front, the others fold away.
 */
export function groupPicker(data, letter, start, onchange, title = `Group ${letter.toUpperCase()}`) {
  let where = start;
  const change = (field, values) => {
    where = { ...where };
    if (values.length) where[field] = values;
    else delete where[field];
    onchange(where);
  };
  const fields = data.fields.filter((field) => field.values.length > 1);
  const first = fields.find((field) => field.name === data.run.country_field) || fields[0];
  const others = fields.filter((field) => field !== first);
  const controls = (field) => fieldControls(field, where[field.name] || [], (values) => change(field.name, values));
  const isSet = others.some((field) => where[field.name]);
  const names = others.slice(0, SHOWN).map((field) => field.label).join(", ");
  const more = others.length > SHOWN ? ` and ${others.length - SHOWN} more` : "";
  return h("fieldset", { class: `picker ${letter}` },
    h("legend", { class: "unseen" }, title),
    first ? controls(first) : "This run has no fields to choose from.",
    others.length ? h("details", { class: "more", open: isSet }, h("summary", {}, `${names}${more}`),
      h("div", { class: "fields" }, others.map(controls))) : null);
}

/** One field: "everybody", one value, or several; from–to where the field is a number. */
function fieldControls(field, chosen, onchange) {
  if (field.numeric) return rangeControls(field, chosen, onchange);
  const box = h("div", { class: "field" });
  const draw = (values, several) => {
    const select = h("select", { id: newId("field") },
      h("option", { value: "" }, "everybody"),
      field.values.map(({ value, n }) => h("option", { value, selected: !several && values[0] === value }, `${value} (${whole(n)})`)),
      h("option", { value: SEVERAL, selected: several }, several && values.length ? `several: ${values.length}` : "several…"));
    select.addEventListener("change", () => {
      const isSeveral = select.value === SEVERAL;
      const next = isSeveral ? values : select.value ? [select.value] : [];
      draw(next, isSeveral);
      box.querySelector(isSeveral ? "input" : "select").focus();
      if (!isSeveral) onchange(next);
    });
    const boxes = several && h("div", { class: "boxes", role: "group", "aria-label": field.label },
      field.values.map(({ value }) => h("label", {}, h("input", { type: "checkbox", value, checked: values.includes(value),
        onchange: () => onchange([...box.querySelectorAll("input:checked")].map((input) => input.value)) }), value)));
    box.replaceChildren(...[h("label", { for: select.id }, field.label), select, boxes].filter(Boolean));
  };
  draw(chosen, chosen.length > 1);
  return box;
}

function rangeControls(field, chosen, onchange) {
  const names = field.values.map(({ value }) => value);
  const at = chosen.map((value) => names.indexOf(value)).filter((i) => i >= 0);
  const ends = at.length ? [Math.min(...at), Math.max(...at)] : [0, names.length - 1];
  const end = (side, text) => {
    const select = h("select", {}, names.map((value, i) => h("option", { value: String(i), selected: ends[side] === i }, value)));
    select.addEventListener("change", () => {
      ends[side] = Number(select.value);
      const [low, high] = d3.extent(ends);
      onchange(low === 0 && high === names.length - 1 ? [] : names.slice(low, high + 1));
    });
    return labelled(text, select);
  };
  return h("div", { class: "range" }, end(0, `${field.label}, from`), end(1, "to"));
}

/** A profile for the chat: one value a field, and which fields had several. */
export function profileOf(where) {
  const profile = Object.fromEntries(Object.entries(where).map(([field, values]) => [field, values[0]]));
  return { profile, several: Object.keys(where).filter((field) => where[field].length > 1) };
}
