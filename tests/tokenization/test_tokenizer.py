"""Tokenizers of every source: chat rendering, the end of a turn, and option letters."""

import json

import gguf
import numpy as np
import pytest
import tokenizers
from templates import family_or_skip

from cuma_jax.hub.model_files import ModelFiles
from cuma_jax.models.families import SHAPES
from cuma_jax.runtime.errors import CumaError
from cuma_jax.tokenization.backends import CHATML
from cuma_jax.tokenization.tokenizer import load_tokenizer

RANDOM = ModelFiles("random", None, "random:tiny", "tiny")
CHAT = [{"role": "user", "content": "How are you?"}]
ANSWERED = [*CHAT, {"role": "assistant", "content": "B"}]
SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
TEXT = "Dès 1990, 12345 people's 'values'   changed!\n\n 日本語 — ok\t\r\n"


def byte_vocab():
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    return {token: i for i, token in enumerate([*SPECIALS, *alphabet, "Ġt", "he", "Ġthe", "12", "123"])}


MERGES = ["Ġ t", "h e", "Ġt he", "1 2", "12 3"]


def write_folder(folder, template=CHATML, vocab=None, **config):
    """A Hugging Face tokenizer folder with byte-level BPE."""
    vocab = vocab or byte_vocab()
    merges = [tuple(m.split()) for m in MERGES if all(part in vocab for part in (*m.split(), m.replace(" ", "")))]
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=vocab, merges=merges))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    tokenizer.add_special_tokens(list(SPECIALS))
    folder.mkdir(exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    values = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|im_end|>"} | config
    if template is not None:
        values["chat_template"] = template
    (folder / "tokenizer_config.json").write_text(json.dumps(values))
    return ModelFiles("hf", folder, str(folder))


def write_gguf(path, pre="smollm", model="gpt2", template=CHATML, merges=MERGES, eos=2, types=None):
    writer = gguf.GGUFWriter(path, "llama")
    tokens = list(byte_vocab())
    writer.add_tokenizer_model(model)
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types(types or [gguf.TokenType.CONTROL] * len(SPECIALS) + [1] * (len(tokens) - len(SPECIALS)))
    writer.add_token_merges(merges)
    writer.add_eos_token_id(eos)
    if template:
        writer.add_chat_template(template)
    writer.add_tensor("token_embd.weight", np.zeros((1, 32), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return ModelFiles("gguf", path, str(path))


def sources(tmp_path):
    return [RANDOM, write_folder(tmp_path / "hf"), write_gguf(tmp_path / "m.gguf")]


@pytest.mark.parametrize("source", [0, 1, 2])
def test_every_source_round_trips_renders_and_finds_its_letters(tmp_path, source):
    tokenizer = load_tokenizer(sources(tmp_path)[source])
    assert tokenizer.decode(tokenizer.encode(TEXT)) == TEXT
    prompt = tokenizer.render(CHAT, add_generation_prompt=True)
    assert prompt == "<|im_start|>user\nHow are you?<|im_end|>\n<|im_start|>assistant\n"
    assert tokenizer.encode_chat(CHAT, add_generation_prompt=True) == tokenizer.encode(prompt)
    assert tokenizer.decode([tokenizer.end_of_turn_id]) == "<|im_end|>"
    letters = tokenizer.letter_ids(26)
    # An answered chat is the prompt, the letter and the end of the turn: what training supervises is what is predicted.
    answered = tokenizer.encode_chat(ANSWERED)
    prompt_ids = tokenizer.encode(prompt)
    assert answered[: len(prompt_ids) + 2] == [*prompt_ids, letters[1], tokenizer.end_of_turn_id]
    assert 0 <= tokenizer.pad_id < tokenizer.vocab_size
    assert max(answered) < tokenizer.vocab_size
    if source == 0:  # every random shape is wide enough for its tokens
        assert tokenizer.vocab_size == 259 <= min(config.vocab for config in SHAPES.values())


@pytest.mark.parametrize(
    ("pre", "pieces"), [("smollm", ["1", "2", "3", "4"]), ("qwen2", ["1", "2", "3", "4"]), ("llama-bpe", ["123", "4"])]
)
def test_gguf_pre_tokenizers_split_digits_as_their_models_do(tmp_path, pre, pieces):
    tokenizer = load_tokenizer(write_gguf(tmp_path / "m.gguf", pre))
    assert [tokenizer.decode([i]) for i in tokenizer.encode("1234")] == pieces
    assert [tokenizer.decode([i]) for i in tokenizer.encode(" the")] == [" the"]
    assert tokenizer.decode(tokenizer.encode(TEXT)) == TEXT


def test_an_unknown_gguf_tokenizer_is_refused_with_a_way_on(tmp_path):
    for pre, model in (("tekken", "gpt2"), ("default", "llama")):
        files = write_gguf(tmp_path / f"{pre}.gguf", pre, model)
        with pytest.raises(CumaError, match=rf"'{model}'.*'{pre}'.*smollm, qwen2, llama-bpe.*--model\.tokenizer"):
            load_tokenizer(files)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ({"merges": ["ab"]}, "do not agree"),
        ({"merges": ["zz yy"]}, "cannot be rebuilt .*zz"),
        ({"eos": 10**6}, "do not agree"),
        ({"types": [1, 2]}, "do not agree"),
        ({"types": [1.5] * 267}, "token_type is .* must be a token id or a list"),
        ({"template": 3}, "chat_template is 3; it must be a text"),
    ],
)
def test_a_damaged_gguf_tokenizer_is_one_message(damage, message, tmp_path, monkeypatch):
    if "template" in damage:
        monkeypatch.setattr(
            gguf.GGUFWriter, "add_chat_template", lambda w, t: w.add_int32("tokenizer.chat_template", t)
        )
    with pytest.raises(CumaError, match=rf"{message}.*--model\.tokenizer"):
        load_tokenizer(write_gguf(tmp_path / "m.gguf", **damage))


@pytest.mark.parametrize("text", ["[]", "3", "[" * 100_000, "\0"])
@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json", "config.json", "generation_config.json"])
def test_a_damaged_file_of_a_folder_is_one_message(name, text, tmp_path):
    files = write_folder(tmp_path / "hf")
    (files.path / name).write_text(text)
    with pytest.raises(CumaError, match="fetch it again"):
        load_tokenizer(files)


def test_a_missing_chat_template_is_an_error_except_for_encoders(tmp_path):
    for files in (write_folder(tmp_path / "hf", None), write_gguf(tmp_path / "m.gguf", template=None)):
        with pytest.raises(CumaError, match=r"has no chat template.*--model\.tokenizer"):
            load_tokenizer(files)
        assert load_tokenizer(files, chat=False).encode("the") == [byte_vocab()["t"], byte_vocab()["he"]]


def test_a_letter_that_is_not_one_token_is_named(tmp_path):
    vocab = byte_vocab()
    # Without a token for C, byte-level BPE drops it.
    vocab["never seen"] = vocab.pop("C")
    tokenizer = load_tokenizer(write_folder(tmp_path / "hf", vocab=vocab))
    assert len(tokenizer.letter_ids(2)) == 2
    with pytest.raises(CumaError, match=r"hf does not write the option letter 'C' as one token"):
        tokenizer.letter_ids(3)
    with pytest.raises(CumaError, match="27 options; there are 26 letters"):
        tokenizer.letter_ids(27)


def test_a_letter_that_merges_with_the_prompt_is_an_error(tmp_path):
    template = CHATML.replace("assistant\n' }}{% endif %}", "assistant Answer: t' }}{% endif %}")
    vocab = byte_vocab() | {"tA": 999}
    folder = tmp_path / "hf"
    files = write_folder(folder, template, vocab)
    path = folder / "tokenizer.json"
    values = json.loads(path.read_text())
    values["model"]["merges"].insert(0, ["t", "A"])
    path.write_text(json.dumps(values))
    with pytest.raises(CumaError, match="option letter 'A' as one token after the prompt"):
        load_tokenizer(files).letter_ids(4)


def test_a_turn_must_end_with_a_special_token(tmp_path):
    template = "{% for message in messages %}{{ message['role'] + ': ' + message['content'] + '\n' }}{% endfor %}"
    with pytest.raises(CumaError, match="no special token"):
        load_tokenizer(write_folder(tmp_path / "hf", template))


def test_the_template_decides_on_system_messages_and_thinking(tmp_path):
    refuses = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}" + CHATML
    tokenizer = load_tokenizer(write_folder(tmp_path / "a", refuses))
    with pytest.raises(CumaError, match=r"refuses the turns \(system\): no system role"):
        tokenizer.render([{"role": "system", "content": "x"}])
    thinks = CHATML + "{% if enable_thinking is defined and enable_thinking is false %}<think></think>{% endif %}"
    assert load_tokenizer(write_folder(tmp_path / "b", thinks)).render(CHAT, True).endswith("<think></think>")


def test_broken_and_missing_tokenizer_files_are_named(tmp_path):
    files = write_folder(tmp_path / "hf")
    path = files.path / "tokenizer.json"
    path.write_text(path.read_text()[:500])
    with pytest.raises(CumaError, match="could not be read"):
        load_tokenizer(files)
    path.unlink()
    with pytest.raises(CumaError, match=r"no tokenizer\.json"):
        load_tokenizer(files)


def test_smollm2_renders_with_its_default_system_message():
    smollm2 = family_or_skip("smollm2")
    assert smollm2.render(CHAT, True) == (
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
        "<|im_start|>user\nHow are you?<|im_end|>\n<|im_start|>assistant\n"
    )
    assert smollm2.encode_chat(CHAT)[:3] == [1, 9690, 198]
    assert (smollm2.end_of_turn_id, smollm2.vocab_size) == (2, 49152)
    assert smollm2.decode(smollm2.encode(TEXT)) == TEXT
    assert smollm2.letter_ids(12) == list(range(49, 61))
