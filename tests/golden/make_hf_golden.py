"""Remakes tests/golden/hf: tiny models as transformers' torch code saves them, with their hidden states and logits.

    python tests/golden/make_hf_golden.py      (needs torch and transformers)

Every folder is a Hugging Face model folder of a few tens of kB, plus golden.npz with tokens, lengths, hidden states
after the final norm and logits, float32.
"""

import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent / "hf"
COMMON = {
    "vocab_size": 48,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    # Short, so that all three parts of the formula are used within the few positions of the test.
    "original_max_position_embeddings": 32,
}
CASES: dict[str, tuple[str, dict]] = {
    "llama": ("Llama", {"rms_norm_eps": 1e-5}),
    "llama_tied_llama3": ("Llama", {"tie_word_embeddings": True, "head_dim": 8, "rope_parameters": LLAMA3}),
    "llama_linear_biases": (
        "Llama",
        {
            "attention_bias": True,
            "mlp_bias": True,
            "rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 10000.0},
        },
    ),
    "qwen2": ("Qwen2", {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}}),
    "qwen2_tied": ("Qwen2", {"tie_word_embeddings": True}),
    "qwen3": ("Qwen3", {"head_dim": 6, "rope_parameters": {"rope_type": "default", "rope_theta": 1e6}}),
    "qwen3_tied_biases": ("Qwen3", {"head_dim": 4, "tie_word_embeddings": True, "attention_bias": True}),
}
SHARDED = "qwen2"


def make(name: str, folder: Path, seed: int) -> None:
    """Writes the model folder of case `name` and its golden.npz.

    Args:
        name: one of CASES.
        folder: where to write.
        seed: of weights and tokens.
    """
    import torch
    import transformers

    family, extra = CASES[name]
    config = getattr(transformers, f"{family}Config")(**COMMON, **extra)
    config._attn_implementation = "eager"
    model = getattr(transformers, f"{family}ForCausalLM")(config).float().eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            draw = torch.randn(parameter.shape, generator=generator)
            # Large enough that attention is far from uniform and that a missing norm or bias would show.
            parameter.copy_(1 + 0.3 * draw if "norm" in parameter_name else 0.3 * draw)
    rng = np.random.default_rng(seed)
    lengths_B = np.array([20, 13, 1], np.int32)
    tokens_BT = rng.integers(0, COMMON["vocab_size"], (3, 20)).astype(np.int32)
    valid_BT = np.arange(20) < lengths_B[:, None]
    with torch.no_grad():
        ids, mask = torch.tensor(tokens_BT).long(), torch.tensor(valid_BT).long()
        hidden_BTD = model.model(input_ids=ids, attention_mask=mask).last_hidden_state
        logits_BTV = model(input_ids=ids, attention_mask=mask).logits
    model.save_pretrained(folder, max_shard_size="10KB" if name == SHARDED else "1GB")
    np.savez_compressed(
        folder / "golden.npz",
        tokens_BT=tokens_BT,
        lengths_B=lengths_B,
        hidden_BTD=hidden_BTD.numpy() * valid_BT[..., None],
        logits_BTV=logits_BTV.numpy() * valid_BT[..., None],
    )


def main() -> None:
    """Makes every case, or those named on the command line."""
    for seed, name in enumerate(CASES):
        if name in (sys.argv[1:] or CASES):
            make(name, HERE / name, seed)
            print(HERE / name)


if __name__ == "__main__":
    main()
