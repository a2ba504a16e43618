"""A whole DPO and GRPO loss, tokens to gradient, is that of TRL's own trainers on the same weights.

Shapes: P pairs, 2: the chosen reply, the rejected one; B replies, T tokens of a prompt, S of a reply.
"""

import importlib.util
from pathlib import Path

import jax
import numpy as np
import pytest
from golden import make_trl_golden as maker
from loading import load

from cuma_jax.config import Config, DpoConfig, GrpoConfig, ObjectiveConfig, RewardConfig, SamplingConfig, TrainConfig
from cuma_jax.hub.model_files import resolve
from cuma_jax.objectives.dpo import Dpo
from cuma_jax.objectives.grpo.policy import reply_sums
from cuma_jax.run.forward import Model, Tables

GOLDEN = Path(__file__).parent.parent / "golden"


def rows(prompt_BT, prompt_length_B, reply_BS, length_B):
    """Prompts with their replies behind them, padded on the right, and what is supervised."""
    count, most = reply_BS.shape
    batch = {
        "tokens": np.zeros((count, prompt_BT.shape[1] + most), np.int32),
        "lengths": prompt_length_B + length_B,
        "profile": np.zeros(count, np.int32),
        "positions": prompt_length_B[:, None] - 1 + np.arange(most, dtype=np.int32),
        "labels": reply_BS,
        "label_weight": (np.arange(most) < length_B[:, None]).astype(np.float32),
    }
    for b, (start, size) in enumerate(zip(prompt_length_B, length_B, strict=True)):
        batch["tokens"][b, :start] = prompt_BT[b, :start]
        batch["tokens"][b, start : start + size] = reply_BS[b, :size]
    return batch


def pair_batch(golden):
    sides = [
        rows(golden["pair_prompt_PT"], golden["pair_prompt_length_P"], golden["pair_reply_P2S"][:, side],
             golden["pair_length_P2"][:, side])
        for side in range(2)
    ]  # fmt: skip
    batch = {name: np.stack([side[name] for side in sides], axis=1) for name in sides[0]}
    pairs = {"profile": batch["profile"][:, 0], "weight": np.ones(len(batch["tokens"]), np.float32)}
    return batch | pairs | {"reference_logp": golden["reference_P2"]}


def reply_batch(golden):
    """One reply a row, n = 1."""
    batch = rows(golden["prompt_BT"], golden["prompt_length_B"], golden["reply_BS"], golden["length_B"])
    return batch | {
        "old_logp": golden["old_logp_BS"][:, None],
        "reference_logp": golden["reference_logp_BS"][:, None],
        "advantage": golden["advantage_B"][:, None],
        "valid": np.ones((len(golden["advantage_B"]), 1), np.float32),
    }


def config_of(case):
    """Our settings for TRL's."""
    if case in maker.DPO:
        settings = maker.DPO[case]
        dpo = DpoConfig(beta=settings["beta"], loss=settings["loss_type"][0])
        return Config(objective=ObjectiveConfig("dpo", aggregate="respondent"), dpo=dpo), Dpo().sums, pair_batch
    settings = maker.GRPO[case]
    grpo = GrpoConfig(
        samples=maker.SAMPLES, clip=settings["epsilon"], clip_high=settings.get("epsilon_high", 0.0),
        kl=settings["beta"], advantage="unbiased" if settings["loss_type"] == "dr_grpo" else "normalised",
    )  # fmt: skip
    sampling = SamplingConfig(temperature=settings["temperature"], max_new_tokens=maker.REPLY)
    config = Config(
        objective=ObjectiveConfig("grpo", aggregate="respondent"), grpo=grpo, sampling=sampling,
        reward=RewardConfig(survey=1.0), train=TrainConfig(batch_size=maker.GROUPS * maker.SAMPLES),
    )  # fmt: skip
    return config, reply_sums, reply_batch


def compare(name, case, golden):
    decoder, base = load(resolve(str(GOLDEN / "hf" / name)))
    config, sums_of, batch_of = config_of(case)
    batch = batch_of(golden)
    if case in maker.GRPO and not config.grpo.kl:
        del batch["reference_logp"]

    @jax.jit
    @jax.value_and_grad
    def loss(base):
        return sums_of(config, Model(decoder, base, {}, Tables()), batch, None).objective["loss"].mean()

    value, slope = loss(base)
    np.testing.assert_allclose(value, golden[f"{case}/loss"], rtol=2e-5)
    expected_D = golden[f"{case}/norm_gradient_D"]
    slope_D = slope["final_norm"]
    np.testing.assert_allclose(slope_D, expected_D, rtol=2e-4, atol=2e-5 * np.abs(expected_D).max())


@pytest.mark.parametrize(
    "case",
    [pytest.param(c, marks=() if c in ("sigmoid", "grpo") else pytest.mark.slow) for c in (*maker.DPO, *maker.GRPO)],
)
@pytest.mark.parametrize("name", maker.MODELS)
def test_a_loss_and_its_gradient_equal_the_golden_ones(name, case):
    # These are TRL's numbers: a change here is a mistake. tests/golden/make_trl_golden.py remakes them.
    with np.load(GOLDEN / "trl.npz") as arrays:
        compare(name, case, {key.removeprefix(f"{name}/"): arrays[key] for key in arrays if key.startswith(f"{name}/")})


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("trl") is None, reason="trl is not installed")
def test_a_loss_and_its_gradient_equal_trl_live():
    golden = maker.make("qwen3", seed=1000)
    for case in (*maker.DPO, *maker.GRPO):
        compare("qwen3", case, golden)
