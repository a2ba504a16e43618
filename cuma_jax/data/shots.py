"""Few-shot texts (`profile.shots`): what people like the one who is asked answered to other questions, in training.

Shapes: P distinct profiles, A answers, K shots that are shown, J = K + 1 shots that are chosen, Q questions, N cells of
training answers (profile, question), c of them looked at together.
"""

import dataclasses

import numpy as np

from cuma_jax.surveys.fields.countries import COUNTRY_FIELDS
from cuma_jax.surveys.held_out import hash_shares
from cuma_jax.surveys.profiles import Profiles
from cuma_jax.surveys.survey import Survey

_CHUNK = 128  # profiles looked at at a time, each beside all profiles of training
_NEAR = 64
"""How many of the most similar profiles are gone through before all are."""


@dataclasses.dataclass(frozen=True)
class Shots:
    """The shots of every profile, one more than are shown: if one is the question that is asked, it gives way.

    So a profile has K + 1 *variants* of its text: variant v leaves out its shot v, and variant K is that of all
    questions that are not among the first K.
    """

    shown: int  # K
    question_PJ: np.ndarray  # int32, question of each shot, the most similar people's first; -1 where there is none
    answer_PJ: np.ndarray  # int64, the training answer that is shown, as a position in the survey's answers; -1: none
    line_PJ: np.ndarray  # int32, its text in `lines`
    lines: tuple[str, ...]  # the distinct texts

    @property
    def variants(self) -> int:
        """K + 1."""
        return self.shown + 1

    def text(self, profile: int, variant: int) -> str:
        """What stands after the profile's sentence, with a space before it; empty where there is no shot."""
        kept = [j for j in range(self.variants) if j != variant and self.line_PJ[profile, j] >= 0]
        lines = [self.lines[self.line_PJ[profile, j]] for j in kept]
        return f" People like this answered: {'; '.join(lines)}." if lines else ""

    def variant(self, profile_N: np.ndarray, question_N: np.ndarray) -> np.ndarray:
        """Which variant of each profile is for each question, int64 [N]."""
        same_NK = self.question_PJ[profile_N, : self.shown] == question_N[:, None]
        return np.where(same_NK.any(1), same_NK.argmax(1), self.shown)

    def alone(self, profile: int, question: int) -> "Shots":
        """The shots of one profile, for a survey of one question, which is number 0 there."""
        return self.of(np.array([profile]), question)

    def of(self, profiles: np.ndarray, question: int) -> "Shots":
        """The shots of some profiles, for a survey of one question, which is number 0 there (-1: a new one)."""
        asked_PJ = (self.question_PJ[profiles] == question) & (question >= 0)
        return dataclasses.replace(
            self,
            question_PJ=np.where(asked_PJ, 0, -1).astype(np.int32),
            answer_PJ=self.answer_PJ[profiles],
            line_PJ=self.line_PJ[profiles],
        )


def build_shots(
    survey: Survey,
    profiles: Profiles,
    train_A: np.ndarray,
    shown: int,
    seed: int = 0,
    wanted: np.ndarray | None = None,
) -> Shots:
    """Chooses the shots of every profile, by similarity and hashes; nothing depends on the order of rows.

    Every shot is a real answer that one person gave in training. It comes from people with the same profile first, then
    from the same country, then with the most equal fields; of one question there is one shot. Which of equally similar
    people, and which of their answers, is drawn by hash: the answers that are shown are spread as people's are.

    There are fewer than K `shown` where training has fewer questions. `wanted` are the profiles that shots are chosen
    for, which are then the rows; None: all.
    """
    wanted = np.arange(len(profiles)) if wanted is None else wanted
    cells = _Cells.of(survey, profiles, train_A)
    draw_P = hash_shares([repr(profiles.values(p)) for p in range(len(profiles))], seed, "shots of a profile")
    draw_Q = hash_shares([question.id for question in survey.questions], seed, "shots of a question")
    cell_PJ = _Chooser(cells, profiles, draw_P, draw_Q, shown + 1).choose(wanted)
    draw_R = hash_shares(survey.respondents["respondent_id"], seed, "shot")
    question_PJ = np.full(cell_PJ.shape, -1, np.int32)
    question_PJ[cell_PJ >= 0] = cells.question_N[cell_PJ[cell_PJ >= 0]]
    answer_PJ = np.full(cell_PJ.shape, -1, np.int64)
    for p, j in np.argwhere(cell_PJ >= 0):
        members = cells.answers(cell_PJ[p, j])
        # Another person's answer for another profile: the hashes go round.
        answer_PJ[p, j] = members[np.argmin((draw_R[survey.respondent_A[members]] + draw_P[wanted[p]]) % 1.0)]
    options = max(len(question.options) for question in survey.questions)
    key_PJ = np.where(answer_PJ >= 0, question_PJ * options + survey.option_A[answer_PJ], -1)
    used, line_PJ = np.unique(key_PJ, return_inverse=True)
    missing = int(len(used) > 0 and used[0] < 0)
    pairs = [divmod(int(key), options) for key in used[missing:]]
    lines = tuple(f'"{survey.questions[q].text}" - "{survey.questions[q].options[o]}"' for q, o in pairs)
    return Shots(shown, question_PJ, answer_PJ, (line_PJ.reshape(key_PJ.shape) - missing).astype(np.int32), lines)


