"""The baseline `logistic`: multinomial logistic regression of each question's answers on the profile.

Every value of every profile field is one input, 0 or 1, and so is every group of neighbouring numbers; a field that is
missing, or whose value no training answer to the question has, adds nothing. The L2 penalty is chosen on a fifth of the
training respondents, then the fit is made on all of them. Rows are the distinct (profile, option) pairs with their
summed survey weights.

Legend: R respondents, P profiles, F fields, V values of all fields, N rows of a fit, U pairs to predict, O options.
"""

import dataclasses
import sys
import warnings
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse
from tqdm import tqdm

from cuma_jax.evaluation.metrics.distances import nll
from cuma_jax.surveys.fields.numbers import read_numbers
from cuma_jax.surveys.held_out import hash_shares
from cuma_jax.surveys.profiles import Profiles
from cuma_jax.surveys.survey import Survey

if TYPE_CHECKING:
    from sklearn.linear_model import LogisticRegression

MAX_ANSWERS = 5000
"""Most training answers a question is fitted on; of more, those of the respondents with the lowest hash."""
MAX_CHOOSING = 2500
"""Most of them that the penalty is chosen on (what is best hardly depends on their number)."""
NUMBER_GROUPS = 10
"""Inputs of a field of numbers, at most."""
STRENGTHS = (0.008, 0.04, 0.2, 1.0)
"""Inverse penalties (scikit-learn's C, weights scaled to mean 1) that are tried, the strongest penalty first."""
_IMPOSSIBLE = -1e9
_HELD = 5  # every fifth of these respondents judges the penalty


@dataclasses.dataclass(frozen=True)
class Logistic:
    """Predicts any (profile, question) pair from the training answers, by a fit for each question.

    Attributes:
        fallback_QO: distribution of a question whose training answers are too few or all the same.
        seed: of the hash that holds respondents out and samples them.
        fitted: of each question that was asked: the inputs that are used, and the model; None: the fallback.
    """

    survey: Survey
    profiles: Profiles
    train_A: np.ndarray
    fallback_QO: np.ndarray
    seed: int
    fitted: "dict[int, tuple[np.ndarray, LogisticRegression] | None]" = dataclasses.field(default_factory=dict)

    def __call__(self, profile_U: np.ndarray, question_U: np.ndarray) -> np.ndarray:
        """Distribution [U, O] of each pair, float32, zero past the question's options."""
        inputs_PV, options = one_hot(self.profiles), self.fallback_QO.shape[1]
        self.fit(np.unique(question_U))
        probs_UO = np.zeros((len(profile_U), options), np.float32)
        for question in np.unique(question_U).tolist():
            rows, found = question_U == question, self.fitted[question]
            if found is None:
                probs_UO[rows] = self.fallback_QO[question]
            else:
                used_V, model = found
                probs_UO[rows] = _predict(model, inputs_PV[:, used_V][profile_U[rows]], options)
        return probs_UO

    def fit(self, questions: np.ndarray) -> None:
        """Fits those of some questions that are not fitted yet."""
        questions = np.array([q for q in questions.tolist() if q not in self.fitted], np.int64)
        if not len(questions):
            return
        inputs_PV = one_hot(self.profiles)
        index_A = np.flatnonzero(self.train_A)
        ids = self.survey.respondents["respondent_id"].tolist()
        rank_R = np.argsort(np.argsort(hash_shares(ids, self.seed, "logistic"), kind="stable"), kind="stable")
        question_A = self.survey.question_A[index_A].astype(np.min_scalar_type(len(self.survey.questions)))
        order_A = np.argsort(question_A, kind="stable")  # of 16 bits or fewer: a radix sort
        index_A, question_A = index_A[order_A], question_A[order_A]
        pace = 0.1 if sys.stderr.isatty() else 30.0
        for question in tqdm(questions, "logistic baseline", mininterval=pace, delay=10, unit="question", leave=False):
            first, last = np.searchsorted(question_A, [question, question + 1])
            index_N = index_A[first:last]
            sample = np.argsort(rank_R[self.survey.respondent_A[index_N]])[:MAX_ANSWERS]
            self.fitted[int(question)] = self._fit_question(inputs_PV, index_N[sample])

    def coefficients(self, questions: np.ndarray) -> np.ndarray:
        """The fits of some questions as logits: float32 [Q, 1 + V, O].

        The first row are the intercepts (-1e9 for options that cannot be), the others are for each value of each field.
        """
        input_V = input_of_value(self.profiles)
        self.fit(questions)
        num_inputs = int(input_V.max(initial=-1)) + 1
        logits_QVO = np.zeros((len(questions), 1 + num_inputs, self.fallback_QO.shape[1]), np.float32)
        logits_QVO[:, 0] = _IMPOSSIBLE
        for row, question in enumerate(questions.tolist()):
            found = self.fitted[question]
            if found is None:
                p_O = self.fallback_QO[question]
                logits_QVO[row, 0] = np.where(p_O > 0, np.log(np.maximum(p_O, 1e-30)), _IMPOSSIBLE)
                continue
            used_V, model = found
            coefficient_VO, intercept_O = np.atleast_2d(model.coef_).T, np.atleast_1d(model.intercept_)
            if len(model.classes_) == 2:  # one logit, of the second class
                coefficient_VO = np.concatenate([0 * coefficient_VO, coefficient_VO], axis=1)
                intercept_O = np.array([0.0, intercept_O[0]])
            logits_QVO[row, 0, model.classes_] = intercept_O
            inputs = 1 + np.flatnonzero(used_V)
            logits_QVO[row][np.ix_(inputs, model.classes_)] = coefficient_VO
        # A value of a field has what its input has.
        return logits_QVO[:, np.append(0, 1 + input_V)]

    def _fit_question(
        self, inputs_PV: sparse.csr_array, index_N: np.ndarray
    ) -> "tuple[np.ndarray, LogisticRegression] | None":
        """The inputs that are used, bool [V], and the model on them; None where there is too little to fit."""
        option_N, respondent_N = self.survey.option_A[index_N], self.survey.respondent_A[index_N]
        weight_N = self.survey.respondents["weight"].to_numpy(np.float64)[respondent_N]
        option_N, respondent_N, weight_N = (x[weight_N > 0] for x in (option_N, respondent_N, weight_N))
        place_N = np.arange(len(option_N))  # in the order of the hash
        fit_N, held_N = (part & (place_N < MAX_CHOOSING) for part in (place_N % _HELD > 0, place_N % _HELD == 0))
        if len(option_N) < 2 * _HELD or len(np.unique(option_N[fit_N])) < 2:
            return None
        profile_N, weight_N = self.profiles.profile_R[respondent_N], weight_N / weight_N.mean()
        # Inputs that are zero in every training row would keep coefficients of zero: left out of the fit.
        used_V = np.asarray(inputs_PV[profile_N].sum(axis=0)).ravel() > 0
        inputs_PV = inputs_PV[:, used_V]
        every = _rows(profile_N, option_N, weight_N)
        fit, held = (_rows(profile_N[m], option_N[m], weight_N[m]) for m in (fit_N, held_N))
        strength, start = _choose_strength(inputs_PV, fit, held, self.fallback_QO.shape[1])
        return used_V, _fit(inputs_PV, every, strength, start)


