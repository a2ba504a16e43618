"""What never ends, or unpacks without bound, is one message; what is packed otherwise than by gzip is read."""

import bz2
import gzip
import lzma
import os

import pyarrow as pa
import pyarrow.parquet
import pytest

from cuma_jax.runtime.errors import CumaError
from cuma_jax.tables import formats, packed
from cuma_jax.tables.delimited import MOST_COLUMNS
from cuma_jax.tables.encoding import spelled
from cuma_jax.tables.packed import given_path
from cuma_jax.tables.problems import Problems, Strict
from cuma_jax.tables.read import read_table
from cuma_jax.tables.text_columns import read_columns

TEXT = b"id,text\n1,a\n2,b\n"
PACK = {
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zst": lambda data: pa.compress(data, codec="zstd", asbytes=True),
}


@pytest.mark.parametrize("ending", PACK)
@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl"])
def test_whatever_a_text_table_is_packed_with_it_is_read_or_one_error(tmp_path, ending, kind):
    data = {
        "csv": TEXT,
        "tsv": TEXT.replace(b",", b"\t"),
        "jsonl": b'{"id": "1", "text": "a"}\n{"id": "2", "text": "b"}\n',
    }
    path = tmp_path / f"a.{kind}.{ending}"
    path.write_bytes(PACK[ending](data[kind]))
    assert read_table(path, ("text", "id")).to_pydict() == {"text": ["a", "b"], "id": ["1", "2"]}
    if kind != "jsonl":
        found = read_columns(path, {"text": "why"}, "", "utf-8", problems := Problems())
        assert (found.columns["text"].values[:2], list(problems)) == (["a", "b"], [])
    path.write_bytes(PACK[ending](data[kind] * 5000)[:-9])
    with pytest.raises(CumaError, match=rf"a\.{kind}\.{ending}: is cut short or damaged"):
        read_table(path)


@pytest.mark.parametrize("ending", PACK)
def test_a_file_that_unpacks_to_too_much_is_refused_before_it_fills_the_memory(tmp_path, ending, monkeypatch):
    monkeypatch.setattr(packed, "_FREE", 1 << 16)
    path = tmp_path / f"a.csv.{ending}"
    path.write_bytes(PACK[ending](b"id,text\n" + b"1,a\n" * (1 << 18)))
    with pytest.raises(CumaError, match=r"unpacks to more than [\d.]+ MB, 100 times its size"):
        read_table(path)
    assert read_columns(path, {"id": ""}, "", "utf-8", problems := Problems()) is None
    assert "100 times its size" in problems[0].message


def test_a_parquet_that_says_it_unpacks_to_more_than_the_memory_is_not_read(tmp_path, monkeypatch):
    path = tmp_path / "a.parquet"
    pa.parquet.write_table(pa.table({"id": ["x"] * 100_000, "few": pa.nulls(100_000, pa.string())}), path)
    assert path.stat().st_size < 5_000
    assert read_table(path, ("id",)).num_rows == 100_000
    monkeypatch.setattr(formats, "machine_bytes", lambda: 500_000)
    assert read_table(path, ("id",)).num_rows == 100_000
    with pytest.raises(CumaError, match=r"a\.parquet: says that it unpacks to 0\.0008 GB, and .* has 0\.0005 GB"):
        read_table(path)
    monkeypatch.setattr(formats, "machine_bytes", lambda: 300_000)
    assert read_columns(path, {"id": ""}, "", "utf-8", problems := Problems()) is None
    assert [p.severity for p in problems] == ["error"]


def test_pipes_devices_folders_and_files_of_the_system_are_told(tmp_path):
    os.mkfifo(tmp_path / "pipe.csv")
    os.symlink("loop.csv", tmp_path / "loop.csv")
    (tmp_path / "folder.csv").mkdir()
    device = "is a pipe or a device"
    for path, of_table, of_columns in (
        ("/dev/zero", device, device),
        (str(tmp_path / "pipe.csv"), device, device),
        (str(tmp_path / "folder.csv"), "holds no file that ends in", "it is a folder"),
        (str(tmp_path / "loop.csv"), "symbolic links", "symbolic links"),
        ("/proc/self/maps", "format is not read", "the file is empty"),
        ("~nobody-at-all/a.csv", "no such home folder", "no such home folder"),
        ("a" * 300 + ".csv", "name too long", "name too long"),
        ("a\0b.csv", "null byte", "null byte"),
    ):
        with pytest.raises(CumaError, match=f"(?i){of_table}"):
            read_table(path)
        with pytest.raises(CumaError, match=f"(?i){of_columns}"):
            read_columns(given_path(path), {"id": ""}, "", "utf-8", Strict())


