// Starts the page: loads the run, keeps address and view together, changes the theme.
import { h, announce, isDark, notice } from "./lib/dom.js";
import { cellAnswer, cellRow, loadRun, moreCells } from "./lib/data.js";
import { distance, knownError, usualOptions } from "./lib/figures.js";
import { knownAnswers } from "./lib/countries.js";
import { askForKey } from "./lib/key.js";
import { fromHash, toHash, VIEWS } from "./lib/state.js";
import * as compare from "./views/compare.js";
import * as map from "./views/map.js";
import * as ask from "./views/ask.js";
import * as experts from "./views/experts.js";
import * as chat from "./views/chat.js";
import * as trust from "./views/trust.js";

const views = { compare, map, ask, experts, chat, trust };
const FEW = 7; // options of a question that is easily read
const ASKING = ["compare", "map", "ask", "experts"];
const main = document.getElementById("main");

theme();
let again = start;
document.addEventListener("wants-key", () => askForKey(() => again()));
start();

async function start() {
  let data;
  try {
    data = await loadRun();
  } catch (error) {
    main.replaceChildren(h("div", { class: "card" }, notice("wrong", `The run cannot be read: ${error.message}`)));
    return;
  }
  let usual = opening(data);
  const state = {};
  const read = () => {
    const next = fromHash(location.hash);
    if (!data.byId.has(next.q)) next.q = usual.q;
    for (const letter of ["a", "b"]) next[letter] = next[letter] ? knownFields(data, next[letter]) : usual[letter];
    for (const key of Object.keys(state)) delete state[key];
    Object.assign(state, next);
  };
  const context = makeContext(data, state);
  again = context.redraw;
  furniture(data);
  read();
  draw(context, false);
  addEventListener("hashchange", () => {
    const before = state.view;
    read();
    draw(context, before !== state.view);
  });
  follow(data, (fresh) => {
    const isNew = !location.hash && fresh.length > 0 && fresh.length === data.ready.size;
    if (isNew) {
      usual = opening(data);
      read();
    }
    for (const node of document.querySelectorAll("[data-progress]")) node.textContent = context.progress();
    if (isNew || (fresh.includes(state.q) && ["compare", "map"].includes(state.view))) context.redraw();
  });
  document.getElementById("theme").addEventListener("click", () => draw(context, false));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => draw(context, false));
  document.getElementById("skip").addEventListener("click", (event) => { event.preventDefault(); main.focus(); });
}

/** While the server predicts in the background: asks for its cells now and then, and tells which questions are new. */
function follow(data, onfresh, seconds = 3) {
  if (data.cells.complete !== false || data.run.static || data.run.can_predict === false) return;
  setTimeout(async () => {
    try {
      onfresh(await moreCells(data));
    } catch { /* the server is away; what is here stays */ }
    follow(data, onfresh, Math.min(60, seconds * 1.5));
  }, 1000 * seconds);
}

/** What a view gets: the data, the state with `set`, and helpers that know both. */
function makeContext(data, state) {
  const turns = {};
  let resized = null;
  let width = innerWidth;
  addEventListener("resize", () => {
    if (innerWidth === width) return;
    width = innerWidth;
    clearTimeout(resized?.timer);
    if (resized) resized.timer = setTimeout(resized.call, 150);
  });
  const context = {
    data, state,
    set(patch) {
      Object.assign(state, patch);
      history.replaceState(null, "", toHash(state));
      links(state);
    },
    question: () => data.byId.get(state.q),
    progress: () => `Figures by country are being made: ${data.ready.size} of ${data.questions.length} questions.`,
    chosen() {
      const question = data.byId.get(state.q);
      const kept = state.opt.filter((i) => i < question.options.length);
      if (kept.length) return kept;
      return usualOptions(question, [...knownAnswers(data, question).values()].map((answer) => answer.shares));
    },
    /** A turn of something slow: the function it gives is false once a later turn began. */
    turn(name) {
      const mine = (turns[name] = (turns[name] || 0) + 1);
      return () => turns[name] === mine;
    },
    onresize(call) { resized = call && { call, timer: 0 }; },
    /** The view anew; the control that had the focus gets it back. */
    redraw() {
      const kept = document.activeElement?.dataset.keep;
      const wasInside = main.contains(document.activeElement);
      draw(context, false);
      const control = kept && main.querySelector(`[data-keep="${CSS.escape(kept)}"]`);
      control?.closest("details")?.setAttribute("open", "");
      if (wasInside) (control || main).focus({ preventScroll: Boolean(control) });
    },
    forget() { for (const name of Object.keys(turns)) turns[name] += 1; resized = null; },
  };
  return context;
}