@dataclasses.dataclass(frozen=True)
class _Cells:
    """The training answers by question and profile: cells of a question lie side by side."""

    order: np.ndarray  # positions of the training answers, those of a cell side by side
    start_N: np.ndarray  # where each cell's begin, and the last one's end
    profile_N: np.ndarray
    question_N: np.ndarray

    @classmethod
    def of(cls, survey: Survey, profiles: Profiles, train_A: np.ndarray) -> "_Cells":
        found = np.flatnonzero(train_A)
        profile_A = profiles.profile_R[survey.respondent_A[found]]
        key_A = survey.question_A[found].astype(np.int64) * len(profiles) + profile_A
        order = np.argsort(key_A, kind="stable")
        key_N, start_N = np.unique(key_A[order], return_index=True)
        question_N, profile_N = np.divmod(key_N, len(profiles))
        return cls(found[order], np.append(start_N, len(order)), profile_N, question_N)

    def answers(self, cell: int) -> np.ndarray:
        """Positions of a cell's answers."""
        return self.order[self.start_N[cell] : self.start_N[cell + 1]]


class _Chooser:
    """Chooses cells for each profile: those of its own people, then of the most similar profile, then of the next.

    Shapes: T profiles of training, J cells wanted.
    """

    def __init__(self, cells: _Cells, profiles: Profiles, draw_P: np.ndarray, draw_Q: np.ndarray, wanted: int):
        self._cells, self._profiles, self._wanted = cells, profiles, wanted
        self._draw_P, self._draw_Q = draw_P, draw_Q
        self._first_Q = np.flatnonzero(np.diff(cells.question_N, prepend=-1))
        self._used_T, self._which_N = np.unique(cells.profile_N, return_inverse=True)
        by_profile = np.argsort(cells.profile_N, kind="stable")
        self._own = np.split(by_profile, np.searchsorted(cells.profile_N[by_profile], np.arange(1, len(profiles))))

    def choose(self, profile_P: np.ndarray) -> np.ndarray:
        """The cells of the shots of profiles `profile_P`, the most similar people's first, int64 [P, J]; -1: none."""
        chosen_PJ = np.full((len(profile_P), self._wanted), -1, np.int64)
        lacking = []
        for row, p in enumerate(profile_P.tolist()):
            found: dict[int, int] = {}
            self._take(found, p, p)
            chosen_PJ[row, : len(found)] = list(found.values())
            if len(found) < self._wanted:
                lacking.append(row)
        # Where its own people were asked enough, nobody else is looked at.
        for part in np.split(np.array(lacking, np.int64), np.arange(_CHUNK, len(lacking), _CHUNK)):
            for row, score_T in zip(part.tolist(), self._scores(profile_P[part]), strict=True):
                cells = self._from_others(int(profile_P[row]), score_T)
                chosen_PJ[row, : len(cells)] = cells
        return chosen_PJ

    def _take(self, found: dict[int, int], p: int, other: int) -> None:
        """Adds cells of another profile to those found for profile p, by question, until there are enough."""
        cells = self._own[other]
        for cell in cells[np.argsort(self._order(cells, p), kind="stable")].tolist():
            if len(found) == self._wanted:
                return
            found.setdefault(int(self._cells.question_N[cell]), cell)

    def _order(self, cells: np.ndarray, p: int) -> np.ndarray:
        """Numbers that draw among the questions of one profile's cells for profile p: others for every two profiles."""
        salt_N = 1 + self._draw_P[self._cells.profile_N[cells]] + self._draw_P[p]
        return (self._draw_Q[self._cells.question_N[cells]] * salt_N * 1e4) % 1.0

    def _scores(self, part: np.ndarray) -> np.ndarray:
        """How alike profiles `part` are to those of training, float32 [c, T]: whole numbers, and a draw below one."""
        fields, codes_PF = self._profiles.fields, self._profiles.codes_PF
        country = next((field for field in COUNTRY_FIELDS if field in fields), None)
        alike_cT = np.zeros((len(part), len(self._used_T)), np.uint16)
        for field, codes_P in zip(fields, codes_PF.T, strict=True):
            mine_c = np.where(codes_P[part] < 0, -2, codes_P[part])  # what both lack is nothing in common
            same_cT = mine_c[:, None] == codes_P[self._used_T][None, :]
            alike_cT += same_cT * np.uint16(len(fields) + 1) if field == country else same_cT
        draw_cT = self._draw_P[part].astype(np.float32)[:, None] + self._draw_P[self._used_T].astype(np.float32)[None]
        draw_cT -= draw_cT >= 1
        return alike_cT + draw_cT

    def _from_others(self, p: int, score_T: np.ndarray) -> list[int]:
        found: dict[int, int] = {}
        self._take(found, p, p)
        near = np.arange(len(score_T))
        if len(near) > _NEAR:
            near = np.argpartition(-score_T, _NEAR)[:_NEAR]
        for t in near[np.argsort(-score_T[near], kind="stable")].tolist():
            self._take(found, p, int(self._used_T[t]))
            if len(found) == self._wanted:
                return list(found.values())
        if len(near) == len(score_T):
            return list(found.values())
        # The near ones were all asked the same few questions: the nearest of each question.
        score_N = score_T[self._which_N]
        best_Q = np.maximum.reduceat(score_N, self._first_Q)
        end_Q = np.append(self._first_Q[1:], len(score_N))
        cells = [a + int(np.argmax(score_N[a:b])) for a, b in zip(self._first_Q, end_Q, strict=True)]
        for i in np.lexsort((self._order(np.array(cells), p), -best_Q)).tolist():
            if len(found) < self._wanted:
                found.setdefault(int(self._cells.question_N[cells[i]]), int(cells[i]))
        return list(found.values())
