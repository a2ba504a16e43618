"""What predictions start from where `objective.start` is pooled.

The logits of a question's options are then

    log(pooled) + (logits with adapters - logits of the base),

so that an untrained model predicts the pooled answers, and adapters learn differences from them. The offset, what is
added to the logits with adapters, is log(pooled) less the base's logits. The base is asked without a profile: it then
says nothing of who is asked, and one text a question (and order of its options) is enough. What the profile in a prompt
does to the base stays in the difference. A question without training answers has no offset.

A start alone does not hold a question there: what adapters learn of questions with many answers moves those with few.
With `objective.start_answers` A, a question of n training answers is trained as if A people more had answered as all
do, whoever they are: the target of each of its rows is (n y + A pooled) / (n + A). This is a catalytic prior (Huang,
Stein, Rubin and Kou, 2020, "Catalytic prior distributions with application to generalized linear models", PNAS).

Shapes: Q questions, O options, A answers, T tokens, D model width.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from cuma_jax.config import Config
from cuma_jax.config.checks import SPLITS
from cuma_jax.data.batches import Buckets, QuestionStart
from cuma_jax.data.survey_tokens import SurveyTokens, build_survey_tokens
from cuma_jax.models.attention import rotary_table
from cuma_jax.models.decoder import Decoder, Layer
from cuma_jax.run.layouts import SurveyLayout
from cuma_jax.runtime.errors import CumaError
from cuma_jax.runtime.sharding import put_whole, replicated
from cuma_jax.surveys.survey import Question, Survey
from cuma_jax.tokenization.tokenizer import Tokenizer

Tree = Any
PRIOR = 0.5
"""Answers that are added to each option of a question (Jeffreys), so that none is impossible."""
OPTIONS = 26
"""Options of every call, so that a question's offset does not depend on the others'."""


def pooled_shares(survey: Survey, train_A: np.ndarray) -> np.ndarray:
    """Shares of the options in the training answers (bool [A]) to each question, float64 [Q,O].

    Weighted as the baseline pooled is, and smoothed: `PRIOR` answers more an option, beside as many as the weighted
    ones are worth (Kish). 0 past a question's options; nan for questions without training answers.
    """
    sizes_Q = np.array([len(question.options) for question in survey.questions])
    questions, options = len(sizes_Q), int(sizes_Q.max())
    question_A, option_A = survey.question_A[train_A], survey.option_A[train_A]
    weight_A = survey.respondents["weight"].to_numpy(np.float64)[survey.respondent_A[train_A]]
    weight_A = np.where(np.isfinite(weight_A), weight_A, 0.0)
    key_A = question_A.astype(np.int64) * options + option_A
    mass_QO = np.bincount(key_A, weight_A, questions * options).reshape(questions, options).astype(np.float64)
    square_Q = np.bincount(question_A, weight_A**2, questions)
    total_Q1 = mass_QO.sum(1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        count_QO = mass_QO * total_Q1 / square_Q[:, None]  # of as many answers of equal weight
    there_QO = np.arange(options) < sizes_Q[:, None]
    count_QO = np.where(there_QO, count_QO + PRIOR, 0.0)
    return count_QO / count_QO.sum(1, keepdims=True)


def check_validation(split_A: np.ndarray) -> None:
    """Raises a `CumaError` where no answers are for validation; `split_A`: see `Run.split_N`."""
    if not (split_A == SPLITS.index("validation")).any():
        raise CumaError(
            "config field evaluation.hold is pooled, but there are no validation respondents to fit its strength on; "
            "hold some out (data.validation_respondents), or set evaluation.hold to none"
        )


class PooledStart:
    """Offsets of questions, given a base on its devices."""

    def __init__(
        self, config: Config, decoder: Decoder, base: Tree, base_shardings: Tree, mesh: Mesh, tokenizer: Tokenizer
    ):
        """Compiles nothing yet. `config` says how long rows may be."""
        self._buckets, self._longest = Buckets(config.data.buckets), config.data.max_length
        self._tokenizer, self._mesh = tokenizer, mesh
        whole = replicated(mesh)
        logits = jax.jit(
            functools.partial(_base_logits, decoder),
            in_shardings=(base_shardings, whole, whole, whole),
            out_shardings=whole,
        )
        self._logits = functools.partial(logits, base)

    def offsets(
        self, questions: Sequence[Question], shares_QO: np.ndarray, tokens: SurveyTokens | None = None
    ) -> np.ndarray:
        """float32 [Q,O]; 0 past a question's options and without training answers.

        Args:
            questions: as they are put, options in their order.
            shares_QO: see `pooled_shares`, in the same order.
            tokens: of the questions, where they are made without profiles; None: made here.
        """
        if tokens is None or tokens.system:
            tokens = build_survey_tokens(questions, None, self._tokenizer, "choice")
        offset_QO = np.zeros(shares_QO.shape, np.float32)
        template_Q = tokens.template_QO[:, 0]
        bucket_Q = self._buckets.of(tokens.template_lengths_M[template_Q], self._longest)
        for q, question in enumerate(questions):
            size = len(question.options)
            if bucket_Q[q] >= 0 and np.isfinite(shares_QO[q, :size]).all():
                logits_O = self._ask(tokens, int(template_Q[q]), q, self._buckets.lengths[bucket_Q[q]])
                offset_QO[q, :size] = np.log(shares_QO[q, :size]) - logits_O[:size]
        return offset_QO

    def _ask(self, tokens: SurveyTokens, template: int, question: int, width: int) -> np.ndarray:
        """The base's logits of a question's options, float64 [26]; one text a call, of a bucket's length."""
        one = np.array([template], np.int32)
        ids_O = tokens.option_ids_QO[question]
        option_ids_1O = np.zeros((1, OPTIONS), np.int32)
        option_ids_1O[0, : len(ids_O)] = ids_O
        length_1 = tokens.template_lengths_M[one]
        given = (tokens.fill(np.zeros(1, np.int32), one, width), length_1, option_ids_1O)
        with jax.set_mesh(self._mesh):
            found = self._logits(*(put_whole(array, self._mesh) for array in given))
            return np.asarray(jax.device_get(found)[0], np.float64)


