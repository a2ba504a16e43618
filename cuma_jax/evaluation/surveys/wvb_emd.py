"""Distances as published work computes them, so that numbers can be compared.

`question_distances` gives what the evaluation program of WorldValuesBench (github.com/Demon702/WorldValuesBench,
evaluation/evaluate.py) gives for a file of predictions, to rounding. Its rules, found by running it:

- The true answers of a question are those of the participants whom the file lists under it, from the full table; a
  participant listed twice counts twice.
- A score that is no number is left out; that participant's true answer is not.
- A score with decimals is cut towards zero.
- Scores outside of the scale are used as they are, so a distance may exceed 1.
- The scale is `answer_scale_min` to `answer_scale_max` of question_metadata.json, put on 0 to 1.

Legend: N rows of predictions, Q questions, V distinct scores.
"""

import dataclasses
import pathlib
import sys

import numpy as np
import pandas as pd

from cuma_jax.runtime.errors import CumaError
from cuma_jax.runtime.json_files import read_object
from cuma_jax.surveys.sources.wvs.codebook import INTERVIEW, find_file
from cuma_jax.tables.code_table import MISSING, CodeTable

COLUMNS = ("QUESTION_ID", "PARTICIPANT_ID", "SCORE")
"""Columns of a file of predictions; others are ignored."""
THRESHOLDS = np.arange(0.0, 0.6 + 1e-8, 0.05)
"""Distances at which `threshold_auc` asks for the share of questions."""
_MAKE = "run dataset_construction/data_preparation.py of the checkout on the World Values Survey wave 7 csv"
_LARGEST = 2**53


def multiset_emd(true_N: np.ndarray, predicted_M: np.ndarray, low: float, high: float) -> float:
    """Earth mover's distance between two lists of whole-number scores, on a scale from `low` to `high` put on 0 to 1.

    The two lists may differ in length; neither is empty.
    """
    value_V, place = np.unique(np.concatenate([true_N, predicted_M]), return_inverse=True)
    true_V = np.bincount(place[: len(true_N)], minlength=len(value_V)) / len(true_N)
    predicted_V = np.bincount(place[len(true_N) :], minlength=len(value_V)) / len(predicted_M)
    return float(np.abs(np.cumsum(true_V - predicted_V))[:-1] @ np.diff(value_V) / (high - low))


def threshold_auc(emd_Q: np.ndarray) -> float:
    """Area (trapezoids) under the percentage of questions at or below each of `THRESHOLDS`, 0 to 60."""
    share_T = np.array([100.0 * np.mean(emd_Q <= threshold) for threshold in THRESHOLDS])
    return float(np.trapezoid(share_T, THRESHOLDS))


@dataclasses.dataclass(frozen=True)
class ScoreFile:
    """A file of predicted scores: question id (text), interview (int64) and score (NaN: no number) of each row."""

    path: pathlib.Path
    question_N: np.ndarray
    participant_N: np.ndarray
    score_N: np.ndarray


def read_score_file(path: pathlib.Path) -> ScoreFile:
    """Reads a tsv (or csv: the separator is what the header has) with the columns `COLUMNS`.

    A `CumaError` for no such file, no rows, a column that is missing, or a row without question or participant.
    """
    try:
        with path.open(encoding="utf-8-sig") as file:
            separator = "\t" if "\t" in file.readline() else ","
        frame = pd.read_csv(path, sep=separator, dtype={"QUESTION_ID": "string"})
    except FileNotFoundError:
        raise CumaError(f"{path} does not exist; give a file with the columns {', '.join(COLUMNS)}") from None
    except pd.errors.EmptyDataError:
        raise CumaError(f"{path} is empty; it needs the columns {', '.join(COLUMNS)}") from None
    except (pd.errors.ParserError, UnicodeDecodeError, OSError) as error:
        raise CumaError(f"cannot read {path} as a table ({error})") from None
    if missing := [c for c in COLUMNS if c not in frame.columns]:
        raise CumaError(
            f"{path} lacks the columns {', '.join(missing)}; it has {', '.join(map(str, frame.columns))}. Needed are "
            f"{', '.join(COLUMNS)}, separated by tabs or commas"
        )
    if frame.empty:
        raise CumaError(f"{path} has a header but no rows")
    participant_N = pd.to_numeric(frame["PARTICIPANT_ID"], errors="coerce").to_numpy(np.float64)
    whole_N = np.isfinite(participant_N) & (participant_N == np.trunc(participant_N))
    for column, bad_N in (("QUESTION_ID", frame["QUESTION_ID"].isna().to_numpy()), ("PARTICIPANT_ID", ~whole_N)):
        if bad_N.any():
            first = int(np.argmax(bad_N))
            raise CumaError(
                f"{path}, row {first + 1} (of {int(bad_N.sum())} such rows): {column} is {frame[column].iloc[first]}; "
                "every row needs a question and the number of an interview"
            )
    score_N = pd.to_numeric(frame["SCORE"], errors="coerce").to_numpy(np.float64)
    if (np.abs(score_N[~np.isnan(score_N)]) > _LARGEST).any():
        raise CumaError(f"{path}: SCORE has infinite or absurdly large numbers; scores are codes of the answer scale")
    return ScoreFile(path, frame["QUESTION_ID"].to_numpy(object), participant_N.astype(np.int64), score_N)


