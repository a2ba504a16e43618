import csv
import io
import json
import pathlib
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from same import same_survey

from cuma_jax.config import DataConfig
from cuma_jax.runtime.errors import CumaError
from cuma_jax.surveys.sources.own.survey import build_survey, prepare, read_csv_survey
from cuma_jax.surveys.survey import Survey

ROOT = pathlib.Path(__file__).parents[3]
EXAMPLE = ROOT / "examples" / "my_survey"

YAML = """
name: tiny
answers: answers.csv
respondent: id
profile: {country: country}
weight: w
missing: ["NA"]
questions:
  tea: {text: "Tea or coffee?", options: {1: Tea, 2: Coffee}}
  rain: {text: "How do you like rain?", options: {1: A lot, 2: A little, 3: Not at all}}
"""
CSV = "id,country,w,tea,rain\na,Norland,1,1,3\nb,Estmark,3,2,NA\nc,Norland,2,,1\n"


def write(folder, yaml=YAML, **files):
    """Writes survey.yaml and files (`answers_csv="..."`), returns the YAML's path."""
    (folder / "survey.yaml").write_text(yaml, encoding="utf-8")
    for name, content in ({"answers_csv": CSV} | files).items():
        path = folder / name.replace("_", ".")
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return folder / "survey.yaml"


def test_a_small_survey_is_read_as_written(tmp_path):
    survey = read_csv_survey(write(tmp_path))
    assert survey.name == "tiny"
    assert survey.respondents["respondent_id"].tolist() == ["a", "b", "c"]
    assert survey.respondents["weight"].tolist() == [0.5, 1.5, 1.0]
    assert survey.respondents["country"].tolist() == ["Norland", "Estmark", "Norland"]
    answers = zip(survey.respondent_A.tolist(), survey.question_A.tolist(), survey.option_A.tolist(), strict=True)
    assert list(answers) == [(0, 0, 0), (0, 1, 2), (1, 0, 1), (2, 1, 0)]
    assert survey.skipped == {"tea: no answer": 1, "rain: no answer": 1}
    other = YAML.replace("name: tiny", "name: global_opinions")  # a name like any other: these are persons
    assert read_csv_survey(write(tmp_path, other)).persons


def test_the_example_is_the_same_wide_and_long():
    wide, long = read_csv_survey(EXAMPLE), read_csv_survey(EXAMPLE / "long" / "survey.yaml")
    same_survey(wide, long)
    assert wide.skipped == long.skipped
    assert len(wide.respondents) == 300
    assert {len(q.options) for q in wide.questions} == {2, 3, 4, 5, 10}


def test_the_example_is_what_its_script_makes(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLE))
    import make_survey

    make_survey.main(tmp_path)
    for name in ("answers.csv", "long/people.csv", "long/answers_long.csv"):
        assert (tmp_path / name).read_bytes() == (EXAMPLE / name).read_bytes()
    sys.modules.pop("make_survey")


@pytest.mark.parametrize("form", ["semicolon", "parquet", "jsonl", "latin-1", "utf-16", "quoted"])
def test_every_form_of_file_reads_the_same(tmp_path, form):
    text = CSV.replace("Norland", "Nörland")
    expected = read_csv_survey(write(tmp_path, answers_csv=text))
    frame, out = pd.read_csv(io.StringIO(text)), io.BytesIO()  # numbers with a gap are floats here: 1.0 is the code 1
    frame.to_parquet(out)
    name, yaml, data = {
        "semicolon": ("answers.csv", 'delimiter: ";"', text.replace(",", ";").encode()),
        "parquet": ("answers.parquet", "", out.getvalue()),
        "jsonl": ("answers.jsonl", "", frame.to_json(orient="records", lines=True).encode()),
        "quoted": ("answers.csv", "", text.replace("Nörland", '"Nörland "').encode() + b"\n\n,,,,\n"),
    }.get(form, ("answers.csv", f"encoding: {form}", text.encode(form) if form[0] in "lu" else b""))
    path = write(tmp_path, YAML.replace("answers.csv", name) + yaml)
    (tmp_path / name).write_bytes(data)
    same_survey(read_csv_survey(path), expected)


