"""The model behind `Model`: a run put together from its bundle, asked in batches of one shape.

Every row is computed alone: what is asked at the same time changes nothing but the place of a row in its batch.

Shapes: N rows, B rows of a batch, T tokens, D model width, P profiles, C profile width, O options, L layers, E experts.
"""

import dataclasses
import functools
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cuma_jax.data.batches import Buckets
from cuma_jax.data.survey_tokens import SurveyTokens, build_survey_tokens
from cuma_jax.evaluation.surveys.hold import held, strengths
from cuma_jax.evaluation.surveys.option_orders import in_listed_order
from cuma_jax.generation.personas import Persona, persona_of
from cuma_jax.profile_encoders.encoder_sources import Backbone, load_encoder
from cuma_jax.profile_encoders.profile_embedders import CategoricalEmbedder
from cuma_jax.profile_encoders.profile_table import ProfileTable
from cuma_jax.run import forward
from cuma_jax.run.forward import Tables
from cuma_jax.run.inference import row_step
from cuma_jax.run.pooled_start import OPTIONS, PooledStart
from cuma_jax.runtime.errors import CumaError
from cuma_jax.runtime.files import cache_dir
from cuma_jax.runtime.sharding import put_batch, put_whole, replicated
from cuma_jax.serving.about import keeps
from cuma_jax.serving.asking.opening import open_run, read_adapters
from cuma_jax.serving.asking.wordings import Wording
from cuma_jax.serving.bundle.contents import Contents
from cuma_jax.surveys.profiles import Profiles

CPU_ROWS, CPU_TEXTS = 16, 2
"""Rows of every batch on a CPU (elsewhere `evaluation.batch_size`), and texts that are read at once."""


@dataclasses.dataclass(frozen=True)
class _Row:
    wording: Wording
    profile: int
    tokens: SurveyTokens
    piece: int  # of the system pieces of `tokens`
    length: int
    bucket: int


