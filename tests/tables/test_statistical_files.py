"""Files of SPSS, Stata and SAS are the table that a csv of their codes would be, and say what the codes mean."""

import types as types_module

import pandas as pd
import pyreadstat
import pytest

from cuma_jax.runtime.errors import CumaError
from cuma_jax.tables import statistical_files
from cuma_jax.tables.problems import Problems, Strict
from cuma_jax.tables.read import read_table
from cuma_jax.tables.statistical_files import variable_of
from cuma_jax.tables.text_columns import read_columns, read_header

FRAME = pd.DataFrame(
    {
        "id": [12345678901.0, 2.0, 3.0, 4.0],
        "q1": [1.0, 2.0, None, 9.0],
        "w": [0.5, 1.25, 1.0, 2.0],
        "s": ["a", " \u00fc", "", "d"],
    }
)
LABELS = {"id": "Respondent", "q1": "How much do you trust the council?"}
VALUES = {"q1": {1.0: "A lot", 2.0: " Not at all ", 9.0: "Don't know"}}
TABLE = {
    "id": ["12345678901", "2", "3", "4"],
    "q1": ["1", "2", "", "9"],
    "w": ["0.5", "1.25", "1", "2"],
    "s": ["a", "\u00fc", "", "d"],
}


def write(folder, ending, frame=FRAME):
    path = folder / f"table{ending}"
    if ending in (".sav", ".zsav"):
        missing = {"q1": [{"lo": 8, "hi": 9}]}
        options = {"variable_value_labels": VALUES, "missing_ranges": missing, "compress": ending == ".zsav"}
        pyreadstat.write_sav(frame, path, column_labels=LABELS, **options)
    elif ending == ".dta":
        values = {"q1": {int(code): text for code, text in VALUES["q1"].items()}}
        pyreadstat.write_dta(frame, path, column_labels=LABELS, variable_value_labels=values)
    elif ending == ".por":  # capitals, no letters outside ASCII
        pyreadstat.write_por(
            frame.replace({"s": {" \u00fc": "u"}}), path, column_labels={k.upper(): v for k, v in LABELS.items()}
        )
    else:
        pyreadstat.write_xport(frame, path, column_labels=LABELS)
    return path


def texts(table):
    return {name: [c.values[v] for v in c.code_N] for name, c in table.columns.items()}


@pytest.mark.parametrize("ending", [".sav", ".zsav", ".dta", ".por", ".xpt"])
def test_every_program_s_file_is_the_same_table_of_codes(tmp_path, ending, monkeypatch):
    path = write(tmp_path, ending)
    names, _, _ = read_header(path, Strict())
    table = read_columns(path, dict.fromkeys(names, ""), "", "utf-8", Strict())
    found = {name.lower(): column for name, column in texts(table).items()}
    if ending == ".por":
        found["s"][1] = "\u00fc"
    assert found == TABLE
    assert {n.lower(): v.label for n, v in table.variables.items()} == {"id": "Respondent", "w": "", "s": ""} | {
        "q1": LABELS["q1"]
    }
    # In pieces of a few rows it is the same.
    monkeypatch.setattr(statistical_files, "_CELLS", 8)
    again = read_columns(path, dict.fromkeys(names, ""), "", "utf-8", Strict())
    assert texts(again) == texts(table)


@pytest.mark.parametrize("ending", [".sav", ".dta"])
def test_labels_of_codes_and_what_is_declared_missing_come_with_the_column(tmp_path, ending):
    table = read_table(write(tmp_path, ending), ("q1", "w"))
    assert table.column_names == ["q1", "w"]
    assert table["q1"].to_pylist() == [1, 2, None, 9]
    said = variable_of(table.schema.field("q1"))
    assert said.values == {"1": "A lot", "2": "Not at all", "9": "Don't know"}
    assert [said.declares_missing(code) for code in ("2", "8", "9", "x")] == [False] + [ending == ".sav"] * 2 + [False]


def test_missing_values_with_a_letter_are_codes(tmp_path):
    frame = pd.DataFrame({"q1": [1, 2, "a", None]})
    labels = {"q1": {1: "Yes", 2: "No", "a": "Refused"}}
    pyreadstat.write_dta(frame, tmp_path / "a.dta", variable_value_labels=labels, missing_user_values={"q1": ["a"]})
    table = read_table(tmp_path / "a.dta")
    said = variable_of(table.schema.field("q1"))
    assert table["q1"].to_pylist() == ["1", "2", ".a", None]
    assert said.values == {"1": "Yes", "2": "No", ".a": "Refused"}
    assert said.declares_missing(".a")
    assert not said.declares_missing("1")


