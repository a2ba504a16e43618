"""A csv in its three uses: whole and strict, a user's own with every fault listed, a large one of codes by blocks."""

import csv
import gc
import gzip
import io
import re
import time
import zipfile

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cuma_jax.runtime.errors import CumaError
from cuma_jax.tables.code_table import CodeTable
from cuma_jax.tables.problems import Problems
from cuma_jax.tables.read import read_table
from cuma_jax.tables.text_columns import read_columns

TEXT = 'id,"the text",n\n1,naïve,5\n2,"a, ""b"",\nand c",\n\n3,,NA\n'
COLUMNS = ["the text", "id"]


def strict(path):
    """Rows of texts; an empty one is ""."""
    return [tuple(value or "" for value in row.values()) for row in read_table(path, COLUMNS).to_pylist()]


def by_blocks(path):
    delimiter = "\t" if path.suffix == ".tsv" else ","
    blocks = [block for _, block in CodeTable(path, delimiter, "ask again").blocks(COLUMNS, text=True)]
    return [
        tuple(v or "" for v in row) for b in blocks for row in zip(*(b[c].to_pylist() for c in COLUMNS), strict=True)
    ]


def collected(path):
    """(rows, the line of each, problems)."""
    problems = Problems()
    table = read_columns(path, dict.fromkeys(COLUMNS, "wanted"), "", "utf-8", problems)
    if table is None or not table.columns:
        return [], [], problems
    rows = zip(*([c.values[v] for v in c.code_N] for c in table.columns.values()), strict=True)
    return list(rows), table.line_N.tolist(), problems


def slow(data):
    """(rows, the line of each) as the csv module has them."""
    reader, found, before = csv.reader(io.StringIO(data.decode("utf-8-sig"), newline="")), [], 0
    for record in reader:
        found.append((before + 1, record))
        before = reader.line_num
    header = found[0][1]
    kept = [(line, tuple(r[header.index(c)] for c in COLUMNS)) for line, r in found[1:] if r]
    return [row for _, row in kept], [line for line, _ in kept]


@pytest.mark.parametrize(
    "form", ["plain", "gzip", "crlf", "cr", "bom", "no end", "other columns", "quote inside", "tsv"]
)
def test_every_use_reads_what_the_csv_module_does(tmp_path, form):
    path, data = tmp_path / ("a.tsv" if form == "tsv" else "a.csv"), TEXT.encode()
    if form in ("crlf", "cr"):
        data = data.replace(b"\n", b"\r\n" if form == "crlf" else b"\r")
    elif form == "bom":
        data = b"\xef\xbb\xbf" + data
    elif form == "no end":
        data = data.removesuffix(b"\n")
    elif form == "other columns":
        data = re.sub(rb"\n([123])", rb"\n,,\1", b"x,x," + data)
    elif form == "quote inside":
        data = data.replace("naïve".encode(), b'a 5" pipe').replace(b"\nand", b" and")
    rows, lines = slow(data)
    assert len(rows) == 3
    path.write_bytes({"gzip": gzip.compress(data, mtime=0), "tsv": data.replace(b",", b"\t")}.get(form, data))
    found, found_lines, problems = collected(path)
    if form == "tsv":
        rows = [(text.replace(",", "\t"), n) for text, n in rows]
    assert not problems
    assert found_lines == lines
    for values in (strict(path), by_blocks(path), found):
        # A line end inside a text is \n to the reader of users' own tables.
        one, two = ([(re.sub("\r\n?", "\n", text), n) for text, n in table] for table in (values, rows))
        assert one == two


def test_a_zip_of_one_csv_is_read_and_of_two_is_not(tmp_path):
    path = tmp_path / "a.csv"
    for names, message in ((["in/a.csv"], ""), (["a.csv", "b.csv"], "holds 2 csv files")):
        with zipfile.ZipFile(path, "w") as archive:
            for name in names:
                archive.writestr(name, TEXT)
        if not message:
            assert strict(path) == by_blocks(path) == collected(path)[0] == slow(TEXT.encode())[0]
        else:
            tells(path, None, message)


def tells(path, line, message):
    """Every use has one error with this line and this message."""
    (problem,) = collected(path)[2]
    assert (problem.line, problem.severity) == (line, "error")
    with pytest.raises(CumaError, match=message):
        raise CumaError(str(problem))
    for read in (strict, by_blocks):
        with pytest.raises(CumaError, match=message) as caught:
            read(path)
        assert str(path) in str(caught.value)
        assert f"line {line}" in str(caught.value) or line is None
        assert "\n" not in str(caught.value)


