"""GlobalOpinionQA: the shares of the file are the weighted cells of the survey, and nothing in it is ever run."""

import ast
import collections
import csv
import math
import pathlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cuma_jax.config import DataConfig
from cuma_jax.runtime.errors import CumaError
from cuma_jax.surveys.groups import build_groups
from cuma_jax.surveys.sources import global_opinions as go
from cuma_jax.surveys.splits import split_answers


def selections(**countries):
    return str(collections.defaultdict(list, {k.replace("_", " "): v for k, v in countries.items()}))


ROWS = [
    ("Is tea good?", selections(Ardenia=[0.5, 0.3, 0.2], Belmora=[0.1, 0.9, 0.0]),
     "['Yes', 'No', \"Don't know\"]", "GAS"),
    ("How happy, 1 to 3?", selections(Ardenia=[0.25, 0.25, 0.5]), "[1.0, 2, 3]", "WVS"),
    ("Trains?", str(collections.defaultdict(list, {"China (Non-national sample)": [0.52, 0.5]})),
     "['More', 'Fewer']", "GAS"),
]  # fmt: skip


def write(path: pathlib.Path, rows) -> pathlib.Path:
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(go.COLUMNS)
        writer.writerows(rows)
    return path


def read(tmp_path, *rows):
    return go.read_global_opinions(str(write(tmp_path / "global_opinions.csv", rows or ROWS)))


def cell(survey, country, question):
    """The weighted distribution of a cell, the slow way."""
    total = collections.Counter()
    for r, q, o in zip(survey.respondent_A, survey.question_A, survey.option_A, strict=True):
        if survey.questions[q].text == question and survey.respondents["country"][r] == country:
            total[survey.questions[q].options[o]] += survey.respondents["weight"][r]
    return dict(total)


def test_the_cells_are_the_shares_of_the_file_without_missing_answers(tmp_path):
    survey = read(tmp_path)
    assert cell(survey, "Ardenia", "Is tea good?") == pytest.approx({"Yes": 0.625, "No": 0.375})
    assert cell(survey, "Belmora", "Is tea good?") == pytest.approx({"Yes": 0.1, "No": 0.9})
    assert cell(survey, "Ardenia", "How happy, 1 to 3?") == pytest.approx({"1": 0.25, "2": 0.25, "3": 0.5})
    assert cell(survey, "China", "Trains?") == pytest.approx({"More": 0.52 / 1.02, "Fewer": 0.5 / 1.02})
    assert survey.skipped == {go.MISSING: 1}
    assert [q.ordered for q in survey.questions] == [False, True, False]
    assert survey.respondents["sample"].dropna().unique().tolist() == ["Non-national sample"]
    assert survey.profile_fields == ("country",)


def test_question_ids_do_not_depend_on_the_other_rows(tmp_path):
    ids = {q.text: q.id for q in read(tmp_path).questions}
    assert read(tmp_path, ROWS[1]).questions[0].id == ids["How happy, 1 to 3?"]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (("", selections(A=[0.5, 0.5]), "['Yes', 'No']", "GAS"), go.NO_TEXT),
        (("Q?", selections(A=[0.5, 0.5]), "", "GAS"), go.UNREADABLE),
        (("Q?", "defaultdict(<class 'list'>, {'A': [0.5, 0.5]", "['Yes', 'No']", "GAS"), go.UNREADABLE),
        (("Q?", "__import__('os').system('true')", "['Yes', 'No']", "GAS"), go.UNREADABLE),
        (("Q?", "[0.5, 0.5]", "['Yes', 'No']", "GAS"), go.UNREADABLE),
        (("Q?", selections(A=[0.5, 0.5]), "['Yes', 'Refused']", "GAS"), go.TOO_FEW),
        (("Q?", selections(A=[1.0]), "['Yes', 'No']", "GAS"), go.LENGTH),
        (("Q?", selections(A=[math.nan, 0.5]), "['Yes', 'No']", "GAS"), go.NOT_SHARES),
        (("Q?", selections(A=[math.inf, 0.5]), "['Yes', 'No']", "GAS"), go.NOT_SHARES),
        (("Q?", selections(A=[-0.5, 1.5]), "['Yes', 'No']", "GAS"), go.NOT_SHARES),
        (("Q?", selections(A=["0.5", 0.5]), "['Yes', 'No']", "GAS"), go.NOT_SHARES),
        (("Q?", selections(A=[0.5, 0.3]), "['Yes', 'No']", "GAS"), go.SUM),
        (("Q?", selections(A=[0.0, 0.0]), "['Yes', 'No']", "GAS"), go.SUM),
        (("Q?", selections(A=[0.0, 0.0, 1.0]), "['Yes', 'No', 'DK/Refused']", "GAS"), go.ONLY_MISSING),
        (("Trains?", ROWS[2][1], ROWS[2][2], "GAS"), go.REPEATED_COUNTRY),
    ],
)
def test_what_cannot_be_used_is_left_out_and_counted(tmp_path, row, reason):
    survey = read(tmp_path, *ROWS, row)
    assert survey.skipped[reason] == 1
    assert survey.num_answers == read(tmp_path).num_answers
    assert len(survey.questions) == 3


