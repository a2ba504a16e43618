"""Which rows are trained on, and which are held out: decided by a hash of the unit's id, never by row order.

A row (an answer, or a conversation) belongs to the first of these that applies: its country is held out
(`unseen_country`, or the values of another field), its question or prompt is (`unseen_question`, `unseen_prompt`), its
person is (`unseen_respondent`, `unseen_annotator`, or `validation`), the conversation itself is
(`unseen_conversation`); the rest is `train`. Where countries are held out for validation (`validation_countries`),
`validation` is their answers to questions that are not held out, and people of other countries are not in it. Instead,
the split may be the source's own, or read from a file of ids.

Shapes: N rows, R persons, I items, V values of a field, U units of a kind.
"""

import dataclasses
import pathlib
from collections.abc import Sequence

import numpy as np
import pandas as pd

from cuma_jax.config import DataConfig
from cuma_jax.config.checks import SPLITS
from cuma_jax.runtime.errors import CumaError
from cuma_jax.surveys.held_out import hash_shares, held_out_values
from cuma_jax.surveys.survey import Survey
from cuma_jax.surveys.units import Units, survey_units
from cuma_jax.tables.packed import given_path
from cuma_jax.tables.read import read_table

TRAIN, VALIDATION = SPLITS.index("train"), SPLITS.index("validation")

_CHUNK = 1 << 18  # rows looked at at a time: what they need stays in the processor's cache


@dataclasses.dataclass(frozen=True)
class KindSplit:
    """How the units of one kind are split.

    Attributes:
        kind: respondent, annotator, question, prompt, conversation, or a profile field.
        ids: the units.
        split_U: int8, positions in `SPLITS`; TRAIN where this kind does not hold the unit out.
        unit_N: int, unit of each row, -1 for none.
    """

    kind: str
    ids: Sequence[str]
    split_U: np.ndarray
    unit_N: np.ndarray


def split_answers(survey: Survey, data: DataConfig) -> np.ndarray:
    """The split of every answer of a survey, as int8 [A] positions in `SPLITS`; see `split_rows`."""
    return split_rows(survey_units(survey), data)


def split_rows(units: Units, data: DataConfig) -> np.ndarray:
    """The split of every row, as int8 [N] positions in `SPLITS`.

    A `CumaError` where a split that `data` asks for would be empty, a held-out value does not exist, or the source has
    no split of its own.
    """
    return _split(units, data)[0]


def split_and_table(units: Units, data: DataConfig) -> tuple[np.ndarray, pd.DataFrame]:
    """`split_rows` and `split_table` of one split: of all rows, before any of them is left out."""
    split_N, parts = _split(units, data)
    return split_N, _table(units, split_N, parts)


def _split(units: Units, data: DataConfig) -> tuple[np.ndarray, list[KindSplit]]:
    """The split of every row [N], and what it comes from; errors are those of `split_rows`."""
    if data.split == "official":
        split_N = _official(units)
        _check_no_leak(units, split_N, official=True)
        split_R, probe = np.full(len(units.person_ids), TRAIN, np.int8), SPLITS.index("probe")
        split_R[units.person_N[split_N != probe]] = split_N[split_N != probe]
        return split_N, [KindSplit(units.person, units.person_ids, split_R, units.person_N)]
    parts = kind_splits(units, data)
    split_N = np.empty(len(units), np.int8)
    # One more unit than there are: -1 indexes the last, which holds nothing out.
    tables = [(np.append(part.split_U, np.int8(TRAIN)), part.unit_N) for part in reversed(parts)]
    for start in range(0, len(units), _CHUNK):
        rows = slice(start, start + _CHUNK)
        split = np.full(len(split_N[rows]), TRAIN, np.int8)
        for split_U, unit_N in tables:
            of_unit = split_U[unit_N[rows]]
            np.copyto(split, of_unit, where=of_unit != TRAIN)
        split_N[rows] = split
    if data.split == "hash":
        _check_not_empty(units, data, split_N)
    by_country = data.split == "hash" and data.validation_countries > 0
    _check_no_leak(units, split_N, official=False, field=data.held_out_field, by_country=by_country)
    return split_N, parts


def kind_splits(units: Units, data: DataConfig) -> list[KindSplit]:
    """The split of every unit of every kind, the strongest kind first; errors are those of `split_rows`."""
    value_R, values = units.values(data.held_out_field)
    kinds: list[tuple[str, Sequence[str], np.ndarray]] = [
        (data.held_out_field, values, value_R[units.person_N]),
        (units.item, units.item_ids, units.item_N),
        (units.person, units.person_ids, units.person_N),
    ]
    if units.conversation_ids is not None:
        kinds.append(("conversation", units.conversation_ids, np.arange(len(units))))
    if data.split != "hash":
        return _validation_below_items(_from_file(given_path(data.split), units, kinds))
    split_of = {
        data.held_out_field: lambda: _held_values(units, data, values),
        units.item: lambda: _held_items(units, data),
        units.person: lambda: _split_persons(units, data),
        "conversation": lambda: _held_conversations(units.conversation_ids or [], data),
    }
    return _validation_below_items([KindSplit(kind, ids, split_of[kind](), unit_N) for kind, ids, unit_N in kinds])


