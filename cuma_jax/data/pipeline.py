"""The training stream: batch number in, batch out.

Batch `i` is a function of (seed, i) alone, so a run resumes anywhere, on any number of processes, with the same rows
in the same order; the position is one counter. Rows are drawn with replacement by their masses, or once an epoch in an
order that is shuffled anew for each. Each process builds only its own rows of the global batch. Grain reads
ahead in threads.

Shapes: N rows, B rows of a global batch, Q questions.
"""

from collections.abc import Iterator
from typing import Literal, Protocol

import grain.python as grain
import numpy as np

from cuma_jax.data.batches import Batch
from cuma_jax.runtime.errors import CumaError

Order = Literal["weighted", "epochs"]
LocalRows = np.ndarray | slice
"""The rows of each global batch that a process builds, in order."""


class Batcher(Protocol):
    """What the stream asks of rows of any kind: how often each is drawn, how long it is, and batches of them."""

    @property
    def mass_N(self) -> np.ndarray:
        """float64 [N], how often a row is drawn, relative to others."""

    @property
    def bucket_N(self) -> np.ndarray:
        """int32 [N], number of each row's length bucket."""

    @property
    def question_N(self) -> np.ndarray | None:
        """int [N], number of each row's question; None where rows have none."""

    @property
    def moves_up(self) -> bool:
        """Whether a row may be in a batch of a longer bucket than its own."""

    def __len__(self) -> int:
        """N."""

    def batch(self, index_B: np.ndarray, bucket: int, real: int | None = None) -> Batch:
        """The batch of rows `index_B`, all of them no longer than `bucket`; rows from `real` on weigh nothing."""


class TrainBatches:
    """Random access to the training batches, for Grain.

    Every batch has one length bucket. Order `weighted`: the bucket is drawn by the mass of its rows, and its rows by
    theirs, with replacement (a few questions per batch: see `_ByQuestion`). Order `epochs`: see `_Epochs`.

    `local` are the rows of each global batch that this process builds. `questions_per_batch`, with `weighted` only, is
    how many questions a batch is about; 0: each row draws its own.

    Raises:
        CumaError: there are no rows, or none that is ever drawn.
    """

    def __init__(
        self,
        batcher: Batcher,
        batch_size: int,
        steps: int,
        seed: int,
        local: LocalRows,
        order: Order = "weighted",
        questions_per_batch: int = 0,
    ):
        if len(batcher) == 0:
            raise CumaError("there are no training rows; check data.questions and the shares held out in data.*")
        self.batcher, self._batch_size, self._steps, self._local = batcher, batch_size, steps, local
        self.draw: _Weighted | _ByQuestion | _Epochs
        """`draw(i)`: the bucket and the rows of batch i, all processes together: B, or fewer at an epoch's end."""
        if order == "epochs":
            self.draw = _Epochs(batcher, batch_size, seed)
        elif questions_per_batch:
            self.draw = _ByQuestion(batcher, batch_size, seed, questions_per_batch)
        else:
            self.draw = _Weighted(batcher, batch_size, seed)

    def __len__(self) -> int:
        return self._steps

    def __getitem__(self, step: int) -> tuple[int, Batch]:
        """(bucket, this process's rows of batch `step`)."""
        bucket, index = self.draw(step)
        return bucket, padded_batch(self.batcher, index, bucket, self._batch_size, self._local)


def padded_batch(batcher: Batcher, index: np.ndarray, bucket: int, batch_size: int, local: LocalRows) -> Batch:
    """This process's part of a batch of rows `index`, filled up with the first of them at weight 0."""
    if len(index) == batch_size:
        return batcher.batch(index[local], bucket)
    padded = np.concatenate([index, np.full(batch_size - len(index), index[0])])
    return batcher.batch(padded[local], bucket, int(np.searchsorted(np.arange(batch_size)[local], len(index))))


