"""The training stream: batch number in, batch out.

Batch `i` is a function of (seed, i) alone, so a run resumes anywhere, on any number of processes, with the same rows
in the same order; the position is one counter. Each process gathers only its own rows of the global batch. Grain
reads ahead in threads.

Shapes: N rows, B rows of a global batch, Q questions.
"""

from collections.abc import Iterator
from typing import Protocol

import grain.python as grain
import numpy as np

from cuma_jax.data.batches import Batch, Rows
from cuma_jax.errors import CumaError
from cuma_jax.surveys.cells import build_cells
from cuma_jax.surveys.profiles import Profiles
from cuma_jax.surveys.survey import Survey


def cell_rows(survey: Survey, profiles: Profiles, mask_A: np.ndarray, question_power: float) -> Rows:
    """One row a (profile, question) cell, its target the distribution of the cell's answers.

    Within a question a cell is drawn by the square root of its n (between one vote a cell and one a respondent), and
    a question by its number of answers to `question_power`.
    """
    cells = build_cells(survey, profiles, mask_A)
    root_N = np.sqrt(cells.count_N.astype(np.float64))
    return Rows(
        profile_N=cells.profile_N,
        question_N=cells.question_N,
        option_N=np.zeros(len(cells), np.int32),
        target_NO=cells.target_NO,
        mass_N=root_N * _question_mass(cells.question_N, cells.count_N, root_N, question_power),
    )


def answer_rows(survey: Survey, profiles: Profiles, mask_A: np.ndarray, question_power: float) -> Rows:
    """One row an answer."""
    index_A = np.flatnonzero(mask_A)
    respondent_N, question_N = survey.respondent_A[index_A], survey.question_A[index_A]
    ones_N = np.ones(len(index_A))
    return Rows(
        profile_N=profiles.profile_R[respondent_N],
        question_N=question_N,
        option_N=survey.option_A[index_A],
        target_NO=None,
        mass_N=ones_N * _question_mass(question_N, ones_N, ones_N, question_power),
    )


def _question_mass(question_N: np.ndarray, count_N: np.ndarray, mass_N: np.ndarray, power: float) -> np.ndarray:
    """Factor for each row so that its question's rows weigh (answers of the question) ** power together."""
    answers_Q = np.bincount(question_N, weights=count_N)
    rows_Q = np.bincount(question_N, weights=mass_N)
    factor_Q = np.divide(answers_Q**power, rows_Q, out=np.zeros_like(rows_Q), where=rows_Q > 0)
    return factor_Q[question_N]


class Gatherer(Protocol):
    """What the stream asks of rows of any kind: how often each is drawn, how long it is, and batches of them."""

    @property
    def mass_N(self) -> np.ndarray:
        """float64 [N], how often a row is drawn, relative to others."""

    @property
    def bucket_N(self) -> np.ndarray:
        """int32 [N], number of each row's length bucket."""

    def __len__(self) -> int:
        """N."""

    def gather(self, index_B: np.ndarray, bucket: int, real: int | None = None) -> Batch:
        """The batch of rows `index_B`, all of them no longer than `bucket`; rows from `real` on weigh nothing."""


class TrainBatches:
    """Random access to the training batches, for Grain.

    Every batch has one length bucket, drawn by the mass of its rows; its rows are drawn from the bucket by their
    mass, with replacement.

    Args:
        batcher: gathers rows.
        batch_size: rows of a global batch B.
        steps: number of batches.
        seed: of the draws.
        local: the rows of each global batch that this process gathers.
    """

    def __init__(self, batcher: Gatherer, batch_size: int, steps: int, seed: int, local: slice):
        if len(batcher) == 0:
            raise CumaError("there are no training rows; check data.questions and the shares held out in data.*")
        self._batcher, self._batch_size, self._steps, self._seed, self._local = batcher, batch_size, steps, seed, local
        mass_N = batcher.mass_N
        self._buckets = np.unique(batcher.bucket_N)
        self._rows = [np.flatnonzero(batcher.bucket_N == b) for b in self._buckets]
        self._cumulative = [np.cumsum(mass_N[rows]) for rows in self._rows]
        total = np.array([c[-1] for c in self._cumulative])
        self._bucket_edges = np.cumsum(total / total.sum())

    def __len__(self) -> int:
        return self._steps

    def draw(self, step: int) -> tuple[int, np.ndarray]:
        """The bucket and the B rows of batch `step`, all processes together."""
        rng = np.random.Generator(np.random.Philox(key=[self._seed, step]))
        # The last edge may fall short of 1 by rounding.
        k = min(int(np.searchsorted(self._bucket_edges, rng.random(), side="right")), len(self._buckets) - 1)
        cumulative = self._cumulative[k]
        drawn_B = np.searchsorted(cumulative, rng.random(self._batch_size) * cumulative[-1], side="right")
        return int(self._buckets[k]), self._rows[k][np.minimum(drawn_B, len(cumulative) - 1)]

    def __getitem__(self, step: int) -> tuple[int, Batch]:
        """(bucket, this process's rows of batch `step`)."""
        bucket, index_B = self.draw(step)
        return bucket, self._batcher.gather(index_B[self._local], bucket)


def stream(source: TrainBatches, start: int, prefetch: int) -> Iterator[tuple[int, Batch]]:
    """The batches from number `start` on, `prefetch` of them read ahead by a thread."""
    dataset = grain.MapDataset.source(source)[start:]  # type: ignore[arg-type]
    options = grain.ReadOptions(num_threads=1 if prefetch else 0, prefetch_buffer_size=prefetch)
    return iter(dataset.to_iter_dataset(options))


def validation_batches(
    batcher: Gatherer, batch_size: int, count: int, seed: int, local: slice
) -> list[tuple[int, Batch]]:
    """`count` fixed batches of held-out rows, drawn as training batches are."""
    source = TrainBatches(batcher, batch_size, count, seed, local)
    return [source[step] for step in range(count)]


def in_order(batcher: Gatherer, batch_size: int, local: slice) -> Iterator[tuple[np.ndarray, int, Batch]]:
    """Every row once, by bucket: (row numbers of the whole batch, bucket, this process's part of it).

    A bucket's last batch is filled up with its first row, at weight 0.
    """
    for bucket in np.unique(batcher.bucket_N):
        rows = np.flatnonzero(batcher.bucket_N == bucket)
        for start in range(0, len(rows), batch_size):
            index = rows[start : start + batch_size]
            padded = np.concatenate([index, np.full(batch_size - len(index), rows[0])])
            real = len(index) - (local.start or 0)
            yield index, int(bucket), batcher.gather(padded[local], int(bucket), max(real, 0))