def _validation_below_items(parts: list[KindSplit]) -> list[KindSplit]:
    """A country's validation comes after the items: an unseen question is not validated on either."""
    first, items, *others = parts
    validation_U = first.split_U == VALIDATION
    if not validation_U.any():
        return parts
    for_good = dataclasses.replace(first, split_U=np.where(validation_U, np.int8(TRAIN), first.split_U))
    validation = dataclasses.replace(first, split_U=np.where(validation_U, np.int8(VALIDATION), np.int8(TRAIN)))
    return [for_good, items, validation, *others]


def split_table(units: Units, data: DataConfig) -> pd.DataFrame:
    """The split by ids, for other programs: columns kind, id, split; one row a unit.

    Every person is listed, every conversation (where rows are conversations: the split it ends up in), and of the
    other kinds the units that are held out. Strongest kind first: a row is in the split of the first of its units that
    is not in train.
    """
    return split_and_table(units, data)[1]


def _table(units: Units, split_N: np.ndarray, parts: list[KindSplit]) -> pd.DataFrame:
    frames = []
    for part in parts:
        split_U = split_N if part.kind == "conversation" else part.split_U
        keep = np.ones(len(split_U), bool) if part.kind in (units.person, "conversation") else split_U != TRAIN
        ids = np.asarray(part.ids, dtype=object)[keep]
        frames.append(pd.DataFrame({"kind": part.kind, "id": ids, "split": np.array(SPLITS)[split_U[keep]]}))
    return pd.concat(frames, ignore_index=True)


def held_out_countries(survey: Survey, data: DataConfig) -> tuple[str, ...]:
    """The countries (values of `data.held_out_field`) that are unseen for good; see `held_out_values`."""
    return held_out_values(survey_units(survey), data)[0]


def _split_persons(units: Units, data: DataConfig) -> np.ndarray:
    unseen = data.unseen_respondents
    # Where countries are held out for validation, it is theirs.
    validation = 0.0 if data.validation_countries > 0 else data.validation_respondents
    if unseen + validation >= 1:
        raise CumaError(
            f"data.unseen_respondents + data.validation_respondents is {unseen + validation:g}; they must add up to "
            "less than 1, or nobody is left to train on"
        )
    draw_R = hash_shares(units.person_ids, data.split_seed, units.person)
    split_R = np.full(len(draw_R), TRAIN, np.int8)
    split_R[draw_R < unseen + validation] = VALIDATION
    split_R[draw_R < unseen] = SPLITS.index(f"unseen_{units.person}")
    return split_R


def _held_values(units: Units, data: DataConfig, names: list[str]) -> np.ndarray:
    unseen, validation = held_out_values(units, data)
    split_V = np.where(np.isin(names, unseen), SPLITS.index("unseen_country"), TRAIN)
    return np.where(np.isin(names, validation), VALIDATION, split_V).astype(np.int8)


def _held_items(units: Units, data: DataConfig) -> np.ndarray:
    """round(share x I) items, at least one, of the lowest hashes."""
    split_I = np.full(len(units.item_ids), TRAIN, np.int8)
    if data.unseen_questions == 0:
        return split_I
    wanted = max(1, round(data.unseen_questions * len(units.item_ids)))
    if wanted >= len(units.item_ids):
        raise CumaError(
            f"data.unseen_questions is {data.unseen_questions:g}, which holds out all {len(units.item_ids)} "
            f"{units.item}s of survey {units.name!r}; lower it, or keep more questions (data.questions)"
        )
    draw_I = hash_shares(units.item_ids, data.split_seed, units.item)
    split_I[np.argsort(draw_I, kind="stable")[:wanted]] = SPLITS.index(f"unseen_{units.item}")
    return split_I


def _held_conversations(ids: Sequence[str], data: DataConfig) -> np.ndarray:
    held_N = hash_shares(ids, data.split_seed, "conversation") < data.unseen_conversations
    return np.where(held_N, SPLITS.index("unseen_conversation"), TRAIN).astype(np.int8)


def _official(units: Units) -> np.ndarray:
    if units.official_N is None:
        raise CumaError(
            f"data.split is official, but {units.name!r} ships no split of its own (wvs7 and wvb do); set it to hash"
        )
    return units.official_N


