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

from cuma_jax.cache import atomic_write, cache_dir, content_key
from cuma_jax.config import ProfileConfig
from cuma_jax.errors import CumaError
from cuma_jax.models.normalise import Normaliser, fit_normaliser
from cuma_jax.models.text_encoder import TextEncoder
from cuma_jax.surveys.derived import fill_derived
from cuma_jax.surveys.profiles import Profiles, Style, describe, field_text

FILE = "profile_table.npz"
_WHOLE = "(whole profile)"
"""Name of the one block that granularity `profile` has; no field is called so."""
VALUES_A_COMPONENT = 4
"""Distinct training values a field needs for each whitened component: more would tell every value apart."""


@dataclasses.dataclass(frozen=True)
class ProfileEmbedder:
    """Text to normalised vector, with the statistics fitted in training.

    Attributes:
        granularity: see `ProfileConfig`. `field` lays one block a field side by side, in the order of `fields`;
            a field that a profile lacks is a block of zeros.
        fields: the profile fields of the survey.
        normalisers: one a field, or one for the whole profile.
        sentence: how a whole profile is worded.
        encoder_info: source, fingerprint, width, pooling and longest text of the encoder it was fitted with.
        encoder: None where no encoder is at hand; then nothing new can be embedded.
        derived: those of `fields` that follow from the country; a profile that lacks them gets them.
    """

    granularity: str
    fields: tuple[str, ...]
    normalisers: dict[str, Normaliser]
    encoder_info: dict[str, Any]
    encoder: TextEncoder | None = None
    sentence: Style = "natural"
    derived: tuple[str, ...] = ()

    def complete(self, profile: Mapping[str, str]) -> dict[str, str]:
        """The profile with the derived fields that it lacks."""
        return fill_derived(profile, self.derived)

    def embed(self, values: Sequence[Mapping[str, str]]) -> np.ndarray:
        """Vectors of any profiles, seen before or not.

        Args:
            values: N profiles as field -> value; fields may be absent, and derived ones then follow from the country.

        Returns:
            float32 [N, M].

        Raises:
            CumaError: an unknown field, no encoder at hand, or a text that is too long for it.
        """
        values = [self.complete(profile) for profile in values]
        for profile in values:
            if unknown := sorted(set(profile) - set(self.fields)):
                raise CumaError(f"unknown profile field {unknown[0]!r}; this run knows {', '.join(self.fields)}")
        if self.encoder is None:
            raise CumaError(
                f"a profile that was not in the survey needs the encoder {self.encoder_info['source']}, "
                "which is not loaded here"
            )
        texts = sorted({text for profile in values for text in self.texts(profile).values()})
        return self.assemble(values, texts, self.encoder.encode(texts, progress=False))

    def texts(self, profile: Mapping[str, str]) -> dict[str, str]:
        """The text of each block of a profile: by field, or of the whole."""
        present = {field: profile[field] for field in self.fields if field in profile}
        if self.granularity == "profile":
            return {_WHOLE: describe(present, self.sentence)}
        return {field: field_text(field, value) for field, value in present.items()}

    def assemble(self, values: Sequence[Mapping[str, str]], texts: Sequence[str], vectors_NC: np.ndarray) -> np.ndarray:
        """Table rows from encoded texts: normalised block by block, and laid side by side.

        Args:
            values: N profiles.
            texts: distinct texts, all that `values` need.
            vectors_NC: their vectors.
        """
        row = {text: number for number, text in enumerate(texts)}
        texts_N, blocks = [self.texts(profile) for profile in values], []
        for block, normaliser in self.normalisers.items():
            row_N = np.array([row[t[block]] if block in t else -1 for t in texts_N], np.int64)
            used, which_N = np.unique(row_N[row_N >= 0], return_inverse=True)
            block_NM = np.zeros((len(values), normaliser.width(self.encoder_info["width"])), np.float32)
            block_NM[row_N >= 0] = normaliser(vectors_NC[used])[which_N]
            blocks.append(block_NM)
        return np.concatenate(blocks, axis=1)


