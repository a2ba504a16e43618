"""How rows of a source become batches, and what those batches index into on the devices.

Shapes: A answers, C conversations, N rows, M templates, T tokens, P profiles.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from cuma_jax.config import Config
from cuma_jax.data.batches import Buckets, HiddenCache, QuestionStart, Rows, SurveyBatcher, plan_hidden_cache
from cuma_jax.data.pipeline import Batcher
from cuma_jax.data.sampling import answer_rows, cell_rows, describe_sampling
from cuma_jax.data.survey_tokens import SurveyTokens
from cuma_jax.models.decoder import Decoder
from cuma_jax.run.forward import Tables
from cuma_jax.runtime.errors import CumaError
from cuma_jax.runtime.sharding import put_whole, replicated
from cuma_jax.surveys.profiles import Profiles
from cuma_jax.surveys.survey import Survey

Tree = Any
_CHUNK = 16
"""About how many rows of the question table are filled by one call."""
_TABLE_BYTES = 1 << 30
"""Largest table of hidden states where texts hold profiles."""


class Layout(Protocol):
    """Rows of a source."""

    @property
    def tables(self) -> dict[int, Tables]:
        """Per bucket, what batches index into, on the devices."""

    @property
    def cached(self) -> bool:
        """Whether hidden states are kept."""

    @property
    def by_question(self) -> bool:
        """Whether groups of people can be compared over the same questions."""

    def training_rows(self, mask_N: np.ndarray) -> Batcher:
        """The rows of the answers or conversations that `mask_N` (bool [N]) selects."""

    def describe(self, batcher: Batcher, drawn: int) -> list[str]:
        """What training sees of its rows, as lines to print; `drawn` rows in all."""


@dataclasses.dataclass(frozen=True)
class SurveyLayout:
    """Answers to a survey as rows.

    Attributes:
        form: how an answer is written, `choice` or `sft` (`Objective.answer_tokens`).
        tokens: the rows' token pieces.
        tables: per bucket, what batches index into, on the devices.
        cache: where the hidden states of texts are kept, for batches that name them instead of holding tokens.
        left_out: answers whose rows are too long, by reason; they are in no split.
        start: what predictions start from (`pooled_start`); None: the base.
    """

    config: Config
    survey: Survey
    profiles: Profiles
    form: str
    tokens: SurveyTokens
    tables: dict[int, Tables]
    cache: HiddenCache | None
    left_out: dict[str, int]
    start: QuestionStart | None = None

    @property
    def cached(self) -> bool:
        """Whether hidden states are kept."""
        return self.cache is not None

    @property
    def by_question(self) -> bool:
        """Rows are single answers."""
        return True

    @property
    def sizes_Q(self) -> tuple[int, ...]:
        """Options of each question."""
        return tuple(len(question.options) for question in self.survey.questions)

    def batcher(self, rows: Rows) -> SurveyBatcher:
        """`rows` as batches."""
        data, buckets, tokens = self.config.data, Buckets(self.config.data.buckets), self.tokens
        return SurveyBatcher(rows, tokens, self.sizes_Q, self.form, buckets, data.max_length, self.cache, self.start)

    def training_rows(self, mask_A: np.ndarray) -> SurveyBatcher:
        """The answers that `mask_A` (bool [A]) selects as the objective wants them: cells, or one by one."""
        build = cell_rows if self.config.objective.aggregate == "cell" else answer_rows
        return self.batcher(build(self.survey, self.profiles, mask_A, self.config.data))

    def describe(self, batcher: Batcher, drawn: int) -> list[str]:
        """What training sees of its rows, as lines to print; `drawn` rows in all."""
        assert isinstance(batcher, SurveyBatcher)
        names, order = [question.id for question in self.survey.questions], self.config.data.order
        text = describe_sampling(batcher.mass_N, drawn, batcher.rows.question_N, names, order)
        return [text, *(f"left out: {count:,} answers to {reason}" for reason, count in self.left_out.items())]


@dataclasses.dataclass(frozen=True)
class NoRows:
    """The rows of a run that is used without its data: none."""

    tables: dict[int, Tables]
    cached: bool = False
    by_question: bool = False

    def training_rows(self, mask_N: np.ndarray) -> Batcher:
        """Raises a `CumaError`: there are none."""
        raise CumaError("this run was opened without its data; it can be asked, but not trained or scored")

    def describe(self, batcher: Batcher, drawn: int) -> list[str]:
        """Nothing."""
        return []


def plain_tables(config: Config, vectors_PM: jax.Array | None) -> dict[int, Tables]:
    """The tables of every bucket where batches hold tokens."""
    return {b: Tables(vectors_PM) for b in range(len(config.data.buckets))}


def survey_layout(
    config: Config,
    form: str,
    tokens: SurveyTokens,
    survey: Survey,
    profiles: Profiles,
    vectors_PM: jax.Array | None,
    decoder: Decoder,
    base: Tree,
    base_shardings: Tree,
    mesh: Mesh,
    left_out: dict[str, int],
    pairs: bool = False,
) -> SurveyLayout:
    """The layout of a survey, its question table filled where one is used; `pairs`: for an objective of pairs."""
    cache = hidden_cache(config, decoder, tokens, survey, profiles, pairs)
    tables = plain_tables(config, vectors_PM)
    if cache is not None:
        lengths = config.data.buckets
        lower = jax.jit(
            lambda base, tokens_BT: decoder.apply({"params": base}, tokens_BT, method="lower"),
            in_shardings=(base_shardings, replicated(mesh)),
            out_shardings=replicated(mesh),
        )
        fill = functools.partial(_hidden_table, tokens, cache, lower=functools.partial(lower, base), mesh=mesh)
        tables = {
            int(b): Tables(vectors_PM, fill(np.flatnonzero(cache.bucket_K == b), lengths[b]))
            for b in np.unique(cache.bucket_K[cache.bucket_K >= 0])
        }
    return SurveyLayout(config, survey, profiles, form, tokens, tables, cache, left_out)


def hidden_cache(
    config: Config, decoder: Decoder, tokens: SurveyTokens, survey: Survey, profiles: Profiles, pairs: bool = False
) -> HiddenCache | None:
    """The texts whose hidden states below the first adapted layer are kept; None where they are not.

    They are exact: no layer below depends on the profile's vector. Without profiles in the prompt, a text is a
    question, and there are few. With them it is a question put to a profile: kept where there are fewer of them than
    rows to train on, and the table is not large.
    """
    if config.train.question_cache != "auto" or not decoder.n_frozen:
        return None
    buckets, longest = Buckets(config.data.buckets), config.data.max_length
    if not tokens.system:
        none = np.zeros(0, np.int32)
        return plan_hidden_cache(tokens, buckets, longest, none, none)
    most = config.train.steps * config.train.batch_size
    if pairs:  # the options that were not chosen are rows, too
        return None
    if not decoder.n_adapted or len(profiles) > most:
        return None
    template_A = tokens.template_QO[survey.question_A, survey.option_A]
    cache = plan_hidden_cache(tokens, buckets, longest, profiles.profile_R[survey.respondent_A], template_A)
    width_K = np.array(buckets.lengths)[cache.bucket_K]
    size = int(width_K.sum()) * decoder.config.width * jnp.dtype(decoder.dtype).itemsize
    return cache if len(width_K) <= most and size <= _TABLE_BYTES else None


def _hidden_table(
    tokens: SurveyTokens,
    cache: HiddenCache,
    members: np.ndarray,
    width: int,
    lower: Callable[[jax.Array], jax.Array],
    mesh: Mesh,
) -> jax.Array:
    """Hidden states below the first adapted layer, [K,T,D] on every device, in a few calls of one shape."""
    ways = mesh.shape["data"] * mesh.shape["fsdp"]
    chunk = ways * max(_CHUNK // ways, 1)
    padded_K = np.resize(members, -(-len(members) // chunk) * chunk)
    tokens_KT = tokens.fill(cache.profile_K[padded_K], cache.template_K[padded_K], width)
    whole = replicated(mesh)
    with jax.set_mesh(mesh):
        parts = [lower(put_whole(t, mesh)) for t in np.split(tokens_KT, len(padded_K) // chunk)]
        return jax.device_put(jnp.concatenate(parts)[: len(members)], whole)
