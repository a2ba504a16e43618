"""Several orders of a question's options, and how much the predictions depend on them.

Language models favour letters and places (Pezeshkpour and Hruschka 2023; Zheng et al. 2024). A prediction for several
orders has the options written in each of them, lettered anew, and is mapped back to the order that the survey lists.

Legend: Q questions, N rows, O options.
"""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from cuma_jax.data.tokenise import survey_tokens
from cuma_jax.evaluation.metrics.distances import total_variation
from cuma_jax.run.layouts import SurveyLayout, survey_layout
from cuma_jax.run.pooled_start import PooledStart, with_pooled_start
from cuma_jax.run.run import Run
from cuma_jax.surveys.splits import SPLITS
from cuma_jax.surveys.survey import Survey


def option_orders(sizes_Q: Sequence[int], count: int, seed: int) -> list[np.ndarray]:
    """`count` orders, each int64 [Q, O]: the listed option that stands at each place; places past the size stay.

    The first is as listed, the second reversed, the others drawn for each question.
    """
    places = np.arange(max(sizes_Q))
    orders = [np.tile(places, (len(sizes_Q), 1)) for _ in range(count)]
    for number, order_QO in enumerate(orders[1:], 1):
        rng = np.random.default_rng([seed, 0x0DE5, number])
        for order_O, size in zip(order_QO, sizes_Q, strict=True):
            order_O[:size] = places[:size][::-1] if number == 1 else rng.permutation(size)
    return orders


def reordered(survey: Survey, order_QO: np.ndarray) -> Survey:
    """The same survey with the options of every question in another order; answers stay the same texts."""
    place_QO = np.argsort(order_QO, axis=-1)
    questions = tuple(
        dataclasses.replace(
            question,
            options=tuple(question.options[o] for o in order_O[: len(question.options)]),
            codes=tuple(question.codes[o] for o in order_O[: len(question.codes)]),
        )
        for question, order_O in zip(survey.questions, order_QO, strict=True)
    )
    option_A = place_QO[survey.question_A, survey.option_A].astype(np.int32)
    return dataclasses.replace(survey, questions=questions, option_A=option_A)


def reordered_layout(run: Run, order_QO: np.ndarray) -> SurveyLayout:
    """Rows for prediction with the options in another order, made as the run's own are; a CumaError if too long."""
    a, survey = run, reordered(run.survey, order_QO)
    train_A = a.split_N == SPLITS.index("train")
    pieces = survey_tokens(a.config, survey, a.profiles, a.tokenizer, ("choice",), train_A)
    assert a.prediction is not None
    vectors_PM = next(iter(a.prediction.tables.values())).profile_PC
    layout = survey_layout(
        a.config, "choice", pieces["choice"], survey, a.profiles, vectors_PM, a.decoder, a.base, a.base_shardings,
        a.mesh, {}, a.objective.pairs_replies,
    )  # fmt: skip
    if a.config.objective.start == "base":
        return layout
    start = PooledStart(a.config, a.decoder, a.base, a.base_shardings, a.mesh, a.tokenizer)
    return with_pooled_start(layout, start, train_A)


def in_listed_order(probs_NO: np.ndarray, order_NO: np.ndarray) -> np.ndarray:
    """Distributions over the options of an order, as distributions over the options as listed."""
    listed_NO = np.zeros_like(probs_NO)
    np.put_along_axis(listed_NO, order_NO, probs_NO, axis=-1)
    return listed_NO


def sensitivity(predictions: Sequence[np.ndarray]) -> dict[str, Any]:
    """How much the order matters, over rows and pairs of orders; of each order [N, O] over the options as listed.

    `total_variation` is the mean distance between a row's predictions under two orders, `flips` how often their
    likeliest options differ.
    """
    pairs = list(itertools.combinations(predictions, 2))
    return {
        "orders": len(predictions),
        "rows": len(predictions[0]),
        "total_variation": float(np.mean([total_variation(a_NO, b_NO).mean() for a_NO, b_NO in pairs])),
        "flips": float(np.mean([(a_NO.argmax(-1) != b_NO.argmax(-1)).mean() for a_NO, b_NO in pairs])),
    }