@dataclasses.dataclass(frozen=True)
class ProfileTable:
    """One vector for each distinct profile of the survey, and the means to embed others.

    Attributes:
        vectors_PM: float32 [P, M], row numbers as in `Profiles`.
        vocab: the values of each field in the survey.
        codes_PF: int32 [P, F], positions in `vocab`, -1 where missing.
        embedder: embeds profiles that are not in the table.
    """

    vectors_PM: np.ndarray
    vocab: dict[str, tuple[str, ...]]
    codes_PF: np.ndarray
    embedder: ProfileEmbedder

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
        fields, values = self.embedder.fields, [self.embedder.complete(profile) for profile in values]
        row_N = np.array([self._rows.get(tuple(p.get(f) for f in fields), -1) for p in values], np.int64)
        row_N[[bool(set(p) - set(fields)) for p in values]] = -1  # left to the embedder, which names the field
        vectors_NM = self.vectors_PM[np.maximum(row_N, 0)]
        if (row_N < 0).any():
            vectors_NM[row_N < 0] = self.embedder.embed([p for p, row in zip(values, row_N, strict=True) if row < 0])
        return vectors_NM

    @functools.cached_property
    def _rows(self) -> dict[tuple[str | None, ...], int]:
        return {key: row for row, key in enumerate(_keys(self.embedder.fields, self.vocab, self.codes_PF))}

    def save(self, folder: pathlib.Path) -> None:
        """Writes the table and the normalisers' statistics to one file in `folder` (arrays and JSON, no pickle)."""
        embedder = self.embedder
        about = {
            "granularity": embedder.granularity,
            "fields": embedder.fields,
            "sentence": embedder.sentence,
            "derived": embedder.derived,
            "encoder": embedder.encoder_info,
            "vocab": self.vocab,
            "normalisers": {n: {"diagonal": v.diagonal, "l2": v.l2} for n, v in embedder.normalisers.items()},
        }
        arrays = {"vectors": self.vectors_PM, "codes": self.codes_PF, "about": np.array(json.dumps(about))}
        for number, normaliser in enumerate(embedder.normalisers.values()):
            arrays |= {f"mean_{number}": normaliser.mean_C, f"projection_{number}": normaliser.projection_CK}
        atomic_write(folder / FILE, lambda path: np.savez_compressed(path, **arrays))  # type: ignore[arg-type]

    @classmethod
    def load(cls, folder: pathlib.Path, encoder: TextEncoder | None = None) -> "ProfileTable":
        """Reads what `save` wrote.

        Args:
            folder: the run's folder.
            encoder: the encoder of the run, for profiles that are not in the table.

        Raises:
            CumaError: no such file, a damaged one, or another encoder than the run's.
        """
        path = folder / FILE
        try:
            with np.load(path, allow_pickle=False) as arrays:
                about = json.loads(str(arrays["about"]))
                normalisers = {
                    name: Normaliser(arrays[f"mean_{number}"], arrays[f"projection_{number}"], **flags)
                    for number, (name, flags) in enumerate(about["normalisers"].items())
                }
                vectors_PM, codes_PF = arrays["vectors"], arrays["codes"]
        except FileNotFoundError:
            raise CumaError(f"{path} does not exist; is {folder} the folder of a finished or running run?") from None
        except (OSError, ValueError, KeyError, EOFError) as error:
            raise CumaError(f"{path} cannot be read ({error}); the run's profile table is damaged") from error
        if encoder is not None:
            _check_same(path, about["encoder"], _info(encoder))
        vocab = {field: tuple(values) for field, values in about["vocab"].items()}
        embedder = ProfileEmbedder(
            *(about["granularity"], tuple(about["fields"]), normalisers, about["encoder"], encoder, about["sentence"]),
            tuple(about.get("derived", ())),  # tables of before there were any
        )
        return cls(vectors_PM, vocab, codes_PF, embedder)


