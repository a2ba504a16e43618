"""Where a tokenizer's own program comes from: a Hugging Face folder, the fields of a GGUF file, or bytes.

All end as a transformers fast tokenizer with its chat template.
"""

import functools
import os
from pathlib import Path
from typing import Any

from cuma_jax.hub.model_files import ModelFiles
from cuma_jax.hub.schema import ID, IDS, TEXT, TEXTS, check_fields
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
_ROLES = {
    "bos_token": "tokenizer.ggml.bos_token_id",
    "eos_token": "tokenizer.ggml.eos_token_id",
    "pad_token": "tokenizer.ggml.padding_token_id",
}
_GGUF_LISTS = ("tokenizer.ggml.tokens", "tokenizer.ggml.token_type", "tokenizer.ggml.merges")
_GGUF = {
    "tokenizer.ggml.tokens": TEXTS, "tokenizer.ggml.merges": TEXTS, "tokenizer.chat_template": TEXT,
    "tokenizer.ggml.pre": TEXT, "tokenizer.ggml.token_type": IDS, **dict.fromkeys(_ROLES.values(), ID),
}  # fmt: skip
_AGAIN = "fetch the file again, or give another tokenizer with --model.tokenizer"


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
    import tokenizers
    import transformers

    if not any((folder / file).is_file() for file in ("tokenizer.json", "tokenizer.model", "vocab.json")):
        raise CumaError(f"{name}: {folder} has no tokenizer.json; fetch it, or give another --model.tokenizer")
    try:
        if (folder / "tokenizer.json").is_file():
            # Of the settings beside it, the template and the names of special tokens. A class that is named there, or
            # that goes with the model's type, may build another tokenizer than the file holds.
            own = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
            said = transformers.PreTrainedTokenizerFast.from_pretrained(folder)
            for i, token in sorted(said.added_tokens_decoder.items()):
                if own.token_to_id(token.content) is None and own.get_vocab_size() == i:
                    own.add_tokens([token])
            return _wrap(own, said.chat_template, **said.special_tokens_map)
        backend = transformers.AutoTokenizer.from_pretrained(folder, use_fast=True, trust_remote_code=False)
    except Exception as error:  # tokenizers raises bare Exception on a broken file
        reason = str(error) or type(error).__name__
        raise CumaError(f"{name}: the tokenizer in {folder} could not be read ({reason}); fetch it again") from error
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
    check_fields({key: value for key, value in fields.items() if key in _GGUF}, _GGUF, name, _AGAIN, _AGAIN)
    model, pre = fields.get("tokenizer.ggml.model"), fields.get("tokenizer.ggml.pre")
    if model != "gpt2" or pre not in PRE_TOKENIZERS:
        raise CumaError(
            f"{name}: the GGUF tokenizer (model {model!r}, pre-tokenizer {pre!r}) cannot be rebuilt; known are gpt2 "
            f"with {', '.join(PRE_TOKENIZERS)}. Give a Hugging Face folder or hub name with --model.tokenizer"
        )
    if missing := [key for key in _GGUF_LISTS if key not in fields]:
        raise CumaError(f"{name}: the GGUF metadata lacks {', '.join(missing)}; {_AGAIN}")
    tokens, types, merges = (fields[key] for key in _GGUF_LISTS)
    merges = [tuple(merge.split(" ")) for merge in merges]
    ids = {role: fields[key] for role, key in _ROLES.items() if key in fields}
    vocab = {token: i for i, token in enumerate(tokens)}
    agree = len(types) == len(tokens) == len(vocab) and all(len(pair) == 2 for pair in merges)
    if not agree or max(ids.values(), default=0) >= len(tokens):
        raise CumaError(f"{name}: the GGUF tokenizer's lists of tokens, types, merges and ids do not agree; {_AGAIN}")
    regex, ignore_merges, nfc = PRE_TOKENIZERS[pre]
    try:
        tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=vocab, merges=merges, ignore_merges=ignore_merges))
    except Exception as error:  # tokenizers raises bare Exception
        raise CumaError(f"{name}: the GGUF tokenizer cannot be rebuilt ({error}); {_AGAIN}") from None
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
    special = {role: tokens[i] for role, i in ids.items()}
    return _wrap(tokenizer, fields.get("tokenizer.chat_template"), **special)
