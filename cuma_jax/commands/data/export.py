"""Surveys and conversations as plain tables, for other programs: Parquet, or one JSON object a line.

Tables are written in chunks of answers, so that 20 million of them need the memory of one chunk.

Shapes: A answers, R respondents, Q questions, O options.
"""

import itertools
import json
import os
import pathlib
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cuma_jax.commands.data.facts import categories
from cuma_jax.config.checks import SPLITS
from cuma_jax.config.data import DataConfig
from cuma_jax.data.load import source_units
from cuma_jax.preferences.preferences import Preferences
from cuma_jax.preferences.tasks import preference_pairs
from cuma_jax.runtime.errors import CumaError
from cuma_jax.surveys.splits import split_rows, split_table
from cuma_jax.surveys.survey import RESERVED_COLUMNS, HasRespondents, Question, Survey

CHUNK = 1 << 20
"""Answers written at a time: one row group of the Parquet file."""

Chunks = Iterable[pa.Table]


def export(
    source: Survey | Preferences, data: DataConfig, out: pathlib.Path, form: str = "parquet", overwrite: bool = False
) -> dict[str, int]:
    """Writes every table of a source to the folder `out`, all of them or none: file name -> number of rows.

    A survey: respondents, questions, answers. Conversations: respondents, conversations, turns, pairs. Both:
    split, the split that `data` makes, by ids (columns kind, id, split). `form` is parquet or jsonl.

    A `CumaError`, before anything is written, where `out` is a file, holds a file of these names (`overwrite` replaces
    those, and never touches others), or the split cannot be made.
    """
    check_folder(out, file_names(form, not isinstance(source, Survey)), overwrite)
    tables = survey_tables(source, data) if isinstance(source, Survey) else conversation_tables(source, data)
    write = write_parquet if form == "parquet" else write_jsonl
    rows: dict[str, int] = {}

    def fill(folder: pathlib.Path) -> None:
        for name, chunks in tables.items():
            rows[f"{name}.{form}"] = write(folder / f"{name}.{form}", chunks)

    _write_together(out, fill)
    return rows


def file_names(form: str, conversations: bool) -> list[str]:
    """The files that `export` writes."""
    names = (
        ("respondents", "conversations", "turns", "pairs") if conversations else ("respondents", "questions", "answers")
    )
    return [f"{name}.{form}" for name in (*names, "split")]


def check_folder(out: pathlib.Path, names: list[str], overwrite: bool) -> None:
    """Raises a `CumaError` where `out` is a file, or holds a file of these names and `overwrite` is not set."""
    if out.exists() and not out.is_dir():
        raise CumaError(f"--out {out} is a file; give the name of a folder")
    present = [name for name in names if (out / name).exists()]
    if present and not overwrite:
        raise CumaError(f"--out {out} already holds {', '.join(present)}; give another folder, or add --overwrite")


def survey_tables(survey: Survey, data: DataConfig) -> dict[str, Chunks]:
    """Table name -> its chunks, in the order they are written."""
    split_R = respondent_splits(survey, data)
    return {
        "respondents": [respondents_table(survey, split_R)],
        "questions": [questions_table(survey.questions)],
        "answers": answer_chunks(survey),
        "split": [_split(survey, data)],
    }


def respondent_splits(survey: Survey, data: DataConfig) -> pd.Series:
    """The split of every respondent, as categories; missing for a respondent who has none.

    The source's own, in its own words (WorldValuesBench says `valid`), else the one that `data` makes. A respondent
    whose answers lie in several splits (some questions held out) has the first in the order of `SPLITS`: where the
    person stands, not where one of the questions does.
    """
    if "split" in survey.respondents:
        return survey.respondents["split"]
    split_A = split_rows(source_units(survey), data)
    # One more than the last split, for respondents without an answer.
    split_R = np.full(len(survey.respondents), len(SPLITS), np.int8)
    for position in reversed(range(len(SPLITS))):
        split_R[survey.respondent_A[split_A == position]] = position
    codes_R = np.where(split_R == len(SPLITS), -1, split_R)
    return pd.Series(pd.Categorical.from_codes(codes_R, SPLITS)).cat.remove_unused_categories()