def test_texts_are_cleaned_and_yaml_words_stay_words(tmp_path):
    yaml = YAML.replace("Tea or coffee?", "<b>Tea</b> or&nbsp;coffee?").replace("1: Tea, 2: Coffee", "no: No, yes: Yes")
    csv_text = CSV.replace("1,1,3", "1,no,3").replace("3,2,NA", "3,yes,NA").replace("Estmark", "E<i>st</i>mark")
    survey = read_csv_survey(write(tmp_path, yaml, answers_csv=csv_text))
    assert survey.questions[0].text == "Tea or coffee?"
    assert survey.questions[0].codes == ("no", "yes")
    assert survey.respondents["country"].tolist() == ["Norland", "Estmark", "Norland"]


def test_codes_of_a_profile_field_become_texts(tmp_path):
    expected = read_csv_survey(write(tmp_path))
    yaml = YAML.replace("{country: country}", "{Country: {column: country, values: {1: Norland, 2: Estmark}}}")
    coded = write(tmp_path, yaml, answers_csv=CSV.replace("Norland", "1.0").replace("Estmark", "2"))
    same_survey(read_csv_survey(coded), expected)


def test_skip_leaves_an_unknown_code_out_and_counts_it(tmp_path):
    path = write(tmp_path, answers_csv=CSV.replace("1,1,3", "1,1,4"))
    with pytest.raises(CumaError, match=r"answers.csv, line 2, column 'rain': .* no option with code '4'; its codes"):
        read_csv_survey(path)
    survey = read_csv_survey(path, "skip")
    assert survey.skipped["rain: unknown code"] == 1
    assert survey.num_answers == 3


def test_weight_zero_and_no_answers_leave_a_person_out(tmp_path):
    survey = read_csv_survey(write(tmp_path, answers_csv=CSV.replace("a,Norland,1", "a,Norland,0") + "d,Norland,1,,\n"))
    assert survey.respondents["respondent_id"].tolist() == ["b", "c"]
    assert survey.skipped["respondents with weight 0"] == survey.skipped["respondents without any answer"] == 1


def test_the_key_changes_with_the_content_of_any_file_and_nothing_else(tmp_path):
    path = write(tmp_path)
    key_of = lambda path: prepare(DataConfig(source="csv", path=str(path)))[0]  # noqa: E731
    key = key_of(path)
    (tmp_path / "answers.csv").touch()
    assert key_of(path) == key == key_of(tmp_path) == key_of(tmp_path / "answers.csv")
    write(tmp_path, answers_csv=CSV.replace("Norland", "Nordland"))
    assert key_of(path) != key
    write(tmp_path, YAML.replace("Tea or", "Tea, or"))
    assert key_of(path) != key


CODES = ("1", "2", "3")


@st.composite
def surveys(draw):
    """(rows as dictionaries, question ids): small, with missing answers and awkward texts."""
    texts = st.sampled_from(["Norland", "a, b", 'say "x"', "two\nlines", "é", "", "NA", "1.0", " blank "])
    questions = [f"q{i}" for i in range(draw(st.integers(1, 3)))]
    rows = []
    for n in range(draw(st.integers(1, 6))):
        row = {"id": f"p{n}", "country": draw(texts), "w": draw(st.sampled_from(["1", "0.5", "2", "1e2"]))}
        row |= {q: draw(st.sampled_from([*CODES, "2.0", "", "NA", " 3"])) for q in questions}
        rows.append(row)
    return rows, questions


