"""Whole conversations as rows: tokens, which of them are supervised, and batches, packed or not.

Every assistant turn is supervised, its end of turn included. A conversation that is longer than allowed loses its last
turns; one whose first turn alone is too long is an error, or left out and counted. Nothing is cut inside a turn.

Shapes: C conversations, X tokens of all of them, N rows (one conversation each, or several in a packed row), B rows of
a batch, T tokens of a row, S supervised positions of a row, G conversations of a packed row.
"""

import bisect
import dataclasses
import json
import pathlib
import sys
from collections.abc import Callable, Sequence

import numpy as np
from tqdm import tqdm

from cuma_jax.data.batches import POSITIONS, Batch, Buckets, row_weights
from cuma_jax.preferences.preferences import Preferences
from cuma_jax.preferences.tasks import conversation_messages
from cuma_jax.runtime.errors import CumaError
from cuma_jax.runtime.files import cached_arrays
from cuma_jax.surveys.prompts import conversation_system_message
from cuma_jax.tokenization.tokenizer import Message, Tokenizer

VERSION = "1"
"""Raised whenever the same conversations would get other tokens: part of the cache key."""
MOST_SEGMENTS = 16
"""Most conversations in one packed row."""


@dataclasses.dataclass(frozen=True)
class ConversationTokens:
    """Tokens of all conversations, one after the other.

    Conversation c has ids_X[start_C[c] : start_C[c + 1]], none if it was left out.
    """

    ids_X: np.ndarray  # int32
    supervised_X: np.ndarray  # bool, the tokens to learn
    start_C: np.ndarray  # int64 [C + 1]
    pad_id: int
    notes: dict[str, int]  # how many conversations were shortened or left out, by reason

    def save(self, path: pathlib.Path) -> None:
        """Writes them to one .npz file (arrays and JSON, no pickle)."""
        arrays = {"ids": self.ids_X, "supervised": self.supervised_X, "start": self.start_C}
        about = json.dumps({"pad_id": self.pad_id, "notes": self.notes})
        np.savez(path, about=np.array(about), **arrays)  # type: ignore[arg-type]

    @classmethod
    def load(cls, path: pathlib.Path) -> "ConversationTokens":
        """Reads what `save` wrote; a `CumaError` for a damaged file."""
        arrays = cached_arrays(path)
        about = json.loads(str(arrays["about"]))
        return cls(arrays["ids"], arrays["supervised"], arrays["start"], about["pad_id"], about["notes"])

    @property
    def kept_C(self) -> np.ndarray:
        """bool [C], the conversations that were not left out."""
        return np.diff(self.start_C) > 0

    @property
    def fed_C(self) -> np.ndarray:
        """int64 [C], tokens fed to the model: all but the last, which is only predicted."""
        return np.maximum(np.diff(self.start_C) - 1, 0)


def chat(preferences: Preferences, conversation: int, profile: str | None) -> list[Message]:
    """A conversation as it is rendered: its turns, after a system message where `profile` belongs in the prompt."""
    turns = conversation_messages(preferences, conversation)
    if profile is None:
        return turns
    return [{"role": "system", "content": conversation_system_message(profile)}, *turns]


def build_conversation_tokens(
    messages: Callable[[int], Sequence[Message]],
    names: Sequence[str],
    tokenizer: Tokenizer,
    max_length: int,
    too_long: str,
    progress: bool = True,
) -> ConversationTokens:
    """Renders and tokenises every conversation once.

    `messages` gives the turns of conversation c, an assistant's turn last; `names` are ids, for errors. With `too_long`
    skip, one whose first assistant turn has no room in `max_length` tokens is left out, else it is an error.

    Raises:
        CumaError: a first turn that is too long (with `error`), or a conversation that cannot be rendered.
    """
    ids, masks, sizes = [], [], np.zeros(len(names), np.int64)
    notes = {"shortened: last turns beyond data.max_length": 0, "left out: first turn beyond data.max_length": 0}
    shortened, left_out = notes
    quiet = not progress or not sys.stderr.isatty()
    for c in tqdm(range(len(names)), desc="tokenising conversations", unit="conv", disable=quiet, dynamic_ncols=True):
        try:
            tokens, mask_T = tokenizer.supervised_tokens(messages(c))
        except CumaError as error:
            raise CumaError(f"conversation {names[c]}: {error}") from None
        # What a template writes after the last answer is never learnt.
        ends = np.flatnonzero(mask_T & ~np.append(mask_T[1:], False)) + 1  # of the supervised turns
        whole = int(ends[-1])
        tokens, mask_T = tokens[:whole], mask_T[:whole]
        if whole - 1 > max_length:
            end = int(ends[ends - 1 <= max_length].max(initial=0))
            if end == 0:
                if too_long == "error":
                    raise CumaError(
                        f"conversation {names[c]} has {ends[0] - 1} tokens up to the end of its first answer, "
                        f"more than data.max_length {max_length}; raise it (with a bucket as long in data.buckets), or "
                        "leave such conversations out and counted with --data.too_long skip"
                    )
                notes[left_out] += 1
                continue
            notes[shortened] += 1
            tokens, mask_T = tokens[:end], mask_T[:end]
        ids.append(np.array(tokens, np.int32))
        masks.append(mask_T)
        sizes[c] = len(tokens)
    if not ids:
        raise CumaError("no conversation is left: none fits data.max_length, or there was none")
    return ConversationTokens(
        ids_X=np.concatenate(ids),
        supervised_X=np.concatenate(masks),
        start_C=np.concatenate([[0], np.cumsum(sizes)]),
        pad_id=tokenizer.pad_id,
        notes={reason: count for reason, count in notes.items() if count},
    )