function draw(context, isNew) {
  const { state, data } = context;
  context.forget();
  const view = views[state.view];
  document.title = `${view.title} · ${data.run.name} · cuma explorer`;
  links(state);
  const root = h("div", { class: `view ${state.view}` });
  main.replaceChildren(root);
  try {
    if (ASKING.includes(state.view) && (data.run.can_predict === false || !data.questions.length))
      root.append(h("div", { class: "card" }, h("h1", { tabindex: "-1" }, view.title), notice("note", "This run was trained on conversations; it has no questions with options to predict. See Chat and Trust.")));
    else view.render(root, context);
  } catch (error) {
    root.append(h("div", { class: "card" }, notice("wrong", `This view cannot be drawn: ${error.message}`)));
    console.error(error);
  }
  if (!isNew) return;
  root.querySelector("h1")?.focus({ preventScroll: true });
  scrollTo(0, 0);
  announce(`${view.title}.`);
}

/** The links of the navigation: a view keeps question and groups. */
function links(state) {
  document.getElementById("nav").replaceChildren(...VIEWS.map((name) =>
    h("li", {}, h("a", { href: toHash({ ...state, view: name, mode: name === state.view ? state.mode : "" }), "aria-current": name === state.view ? "page" : null }, views[name].title))));
}

function furniture({ run }) {
  document.getElementById("run").textContent = [`run ${run.name}`, run.base, run.data.name].filter(Boolean).join(" · ");
  document.getElementById("known-error").textContent = knownError(run);
  const made = [run.version ? `cuma_jax ${run.version}` : "", run.created].filter(Boolean).join(", ");
  document.getElementById("foot").replaceChildren(h("p", {}, run.warnings.join(" ")),
    h("p", {}, `Data: ${(run.data.citation || run.data.name).replace(/\.?$/, ".")} ${made ? `Made with ${made}.` : ""}`));
}

/** Only fields that the run has; their values are for the server to judge. */
const knownFields = (data, where) =>
  Object.fromEntries(Object.entries(where).filter(([field]) => data.fields.some(({ name }) => name === field)));

/** The opening picture: a question that most countries answered, and two large countries that differ most in it. */
function opening(data) {
  const ready = data.questions.filter((question) => data.ready.has(question.id));
  const best = d3.greatest(ready, (question) => worth(data, question)) || data.questions[0];
  const field = data.fields.find(({ name }) => name === data.run.country_field) || data.fields[0];
  const groups = d3.sort(field?.values || [], ({ n }) => -n).map(({ value }) => ({ where: { [field.name]: [value] } }));
  const answered = groups.map(({ where }) => ({ where, row: best && cellRow(data, where, best) })).filter(({ row }) => row !== undefined)
    .map(({ where, row }) => ({ where, answer: cellAnswer(data, row, best) })).filter(({ answer }) => answer.group_status === "in training")
    .sort((x, y) => y.answer.real_n - x.answer.real_n).slice(0, 30);
  const pairs = d3.cross(answered, answered).filter(([x, y]) => x !== y && x.answer.real && y.answer.real);
  const apart = ([x, y]) => distance(x.answer.real, y.answer.real, best.ordered);
  const [a, b] = d3.greatest(pairs, apart) || [groups[0], groups[1] || groups[0]];
  return { q: best?.id || "", a: a?.where || {}, b: b?.where || {} };
}

/** How much a question's map shows: in how many countries it was answered, and how far they are apart. */
function worth(data, question) {
  const real = [...knownAnswers(data, question).values()].map((answer) => answer.real).filter(Boolean);
  const spread = d3.sum(question.options, (_, i) => d3.deviation(real, (shares) => shares[i]) || 0);
  return real.length * (0.05 + spread) * (question.options.length > FEW ? 0.3 : 1) * (question.status === "in training" ? 1 : 0.5);
}

function theme() {
  const button = document.getElementById("theme");
  const name = () => { button.textContent = isDark() ? "Light" : "Dark"; button.setAttribute("aria-label", `${button.textContent} colours`); };
  try {
    const kept = localStorage.getItem("cuma-theme");
    if (kept === "dark" || kept === "light") document.documentElement.dataset.theme = kept;
  } catch { /* a browser that keeps nothing follows the system */ }
  name();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", name);
  button.addEventListener("click", () => {
    const next = isDark() ? "light" : "dark";
    document.documentElement.dataset.theme = next;
    try { localStorage.setItem("cuma-theme", next); } catch { /* as above */ }
    name();
  });
}