class Engine:
    """Base and adapters on the devices."""

    def __init__(self, contents: Contents, folder: pathlib.Path, checkpoint: str):
        """Loads base and adapters; a `CumaError` as from `read_strengths`, `open_run` and `read_adapters`."""
        self._strength_Q = read_strengths(contents, folder, checkpoint)
        self.run = run = open_run(contents)
        self.adapters = read_adapters(run, folder, checkpoint)
        config = run.config
        self._shots = contents.shots()
        self._persons: dict[int, tuple[Persona, np.ndarray]] = {}
        self._last = len(run.profiles) - 1
        ways = run.mesh.shape["data"] * run.mesh.shape["fsdp"]
        cpu = jax.default_backend() == "cpu"
        self.rows = -(-(CPU_ROWS if cpu else config.evaluation.batch_size) // ways) * ways
        self._texts = CPU_TEXTS if cpu else 16
        self._buckets, self._longest = Buckets(config.data.buckets), config.data.max_length
        self._step = row_step(run, forward.predict_last)
        self._in_prompt = config.profile.in_prompt
        self._cached = bool(run.decoder.n_frozen) and not self._in_prompt
        lower = jax.jit(
            lambda base, tokens_BT: run.decoder.apply({"params": base}, tokens_BT, method="lower"),
            in_shardings=(run.base_shardings, replicated(run.mesh)),
            out_shardings=replicated(run.mesh),
        )
        self._lower = functools.partial(lower, run.base)
        self._pooled_QO, self._start = contents.pooled(), None
        if config.objective.start == "pooled":
            self._start = PooledStart(run.config, run.decoder, run.base, run.base_shardings, run.mesh, run.tokenizer)

    @property
    def profiles(self) -> Profiles:
        """Those of the data."""
        return self.run.profiles

    @functools.cached_property
    def table(self) -> ProfileTable | None:
        """The profile vectors with what embeds others: its weights are read when the first one comes."""
        run, table = self.run, self.run.table
        if table is None or isinstance(table.embedder, CategoricalEmbedder):
            return table
        backbone = Backbone(
            run.decoder_config, run.base, run.tokenizer, run.fingerprint, run.config.model.source, run.decoder.dtype,
            quantize=run.config.model.quantize,
        )  # fmt: skip
        return table.with_encoder(
            load_encoder(run.config.profile, str(cache_dir(run.config.run.cache_dir)), backbone), "the bundle"
        )

    def persona(self, values: Mapping[str, str]) -> Persona:
        """Who a profile is, as `generate` reads it."""
        return persona_of(values, "the profile", self.profiles, self.run.table) if values else Persona({}, "")

    def vector(self, who: Persona) -> np.ndarray | None:
        """The profile vector [C] of somebody; None where no router sees any."""
        if self.run.table is None:
            return None
        known = self.run.table
        key = tuple(who.values.get(field) for field in known.embedder.fields)
        if (row := self._table_rows.get(key)) is not None:
            return known.vectors_PM[row]
        assert self.table is not None
        return self.table.embed_profiles([who.values])[0]

    @functools.cached_property
    def _table_rows(self) -> dict[tuple[str | None, ...], int]:
        return {} if self.run.table is None else {key: row for row, key in enumerate(self.run.table.keys)}

    def person(self, values: Mapping[str, str]) -> int:
        """The number of a profile: of the data, or a new one's (from `len(profiles)` on), until it is forgotten."""
        who = self.persona(values)
        profiles, row = self.profiles.with_person(who.values)
        if profiles is self.profiles and self.profiles.values(row) == who.values:
            return row
        if self._shots is not None:
            raise CumaError(
                "this run's prompts show what people alike answered (profile.shots), which is known for people of the "
                "data only; ask for a group of them"
            )
        vector = self.vector(who)
        self._last += 1
        self._persons[self._last] = (who, np.zeros(0, np.float32) if vector is None else vector)
        return self._last

    def forget(self, person: int) -> None:
        """Lets go of a new profile's vector; one of the data stays."""
        self._persons.pop(person, None)

    def ask(self, wanted: Sequence[tuple[Wording, Sequence[int]]], gates: bool = False) -> None:
        """Fills in what wordings lack of some profiles; with `gates` their gates as well.

        Raises:
            CumaError: a question too long for the model's rows, or whose options have no letters of one token.
        """
        rows: list[_Row] = []
        for wording, profiles in wanted:
            found = wording.gates if gates else wording.probs
            lacking = [p for p in dict.fromkeys(profiles) if p not in found]
            if lacking:
                rows += self._rows(wording, lacking)
        if self._cached:
            self._read([row.wording for row in rows])
        if self._start is not None:
            for row in rows:
                if "offset_O" not in row.wording.read:
                    row.wording.read["offset_O"] = self._offset(row.wording)
        rows.sort(key=lambda row: row.bucket)
        first = 0
        while first < len(rows):
            same = [row for row in rows[first : first + self.rows] if row.bucket == rows[first].bucket]
            self._batch(same, gates)
            first += len(same)

    def _rows(self, wording: Wording, profiles: list[int]) -> list[_Row]:
        if self._in_prompt:
            tokens = self._tokens(wording, profiles)
            pieces = list(range(len(profiles)))
        else:
            if "tokens" not in wording.read:
                wording.read["tokens"] = self._tokens(wording, [])
            tokens = wording.read["tokens"]
            pieces = [0] * len(profiles)
        zeros = np.zeros(len(pieces), np.int32)
        lengths = tokens.lengths(np.array(pieces, np.int32), zeros)
        buckets = self._buckets.of(lengths, self._longest)
        if (buckets < 0).any():
            limit = self._buckets.limit(self._longest)
            raise CumaError(
                f"question {wording.question.id} has {lengths.max()} tokens with its options; this run takes at most "
                f"{limit}: shorten it"
            )
        many = zip(profiles, pieces, lengths.tolist(), buckets.tolist(), strict=True)
        return [_Row(wording, p, tokens, piece, length, bucket) for p, piece, length, bucket in many]

    def _tokens(self, wording: Wording, profiles: list[int]) -> SurveyTokens:
        """The pieces of one wording; with profiles in the prompt, for these alone, in their order."""
        if not self._in_prompt:
            return build_survey_tokens([wording.question], None, self.run.tokenizer, "choice")
        known = self.profiles
        if all(p < len(known) for p in profiles):
            some = dataclasses.replace(known, codes_PF=known.codes_PF[profiles], profile_R=np.zeros(0, np.int32))
        else:
            some = _Texts.of(known, [self._text(p) for p in profiles])
        shots = None if self._shots is None else self._shots.of(np.array(profiles), wording.number)
        return build_survey_tokens([wording.question], some, self.run.tokenizer, "choice", shots)

    def _text(self, profile: int) -> dict[str, str]:
        known = len(self.profiles)
        return self.profiles.values(profile) if profile < known else self._persons[profile][0].values

    def _offset(self, wording: Wording) -> np.ndarray:
        """What the logits of a wording's options start from, float32 [O]; 0 for a new question."""
        size = len(wording.order_O)
        if wording.number < 0 or self._start is None or self._pooled_QO is None:
            return np.zeros(size, np.float32)
        share_1O = self._pooled_QO[wording.number][wording.order_O][None]
        return self._start.offsets([wording.question], share_1O)[0]

    def _held(self, probs_1O: np.ndarray, number: int) -> np.ndarray:
        """A prediction as `evaluation.hold` says, over the options as listed."""
        if self._strength_Q is None or self._pooled_QO is None or number < 0:
            return probs_1O
        pooled_1O = self._pooled_QO[number : number + 1, : probs_1O.shape[1]]
        return held(probs_1O, pooled_1O, self._strength_Q[number : number + 1])

    def _read(self, wordings: Sequence[Wording]) -> None:
        """Hidden states below the first adapted layer, a few texts at a time, in calls of one shape a bucket."""
        lacking = [w for w in {id(w): w for w in wordings}.values() if "below_TD" not in w.read]
        by_bucket: dict[int, list[Wording]] = {}
        for wording in lacking:
            bucket_1 = self._buckets.of(wording.read["tokens"].template_lengths_M[:1], self._longest)
            by_bucket.setdefault(int(bucket_1[0]), []).append(wording)
        whole, zero = replicated(self.run.mesh), np.zeros(1, np.int32)
        for number, some in by_bucket.items():
            width = self._buckets.lengths[number]
            for first in range(0, len(some), self._texts):
                part = some[first : first + self._texts]
                filled = [w.read["tokens"].fill(zero, zero, width) for w in part]
                tokens_BT = np.concatenate([*filled, *filled[:1] * (self._texts - len(part))])
                with jax.set_mesh(self.run.mesh):
                    below_BTD = jax.device_put(self._lower(put_whole(tokens_BT, self.run.mesh)), whole)
                for wording, below_TD in zip(part, below_BTD, strict=False):
                    wording.read["below_TD"] = below_TD

    def _batch(self, rows: list[_Row], gates: bool) -> None:
        """Puts one batch to the model; it is filled up with its first row."""
        run, size, width = self.run, self.rows, self._buckets.lengths[rows[0].bucket]
        every = rows + rows[:1] * (size - len(rows))
        zero = np.zeros(1, np.int32)
        option_ids_BO, options_B = np.zeros((size, OPTIONS), np.int32), np.zeros(size, np.int32)
        for b, row in enumerate(every):
            options_B[b] = len(row.wording.question.options)
            option_ids_BO[b, : options_B[b]] = row.tokens.option_ids_QO[0, : options_B[b]]
        lengths_B = np.array([row.length for row in every], np.int32)
        batch: dict[str, Any] = {
            "lengths": lengths_B,
            "positions": lengths_B[:, None] - 1,
            "profile": np.arange(size, dtype=np.int32),
            "option_ids": option_ids_BO,
            "options": options_B,
        }
        if self._start is not None:
            batch["offset"] = np.zeros((size, OPTIONS), np.float32)
            for b, row in enumerate(every):
                batch["offset"][b, : options_B[b]] = row.wording.read["offset_O"]
        hidden = None
        with jax.set_mesh(run.mesh):
            if self._cached:
                batch["template"] = np.arange(size, dtype=np.int32)
                below = jnp.stack([row.wording.read["below_TD"] for row in every])
                hidden = jax.device_put(below, replicated(run.mesh))
            else:
                filled = [row.tokens.fill(np.array([row.piece], np.int32), zero, width) for row in every]
                batch["tokens"] = np.concatenate(filled)
            vectors = None
            if run.table is not None:
                vectors = put_whole(np.stack([self._vector(row.profile) for row in every]), run.mesh)
            found = self._step(self.adapters, run.base, Tables(vectors, hidden), put_batch(batch, run.mesh))
            probs_BO, gate_BLE = jax.device_get(found)
        for b, row in enumerate(rows):
            order_O = row.wording.order_O
            probs_1O = in_listed_order(probs_BO[b : b + 1, : len(order_O)], order_O[None])
            if not np.isfinite(probs_1O).all():
                raise CumaError("the model predicted a distribution that is not finite; the checkpoint is broken")
            row.wording.probs[row.profile] = self._held(probs_1O, row.wording.number)[0]
            if gates:
                row.wording.gates[row.profile] = gate_BLE[b]

    def _vector(self, profile: int) -> np.ndarray:
        assert self.run.table is not None
        known = len(self.profiles)
        return self.run.table.vectors_PM[profile] if profile < known else self._persons[profile][1]


def read_strengths(contents: Contents, folder: pathlib.Path, checkpoint: str) -> np.ndarray | None:
    """How strongly the model counts beside the pooled answers, float64 [Q]; None where nothing is held.

    Raises:
        CumaError: that was fitted for another checkpoint, or not yet.
    """
    if contents.config.evaluation.hold == "none" or not contents.questions:
        return None
    if not keeps(contents, folder, checkpoint) or "hold" not in contents.results:
        raise CumaError(
            f"{folder}: evaluation.hold is pooled, but how strongly was not fitted for the checkpoint {checkpoint}; "
            f"evaluate it first (python -m cuma_jax.evaluate --run ... --evaluation.checkpoint {checkpoint})"
        )
    return strengths(contents.results["hold"], [question.id for question in contents.questions])


@dataclasses.dataclass(frozen=True)
class _Texts(Profiles):
    """Profiles that are not of the data, for prompts: only their texts are asked for."""

    people: tuple[dict[str, str], ...] = ()

    @classmethod
    def of(cls, like: Profiles, people: list[dict[str, str]]) -> "_Texts":
        return cls(
            like.fields, like.vocab, np.zeros((len(people), len(like.fields)), np.int32), np.zeros(0, np.int32),
            like.sentence, like.derived, like.numeric, like.context, tuple(people),
        )  # fmt: skip

    def values(self, row: int) -> dict[str, str]:
        return self.people[row]
