"""Who is averaged over: the profiles of a group and their weights.

Legend: K kinds of people, N profiles of a group.
"""

import dataclasses
import functools

import numpy as np

from cuma_jax.runtime.errors import CumaError
from cuma_jax.runtime.near_matches import near
from cuma_jax.serving.bundle.answers import Rows
from cuma_jax.serving.bundle.contents import Contents
from cuma_jax.serving.groups import Group
from cuma_jax.surveys.fields.context import Context
from cuma_jax.surveys.fields.countries import merged_values
from cuma_jax.surveys.held_out import hash_shares
from cuma_jax.surveys.profiles import build_profiles

IN_TRAINING, HELD_OUT, UNKNOWN = "in training", "held out", "unknown"


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a group's prediction is the mean of.

    Attributes:
        profiles: rows of the run's profiles; empty where `values` is the one profile asked for.
        weight_N: of each, summing to 1.
        n_people: in the group, of the data.
        status: in training, held out, or unknown.
        notes: what the user should know.
        values: a profile that is asked for as it is.
    """

    profiles: np.ndarray
    weight_N: np.ndarray
    n_people: int
    status: str
    notes: tuple[str, ...] = ()
    values: dict[str, str] | None = None


class Planner:
    """The people of a run, ready to be filtered."""

    def __init__(self, contents: Contents):
        """Numbers the profiles as the run does."""
        self._contents, self.people = contents, contents.people
        self._masks: dict[Group, np.ndarray] = {}

    @functools.cached_property
    def profile_K(self) -> np.ndarray:
        """Profile of each kind, as the run numbers them: what the model is told of it."""
        if not self.people.told:
            return np.zeros(len(self.people), np.int32)
        frame = self.people.frame()
        return build_profiles(_Known(self._contents.facts["source"], frame), self.people.told).profile_R

    @functools.cached_property
    def _draw_K(self) -> np.ndarray:
        return hash_shares(self.people.keys(), self._contents.config.evaluation.seed, "evaluated profile")

    @functools.cached_property
    def unseen_K(self) -> np.ndarray:
        """Bool [K]: kinds whose value of `data.held_out_field` nobody in training has."""
        people, field = self.people, self._contents.config.data.held_out_field
        if field not in people.fields:
            return np.zeros(len(people), bool)
        place_V, values = merged_values(people.vocab[field], field)  # as splits have them
        codes_K = np.append(place_V, -1)[people.codes_KF[:, people.fields.index(field)]]
        trained_V = np.bincount(codes_K + 1, people.trained_K, len(values) + 1)
        return trained_V[codes_K + 1] == 0

    def mask(self, group: Group) -> np.ndarray:
        """Bool [K], the kinds of a group."""
        # Read once: a server's other threads check requests meanwhile, and may empty the cache.
        mask_K = self._masks.get(group)
        if mask_K is None:
            if len(self._masks) > 256:
                self._masks.clear()
            known = all(v in self.people.vocab.get(c.field, ()) for c in group.conditions for v in c.values)
            mask_K = self.people.mask(group) if known else np.zeros(len(self.people), bool)
            self._masks[group] = mask_K
        return mask_K

    def check(self, group: Group, average_over: str) -> None:
        """Raises a `CumaError` for a group that cannot be averaged over: nobody, and no single profile."""
        alone = group.profile
        nobody = not self.mask(group).any()
        if average_over == "profile" or nobody:
            if alone is None:
                what = "nobody in the data is in" if nobody else "there is no single profile in"
                raise CumaError(
                    f"{what} the group {group.label[:200]!r}; "
                    + (self._emptied_by(group) if nobody else "give one value a field, or average over people")
                )
            if untold := [field for field in alone if field not in self.people.told]:
                raise CumaError(
                    f"the model is not told of {untold[0]}, so it cannot answer as one profile with it; it is told of "
                    f"{near(untold[0], self.people.told)}"
                )

    def _emptied_by(self, group: Group) -> str:
        """The first condition that nobody meets who meets those before it, and what is known of those."""
        left_K, met = np.ones(len(self.people), bool), list[str]()
        for condition in group.conditions:
            if not (narrower_K := left_K & self.mask(Group((condition,)))).any():
                codes_KF = self.people.codes_KF[left_K]
                known = [field for i, field in enumerate(self.people.fields) if (codes_KF[:, i] >= 0).any()]
                if condition.field in known:
                    return f"no {condition.text} there with {'; '.join(met)}: leave one of them out"
                return f"of people with {'; '.join(met)} the data know {', '.join(known)}, not {condition.field}"
            left_K, met = narrower_K, [*met, condition.text]
        return "leave a condition out"

    def plan(self, group: Group, average_over: str, rows: Rows | None, split: int | None) -> Plan:
        """Who answers for a group; with a split, the people of it whose answers `rows` are, as `evaluate` has them."""
        people, mask_K = self.people, self.mask(group)
        n_people = int(people.n_K[mask_K].sum())
        if average_over == "profile" or not n_people:
            alone = () if average_over == "profile" else ("nobody in the data matches; asked as one such person",)
            status = UNKNOWN if not n_people else self._status(mask_K)
            return Plan(np.zeros(0, np.int64), np.ones(1), n_people, status, alone, group.profile or {})
        weight_K, notes = np.where(mask_K, people.weight_K, 0.0), self._notes(mask_K)
        if split is not None:
            if rows is None:
                raise CumaError("this bundle has no answers, so nobody is known by split; average over people='all'")
            kept = rows.where(mask_K[rows.kind_N] & (rows.split_N == split) & rows.scored_N)
            weight_K = np.bincount(kept.kind_N, kept.weight_N, len(people))
            if not weight_K.any():
                return Plan(np.zeros(0, np.int64), np.zeros(0), 0, self._status(mask_K), ("nobody in the split",))
            n_people = int(kept.n_N.sum())
        elif not weight_K.any():
            weight_K = np.where(mask_K, people.n_K, 0).astype(np.float64)
        most, chosen = self._contents.config.evaluation.max_profiles, np.flatnonzero(weight_K)
        if split is None and len(chosen) > most:
            notes = (*notes, f"averaged over {most} of {len(chosen):,} kinds of people, chosen by hash")
            chosen = chosen[np.argsort(self._draw_K[chosen], kind="stable")[:most]]
        profiles, row_K = np.unique(self.profile_K[chosen], return_inverse=True)
        weight_N = np.bincount(row_K, weight_K[chosen])
        return Plan(profiles, weight_N / weight_N.sum(), n_people, self._status(mask_K), notes)

    def _status(self, mask_K: np.ndarray) -> str:
        return IN_TRAINING if (self.people.trained_K[mask_K] > 0).any() else HELD_OUT

    def _notes(self, mask_K: np.ndarray) -> tuple[str, ...]:
        unseen = int(self.people.n_K[mask_K & self.unseen_K].sum())
        total = int(self.people.n_K[mask_K].sum())
        if not 0 < unseen < total:
            return ()
        field = self._contents.config.data.held_out_field
        return (f"{unseen:,} of {total:,} people are of a {field} held out from training",)


@dataclasses.dataclass(frozen=True)
class _Known:
    name: str
    respondents: "object"
    profile_fields: tuple[str, ...] = ()
    numeric_fields: tuple[str, ...] = ()
    context: tuple[Context, ...] = ()
