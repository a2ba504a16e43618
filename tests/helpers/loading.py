"""What the tests of decoders share: their abstract tree, drawn variables, the forward pass, and loading."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import SingleDeviceSharding

from cuma_jax.config import AdapterConfig
from cuma_jax.hub.model_files import ModelFiles
from cuma_jax.models.decoder import Decoder
from cuma_jax.models.families import DecoderConfig, decoder_config
from cuma_jax.models.weights import load_params
from cuma_jax.run.decoders import abstract_variables
from cuma_jax.runtime.sharding import tree_shardings


def abstract_params(model: Decoder, mesh=None, width=3):
    """The abstract 'params' tree, and shardings on `mesh` (None: the first device)."""
    init = (
        jax.random.key(0),
        jnp.zeros((1, 4), jnp.int32),
        jnp.ones(1, jnp.int32),
        jnp.zeros((1, width)) if width else None,
    )
    boxed = jax.eval_shape(model.init, *init)["params"]
    abstract = nn.unbox(boxed)
    if mesh is not None:
        return abstract, tree_shardings(boxed, mesh)
    one = SingleDeviceSharding(jax.devices()[0])
    return abstract, jax.tree.map(lambda _: one, abstract)


def forward(decoder: Decoder, variables, tokens_BT, lengths_B, profile_BC):
    """Logits at every position [B,T,V], and the routers' sums."""
    x_BTD, stats = decoder.apply(variables, tokens_BT, lengths_B, profile_BC)
    everywhere_BT = jnp.broadcast_to(jnp.arange(tokens_BT.shape[1])[None, :], tokens_BT.shape)
    h_BTD = decoder.apply(variables, x_BTD, everywhere_BT, method="at_positions")
    return decoder.apply(variables, h_BTD, method="logits"), stats


def drawn(decoder: Decoder, profile_width: int):
    """Variables with nothing at zero, and norms near one."""
    rng = np.random.default_rng(0)

    def draw(path, leaf):
        if leaf.dtype == jnp.int8:
            return jnp.asarray(rng.integers(-127, 128, leaf.shape), jnp.int8)
        name = jax.tree_util.keystr(path)
        scale = 0.003 if name.endswith("_scale']") else 0.3
        return jnp.asarray(rng.normal(size=leaf.shape) * scale + ("norm" in name and "params" in name), leaf.dtype)

    return jax.tree_util.tree_map_with_path(draw, nn.unbox(abstract_variables(decoder, profile_width)))


def load(
    files: ModelFiles, config: DecoderConfig | None = None, top: int = 0, mesh=None, dtype=jnp.float32, quantize="none"
):
    """Decoder and parameters of `files`; the `top` layers are adapted ones (0: none)."""
    config = config or decoder_config(files)
    model = Decoder(config, AdapterConfig(layers=top) if top else None, dtype=dtype, quantize=quantize)
    abstract, shardings = abstract_params(model, mesh)
    return model, load_params(files, config, abstract, shardings, model.n_frozen)
