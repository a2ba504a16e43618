"""Which answers are scored, and into which (group, question) cells of their split they fall.

Legend: A answers, R respondents, P distinct profiles, G groups, C cells, U distinct (profile, question) pairs.
"""

import dataclasses

import numpy as np
import pandas as pd

from cuma_jax.config import EvaluationConfig
from cuma_jax.runtime.errors import CumaError
from cuma_jax.surveys.groups import Groups, build_groups
from cuma_jax.surveys.held_out import hash_shares
from cuma_jax.surveys.profiles import Profiles, build_profiles
from cuma_jax.surveys.splits import SPLITS
from cuma_jax.surveys.survey import Survey


def build_clusters(survey: Survey, groups: Groups) -> np.ndarray:
    """Cluster of each respondent for the bootstrap, int64 [R]: the psu where there is one, else the respondent.

    A psu's label is unique only within its group and stratum, so those are part of the cluster's name.
    """
    respondents = survey.respondents
    alone_R = np.arange(len(respondents))
    if "psu" not in respondents:
        return alone_R
    keys = {"group": groups.group_R}
    for name in ("stratum", "psu"):
        if name in respondents:
            keys[name] = respondents[name].astype("object").where(respondents[name].notna(), "").astype(str).to_numpy()
    cluster_R = pd.DataFrame(keys).groupby(list(keys), sort=True, observed=True).ngroup().to_numpy(np.int64)
    known_R = respondents["psu"].notna().to_numpy()
    return np.where(known_R, cluster_R, cluster_R.max(initial=-1) + 1 + alone_R)


def whole_profiles(survey: Survey, profiles: Profiles) -> Profiles:
    """Profiles of all the survey's own fields, whichever of them (or derived from them) the model is told."""
    return profiles if profiles.fields == survey.profile_fields else build_profiles(survey)


@dataclasses.dataclass(frozen=True)
class SplitCells:
    """The answers of one split that are scored, in cells of at least `min_cell` answers.

    Cells are sorted by question, then group. Answers of smaller cells and of profiles that were not sampled are gone.

    Attributes:
        respondent_A, question_A, option_A, cell_A: the answers.
        weight_A: survey weight of each answer's respondent, float64.
        question_C, group_C, count_C: question, group and number of answers of each cell.
        profiles: distinct (whole profile, question) pairs of the split, by question: {question: (kept, all)}.
        small: answers left out because their cell has fewer than `min_cell`, and the number of those cells.
        not_sampled: answers left out because their profile was not sampled.
        no_group: answers left out because their respondent's group is not known.
    """

    respondent_A: np.ndarray
    question_A: np.ndarray
    option_A: np.ndarray
    cell_A: np.ndarray
    weight_A: np.ndarray
    question_C: np.ndarray
    group_C: np.ndarray
    count_C: np.ndarray
    profiles: dict[int, tuple[int, int]]
    small: tuple[int, int]
    not_sampled: int
    no_group: int


@dataclasses.dataclass(frozen=True)
class Selection:
    """The answers of each split that an evaluation scores: of `groups`, with the `profiles` that the model is told.

    Baselines are fitted on `train_A`; `cluster_R` is the cluster of each respondent for the bootstrap.
    """

    survey: Survey
    profiles: Profiles
    train_A: np.ndarray
    groups: Groups
    cluster_R: np.ndarray
    splits: dict[str, SplitCells]

    @property
    def pairs(self) -> tuple[np.ndarray, np.ndarray]:
        """What has to be predicted: see `distinct_pairs`."""
        return self.distinct_pairs(self.profiles)

    def distinct_pairs(self, profiles: Profiles) -> tuple[np.ndarray, np.ndarray]:
        """Profile and question, int32 [U] each, of every distinct pair of all splits, sorted by question."""
        key_U = np.unique(np.concatenate([pair_keys(profiles, cells) for cells in self.splits.values()]))
        question_U, profile_U = np.divmod(key_U, len(profiles))
        return profile_U.astype(np.int32), question_U.astype(np.int32)


def pair_keys(profiles: Profiles, cells: SplitCells) -> np.ndarray:
    """A number for the (profile, question) pair of each answer, int64 [A]; sorted by question, then profile."""
    return cells.question_A * len(profiles) + profiles.profile_R[cells.respondent_A]


def select_answers(survey: Survey, profiles: Profiles, split_A: np.ndarray, config: EvaluationConfig) -> Selection:
    """Selects what is scored of every split of `config.splits`; `split_A` is the position in `SPLITS` of each answer.

    A `CumaError` for an empty split, an unknown field to group by, or no cell large enough.
    """
    groups, whole = build_groups(survey, config.group_by), whole_profiles(survey, profiles)
    masks = {name: split_A == SPLITS.index(name) for name in config.splits}
    splits = {name: build_split_cells(survey, whole, groups, mask, config, name) for name, mask in masks.items()}
    train_A = split_A == SPLITS.index("train")
    return Selection(survey, profiles, train_A, groups, build_clusters(survey, groups), splits)


