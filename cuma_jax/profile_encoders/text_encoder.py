"""A frozen text encoder at work: texts sorted by length, padded into few static shapes, pooled to one vector each.

Shapes: N texts, B rows of one call, T tokens, D the encoder's width, C width of a vector (= D).
"""

import dataclasses
import functools
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tqdm

from cuma_jax.runtime.errors import CumaError

LENGTH_STEP = 32
"""Rows are padded to a multiple of this many tokens."""
TOKENS_PER_CALL = 4096
"""Rows of one call: as many as fit this many padded tokens."""
PADDED_BATCH = 32
"""Rows that pooling `mean_padded` pads together, in the order given."""

SECONDS = 10.0
"""Between two lines of progress, where there is no terminal."""

Hidden = Callable[[Any, jax.Array, jax.Array], jax.Array]
"""(params, tokens_BT, lengths_B) -> hidden_BTD after the last norm."""


@dataclasses.dataclass
class TextEncoder:
    """A frozen encoder; weights are read when the first text is encoded.

    Pooling is `last`, `mean`, or `mean_padded`; the last averages padding in, up to the longest text among the
    PADDED_BATCH texts encoded together, so a vector depends on its batch mates (as in the official code; padding is on
    the right here, and a decoder's padding also attends to padding before it).
    """

    source: str  # where it comes from, for messages
    fingerprint: str  # hash of weights and tokenizer; equal fingerprints encode alike, but for rounding
    width: int
    pooling: str
    max_length: int  # longest text in tokens that the config allows
    positions: int  # longest sequence in tokens that the encoder can take; 0: no limit of its own
    tokenizer: str  # hash of what `tokenize` depends on; a backbone may have been given another one
    tokenize: Callable[[str], list[int]]  # with the special tokens that the encoder was trained with
    pad_id: int
    dtype: str  # of computing; part of the cache key, not of what the encoder is
    load: Callable[[], tuple[Hidden, Any]]  # gives the forward function and its weights
    _loaded: Any = dataclasses.field(default=None, repr=False)

    def encode(self, texts: Sequence[str], progress: bool = True) -> np.ndarray:
        """Vectors of texts, float32 [N, C], in their order; `progress`: report rows/s and the time left on stderr.

        Raises:
            CumaError: a text is longer than `max_length` or `positions` (it is named), or is no token at all.
        """
        tokens = [self.tokenize(text) for text in texts]
        for text, ids in zip(texts, tokens, strict=True):
            self._check(text, len(ids))
        vectors_NC = np.zeros((len(texts), self.width), np.float32)
        if not texts:
            return vectors_NC
        if self._loaded is None:
            hidden, params = self.load()
            self._loaded = jax.jit(functools.partial(_pooled, hidden, self.pooling), **_replicated(params)), params
        pooled, params = self._loaded
        lengths_N = np.array([len(ids) for ids in tokens], np.int32)
        terminal = sys.stderr.isatty()
        bar = tqdm.tqdm(
            total=len(texts), desc=f"encoding profiles with {self.source}", unit=" rows", leave=False,
            disable=not progress or jax.process_index() != 0,
            mininterval=0.1 if terminal else SECONDS, delay=0 if terminal else SECONDS,
        )  # fmt: skip
        # TF32 products would be a thousandth off, which whitening then magnifies; bfloat16 is not affected.
        with bar, jax.default_matmul_precision("highest"):
            for rows, shape in self._batches(lengths_N):
                tokens_BT, lengths_B = np.full(shape, self.pad_id, np.int32), np.ones(shape[0], np.int32)
                for row, text in enumerate(rows):
                    tokens_BT[row, : lengths_N[text]] = tokens[text]
                    lengths_B[row] = lengths_N[text]
                longest = np.int32(lengths_N[rows].max())
                vectors_NC[rows] = np.asarray(pooled(params, tokens_BT, lengths_B, longest))[: len(rows)]
                bar.update(len(rows))
        if not np.isfinite(vectors_NC).all():
            raise CumaError(f"encoder {self.source} gave a vector that is not finite; its weights may be damaged")
        return vectors_NC

    def release(self) -> None:
        """Drops weights and compiled programs; the next `encode` reads them again."""
        self._loaded = None

    def _check(self, text: str, length: int) -> None:
        limit, name = self.max_length, "profile.max_length"
        advice = "raise profile.max_length, or use"
        if self.positions and self.positions < limit:
            limit, name, advice = self.positions, f"the positions that {self.source} was trained with", "use"
        if length > limit:
            short = text if len(text) <= 80 else text[:77] + "..."
            raise CumaError(
                f"profile text {short!r} is {length} tokens long; the limit is {limit} ({name}). To get below it, "
                f"{advice} fewer profile.fields or profile.granularity field"
            )
        if length == 0:
            raise CumaError(f"profile text {text!r} has no tokens; a profile needs at least one word")

    def _batches(self, lengths_N: np.ndarray) -> Iterator[tuple[np.ndarray, tuple[int, int]]]:
        """Row numbers of each call, and its padded [B, T]."""
        if self.pooling == "mean_padded":
            for start in range(0, len(lengths_N), PADDED_BATCH):
                rows = np.arange(start, min(start + PADDED_BATCH, len(lengths_N)))
                yield rows, (PADDED_BATCH, self._padded(int(lengths_N[rows].max())))
            return
        order_N = np.argsort(lengths_N, kind="stable")
        padded_N = np.array([self._padded(int(lengths_N[text])) for text in order_N])
        for length in np.unique(padded_N):
            same, most = order_N[padded_N == length], max(1, TOKENS_PER_CALL // int(length))
            for start in range(0, len(same), most):
                rows = same[start : start + most]
                # A short last call is padded to a power of two: one new profile must not cost a full call.
                yield rows, (min(most, 1 << (len(rows) - 1).bit_length()), int(length))

    def _padded(self, length: int) -> int:
        padded = -(-length // LENGTH_STEP) * LENGTH_STEP
        return min(padded, self.positions) if self.positions else padded


def _pooled(
    hidden: Hidden, pooling: str, params: Any, tokens_BT: jax.Array, lengths_B: jax.Array, longest: jax.Array
) -> jax.Array:
    hidden_BTD = hidden(params, tokens_BT, lengths_B).astype(jnp.float32)
    if pooling == "last":
        return jnp.take_along_axis(hidden_BTD, (lengths_B - 1)[:, None, None], axis=1)[:, 0]
    counted_B = jnp.broadcast_to(longest, lengths_B.shape) if pooling == "mean_padded" else lengths_B
    mask_BT = jnp.arange(tokens_BT.shape[1])[None] < counted_B[:, None]
    # Not a product with the mask: what padding computes must not reach the sum, even where it is not finite.
    return jnp.where(mask_BT[..., None], hidden_BTD, 0.0).sum(1) / counted_B[:, None]


def _replicated(params: Any) -> dict[str, Any]:
    """jit arguments that give every process the whole result, when the weights lie on a mesh."""
    sharding = getattr(jax.tree.leaves(params)[0], "sharding", None)
    if not isinstance(sharding, jax.sharding.NamedSharding):
        return {}
    return {"out_shardings": jax.sharding.NamedSharding(sharding.mesh, jax.sharding.PartitionSpec())}