def test_dates_are_told_from_numbers(tmp_path):
    frame = pd.DataFrame({"day": pd.to_datetime(["2020-01-01", "2020-01-02"]).date, "n": [1.0, 2.0]})
    for ending, write_file in ((".sav", pyreadstat.write_sav), (".dta", pyreadstat.write_dta)):
        write_file(frame, tmp_path / f"a{ending}")
        table = read_table(tmp_path / f"a{ending}")
        assert [variable_of(field).kind for field in table.schema] == ["date", ""], ending


@pytest.mark.parametrize("ending", [".sav", ".zsav", ".dta", ".por", ".xpt"])
def test_a_file_that_is_cut_short_or_empty_is_one_error(tmp_path, ending):
    frame = pd.concat([FRAME] * 200)
    path = write(tmp_path, ending, frame)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    if ending != ".xpt":  # its header does not say how many rows there are
        with pytest.raises(CumaError, match=rf"table\{ending}: cannot be read \(.*is it damaged or cut off"):
            read_table(path)
    path.write_bytes(data[:60])
    with pytest.raises(CumaError, match=r"cannot be read"):
        read_table(path)
    path.write_bytes(b"")
    with pytest.raises(CumaError, match="the file is empty"):
        read_table(path)


def test_a_column_that_is_not_there_is_named_with_what_there_is(tmp_path):
    with pytest.raises(CumaError, match="lacks column q2; it has id, q1, w, s"):
        read_table(write(tmp_path, ".sav"), ("q2",))
    read_columns(write(tmp_path, ".sav"), {"q2": "question", "id": "id"}, "", "utf-8", problems := Problems())
    assert [(p.column, p.hint) for p in problems] == [("q2", "there are: 'id', 'q1', 'w', 's'")]


def test_labels_of_a_sas_catalog_beside_the_file_are_those_of_its_columns(tmp_path, monkeypatch):
    # Nothing here writes SAS's own files: what pyreadstat says of two of them stands in their place.
    head = {"column_names": ["q1"], "column_names_to_labels": {"q1": "Trust"}, "variable_value_labels": {}}
    types = {"original_variable_types": {"q1": "TRUSTF"}, "readstat_variable_types": {"q1": "double"}}
    meta = types_module.SimpleNamespace(**head, **types, missing_ranges={}, variable_to_label={"q1": "TRUSTF"})
    catalog = types_module.SimpleNamespace(value_labels={"TRUSTF": {1.0: "A lot", 2.0: "Not at all", "A": "Refused"}})
    read = {"q1": [1.0, "A", 2.0]}
    monkeypatch.setattr(pyreadstat, "read_sas7bdat", lambda *args, metadataonly=False, **given: (read, meta))
    monkeypatch.setattr(pyreadstat, "read_sas7bcat", lambda path: (None, catalog))
    path = tmp_path / "a.sas7bdat"
    path.write_bytes(b"\0" * 12 + b"\xc2\xea\x81\x60" + b"\0" * 100)
    assert variable_of(read_table(path).schema.field("q1")).values == {}
    path.with_suffix(".sas7bcat").write_bytes(b"x")
    table = read_table(path)
    assert table["q1"].to_pylist() == ["1", ".A", "2"]
    said = variable_of(table.schema.field("q1"))
    assert said.values == {"1": "A lot", "2": "Not at all", ".A": "Refused"}
    assert said.declares_missing(".A")


def test_texts_that_are_not_in_the_encoding_that_the_file_states_are_read_with_a_warning(tmp_path):
    path = tmp_path / "a.sav"
    pyreadstat.write_sav(pd.DataFrame({"s": ["xx", "f\u00fcr"]}), path, column_labels={"s": "Gef\u00fchl"})
    path.write_bytes(path.read_bytes().replace("\u00fc".encode(), b"\xfc "))
    table = read_columns(path, {"s": ""}, "", "utf-8", problems := Problems())
    assert table.columns["s"].values[:2] == ["xx", "f\u00fc r"]
    assert table.variables["s"].label == "Gef\u00fc hl"
    assert [(p.severity, p.hint) for p in problems] == [
        ("warning", "they are read as Windows-1252: look at accents")
    ]  # fmt: skip
