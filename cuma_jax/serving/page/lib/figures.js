// Numbers and their words: shares, distances, what the run knows of its own error.

const SPLITS = {
  unseen_respondent: "people it never saw",
  unseen_country: "countries it never saw",
  unseen_question: "questions it never saw",
  unseen_annotator: "people it never saw",
  validation: "the people kept for validation",
  train: "the people it was trained on",
};

/** The name of a split in words. */
export const splitName = (split) =>
  SPLITS[split] || split.replace(/^unseen_(.+)$/, "$1 it never saw").replaceAll("_", " ");

export const isNumber = (x) => typeof x === "number" && Number.isFinite(x);

/** 0.4137 as "41%". */
export const percent = (share, digits = 0) => (isNumber(share) ? `${(100 * share).toFixed(digits)}%` : "–");

/** A distance as "0.041". */
export const decimal = (x, digits = 3) => (isNumber(x) ? x.toFixed(digits) : "–");

export const whole = (n) => (isNumber(n) ? n.toLocaleString("en") : "–");

/** Sum of the shares of the chosen options; null where there are none. */
export const shareOf = (shares, chosen) =>
  shares ? chosen.reduce((sum, option) => sum + (shares[option] || 0), 0) : null;

/** How far two distributions are apart: earth mover's distance on a scale, else total variation; 0 to 1. */
export function distance(p, q, ordered) {
  if (!p || !q) return null;
  let gap = 0;
  let total = 0;
  p.forEach((share, i) => {
    gap = ordered ? gap + share - q[i] : share - q[i];
    total += Math.abs(gap);
  });
  return ordered ? total / Math.max(1, p.length - 1) : total / 2;
}

/** The word for `distance`, for captions. */
export const distanceName = (ordered) => (ordered ? "earth mover’s distance, 0 to 1" : "total variation, 0 to 1");

/** Which of the run's measured errors speaks for this kind of question and group. */
export function errorFor(run, questionStatus, groupStatus) {
  const errors = run.errors || {};
  if (questionStatus !== "in training") return { split: "unseen_question", ...errors.unseen_question };
  if (groupStatus !== "in training") return { split: "unseen_country", ...errors.unseen_country };
  const split = errors.unseen_respondent ? "unseen_respondent" : Object.keys(errors)[0];
  return split ? { split, ...errors[split] } : {};
}

/** What is measured of the kind of group and question that an answer is of. */
export const answerError = (run, answer) =>
  run.errors?.[answer.error_split] || (isNumber(answer.error) || answer.error?.emd ? answer.error : errorFor(run, answer.question_status, answer.group_status));

/** "off by 4.1 points an option (EMD 0.041, 95% 0.035 to 0.047)"; empty where nothing was measured. */
export function errorText(error) {
  if (isNumber(error)) return `distance ${decimal(error)}`;
  if (!error) return "";
  const interval = isNumber(error.low) && isNumber(error.high) ? `, 95% ${decimal(error.low)} to ${decimal(error.high)}` : "";
  const emd = isNumber(error.emd) ? `distance ${decimal(error.emd)}${interval}` : "";
  if (!isNumber(error.points)) return emd;
  return `off by ${error.points.toFixed(1)} points an option${emd ? ` (${emd})` : ""}`;
}

/** The sentence of the strip: what is known of the error, split by split. */
export function knownError(run) {
  const parts = [];
  for (const split of ["unseen_respondent", "unseen_country", "unseen_question"]) {
    const error = run.errors?.[split];
    if (!error) continue;
    const worse = isNumber(error.emd) && isNumber(error.pooled) && error.emd >= error.pooled;
    const off = isNumber(error.points) ? `${error.points.toFixed(1)} points an option` : `distance ${decimal(error.emd)}`;
    parts.push(`${off} on ${splitName(split)}${worse ? " (no better than everybody’s average)" : ""}`);
  }
  if (!parts.length) return "Averages of groups, never what one person thinks. This run has no measured error.";
  return `Averages of groups, never what one person thinks. Measured error: ${parts.join("; ")}.`;
}

/** The options a map counts before anybody chooses: the upper half of a scale, else the one that varies most. */
export function usualOptions(question, rows) {
  const size = question.options.length;
  if (question.ordered) return d3.range(Math.ceil(size / 2), size);
  const spread = (option) => d3.deviation(rows, (shares) => shares[option]) || 0;
  return [rows.length ? d3.greatestIndex(d3.range(size), (x, y) => spread(x) - spread(y)) : 0];
}

/** A long text cut to `length` characters. */
export const short = (text, length = 60) => (text.length > length ? `${text.slice(0, length - 1).trimEnd()}…` : text);
