"""Groups of respondents by the values of some profile fields: what cells are made of, and whose gradients are compared.

Legend: R respondents.
"""

import dataclasses
import functools

import numpy as np
import pandas as pd

from cuma_jax.runtime.errors import CumaError
from cuma_jax.surveys.fields.countries import with_one_name
from cuma_jax.surveys.survey import HasRespondents

MISSING = "(missing)"
"""Label of a group whose field is missing."""


@dataclasses.dataclass(frozen=True)
class Groups:
    """Respondents by the values of some fields.

    Attributes:
        names: label of each group, values joined by " / ".
        group_R: group of each respondent.
        known_R: whether all of the respondent's fields are known; the others are in groups of their own, which are
            not scored (respondents of unknown country are no country).
    """

    names: tuple[str, ...]
    group_R: np.ndarray
    known_R: np.ndarray


def check_group_fields(source: HasRespondents, fields: tuple[str, ...], some: bool = True) -> None:
    """A `CumaError` where `evaluation.group_by` names a field that the data do not have; with `some` where it names
    none, too."""
    if some and not fields:
        raise CumaError("config field evaluation.group_by is empty; name at least one profile field, e.g. country")
    known = [c for c in source.respondents.columns if c not in ("respondent_id", "weight")]
    for field in fields:
        if field not in known:
            raise CumaError(
                f"config field evaluation.group_by names {field!r}, which {source.name!r} does not have; "
                f"it has {', '.join(known)}"
            )


def build_groups(source: HasRespondents, fields: tuple[str, ...]) -> Groups:
    """Groups the respondents by `fields`; a `CumaError` for no field, or one that the respondents do not have.

    A country is one group, however it is spelled.
    """
    check_group_fields(source, fields)
    values = pd.DataFrame({field: with_one_name(source.respondents[field], field) for field in fields})
    texts = values.astype(object).where(values.notna(), MISSING).astype(str)
    label_R = functools.reduce(lambda joined, field: joined + " / " + texts[field], fields[1:], texts[fields[0]])
    group_R, names = pd.factorize(label_R, sort=True)
    known_R = values.notna().all(axis=1).to_numpy()
    return Groups(tuple(str(name) for name in names), group_R.astype(np.int64), known_R)
