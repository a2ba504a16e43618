"""What is on disk of a comparison: the scores of its finished cells, and which of them may stand in one table."""

import dataclasses
from typing import Any

import numpy as np
import pandas as pd

from cuma_jax.comparison.trials import Cell, Status, read_record, status
from cuma_jax.evaluation.results import read_resamples, read_results
from cuma_jax.runtime.errors import CumaError
from cuma_jax.runtime.files import content_key
from cuma_jax.training.loop import SPLIT_FILE

_SETTINGS = ("survey", "group_by", "min_cell", "max_profiles", "seed", "bootstrap")
"""Fields of results.json in which all runs of a table must agree."""


@dataclasses.dataclass(frozen=True)
class Scored:
    """A finished cell and its scores.

    Attributes:
        cell: which.
        values: its results.json.
        resamples: its resamples.npz.
        split_key: tells apart which people were trained on and held out.
        record: what it cost.
    """

    cell: Cell
    values: dict[str, Any]
    resamples: dict[str, np.ndarray]
    split_key: str
    record: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Gathered:
    """All that is there.

    Attributes:
        standing: every cell with its status, and why where that is not plain.
        scored: the finished cells, by variant.
        not_comparable: (cell, split or empty for all, reason) of what stays out of the table.
        notes: (cell, what a reader should know of it), for cells that are in the table.
    """

    standing: list[tuple[Cell, Status, str]]
    scored: dict[str, list[Scored]]
    not_comparable: list[tuple[Cell, str, str]]
    notes: list[tuple[Cell, str]]

    def of(self, variant: str, split: str) -> list[Scored]:
        """The comparable finished cells of a variant on a split."""
        out = {(cell.name, where) for cell, where, _ in self.not_comparable}
        return [
            s for s in self.scored.get(variant, [])
            if (s.cell.name, "") not in out and (s.cell.name, split) not in out
        ]  # fmt: skip


def gather(cells: list[Cell], reference: str) -> Gathered:
    """Reads every finished cell; what the others must agree with is the reference's first, else the first there.

    Raises:
        CumaError: no cell is finished.
    """
    standing = [(cell, *status(cell)) for cell in cells]
    scored: dict[str, list[Scored]] = {}
    not_comparable: list[tuple[Cell, str, str]] = []
    for i, (cell, where, _) in enumerate(standing):
        if where != "finished":
            continue
        try:
            read = _read(cell)
        except CumaError as error:
            standing[i] = (cell, "failed", str(error))
        else:
            scored.setdefault(cell.variant.name, []).append(read)
    if not scored:
        why = "; ".join(f"{cell.name}: {why}" for cell, _, why in standing[:3] if why)
        raise CumaError(f"no cell of this comparison is finished; run it first{f' ({why})' if why else ''}")
    first = scored[reference][0] if reference in scored else next(iter(scored.values()))[0]
    notes = []
    for many in scored.values():
        for s in many:
            reasons = disagreements(first, s)
            not_comparable += [(s.cell, split, why) for split, why in reasons]
            if not reasons and s.split_key != first.split_key:
                notes.append((s.cell, f"trains or validates on other people than {first.cell.name}; "
                                      "those who are scored are the same"))  # fmt: skip
    return Gathered(standing, scored, not_comparable, notes)


def _read(cell: Cell) -> Scored:
    results = read_results(cell.folder)
    if "kind" in results.values:
        raise CumaError("preference data are not compared here yet; their scores are in each run's report.html")
    path = cell.folder / SPLIT_FILE
    if not path.is_file():
        raise CumaError(f"{path} does not exist; delete {cell.folder} and run it again")
    split = pd.util.hash_pandas_object(pd.read_parquet(path), index=False).to_numpy()
    return Scored(
        cell, results.values, read_resamples(cell.folder), content_key(np.sort(split)), read_record(cell) or {}
    )


def disagreements(first: Scored, other: Scored) -> list[tuple[str, str]]:
    """Why two runs cannot stand in one table: (split, reason), the split empty where it is all of them."""
    for field in _SETTINGS:
        a, b = first.values[field], other.values[field]
        if a != b:
            return [("", f"{field} is {b!r}, and {a!r} in {first.cell.name}")]
    found = []
    for split in first.values["splits"]:
        if split not in other.values["splits"]:
            found.append((split, "it was not scored on this split"))
            continue
        a, b = ([x.resamples[f"{split}/{k}"] for k in ("questions", "answers", "key")] for x in (first, other))
        if not np.array_equal(a[0], b[0]):
            found.append((split, f"{len(b[0])} questions, others than the {len(a[0])} of {first.cell.name}"))
        elif not np.array_equal(a[1], b[1]):
            found.append((split, f"{b[1].sum():,} answers, {a[1].sum():,} in {first.cell.name}"))
        elif a[2] != b[2]:
            found.append((split, f"other people are held out than in {first.cell.name}"))
    return found
