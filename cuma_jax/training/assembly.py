"""Everything a run needs besides its trained state, put together from a config in one order, for every main.

survey -> profiles and splits -> tokenizer and rows -> mesh and frozen base -> profile table -> question table.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from cuma_jax.cache import cache_dir
from cuma_jax.config import Config
from cuma_jax.data.batches import Batcher, Buckets, Rows, template_slots
from cuma_jax.data.tokenizer import Tokenizer, load_tokenizer
from cuma_jax.data.tokens import RowTokens, build_row_tokens
from cuma_jax.errors import CumaError
from cuma_jax.models.decoder import Decoder
from cuma_jax.models.encoders import Backbone, load_encoder
from cuma_jax.models.families import DecoderConfig, decoder_config
from cuma_jax.models.profile_table import ProfileTable, build_profile_table
from cuma_jax.models.sources import ModelFiles, resolve
from cuma_jax.models.weights import fingerprint, load_params
from cuma_jax.sharding import check_divisible, make_mesh, replicated, tree_shardings
from cuma_jax.surveys.load import load_survey
from cuma_jax.surveys.profiles import Profiles, build_profiles
from cuma_jax.surveys.splits import SPLITS, split_answers
from cuma_jax.surveys.survey import Survey
from cuma_jax.training.forward import Tables

Tree = Any
_CHUNK = 16
"""About how many rows of the question table are filled by one call."""


@dataclasses.dataclass(frozen=True)
class Layout:
    """How rows become batches.

    Attributes:
        objective: `choice` or `sft`: what is supervised.
        tokens: the rows' token pieces.
        sizes_Q: options of each question.
        buckets, max_length: lengths in tokens.
        tables: per bucket, what batches index into, on the devices.
        cached: whether batches name templates of a question table instead of holding tokens.
    """

    objective: str
    tokens: RowTokens
    sizes_Q: tuple[int, ...]
    buckets: Buckets
    max_length: int
    tables: dict[int, Tables]
    cached: bool

    def batcher(self, rows: Rows) -> Batcher:
        """Gathers `rows` into batches."""
        return Batcher(rows, self.tokens, self.sizes_Q, self.objective, self.buckets, self.max_length, self.cached)


@dataclasses.dataclass(frozen=True)
class Assembly:
    """A config made real.

    Attributes:
        config: the resolved config.
        mesh: the devices.
        survey, profiles, split_A: the data; `split_A` holds positions in `SPLITS`.
        tokenizer: the base's, or the one that was asked for.
        files, fingerprint: the base's files and what tells it from another base.
        decoder: with dropout off; `train_decoder` has it on.
        base, base_shardings: the frozen weights.
        adapter_shapes, adapter_shardings: the trainable tree, abstract.
        table: profile vectors; None where no router sees them.
        training, prediction: rows as the objective supervises them, and as options are predicted (one and the same
            for `choice`).
    """

    config: Config
    mesh: Mesh
    survey: Survey
    profiles: Profiles
    split_A: np.ndarray
    tokenizer: Tokenizer
    files: ModelFiles
    fingerprint: str
    decoder: Decoder
    train_decoder: Decoder
    base: Tree
    base_shardings: Tree
    adapter_shapes: Tree
    adapter_shardings: Tree
    table: ProfileTable | None
    training: "Layout"
    prediction: "Layout"

    @property
    def decoder_config(self) -> DecoderConfig:
        """Shapes of the base."""
        return self.decoder.config

    def mask(self, split: str) -> np.ndarray:
        """Bool [A], the answers of a split."""
        return self.split_A == SPLITS.index(split)

    def init_adapters(self, seed: int) -> Tree:
        """Fresh adapters, made on their devices; B is zero, so the model starts as its base."""

        def init(key: jax.Array) -> Tree:
            return nn.meta.unbox(_init(self.decoder, self._profile_width, key)["adapters"])

        return jax.jit(init, out_shardings=self.adapter_shardings)(jax.random.key(seed))

    @property
    def _profile_width(self) -> int:
        return 0 if self.table is None else self.table.width


def uses_question_cache(config: Config, decoder: Decoder) -> bool:
    """Exact only where nothing below the first adapted layer depends on the profile; useful if layers are there."""
    return config.train.question_cache == "auto" and not config.profile.in_prompt and decoder.n_frozen > 0


def compute_dtype(config: Config) -> Any:
    """`model.dtype`, with auto resolved for this backend."""
    if config.model.dtype != "auto":
        return jnp.dtype(config.model.dtype)
    return jnp.dtype("float32" if jax.default_backend() == "cpu" else "bfloat16")


def make_decoder(config: Config, shape: DecoderConfig, deterministic: bool = True) -> Decoder:
    """The decoder of a config.

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
        adapter=config.adapter,
        router=config.router,
        projection_layers=config.profile.projection_layers,
        projection_dim=config.profile.projection_dim,
        profile_dropout=config.profile.dropout,
        dtype=compute_dtype(config),
        attention=config.model.attention,
        remat=config.model.remat,
        deterministic=deterministic,
    )


