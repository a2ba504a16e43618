"""Which rows are trained on, and which are held out: decided by a hash of the unit's id, never by row order.

A row (an answer, or a conversation) belongs to the first of these that applies: its country is held out
(`unseen_country`, or the values of another field), its question or prompt is (`unseen_question`, `unseen_prompt`), its
person is (`unseen_respondent`, `unseen_annotator`, or `validation`), the conversation itself is
(`unseen_conversation`); the rest is `train`. Instead, the split may be the source's own, or read from a file of ids.

Shapes: N rows, R persons, I items, V values of a field, U units of a kind.
"""

import dataclasses
import difflib
import hashlib
import pathlib
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from cuma_jax.config import DataConfig
from cuma_jax.config_checks import SPLITS
from cuma_jax.errors import CumaError
from cuma_jax.surveys.survey import Survey
from cuma_jax.surveys.units import Units, survey_units

TRAIN, VALIDATION = SPLITS.index("train"), SPLITS.index("validation")

_CHUNK = 1 << 18  # rows looked at at a time: what they need stays in the processor's cache
MAX_COUNTRY_SHARE = 0.1
"""A country with a larger share of all answers (or twice an even share, in a survey of fewer than 20 countries) is
not held out by share; it may be by name."""


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

    Raises:
        CumaError: a split that `data` asks for would be empty, a held-out value does not exist, or the source has no
            split of its own.
    """
    if data.split == "official":
        split_N = _official(units)
        _check_no_leak(units, split_N, official=True)
        return split_N
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
    _check_no_leak(units, split_N, official=False, field=data.held_out_field)
    return split_N


def kind_splits(units: Units, data: DataConfig) -> list[KindSplit]:
    """The split of every unit of every kind, the strongest kind first.

    Raises:
        CumaError: see `split_rows`.
    """
    value_R, values = units.values(data.held_out_field)
    kinds: list[tuple[str, Sequence[str], np.ndarray]] = [
        (data.held_out_field, values, value_R[units.person_N]),
        (units.item, units.item_ids, units.item_N),
        (units.person, units.person_ids, units.person_N),
    ]
    if units.conversation_ids is not None:
        kinds.append(("conversation", units.conversation_ids, np.arange(len(units))))
    if data.split != "hash":
        return _from_file(pathlib.Path(data.split).expanduser(), units, kinds)
    split_of = {
        data.held_out_field: lambda: _held_values(units, data, values),
        units.item: lambda: _held_items(units, data),
        units.person: lambda: _split_persons(units, data),
        "conversation": lambda: _held_conversations(units, data),
    }
    return [KindSplit(kind, ids, split_of[kind](), unit_N) for kind, ids, unit_N in kinds]


def split_table(units: Units, data: DataConfig) -> pd.DataFrame:
    """The split by ids, for other programs: columns kind, id, split; one row a unit.

    Every person is listed, every conversation (where rows are conversations: the split it ends up in), and of the
    other kinds the units that are held out. Strongest kind first: a row is in the split of the first of its units that
    is not in train.
    """
    if data.split == "official":
        split_R = np.full(len(units.person_ids), TRAIN, np.int8)
        split_N, probe = _official(units), SPLITS.index("probe")
        split_R[units.person_N[split_N != probe]] = split_N[split_N != probe]
        parts = [KindSplit(units.person, units.person_ids, split_R, units.person_N)]
    else:
        parts = kind_splits(units, data)
    frames = []
    for part in parts:
        split_U = split_rows(units, data) if part.kind == "conversation" else part.split_U
        keep = np.ones(len(split_U), bool) if part.kind in (units.person, "conversation") else split_U != TRAIN
        ids = np.asarray(part.ids, dtype=object)[keep]
        frames.append(pd.DataFrame({"kind": part.kind, "id": ids, "split": np.array(SPLITS)[split_U[keep]]}))
    return pd.concat(frames, ignore_index=True)


def held_out_countries(survey: Survey, data: DataConfig) -> tuple[str, ...]:
    """The countries (values of `data.held_out_field`) held out of training; see `held_out_values`."""
    return held_out_values(survey_units(survey), data)


def held_out_values(units: Units, data: DataConfig) -> tuple[str, ...]:
    """Those named in `data.held_out_countries`, or the lowest hashes.

    By share: round(share x number of values), at least one, in the order of their hashes. Left in training: a value
    with too many of the rows (`MAX_COUNTRY_SHARE`), and one whose loss would leave an item of several rows without any
    value.

    Raises:
        CumaError: an unknown name (with near matches), or a share with no value that can be held out.
    """
    field = data.held_out_field
    value_R, names = units.values(field)
    if data.held_out_countries:
        for name in data.held_out_countries:
            if name not in names:
                near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
                hint = f"did you mean {', '.join(near)}?" if near else f"there are {', '.join(names[:10])}, ..."
                raise CumaError(f"data.held_out_countries: survey {units.name!r} has no {field} {name!r}; {hint}")
        return tuple(dict.fromkeys(data.held_out_countries))
    if data.unseen_countries == 0:
        return ()
    value_N = value_R[units.person_N]
    known_N = value_N >= 0
    # The (value, item) pairs that occur, and how often. Counting is faster than sorting, where the table is small.
    item_N = units.item_N
    if not known_N.all():
        value_N, item_N = value_N[known_N], item_N[known_N]
    key_N = value_N * np.int64(len(units.item_ids)) + item_N
    if (size := len(names) * len(units.item_ids)) <= len(units):
        count = np.bincount(key_N, minlength=size)
        pair_M = np.flatnonzero(count)
        count_M = count[pair_M]
    else:
        pair_M, count_M = np.unique(key_N, return_counts=True)
    value_M, item_M = np.divmod(pair_M, max(len(units.item_ids), 1))
    rows_V = np.bincount(value_M, weights=count_M, minlength=len(names))
    answered = np.flatnonzero(rows_V > 0)
    wanted = max(1, round(data.unseen_countries * len(answered)))
    left_I = np.bincount(item_M, minlength=len(units.item_ids))
    # An opening prompt that one person wrote has one country by nature; questions are put to many.
    shared_I = np.ones(len(units.item_ids), bool)
    if units.conversation_ids is not None:
        shared_I = np.bincount(units.item_N, minlength=len(units.item_ids)) > 1
    order = np.argsort(hash_shares(names, data.split_seed, field), kind="stable")
    limit = max(MAX_COUNTRY_SHARE, 2 / max(1, len(answered))) * len(units)
    held: list[str] = []
    for v in order[np.isin(order, answered)]:
        items = item_M[value_M == v]
        if len(held) == wanted or rows_V[v] > limit or (left_I[items[shared_I[items]]] == 1).any():
            continue
        left_I[items] -= 1
        held.append(names[v])
    if not held:
        raise CumaError(
            f"data.unseen_countries is {data.unseen_countries:g}, but no {field} of survey {units.name!r} can be held "
            f"out ({len(answered)} values of {field}; each is the only one of some {units.item}, or too large); set "
            "data.unseen_countries to 0, name data.held_out_countries, or choose another data.held_out_field"
        )
    return tuple(held)


def hash_shares(values: Iterable[str], seed: int, kind: str) -> np.ndarray:
    """A number in [0, 1) for each value, float64 [U]: blake2b of (seed, kind, value), so no order matters."""
    salt = f"{seed}:{kind}:".encode()
    digests = b"".join([hashlib.blake2b(salt + value.encode(), digest_size=8).digest() for value in values])
    # 53 bits: what a float64 holds exactly, so that the result is below 1.
    return (np.frombuffer(digests, ">u8") >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _split_persons(units: Units, data: DataConfig) -> np.ndarray:
    unseen, validation = data.unseen_respondents, data.validation_respondents
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
    held = held_out_values(units, data) if data.held_out_countries or data.unseen_countries > 0 else ()
    return np.where(np.isin(names, held), SPLITS.index("unseen_country"), TRAIN).astype(np.int8)


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


def _held_conversations(units: Units, data: DataConfig) -> np.ndarray:
    assert units.conversation_ids is not None
    held_N = np.zeros(len(units), bool)
    if data.unseen_conversations > 0:
        held_N = hash_shares(units.conversation_ids, data.split_seed, "conversation") < data.unseen_conversations
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
        table = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path, dtype=str)
    except (OSError, ValueError) as error:
        raise CumaError(
            f"data.split {str(path)!r} cannot be read ({error}); it is hash, official, or a .parquet or .csv file with "
            "the columns kind, id and split, as `python -m cuma_jax.data export` writes it"
        ) from None
    if missing := {"kind", "id", "split"} - set(table.columns):
        raise CumaError(f"data.split {path}: no column {', '.join(sorted(missing))}; it needs kind, id and split")
    known = [kind for kind, _, _ in kinds]
    for column, allowed in (("kind", known), ("split", SPLITS)):
        if wrong := set(table[column]) - set(allowed):
            raise CumaError(f"data.split {path}: unknown {column} {sorted(wrong)[0]!r}; known: {', '.join(allowed)}")
    parts = []
    for kind, ids, unit_N in kinds:
        rows = table[table["kind"] == kind]
        number = {name: SPLITS.index(split) for name, split in zip(rows["id"].astype(str), rows["split"], strict=True)}
        if kind == units.person and (lacking := [i for i in ids if i not in number]):
            raise CumaError(
                f"data.split {path}: {len(lacking)} of {len(ids)} {kind}s of {units.name!r} are not in it, e.g. "
                f"{lacking[0]!r}; was it made from another version of the data?"
            )
        split_U = np.array([number.get(name, TRAIN) for name in ids], np.int8)
        parts.append(KindSplit(kind, ids, split_U, unit_N))
    return parts


def _check_not_empty(units: Units, data: DataConfig, split_N: np.ndarray) -> None:
    asked = {
        "train": ("the shares held out", True),
        "validation": ("data.validation_respondents", data.validation_respondents > 0),
        f"unseen_{units.person}": ("data.unseen_respondents", data.unseen_respondents > 0),
        "unseen_country": ("data.unseen_countries", bool(data.held_out_countries) or data.unseen_countries > 0),
        f"unseen_{units.item}": ("data.unseen_questions", data.unseen_questions > 0),
        "unseen_conversation": (
            "data.unseen_conversations", units.conversation_ids is not None and data.unseen_conversations > 0
        ),
    }  # fmt: skip
    count_S = np.bincount(split_N, minlength=len(SPLITS))
    rows = "answers" if units.conversation_ids is None else "conversations"
    for split, (field, wanted) in asked.items():
        if wanted and count_S[SPLITS.index(split)] == 0:
            raise CumaError(
                f"the {split} split of survey {units.name!r} is empty ({len(units)} {rows} in all); "
                f"change {field}, or keep more questions (data.questions)"
            )


def _check_no_leak(units: Units, split_N: np.ndarray, official: bool, field: str = "") -> None:
    """No unit that is held out has a row in train or validation."""
    person, item = f"unseen_{units.person}", f"unseen_{units.item}"
    persons = {"validation": ("train",), person: ("train", "validation")}
    kinds = [("person", units.person_N, persons)]
    if official:
        persons |= {"test": ("train",), "probe": ("train",)}
    else:
        value_N = units.values(field)[0][units.person_N]
        kinds.append((field, value_N, {"unseen_country": ("train", "validation")}))
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