_Rows = tuple[np.ndarray, np.ndarray, np.ndarray]  # profile, option and weight of each row


def _rows(profile_N: np.ndarray, option_N: np.ndarray, weight_N: np.ndarray) -> _Rows:
    """Distinct (profile, option) pairs, and their summed weights."""
    options = int(option_N.max()) + 1
    key, row_N = np.unique(profile_N.astype(np.int64) * options + option_N, return_inverse=True)
    return key // options, key % options, np.bincount(row_N, weight_N)


def input_of_value(profiles: Profiles) -> np.ndarray:
    """The input of each value of each field, int [V], fields one after the other: one each, but numbers share
    `NUMBER_GROUPS` of them, each for as many neighbouring values.
    """
    parts, first = [], 0
    for field in profiles.fields:
        input_V = np.arange(len(profiles.vocab[field]))
        if field in profiles.numeric and len(input_V) > NUMBER_GROUPS:
            rank_V = np.argsort(np.argsort(read_numbers(profiles.vocab[field]), kind="stable"), kind="stable")
            input_V = rank_V * NUMBER_GROUPS // len(rank_V)
        parts.append(first + input_V)
        first += int(input_V.max(initial=-1)) + 1
    return np.concatenate([np.zeros(0, np.int64), *parts])


def one_hot(profiles: Profiles) -> sparse.csr_array:
    """0 or 1 for each input of `input_of_value`, [P, V]; a missing value has no 1."""
    sizes = np.array([len(profiles.vocab[field]) for field in profiles.fields])
    input_V = input_of_value(profiles)
    column_PF = profiles.codes_PF + (np.cumsum(sizes) - sizes)
    row, field = np.nonzero(profiles.codes_PF >= 0)
    shape = (len(profiles), int(input_V.max(initial=-1)) + 1)
    return sparse.csr_array((np.ones(len(row)), (row, input_V[column_PF[row, field]])), shape=shape)


def _choose_strength(
    inputs_PV: sparse.csr_array, fit: _Rows, held: _Rows, options: int
) -> "tuple[float, LogisticRegression | None]":
    """The inverse penalty with the lowest loss on `held`, and its model.

    From the strongest penalty down, each fit starts from the last; the first that is worse ends the search.
    """
    best, best_loss, model, chosen = STRENGTHS[0], np.inf, None, None
    for strength in STRENGTHS:
        model = _fit(inputs_PV, fit, strength, model)
        loss = np.average(nll(_predict(model, inputs_PV[held[0]], options), held[1]), weights=held[2])
        if loss >= best_loss:
            break
        best, best_loss, chosen = strength, loss, model
    return best, chosen


def _fit(
    inputs_PV: sparse.csr_array, rows: _Rows, strength: float, start: "LogisticRegression | None"
) -> "LogisticRegression":
    # Here and not above: importing it takes a second, which every command would wait for, `--help` too.
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    profile_N, option_N, weight_N = rows
    model = LogisticRegression(C=strength, solver="lbfgs", max_iter=100, tol=1e-4, warm_start=True)
    if start is not None and np.array_equal(start.classes_, np.unique(option_N)):
        model.coef_, model.intercept_, model.classes_ = start.coef_.copy(), start.intercept_.copy(), start.classes_
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a baseline that is 0.1% short of its optimum will do
        return model.fit(inputs_PV[profile_N], option_N, sample_weight=weight_N)


def _predict(model: "LogisticRegression", inputs_NV: sparse.csr_array, options: int) -> np.ndarray:
    probs_NO = np.zeros((inputs_NV.shape[0], options))
    probs_NO[:, model.classes_] = model.predict_proba(inputs_NV)
    return probs_NO