def _init(decoder: Decoder, profile_width: int, key: jax.Array) -> Tree:
    profile_BC = jnp.zeros((1, profile_width)) if profile_width else None
    keys = {"params": key, "adapters": key}
    return decoder.init(keys, jnp.zeros((1, 8), jnp.int32), jnp.full((1,), 8), profile_BC)


def abstract_variables(decoder: Decoder, profile_width: int) -> Tree:
    """Shapes and logical axes of all variables; nothing is allocated."""
    return jax.eval_shape(functools.partial(_init, decoder, profile_width), jax.random.key(0))


def _check_mesh(config: Config, mesh: Mesh, shape: DecoderConfig) -> None:
    rows = config.train.batch_size // config.train.micro_batches
    check_divisible(
        mesh,
        {
            "train.batch_size / train.micro_batches": ("batch", rows),
            "evaluation.batch_size": ("batch", config.evaluation.batch_size),
            "the model's number of heads": ("heads", shape.heads),
            "the model's number of key/value heads": ("kv_heads", shape.kv_heads),
        },
    )


def _check_splits(config: Config, split_A: np.ndarray) -> None:
    """Before any training: a split that could not be scored after it."""
    for split in config.evaluation.splits:
        if not np.any(split_A == SPLITS.index(split)):
            raise CumaError(
                f"config field evaluation.splits asks for {split!r}, which has no answers here; raise its share in "
                "data.*, or take it out of evaluation.splits"
            )


