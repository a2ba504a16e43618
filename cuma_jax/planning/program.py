"""The real train step of a config with abstract arguments: shapes and shardings, no weights, no data, no devices.

Shapes: B rows, T tokens, S supervised positions, O options, P profiles, C profile width, M templates, D model width.
"""

import dataclasses
import functools
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from cuma_jax.config import Config
from cuma_jax.models.families import DecoderConfig
from cuma_jax.run.decoders import abstract_variables, has_dropout, make_decoder
from cuma_jax.run.forward import Tables
from cuma_jax.run.objective import objective_of
from cuma_jax.runtime.sharding import batch_sharding, replicated, tree_shardings, with_shardings
from cuma_jax.training.optimizer import make_optimizer, make_schedule
from cuma_jax.training.state import abstract_state, state_shardings
from cuma_jax.training.step import UpdateRule, make_train_step

Tree = Any
SURVEY_TOKENS = 2
"""Supervised tokens of a survey row: the option's letter and the end of the turn."""
OPTIONS, TEMPLATES, VALUES, FIELDS = 10, 512, 64, 8
"""What only the data know, as assumed: most options of a question, texts whose hidden states are kept, values of the
field that a lookup router reads, profile fields."""
ENCODER_WIDTH = 1024
"""Width of a profile vector that is not whitened (Qwen3-Embedding-0.6B)."""


@dataclasses.dataclass(frozen=True)
class Program:
    """The step that training runs (`make_train_step`), with abstract arguments: state, base, tables, batch."""

    step: Any
    arguments: tuple[Any, ...]
    mesh: Mesh

    def trace(self) -> Any:
        """The step traced with its arguments."""
        with jax.set_mesh(self.mesh):
            return self.step.trace(*self.arguments)


def supervised(config: Config, length: int) -> int:
    """S of a row: all of a conversation's tokens, or a survey answer's."""
    if not objective_of(config).reads_vocabulary:
        return 1
    return min(SURVEY_TOKENS, length) if config.reads_answers else length - 1


def profile_width(config: Config) -> int:
    """C, as far as the config alone tells it."""
    profile = config.profile
    if config.router.inputs == "lookup" or profile.granularity == "categorical":
        return VALUES
    if "profile" not in config.router.inputs:
        return 0
    fields = 1 if profile.granularity == "profile" else len(profile.fields) or FIELDS
    return fields * (profile.components if profile.normalise == "whiten" else ENCODER_WIDTH)


@functools.lru_cache(maxsize=8)
def boxed_variables(config: Config, shape: DecoderConfig) -> Tree:
    """Shapes and logical axes of the variables (`params`, `adapters`); tracing takes a second, so it is kept."""
    decoder = make_decoder(config, shape, experts=VALUES)
    boxed = abstract_variables(decoder, profile_width(config))
    return {name: boxed[name] for name in ("params", "adapters")}


def variables_of(config: Config) -> Config:
    """`config` with everything at its default that the variables' shapes do not depend on: a key to keep them by."""
    model = dataclasses.replace(config.model, remat="none", source="", revision="", tokenizer="")
    adapter = dataclasses.replace(config.adapter, init_from="")
    return Config(
        model=model, adapter=adapter, router=config.router, profile=config.profile, objective=config.objective
    )


def build(config: Config, shape: DecoderConfig, mesh: Mesh, length: int, profiles: int) -> Program:
    """The train step of a config on a mesh of devices, which may be those of a topology description.

    `length`: T; `profiles`: P. A weight that does not divide over the mesh is a `CumaError`.
    """
    boxed = boxed_variables(variables_of(config), shape)
    shapes, shardings = nn.meta.unbox(boxed), tree_shardings(boxed, mesh)
    width = profile_width(config)
    widths = (width,) if config.profile.field_dropout else ()
    decoder = make_decoder(config, shape, not has_dropout(config), VALUES, widths)
    schedule = make_schedule(config.optimizer, max(config.train.steps, 1))
    optimizer = make_optimizer(config.optimizer, schedule)
    adapters = shapes["adapters"]
    where = state_shardings(optimizer, adapters, shardings["adapters"], mesh)
    rule = UpdateRule(optimizer, schedule, where)
    step = make_train_step(decoder, config, objective_of(config).sums, rule, mesh, shardings["params"])
    whole = replicated(mesh)
    cached = config.train.question_cache == "auto" and decoder.n_frozen > 0 and not config.profile.in_prompt
    hidden = jax.ShapeDtypeStruct((TEMPLATES, length, shape.width), decoder.dtype, sharding=whole) if cached else None
    vectors = jax.ShapeDtypeStruct((profiles, width), jnp.float32, sharding=whole) if width else None
    arguments = (
        with_shardings(abstract_state(optimizer, adapters), where),
        with_shardings(shapes["params"], shardings["params"]),
        Tables(vectors, hidden),  # type: ignore[arg-type]
        _batch(config, mesh, length, cached),
    )
    return Program(step, arguments, mesh)


def _batch(config: Config, mesh: Mesh, length: int, cached: bool) -> dict[str, Any]:
    rows, sharding, positions = config.train.batch_size, batch_sharding(mesh), supervised(config, length)

    def array(dtype: Any, *shape: int) -> Any:
        return jax.ShapeDtypeStruct((rows, *shape), dtype, sharding=sharding)

    batch = {"lengths": array(jnp.int32), "profile": array(jnp.int32), "weight": array(jnp.float32)}
    batch |= {"template": array(jnp.int32)} if cached else {"tokens": array(jnp.int32, length)}
    batch["positions"] = array(jnp.int32, positions)
    shapes = objective_of(config).batch_shapes(config, positions, OPTIONS)
    assert shapes is not None
    return batch | {name: array(jnp.dtype(dtype), *shape) for name, (dtype, shape) in shapes.items()}


def matmul_flops(jaxpr: Any) -> float:
    """Floating-point operations of all matrix products of a jaxpr, over all devices; a scan's as often as it runs.

    What is rematerialised is in the jaxpr of a gradient, so it is counted.
    """
    total = 0.0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            left = equation.invars[0].aval.shape
            total += 2.0 * math.prod(equation.outvars[0].aval.shape) * math.prod(left[i] for i in contracted)
            continue
        times = equation.params.get("length", 1) if equation.primitive.name == "scan" else 1
        inner = [getattr(part, "jaxpr", part) for part in jax.tree.leaves(list(equation.params.values()))]
        counts = [matmul_flops(part) for part in inner if hasattr(part, "eqns")]
        total += times * (max(counts, default=0.0) if equation.primitive.name == "cond" else sum(counts))
    return total
