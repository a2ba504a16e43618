"""How well a group of sampled answers matches the distribution of people's answers: a proper score of the sample.

A reward for single answers, such as people's share p(o) of the answer o, is highest for a policy that always gives
the likeliest answer: it would collapse people's disagreement. The energy distance of Szekely and Rizzo (2013, Energy
statistics) compares whole distributions, with a distance d between options:

    D(X, Y) = 2 E d(X, Y) - E d(X, X') - E d(Y, Y') >= 0, and 0 only where X and Y have one distribution,

where X, X' are the policy's answers and Y, Y' people's, all independent. d is |a - b| / (O - 1) on a scale of O options
(D is then twice the squared difference of the cumulative distributions, over O - 1), and 1 for different options of a
question without an order.

The reward of answer i of a group of G:

    r_i = - E d(o_i, Y) + c * (mean over j != i of d(o_i, o_j)), c = (G - 1) / (G - 2).

Why c: GRPO weighs log-probabilities by A_i = r_i - mean(r). With s_i the gradient of log pi(o_i), E s_i = 0, so that
E[r_i s_i] = - grad E d(X, Y) + c/2 grad E d(X, X'), but mean(r) holds o_i in the other answers' comparisons as well:
E[mean(r) s_i] = (- grad E d(X, Y) + c grad E d(X, X')) / G. Their difference is -(G - 1) / (2 G) times the gradient of
D(X, Y) for this c and no other: the policy's optimum is people's distribution itself. It is linear in people's
distribution, so that a cell with few answers adds noise, and no bias, over the cells that are drawn.

Shapes: G replies of a group, V valid ones among them, O options.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from cuma_jax.rewards.sample import Sample, Scores
from cuma_jax.runtime.errors import CumaError
from cuma_jax.surveys.cells import Cells
from cuma_jax.surveys.survey import Question

INVALID = -1.25
"""The reward of a reply that is not one option letter and the end of the turn: that of a valid one is at least -1. Not
far below: valid replies differ by a few tenths, and a reply that is now and then invalid must not drown them."""


def distances(options: int, ordered: bool) -> np.ndarray:
    """d between every two options, float64 [O,O], between 0 and 1."""
    place_O = np.arange(options)
    if ordered:
        return np.abs(place_O[:, None] - place_O[None, :]) / (options - 1)
    return (place_O[:, None] != place_O[None, :]).astype(np.float64)


def energy_distance(p_O: np.ndarray, q_O: np.ndarray, ordered: bool) -> float:
    """D of two distributions over the same options."""
    d_OO = distances(len(p_O), ordered)
    return float(2 * p_O @ d_OO @ q_O - p_O @ d_OO @ p_O - q_O @ d_OO @ q_O)


def group_rewards(option_G: np.ndarray, people_O: np.ndarray, ordered: bool) -> np.ndarray:
    """Rewards of one group, float64 [G].

    Invalid replies (option -1) get `INVALID` and are in nobody's comparison; G in c stays the whole group, because the
    mean that GRPO subtracts is over all of it. A single valid reply has nothing to be compared with, and gets 0:
    without the second term the likeliest answer would win.

    Args:
        option_G: int, the options chosen, -1 for an invalid reply; G is at least 3.
        people_O: people's distribution.
    """
    reward_G = np.full(len(option_G), INVALID)
    valid_G = option_G >= 0
    option_V = option_G[valid_G]
    if len(option_V) == 1:
        reward_G[valid_G] = 0.0
    elif len(option_V):
        d_OO = distances(len(people_O), ordered)
        among_V = d_OO[np.ix_(option_V, option_V)].sum(axis=1) / (len(option_V) - 1)  # d is 0 to oneself
        c = (len(option_G) - 1) / (len(option_G) - 2)
        reward_G[valid_G] = -(d_OO @ people_O)[option_V] + c * among_V
    return reward_G


def group_agreement(option_G: np.ndarray, people_O: np.ndarray, ordered: bool) -> float:
    """Minus the estimate of the energy distance from one group, unbiased over its draws; nan below two valid replies.

    People's distribution is taken as it is: in a cell of n answers even people drawn anew fall short of 0.
    """
    option_V = option_G[option_G >= 0]
    if len(option_V) < 2:
        return np.nan
    d_OO = distances(len(people_O), ordered)
    between = float(np.mean((d_OO @ people_O)[option_V]))
    among = float(d_OO[np.ix_(option_V, option_V)].sum() / (len(option_V) * (len(option_V) - 1)))
    return -(2 * between - among - float(people_O @ d_OO @ people_O))


class SurveyAgreement:
    """Rewards a group of answers for being distributed as people's (see the module).

    Exact with `grpo.advantage` unbiased, one update a step and sampling from the whole vocabulary. With `normalised`
    a group's advantages are divided by the standard deviation of its rewards, which depends on the very answers that
    are weighed: groups that agree by chance count for more, and the optimum is bent.

    Metrics: `agreement`, minus the energy distance, mean over groups (0 is perfect); `invalid`, the share of replies
    that are no single option. `cells`: people's training answers.
    """

    def __init__(self, questions: Sequence[Question], cells: Cells):
        self._questions, self._target_NO = questions, cells.target_NO
        keys_N = cells.profile_N.astype(np.int64) * len(questions) + cells.question_N
        self._row: Mapping[int, int] = {int(key): n for n, key in enumerate(keys_N)}

    def people(self, profile: int, question: int) -> np.ndarray:
        """Training answers to a question of people with a profile, float64 [O], sum 1; a `CumaError` for none."""
        row = self._row.get(profile * len(self._questions) + question)
        if row is None:
            raise CumaError(
                f"reward.survey: nobody with profile number {profile} answered question "
                f"{self._questions[question].id} in training"
            )
        people_O = self._target_NO[row, : len(self._questions[question].options)].astype(np.float64)
        return people_O / people_O.sum()

    def score(self, samples: Sequence[Sample]) -> Scores:
        """Rewards of whole groups."""
        group_N = np.array([sample.group for sample in samples])
        option_N = np.array([sample.option for sample in samples])
        values_N = np.zeros(len(samples))
        agreements = []
        for group in np.unique(group_N):
            members = np.flatnonzero(group_N == group)
            first = samples[members[0]]
            people_O = self.people(first.profile_row, first.question)
            ordered = self._questions[first.question].ordered
            values_N[members] = group_rewards(option_N[members], people_O, ordered)
            agreements.append(group_agreement(option_N[members], people_O, ordered))
        known = [value for value in agreements if np.isfinite(value)]
        metrics = {"invalid": float(np.mean(option_N < 0))} if len(samples) else {}
        if known:
            metrics["agreement"] = float(np.mean(known))
        return Scores(values_N, metrics)
