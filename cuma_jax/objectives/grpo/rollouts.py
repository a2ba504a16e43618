"""Replies to a step's prompts: written with the adapters as they are, scored, and laid out for the update.

What was sampled stays tokens and numbers: nothing is tokenised again. A reply's key is folded from the seed, the step
and its place in the step, so that a run that goes on writes what it would have written.

Where replies are short beside their prompt, those of a group share a row, behind the one prompt that all of them see;
else each has a row of its own.

On one device, layers below the first adapted one read each text once: prompts of a step that have the same tokens share
what these layers make of them, and the update begins with what they made when the replies were written. It is the same,
because nothing below the first adapted layer is trained or sees who is asked.

Shapes: U texts of a step's prompts, D model width, M prompts of a step (this process's), G replies to each, B = M G,
N most new tokens, T tokens of a prompt, R rows of the update, n replies a row (1 or G), K tokens of a row.
"""

import dataclasses
import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cuma_jax.data.batches import Batch
from cuma_jax.data.prompts import Prompts
from cuma_jax.generation import make_generate
from cuma_jax.models.attention import SHARED
from cuma_jax.rewards import Reward, Sample
from cuma_jax.rewards.total import check_failed
from cuma_jax.run.run import Run
from cuma_jax.runtime.processes import gather, process_count
from cuma_jax.runtime.sharding import batch_sharding, local_rows, put_batch
from cuma_jax.surveys.profiles import profile_text

Tree = Any
STREAM = 2
"""Folded into the seed for sampling; 0 and 1 are initialisation and dropout."""


@dataclasses.dataclass(frozen=True)
class Written:
    """This process's replies of a step, those of a group side by side.

    Attributes:
        row_B: int64, number of the prompt.
        group_B: int64, number of the group in the step, over all processes.
        tokens_BN: int32; `logp_BN`: float32, of each token under the policy that wrote it.
        length_B: int32, tokens of each reply; 0 for a group that only fills the step up.
        stopped_B: bool, whether the end of the turn was written.
        text_M: int32, the text of each prompt (U of them, filled up).
        below: hidden states below the first adapted layer, on the device, one token a row: those of the texts [U T,D],
            then those of the replies' tokens [B N,D]; None where they are not kept.
    """

    row_B: np.ndarray
    group_B: np.ndarray
    tokens_BN: np.ndarray
    logp_BN: np.ndarray
    length_B: np.ndarray
    stopped_B: np.ndarray
    text_M: np.ndarray
    below: jax.Array | None


@dataclasses.dataclass(frozen=True)
class Rewarded:
    """This process's rewards of a step.

    Attributes:
        value_B: float64; nan for a reply that has none.
        figures: for the log, over all processes.
    """

    value_B: np.ndarray
    figures: dict[str, float]


