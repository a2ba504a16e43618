// Which question: a list by source with a filter, and the options that a map counts.
import { h, labelled, newId } from "./dom.js";
import { short } from "./figures.js";

const MANY = 12;

/** A select of the run's questions, with a filter where they are many. */
export function questionPicker(data, chosen, onchange) {
  const select = h("select", { id: newId("question"), dataset: { keep: "question" } });
  const fill = (word) => {
    const found = data.questions.filter((question) =>
      question.id === chosen || `${question.text} ${question.id} ${question.source}`.toLowerCase().includes(word.toLowerCase()));
    const groups = d3.group(found, (question) => question.source || "Questions");
    select.replaceChildren(...[...groups].map(([source, questions]) => h("optgroup", { label: source },
      questions.map((question) => h("option", { value: question.id, selected: question.id === chosen },
        `${short(question.text, 90)}${question.status === "held out" ? " (held out)" : ""}`)))));
  };
  fill("");
  select.addEventListener("change", () => onchange(select.value));
  const filter = data.questions.length > MANY
    ? labelled("Find", h("input", { type: "search", placeholder: "a word of the question", oninput: (event) => fill(event.target.value) }))
    : null;
  return h("div", { class: "question-picker" }, filter, labelled("Question", select));
}

/** Check boxes, one an option: the map shows the share of those that are on. At least one stays on. */
export function optionChips(question, chosen, onchange) {
  const boxes = question.options.map((option, i) => h("input", { type: "checkbox", checked: chosen.includes(i), onchange: (event) => {
    const now = d3.range(boxes.length).filter((j) => boxes[j].checked);
    if (!now.length) event.target.checked = true;
    else onchange(now);
  } }));
  return h("fieldset", { class: "chips" }, h("legend", {}, "Counted answers"),
    question.options.map((option, i) => h("label", { class: "chip" }, boxes[i], option)));
}

/** The chosen options in words: "strict limits or prohibit". */
export const optionWords = (question, chosen) => chosen.map((i) => `“${question.options[i]}”`).join(" or ");
