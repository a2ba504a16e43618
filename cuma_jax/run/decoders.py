"""The decoder that a config asks for, its variables as shapes, and whether it fits a mesh."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from cuma_jax.config import Config
from cuma_jax.models.decoder import Decoder
from cuma_jax.models.families import DecoderConfig
from cuma_jax.runtime.errors import CumaError
from cuma_jax.runtime.sharding import check_divisible

Tree = Any


def compute_dtype(config: Config) -> Any:
    """`model.dtype`, with auto resolved for this backend."""
    if config.model.dtype != "auto":
        return jnp.dtype(config.model.dtype)
    return jnp.dtype("float32" if jax.default_backend() == "cpu" else "bfloat16")


def make_decoder(
    config: Config,
    shape: DecoderConfig,
    deterministic: bool = True,
    experts: int = 0,
    field_widths: tuple[int, ...] = (),
) -> Decoder:
    """The decoder of a config.

    Args:
        deterministic: no dropout.
        experts: how many, where `adapter.experts` leaves it to the data.
        field_widths: columns of each block of a profile vector; only `profile.field_dropout` needs them.

    Raises:
        CumaError: `adapter.layers` is more than the model has.
    """
    if config.adapter.layers > shape.layers:
        raise CumaError(
            f"config field adapter.layers is {config.adapter.layers}; the model {config.model.source} has "
            f"{shape.layers} layers (0 means all)"
        )
    return Decoder(
        shape,
        adapter=dataclasses.replace(config.adapter, experts=config.adapter.experts or experts),
        router=config.router,
        projection_layers=config.profile.projection_layers,
        projection_dim=config.profile.projection_dim,
        profile_dropout=config.profile.dropout,
        field_dropout=config.profile.field_dropout,
        field_widths=field_widths,
        dtype=compute_dtype(config),
        attention=config.model.attention,
        remat=config.model.remat,
        quantize=config.model.quantize,
        deterministic=deterministic,
    )


def init_variables(decoder: Decoder, profile_width: int, key: jax.Array) -> Tree:
    """Variables of a decoder whose routers read profile vectors of this width (0: none do)."""
    profile_BC = jnp.zeros((1, profile_width)) if profile_width else None
    keys = {"params": key, "adapters": key}
    variables = decoder.init(keys, jnp.zeros((1, 8), jnp.int32), jnp.full((1,), 8), profile_BC)
    return {"adapters": {}, **variables}  # kind none makes none


def abstract_variables(decoder: Decoder, profile_width: int) -> Tree:
    """Shapes and logical axes of all variables; nothing is allocated."""
    return jax.eval_shape(functools.partial(init_variables, decoder, profile_width), jax.random.key(0))


def check_mesh(config: Config, mesh: Mesh, shape: DecoderConfig, trains: bool = True) -> None:
    """Batches and heads against the mesh; the batch of training only where there will be any.

    Raises:
        CumaError: one that does not divide.
    """
    rows = config.train.batch_size // config.train.micro_batches
    check_divisible(
        mesh,
        ({"train.batch_size / train.micro_batches": ("batch", rows)} if trains else {})
        | {
            "evaluation.batch_size": ("batch", config.evaluation.batch_size),
            "the model's number of heads": ("heads", shape.heads),
            "the model's number of key/value heads": ("kv_heads", shape.kv_heads),
        },
    )


def has_dropout(config: Config) -> bool:
    """Whether training draws masks."""
    profile = config.profile
    return max(config.adapter.dropout, config.router.dropout, profile.dropout, profile.field_dropout) > 0
