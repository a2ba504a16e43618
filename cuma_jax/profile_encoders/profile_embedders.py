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
from cuma_jax.profile_encoders.number_columns import WIDTH, NumberColumns
from cuma_jax.profile_encoders.text_encoder import TextEncoder
from cuma_jax.runtime.errors import CumaError
from cuma_jax.surveys.fields.context import Context, contexts_json, contexts_of
from cuma_jax.surveys.profiles import Profiles, Style, complete_profile, describe, field_text

WHOLE = "(whole profile)"
"""Name of the one block that granularity `profile` has; no field is called so."""
MAX_VALUES = 1024
"""Training values that a field may have in granularity `categorical`: each is a column of the table."""


@dataclasses.dataclass(frozen=True)
class ProfileEmbedder:
    """Text to normalised vector, with the statistics fitted in training.

    Granularity `field` lays one block per field side by side, in the order of `fields`; a field that a profile lacks is
    a block of zeros. Numbers are no texts here: their blocks are `NumberColumns`; with granularity `profile` they stand
    after the block of the whole.
    """

    granularity: str
    fields: tuple[str, ...]  # of the survey
    normalisers: dict[str, Normaliser]  # one per field, or one for the whole profile
    encoder_info: dict[str, Any]  # of what it was fitted with: source, fingerprint, width, pooling, max_length
    encoder: TextEncoder | None = None  # None where no encoder is at hand; then nothing new can be embedded
    sentence: Style = "natural"  # how a whole profile is worded
    derived: tuple[str, ...] = ()  # those of `fields` that follow from others; a profile that lacks them gets them
    numbers: dict[str, NumberColumns] = dataclasses.field(default_factory=dict)  # of the numeric ones of `fields`
    context: tuple[Context, ...] = ()  # gives `derived` fields

    @property
    def blocks(self) -> tuple[str, ...]:
        """Name of each block of a vector, in their order."""
        if self.granularity == "profile":
            return (*self.normalisers, *self.numbers)
        return tuple(field for field in self.fields if field in self.normalisers or field in self.numbers)

    @property
    def widths(self) -> tuple[int, ...]:
        """Columns of each block."""
        width = self.encoder_info["width"]
        return tuple(WIDTH if b in self.numbers else self.normalisers[b].width(width) for b in self.blocks)

    def embed(self, values: Sequence[Mapping[str, str]]) -> np.ndarray:
        """Vectors of any profiles (field -> value), seen before or not, float32 [N, M]; fields may be absent.

        Raises:
            CumaError: an unknown field, no encoder at hand, or a text that is too long for it.
        """
        values = completed(values, self.fields, self.derived, self.context)
        if self.encoder is None:
            raise CumaError(
                f"a profile that was not in the survey needs the encoder {self.encoder_info['source']}, "
                "which is not loaded here"
            )
        texts = sorted({text for profile in values for text in self.texts(profile).values()})
        return self.table_rows(values, texts, self.encoder.encode(texts, progress=False))

    def texts(self, profile: Mapping[str, str]) -> dict[str, str]:
        """The text of each block of texts of a profile: by field, or of the whole."""
        present = {field: profile[field] for field in self.fields if field in profile and field not in self.numbers}
        if self.granularity == "profile":
            return {WHOLE: describe(present, self.sentence)}
        return {field: field_text(field, value) for field, value in present.items()}

    def table_rows(
        self, values: Sequence[Mapping[str, str]], texts: Sequence[str], vectors_NC: np.ndarray
    ) -> np.ndarray:
        """Table rows from encoded texts, all that `values` need: normalised block by block, and laid side by side."""
        row = {text: number for number, text in enumerate(texts)}
        texts_N, blocks = [self.texts(profile) for profile in values], []
        for block in self.blocks:
            if block in self.numbers:
                blocks.append(self.numbers[block]([profile.get(block) for profile in values], block))
                continue
            normaliser = self.normalisers[block]
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
        about |= _saved_more(self.numbers, self.context)
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
            **_restored_more(about),
        )