def with_pooled_start(layout: SurveyLayout, start: PooledStart, train_A: np.ndarray) -> SurveyLayout:
    """The layout, its rows with offsets and, as `objective.start_answers` says, weights of the pooled answers.

    Training answers are those of `train_A`, bool [A].
    """
    survey, more = layout.survey, layout.config.objective.start_answers
    shares_QO = pooled_shares(survey, train_A)
    offset_QO = start.offsets(survey.questions, shares_QO, layout.tokens)
    answers_Q = np.bincount(survey.question_A[train_A], minlength=len(shares_QO))
    prior_Q = np.where(answers_Q > 0, more / np.maximum(answers_Q + more, 1), 0.0)
    pooled_QO = np.nan_to_num(shares_QO)
    found = QuestionStart(offset_QO, pooled_QO.astype(np.float32), prior_Q.astype(np.float32))
    return dataclasses.replace(layout, start=found)


def _base_logits(
    decoder: Decoder, base: Tree, tokens_1T: jax.Array, length_1: jax.Array, option_ids_1O: jax.Array
) -> jax.Array:
    """Logits of some tokens after a text, without adapters, float32 [1,O]."""
    plain, variables = decoder.clone(adapter=None), {"params": base}
    layer = Layer(**decoder.layer_fields(None))
    rope = rotary_table(decoder.config, tokens_1T.shape[1])

    def read(x_1TD: jax.Array, params: Tree) -> tuple[jax.Array, None]:
        return layer.apply({"params": params}, x_1TD, rope, None, None)[0], None  # type: ignore[return-value]

    x_1TD: Any = plain.apply(variables, tokens_1T, method="embedded")
    for name in ("frozen_layers", "adapted_layers"):
        if name in base:
            x_1TD, _ = jax.lax.scan(read, x_1TD, base[name])
    h_11D: Any = plain.apply(variables, x_1TD, length_1[:, None] - 1, method="at_positions")
    logits_1O: Any = plain.apply(variables, h_11D[:, 0], option_ids_1O, method="option_logits")
    return logits_1O
