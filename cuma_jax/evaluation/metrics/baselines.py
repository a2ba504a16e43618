"""Predictions that need no language model, all fitted on training answers only.

Legend: A answers, G groups, O options, Q questions, N cells, S grid of concentrations.
"""

import dataclasses

import numpy as np
from scipy.special import gammaln

MARGINALS = ("uniform", "pooled", "group", "shrunken_group")
"""Baselines that are marginals of the training answers: one distribution a (question, group)."""
BASELINES = (*MARGINALS, "logistic")
"""Every baseline; `logistic` predicts by profile (`evaluation.logistic`)."""


@dataclasses.dataclass(frozen=True)
class Marginals:
    """Marginals of the training answers.

    Attributes:
        uniform_QO: equal probabilities over each question's options.
        pooled_QO: weighted distribution of the question over all training respondents; uniform where it has none.
        group_QGO: weighted distribution of the group; the pooled one where the group has no training answers.
        shrunken_QGO: the group's distribution shrunk towards the pooled one (see `fit_marginals`).
        n_QG: training answers behind each group's distribution, unweighted.
        concentration_Q: fitted strength of the shrinkage, in answers; inf where groups do not differ.
    """

    uniform_QO: np.ndarray
    pooled_QO: np.ndarray
    group_QGO: np.ndarray
    shrunken_QGO: np.ndarray
    n_QG: np.ndarray
    concentration_Q: np.ndarray

    def predict(self, name: str, question_N: np.ndarray, group_N: np.ndarray) -> np.ndarray:
        """Distribution [N, O] that the baseline `name` (one of `MARGINALS`) gives each (question, group)."""
        if name in (of_questions := {"uniform": self.uniform_QO, "pooled": self.pooled_QO}):
            return of_questions[name][question_N]
        return {"group": self.group_QGO, "shrunken_group": self.shrunken_QGO}[name][question_N, group_N]


def fit_marginals(
    size_Q: np.ndarray,
    groups: int,
    question_A: np.ndarray,
    group_A: np.ndarray,
    option_A: np.ndarray,
    weight_A: np.ndarray,
) -> Marginals:
    """Fits every marginal on the given (training) answers.

    The shrunken group is the posterior mean under a Dirichlet prior centred on the pooled marginal,
    `(n_eff p_group + a p_pooled) / (n_eff + a)`, with the concentration `a` of each question the one that maximises
    the Dirichlet-multinomial likelihood of all its groups (empirical Bayes; Minka 2000, "Estimating a Dirichlet
    distribution"). `weight_A` is the survey weight of each answer's respondent.
    """
    questions, options = len(size_Q), int(np.max(size_Q))
    uniform_QO = (np.arange(options) < size_Q[:, None]) / size_Q[:, None]
    cell_A = question_A.astype(np.int64) * groups + group_A
    mass_QGO = np.bincount(cell_A * options + option_A, weight_A, questions * groups * options)
    mass_QGO = mass_QGO.reshape(questions, groups, options).astype(np.float64)  # int when there is nothing to count
    n_QG = np.bincount(cell_A, minlength=questions * groups).reshape(questions, groups)
    square_QG = np.bincount(cell_A, weight_A.astype(np.float64) ** 2, questions * groups).reshape(questions, groups)
    total_QG = mass_QGO.sum(-1)
    effective_QG = np.divide(total_QG**2, square_QG, out=np.zeros_like(total_QG), where=square_QG > 0)

    pooled_QO = _normalise(mass_QGO.sum(1), uniform_QO)
    group_QGO = _normalise(mass_QGO, np.broadcast_to(pooled_QO[:, None], mass_QGO.shape))
    concentration_Q = np.array(
        [_concentration(effective_QG[q, :, None] * group_QGO[q], pooled_QO[q]) for q in range(questions)]
    )
    # The prior's share, a / (n + a), written so that an infinite concentration gives 1.
    prior_QG1 = (1.0 / (1.0 + effective_QG / concentration_Q[:, None]))[..., None]
    shrunken_QGO = prior_QG1 * pooled_QO[:, None] + (1.0 - prior_QG1) * group_QGO
    return Marginals(uniform_QO, pooled_QO, group_QGO, shrunken_QGO, n_QG, concentration_Q)


def _normalise(mass_NO: np.ndarray, empty_NO: np.ndarray) -> np.ndarray:
    total_N1 = mass_NO.sum(-1, keepdims=True)
    return np.where(total_N1 > 0, mass_NO / np.where(total_N1 > 0, total_N1, 1.0), empty_NO)


def _concentration(count_GO: np.ndarray, pooled_O: np.ndarray) -> float:
    """Concentration that maximises the Dirichlet-multinomial likelihood, on a grid of 12 a decade."""
    count_GO, pooled_O = count_GO[:, pooled_O > 0], pooled_O[pooled_O > 0]
    count_GO = count_GO[count_GO.sum(-1) > 0]
    if len(count_GO) < 2:
        return np.inf
    grid_S = np.logspace(-1, 5, 73)
    prior_S1O = grid_S[:, None, None] * pooled_O
    n_G = count_GO.sum(-1)
    likelihood_S = (
        (gammaln(grid_S)[:, None] - gammaln(grid_S[:, None] + n_G)).sum(-1)
        + (gammaln(prior_S1O + count_GO) - gammaln(prior_S1O)).sum((-1, -2))
    )  # fmt: skip
    best = int(np.argmax(likelihood_S))
    return np.inf if best == len(grid_S) - 1 else float(grid_S[best])