def build_split_cells(
    survey: Survey,
    whole: Profiles,
    groups: Groups,
    mask_A: np.ndarray,
    config: EvaluationConfig,
    name: str,
) -> SplitCells:
    """Selects the answers of a split, samples profiles where there are too many, and forms the cells.

    Where a question has more than `config.max_profiles` distinct profiles, those with the lowest hash of (seed, field
    values) stay: the same people for every question, whatever the order of the rows. They are counted and sampled by
    `whole` (from `whole_profiles`), so that runs whose models are told different fields are scored on the same people.
    A `CumaError` where the split has no answers, no cell is large enough, or a weight is not a positive number.
    """
    if not mask_A.any():
        raise CumaError(
            f"split {name!r} has no answers to evaluate; take it out of evaluation.splits or hold something out "
            f"(data.unseen_respondents, data.unseen_countries, data.unseen_questions)"
        )
    index_A, kept, not_sampled, no_group = sampled_answers(survey, whole, groups, mask_A, config)
    question_A = survey.question_A[index_A].astype(np.int64)
    weight_R = survey.respondents["weight"].to_numpy(np.float64)

    group_A = groups.group_R[survey.respondent_A[index_A]]
    key_C, cell_A, count_C = np.unique(
        question_A * len(groups.names) + group_A, return_inverse=True, return_counts=True
    )
    large_C = count_C >= config.min_cell
    if not large_C.any():
        raise CumaError(
            f"split {name!r} has no cell of {' / '.join(config.group_by)} x question with at least {config.min_cell} "
            f"answers (largest: {count_C.max(initial=0)}); lower evaluation.min_cell, raise evaluation.max_profiles or "
            "group by fewer fields (evaluation.group_by)"
        )
    in_large_A = large_C[cell_A]
    renumber_C = np.cumsum(large_C) - 1
    index_A, question_A = index_A[in_large_A], question_A[in_large_A]
    respondent_A = survey.respondent_A[index_A].astype(np.int64)
    return SplitCells(
        respondent_A=respondent_A,
        question_A=question_A,
        option_A=survey.option_A[index_A].astype(np.int64),
        cell_A=renumber_C[cell_A[in_large_A]],
        weight_A=weight_R[respondent_A],
        question_C=key_C[large_C] // len(groups.names),
        group_C=key_C[large_C] % len(groups.names),
        count_C=count_C[large_C],
        profiles=kept,
        small=(int((~in_large_A).sum()), int((~large_C).sum())),
        not_sampled=not_sampled,
        no_group=no_group,
    )


def sampled_answers(
    survey: Survey, whole: Profiles, groups: Groups, mask_A: np.ndarray, config: EvaluationConfig
) -> tuple[np.ndarray, dict[int, tuple[int, int]], int, int]:
    """The answers of a split that are scored if their cell is large enough; see `build_split_cells`.

    Gives their positions; and `SplitCells.profiles`, `not_sampled` and `no_group`. A `CumaError` where a weight is not
    a number, or negative.
    """
    index_A = np.flatnonzero(mask_A)
    weight_R = survey.respondents["weight"].to_numpy(np.float64)
    if not (np.isfinite(weight_R).all() and (weight_R >= 0).all()):
        raise CumaError(f"survey {survey.name!r}: respondents have weights that are missing or negative; mend the data")
    # A respondent of weight 0 stands for nobody; left in, a cell of such people would be 0/0.
    index_A = index_A[weight_R[survey.respondent_A[index_A]] > 0]
    known_A = groups.known_R[survey.respondent_A[index_A]]
    no_group, index_A = int((~known_A).sum()), index_A[known_A]
    question_A = survey.question_A[index_A].astype(np.int64)
    whole_A = whole.profile_R[survey.respondent_A[index_A]].astype(np.int64)
    keep_A, kept = _sample_profiles(whole, question_A, whole_A, config.max_profiles, config.seed)
    return index_A[keep_A], kept, int((~keep_A).sum()), no_group


def _sample_profiles(
    profiles: Profiles, question_A: np.ndarray, profile_A: np.ndarray, most: int, seed: int
) -> tuple[np.ndarray, dict[int, tuple[int, int]]]:
    """Mask of the answers whose profile is kept, and (kept, all) counts of profiles by question."""
    pair_U, pair_A = np.unique(question_A * len(profiles.codes_PF) + profile_A, return_inverse=True)
    question_U, profile_U = np.divmod(pair_U, len(profiles.codes_PF))
    keep_U = np.ones(len(pair_U), bool)
    counts: dict[int, tuple[int, int]] = {}
    share_P = np.zeros(len(profiles.codes_PF))
    if np.bincount(question_U).max(initial=0) > most:
        used_P = np.unique(profile_U)
        values = (sorted(profiles.values(int(row)).items()) for row in used_P)
        keys = ["\x1f".join(f"{field}={value}" for field, value in items) for items in values]
        share_P[used_P] = hash_shares(keys, seed, "evaluated profile")
    for question in np.unique(question_U):
        rows = np.flatnonzero(question_U == question)
        if len(rows) > most:
            keep_U[rows] = False
            keep_U[rows[np.argsort(share_P[profile_U[rows]], kind="stable")[:most]]] = True
        counts[int(question)] = (min(len(rows), most), len(rows))
    return keep_U[pair_A], counts
