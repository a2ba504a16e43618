"""Where a tokenizer's own program comes from: a Hugging Face folder, the fields of a GGUF file, or bytes.

All end as a transformers fast tokenizer with its chat template.
"""

import functools
import os
from pathlib import Path
from typing import Any

from cuma_jax.hub.model_files import ModelFiles
from cuma_jax.runtime.errors import CumaError

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

# The `tokenizer.ggml.pre` names whose pre-tokenizer is known: (regex split, ignore_merges, NFC), from the public
# tokenizer.json of SmolLM2, Qwen2 and Llama 3.
_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+"
_TAIL = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
PRE_TOKENIZERS: dict[str, tuple[str, bool, bool]] = {
    "smollm": ("", False, False),
    "qwen2": (_CONTRACTIONS + r"|\p{N}" + _TAIL, False, True),
    "llama-bpe": (_CONTRACTIONS + r"|\p{N}{1,3}" + _TAIL, True, False),
}
_CONTROL, _USER_DEFINED = 3, 4  # gguf.TokenType
_ROLES = {"bos_token": "bos", "eos_token": "eos", "pad_token": "padding"}


def load_backend(files: ModelFiles) -> Any:
    """The transformers tokenizer of a model.

    Raises:
        CumaError: tokenizer files missing or unreadable, or an unknown GGUF pre-tokenizer.
    """
    # Importing transformers without torch prints advice that does not concern a tokenizer.
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    if files.kind == "random":
        return _bytes_backend()
    assert files.path is not None
    read = _gguf_backend if files.kind == "gguf" else _folder_backend
    return read(files.path, files.source)


def _folder_backend(folder: Path, name: str) -> Any:
    import transformers

    if not any((folder / file).is_file() for file in ("tokenizer.json", "tokenizer.model", "vocab.json")):
        raise CumaError(f"{name}: {folder} has no tokenizer.json; fetch it, or give another --model.tokenizer")
    try:
        backend = transformers.AutoTokenizer.from_pretrained(folder, use_fast=True, trust_remote_code=False)
    except Exception as error:  # tokenizers raises bare Exception on a broken file
        raise CumaError(f"{name}: the tokenizer in {folder} could not be read ({error})") from error
    if not backend.is_fast:
        raise CumaError(f"{name}: the tokenizer in {folder} has no fast form (tokenizer.json); convert it first")
    return backend


def _wrap(tokenizer: Any, template: str | None, **special: Any) -> Any:
    import transformers

    return transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, chat_template=template, **special)


@functools.cache
def _bytes_backend() -> Any:
    """Bytes 0..255 as tokens (no merges) and three special tokens: 259 ids."""
    import tokenizers

    vocab = {piece: i for i, piece in enumerate(sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=vocab, merges=[]))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    specials = ["<|pad|>", "<|im_start|>", "<|im_end|>"]
    tokenizer.add_special_tokens([tokenizers.AddedToken(token, special=True, normalized=False) for token in specials])
    return _wrap(tokenizer, CHATML, pad_token="<|pad|>", bos_token="<|im_start|>", eos_token="<|im_end|>")


def _gguf_backend(path: Path, name: str) -> Any:
    import tokenizers

    from cuma_jax.hub.gguf import read_tokenizer

    fields = read_tokenizer(path)
    model, pre = fields.get("tokenizer.ggml.model"), fields.get("tokenizer.ggml.pre")
    if model != "gpt2" or pre not in PRE_TOKENIZERS:
        raise CumaError(
            f"{name}: the GGUF tokenizer (model {model!r}, pre-tokenizer {pre!r}) cannot be rebuilt; known are gpt2 "
            f"with {', '.join(PRE_TOKENIZERS)}. Give a Hugging Face folder or hub name with --model.tokenizer"
        )
    tokens, types = fields["tokenizer.ggml.tokens"], fields["tokenizer.ggml.token_type"]
    merges = [tuple(merge.split(" ")) for merge in fields["tokenizer.ggml.merges"]]
    regex, ignore_merges, nfc = PRE_TOKENIZERS[pre]
    vocab = {token: i for i, token in enumerate(tokens)}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=vocab, merges=merges, ignore_merges=ignore_merges))
    if nfc:
        tokenizer.normalizer = tokenizers.normalizers.NFC()
    first = (
        tokenizers.pre_tokenizers.Split(tokenizers.Regex(regex), behavior="isolated")
        if regex
        else tokenizers.pre_tokenizers.Digits(individual_digits=True)
    )
    # Without a regex of its own, the byte-level step splits by GPT-2's.
    bytes_ = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=not regex)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Sequence([first, bytes_])
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    tokenizer.add_tokens(
        [
            tokenizers.AddedToken(token, special=kind == _CONTROL, normalized=False)
            for token, kind in zip(tokens, types, strict=True)
            if kind in (_CONTROL, _USER_DEFINED)
        ]
    )
    ids = {role: fields.get(f"tokenizer.ggml.{key}_token_id") for role, key in _ROLES.items()}
    special = {role: tokens[i] for role, i in ids.items() if i is not None}
    return _wrap(tokenizer, fields.get("tokenizer.chat_template"), **special)
