"""Sections of a config about preferences: pairs (DPO), sampling and rewards (GRPO), and who judges."""

import dataclasses
from typing import Literal


@dataclasses.dataclass(frozen=True)
class SamplingConfig:
    """How text is written: by `generate`, in the rollouts of GRPO, and for judged win-rates."""

    temperature: float = 1.0
    """Logits are divided by this; 0: always the likeliest token (greedy)."""
    top_k: int = 0
    """Draw from the k likeliest tokens only; 0: from all."""
    top_p: float = 1.0
    """Draw from the fewest likeliest tokens that have this much probability together; 1: from all."""
    max_new_tokens: int = 256
    """Longest reply in tokens, its end of turn included; a longer one is cut there."""
    seed: int = 0
    """Seed of `generate` and of replies for win-rates (GRPO draws from train.seed)."""


@dataclasses.dataclass(frozen=True)
class DpoConfig:
    """Objective dpo: pairs of replies, one preferred to the other by the person who is asking."""

    beta: float = 0.1
    """How strongly the policy is held to the reference."""
    loss: Literal["sigmoid", "ipo"] = "sigmoid"
    """sigmoid: DPO (Rafailov et al., 2023); ipo: squared distance of the margin from 1 / (2 beta) (Azar et al., 2023),
    with log-probabilities averaged over tokens."""
    label_smoothing: float = 0.0
    """sigmoid only: the assumed share of pairs whose sides are swapped (conservative DPO)."""
    nll: float = 0.0
    """Weight of the chosen reply's own loss in nats a token, added to that of the pair (RPO; Pang et al., 2024)."""
    reference: Literal["start", "base"] = "start"
    """start: the adapters that training starts from (`adapter.init_from`; without it the base); base: the model
    without adapters (as the official code does)."""
    reference_logps: Literal["cached", "in_step"] = "cached"
    """cached: the reference's log-probabilities of all pairs are computed once, before training, and kept in the
    cache; in_step: in every step, with a second set of adapters in memory."""
    min_margin: float = 1.0
    """Sources with scores: pairs whose scores differ by less are left out and counted."""


@dataclasses.dataclass(frozen=True)
class GrpoConfig:
    """Objective grpo: replies to one prompt by one person, weighed against each other by their rewards."""

    samples: int = 8
    """Replies G to each prompt; train.batch_size is replies a step, so its multiple."""
    updates: int = 1
    """Optimiser updates on each step's replies; each sees all of them once."""
    clip: float = 0.2
    """The ratio of new to old probability is clipped to 1 - clip ... 1 + clip_high."""
    clip_high: float = 0.0
    """Upper clip, if another than `clip`; 0: the same."""
    kl: float = 0.0
    """Weight of the KL divergence from the policy that training starts from (`adapter.init_from`; without it the
    base), in nats a token."""
    advantage: Literal["normalised", "unbiased"] = "normalised"
    """normalised: rewards less their group's mean, over its standard deviation; losses are averaged over each reply's
    tokens (Shao et al., 2024). unbiased: less the mean only, and summed over tokens, divided by
    sampling.max_new_tokens (Liu et al., 2025, Dr. GRPO)."""


@dataclasses.dataclass(frozen=True)
class RewardConfig:
    """What GRPO rewards: a weighted sum; a weight of 0 leaves a part out."""

    survey: float = 0.0
    """Weight of agreement with how people with this profile answered (surveys; needs no judge)."""
    judge: float = 0.0
    """Weight of the judge's verdict on the reply beside the one that the person preferred (preference data)."""
    function: str = ""
    """A function of your own, `package.module:name`: takes a list of `cuma_jax.rewards.Sample`, returns a number for
    each, which is added with weight 1."""
    max_failed: float = 0.1
    """Replies without a reward (the judge failed for good) are left out and counted; training stops when more than
    this share of a step's replies have none."""


@dataclasses.dataclass(frozen=True)
class JudgeConfig:
    """A judge behind any OpenAI-compatible /v1/chat/completions endpoint. Processes of one run share its limits."""

    url: str = ""
    """Base URL, e.g. https://api.example.com/v1 or http://localhost:8000/v1; empty: no judge."""
    model: str = ""
    """The model's name there."""
    key_env: str = "OPENAI_API_KEY"
    """Name of the environment variable that holds the key, never the key itself, which is written nowhere; empty: the
    endpoint needs none."""
    concurrency: int = 8
    """Requests under way at once."""
    requests_per_minute: int = 0
    """Most requests sent in a minute; 0: no limit."""
    max_requests: int = 0
    """Most requests of one command (answers from the cache do not count); 0: no limit."""
    timeout: float = 60.0
    """Seconds until a request is given up and tried again."""
    retries: int = 5
    """Further tries of a request that failed in a way that may pass (time-out, 429, 5xx, no verdict)."""
    max_tokens: int = 256
    """Longest answer of the judge in tokens."""
    max_failed: float = 0.1
    """Win-rates: the evaluation stops when more than this share of comparisons failed for good."""
