// The run's data: files that lie beside the page, and questions to the server behind it.

import { keyHeaders } from "./key.js";

/** A mistake to show as it is: the server's problem details, or that there is no server. */
export class Problem extends Error {}

const KEY = "The server asks for its key";

/** A reply that wants a key: the page shows the field for it. */
function wantsKey(reply) {
  if (reply.status !== 401) return false;
  document.dispatchEvent(new Event("wants-key"));
  return true;
}

async function get(path) {
  const reply = await fetch(path, { headers: keyHeaders() });
  if (wantsKey(reply)) throw new Problem(KEY);
  return reply;
}

function good(reply, path) {
  if (!reply.ok) throw new Problem(`${path}: the server answered ${reply.status}`);
  return reply;
}

async function json(path, missing) {
  const reply = await get(path);
  if (reply.status === 404 && missing !== undefined) return missing;
  return good(reply, path).json();
}

/** A file of the server, with the key where it asks for one. */
export const file = async (path) => good(await get(path), path).blob();

/** One key for one filter, whatever the order of fields and values. */
export const whereKey = (where) =>
  JSON.stringify(Object.keys(where).sort().map((field) => [field, [...where[field]].sort()]));

/** A filter in words: "Japan, female, 60-69 or 70+". */
export function whereLabel(where) {
  const parts = Object.values(where).map((values) => (values.length > 3 ? `${values[0]} … ${values.at(-1)}` : values.join(" or ")));
  return parts.length ? parts.join(", ") : "everybody";
}

/** All that the page needs before it can draw. */
export async function loadRun() {
  const [run, fields, questions, cells, countries] = await Promise.all([
    json("data/run.json"), json("data/fields.json"), json("data/questions.json"), json("data/cells.json"),
    json("data/countries.json", {}),
  ]);
  run.data ||= {};
  run.errors ||= {};
  run.warnings ||= [];
  run.min_cell ??= 1;
  run.data.name ||= run.data.source || "";
  const byId = new Map(questions.map((question) => [question.id, question]));
  return { run, fields, questions, countries, byId, ...indexed(cells) };
}

const indexed = (cells) => ({
  cells, rowOf: new Map(cells.groups.map((group, row) => [whereKey(group.where), row])), ready: new Set(cells.questions),
});

/** While the server still predicts (`complete` false): the cells anew, into `data`; the questions that came to them. */
export async function moreCells(data) {
  const before = data.ready;
  Object.assign(data, indexed(await json("data/cells.json")));
  return [...data.ready].filter((id) => !before.has(id));
}

/** The culture map of `analyze`; null where it was not made. */
export const loadCultureMap = () => json("data/culture_map.json", null);

let world = null;
/** Countries as GeoJSON features, without Antarctica. */
export async function loadWorld() {
  if (!world) {
    const topology = await json("vendor/countries-50m.json");
    const all = topojson.feature(topology, topology.objects.countries).features;
    world = all.filter((feature) => feature.id !== "010");
  }
  return world;
}

/** One row of cells.json as an answer in the form of v1/predict; real shares only from min_cell answers on. */
export function cellAnswer(data, row, question) {
  const { cells, run } = data;
  const group = cells.groups[row];
  const at = (name) => cells[name]?.[question.id]?.[row] ?? null;
  const n = at("real_n") || 0;
  const enough = n >= run.min_cell;
  return {
    group: whereLabel(group.where), where: group.where, question: question.id, options: question.options,
    shares: at("predicted"), real: enough ? at("real") : null, real_n: n,
    low: enough ? at("low") : null, high: enough ? at("high") : null,
    pooled: cells.pooled?.[question.id] ?? null, own_average: at("own_average"), logistic: at("logistic"),
    group_status: group.status, question_status: question.status, error: at("error"), order_sensitivity: at("sensitivity"),
    n_people: group.n, notes: [], asked: !cells.real_n?.[question.id] || n > 0 || at("own_average") !== null,
  };
}

/** The row of cells.json that holds this group, if its figures are there for this question. */
export function cellRow(data, where, question) {
  if (!data.ready.has(question.id)) return undefined;
  const row = data.rowOf.get(whereKey(where));
  return row !== undefined && data.cells.predicted[question.id]?.[row] ? row : undefined;
}