@pytest.mark.parametrize(
    ("options", "reason"), [("['Yes', 'yes', 'No']", go.REPEATED_OPTION), ("['Yes', 'No', nan]", go.MISSING)]
)
def test_options_that_repeat_are_added_up_and_an_option_nan_is_no_answer(tmp_path, options, reason):
    survey = read(tmp_path, ("Q?", selections(A=[0.25, 0.25, 0.5]), options, "GAS"))
    assert cell(survey, "A", "Q?") == pytest.approx({"Yes": 0.5, "No": 0.5})
    assert survey.skipped == {reason: 1}


def test_no_answer_is_told_from_an_answer():
    missing = ["DK/Refused", "Not sure", "Cannot say", "Declined to answer", "Don't -9:-2", "Don't", "Total N="]
    answers = ["No", "None", "Neither", "Dark", "Decline in trade", "Totally"]
    assert [option for option in [*missing, *answers] if go.is_no_answer(option)] == missing


@settings(max_examples=60, deadline=None)
@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
                    | st.text(max_size=5), lambda inner: st.lists(inner, max_size=3)
                    | st.dictionaries(st.text(max_size=3), inner, max_size=3), max_leaves=6))  # fmt: skip
def test_literals_are_parsed_as_python_would(value):
    assert go.parse_literal(repr(value)) == ast.literal_eval(repr(value))
    assert go.parse_literal(f"defaultdict(<class 'list'>, {{'a': {value!r}}})") == {"a": value}


@pytest.mark.parametrize("text", ["open('x')", "a.b", "lambda: 1", "f'{1}'", "1 +", "(" * 500, "\0", "'\\ud800' + x"])
def test_what_is_no_literal_is_refused(text):
    with pytest.raises(ValueError):  # noqa: PT011
        go.parse_literal(text)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    which=st.integers(0, 2),
    column=st.integers(0, 3),
    place=st.floats(0, 1),
    new=st.text(st.characters(blacklist_categories=("Cs",)), max_size=5),
    dropped=st.integers(0, 8),
)
def test_changed_cells_give_a_survey_or_one_error(tmp_path, which, column, place, new, dropped):
    row = list(ROWS[which])
    at = int(place * len(row[column]))
    row[column] = row[column][:at] + new + row[column][at + dropped :]
    try:
        survey = read(tmp_path, row)
    except CumaError:
        return
    assert np.all(survey.respondents["weight"] > 0)