def respondents_table(people: HasRespondents, split_R: pd.Series | None = None) -> pa.Table:
    """One row a respondent: respondent, split, weight, stratum and psu if there, then every field as text."""
    frame = people.respondents
    columns: dict[str, pa.Array] = {"respondent": pa.array(frame["respondent_id"].astype(str), pa.string())}
    if split_R is not None:
        columns["split"] = _text(split_R)
    elif "split" in frame:
        columns["split"] = _text(frame["split"])
    columns["weight"] = pa.array(frame["weight"].to_numpy(np.float64))
    for name in ("stratum", "psu"):
        if name in frame:
            columns[name] = _text(frame[name])
    for name in frame.columns:
        if name not in RESERVED_COLUMNS:
            columns[f"{name}_" if name in columns else str(name)] = _text(frame[name])
    return pa.table(columns)


def questions_table(questions: Iterable[Question]) -> pa.Table:
    """One row a question: question, text, options, codes, ordered, source."""
    rows = [
        {"question": q.id, "text": q.text, "options": list(q.options), "codes": list(q.codes)}
        | {"ordered": q.ordered, "source": q.source}
        for q in questions
    ]
    texts = pa.list_(pa.string())
    types = {"question": pa.string(), "text": pa.string(), "options": texts, "codes": texts}
    return pa.Table.from_pylist(rows, pa.schema({**types, "ordered": pa.bool_(), "source": pa.string()}))


def answer_chunks(survey: Survey, size: int = CHUNK) -> Iterator[pa.Table]:
    """Columns respondent, question, answer: ids as dictionary-encoded text, and the option's code.

    The code is an int32 where every code of the survey is a whole number, else text.
    """
    ids = pa.array(survey.respondents["respondent_id"].astype(str), pa.string())
    questions = pa.array([q.id for q in survey.questions], pa.string())
    code_QO, names = option_codes(survey.questions)
    for start in range(0, survey.num_answers, size):
        part = slice(start, start + size)
        question_A = survey.question_A[part]
        code_A = code_QO[question_A, survey.option_A[part]]
        yield pa.table(
            {
                "respondent": _compact(survey.respondent_A[part], ids),
                "question": pa.DictionaryArray.from_arrays(question_A, questions),
                "answer": pa.array(code_A) if names is None else pa.DictionaryArray.from_arrays(code_A, names),
            }
        )


def option_codes(questions: tuple[Question, ...]) -> tuple[np.ndarray, pa.Array | None]:
    """int32 [Q, O] code of each option (0 past a question's options), and what it indexes: None if it is the code."""
    codes = [code for q in questions for code in q.codes]
    names = None
    if all(_is_int32(code) for code in codes):
        value = {code: int(code) for code in codes}
    else:
        value = {code: i for i, code in enumerate(dict.fromkeys(codes))}
        names = pa.array(list(value), pa.string())
    code_QO = np.zeros((len(questions), max(len(q.codes) for q in questions)), np.int32)
    for q, question in enumerate(questions):
        code_QO[q, : len(question.codes)] = [value[code] for code in question.codes]
    return code_QO, names


def _is_int32(code: str) -> bool:
    # "01" and "1.0" are texts: as numbers they would not read back as they are.
    return code.removeprefix("-").isdecimal() and str(int(code)) == code and abs(int(code)) < 2**31


