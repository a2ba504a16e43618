"""The people of a run as kinds: distinct combinations of all their fields, with weights and numbers of people.

Legend: R respondents, K kinds, F fields, P profiles (what the model is told of a kind).
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from cuma_jax.config import Config
from cuma_jax.runtime.errors import CumaError
from cuma_jax.serving.groups import Field, Group, make_field
from cuma_jax.surveys.fields.context import contexts_of
from cuma_jax.surveys.profiles import Profiles, build_profiles
from cuma_jax.surveys.survey import HasRespondents, Question, Survey, other_fields


@dataclasses.dataclass(frozen=True)
class People:
    """Kinds of people.

    Attributes:
        fields: told ones first.
        told: fields that the model is told of.
        vocab: the values of each field, sorted.
        codes_KF: int32, positions in `vocab`, -1 where missing; rows are distinct.
        n_K: people of each kind.
        weight_K: sum of their survey weights.
        trained_K: how many of them have training answers (conversations).
    """

    fields: tuple[str, ...]
    told: tuple[str, ...]
    vocab: dict[str, tuple[str, ...]]
    codes_KF: np.ndarray
    n_K: np.ndarray
    weight_K: np.ndarray
    trained_K: np.ndarray

    def __len__(self) -> int:
        return len(self.n_K)

    @functools.cached_property
    def by_field(self) -> dict[str, Field]:
        """What is known of each field, with numbers of people."""
        found = {}
        for field, codes_K in zip(self.fields, self.codes_KF.T, strict=True):
            if not self.vocab[field]:  # nobody has it
                continue
            count_V = np.bincount(codes_K[codes_K >= 0], self.n_K[codes_K >= 0], len(self.vocab[field])).astype(int)
            counts = dict(zip(self.vocab[field], count_V.tolist(), strict=True))
            found[field] = make_field(field, counts, field in self.told)
        return found

    def mask(self, group: Group) -> np.ndarray:
        """Bool [K], the kinds of a group."""
        return group.mask(self.fields, self.vocab, self.codes_KF)

    def frame(self) -> pd.DataFrame:
        """One row a kind, as `Survey.respondents`."""
        columns: dict[str, object] = {"respondent_id": [str(k) for k in range(len(self))], "weight": self.weight_K}
        for field, codes_K in zip(self.fields, self.codes_KF.T, strict=True):
            columns[field] = pd.Categorical.from_codes(codes_K, pd.Index(self.vocab[field], dtype="str"))
        return pd.DataFrame(columns)

    def values(self, kind: int) -> dict[str, str]:
        """The fields of a kind that are not missing."""
        return {f: self.vocab[f][c] for f, c in zip(self.fields, self.codes_KF[kind], strict=True) if c >= 0}

    def keys(self) -> list[str]:
        """A text for each kind that does not depend on the others."""
        return ["\x1f".join(f"{f}={v}" for f, v in sorted(self.values(k).items())) for k in range(len(self))]


def kinds_of(
    source: HasRespondents, profiles: Profiles, config: Config, trained_R: np.ndarray
) -> tuple[People, np.ndarray]:
    """The kinds of a source's people, and the kind of each, int32 [R].

    The fields are those that the model is told, those of a profile by default, and those that groups and splits of the
    config are made of. `trained_R` is bool: who has training answers.
    """
    known = (*source.profile_fields, *other_fields(source))
    also = (*config.evaluation.group_by, config.data.held_out_field, config.data.group_by)
    wanted = (*profiles.fields, *source.profile_fields, *(field for field in also if field in known))
    fields = tuple(dict.fromkeys(wanted))
    count = len(source.respondents)
    if fields:
        kinds = build_profiles(source, fields)
        kind_R, vocab, codes_KF = kinds.profile_R, kinds.vocab, kinds.codes_PF
    else:
        kind_R, vocab, codes_KF = np.zeros(count, np.int32), {}, np.zeros((1, 0), np.int32)
    weight_R = source.respondents["weight"].to_numpy(np.float64)
    weight_R = np.where(np.isfinite(weight_R) & (weight_R > 0), weight_R, 0.0)
    size = len(codes_KF)
    people = People(
        fields,
        profiles.fields,
        vocab,
        codes_KF,
        np.bincount(kind_R, minlength=size).astype(np.int64),
        np.bincount(kind_R, weight_R, size),
        np.bincount(kind_R, trained_R, size).astype(np.int64),
    )
    return people, kind_R


def survey_of(people: People, questions: tuple[Question, ...], facts: Mapping[str, Any]) -> Survey:
    """A survey that nobody has answered: kinds as respondents, and questions; `facts` as `Contents` has them."""
    none = np.zeros(0, np.int32)
    return Survey(
        facts["source"],
        questions,
        people.frame(),
        tuple(facts["profile_fields"]),
        none,
        none,
        none,
        numeric_fields=tuple(facts.get("numeric_fields", ())),
        context=contexts_of(facts.get("context", ())),
    )


_COLUMNS = ("n", "weight", "trained")


def people_table(people: People) -> pd.DataFrame:
    """The kinds as a table: a column a field (prefixed, so that no name collides), and the numbers."""
    frame = people.frame().drop(columns=["respondent_id", "weight"])
    frame.columns = [f"field {name}" for name in frame.columns]
    return frame.assign(n=people.n_K, weight=people.weight_K, trained=people.trained_K)


def read_people(table: pd.DataFrame, told: tuple[str, ...]) -> People:
    """The inverse of `people_table`; a `CumaError` for a table that is none."""
    if missing := [name for name in _COLUMNS if name not in table]:
        raise CumaError(f"the bundle's table of people lacks {', '.join(missing)}; write the bundle again")
    columns = [name for name in table.columns if name not in _COLUMNS]
    fields, vocab, codes = tuple(name.removeprefix("field ") for name in columns), {}, []
    for field, name in zip(fields, columns, strict=True):
        column = table[name].astype("category")
        order = np.argsort([str(v) for v in column.cat.categories], kind="stable")
        place = np.append(np.argsort(order), -1).astype(np.int32)
        vocab[field] = tuple(str(column.cat.categories[i]) for i in order)
        codes.append(place[column.cat.codes.to_numpy()])
    codes_KF = np.stack(codes, axis=1) if codes else np.zeros((len(table), 0), np.int32)
    numbers = (table["n"].to_numpy(np.int64), table["weight"].to_numpy(np.float64), table["trained"].to_numpy(np.int64))
    return People(fields, told, vocab, codes_KF, *numbers)
