"""The table of profile vectors: every distinct profile encoded once, before training; a batch carries row numbers.

A profile is only text, so one never seen in training gets a vector too: it is encoded, then normalised with the
statistics of the training profiles.

Shapes: P distinct profiles, N profiles or texts, F fields, C width of the encoder's vectors, M width of a table row.
"""

import dataclasses
import functools
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cuma_jax.config import ProfileConfig
from cuma_jax.profile_encoders.normalise import fit_normaliser
from cuma_jax.profile_encoders.number_columns import NumberColumns, fit_number_columns
from cuma_jax.profile_encoders.profile_embedders import (
    WHOLE,
    CategoricalEmbedder,
    ProfileEmbedder,
    completed,
    fit_categorical,
)
from cuma_jax.profile_encoders.text_encoder import TextEncoder
from cuma_jax.runtime.errors import CumaError
from cuma_jax.runtime.files import atomic_write, cache_dir, cached_array, content_key, undamaged
from cuma_jax.runtime.processes import broadcast, decide, process_index
from cuma_jax.surveys.profiles import Profiles

FILE = "profile_table.npz"
_TABLE_ADVICE = "delete it, and start the run's training command again: it writes the table anew"


@dataclasses.dataclass(frozen=True)
class ProfileTable:
    """One vector for each distinct profile of the survey, and the means to embed others."""

    vectors_PM: np.ndarray  # float32, row numbers as in `Profiles`
    vocab: dict[str, tuple[str, ...]]  # the values of each field in the survey
    codes_PF: np.ndarray  # int32, positions in `vocab`, -1 where missing
    embedder: ProfileEmbedder | CategoricalEmbedder  # embeds profiles that are not in the table

    @property
    def width(self) -> int:
        """M, the length of a profile vector."""
        return self.vectors_PM.shape[1]

    def embed_profiles(self, values: Sequence[Mapping[str, str]]) -> np.ndarray:
        """Vectors of profiles given as field -> value, float32 [N, M].

        A profile of the table gets exactly its row (with `profile.shuffle`: the row it was dealt); any other one is
        encoded and normalised.

        Raises:
            CumaError: see `ProfileEmbedder.embed`.
        """
        fields = self.embedder.fields
        values = completed(values, fields, self.embedder.derived, self.embedder.context)
        row_N = np.array([self._rows.get(tuple(p.get(f) for f in fields), -1) for p in values], np.int64)
        vectors_NM = self.vectors_PM[np.maximum(row_N, 0)]
        if (row_N < 0).any():
            vectors_NM[row_N < 0] = self.embedder.embed([p for p, row in zip(values, row_N, strict=True) if row < 0])
        return vectors_NM

    @property
    def keys(self) -> list[tuple[str | None, ...]]:
        """The values of each row's profile, one per field; None where missing."""
        return _keys(self.embedder.fields, self.vocab, self.codes_PF)

    @functools.cached_property
    def _rows(self) -> dict[tuple[str | None, ...], int]:
        return {key: row for row, key in enumerate(self.keys)}

    def saved(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """What `restored` needs: JSON values, and arrays."""
        about, arrays = self.embedder.saved()
        return {**about, "vocab": self.vocab}, arrays | {"vectors": self.vectors_PM, "codes": self.codes_PF}

    @classmethod
    def restored(cls, about: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> "ProfileTable":
        """The inverse of `saved`, without an encoder. A KeyError where something is missing."""
        embedder: ProfileEmbedder | CategoricalEmbedder
        if about["granularity"] == "categorical":
            embedder = CategoricalEmbedder.restored(about)
        else:
            embedder = ProfileEmbedder.restored(about, arrays)
        vocab = {field: tuple(values) for field, values in about["vocab"].items()}
        return cls(arrays["vectors"], vocab, arrays["codes"], embedder)

    def save(self, folder: pathlib.Path) -> None:
        """Writes the table and the normalisers' statistics to one file in `folder` (arrays and JSON, no pickle)."""
        about, arrays = self.saved()
        arrays |= {"about": np.array(json.dumps(about))}
        atomic_write(folder / FILE, lambda path: np.savez_compressed(path, **arrays))  # type: ignore[arg-type]

    @classmethod
    def load(cls, folder: pathlib.Path, encoder: TextEncoder | None = None) -> "ProfileTable":
        """Reads what `save` wrote; `encoder` is the run's, for profiles that are not in the table.

        Raises:
            CumaError: no such file, a damaged one, or another encoder than the run's.
        """
        path = folder / FILE
        try:
            with undamaged(path, _TABLE_ADVICE), np.load(path, allow_pickle=False) as arrays:
                table = cls.restored(json.loads(str(arrays["about"])), dict(arrays))
        except FileNotFoundError:
            raise CumaError(f"{path} does not exist; is {folder} the folder of a finished or running run?") from None
        if not np.isfinite(table.vectors_PM).all():
            raise CumaError(f"{path} is damaged: it holds vectors that are not finite; {_TABLE_ADVICE}")
        return table if encoder is None else table.with_encoder(encoder, str(path))

    def with_encoder(self, encoder: TextEncoder, where: str) -> "ProfileTable":
        """The same table, for other profiles too; a `CumaError` for another encoder than it was made with."""
        if not isinstance(self.embedder, ProfileEmbedder):
            return self
        _check_same(where, self.embedder.encoder_info, _info(encoder))
        return dataclasses.replace(self, embedder=dataclasses.replace(self.embedder, encoder=encoder))


def build_profile_table(
    profiles: Profiles,
    train_P: np.ndarray,
    config: ProfileConfig,
    encoder: TextEncoder | None,
    cache: str | pathlib.Path = "",
    seed: int = 0,
    progress: bool = True,
    lookup: bool = False,
    people_P: np.ndarray | None = None,
) -> ProfileTable:
    """Encodes all profiles and fits the normaliser on those of training; granularity `categorical`: see there.

    Granularity `field` fits each field's normaliser on its distinct training values, each counted once however many
    respondents have it, and keeps one component for every `values_per_component` of them. A field with a single
    training value tells training profiles nothing: it whitens to one column of zeros.

    `train_P` is bool [P], which profiles have training answers; `encoder` is None for granularity `categorical`, which
    encodes no text; texts that are encoded are kept below `cache`, by content; `seed` is that of `config.shuffle`;
    `lookup`: vectors are gates, see `CategoricalEmbedder`; `people_P`, int [P], are the training respondents of each
    profile, over whom numbers are standardised (None: one of each).

    Raises:
        CumaError: no profile fields, no training profile, a text too long for the encoder, a field with too many values
            to be columns, or a shuffle of one profile.
    """
    if not profiles.fields:
        raise CumaError("the survey has no profile fields, so there is nothing to embed; use router.inputs hidden")
    if not train_P.any():
        raise CumaError("no profile has training answers; the profile vectors cannot be fitted (check data.unseen_*)")
    values = [profiles.values(row) for row in range(len(profiles))]
    people_P = train_P if people_P is None else people_P
    numbers = {field: fit_number_columns(profiles, people_P, field) for field in profiles.numeric}
    embedder: ProfileEmbedder | CategoricalEmbedder
    if config.granularity == "categorical":
        embedder = fit_categorical(profiles, train_P, lookup, numbers)
        vectors_PM = embedder.embed(values)
    else:
        assert encoder is not None
        embedder, vectors_PM = _fit_texts(profiles, values, train_P, numbers, config, encoder, cache, progress)
    if config.shuffle:
        vectors_PM = vectors_PM[_deranged(_keys(profiles.fields, profiles.vocab, profiles.codes_PF), seed)]
    return ProfileTable(vectors_PM, profiles.vocab, profiles.codes_PF, embedder)


def _fit_texts(
    profiles: Profiles,
    values: list[dict[str, str]],
    train_P: np.ndarray,
    numbers: dict[str, NumberColumns],
    config: ProfileConfig,
    encoder: TextEncoder,
    cache: str | pathlib.Path,
    progress: bool,
) -> tuple[ProfileEmbedder, np.ndarray]:
    embedder = ProfileEmbedder(
        *(config.granularity, profiles.fields, {}, _info(encoder), encoder, profiles.sentence, profiles.derived),
        *(numbers, profiles.context),
    )
    texts_P = [embedder.texts(profile) for profile in values]
    # Sorted, so that neither the cache nor a single bit depends on the order of the profiles.
    texts = sorted({text for blocks in texts_P for text in blocks.values()})
    vectors_NC = encode_cached(encoder, texts, cache, progress)
    row, is_train = {text: number for number, text in enumerate(texts)}, train_P.tolist()
    fields = (field for field in profiles.fields if field not in numbers)
    for block in (WHOLE,) if config.granularity == "profile" else fields:
        train = sorted({row[t[block]] for t, keep in zip(texts_P, is_train, strict=True) if keep and block in t})
        most = config.components if block == WHOLE else max(1, len(train) // config.values_per_component)
        components = min(config.components, most)
        embedder.normalisers[block] = fit_normaliser(vectors_NC[train], config.normalise, components)
    return embedder, embedder.table_rows(values, texts, vectors_NC)


def encode_cached(
    encoder: TextEncoder, texts: Sequence[str], cache: str | pathlib.Path = "", progress: bool = True
) -> np.ndarray:
    """`encoder.encode(texts)`, kept in the cache under a key of what decides the result; float32 [N, C].

    The encoder's weights are let go afterwards: with a cached result they are not read at all.
    """
    settings = [encoder.fingerprint, encoder.tokenizer, encoder.dtype, encoder.pooling, encoder.max_length]
    key = content_key(json.dumps([settings, list(texts)]))
    path = cache_dir(str(cache)) / "profiles" / f"{key}.npy"
    cached = cached_array(path, (len(texts), encoder.width)) if process_index() == 0 else None
    # Encoding with the base takes all processes, so that process 0 alone says whether there is any.
    if decide("" if cached is None else "cached"):
        return broadcast(cached, (len(texts), encoder.width))
    vectors_NC = broadcast(encoder.encode(texts, progress), (len(texts), encoder.width))
    encoder.release()
    if process_index() == 0:
        atomic_write(path, lambda part: np.save(part, vectors_NC))
    return vectors_NC


def _deranged(keys: Sequence[tuple[str | None, ...]], seed: int) -> np.ndarray:
    """A permutation without fixed points that depends on the profiles and the seed, not on the profiles' order."""
    if len(keys) < 2:
        raise CumaError("profile.shuffle needs at least two distinct profiles; this survey has one (check the fields)")
    order_P = np.array(sorted(range(len(keys)), key=lambda row: [value or "" for value in keys[row]]))
    # Neighbours on one random cycle through all profiles.
    cycle_P = order_P[np.random.default_rng(seed).permutation(len(keys))]
    other_P = np.empty(len(keys), np.int64)
    other_P[cycle_P] = np.roll(cycle_P, 1)
    return other_P


def _keys(
    fields: Sequence[str], vocab: Mapping[str, Sequence[str]], codes_PF: np.ndarray
) -> list[tuple[str | None, ...]]:
    columns = [
        [vocab[f][c] if c >= 0 else None for c in codes_P] for f, codes_P in zip(fields, codes_PF.T, strict=True)
    ]
    return list(zip(*columns, strict=True))


def _info(encoder: TextEncoder) -> dict[str, Any]:
    names = ("source", "fingerprint", "width", "pooling", "max_length")
    return {name: getattr(encoder, name) for name in names}


def _check_same(path: str, saved: dict[str, Any], given: dict[str, Any]) -> None:
    for name in ("fingerprint", "width", "pooling"):
        if saved[name] != given[name]:
            raise CumaError(
                f"{path} was made with the encoder {saved['source']} ({name} {saved[name]}), but {given['source']} "
                f"({name} {given[name]}) is loaded; give the run's own profile.encoder and profile.pooling"
            )