def build_profile_table(
    profiles: Profiles,
    train_P: np.ndarray,
    config: ProfileConfig,
    encoder: TextEncoder,
    cache: str | pathlib.Path = "",
    seed: int = 0,
    progress: bool = True,
) -> ProfileTable:
    """Encodes all profiles and fits the normaliser on those of training.

    Granularity `field` fits each field's normaliser on its distinct training values, each counted once however many
    respondents have it, and keeps at most a quarter as many components as there are values. A field with a single
    training value tells training profiles nothing: it whitens to one column of zeros.

    Args:
        profiles: the distinct profiles of the survey.
        train_P: bool [P]; which profiles have training answers.
        config: profile settings.
        encoder: from `load_encoder(config, ...)`.
        cache: the configured cache folder; encoded texts are kept there by content.
        seed: of the shuffle, for `config.shuffle`.
        progress: report progress on stderr.

    Raises:
        CumaError: no profile fields, no training profile, a text too long for the encoder, or a shuffle of one profile.
    """
    if not profiles.fields:
        raise CumaError("the survey has no profile fields, so there is nothing to embed; use router.inputs hidden")
    if not train_P.any():
        raise CumaError("no profile has training answers; the profile vectors cannot be fitted (check data.unseen_*)")
    values = [profiles.values(row) for row in range(len(profiles))]
    embedder = ProfileEmbedder(
        config.granularity, profiles.fields, {}, _info(encoder), encoder, profiles.sentence, profiles.derived
    )
    texts_P = [embedder.texts(profile) for profile in values]
    # Sorted, so that neither the cache nor a single bit depends on the order of the profiles.
    texts = sorted({text for blocks in texts_P for text in blocks.values()})
    vectors_NC = encode_cached(encoder, texts, cache, progress)
    row, is_train = {text: number for number, text in enumerate(texts)}, train_P.tolist()
    for block in (_WHOLE,) if config.granularity == "profile" else profiles.fields:
        train = sorted({row[t[block]] for t, keep in zip(texts_P, is_train, strict=True) if keep and block in t})
        most = config.components if block == _WHOLE else max(1, len(train) // VALUES_A_COMPONENT)
        components = min(config.components, most)
        embedder.normalisers[block] = fit_normaliser(vectors_NC[train], config.normalise, components)
    vectors_PM = embedder.assemble(values, texts, vectors_NC)
    if config.shuffle:
        vectors_PM = vectors_PM[_deranged(_keys(profiles.fields, profiles.vocab, profiles.codes_PF), seed)]
    return ProfileTable(vectors_PM, profiles.vocab, profiles.codes_PF, embedder)


def encode_cached(
    encoder: TextEncoder, texts: Sequence[str], cache: str | pathlib.Path = "", progress: bool = True
) -> np.ndarray:
    """`encoder.encode(texts)`, kept in the cache under a key of what decides the result; float32 [N, C].

    The encoder's weights are let go afterwards: with a cached result they are not read at all.
    """
    settings = [encoder.fingerprint, encoder.dtype, encoder.pooling, encoder.max_length]
    key = content_key(json.dumps([settings, list(texts)]))
    path = cache_dir(str(cache)) / "profiles" / f"{key}.npy"
    if path.is_file():
        try:
            vectors_NC = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError):
            vectors_NC = np.zeros(0)  # damaged from outside: encode again and replace it
        if vectors_NC.shape == (len(texts), encoder.width):
            return vectors_NC
    vectors_NC = encoder.encode(texts, progress)
    encoder.release()
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


def _check_same(path: pathlib.Path, saved: dict[str, Any], given: dict[str, Any]) -> None:
    for name in ("fingerprint", "width", "pooling"):
        if saved[name] != given[name]:
            raise CumaError(
                f"{path} was made with the encoder {saved['source']} ({name} {saved[name]}), but {given['source']} "
                f"({name} {given[name]}) is loaded; give the run's own profile.encoder and profile.pooling"
            )