def table(rows, columns):
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def slow_twin(rows, questions):
    """Cell by cell: ids, relative weights, countries, and answers as (id, question, option)."""
    clean = lambda text: " ".join(text.split())  # noqa: E731
    answers, people = [], []
    for row in rows:
        found = []
        for question in questions:
            code = row[question].strip().removesuffix(".0")
            if code not in ("", "NA"):
                found.append((row["id"], question, CODES.index(code)))
        if found:
            country = clean(row["country"])
            people.append((row["id"], float(row["w"]), {"": None, "NA": None, "1.0": "1"}.get(country, country)))
            answers += found
    return people, answers


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(surveys())
def test_wide_equals_long_equals_the_slow_twin(tmp_path, drawn):
    rows, questions = drawn
    people, answers = slow_twin(rows, questions)
    entries = {q: {"text": f"Question {q}?", "options": {c: f"Option {c}" for c in CODES}} for q in questions}
    head = {"name": "t", "respondent": "id", "profile": ["country"], "weight": "w", "missing": ["NA"]}
    head["questions"] = entries
    long_rows = [{"id": row["id"], "item": q, "value": row[q]} for row in rows for q in questions]
    merged = [row | {"item": q, "value": row[q]} for row in rows for q in reversed(questions)]
    (tmp_path / "wide.csv").write_text(table(rows, list(rows[0])), encoding="utf-8")
    (tmp_path / "long.csv").write_text(table(long_rows, ["id", "item", "value"]), encoding="utf-8")
    (tmp_path / "merged.csv").write_text(table(merged, ["item", "id", "value", "country", "w"]), encoding="utf-8")
    long = {"layout": "long", "question": "item", "answer": "value"}
    forms = (
        {"answers": "wide.csv"},
        {"answers": "long.csv", "respondents": "wide.csv"} | long,
        {"answers": "merged.csv"} | long,
    )
    found: list[Survey] = []
    for n, form in enumerate(forms):
        path = tmp_path / f"{n}.yaml"
        path.write_text(json.dumps(head | form), encoding="utf-8")  # JSON is YAML
        if not answers:
            with pytest.raises(CumaError, match="no respondent has an answer"):
                read_csv_survey(path)
            continue
        found.append(read_csv_survey(path))
    for survey in found:
        same_survey(survey, found[0])
        assert survey.skipped == found[0].skipped
        ids = survey.respondents["respondent_id"].tolist()
        names = [q.id for q in survey.questions]
        triples = zip(survey.respondent_A, survey.question_A, survey.option_A, strict=True)
        assert [(ids[r], names[q], int(o)) for r, q, o in triples] == answers
        mean = sum(weight for _, weight, _ in people) / len(people)
        assert ids == [id_ for id_, _, _ in people]
        np.testing.assert_allclose(survey.respondents["weight"], [weight / mean for _, weight, _ in people])
        countries = survey.respondents["country"].astype(object)
        assert [None if pd.isna(c) else c for c in countries] == [country for _, _, country in people]


def reads_or_complains(path):
    """A valid Survey or a CumaError, and the check says the same."""
    survey, problems = build_survey(path)
    if problems.errors:
        assert survey is None
        with pytest.raises(CumaError):
            read_csv_survey(path)
    else:
        same_survey(read_csv_survey(path), survey)


JUNK = [
    *(b",", b"\n", b'"', b"\r", b"\xff", b"\x00", b";", b"\t", b"id", b"9", b"-1", b"nan", b"inf"),
    b"a,Norland,1,1,3\n",
]
YAML_JUNK = [b":", b"\n", b"{", b"}", b"- ", b"&a ", b"*a", b"'", b"  ", b"null", b"[", b"]", b"layout: long\n", b"!x "]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.floats(0, 1), st.integers(0, 5), st.sampled_from(JUNK)), max_size=4),
    st.lists(st.tuples(st.floats(0, 1), st.integers(0, 5), st.sampled_from(YAML_JUNK)), max_size=2),
    st.booleans(),
)
def test_mutated_files_are_a_survey_or_an_error_of_ours(tmp_path, csv_edits, yaml_edits, long):
    yaml, data = YAML.encode(), CSV.encode()
    if long:
        yaml += b"layout: long\nquestion: item\nanswer: value\n"
        data = b"id,country,w,item,value\na,Norland,1,tea,1\na,Norland,1,rain,3\nb,Estmark,3,tea,2\n"
    edited = []
    for content, edits in ((yaml, yaml_edits), (data, csv_edits)):
        for place, length, piece in edits:
            at = int(place * len(content))
            content = content[:at] + piece + content[at + length :]
        edited.append(content)
    path = write(tmp_path, answers_csv=edited[1])
    path.write_bytes(edited[0])
    reads_or_complains(path)


@pytest.mark.parametrize("content", [b"", b"\x00\xff\xfe" * 40, b"PAR1" + bytes(range(256)) + b"PAR1", b"\x1f\x8b" * 9])
def test_files_that_are_no_text_at_all_are_errors_of_ours(tmp_path, content):
    for name in ("answers.csv", "answers.parquet", "answers.csv.gz"):
        path = write(tmp_path, yaml=YAML.replace("answers.csv", name))
        (tmp_path / name).write_bytes(content)
        with pytest.raises(CumaError):
            read_csv_survey(path)
    path.write_bytes(content or b"\x00")
    with pytest.raises(CumaError):
        read_csv_survey(path)
