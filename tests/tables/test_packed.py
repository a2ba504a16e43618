"""A file that is not what its name says is told from its first bytes, with what to do."""

import io
import time
import zipfile

import pandas as pd
import pytest

from cuma_jax.runtime.errors import CumaError
from cuma_jax.tables.problems import Problems
from cuma_jax.tables.read import read_table
from cuma_jax.tables.text_columns import read_columns

NAMES = ["a.csv", "a.tsv", "a.jsonl", "a.sav", "a.dta", "a.por", "a.xlsx", "a.ods", "a.parquet", "a.feather", "a.xpt",
         "a.sas7bdat"]  # fmt: skip


def zipped(**files):
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for name, text in files.items():
            archive.writestr(name.replace("__", "/"), text)
    return data.getvalue()


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
FOREIGN = {
    LFS: "a pointer of Git LFS, not the file itself; run `git lfs pull`",
    b"\n<!DOCTYPE html>\n<html><body>Sign in</body></html>": r"a web page \(HTML\).*sign in, and download",
    b"%PDF-1.7\n": "a PDF document",
    b"\x1c\0\0\0\0\0\0\0ENCRYPTEDSAV" + b"\0" * 60: "an SPSS file that asks for a password",
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 600: "an old Excel file .* or a workbook that asks for a password",
    b"Rar!\x1a\x07\x00": "a RAR archive",
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("data", FOREIGN, ids=["lfs", "html", "pdf", "encrypted", "xls", "rar"])
def test_what_the_first_bytes_tell_is_one_message_whatever_the_name(tmp_path, name, data):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(CumaError, match=rf"{name}: is {FOREIGN[data]}"):
        read_table(tmp_path / name)
    assert read_columns(tmp_path / name, {"id": ""}, "", "utf-8", problems := Problems()) is None
    assert len(problems) == 1


def test_a_table_under_another_format_s_name_is_to_be_renamed(tmp_path):
    frame = pd.DataFrame({"id": [1, 2]})
    frame.to_excel(tmp_path / "book.xlsx", index=False)
    frame.to_parquet(tmp_path / "table.parquet")
    cases = [
        ("a.csv", (tmp_path / "book.xlsx").read_bytes(), r"is an Excel workbook.*ends in \.xlsx"),
        ("a.csv", (tmp_path / "table.parquet").read_bytes(), r"is a Parquet file.*ends in \.parquet"),
        ("a.sav", b"<stata_dta><header>", r"is a Stata file.*ends in \.dta"),
        ("a.dta", b"$FL2@(#) SPSS DATA FILE", r"is an SPSS file.*ends in \.sav"),
        ("a.sav", zipped(a="x"), r"is a zip archive; unpack it, and name the \.sav file in it"),
        ("a.sav", b"id,q1\n1,2\n", "is not an SPSS file: it begins with 'id,q1"),
        ("a.dta", b"id,q1\n1,2\n", "is not a Stata file"),
        ("a.xlsx", b"id,q1\n1,2\n", "is not a spreadsheet: it begins with 'id,q1"),
        ("a.sav.gz", b"\x1f\x8b", r"a packed \.sav is not read: unpack it"),
    ]
    for name, data, message in cases:
        (tmp_path / name).write_bytes(data)
        with pytest.raises(CumaError, match=message):
            read_table(tmp_path / name)


def test_a_gigabyte_of_another_format_is_told_at_once(tmp_path):
    for name in ("a.sav", "a.csv", "a.xlsx"):
        with (tmp_path / name).open("wb") as file:
            file.write(b"<html>")
            file.truncate(1 << 30)
        start = time.perf_counter()
        with pytest.raises(CumaError, match="a web page"):
            read_table(tmp_path / name)
        assert time.perf_counter() - start < 5
        (tmp_path / name).unlink()


def test_columns_called_like_the_first_bytes_of_a_format_are_text(tmp_path):
    (tmp_path / "a.csv").write_text("PAR1,RDX3\n1,2\n")
    assert read_table(tmp_path / "a.csv").to_pydict() == {"PAR1": ["1"], "RDX3": ["2"]}