@dataclasses.dataclass(frozen=True)
class CategoricalEmbedder:
    """Which training value each field has, as one-hot blocks side by side; no text, so values have nothing in common.

    A block of V columns holds one entry of sqrt(V), so that its mean square is 1 a column, as that of whitened vectors
    is: routers start alike whichever granularity they see. A value that no training profile has, or an absent one, is
    a block of zeros.

    For a lookup (`router.inputs`), the vector is the gate itself: a one for the value's expert, and 1/V for all of them
    where the value is new or absent. Numbers are `NumberColumns`.
    """

    fields: tuple[str, ...]
    values: dict[str, tuple[str, ...]]  # the V training values of each field that is no number, sorted
    lookup: bool = False  # whether vectors are gates
    derived: tuple[str, ...] = ()  # see `ProfileEmbedder`
    numbers: dict[str, NumberColumns] = dataclasses.field(default_factory=dict)
    context: tuple[Context, ...] = ()

    @property
    def widths(self) -> tuple[int, ...]:
        """Columns of each block."""
        return tuple(WIDTH if field in self.numbers else len(self.values[field]) for field in self.fields)

    def embed(self, values: Sequence[Mapping[str, str]]) -> np.ndarray:
        """Vectors of any profiles, seen before or not, float32 [N, M]; see `ProfileEmbedder.embed`.

        Raises:
            CumaError: an unknown field.
        """
        values, blocks = completed(values, self.fields, self.derived, self.context), []
        for field in self.fields:
            if field in self.numbers:
                blocks.append(self.numbers[field]([profile.get(field) for profile in values], field))
                continue
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
        about = {"granularity": "categorical", **{name: getattr(self, name) for name in names}}
        return about | _saved_more(self.numbers, self.context), {}

    @classmethod
    def restored(cls, about: Mapping[str, Any]) -> "CategoricalEmbedder":
        """The inverse of `saved`."""
        values = {field: tuple(some) for field, some in about["values"].items()}
        return cls(tuple(about["fields"]), values, about["lookup"], tuple(about["derived"]), **_restored_more(about))


def fit_categorical(
    profiles: Profiles, train_P: np.ndarray, lookup: bool = False, numbers: dict[str, NumberColumns] | None = None
) -> CategoricalEmbedder:
    """The embedder with the values of the training profiles; `numbers` of the fields that are numbers.

    Raises:
        CumaError: a field with too many training values, or none with any.
    """
    numbers = numbers or {}
    values = {field: training_values(profiles, train_P, field) for field in profiles.fields if field not in numbers}
    for field, known in values.items():
        if len(known) > MAX_VALUES:
            raise CumaError(
                f"profile.granularity is categorical, but field {field} has {len(known):,} training values, and at "
                f"most {MAX_VALUES:,} can be columns; name the other fields in profile.fields, or use granularity field"
            )
    if not any(values.values()) and not any(columns.deviation for columns in numbers.values()):
        raise CumaError(
            f"no training profile has a value of {', '.join(profiles.fields)}, so there is nothing to tell people "
            "apart by; name other fields in profile.fields"
        )
    return CategoricalEmbedder(profiles.fields, values, lookup, profiles.derived, numbers, profiles.context)


def training_values(profiles: Profiles, train_P: np.ndarray, field: str) -> tuple[str, ...]:
    """The values of a field that some training profile has, sorted."""
    codes = np.unique(profiles.codes_PF[train_P, profiles.fields.index(field)])
    return tuple(profiles.vocab[field][c] for c in codes if c >= 0)


def completed(
    values: Sequence[Mapping[str, str]],
    fields: Sequence[str],
    derived: Sequence[str],
    context: Sequence[Context] = (),
) -> list[dict[str, str]]:
    """Profiles with the derived fields that they lack; a `CumaError` for a field that is not in `fields`."""
    for profile in values:
        if unknown := sorted(set(profile) - set(fields)):
            raise CumaError(f"unknown profile field {unknown[0]!r}; this run knows {', '.join(fields)}")
    return [complete_profile(profile, fields, derived, context) for profile in values]


def _saved_more(numbers: Mapping[str, NumberColumns], context: Sequence[Context]) -> dict[str, Any]:
    """What most tables have not is not there: their files are as those of earlier versions."""
    about: dict[str, Any] = {}
    if numbers:
        about["numbers"] = {field: dataclasses.asdict(columns) for field, columns in numbers.items()}
    if context:
        about["context"] = contexts_json(context)
    return about


def _restored_more(about: Mapping[str, Any]) -> dict[str, Any]:
    numbers = {field: NumberColumns(**columns) for field, columns in about.get("numbers", {}).items()}
    return {"numbers": numbers, "context": contexts_of(about.get("context", ()))}