def conversation_tables(preferences: Preferences, data: DataConfig) -> dict[str, Chunks]:
    """Table name -> its chunks, in the order they are written."""
    conversations = preferences.conversations
    ids = pa.array(conversations["conversation_id"].astype(str), pa.string())
    people = pa.array(preferences.respondents["respondent_id"].astype(str), pa.string())
    prompts = pa.array(list(preferences.prompt_ids), pa.string())
    columns = {
        "conversation": ids,
        "respondent": people.take(pa.array(conversations["person"].to_numpy())),
        "prompt": prompts.take(pa.array(conversations["prompt"].to_numpy())),
    }
    for name in conversations.columns:
        if name not in ("conversation_id", "person", "prompt"):
            columns[str(name)] = pa.array(conversations[name], from_pandas=True)
    # The position of a conversation means nothing outside this program; its id does.
    turns = preferences.turns
    place = turns.column_names.index("conversation")
    turns = turns.set_column(place, "conversation", ids.take(turns["conversation"]))
    return {
        "respondents": [respondents_table(preferences)],
        "conversations": [pa.table(columns)],
        "turns": (turns.slice(start, CHUNK // 64) for start in range(0, max(len(turns), 1), CHUNK // 64)),
        "pairs": [_pairs(preferences, ids)],
        "split": [_split(preferences, data)],
    }


def _pairs(preferences: Preferences, ids: pa.Array) -> pa.Table:
    """Preferred and rejected candidate (their positions in the turn's list), and the margin of scores if there is."""
    pairs = preference_pairs(preferences)
    turns = preferences.turns.select(["conversation", "turn"]).take(pa.array(pairs.turn_P))
    return pa.table(
        {
            "conversation": ids.take(turns["conversation"]),
            "turn": turns["turn"],
            "chosen": pa.array(pairs.chosen_P),
            "rejected": pa.array(pairs.rejected_P),
            "margin": pa.array(pairs.margin_P, from_pandas=True),
        }
    )


def _split(source: Survey | Preferences, data: DataConfig) -> pa.Table:
    # Persons that are held out together (a country's answers to a question of global_opinions) share an id.
    table = split_table(source_units(source), data).drop_duplicates()
    return pa.table({name: pa.array(table[name].astype(str), pa.string()) for name in ("kind", "id", "split")})


def _compact(index_A: np.ndarray, names: pa.Array) -> pa.DictionaryArray:
    """`names[index_A]` with a dictionary of only the names that occur: a chunk's own, so it stays small."""
    used_N = np.zeros(len(names), bool)
    used_N[index_A] = True
    position_N = np.cumsum(used_N, dtype=np.int32) - 1
    return pa.DictionaryArray.from_arrays(position_N[index_A], names.filter(pa.array(used_N)))


def _text(column: pd.Series) -> pa.DictionaryArray:
    """A column as dictionary-encoded text; missing is null."""
    values = categories(column)
    code_N = values.cat.codes.to_numpy()
    names = [str(name) for name in values.cat.categories]
    return pa.DictionaryArray.from_arrays(
        pa.array(code_N.astype(np.int32), mask=code_N < 0), pa.array(names, pa.string())
    )


def write_parquet(path: pathlib.Path, chunks: Chunks) -> int:
    """Writes chunks as row groups of one file; returns the number of rows."""
    chunks = iter(chunks)
    first = next(chunks)
    rows = 0
    with pq.ParquetWriter(path, first.schema, compression="zstd") as writer:
        for chunk in itertools.chain([first], chunks):
            writer.write_table(chunk, row_group_size=CHUNK)
            rows += len(chunk)
    return rows


def write_jsonl(path: pathlib.Path, chunks: Chunks) -> int:
    """Writes chunks as one JSON object a line; returns the number of rows."""
    rows = 0
    with path.open("wb") as file:
        for chunk in chunks:
            write_lines = _answer_lines if chunk.column_names == ["respondent", "question", "answer"] else _lines
            write_lines(chunk, file.write)
            rows += len(chunk)
    return rows


def _lines(table: pa.Table, write: Callable[[bytes], object]) -> None:
    for batch in table.to_batches(max_chunksize=4096):
        for row in batch.to_pylist():
            write(json.dumps(row, ensure_ascii=False).encode() + b"\n")


def _answer_lines(table: pa.Table, write: Callable[[bytes], object]) -> None:
    """The same as `_lines`, with one string a distinct value instead of one object a row."""
    table = table.combine_chunks()
    pieces = []
    for name, head, tail in (("respondent", "{", ", "), ("question", "", ", "), ("answer", "", "}\n")):
        column = table[name].combine_chunks()
        encoded = column if isinstance(column, pa.DictionaryArray) else column.dictionary_encode()
        texts = [
            f'{head}"{name}": {json.dumps(value, ensure_ascii=False)}{tail}' for value in encoded.dictionary.to_pylist()
        ]
        pieces.append(pa.array(texts, pa.string()).take(encoded.indices))
    lines = pc.binary_join_element_wise(*pieces, "")
    # The lines lie one after another in the array's buffer of characters.
    offset_A = np.frombuffer(lines.buffers()[1], np.int32)[lines.offset : lines.offset + len(lines) + 1]
    write(bytes(memoryview(lines.buffers()[2])[offset_A[0] : offset_A[-1]]))


def _write_together(out: pathlib.Path, fill: Callable[[pathlib.Path], None]) -> None:
    """`fill` writes files to a scratch folder; when all are whole they move to `out`."""
    made = not out.exists()
    out.mkdir(parents=True, exist_ok=True)
    scratch = pathlib.Path(tempfile.mkdtemp(prefix=".export.", dir=out))
    try:
        fill(scratch)
        for path in sorted(scratch.iterdir()):
            os.replace(path, out / path.name)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        if made and not any(out.iterdir()):
            out.rmdir()
