import datetime

import openpyxl
import pandas as pd
import pytest

from cuma_jax.runtime.errors import CumaError
from cuma_jax.tables.problems import Problems, Strict
from cuma_jax.tables.read import read_table
from cuma_jax.tables.text_columns import read_columns

ENGINES = {".xlsx": "openpyxl", ".ods": "odf"}


@pytest.mark.parametrize("ending", [".xlsx", ".ods"])
def test_a_sheet_is_the_table_that_its_csv_is(tmp_path, ending):
    frame = pd.DataFrame({"id": [1, 2, 3], "q 1": [1.0, None, 2.5], "s": ["NA", " b ", None]})
    frame.to_excel(tmp_path / f"a{ending}", index=False, engine=ENGINES[ending])
    table = read_table(tmp_path / f"a{ending}")
    assert table.to_pydict() == {"id": ["1", "2", "3"], "q 1": ["1", None, "2.5"], "s": ["NA", "b", None]}
    found = read_columns(tmp_path / f"a{ending}", {"q 1": ""}, "", "utf-8", Strict())
    assert [found.columns["q 1"].values[v] for v in found.columns["q 1"].code_N] == ["1", "2.5"]
    assert found.row_N.tolist() == [0, 2]


def test_the_first_sheet_that_holds_something_is_read_and_the_others_are_told(tmp_path):
    book = openpyxl.Workbook()
    for name in ("data", "notes"):
        sheet = book.create_sheet(name)
        sheet.append(["id\u00a0", "day", "flag"])
        sheet.append([7.0, datetime.datetime(2020, 1, 2), True])
    book.save(tmp_path / "a.xlsx")
    read = read_columns(tmp_path / "a.xlsx", {"id": "", "day": ""}, "", "utf-8", problems := Problems())
    assert {name: c.values[0] for name, c in read.columns.items()} == {"id": "7", "day": "2020-01-02"}
    assert [(p.severity, p.message) for p in problems] == [
        ("warning", "only its first sheet, 'data', is read; there are 'notes'")
    ]


@pytest.mark.parametrize("ending", [".xlsx", ".ods"])
def test_a_sheet_that_is_empty_or_damaged_is_one_error(tmp_path, ending):
    path = tmp_path / f"a{ending}"
    pd.DataFrame().to_excel(path, index=False, engine=ENGINES[ending])
    with pytest.raises(CumaError, match="the file is empty"):
        read_table(path)
    pd.DataFrame({"a": range(1000)}).to_excel(path, index=False, engine=ENGINES[ending])
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(CumaError, match=rf"a\{ending}: cannot be read as a spreadsheet .* save the sheet as csv"):
        read_table(path)
