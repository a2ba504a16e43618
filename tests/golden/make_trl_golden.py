"""Remakes tests/golden/trl.npz: losses and gradients of TRL's own DPOTrainer and GRPOTrainer on a model of golden/hf.

    python tests/golden/make_trl_golden.py      (needs torch, transformers and trl)

Of each case: the batch, the loss, and its gradient with respect to the weights of the last norm. Rows are padded on the
right for DPO; prompts on the left for GRPO, as TRL does, and kept on the right.
"""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
MODELS = ("qwen3",)
PAIRS, GROUPS, SAMPLES, PROMPT, REPLY = 3, 2, 3, 6, 5
DPO = {
    "sigmoid": {"beta": 0.3, "loss_type": ["sigmoid"]},
    "ipo": {"beta": 0.2, "loss_type": ["ipo"]},
}
GRPO = {
    "grpo": {"beta": 0.0, "loss_type": "grpo", "epsilon": 0.2, "temperature": 1.0},
    "grpo_kl": {"beta": 0.1, "loss_type": "grpo", "epsilon": 0.1, "epsilon_high": 0.3, "temperature": 0.7},
    "dr_grpo_kl": {"beta": 0.05, "loss_type": "dr_grpo", "epsilon": 0.2, "temperature": 1.0},
}


def _lengths(rng: np.random.Generator, count: int, most: int) -> np.ndarray:
    return np.concatenate([[most], rng.integers(1, most + 1, count - 1)]).astype(np.int32)


def draw(vocab: int, seed: int) -> dict[str, np.ndarray]:
    """Tokens and numbers that both trainers are given, all rows padded on the right."""
    rng = np.random.default_rng(seed)
    rows = GROUPS * SAMPLES
    group_B = np.repeat(np.arange(GROUPS), SAMPLES)
    prompts = rng.integers(3, vocab, (GROUPS, PROMPT)).astype(np.int32)
    logp_BS = -rng.uniform(2.0, 6.0, (rows, REPLY)).astype(np.float32)
    return {
        "pair_prompt_PT": rng.integers(3, vocab, (PAIRS, PROMPT)).astype(np.int32),
        "pair_prompt_length_P": _lengths(rng, PAIRS, PROMPT),
        "pair_reply_P2S": rng.integers(3, vocab, (PAIRS, 2, REPLY)).astype(np.int32),
        "pair_length_P2": _lengths(rng, 2 * PAIRS, REPLY).reshape(PAIRS, 2),
        "reference_P2": -rng.uniform(5.0, 20.0, (PAIRS, 2)).astype(np.float32),
        "prompt_BT": prompts[group_B],
        "prompt_length_B": _lengths(rng, GROUPS, PROMPT)[group_B],
        "reply_BS": rng.integers(3, vocab, (rows, REPLY)).astype(np.int32),
        "length_B": _lengths(rng, rows, REPLY),
        "old_logp_BS": logp_BS,
        "reference_logp_BS": logp_BS + rng.normal(size=logp_BS.shape).astype(np.float32),
        "advantage_B": rng.normal(size=rows).astype(np.float32),
    }


def _tokenizer(vocab: int) -> Any:
    """The trainers want one; nothing is tokenised."""
    import tokenizers
    import transformers

    words = tokenizers.models.WordLevel({f"w{i}": i for i in range(vocab)}, unk_token="w0")
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizers.Tokenizer(words), pad_token="w0", eos_token="w2", unk_token="w0"
    )


def _finish(model: Any, loss: Any) -> dict[str, np.ndarray]:
    model.zero_grad()
    loss.backward()
    return {
        "loss": np.array(loss.item(), np.float32),
        "norm_gradient_D": model.model.norm.weight.grad.numpy().copy(),
    }


