// What is shown is in the address: #/view?q=…&a.country=Japan. A link gives the same picture.

export const VIEWS = ["compare", "map", "ask", "experts", "chat", "trust"];

const empty = () => ({ view: "compare", q: "", opt: [], mode: "", unasked: false, own: false, logistic: false,
  text: "", options: [], ordered: true, a: null, b: null });

/** A group's filter as address parameters: `a.country=Japan`, one a value. */
function groupEntries(letter, where) {
  if (!where) return [];
  const entries = Object.entries(where).flatMap(([field, values]) => values.map((value) => [`${letter}.${field}`, value]));
  return entries.length ? entries : [[letter, "everybody"]];
}

/** The address of a state, from "#" on. */
export function toHash(state) {
  const out = new URLSearchParams();
  if (state.q) out.append("q", state.q);
  if (state.opt.length) out.append("opt", state.opt.join(","));
  if (state.mode) out.append("mode", state.mode);
  for (const flag of ["unasked", "own", "logistic"]) if (state[flag]) out.append(flag, "1");
  if (state.text) out.append("text", state.text);
  for (const option of state.options) out.append("option", option);
  if (!state.ordered) out.append("ordered", "0");
  for (const [name, value] of [...groupEntries("a", state.a), ...groupEntries("b", state.b)]) out.append(name, value);
  const query = out.toString();
  return `#/${state.view}${query ? `?${query}` : ""}`;
}

/** The state of an address; what it does not say, or says wrongly, is as at the start. */
export function fromHash(hash) {
  const state = empty();
  const [path, query = ""] = hash.replace(/^#\/?/, "").split(/\?(.*)/s);
  if (VIEWS.includes(path)) state.view = path;
  for (const [name, value] of new URLSearchParams(query)) {
    const group = /^([ab])(?:\.(.+))?$/s.exec(name);
    if (group) {
      const where = (state[group[1]] ||= {});
      if (group[2]) (where[group[2]] ||= []).push(value);
    } else if (name === "opt") state.opt = value.split(",").map(Number).filter((i) => Number.isInteger(i) && i >= 0);
    else if (name === "option") state.options.push(value);
    else if (name === "ordered") state.ordered = value !== "0";
    else if (["unasked", "own", "logistic"].includes(name)) state[name] = value === "1";
    else if (["q", "mode", "text"].includes(name)) state[name] = value;
  }
  return state;
}
