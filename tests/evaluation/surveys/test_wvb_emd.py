"""WorldValuesBench's figure: against its definition written out with pandas and scipy, and against its own program."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from scipy.stats import wasserstein_distance

from cuma_jax.commands import evaluate
from cuma_jax.evaluation.surveys.wvb_emd import multiset_emd, question_distances, read_score_file, threshold_auc
from cuma_jax.runtime.errors import CumaError

REAL = pathlib.Path(os.environ.get("CUMA_JAX_TEST_WVB", "no checkout"))
TABLE = "WorldValuesBench/full/full_value_qa.tsv"
SCALES = {"Q1": (1, 4), "Q94": (0, 2), "Q250": (1, 10)}


@pytest.fixture
def checkout(tmp_path):
    folder = tmp_path / "wvb" / "WorldValuesBench"
    (folder / "full").mkdir(parents=True)
    metadata = {q: {"use_case": "value", "answer_scale_min": a, "answer_scale_max": b} for q, (a, b) in SCALES.items()}
    metadata["Q260"] = {"use_case": "demographic", "answer_scale_min": "", "answer_scale_max": ""}
    (folder / "question_metadata.json").write_text(json.dumps(metadata))
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"D_INTERVIEW": np.append(rng.permutation(np.arange(7_000_001, 7_000_040)), 7_000_001)})
    for q, (low, high) in SCALES.items():
        table[q] = rng.integers(low, high + 1, len(table)).astype(float)
    table.loc[table["D_INTERVIEW"] == 7_000_009, "Q250"] = np.nan
    table.to_csv(folder / "full" / "full_value_qa.tsv", sep="\t", index=False)
    return tmp_path / "wvb"


def write(path, rows, sep="\t"):
    pd.DataFrame(rows, columns=["QUESTION_ID", "PARTICIPANT_ID", "SCORE"]).to_csv(path, sep=sep, index=False)
    return path


def awkward(seed, people):
    """Shuffled rows: good, missing, wordy, fractional, negative and far scores, and repeated rows."""
    rng = np.random.default_rng(seed)
    scores = [1, 2, 2, 3, "", "none of these", 2.9, -1.7, 25, 0]
    rows = [(q, int(p), scores[rng.integers(len(scores))]) for q in SCALES for p in rng.choice(people, 25)]
    return [rows[i] for i in rng.permutation(len(rows))] + rows[:3]


def slow(rows, wvb):
    """The definition, a row at a time: true answers of the listed people against the scores that are numbers."""
    table = pd.read_csv(wvb / TABLE, sep="\t")
    metadata = json.loads((wvb / "WorldValuesBench" / "question_metadata.json").read_text())
    found = {}
    for question in dict.fromkeys(q for q, _, _ in rows):
        low, high = (metadata[question][f"answer_scale_{end}"] for end in ("min", "max"))
        true, predicted = [], []
        for _, person, score in (row for row in rows if row[0] == question):
            true += [(v - low) / (high - low) for v in table.loc[table["D_INTERVIEW"] == person, question]]
            if isinstance(score, (int, float)):
                predicted.append((int(score) - low) / (high - low))
        found[question] = wasserstein_distance(true, predicted)
    return found


def test_distances_equal_the_definition_whatever_is_in_the_file(checkout, tmp_path, capsys):
    rows = awkward(1, [p for p in range(7_000_001, 7_000_040) if p != 7_000_009])
    for sep in ("\t", ","):
        found = question_distances(read_score_file(write(tmp_path / "p.tsv", rows, sep)), checkout)
        expected = slow(rows, checkout)
        assert list(found) == list(expected)
        np.testing.assert_allclose(list(found.values()), list(expected.values()), rtol=0, atol=1e-12)
    assert max(found.values()) > 1, "scores outside of the scale were used"
    said = capsys.readouterr().err
    for reason in ("are no numbers", "have decimals", "outside of their question's scale", "repeat a question"):
        assert reason in said


def test_good_predictions_say_nothing_and_two_answers_are_enough(checkout, tmp_path, capsys):
    rows = [("Q1", 7_000_002, 1), ("Q1", 7_000_003, 4)]
    found = question_distances(read_score_file(write(tmp_path / "p.tsv", rows)), checkout)
    assert found == pytest.approx(slow(rows, checkout), abs=1e-12)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("text", "said"), [("[]", "holds a list"), ('{"Q1": 3}', "no value question 'Q1'")])
def test_scales_of_a_damaged_checkout_are_one_message(text, said, checkout, tmp_path):
    (checkout / "WorldValuesBench" / "question_metadata.json").write_text(text)
    with pytest.raises(CumaError, match=rf"question_metadata.json.*{said}"):
        question_distances(read_score_file(write(tmp_path / "p.tsv", [("Q1", 7_000_002, 1)])), checkout)


def test_emd_of_multisets_and_the_area_under_the_thresholds():
    rng = np.random.default_rng(0)
    for _ in range(20):
        a, b = rng.integers(-3, 9, rng.integers(1, 30)), rng.integers(0, 5, rng.integers(1, 30))
        assert multiset_emd(a, b, 1, 5) == pytest.approx(wasserstein_distance(a / 4, b / 4), abs=1e-12)
    assert threshold_auc(np.zeros(3)) == pytest.approx(60)
    assert threshold_auc(np.ones(3)) == 0
    assert threshold_auc(np.array([0.3, 1.0])) == pytest.approx(50 * 0.3 + 50 * 0.05 / 2)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([("Q7", 7_000_002, 1)], "no value question 'Q7'"),
        ([("Q260", 7_000_002, 1)], "no value question 'Q260'"),
        ([("Q1", 12, 1)], "not in the full table.*e.g. 12"),
        ([("Q250", 7_000_009, 1)], "have no answer to it.*e.g. 7000009"),
        ([("Q1", 7_000_002, "maybe")], "question Q1 has no SCORE that is a number"),
        ([("Q1", 7_000_002, "inf")], "infinite"),
        ([("Q1", "x", 1), ("Q1", 7_000_002, 1)], r"row 1 \(of 1 such rows\): PARTICIPANT_ID is x"),
        ([("Q1", 7_000_002, 1), ("", 7_000_002, 1)], "row 2 .*QUESTION_ID"),
        ([], "a header but no rows"),
    ],
)
def test_bad_predictions_are_one_message(checkout, tmp_path, rows, message):
    with pytest.raises(CumaError, match=message):
        question_distances(read_score_file(write(tmp_path / "p.tsv", rows)), checkout)


def test_bad_files_are_one_message(checkout, tmp_path):
    (tmp_path / "empty").write_text("")
    (tmp_path / "other").write_text("QUESTION_ID\tANSWER\nQ1\t1\n")
    bad = {"gone": "does not exist", "empty": "is empty", "other": "lacks the columns PARTICIPANT"}
    for name, message in bad.items():
        with pytest.raises(CumaError, match=message):
            read_score_file(tmp_path / name)
    predictions = read_score_file(write(tmp_path / "p.tsv", [("Q1", 7_000_002, 1)]))
    (checkout / TABLE).unlink()
    for wvb, message in ((checkout, "full_value_qa.tsv not found"), (tmp_path / "no", "not a folder")):
        with pytest.raises(CumaError, match=message):
            question_distances(predictions, wvb)


@pytest.mark.parametrize("flag", ["--paper-metrics", "--paper_metrics"])
def test_the_command_writes_the_distances(checkout, tmp_path, monkeypatch, capsys, refused, flag):
    rows = [("Q1", 7_000_002, 1), ("Q94", 7_000_003, 2)]
    path, out = write(tmp_path / "p.tsv", rows), tmp_path / "emd.json"

    def command(*args):
        monkeypatch.setattr(sys, "argv", ["evaluate", *map(str, args)])
        evaluate.main()
        return capsys.readouterr().out

    said = command(flag, path, "--source", "wvb", "--wvb", checkout, "--out", out)
    assert "2 questions, mean EMD" in said
    assert json.loads(out.read_text()) == pytest.approx(slow(rows, checkout), abs=1e-12)
    assert json.loads(command(f"{flag}={path}", "--wvb", checkout)) == json.loads(out.read_text())
    with pytest.raises(CumaError, match="needs --wvb"):
        command(flag, path)
    for args in (("--source", "wvs7"), ("--run", "x")):
        assert args[0] in refused(command, flag, path, "--wvb", checkout, *args)


@pytest.mark.skipif(
    not ((REAL / TABLE).is_file() and (REAL / "evaluation" / "evaluate.py").is_file()),
    reason="set CUMA_JAX_TEST_WVB to a WorldValuesBench checkout with its generated tables",
)
@pytest.mark.slow
def test_distances_equal_the_official_program(tmp_path):
    metadata = json.loads((REAL / "WorldValuesBench" / "question_metadata.json").read_text())
    questions = [q for q, entry in metadata.items() if entry["use_case"] == "value"][::20]
    table = pd.read_csv(REAL / TABLE, sep="\t", usecols=["D_INTERVIEW", *questions])
    rng = np.random.default_rng(0)
    rows = [
        (q, int(person), score)
        for q in questions
        for person, score in zip(
            rng.choice(table.loc[table[q].notna(), "D_INTERVIEW"], 40), rng.choice([1, 2, 3.5, "", -2], 40), strict=True
        )
    ]
    path, out = write(tmp_path / "p.tsv", rows), tmp_path / "official.json"
    command = [sys.executable, "evaluate.py", "--input-file", str(path), "--input-file-separator", "\t",
               "--output-file", str(out)]  # fmt: skip
    subprocess.run(command, cwd=REAL / "evaluation", check=True, capture_output=True)
    expected, found = json.loads(out.read_text()), question_distances(read_score_file(path), REAL)
    assert list(found) == list(expected)
    np.testing.assert_allclose(list(found.values()), list(expected.values()), rtol=0, atol=1e-12)
