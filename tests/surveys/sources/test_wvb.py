"""WorldValuesBench's generated tables, from an invented checkout of the same shape as the real one."""

import pytest
from made_up_wvb import REPEATED, VALUES, answers_of, assert_is, make_checkout

from cuma_jax.config import DataConfig
from cuma_jax.runtime.errors import CumaError
from cuma_jax.surveys.load import load_survey
from cuma_jax.surveys.sources.wvs import wvb


def table(folder, split="train", kind="value"):
    return folder / "WorldValuesBench" / split / f"{split}_{kind}_qa.tsv"


def test_the_survey_equals_the_tables_read_one_cell_at_a_time(tmp_path):
    folder, _, made = make_checkout(tmp_path)
    survey = wvb.read_wvb(folder)
    assert_is(survey, made)
    skipped = {reason: n for reason, n in survey.skipped.items() if "code that the codebook lacks" not in reason}
    assert skipped == {"no answer recorded": len(made) * len(VALUES) - survey.num_answers}
    assert (survey.respondents["weight"] == 1).all()


def test_rows_in_another_order_and_the_repeated_interview_change_nothing(tmp_path):
    folder, _, _ = make_checkout(tmp_path)

    def change(rows):
        rows.reverse()
        rows.append({**rows[0], "D_INTERVIEW": REPEATED})

    other, _, _ = make_checkout(tmp_path / "other", change=change)
    a, b = wvb.read_wvb(folder), wvb.read_wvb(other)
    assert answers_of(a) == answers_of(b)
    assert a.respondents.equals(b.respondents)
    assert b.skipped.pop(f"interview {REPEATED}, which stands for several people") == 1
    assert a.skipped == b.skipped


def test_missing_files_say_what_was_looked_for_and_where_to_get_it(tmp_path):
    with pytest.raises(CumaError, match=r"question_metadata\.json not found; looked for .*github\.com/Demon702"):
        wvb.read_wvb(tmp_path / "nowhere")
    folder, _, _ = make_checkout(tmp_path)
    table(folder, "valid").unlink()
    with pytest.raises(CumaError, match=r"valid_value_qa\.tsv not found.*data_preparation\.py"):
        load_survey(DataConfig(source="wvb", wvb=str(folder)), str(tmp_path / "cache"))


def test_answers_off_the_scale_may_be_from_before_the_adjustment(tmp_path):
    def change(rows):
        [row for row in rows if row["split"] == "train"][1]["Q1"] = "7"

    folder, _, _ = make_checkout(tmp_path, change=change)
    with pytest.raises(CumaError, match=r"line 3 .*: column Q1 has '7', which is off .* \(is it from before"):
        wvb.read_wvb(folder)
    skipped = wvb.read_wvb(folder, bad_rows="skip").skipped
    assert [n for reason, n in skipped.items() if reason.startswith("Q1: ")] == [1]


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        ("value", lambda t: t.replace("Q56", "Q5six", 1), r"train_value_qa\.tsv lacks column Q56"),
        ("value", lambda t: t[: t.rindex("\n", 0, -1) + 1], r"do not list the same interviews \(1 are in one only"),
        ("demographic", lambda t: t.replace("\n90", "\n91", 1), r"do not list the same interviews \(2 are in one only"),
    ],
)
def test_tables_that_do_not_fit_are_one_error(tmp_path, kind, change, message):
    folder, _, _ = make_checkout(tmp_path)
    file = table(folder, kind=kind)
    file.write_bytes(change(file.read_bytes().decode()).encode())
    with pytest.raises(CumaError, match=message):
        wvb.read_wvb(folder)


def test_one_person_in_two_splits_is_an_error(tmp_path):
    def change(rows):
        twice = next(row for row in rows if row["split"] == "train")
        rows.append({**twice, "split": "test"})

    folder, _, made = make_checkout(tmp_path, change=change)
    with pytest.raises(CumaError, match=r"1 interview ids \(D_INTERVIEW\) occur more than once, e\.g\. \d+ 2 times"):
        wvb.read_wvb(folder)
    survey = wvb.read_wvb(folder, bad_rows="skip")
    assert survey.skipped["row of an interview id that occurs more than once"] == 2
    assert len(survey.respondents) == len(made) - 2


def test_a_raw_file_that_lacks_an_interview_is_an_error(tmp_path):
    folder, raw, _ = make_checkout(tmp_path)
    raw.write_text(raw.read_text().replace("901000392", "901999999"))
    with pytest.raises(CumaError, match=r"raw\.csv lacks 1 of the 57 interviews of the tables, e\.g\. 901000392"):
        wvb.read_wvb(folder, raw)