const MOST_WAITS = 6;

async function post(path, body, signal, waits = 0) {
  let reply;
  try {
    reply = await fetch(path, { method: "POST", headers: { "Content-Type": "application/json", ...keyHeaders() }, body: JSON.stringify(body), signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem("The server does not answer. Is it still running?");
  }
  if (reply.ok) return reply;
  if (wantsKey(reply)) throw new Problem(KEY);
  const problem = await reply.json().catch(() => ({}));
  const wait = reply.headers.get("Retry-After");
  if (reply.status === 429 && wait && waits < MOST_WAITS) {
    await new Promise((resolve) => { setTimeout(resolve, 1000 * Math.min(30, Number(wait) || 1)); });
    return post(path, body, signal, waits + 1);
  }
  const text = [problem.title || `The server answered ${reply.status}`, problem.detail].filter(Boolean).join(": ");
  throw new Problem(wait ? `${text} (again in ${wait} s)` : text);
}

/** What the server is asked for; refused with a sentence where the page is plain files. */
export function needServer(data, what) {
  if (data.run.static)
    throw new Problem(`${what} needs the server: python -m cuma_jax.serve. This copy of the page is plain files.`);
}

const asked = new Map();
const MOST_AT_ONCE = 25;

/**
 * Answers of groups (filters) to one question: from the page's data where they are, else from the server, in pieces.
 * `question` is one of questions.json or `{text, options, ordered}`. `progress(done, all)` is called as pieces come.
 * `extra` are further fields of the request: `average_over: "profile"` for groups that nobody of the data is in.
 */
export async function answers(data, groups, question, progress = () => {}, extra = {}) {
  const out = groups.map((where) => {
    const row = question.id ? cellRow(data, where, question) : undefined;
    return row === undefined ? null : cellAnswer(data, row, question);
  });
  const sent = question.id || { text: question.text, options: question.options, ordered: question.ordered };
  const keys = groups.map((where) => JSON.stringify([whereKey(where), sent, extra]));
  const missing = d3.range(groups.length).filter((i) => !out[i] && !asked.has(keys[i]));
  if (missing.length) needServer(data, question.id ? "This group" : "A new question");
  for (let start = 0; start < missing.length; start += MOST_AT_ONCE) {
    const part = missing.slice(start, start + MOST_AT_ONCE);
    const body = { groups: part.map((i) => ({ where: groups[i] })), questions: [sent], ...extra };
    const reply = await (await post("v1/predict", body)).json();
    reply.answers.forEach((answer, i) => asked.set(keys[part[i]], { ...answer, group: whereLabel(groups[part[i]]), where: groups[part[i]] }));
    progress(Math.min(start + MOST_AT_ONCE, missing.length), missing.length);
  }
  return out.map((answer, i) => answer || guarded(data, asked.get(keys[i])));
}

/** A server's answer, with no real share below min_cell whatever came. */
function guarded(data, answer) {
  const enough = (answer.real_n || 0) >= data.run.min_cell;
  return { asked: true, ...answer, ...(enough ? {} : { real: null, low: null, high: null }) };
}

/** Mean gates of groups on a question, by layer and expert. */
export async function gates(data, groups, question) {
  needServer(data, "The experts' gates");
  const body = { groups: groups.map((where) => ({ where })), questions: [question.id] };
  return (await post("v1/gates", body)).json();
}

/** A chat reply, piece by piece, as an OpenAI client would ask for it. */
export async function* chat(data, body, signal) {
  needServer(data, "Chat");
  const reply = await post("v1/chat/completions", { ...body, stream: true }, signal);
  const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    const lines = (rest + (value || "")).split(/\r?\n/);
    rest = done ? "" : lines.pop();
    for (const line of lines) {
      if (!line.startsWith("data:")) continue;
      const text = line.slice(5).trim();
      if (text === "[DONE]") return;
      const piece = JSON.parse(text);
      if (piece.error || piece.detail) throw new Problem(piece.error?.message || piece.detail);
      const content = piece.choices?.[0]?.delta?.content;
      if (content) yield content;
    }
    if (done) return;
  }
}