class Rollouts:
    """Writes replies, and scores them by `reward`."""

    def __init__(self, run: Run, reward: Reward):
        config = run.config
        self._run, self._reward, self._samples = run, reward, config.grpo.samples
        self._prompts = config.train.batch_size // self._samples
        tokenizer = run.tokenizer
        self._keeps_below = run.mesh.size == 1 and run.decoder.n_frozen > 0
        self._end, self._pad = tokenizer.end_of_turn_id, tokenizer.pad_id
        self._generate = make_generate(
            run.decoder, config.sampling, (self._end,), self._pad, run.mesh,
            run.adapter_shardings, run.base_shardings, samples=self._samples,
            keep_below=self._keeps_below,
        )  # fmt: skip
        seed = config.train.seed

        def keys(step_B: jax.Array, place_B: jax.Array) -> jax.Array:
            stream = jax.random.fold_in(jax.random.key(seed, impl="threefry2x32"), STREAM)
            fold = jax.vmap(lambda step, place: jax.random.fold_in(jax.random.fold_in(stream, step), place))
            return jax.random.key_data(fold(step_B, place_B))

        rows = batch_sharding(run.mesh)
        self._flat = jax.jit(lambda *parts: jnp.concatenate([x.reshape(-1, x.shape[-1]) for x in parts]))
        self._keys = jax.jit(keys, in_shardings=(rows, rows), out_shardings=rows)

    @property
    def groups(self) -> np.ndarray:
        """The groups of a step that this process has, int [M]."""
        return local_rows(self._run.mesh, self._prompts)

    def write(self, adapters: Tree, bucket: int, batch: Batch, step: int) -> Written:
        """Replies to the prompts of `batch` (this process's, from `data.prompts`) at training step `step`."""
        run, group_M = self._run, self.groups
        place_B = (group_M[:, None] * self._samples + np.arange(self._samples)).ravel()
        real_M = batch["weight"] > 0
        prompts = {
            "tokens": batch["tokens"],
            "lengths": np.where(real_M, batch["lengths"], 0).astype(np.int32),
            "profile": batch["profile"],
        }
        text_M = np.arange(len(group_M), dtype=np.int32)
        if self._keeps_below:
            prompts["tokens"], text_M = distinct_texts(batch["tokens"])
            prompts["text"] = text_M
        placed = put_batch(prompts, run.mesh)
        numbers = put_batch(
            {"step": np.full(len(place_B), step, np.int32), "place": place_B.astype(np.int32)}, run.mesh
        )
        placed["key"] = self._keys(numbers["step"], numbers["place"])
        profile_PC = run.training.tables[bucket].profile_PC
        made = self._generate(run.base, adapters, profile_PC, placed)
        below = self._flat(made.prompt_UTD, made.reply_BND) if self._keeps_below else None
        out = jax.device_get(dataclasses.replace(made, prompt_UTD=None, reply_BND=None))
        return Written(
            row_B=np.repeat(batch["row"], self._samples),
            group_B=np.repeat(group_M, self._samples),
            tokens_BN=out.tokens_BN[place_B],
            logp_BN=out.logp_BN[place_B],
            length_B=out.length_B[place_B],
            stopped_B=out.stopped_B[place_B],
            text_M=text_M,
            below=below,
        )

    def samples(self, written: Written, prompts: Prompts) -> list[Sample]:
        """The replies as rewards see them, without those that only fill the step up."""
        run, found = self._run, list[Sample]()
        for b in np.flatnonzero(written.length_B > 0).tolist():
            row, stopped = int(written.row_B[b]), bool(written.stopped_B[b])
            prompt = prompts.prompt(row)
            tokens = written.tokens_BN[b, : written.length_B[b]].tolist()
            text = run.tokenizer.decode(tokens[: len(tokens) - stopped], skip_special=True).strip()
            found.append(
                Sample(
                    group=int(written.group_B[b]),
                    profile=profile_text(run.profiles, prompt.profile),
                    messages=prompt.messages,
                    reply=text,
                    tokens=tuple(tokens),
                    stopped=stopped,
                    profile_row=prompt.profile,
                    question=prompt.question,
                    option=prompts.option(row, tokens, self._end),
                    reference=prompt.reference,
                )
            )
        return found

    def score(self, written: Written, prompts: Prompts, step: int) -> Rewarded:
        """Rewards of all replies.

        Raises:
            CumaError: a reward that cannot be had, or too many replies without one.
        """
        config, samples = self._run.config, self.samples(written, prompts)
        scores = self._reward.score(samples)
        value_B = np.full(len(written.row_B), np.nan)
        value_B[written.length_B > 0] = scores.values
        known = scores.values[~np.isnan(scores.values)]
        here: dict[str, Any] = {
            "sum": float(known.sum()), "known": len(known), "all": len(samples), "reason": scores.reason,
            "figures": scores.metrics,
        }  # fmt: skip
        every = [here] if process_count() == 1 else [json.loads(text) for text in gather(json.dumps(here))]
        failed = sum(one["all"] - one["known"] for one in every)
        reason = next((one["reason"] for one in every if one["reason"]), "")
        check_failed(failed, sum(one["all"] for one in every), config.reward.max_failed, step, reason)
        figures = {"reward": sum(one["sum"] for one in every) / sum(one["known"] for one in every)}
        for name in here["figures"]:
            values = [(one["figures"][name], one["all"]) for one in every if name in one["figures"]]
            figures[name] = sum(value * weight for value, weight in values) / sum(weight for _, weight in values)
        return Rewarded(value_B, figures)

    def rows(self, batch: Batch, written: Written, rewarded: Rewarded) -> Batch:
        """The rows of the update.

        tokens int32 [R,K]; lengths, profile int32 [R]; positions, labels int32 and label_weight float32 [R,n*N];
        old_logp float32 [R,n,N]; reward, valid float32 [R,n]; where replies share a row segment, position int32 [R,K].
        Where hidden states were kept, source int32 [R,K] instead of tokens: rows of `Written.below`.
        """
        samples, most, width = self._samples, self._run.config.sampling.max_new_tokens, batch["tokens"].shape[1]
        each = self.replies_per_row(width)
        extra = each * (most - 1)
        size, length = len(written.row_B) // each, width + extra + (width + extra) % 2  # cudnn wants even lengths
        rows: Batch = {
            "tokens": np.full((size, length), self._pad, np.int32),
            "lengths": np.zeros(size, np.int32),
            "profile": np.repeat(batch["profile"], samples // each),
            "positions": np.zeros((size, each * most), np.int32),
            "labels": np.zeros((size, each * most), np.int32),
            "label_weight": np.zeros((size, each * most), np.float32),
            "old_logp": written.logp_BN.reshape(size, each, most).astype(np.float32),
            "reward": np.nan_to_num(rewarded.value_B).reshape(size, each).astype(np.float32),
            "valid": (~np.isnan(rewarded.value_B)).reshape(size, each).astype(np.float32),
        }
        source_RK = np.zeros((size, length), np.int32)
        texts = 0 if written.below is None else len(written.below) - len(written.row_B) * most
        if each > 1:
            rows["segment"] = np.full((size, length), SHARED, np.int32)
            rows["position"] = np.tile(np.arange(length, dtype=np.int32), (size, 1))
        for b, (count, reply_N) in enumerate(zip(written.length_B.tolist(), written.tokens_BN, strict=True)):
            r, place = divmod(b, each)
            m = b // samples
            prompt = int(batch["lengths"][m])
            if place == 0:
                rows["tokens"][r, :prompt] = batch["tokens"][m, :prompt]
                source_RK[r, :prompt] = written.text_M[m] * width + np.arange(prompt)
                rows["lengths"][r] = prompt
            at, fed, s = int(rows["lengths"][r]), max(count - 1, 0), place * most
            rows["tokens"][r, at : at + fed] = reply_N[:fed]
            source_RK[r, at : at + fed] = texts + b * most + np.arange(fed)
            # The logits of the token before one of the reply's predict it; the first is predicted by the prompt's last.
            rows["positions"][r, s : s + count] = np.append(prompt - 1, np.arange(at, at + fed))[:count]
            rows["labels"][r, s : s + count] = reply_N[:count]
            rows["label_weight"][r, s : s + count] = 1.0
            if each > 1:
                rows["segment"][r, at:] = place
                rows["position"][r, at : at + fed] = prompt + np.arange(fed)
            rows["lengths"][r] = at + fed
        if written.below is not None:
            del rows["tokens"]
            rows["source"] = source_RK
        return rows

    def replies_per_row(self, width: int) -> int:
        """n, where prompts are padded to `width`: G where that saves more than half of the tokens, else 1."""
        train, mesh = self._run.config.train, self._run.mesh
        short = self._samples * (self._run.config.sampling.max_new_tokens - 1) <= width
        ways = mesh.shape["data"] * mesh.shape["fsdp"] * train.micro_batches
        return self._samples if short and self._prompts % ways == 0 else 1


def distinct_texts(tokens_MT: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The different rows of `tokens_MT`, and which of them each row is, int32 [M].

    Filled up to a power of two, so that few programs are compiled; no more than M.
    """
    text_UT, text_M = np.unique(tokens_MT, axis=0, return_inverse=True)
    wanted = min(1 << (len(text_UT) - 1).bit_length(), len(tokens_MT))
    filled_UT = np.concatenate([text_UT, np.repeat(text_UT[:1], wanted - len(text_UT), axis=0)])
    return filled_UT, text_M.reshape(-1).astype(np.int32)
