"""Tables from files: every format gives the same rows, and every damage one message that says where it is."""

import gzip
import io
import json
import pathlib

import datasets
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from cuma_jax.runtime.errors import CumaError
from cuma_jax.tables.encoding import UNREADABLE_LINES
from cuma_jax.tables.hub import hub_table, newest_revision
from cuma_jax.tables.read import read_table, table_files, table_key

ROWS = [
    {"id": "0012", "text": 'He said "no",\nthen left.', "note": None},
    {"id": "7", "text": "naïve, हिन्दी; \t tab", "note": "None"},
    {"id": "8", "text": "<b>x</b>", "note": "N/A"},
]


def csv_text(delimiter=","):
    def cell(value):
        return "" if value is None else '"' + value.replace('"', '""') + '"'

    lines = [delimiter.join(ROWS[0]), *(delimiter.join(cell(v) for v in row.values()) for row in ROWS)]
    return ("\r\n".join(lines) + "\r\n").encode()


def write(path: pathlib.Path) -> pathlib.Path:
    name = path.name.removesuffix(".gz")
    if name.endswith(".parquet"):
        pa.parquet.write_table(pa.Table.from_pylist(ROWS), path)
    elif name.endswith((".arrow", ".feather")):
        table, sink = pa.Table.from_pylist(ROWS), io.BytesIO()
        make = pa.ipc.new_file if name.endswith(".feather") else pa.ipc.new_stream
        with make(sink, table.schema) as writer:
            writer.write_table(table)
        path.write_bytes(sink.getvalue())
    else:
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS).encode()
        data = csv_text("\t" if name.endswith(".tsv") else ",") if name.endswith("sv") else text
        path.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)
    return path


FORMATS = ("a.csv", "a.csv.gz", "a.tsv", "a.tsv.gz", "a.jsonl", "a.jsonl.gz", "A.NDJSON", "a.parquet", "a.arrow",
           "a.feather")  # fmt: skip


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_same_rows(tmp_path, name):
    path = write(tmp_path / name)
    assert read_table(path).to_pylist() == ROWS
    assert read_table(path, ["note", "id"]).to_pylist() == [{"note": r["note"], "id": r["id"]} for r in ROWS]
    assert table_files(path) == [path]


def test_a_folder_is_its_files_in_name_order(tmp_path):
    for name in ("part-1.jsonl", "part-0.jsonl"):
        (tmp_path / name).write_text(json.dumps({"a": name}) + "\n")
    (tmp_path / "README.md").write_text("not data")
    assert read_table(tmp_path)["a"].to_pylist() == ["part-0.jsonl", "part-1.jsonl"]
    (tmp_path / "c.csv").write_text("a\n1\n")
    with pytest.raises(CumaError, match="several formats"):
        read_table(tmp_path)
    (tmp_path / "hub" / "data").mkdir(parents=True)
    with pytest.raises(CumaError, match="holds no file"):
        read_table(tmp_path / "hub")
    write(tmp_path / "hub" / "data" / "a.csv")
    assert read_table(tmp_path / "hub").num_rows == 3
    with pytest.raises(CumaError, match="does not exist"):
        read_table(tmp_path / "none.csv")


def test_what_save_to_disk_wrote_is_read_in_its_own_order(tmp_path):
    rows = [{"n": i, "nested": [{"a": str(i)}]} for i in range(10)]
    datasets.Dataset.from_list(rows).save_to_disk(tmp_path / "one", num_shards=3)
    assert read_table(tmp_path / "one").to_pylist() == rows
    datasets.DatasetDict({"train": datasets.Dataset.from_list(rows)}).save_to_disk(tmp_path / "dict")
    with pytest.raises(CumaError, match=r"several splits.*train"):
        read_table(tmp_path / "dict")
    assert read_table(tmp_path / "dict" / "train").num_rows == 10


def test_the_key_is_of_content_and_not_of_names_or_times(tmp_path):
    first, second = write(tmp_path / "a.csv"), write(tmp_path / "b.csv")
    assert table_key(first) == table_key(second)
    second.write_bytes(csv_text() + b'"9",,\r\n')
    assert table_key(first) != table_key(second)