def _from_file(path: pathlib.Path, units: Units, kinds: list[tuple[str, Sequence[str], np.ndarray]]) -> list[KindSplit]:
    """The split that a file of ids gives: columns kind, id, split."""
    try:
        table = read_table(path, ("kind", "id", "split")).to_pandas().astype(str)
    except CumaError as error:
        raise CumaError(
            f"data.split {str(path)!r} cannot be read ({error}); it is hash, official, or a .parquet or .csv file with "
            "the columns kind, id and split, as `python -m cuma_jax.data export` writes it"
        ) from None
    # A file may spell a country as another wave of the survey did.
    of_field = table["kind"] == kinds[0][0]
    table.loc[of_field, "id"] = [units.value_named(kinds[0][0], name) for name in table.loc[of_field, "id"]]
    table = table.drop_duplicates()
    if (twice := table.duplicated(["kind", "id"])).any():
        kind, name = table.loc[twice, ["kind", "id"]].iloc[0]
        raise CumaError(f"data.split {path}: {kind} {name!r} is in two splits; keep one of the rows")
    known = [kind for kind, _, _ in kinds]
    for column, allowed in (("kind", known), ("split", SPLITS)):
        if wrong := set(table[column]) - set(allowed):
            raise CumaError(f"data.split {path}: unknown {column} {sorted(wrong)[0]!r}; known: {', '.join(allowed)}")
    parts = []
    for kind, ids, unit_N in kinds:
        rows = table[table["kind"] == kind]
        number = dict(zip(rows["id"].astype(str), rows["split"].map(SPLITS.index), strict=True))
        if kind == units.person and (lacking := [i for i in ids if i not in number]):
            raise CumaError(
                f"data.split {path}: {len(lacking)} of {len(ids)} {kind}s of {units.name!r} are not in it, e.g. "
                f"{lacking[0]!r}; was it made from another version of the data?"
            )
        parts.append(KindSplit(kind, ids, np.array([number.get(name, TRAIN) for name in ids], np.int8), unit_N))
    return parts


def _check_not_empty(units: Units, data: DataConfig, split_N: np.ndarray) -> None:
    asked = {
        "train": ("the shares held out", True),
        "validation": (
            ("data.validation_countries", True)
            if data.validation_countries > 0
            else ("data.validation_respondents", data.validation_respondents > 0)
        ),
        f"unseen_{units.person}": ("data.unseen_respondents", data.unseen_respondents > 0),
        "unseen_country": ("data.unseen_countries", bool(data.held_out_countries) or data.unseen_countries > 0),
        f"unseen_{units.item}": ("data.unseen_questions", data.unseen_questions > 0),
        "unseen_conversation": (
            "data.unseen_conversations", units.conversation_ids is not None and data.unseen_conversations > 0
        ),
    }  # fmt: skip
    rows = "answers" if units.conversation_ids is None else "conversations"
    for split, (field, wanted) in asked.items():
        if wanted and not (split_N == SPLITS.index(split)).any():
            raise CumaError(
                f"the {split} split of survey {units.name!r} is empty ({len(units)} {rows} in all); "
                f"change {field}, or keep more questions (data.questions)"
            )


def _check_no_leak(
    units: Units, split_N: np.ndarray, official: bool, field: str = "", by_country: bool = False
) -> None:
    """No unit that is held out has a row in train or validation; `by_country`: and no validation country in train."""
    person, item = f"unseen_{units.person}", f"unseen_{units.item}"
    persons: dict[str, tuple[str, ...]] = {"validation": ("train",), person: ("train", "validation")}
    kinds: list[tuple[str, np.ndarray, dict[str, tuple[str, ...]]]] = [("person", units.person_N, persons)]
    if official:
        persons |= {"test": ("train",), "probe": ("train",)}
    else:
        value_N = units.values(field)[0][units.person_N]
        values: dict[str, tuple[str, ...]] = {"unseen_country": ("train", "validation")}
        if by_country:
            values["validation"] = ("train", person, "unseen_conversation")
        kinds.append((field, value_N, values))
        kinds.append(("item", units.item_N, {item: ("train", "validation")}))
    for kind, unit_N, rules in kinds:
        # Which splits each unit has rows in; the last row of the table is of those without a unit.
        present_US = np.zeros((int(unit_N.max(initial=-1)) + 2, len(SPLITS)), bool)
        flat = present_US.ravel()
        for start in range(0, len(units), _CHUNK):
            rows = slice(start, start + _CHUNK)
            key = unit_N[rows].astype(np.intp) * len(SPLITS) + split_N[rows]
            flat[key] = True
        for held, others in rules.items():
            held_U = present_US[:-1, SPLITS.index(held)]
            if any((held_U & present_US[:-1, SPLITS.index(other)]).any() for other in others):
                raise AssertionError(f"a held-out {kind} has rows in training: the split of {units.name!r} leaks")
