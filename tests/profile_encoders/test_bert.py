import importlib.util
import json
import pathlib
import shutil

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from cuma_jax.profile_encoders.bert import Bert, bert_config, load_bert
from cuma_jax.runtime.errors import CumaError

GOLDEN = pathlib.Path(__file__).parents[1] / "golden" / "bert"


@pytest.fixture
def folder(tmp_path):
    shutil.copytree(GOLDEN, tmp_path / "bert")
    return tmp_path / "bert"


def edit(folder, change):
    tensors = safetensors.numpy.load_file(folder / "model.safetensors")
    change(tensors)
    safetensors.numpy.save_file(tensors, folder / "model.safetensors")


def valid(hidden_BTD, lengths_B):
    return np.asarray(hidden_BTD)[np.arange(hidden_BTD.shape[1])[None] < lengths_B[:, None]]


def test_hidden_states_equal_transformers_golden():
    golden, config = np.load(GOLDEN / "golden.npz"), bert_config(GOLDEN)
    params = load_bert(GOLDEN, config)
    hidden_BTD = Bert(config).apply({"params": params}, golden["tokens"], golden["lengths"])
    np.testing.assert_allclose(
        valid(hidden_BTD, golden["lengths"]),
        valid(golden["hidden"], golden["lengths"]),
        atol=1e-4,
        err_msg="if BERT changed on purpose, remake with tests/golden/make_bert_golden.py",
    )


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")
def test_hidden_states_equal_live_torch():
    import torch
    import transformers

    model, config = transformers.BertModel.from_pretrained(GOLDEN).eval(), bert_config(GOLDEN)
    tokens_BT, lengths_B = np.random.default_rng(1).integers(0, 32, (3, 40)), np.array([40, 7, 23])
    mask_BT = (np.arange(40)[None] < lengths_B[:, None]).astype(np.int64)
    with torch.no_grad():
        want_BTD = model(torch.tensor(tokens_BT), torch.tensor(mask_BT)).last_hidden_state.numpy()
    hidden_BTD = Bert(config).apply(
        {"params": load_bert(GOLDEN, config)}, jnp.asarray(tokens_BT), jnp.asarray(lengths_B)
    )
    np.testing.assert_allclose(valid(hidden_BTD, lengths_B), valid(want_BTD, lengths_B), atol=1e-4)


def test_loaded_tree_is_the_initialised_tree_and_every_weight_has_logical_axes():
    config = bert_config(GOLDEN)
    boxed = jax.eval_shape(Bert(config).init, jax.random.key(0), jnp.zeros((1, 4), jnp.int32), jnp.ones(1, jnp.int32))
    abstract = nn.unbox(boxed)["params"]
    loaded = load_bert(GOLDEN, config)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), abstract) == jax.tree.map(lambda x: (x.shape, x.dtype), loaded)
    specs = nn.get_partition_spec(boxed)["params"]
    assert tuple(specs["layers"]["q"]["kernel"]) == ("layers", "embed", "heads")
    assert tuple(specs["layers"]["down"]["kernel"]) == ("layers", "mlp", "embed")
    assert tuple(specs["tokens"]) == ("vocab", "embed")


def test_a_leading_bert_and_unused_buffers_are_accepted(folder):
    def rename(tensors):
        for name in list(tensors):
            tensors[f"bert.{name}"] = tensors.pop(name)
        tensors["embeddings.position_ids"] = np.arange(48)[None]
        del tensors["bert.pooler.dense.weight"], tensors["bert.pooler.dense.bias"]

    want = load_bert(folder, bert_config(folder))
    edit(folder, rename)
    jax.tree.map(np.testing.assert_array_equal, load_bert(folder, bert_config(folder)), want)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda t: t.pop("encoder.layer.1.output.dense.bias"),
            r"missing tensors \['encoder.layer.1.output.dense.bias'",
        ),
        (lambda t: t.update(cls=np.zeros(3, np.float32)), r"unexpected tensors \['cls'\]"),
        (lambda t: t.update({"embeddings.LayerNorm.bias": np.zeros(3, "float32")}), r"LayerNorm.bias has shape \(3,\)"),
    ],
)
def test_missing_unexpected_and_misshapen_tensors_are_named(folder, change, message):
    edit(folder, change)
    with pytest.raises(CumaError, match=message):
        load_bert(folder, bert_config(folder))


def test_truncated_or_absent_files_say_so(folder):
    config = bert_config(folder)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(CumaError, match="truncated"):
        load_bert(folder, config)
    weights.unlink()
    with pytest.raises(CumaError, match="does not exist"):
        load_bert(folder, config)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_act": "relu"}, r"hidden_act is 'relu'; it must be \"gelu\": any other .*another profile\.encoder"),
        ({"num_attention_heads": 0}, "num_attention_heads is 0; it must be a whole number of 1 or more"),
        ({"hidden_size": "16"}, "hidden_size is '16'; it must be a whole number"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type is 'relative_key'"),
        ({"embedding_size": 8}, r"embedding_size \(here 8\) is not known.*take it out of config\.json"),
        ({"model_type": "roberta"}, "model_type is 'roberta', not 'bert'"),
        ({"vocab_size": None}, "lacks vocab_size"),
    ],
)
def test_another_kind_of_bert_is_named(folder, change, message):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(CumaError, match=message):
        bert_config(folder)