def test_nested_columns_and_gaps_in_json_lines_survive(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": [{"x": 1, "y": null}]}\n\n{"b": 2.5}\n')
    assert read_table(path).to_pylist() == [{"a": [{"x": 1, "y": None}], "b": None}, {"a": None, "b": 2.5}]


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.csv", b"\n1,2\n", "first line is empty"),
        ("a.csv.gz", b"id,text,\xe9\n", "no rows"),
        ("a.jsonl.gz", gzip.compress(b'{"id": "1"}\n' * 5000, mtime=0)[:-30], "cut short"),
        ("a.jsonl", b'{"id": "1", "text": "a"}\n{"id": \n', "line 2: Expecting value"),
        ("a.jsonl", b'[{"id": "1", "text": "a"}]', "JSON array is not read"),
        ("a.jsonl", b'{"id": "1", "text": "a"}\n5\n', "line 2: it is no object"),
        ("a.jsonl", b'{"id": "1", "text": "a"}\n{"id": {"b": 1}}\n', "line 2: id is an object, but a text before it"),
        ("a.jsonl", b'{"id": "1", "text": [{"c": ""}]}\n{"text": [{"c": 5}]}\n', r"line 2: text\[\].c is"),
        ("a.jsonl", b'{"id": "\\ud800", "text": "a"}\n', "line 1"),
        ("a.jsonl", b'{"id": "1", "text": "\xe9"}\n', "line 1: byte 0xe9"),
        ("a.parquet", b"PAR1 but no more", "damaged or cut off"),
        ("a.arrow", b"no arrow", "damaged or cut off"),
        ("a.xlsx", b"PK", "cannot be read as a spreadsheet"),
        ("a.parquet.gz", b"x", "is not read: unpack it"),
        ("a.xls", b"x", "format is not read"),
    ],
)
def test_damage_is_one_message(tmp_path, name, data, message):
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(CumaError, match=message) as caught:
        read_table(path, ["id", "text"])
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_lines_that_cannot_be_read_are_left_out_and_counted_on_request(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"a": "x"}\n{"a": {"b": 1}}\n{\n7\n{"a": "y"}\n')
    skipped: dict[str, int] = {}
    assert read_table(tmp_path / "a.jsonl", skipped=skipped)["a"].to_pylist() == ["x", "y"]
    assert skipped == {UNREADABLE_LINES: 3}


def test_a_local_folder_laid_out_like_the_hub_is_read_through_datasets(tmp_path):
    for name in ("survey", "talks"):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({"name": name, "nested": {"a": 1}}) + "\n")
    (tmp_path / "README.md").write_text(
        "---\nconfigs:\n- config_name: survey\n  data_files: survey.jsonl\n- config_name: talks\n"
        "  data_files: talks.jsonl\n---\n"
    )
    for name in ("survey", "talks"):
        table = hub_table(str(tmp_path), name, "", cache_dir=str(tmp_path / "cache"))
        assert table.to_pylist() == [{"name": name, "nested": {"a": 1}}]


def test_objects_with_different_keys_are_nested_columns_however_datasets_keeps_them(tmp_path):
    """`datasets` 5 turns them into JSON texts, in what it loads and in what it saves."""
    rows = [{"a": [{"x": 1}, {"x": 2, "y": "é\n"}]}, {"a": []}, {"a": None}, {"a": [{"y": None, "x": 3}]}]
    (tmp_path / "hub").mkdir()
    (tmp_path / "hub" / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    expected = read_table(tmp_path / "hub").to_pylist()
    assert expected[0] == {"a": [{"x": 1, "y": None}, {"x": 2, "y": "é\n"}]}
    assert hub_table(str(tmp_path / "hub"), None, "", cache_dir=str(tmp_path / "cache")).to_pylist() == expected
    loaded = datasets.load_dataset(str(tmp_path / "hub"), split="train", cache_dir=str(tmp_path / "cache"))
    loaded.save_to_disk(tmp_path / "saved")
    loaded.to_parquet(tmp_path / "a.parquet")
    assert read_table(tmp_path / "saved").to_pylist() == expected
    assert read_table(tmp_path / "a.parquet").to_pylist() == expected


def test_a_hub_that_does_not_answer_is_one_message(monkeypatch):
    def refuse(*args, **kwargs):
        raise ConnectionError("no route\nto the hub")

    monkeypatch.setattr(datasets, "load_dataset", refuse)
    with pytest.raises(CumaError, match=r"owner/name config c split train at abc .*no route.*--data.path") as caught:
        hub_table("owner/name", "c", "abc")
    assert "\n" not in str(caught.value)
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", refuse)
    with pytest.raises(CumaError, match=r"newest commit.*--data.path"):
        newest_revision("owner/name")


def test_the_newest_commit_is_named_so_that_it_can_be_pinned(monkeypatch, capsys):
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", lambda self, name: type("Info", (), {"sha": "abc123"}))
    assert newest_revision("owner/name") == "abc123"
    assert "--data.revision abc123" in capsys.readouterr().err


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from([f for f in FORMATS if "parquet" not in f]),
    cuts=st.lists(st.tuples(st.floats(0, 1), st.binary(max_size=4), st.integers(0, 6)), max_size=3),
    skip=st.booleans(),
)
@example(name="a.jsonl", cuts=[(0.6875, b"\x80", 0)], skip=False)
@example(name="a.jsonl", cuts=[(0.6875, b"\x80", 0)], skip=True)
def test_damaged_bytes_give_a_table_or_one_error(tmp_path, name, cuts, skip):
    path = write(tmp_path / name)
    data = path.read_bytes()
    for place, new, dropped in cuts:
        at = int(place * len(data))
        data = data[:at] + new + data[at + dropped :]
    path.write_bytes(data)
    try:
        told = f"{path}, {read_table(path, skipped={} if skip else None).to_pylist()}"
    except CumaError as error:
        told = str(error)
    assert str(path) in told