HEAD = b"id,the text\n"
FAULTS = [
    (b"", None, "the file is empty"),
    (HEAD, None, "no rows?"),
    (b"id;the text\n1;2\n", 1, "separated by semicolons, not by commas"),
    (b"id\tthe text\n1\t2\n", 1, "separated by tabs, not by commas"),
    (b"id,the text,id\n1,2,3\n", 1, "column 'id'.* twice"),
    (HEAD + b"1,2\n\n3\n4,5\n", 4, "1 columns, but the header has 2"),
    (HEAD + b"1,2\n3,4,5\n", 3, "3 columns, but the header has 2"),
    (HEAD + b'1,2\n3,"never closed\n4,5\n', 3, r"a quote \(\"\) is opened and never closed"),
    (HEAD + b'1,2\n"3,never closed\n4,5\n', 3, r"a quote \(\"\) is opened and never closed"),
    (HEAD + b"1,ok\n2,caf\xe9\n3,\xe9\n", 3, r"byte 0xe9 at position 6 .*not UTF-8 \(2 lines.*cp1252"),
    ((HEAD + b"1,2\n").decode().encode("utf-16"), 1, "UTF-16, not UTF-8.*utf-16"),
    (gzip.compress(HEAD + b"1,2\n" * 50, mtime=0)[:-9], None, "cut short or damaged"),
    (b"PK\x03\x04 a spreadsheet", None, "a damaged zip or spreadsheet"),
]


@pytest.mark.parametrize(("data", "line", "message"), FAULTS)
def test_every_use_tells_the_same_fault_of_the_same_line(tmp_path, data, line, message):
    path = tmp_path / "a.csv"
    path.write_bytes(data)
    tells(path, line, message)


def test_a_missing_column_is_told_with_what_comes_near(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(b"ids,text,n\n1,2,3\n")
    for read in (strict, by_blocks):
        with pytest.raises(CumaError, match="lacks columns the text, id; did you mean 'text', 'ids'"):
            read(path)
    assert [(p.column, "did you mean" in p.hint) for p in collected(path)[2]] == [("the text", True), ("id", True)]


def test_rows_of_another_width_can_be_left_out_and_are_counted(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(HEAD + b"1,2\n3\n4,5,6\n7,8\n")
    skipped: dict[str, int] = {}
    assert read_table(path, skipped=skipped)["id"].to_pylist() == ["1", "7"]
    assert skipped == {"lines that cannot be read": 2}
    table = CodeTable(path, ",", "ask again", "skip")
    assert [n for _, block in table.blocks(["id"]) for n in block["id"].to_pylist()] == ["1", "7"]
    assert table.skipped == {"row with a wrong number of columns": 2}
    rows, lines, problems = collected(path)
    assert (rows, lines, len(problems)) == ([("2", "1"), ("8", "7")], [2, 5], 1)


@pytest.mark.slow
def test_nothing_of_python_is_left_with_a_thread_of_arrow(tmp_path, monkeypatch):
    """If the interpreter ends while Arrow's reading thread still holds a file of Python's, the process is aborted.

    So it is waited for; and nothing of ours holds the file, or every read would wait to the end.
    """
    path, naps = tmp_path / "a.csv", []
    gc.collect()  # what other tests left
    path.write_text(TEXT, encoding="utf-8")
    monkeypatch.setattr(
        "cuma_jax.tables.delimited.time.sleep", lambda seconds, sleep=time.sleep: naps.append(sleep(seconds))
    )
    for n in range(20):
        strict(path)
        assert len(naps) < 500 * (n + 1)
        alive = [type(o) for o in gc.get_objects() if isinstance(o, io.RawIOBase)]
        assert not [kind for kind in alive if kind.__module__.startswith("cuma_jax")]


PIECES = st.binary(max_size=2) | st.sampled_from([b'"', b"\r", b"\0", b",,", b"\n\n", b'"\n'])


# Arrow warns where it cannot decode a row that it hands over.
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.floats(0, 1), PIECES, st.integers(0, 3)), max_size=4), st.booleans())
def test_damaged_bytes_are_one_table_to_every_use_or_an_error_of_ours(tmp_path, cuts, packed):
    path, data = tmp_path / "a.csv", gzip.compress(TEXT.encode(), mtime=0) if packed else TEXT.encode()
    for place, new, dropped in cuts:
        at = int(place * len(data))
        data = data[:at] + new + data[at + dropped :]
    path.write_bytes(data)
    rows, lines, problems = collected(path)
    assert len(rows) == len(lines)
    told = []
    for read in (strict, by_blocks):
        try:
            found = read(path)
        except CumaError as error:
            told.append(str(error))
        else:
            assert problems.errors or [tuple(v.strip() for v in r) for r in found if any(r)] == rows or b"\r" in data
    assert all(str(path) in text for text in told)