def dpo(folder: Path, batch: dict[str, np.ndarray], settings: dict[str, Any]) -> dict[str, np.ndarray]:
    """One loss of a real DPOTrainer, the reference's log-probabilities given."""
    import datasets
    import torch
    import transformers
    import trl

    model: Any = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with tempfile.TemporaryDirectory() as scratch:
        config = trl.DPOConfig(scratch, report_to=[], use_cpu=True, bf16=False, **settings)
        text = datasets.Dataset.from_list([{"prompt": "w3", "chosen": " w4", "rejected": " w5"}])
        trainer = trl.DPOTrainer(
            model, args=config, train_dataset=text, processing_class=_tokenizer(model.config.vocab_size)
        )
    trainer.precompute_ref_logps = True
    width = PROMPT + REPLY
    ids = np.zeros((2, PAIRS, width), np.int64)
    mask, said = np.zeros_like(ids), np.zeros_like(ids)
    for side in range(2):
        for p in range(PAIRS):
            begin, count = int(batch["pair_prompt_length_P"][p]), int(batch["pair_length_P2"][p, side])
            ids[side, p, :begin] = batch["pair_prompt_PT"][p, :begin]
            ids[side, p, begin : begin + count] = batch["pair_reply_P2S"][p, side, :count]
            mask[side, p, : begin + count] = 1
            said[side, p, begin : begin + count] = 1
    inputs = {
        "input_ids": torch.tensor(ids.reshape(-1, width)),
        "attention_mask": torch.tensor(mask.reshape(-1, width)),
        "completion_mask": torch.tensor(said.reshape(-1, width)),
        "ref_chosen_logps": torch.tensor(batch["reference_P2"][:, 0]),
        "ref_rejected_logps": torch.tensor(batch["reference_P2"][:, 1]),
    }
    return _finish(model, trainer._compute_loss(trainer.model, inputs, return_outputs=False))


def grpo(folder: Path, batch: dict[str, np.ndarray], settings: dict[str, Any]) -> dict[str, np.ndarray]:
    """One loss of a real GRPOTrainer, the replies, their advantages and both old log-probabilities given."""
    import datasets
    import torch
    import transformers
    import trl

    model: Any = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with tempfile.TemporaryDirectory() as scratch:
        config = trl.GRPOConfig(
            scratch, report_to=[], use_cpu=True, bf16=False, num_generations=SAMPLES,
            per_device_train_batch_size=GROUPS * SAMPLES, max_completion_length=REPLY, **settings,
        )  # fmt: skip
        text = datasets.Dataset.from_list([{"prompt": "w3"}] * 4)
        trainer = trl.GRPOTrainer(
            model, reward_funcs=lambda completions, **_: [0.0] * len(completions), args=config, train_dataset=text,
            processing_class=_tokenizer(model.config.vocab_size),
        )  # fmt: skip
    trainer.current_gradient_accumulation_steps = 1
    place_T, place_S = np.arange(PROMPT), np.arange(REPLY)
    shift_BT = (place_T - (PROMPT - batch["prompt_length_B"][:, None])) % PROMPT
    inputs = {
        "prompt_ids": torch.tensor(np.take_along_axis(batch["prompt_BT"], shift_BT, axis=1)).long(),
        "prompt_mask": torch.tensor(place_T >= PROMPT - batch["prompt_length_B"][:, None]).long(),
        "completion_ids": torch.tensor(batch["reply_BS"]).long(),
        "completion_mask": torch.tensor(place_S < batch["length_B"][:, None]).long(),
        "advantages": torch.tensor(batch["advantage_B"]),
        "old_per_token_logps": torch.tensor(batch["old_logp_BS"]),
        "ref_per_token_logps": torch.tensor(batch["reference_logp_BS"]),
    }
    return _finish(model, trainer._compute_loss(trainer.model, inputs))


def make(name: str, seed: int) -> dict[str, np.ndarray]:
    """The batch of a model, and every case."""
    import transformers

    folder = HERE / "hf" / name
    batch = draw(transformers.AutoConfig.from_pretrained(folder).vocab_size, seed)
    found = dict(batch)
    for case, settings in DPO.items():
        found |= {f"{case}/{key}": value for key, value in dpo(folder, batch, settings).items()}
    for case, settings in GRPO.items():
        found |= {f"{case}/{key}": value for key, value in grpo(folder, batch, settings).items()}
    return found


def main() -> None:
    """Makes every model's cases."""
    arrays = {}
    for seed, name in enumerate(MODELS):
        arrays |= {f"{name}/{key}": value for key, value in make(name, seed).items()}
    np.savez_compressed(HERE / "trl.npz", **arrays)
    print(HERE / "trl.npz")


if __name__ == "__main__":
    main()