def pack(length_C: np.ndarray, capacity: int, most: int = MOST_SEGMENTS) -> list[np.ndarray]:
    """Conversations into rows of `capacity` tokens, at most `most` per row: each into the fullest row that has room.

    Longest first (the sort is stable). Every conversation is in exactly one row, and which rows there are depends on
    the lengths alone.

    Raises:
        CumaError: a conversation is longer than the capacity.
    """
    if len(length_C) and length_C.max() > capacity:
        raise CumaError(
            f"a conversation has {int(length_C.max())} tokens, more than a packed row's {capacity}; add a longer "
            "bucket to data.buckets, or lower data.max_length"
        )
    rows: list[list[int]] = []
    row: list[int]
    with_room: dict[int, list[list[int]]] = {}  # free tokens -> rows
    frees: list[int] = []  # the keys of `with_room`, sorted
    for c in np.argsort(-length_C, kind="stable").tolist():
        need = int(length_C[c])
        place = bisect.bisect_left(frees, need)
        if place == len(frees):
            free = capacity
            rows.append(row := [])
        else:
            free = frees[place]
            row = with_room[free].pop()
            if not with_room[free]:
                del with_room[free], frees[place]
        row.append(c)
        left = free - need
        if left > 0 and len(row) < most:
            if left not in with_room:
                with_room[left] = []
                bisect.insort(frees, left)
            with_room[left].append(row)
    return [np.array(row, np.int64) for row in rows]


class ConversationBatcher:
    """Conversations as batches; see `pipeline.Batcher`.

    Rows are those of `index_M` that `tokens` did not leave out; with `packing` several per row, all in the longest
    bucket and drawn alike. Attribute `rows`: the conversations of each row.
    """

    moves_up, question_N = True, None

    def __init__(
        self,
        tokens: ConversationTokens,
        index_M: np.ndarray,
        profile_C: np.ndarray,
        mass_C: np.ndarray,
        buckets: Buckets,
        packing: bool,
    ):
        self.tokens, self.buckets, self.packing = tokens, buckets, packing
        self._profile_C = profile_C.astype(np.int32)
        index_M = index_M[tokens.kept_C[index_M]]
        fed_M = tokens.fed_C[index_M]
        if packing:
            self.rows = [index_M[row] for row in pack(fed_M, buckets.lengths[-1])]
            self.bucket_N = np.full(len(self.rows), len(buckets.lengths) - 1, np.int32)
            self.mass_N = np.ones(len(self.rows))
        else:
            self.rows = [np.array([c]) for c in index_M]
            self.bucket_N = buckets.of(fed_M, buckets.lengths[-1])
            self.mass_N = mass_C[index_M].astype(np.float64)
        self.length_N = np.array([tokens.fed_C[row].sum() for row in self.rows], np.int32)
        count_C = np.add.reduceat(tokens.supervised_X, tokens.start_C[:-1][tokens.kept_C]).astype(np.int64)
        supervised_C = np.zeros(len(tokens.kept_C), np.int64)
        supervised_C[tokens.kept_C] = count_C
        supervised_N = np.array([supervised_C[row].sum() for row in self.rows], np.int64)
        most_K = [supervised_N[self.bucket_N <= b].max(initial=0) for b in range(len(buckets.lengths))]
        self._width_K = [max(int(-(-most // POSITIONS) * POSITIONS), POSITIONS) for most in most_K]

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, index_B: np.ndarray, bucket: int, real: int | None = None) -> Batch:
        """The batch of rows `index_B`; rows from `real` on weigh nothing.

        tokens int32 [B,T]; lengths int32 [B]; profile int32 [B], or [B,G] in packed rows; positions, labels int32 and
        label_weight float32 [B,S]; weight float32 [B]; in packed rows segment and position int32 [B,T].
        """
        length, width, tokens = self.buckets.lengths[bucket], self._width_K[bucket], self.tokens
        size = len(index_B)
        batch: Batch = {
            "tokens": np.full((size, length), tokens.pad_id, np.int32),
            "lengths": self.length_N[index_B],
            "profile": np.zeros((size, MOST_SEGMENTS), np.int32),
            "positions": np.zeros((size, width), np.int32),
            "labels": np.zeros((size, width), np.int32),
            "label_weight": np.zeros((size, width), np.float32),
            "weight": row_weights(size, real),
            "segment": np.zeros((size, length), np.int32),
            "position": np.zeros((size, length), np.int32),
        }
        for b, n in enumerate(index_B):
            at = done = 0
            for g, c in enumerate(self.rows[n]):
                ids_T = tokens.ids_X[tokens.start_C[c] : tokens.start_C[c + 1]]
                learn_T = tokens.supervised_X[tokens.start_C[c] : tokens.start_C[c + 1]]
                fed = len(ids_T) - 1
                # The logits of the token before a supervised one predict it.
                read = np.flatnonzero(learn_T[1:])
                batch["tokens"][b, at : at + fed] = ids_T[:-1]
                batch["segment"][b, at : at + fed] = g
                batch["position"][b, at : at + fed] = np.arange(fed)
                batch["profile"][b, g] = self._profile_C[c]
                batch["positions"][b, done : done + len(read)] = at + read
                batch["labels"][b, done : done + len(read)] = ids_T[1:][read]
                batch["label_weight"][b, done : done + len(read)] = 1.0
                at, done = at + fed, done + len(read)
            # Padding is a segment of its own: nothing sees it, and it sees nothing else.
            batch["segment"][b, at:] = MOST_SEGMENTS - 1 if len(self.rows[n]) < MOST_SEGMENTS else len(self.rows[n]) - 1
        if not self.packing:
            batch["profile"] = batch["profile"][:, 0]
            del batch["segment"], batch["position"]
        return batch
