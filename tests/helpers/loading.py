"""What the tests of weights share: the abstract tree of a decoder, and loading onto one device or a mesh."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import SingleDeviceSharding

from cuma_jax.config import AdapterConfig
from cuma_jax.hub.model_files import ModelFiles
from cuma_jax.models.decoder import Decoder
from cuma_jax.models.families import DecoderConfig, decoder_config
from cuma_jax.models.weights import load_params
from cuma_jax.runtime.sharding import tree_shardings


def abstract_params(model: Decoder, mesh=None):
    """The abstract 'params' tree, and shardings on `mesh` (None: the first device)."""
    init = (jax.random.key(0), jnp.zeros((1, 4), jnp.int32), jnp.ones(1, jnp.int32), jnp.zeros((1, 3)))
    boxed = jax.eval_shape(model.init, *init)["params"]
    abstract = nn.unbox(boxed)
    if mesh is not None:
        return abstract, tree_shardings(boxed, mesh)
    one = SingleDeviceSharding(jax.devices()[0])
    return abstract, jax.tree.map(lambda _: one, abstract)


def load(
    files: ModelFiles, config: DecoderConfig | None = None, top: int = 0, mesh=None, dtype=jnp.float32, quantize="none"
):
    """Decoder and parameters of `files`; the `top` layers are adapted ones (0: none)."""
    config = config or decoder_config(files)
    model = Decoder(config, AdapterConfig(layers=top) if top else None, dtype=dtype, quantize=quantize)
    abstract, shardings = abstract_params(model, mesh)
    return model, load_params(files, config, abstract, shardings, model.n_frozen)