def question_distances(predictions: ScoreFile, wvb: pathlib.Path) -> dict[str, float]:
    """EMD by question, in the order in which the file names them; what is left out is reported on stderr.

    `wvb` is a checkout of WorldValuesBench with its generated tables. A `CumaError` where it has no tables, a question
    or participant is unknown, a participant has no answer to the question, or a question no score that is a number.
    """
    questions = list(dict.fromkeys(predictions.question_N.tolist()))
    scales = _scales(questions, predictions.path, wvb)
    interview_R, answers = _answers(questions, np.unique(predictions.participant_N), wvb)
    found: dict[str, float] = {}
    outside = 0
    for question in questions:
        rows = predictions.question_N == question
        true_N = _true_answers(interview_R, answers[question], predictions.participant_N[rows], question, wvb)
        score_N = predictions.score_N[rows]
        score_N = np.trunc(score_N[~np.isnan(score_N)])
        if not len(score_N):
            raise CumaError(f"{predictions.path}: question {question} has no SCORE that is a number")
        low, high = scales[question]
        outside += int(((score_N < low) | (score_N > high)).sum())
        found[question] = multiset_emd(true_N.astype(np.float64), score_N, low, high)
    _report(predictions, outside)
    return found


def _report(predictions: ScoreFile, outside: int) -> None:
    """Says on stderr what the rules at the top did to these predictions."""
    score_N = predictions.score_N
    pairs = pd.DataFrame({"q": predictions.question_N, "p": predictions.participant_N})
    for count, what in (
        (int(np.isnan(score_N).sum()), "scores are no numbers: left out (the true answers of these rows are not)"),
        (int((score_N != np.trunc(score_N))[~np.isnan(score_N)].sum()), "scores have decimals: cut towards zero"),
        (outside, "scores are outside of their question's scale: used as they are"),
        (int(pairs.duplicated().sum()), "rows repeat a question and participant: counted again, with the true answer"),
    ):
        if count:
            print(f"{predictions.path}: {count:,} {what}", file=sys.stderr)


def _scales(questions: list[str], path: pathlib.Path, wvb: pathlib.Path) -> dict[str, tuple[int, int]]:
    if not wvb.is_dir():
        raise CumaError(f"{wvb} is not a folder; give your checkout of WorldValuesBench (--wvb)")
    folders = ("WorldValuesBench", "dataset_construction", ".")
    file = find_file(wvb, folders, "question_metadata.json", "give a checkout of WorldValuesBench (--wvb)")
    metadata, scales = read_object(file, "fetch the checkout again (--wvb)"), {}
    for question in questions:
        entry = metadata.get(question)
        if not isinstance(entry, dict):
            entry = {}
        low, high = entry.get("answer_scale_min"), entry.get("answer_scale_max")
        if entry.get("use_case") != "value" or not (isinstance(low, int) and isinstance(high, int) and low < high):
            raise CumaError(f"{path}: {file} has no value question {question!r} with an answer scale")
        scales[question] = (low, high)
    return scales


def _answers(
    questions: list[str], participants: np.ndarray, wvb: pathlib.Path
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Interviews of the wanted participants, sorted, and their answers (MISSING: none) to each question."""
    table = CodeTable(find_file(wvb, ("WorldValuesBench/full", "full"), "full_value_qa.tsv", _MAKE), "\t", _MAKE)
    interviews, parts = [], {q: list[np.ndarray]() for q in questions}
    for start, block in table.blocks([INTERVIEW, *questions]):
        row_N = np.arange(start, start + len(block[INTERVIEW]))
        interview_N = table.numbers(INTERVIEW, block[INTERVIEW], row_N)
        wanted_N = np.isin(interview_N, participants)
        interviews.append(interview_N[wanted_N])
        for q in questions:
            parts[q].append(table.numbers(q, block[q], row_N, interview_N)[wanted_N])
    interview_R = np.concatenate(interviews)
    order_R = np.argsort(interview_R, kind="stable")
    return interview_R[order_R], {q: np.concatenate(parts.pop(q))[order_R] for q in questions}


def _true_answers(
    interview_R: np.ndarray, answer_R: np.ndarray, participant_N: np.ndarray, question: str, wvb: pathlib.Path
) -> np.ndarray:
    """The answers of the participants; of an interview that the table has twice, both."""
    first_N, last_N = (np.searchsorted(interview_R, participant_N, side) for side in ("left", "right"))
    unknown_N = first_N == last_N
    if unknown_N.any():
        raise CumaError(
            f"{int(unknown_N.sum()):,} participants of question {question} are not in the full table of {wvb}, "
            f"e.g. {participant_N[unknown_N][0]}; are these tables made from the csv that the predictions are of?"
        )
    count_N = last_N - first_N
    within = np.arange(count_N.sum()) - np.repeat(np.cumsum(count_N) - count_N, count_N)
    true = answer_R[np.repeat(first_N, count_N) + within]
    if (true == MISSING).any():
        whose = np.repeat(participant_N, count_N)[true == MISSING]
        raise CumaError(
            f"{len(whose):,} participants of question {question} have no answer to it in the full table of {wvb}, "
            f"e.g. {whose[0]}; take these rows out of the predictions"
        )
    return true