def _rows_by_bucket(bucket_N: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    """The buckets that have rows, shortest first, and the rows of each (int32 where that holds them)."""
    buckets = np.unique(bucket_N)
    dtype = np.int32 if len(bucket_N) <= np.iinfo(np.int32).max else np.int64
    return buckets, [np.flatnonzero(bucket_N == b).astype(dtype) for b in buckets]


class _Weighted:
    """Rows drawn with replacement by their masses."""

    def __init__(self, batcher: Batcher, batch_size: int, seed: int):
        self._batch_size, self._seed = batch_size, seed
        mass_N = batcher.mass_N
        self._buckets, self._rows = _rows_by_bucket(batcher.bucket_N)
        self._cumulative = [np.cumsum(mass_N[rows]) for rows in self._rows]
        total = np.array([c[-1] for c in self._cumulative])
        if not total.sum() > 0:
            raise CumaError("no training row is ever drawn: all masses are zero; check the survey's weights")
        self._bucket_edges = np.cumsum(total / total.sum())

    def __call__(self, step: int) -> tuple[int, np.ndarray]:
        rng = np.random.Generator(np.random.Philox(key=[self._seed, step]))
        # The last edge may fall short of 1 by rounding.
        k = min(int(np.searchsorted(self._bucket_edges, rng.random(), side="right")), len(self._buckets) - 1)
        cumulative = self._cumulative[k]
        drawn_B = np.searchsorted(cumulative, rng.random(self._batch_size) * cumulative[-1], side="right")
        return int(self._buckets[k]), self._rows[k][np.minimum(drawn_B, len(cumulative) - 1)]


class _ByQuestion:
    """Rows drawn with replacement by their masses, but those of a batch are about few questions.

    The bucket is drawn as always. Its questions, in an order that is drawn anew, lie side by side as long as their
    masses; K points at even distances fall on them, from a place that is drawn (systematic sampling: a question is
    expected K times its share of points, and twice only if its share is above 1/K). The points take turns in giving the
    rows their question, starting anywhere, and each row is drawn by the masses within it. So in the long run every row
    is drawn as often as by `_Weighted`.

    Shapes: K points, Q the bucket's questions of any mass, N its rows, those of a question side by side.
    """

    def __init__(self, batcher: Batcher, batch_size: int, seed: int, questions: int):
        question_N = batcher.question_N
        assert question_N is not None
        self._plain = _Weighted(batcher, batch_size, seed)  # the bucket is drawn in one place
        self._batch_size, self._seed, self._questions = batch_size, seed, questions
        self._tables = {}
        for bucket, rows in zip(*_rows_by_bucket(batcher.bucket_N), strict=True):
            rows = rows[batcher.mass_N[rows] > 0]
            rows = rows[np.argsort(question_N[rows], kind="stable")]
            first_Q = np.flatnonzero(np.diff(question_N[rows], prepend=-1))
            self._tables[int(bucket)] = rows, np.cumsum(batcher.mass_N[rows]), np.append(first_Q, len(rows))

    def __call__(self, step: int) -> tuple[int, np.ndarray]:
        bucket, _ = self._plain(step)
        row_N, cumulative_N, first_Q = self._tables[bucket]
        # Not the numbers that drew the bucket.
        rng = np.random.Generator(np.random.Philox(key=[self._seed, step], counter=[0, 0, 0, 1]))
        start_Q = np.append(0.0, cumulative_N)[first_Q]  # where each question's rows start, and the last one's end
        order_Q = rng.permutation(len(first_Q) - 1)
        edge_Q = np.cumsum(np.diff(start_Q)[order_Q])
        point_K = (np.arange(self._questions) + rng.random()) / self._questions * edge_Q[-1]
        question_K = order_Q[np.minimum(np.searchsorted(edge_Q, point_K, side="right"), len(order_Q) - 1)]
        turn_B = (np.arange(self._batch_size) + rng.integers(self._questions)) % self._questions
        question_B = question_K[turn_B]
        low_B, high_B = start_Q[question_B], start_Q[question_B + 1]
        place_B = low_B + rng.random(self._batch_size) * (high_B - low_B)
        drawn_B = np.searchsorted(cumulative_N, place_B, side="right")
        # By rounding a place may be on the edge of the next question.
        return bucket, row_N[np.clip(drawn_B, first_Q[question_B], first_Q[question_B + 1] - 1)]


class _Epochs:
    """Every row once an epoch; rows and batches are shuffled by (seed, epoch).

    An epoch's rows stand one bucket after another, each bucket's shuffled, and are cut every B rows. So what is left of
    a bucket opens the first batch of the next longer one, and only the last batch of the epoch may be short. Where rows
    cannot move up, each bucket's last batch may be.

    How many batches of which bucket there are is the same in every epoch; full ones come in shuffled order.
    """

    def __init__(self, batcher: Batcher, batch_size: int, seed: int):
        self._seed = seed
        buckets, self._rows = _rows_by_bucket(batcher.bucket_N)
        stop = np.cumsum([len(rows) for rows in self._rows])
        whole = [(0, stop[-1])] if batcher.moves_up else list(zip(stop - np.diff(stop, prepend=0), stop, strict=True))
        # Batch k of an epoch, before batches are shuffled, has rows begin..end and the bucket of its last row.
        cuts = [(np.arange(low, high, batch_size), high) for low, high in whole]
        self._begin_K = np.concatenate([begin for begin, _ in cuts])
        self._end_K = np.concatenate([np.minimum(begin + batch_size, high) for begin, high in cuts])
        self._bucket_K = buckets[np.searchsorted(stop, self._end_K - 1, side="right")]
        self._full = self._end_K - self._begin_K == batch_size
        self._epoch: tuple[int, np.ndarray, np.ndarray] = (-1, np.zeros(0, np.int64), np.zeros(0, np.int64))

    def __call__(self, step: int) -> tuple[int, np.ndarray]:
        epoch, place = divmod(step, len(self._begin_K))
        order_K, row_N = self._shuffled(epoch)
        k = order_K[place]
        return int(self._bucket_K[k]), row_N[self._begin_K[k] : self._end_K[k]]

    def _shuffled(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """The order of the epoch's batches, and its rows; the last epoch asked for is kept."""
        kept, order_K, row_N = self._epoch  # one read: another thread may replace it
        if kept != epoch:
            rng = np.random.Generator(np.random.Philox(key=[self._seed, epoch]))
            order_K = np.concatenate([rng.permutation(np.flatnonzero(self._full)), np.flatnonzero(~self._full)])
            row_N = np.concatenate([rng.permutation(rows) for rows in self._rows])
            self._epoch = (epoch, order_K, row_N)
        return order_K, row_N


def epoch_steps(batcher: Batcher, batch_size: int) -> int:
    """Batches of one epoch in the order `epochs`."""
    if batcher.moves_up:
        return -(-len(batcher) // batch_size)
    return int(sum(-(-count // batch_size) for count in np.bincount(batcher.bucket_N)))


def stream(source: TrainBatches, start: int) -> Iterator[tuple[int, Batch]]:
    """The batches from number `start` on, two of them read ahead by a thread."""
    dataset = grain.MapDataset.source(source)[start:]  # type: ignore[arg-type]
    return iter(dataset.to_iter_dataset(grain.ReadOptions(num_threads=1, prefetch_buffer_size=2)))


def in_order(batcher: Batcher, batch_size: int, local: LocalRows) -> Iterator[tuple[np.ndarray, int, Batch]]:
    """Every row once, by bucket: (row numbers of the whole batch, bucket, this process's part of it).

    A bucket's last batch is filled up with a row of its own, at weight 0.
    """
    for bucket in np.unique(batcher.bucket_N):
        rows = np.flatnonzero(batcher.bucket_N == bucket)
        for start in range(0, len(rows), batch_size):
            index = rows[start : start + batch_size]
            yield index, int(bucket), padded_batch(batcher, index, int(bucket), batch_size, local)
