"""Remakes tests/golden/generate.npz: what transformers' own greedy `generate` writes with the tiny models of golden/hf.

    python tests/golden/make_generate_golden.py      (needs torch and transformers)

Each model replies to prompts of different lengths, one at a time, and stops at `end`, a token that one of its replies
holds. Kept are prompts, replies (padded with -1) and `end`, for each model.
"""

from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
CASES = ("llama", "llama_tied_llama3", "qwen2", "qwen3", "qwen3_tied_biases")
LENGTHS, NEW = (9, 4, 1), 14
MARGIN = 2e-3
"""The likeliest token is at least this much above the next, in nats: a reply must not hang on rounding."""


def make(folder: Path, seed: int) -> dict[str, np.ndarray]:
    """Prompts and greedy replies of the model in `folder`, drawn anew until no choice is close."""
    import torch
    import transformers

    model: Any = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    rng = np.random.default_rng(seed)

    def reply(prompt: np.ndarray, end: int | None) -> tuple[np.ndarray, float]:
        ids = torch.tensor(prompt[None]).long()
        with torch.no_grad():
            out = model.generate(
                ids, attention_mask=torch.ones_like(ids), max_new_tokens=NEW, do_sample=False, eos_token_id=end,
                pad_token_id=0, output_logits=True, return_dict_in_generate=True,
            )  # fmt: skip
        two_N2 = torch.stack(out.logits, 1)[0].topk(2).values.numpy()
        return out.sequences[0, len(prompt) :].numpy(), float((two_N2[:, 0] - two_N2[:, 1]).min())

    for _ in range(100):
        tokens_BT = np.zeros((len(LENGTHS), max(LENGTHS)), np.int32)
        for row, length in enumerate(LENGTHS):
            tokens_BT[row, :length] = rng.integers(0, model.config.vocab_size, length)
        prompts = [tokens_BT[row, :length] for row, length in enumerate(LENGTHS)]
        end = int(reply(prompts[0], None)[0][NEW // 2])
        found = [reply(prompt, end) for prompt in prompts]
        sizes = {len(tokens) for tokens, _ in found}
        # Some stop and some do not.
        if min(margin for _, margin in found) > MARGIN and NEW in sizes and len(sizes) > 1:
            reply_BN = np.full((len(LENGTHS), NEW), -1, np.int32)
            for row, (tokens, _) in enumerate(found):
                reply_BN[row, : len(tokens)] = tokens
            return {"tokens_BT": tokens_BT, "reply_BN": reply_BN, "end": np.array(end, np.int32)}
    raise SystemExit(f"{folder}: no prompts whose replies are clear and of different lengths; take another seed")


def main() -> None:
    """Makes every case."""
    arrays = {}
    for seed, name in enumerate(CASES):
        arrays |= {f"{name}/{key}": value for key, value in make(HERE / "hf" / name, seed).items()}
    np.savez_compressed(HERE / "generate.npz", lengths_B=np.array(LENGTHS, np.int32), **arrays)
    print(HERE / "generate.npz")


if __name__ == "__main__":
    main()