def assemble(config: Config, progress: bool = True) -> Assembly:
    """Puts a run together.

    Args:
        config: the resolved config.
        progress: report slow steps on stderr.

    Raises:
        CumaError: whatever is wrong with the config, the data, the files or the mesh; nothing is written.
    """
    cache = str(cache_dir(config.run.cache_dir))
    files = resolve(config.model.source, config.model.revision, cache)
    shape = decoder_config(files)
    mesh = make_mesh(config.mesh)
    _check_mesh(config, mesh, shape)
    decoder = make_decoder(config, shape)

    survey = load_survey(config.data, cache)
    profiles = build_profiles(survey, config.profile.fields)
    split_A = split_answers(survey, config.data)
    _check_splits(config, split_A)
    train_P = np.zeros(len(profiles), bool)
    train_P[profiles.profile_R[survey.respondent_A[split_A == SPLITS.index("train")]]] = True

    source = config.model.tokenizer
    token_files = resolve(source, "", cache, weights=False) if source else files
    tokenizer = load_tokenizer(token_files)
    if tokenizer.vocab_size > shape.vocab:
        raise CumaError(
            f"tokenizer {tokenizer.name} has {tokenizer.vocab_size} tokens but the model {config.model.source} has "
            f"{shape.vocab}; give the tokenizer that belongs to the model (--model.tokenizer)"
        )
    in_prompt = profiles if config.profile.in_prompt else None
    # Before the weights are read: an option letter that is not one token is found here.
    tokens = {
        name: build_row_tokens(survey.questions, in_prompt, tokenizer, name)
        for name in {config.objective.name, "choice"}
    }

    boxed = abstract_variables(decoder, 0 if "profile" not in config.router.inputs else 1)
    base_shardings = tree_shardings(boxed["params"], mesh)
    base = load_params(files, shape, nn.meta.unbox(boxed["params"]), base_shardings, decoder.n_frozen)

    identity, table = fingerprint(files), None
    if "profile" in config.router.inputs:
        backbone = Backbone(shape, base, tokenizer, identity, config.model.source, decoder.dtype)
        encoder = load_encoder(config.profile, cache, backbone)
        table = build_profile_table(profiles, train_P, config.profile, encoder, cache, config.train.seed, progress)

    boxed = abstract_variables(decoder, 0 if table is None else table.width)["adapters"]
    whole = replicated(mesh)
    vectors_PM = None if table is None else jax.device_put(table.vectors_PM, whole)
    layouts = {
        name: _layout(config, name, pieces, survey, vectors_PM, decoder, base, base_shardings, mesh)
        for name, pieces in tokens.items()
    }
    return Assembly(
        config=config,
        mesh=mesh,
        survey=survey,
        profiles=profiles,
        split_A=split_A,
        tokenizer=tokenizer,
        files=files,
        fingerprint=identity,
        decoder=decoder,
        train_decoder=make_decoder(config, shape, deterministic=not _has_dropout(config)),
        base=base,
        base_shardings=base_shardings,
        adapter_shapes=nn.meta.unbox(boxed),
        adapter_shardings=tree_shardings(boxed, mesh),
        table=table,
        training=layouts[config.objective.name],
        prediction=layouts["choice"],
    )


def _has_dropout(config: Config) -> bool:
    return max(config.adapter.dropout, config.router.dropout, config.profile.dropout) > 0


def _layout(
    config: Config,
    objective: str,
    tokens: RowTokens,
    survey: Survey,
    vectors_PM: jax.Array | None,
    decoder: Decoder,
    base: Tree,
    base_shardings: Tree,
    mesh: Mesh,
) -> Layout:
    buckets, cached = Buckets(config.data.buckets), uses_question_cache(config, decoder)
    if cached:
        bucket_M, _ = template_slots(tokens, buckets, config.data.max_length)
        lower = jax.jit(
            lambda base, tokens_BT: decoder.apply({"params": base}, tokens_BT, method="lower"),
            in_shardings=(base_shardings, replicated(mesh)),
            out_shardings=replicated(mesh),
        )
        fill = functools.partial(_question_table, tokens, lower=functools.partial(lower, base), mesh=mesh)
        tables = {
            int(b): Tables(vectors_PM, fill(np.flatnonzero(bucket_M == b), buckets.lengths[b]))
            for b in np.unique(bucket_M)
        }
    else:
        tables = {b: Tables(vectors_PM) for b in range(len(buckets.lengths))}
    sizes_Q = tuple(len(q.options) for q in survey.questions)
    return Layout(objective, tokens, sizes_Q, buckets, config.data.max_length, tables, cached)


def _question_table(
    tokens: RowTokens, members_M: np.ndarray, width: int, lower: Callable[[jax.Array], jax.Array], mesh: Mesh
) -> jax.Array:
    """Hidden states below the first adapted layer, [M,T,D] on every device, in a few calls of one shape."""
    ways = mesh.shape["data"] * mesh.shape["fsdp"]
    chunk = ways * max(_CHUNK // ways, 1)
    padded_M = np.resize(members_M, -(-len(members_M) // chunk) * chunk)
    tokens_MT = tokens.fill(padded_M, padded_M, width)
    whole = replicated(mesh)
    with jax.set_mesh(mesh):
        parts = [lower(jax.device_put(t, whole)) for t in np.split(tokens_MT, len(padded_M) // chunk)]
        return jax.device_put(jnp.concatenate(parts)[: len(members_M)], whole)
