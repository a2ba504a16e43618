"""From a profile to its vector: by the text of its values, or by which training value each is.

Statistics and training values are fitted once and saved with the run, so that a profile nobody had gets a vector too.

Shapes: P distinct profiles, N profiles or texts, F fields, C width of the encoder's vectors, V training values of a
field, M width of a vector.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cuma_jax.profile_encoders.normalise import Normaliser
from cuma_jax.profile_encoders.text_encoder import TextEncoder
from cuma_jax.runtime.errors import CumaError
from cuma_jax.surveys.derived import fill_derived
from cuma_jax.surveys.profiles import Profiles, Style, describe, field_text

WHOLE = "(whole profile)"
"""Name of the one block that granularity `profile` has; no field is called so."""
MAX_VALUES = 1024
"""Training values that a field may have in granularity `categorical`: each is a column of the table."""


@dataclasses.dataclass(frozen=True)
class ProfileEmbedder:
    """Text to normalised vector, with the statistics fitted in training.

    Granularity `field` lays one block per field side by side, in the order of `fields`; a field that a profile lacks is
    a block of zeros.
    """

    granularity: str
    fields: tuple[str, ...]  # of the survey
    normalisers: dict[str, Normaliser]  # one per field, or one for the whole profile
    encoder_info: dict[str, Any]  # of what it was fitted with: source, fingerprint, width, pooling, max_length
    encoder: TextEncoder | None = None  # None where no encoder is at hand; then nothing new can be embedded
    sentence: Style = "natural"  # how a whole profile is worded
    derived: tuple[str, ...] = ()  # those of `fields` that follow from the country; a profile that lacks them gets them

    @property
    def widths(self) -> tuple[int, ...]:
        """Columns of each block."""
        return tuple(normaliser.width(self.encoder_info["width"]) for normaliser in self.normalisers.values())

    def embed(self, values: Sequence[Mapping[str, str]]) -> np.ndarray:
        """Vectors of any profiles (field -> value), seen before or not, float32 [N, M]; fields may be absent.

        Raises:
            CumaError: an unknown field, no encoder at hand, or a text that is too long for it.
        """
        values = completed(values, self.fields, self.derived)
        if self.encoder is None:
            raise CumaError(
                f"a profile that was not in the survey needs the encoder {self.encoder_info['source']}, "
                "which is not loaded here"
            )
        texts = sorted({text for profile in values for text in self.texts(profile).values()})
        return self.table_rows(values, texts, self.encoder.encode(texts, progress=False))

    def texts(self, profile: Mapping[str, str]) -> dict[str, str]:
        """The text of each block of a profile: by field, or of the whole."""
        present = {field: profile[field] for field in self.fields if field in profile}
        if self.granularity == "profile":
            return {WHOLE: describe(present, self.sentence)}
        return {field: field_text(field, value) for field, value in present.items()}

    def table_rows(
        self, values: Sequence[Mapping[str, str]], texts: Sequence[str], vectors_NC: np.ndarray
    ) -> np.ndarray:
        """Table rows from encoded texts, all that `values` need: normalised block by block, and laid side by side."""
        row = {text: number for number, text in enumerate(texts)}
        texts_N, blocks = [self.texts(profile) for profile in values], []
        for block, normaliser in self.normalisers.items():
            row_N = np.array([row[t[block]] if block in t else -1 for t in texts_N], np.int64)
            used, which_N = np.unique(row_N[row_N >= 0], return_inverse=True)
            block_NM = np.zeros((len(values), normaliser.width(self.encoder_info["width"])), np.float32)
            block_NM[row_N >= 0] = normaliser(vectors_NC[used])[which_N]
            blocks.append(block_NM)
        return np.concatenate(blocks, axis=1)

    def saved(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """What `restored` needs: JSON values, and arrays."""
        about = {
            "granularity": self.granularity,
            "fields": self.fields,
            "sentence": self.sentence,
            "derived": self.derived,
            "encoder": self.encoder_info,
            "normalisers": {n: {"diagonal": v.diagonal, "l2": v.l2} for n, v in self.normalisers.items()},
        }
        arrays: dict[str, np.ndarray] = {}
        for number, normaliser in enumerate(self.normalisers.values()):
            arrays |= {f"mean_{number}": normaliser.mean_C, f"projection_{number}": normaliser.projection_CK}
        return about, arrays

    @classmethod
    def restored(cls, about: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> "ProfileEmbedder":
        """The inverse of `saved`, without an encoder."""
        normalisers = {
            name: Normaliser(arrays[f"mean_{number}"], arrays[f"projection_{number}"], **flags)
            for number, (name, flags) in enumerate(about["normalisers"].items())
        }
        return cls(
            *(about["granularity"], tuple(about["fields"]), normalisers, about["encoder"], None, about["sentence"]),
            tuple(about.get("derived", ())),  # tables of before there were any
        )


@dataclasses.dataclass(frozen=True)
class CategoricalEmbedder:
    """Which training value each field has, as one-hot blocks side by side; no text, so values have nothing in common.

    A block of V columns holds one entry of sqrt(V), so that its mean square is 1 a column, as that of whitened vectors
    is: routers start alike whichever granularity they see. A value that no training profile has, or an absent one, is
    a block of zeros.

    For a lookup (`router.inputs`), the vector is the gate itself: a one for the value's expert, and 1/V for all of them
    where the value is new or absent.
    """

    fields: tuple[str, ...]
    values: dict[str, tuple[str, ...]]  # the V training values of each field, sorted
    lookup: bool = False  # whether vectors are gates
    derived: tuple[str, ...] = ()  # see `ProfileEmbedder`

    @property
    def widths(self) -> tuple[int, ...]:
        """Columns of each block."""
        return tuple(len(self.values[field]) for field in self.fields)

    def embed(self, values: Sequence[Mapping[str, str]]) -> np.ndarray:
        """Vectors of any profiles, seen before or not, float32 [N, M]; see `ProfileEmbedder.embed`.

        Raises:
            CumaError: an unknown field.
        """
        values, blocks = completed(values, self.fields, self.derived), []
        for field in self.fields:
            number = {value: i for i, value in enumerate(self.values[field])}
            column_N = np.array([number.get(profile.get(field, ""), -1) for profile in values], np.int64)
            known_N = column_N >= 0
            block_NM = np.zeros((len(values), len(number)), np.float32)
            if self.lookup:
                block_NM[~known_N] = 1 / max(len(number), 1)
            block_NM[known_N, column_N[known_N]] = 1.0 if self.lookup else np.sqrt(len(number))
            blocks.append(block_NM)
        return np.concatenate(blocks, axis=1)

    def saved(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """What `restored` needs: JSON values, and arrays."""
        names = ("fields", "values", "lookup", "derived")
        return {"granularity": "categorical", **{name: getattr(self, name) for name in names}}, {}

    @classmethod
    def restored(cls, about: Mapping[str, Any]) -> "CategoricalEmbedder":
        """The inverse of `saved`."""
        values = {field: tuple(some) for field, some in about["values"].items()}
        return cls(tuple(about["fields"]), values, about["lookup"], tuple(about["derived"]))


def fit_categorical(profiles: Profiles, train_P: np.ndarray, lookup: bool = False) -> CategoricalEmbedder:
    """The embedder with the values of the training profiles.

    Raises:
        CumaError: a field with too many training values, or none with any.
    """
    values = {field: training_values(profiles, train_P, field) for field in profiles.fields}
    for field, known in values.items():
        if len(known) > MAX_VALUES:
            raise CumaError(
                f"profile.granularity is categorical, but field {field} has {len(known):,} training values, and at "
                f"most {MAX_VALUES:,} can be columns; name the other fields in profile.fields, or use granularity field"
            )
    if not any(values.values()):
        raise CumaError(
            f"no training profile has a value of {', '.join(profiles.fields)}, so there is nothing to tell people "
            "apart by; name other fields in profile.fields"
        )
    return CategoricalEmbedder(profiles.fields, values, lookup, profiles.derived)


def training_values(profiles: Profiles, train_P: np.ndarray, field: str) -> tuple[str, ...]:
    """The values of a field that some training profile has, sorted."""
    codes = np.unique(profiles.codes_PF[train_P, profiles.fields.index(field)])
    return tuple(profiles.vocab[field][c] for c in codes if c >= 0)


def completed(
    values: Sequence[Mapping[str, str]], fields: Sequence[str], derived: Sequence[str]
) -> list[dict[str, str]]:
    """Profiles with the derived fields that they lack; a `CumaError` for a field that is not in `fields`."""
    for profile in values:
        if unknown := sorted(set(profile) - set(fields)):
            raise CumaError(f"unknown profile field {unknown[0]!r}; this run knows {', '.join(fields)}")
    return [fill_derived(profile, derived) for profile in values]