def test_a_file_without_its_columns_or_without_anything_of_use_is_one_message(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("question,selection,options\n1,2,3\n")
    with pytest.raises(CumaError, match=r"lacks columns selections, source; did you mean 'selection'\?"):
        go.read_global_opinions(str(path))
    with pytest.raises(CumaError, match="no question can be used"):
        read(tmp_path, ("Q?", "x", "y", "GAS"))


def test_the_newest_commit_is_asked_for_where_none_is_pinned(monkeypatch):
    asked = []
    monkeypatch.setattr(go, "newest_revision", lambda name: asked.append(name) or "abc")
    keys = [go.prepare(DataConfig(source="global_opinions", revision=commit))[0] for commit in ("", "abc", "def")]
    assert keys[0] == keys[1] != keys[2]
    assert asked == [go.HUB_NAME]


def test_totals_and_codes_below_zero_are_no_options_and_leave_the_others_whole(tmp_path):
    """A total among them may be one share more, or their sum; what is left is scaled to 1."""
    survey = read(
        tmp_path,
        ("A?", selections(Ardenia=[0.6, 0.4, 1.0]), "['Yes', 'No', 'Total N=']", "WVS"),
        ("B?", selections(Ardenia=[0.3, 0.2, 0.5]), "['Yes', 'No', 'Total N=']", "WVS"),
        ("C?", selections(Ardenia=[0.4, 0.4, 0.2]), "['Yes', 'No', \"Don't -9:-2\"]", "WVS"),
    )
    assert [q.options for q in survey.questions] == [("Yes", "No")] * 3
    assert [cell(survey, "Ardenia", q)["Yes"] for q in ("A?", "B?", "C?")] == pytest.approx([0.6, 0.6, 0.5])
    assert survey.skipped == {go.MISSING: 3}


def test_numbers_with_words_at_the_ends_are_a_scale_in_its_order(tmp_path):
    shares = [0.1, 0.2, 0.3, 0.4]
    survey = read(
        tmp_path,
        ("A?", selections(Ardenia=shares), "['Never justifiable', '2', '3', 'Always justifiable']", "WVS"),
        ("B?", selections(Ardenia=shares), "['3', 'Always justifiable', 'Never justifiable', '2']", "WVS"),
        ("C?", selections(Ardenia=shares), "['3', '1', '4', '2']", "WVS"),
        ("D?", selections(Ardenia=shares), "['Red', '2', '3', 'Other', ]", "WVS"),
        ("E?", selections(Ardenia=shares), "['3', 'Red', 'Blue', '2']", "WVS"),
    )
    right = ("Never justifiable", "2", "3", "Always justifiable")
    assert [q.options for q in survey.questions[:3]] == [right, right, ("1", "2", "3", "4")]
    assert [q.ordered for q in survey.questions] == [True, True, True, False, False]
    assert survey.questions[1].codes == ("2", "3", "0", "1")  # places in the source
    assert cell(survey, "Ardenia", "B?") == pytest.approx(dict(zip(right, [0.3, 0.4, 0.1, 0.2], strict=True)))


def test_a_country_that_two_surveys_spell_in_two_ways_is_one_and_on_one_side_of_a_split(tmp_path):
    spellings = [("Britain", "Great Britain"), ("S. Korea", "South Korea"), ("Czech Rep.", "Czechia"),
                 ("Taiwan", "Taiwan ROC"), ("Palest. ter.", "Palestine"), ("Northern Ireland", "Chile")]  # fmt: skip
    gas, wvs = (str(collections.defaultdict(list, {pair[i]: [0.4, 0.6] for pair in spellings})) for i in (0, 1))
    survey = read(tmp_path, ("A?", gas, "['x', 'y']", "GAS"), ("B?", wvs, "['x', 'y']", "WVS"))
    assert set(survey.respondents["country"]) == {name for pair in spellings for name in pair}, "profiles keep them"
    assert not survey.persons
    groups = build_groups(survey, ("country",))
    assert set(groups.names) == {
        "United Kingdom", "South Korea", "Czechia", "Taiwan", "Palestine", "Northern Ireland", "Chile"
    }  # fmt: skip
    country_A = survey.respondents["country"].astype(str).to_numpy()[survey.respondent_A]
    for seed in range(6):
        data = DataConfig(source="global_opinions", unseen_respondents=0.0, validation_respondents=0.0,
                          unseen_countries=0.4, split_seed=seed)  # fmt: skip
        split_A = split_answers(survey, data)
        sides = [{int(s) for s in split_A[np.isin(country_A, pair)]} for pair in spellings[:5]]
        assert all(len(side) == 1 for side in sides)
    alone = build_groups(read(tmp_path, ("A?", gas, "['x', 'y']", "GAS")), ("country",))
    assert set(alone.names) == {p[0] for p in spellings}, "the only spelling stays as it is"
