"""Numeric profile fields as columns of their own: the standardised number, and whether there is one.

Shapes: P distinct profiles, N profiles.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from cuma_jax.runtime.errors import CumaError
from cuma_jax.surveys.fields.numbers import read_number, read_numbers
from cuma_jax.surveys.profiles import Profiles

WIDTH = 2
"""Columns of a numeric field: (x - mean) / deviation, and 1. A profile without the number has zeros in both, as one
without a text has in that field's block."""


@dataclasses.dataclass(frozen=True)
class NumberColumns:
    """Mean and (population) standard deviation of a field over the training respondents.

    A field with one training value has a deviation of 0 and tells nobody apart: its first column is zero.
    """

    mean: float
    deviation: float

    def __call__(self, texts: Sequence[str | None], field: str) -> np.ndarray:
        """Columns of the numbers in `texts` (None: missing), float32 [N, 2]; a `CumaError` for what is no number."""
        block_N2 = np.zeros((len(texts), WIDTH), np.float32)
        for n, text in enumerate(texts):
            if text is not None:
                if not np.isfinite(number := read_number(text)):
                    raise CumaError(f"profile field {field!r} is {text!r}; it must be a number")
                block_N2[n] = (number - self.mean) / self.deviation if self.deviation else 0.0, 1.0
        return block_N2


def fit_number_columns(profiles: Profiles, people_P: np.ndarray, field: str) -> NumberColumns:
    """The columns of a numeric field of `profiles`; `people_P` are the training respondents of each, int [P]."""
    codes_P = profiles.codes_PF[:, profiles.fields.index(field)]
    known_P = (codes_P >= 0) & (people_P > 0)
    if not known_P.any():
        return NumberColumns(0.0, 0.0)
    number_P = read_numbers(profiles.vocab[field])[codes_P[known_P]]
    weight_P = people_P[known_P].astype(np.float64)
    mean = float(np.average(number_P, weights=weight_P))
    deviation = float(np.sqrt(np.average(np.square(number_P - mean), weights=weight_P)))
    # Rounding is no spread.
    return NumberColumns(mean, deviation if deviation > 1e-9 * max(abs(mean), 1e-30) else 0.0)
