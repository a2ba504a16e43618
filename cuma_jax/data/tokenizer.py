"""One tokenizer for every source: a Hugging Face folder, the fields of a GGUF file, or bytes for random models.

All three end as a transformers fast tokenizer with a chat template, so that rendering is the template's own, default
system message included.
"""

import functools
import os
import string
from pathlib import Path
from typing import Any

from cuma_jax.errors import CumaError
from cuma_jax.models.sources import ModelFiles

Message = dict[str, str]
"""One turn: `role` (system, user or assistant) and `content`."""

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
_PROBE = "Zebra"
"""An answer that no template contains; what follows it is how a template ends a turn."""

# The `tokenizer.ggml.pre` names whose pre-tokenizer is known: (regex split, ignore_merges, NFC), from the public
# tokenizer.json of SmolLM2, Qwen2 and Llama 3.
_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+"
_TAIL = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_PRE: dict[str, tuple[str, bool, bool]] = {
    "smollm": ("", False, False),
    "qwen2": (_CONTRACTIONS + r"|\p{N}" + _TAIL, False, True),
    "llama-bpe": (_CONTRACTIONS + r"|\p{N}{1,3}" + _TAIL, True, False),
}
_CONTROL, _USER_DEFINED = 3, 4  # gguf.TokenType
_ROLES = {"bos_token": "bos", "eos_token": "eos", "pad_token": "padding"}


class Tokenizer:
    """Text to token ids and back, with the model's chat template.

    Attributes:
        name: the source; named in errors.
        pad_id: token for padding (lengths mask it, so any id would do).
        end_of_turn_id: the special token that ends an assistant turn in the chat template.
        vocab_size: number of token ids, added tokens included.
    """

    def __init__(self, backend: Any, name: str, chat: bool = True):
        """Wraps a transformers tokenizer; `chat` False is for text encoders, which need no chat template.

        Raises:
            CumaError: no chat template, or a template that ends a turn without a special token.
        """
        self.name, self._backend = name, backend
        if chat and not backend.chat_template:
            raise CumaError(
                f"tokenizer {name} has no chat template; use an instruction-tuned model, or give the tokenizer of one "
                "with --model.tokenizer"
            )
        self.vocab_size: int = len(backend)
        self.end_of_turn_id: int = self._find_end_of_turn() if chat else int(backend.eos_token_id or 0)
        self.pad_id: int = self.end_of_turn_id if backend.pad_token_id is None else int(backend.pad_token_id)

    def encode(self, text: str) -> list[int]:
        """Token ids of `text`; nothing is added, and special tokens written in the text become their ids."""
        return list(self._backend.encode(text, add_special_tokens=False))

    def decode(self, ids: list[int], skip_special: bool = False) -> str:
        """The text of token ids."""
        return self._backend.decode(ids, skip_special_tokens=skip_special, clean_up_tokenization_spaces=False)

    def render(self, messages: list[Message], add_generation_prompt: bool = False) -> str:
        """The chat as the model's template writes it (thinking switched off, where the template knows it).

        Raises:
            CumaError: the template refuses these messages.
        """
        import jinja2

        try:
            return self._backend.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=add_generation_prompt, enable_thinking=False
            )
        except jinja2.TemplateError as error:
            roles = ", ".join(message["role"] for message in messages)
            raise CumaError(f"the chat template of {self.name} refuses the turns ({roles}): {error}") from error

    def encode_chat(self, messages: list[Message], add_generation_prompt: bool = False) -> list[int]:
        """Token ids of the rendered chat."""
        return self.encode(self.render(messages, add_generation_prompt))

    def letter_ids(self, n: int, prompt: str | None = None) -> list[int]:
        """Ids of the option letters A, B, ... as the first token of an answer.

        Args:
            n: number of letters, at most 26.
            prompt: the rendered text before the letter; None: a short question with the generation prompt.

        Raises:
            CumaError: a letter that is not one token of its own after the prompt.
        """
        if not 1 <= n <= len(string.ascii_uppercase):
            raise CumaError(f"a question has {n} options; there are 26 letters to name them")
        if prompt is None:
            prompt = self.render([{"role": "user", "content": "A or B?"}], add_generation_prompt=True)
        prompt_ids, ids = self.encode(prompt), []
        for letter in string.ascii_uppercase[:n]:
            found = self.encode(prompt + letter)
            if found[:-1] != prompt_ids or found[-1] in ids or self.decode(found[-1:]) != letter:
                raise CumaError(
                    f"tokenizer {self.name} does not write the option letter {letter!r} as one token after the prompt "
                    f"{prompt[-40:]!r}; use another model or --model.tokenizer"
                )
            ids.append(found[-1])
        return ids

    def _find_end_of_turn(self) -> int:
        turns = [{"role": "user", "content": "?"}, {"role": "assistant", "content": _PROBE}]
        tail = self.render(turns).rpartition(_PROBE)[2]
        special = {i for i, token in self._backend.added_tokens_decoder.items() if token.special}
        special |= set(self._backend.all_special_ids)
        for token in self.encode(tail):
            if token in special:
                return token
        raise CumaError(
            f"the chat template of {self.name} ends an assistant turn with {tail!r}, which has no special token; "
            "use an instruction-tuned model, or give the tokenizer of one with --model.tokenizer"
        )


def load_tokenizer(files: ModelFiles, chat: bool = True) -> Tokenizer:
    """The tokenizer of a model; `chat` False accepts one without a chat template (for text encoders).

    Raises:
        CumaError: tokenizer files missing or unreadable, an unknown GGUF pre-tokenizer, or no chat template.
    """
    # Importing transformers without torch prints advice that does not concern a tokenizer.
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    if files.kind == "random":
        return Tokenizer(_bytes_backend(), files.source, chat)
    assert files.path is not None
    read = _gguf_backend if files.kind == "gguf" else _folder_backend
    return Tokenizer(read(files.path, files.source), files.source, chat)


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

    from cuma_jax.models.gguf import read_tokenizer

    fields = read_tokenizer(path)
    model, pre = fields.get("tokenizer.ggml.model"), fields.get("tokenizer.ggml.pre")
    if model != "gpt2" or pre not in _PRE:
        raise CumaError(
            f"{name}: the GGUF tokenizer (model {model!r}, pre-tokenizer {pre!r}) cannot be rebuilt; known are gpt2 "
            f"with {', '.join(_PRE)}. Give a Hugging Face folder or hub name with --model.tokenizer"
        )
    tokens, types = fields["tokenizer.ggml.tokens"], fields["tokenizer.ggml.token_type"]
    merges = [tuple(merge.split(" ")) for merge in fields["tokenizer.ggml.merges"]]
    regex, ignore_merges, nfc = _PRE[pre]
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