def test_a_header_that_is_none_is_told_at_once(tmp_path):
    path = tmp_path / "a.csv"
    for data, message in (
        (b"," * MOST_COLUMNS, "names 20,001 columns; at most 20,000 are read"),
        (b'id,"text\n' + TEXT * 100_000, "is a quote .* opened in it and never closed"),
        (b"x" * (2 << 20), "is it a text with lines"),
    ):
        path.write_bytes(data)
        with pytest.raises(CumaError, match=message):
            read_table(path)


def test_names_are_spelled_in_one_way_however_they_are_padded(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes("\ufeff id ,\u200be\u0301t\u00e9\u00a0 n\n1,2\n".encode())
    assert read_table(path, ("id", "\u00e9t\u00e9 n")).num_rows == 1
    assert spelled(" e\u0301\u00a0\u200b b\u00ad ") == "\u00e9 b"
    assert spelled("\u0645\u06cc\u200c\u062e") == "\u0645\u06cc\u200c\u062e"  # a joiner is spelling


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            "id,a\n1,it\u2019s\n".encode("cp1252"),
            r"line 2: byte 0x92 .*iconv -f cp1252 .*reads \.\.\.1,it\u2019s\.\.\.",
        ),
        ("id,a\n1,\u65e5\u672c\n".encode("shift_jis"), "byte 0x93 .*save it as UTF-8 with the program"),
        ("id,a\n1,\u041f\u0440\u0438\u0432\u0435\u0442\n".encode("cp1251"), "byte 0xcf .*with the program"),
        ("id,a\n1,b\n".encode("utf-16"), "the file is UTF-16, not UTF-8; .*iconv -f utf-16 "),
        ("id,a\n1,b\n".encode("utf-16-le"), "the file is UTF-16-LE, not UTF-8"),
        ("id,a\n1,b\n".encode("utf-32"), "the file is UTF-32, not UTF-8"),
        (bytes(range(256)) * 9, "this is a binary file, and no text"),
        (b"id;a\n1;b\n", "separated by semicolons, not by commas"),
    ],
)
def test_the_advice_for_another_encoding_or_delimiter_is_right(tmp_path, data, message):
    path = tmp_path / "a.csv"
    path.write_bytes(data)
    with pytest.raises(CumaError, match=message):
        read_table(path, ("id", "a"))


def test_columns_that_are_not_wanted_may_hold_anything(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text(
        '{"id": 1, "extra": {"k": 1}, "h": [{"role": "user", "n": 1}]}\n'
        '{"id": 2, "extra": [], "h": [{"role": "user", "n": "one"}], "flag": true}\n'
    )
    for skipped in (None, {}):
        table = read_table(path, ("id", "h.role"), skipped, optional=("flag", "nothing"))
        assert table.to_pydict() == {"id": [1, 2], "h": [[{"role": "user"}]] * 2, "flag": [None, True]}
        assert not skipped
    with pytest.raises(CumaError, match=r"line 2: extra is a list, but an object before it"):
        read_table(path)
    path.write_text('{"id": 1}\n{"id": "x"}\n')
    with pytest.raises(CumaError, match=r"line 2: id is a text, but a number before it"):
        read_table(path, ("id",))


def test_json_that_is_nested_without_end_is_one_error_or_a_counted_skip(tmp_path):
    path = tmp_path / "a.jsonl"
    brackets = '{"a": ["' + "[{" * 5000 + '"]}\n'  # a text
    path.write_text(brackets + '{"a": ' + "[" * 100_000 + "]" * 100_000 + "}\n")
    with pytest.raises(CumaError, match=r"line 2: it is nested more than 200 deep"):
        read_table(path)
    skipped: dict[str, int] = {}
    assert read_table(path, skipped=skipped).num_rows == 1
    assert skipped == {"lines that cannot be read": 1}
