"""What is on disk of a comparison: the scores of its finished trials, and which of them may stand in one table."""

import dataclasses
from typing import Any

import numpy as np
import pandas as pd

from cuma_jax.comparison.trials import Status, Trial, read_record, status
from cuma_jax.evaluation.results import read_resamples, read_results
from cuma_jax.runtime.errors import CumaError
from cuma_jax.runtime.files import content_key, undamaged
from cuma_jax.training.loop import SPLIT_FILE

_SETTINGS = ("survey", "group_by", "min_cell", "max_profiles", "seed", "bootstrap")
"""Fields of results.json in which all runs of a table must agree."""


@dataclasses.dataclass(frozen=True)
class ScoredTrial:
    """A finished trial: its results.json, resamples.npz, a key of who was trained on and held out, and what it cost."""

    trial: Trial
    values: dict[str, Any]
    resamples: dict[str, np.ndarray]
    split_key: str
    record: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Collected:
    """All that is there.

    Attributes:
        standing: every trial with its status, and why where that is not plain.
        scored: the finished trials, by variant.
        not_comparable: (trial, split or empty for all, reason) of what stays out of the table.
        notes: (trial, what a reader should know of it), for trials that are in the table.
    """

    standing: list[tuple[Trial, Status, str]]
    scored: dict[str, list[ScoredTrial]]
    not_comparable: list[tuple[Trial, str, str]]
    notes: list[tuple[Trial, str]]

    def of(self, variant: str, split: str) -> list[ScoredTrial]:
        """The comparable finished trials of a variant on a split."""
        out = {(trial.name, where) for trial, where, _ in self.not_comparable}
        return [
            s for s in self.scored.get(variant, [])
            if (s.trial.name, "") not in out and (s.trial.name, split) not in out
        ]  # fmt: skip


def collect(trials: list[Trial], reference: str) -> Collected:
    """Reads every finished trial (none: a CumaError); all must agree with the reference's first, else the first."""
    standing = [(trial, *status(trial)) for trial in trials]
    scored: dict[str, list[ScoredTrial]] = {}
    not_comparable: list[tuple[Trial, str, str]] = []
    for i, (trial, where, _) in enumerate(standing):
        if where != "finished":
            continue
        try:
            read = _read(trial)
        except CumaError as error:
            standing[i] = (trial, "failed", str(error))
        else:
            scored.setdefault(trial.variant.name, []).append(read)
    if not scored:
        why = "; ".join(f"{trial.name}: {why}" for trial, _, why in standing[:3] if why)
        raise CumaError(f"no trial of this comparison is finished; run it first{f' ({why})' if why else ''}")
    first = scored[reference][0] if reference in scored else next(iter(scored.values()))[0]
    notes = []
    for many in scored.values():
        for s in many:
            reasons = disagreements(first, s)
            not_comparable += [(s.trial, split, why) for split, why in reasons]
            if not reasons and s.split_key != first.split_key:
                notes.append((s.trial, f"trains or validates on other people than {first.trial.name}; "
                                      "those who are scored are the same"))  # fmt: skip
    return Collected(standing, scored, not_comparable, notes)


def _read(trial: Trial) -> ScoredTrial:
    results = read_results(trial.folder)
    if "kind" in results.values:
        raise CumaError("preference data are not compared here yet; their scores are in each run's report.html")
    path = trial.folder / SPLIT_FILE
    if not path.is_file():
        raise CumaError(f"{path} does not exist; delete {trial.folder} and run it again")
    with undamaged(path, "delete it and run the comparison again"):
        split = pd.util.hash_pandas_object(pd.read_parquet(path), index=False).to_numpy()
    return ScoredTrial(
        trial, results.values, read_resamples(trial.folder), content_key(np.sort(split)), read_record(trial) or {}
    )


def disagreements(first: ScoredTrial, other: ScoredTrial) -> list[tuple[str, str]]:
    """Why two runs cannot stand in one table: (split, reason), the split empty where it is all of them."""
    for field in _SETTINGS:
        a, b = first.values[field], other.values[field]
        if a != b:
            return [("", f"{field} is {b!r}, and {a!r} in {first.trial.name}")]
    found = []
    for split in first.values["splits"]:
        if split not in other.values["splits"]:
            found.append((split, "it was not scored on this split"))
            continue
        a, b = ([x.resamples[f"{split}/{k}"] for k in ("questions", "answers", "key")] for x in (first, other))
        if not np.array_equal(a[0], b[0]):
            found.append((split, f"{len(b[0])} questions, others than the {len(a[0])} of {first.trial.name}"))
        elif not np.array_equal(a[1], b[1]):
            found.append((split, f"{b[1].sum():,} answers, {a[1].sum():,} in {first.trial.name}"))
        elif a[2] != b[2]:
            found.append((split, f"other people are held out than in {first.trial.name}"))
    return found
