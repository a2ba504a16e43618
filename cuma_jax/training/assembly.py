"""Everything a run needs besides its trained state, put together from a config in one order, for every main.

survey -> profiles and splits -> tokenizer and rows -> mesh and frozen base -> profile table -> question table.
"""

import dataclasses
import functools
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from cuma_jax.cache import cache_dir
from cuma_jax.config import Config
from cuma_jax.config_checks import SPLITS
from cuma_jax.data.conversations import ConversationTokens
from cuma_jax.data.pairs import PairTokens
from cuma_jax.data.sources import load_source, source_units
from cuma_jax.data.tokenizer import Tokenizer, load_tokenizer
from cuma_jax.errors import CumaError
from cuma_jax.models.attention import check_attention
from cuma_jax.models.decoder import Decoder
from cuma_jax.models.encoders import Backbone, load_encoder
from cuma_jax.models.families import DecoderConfig, decoder_config
from cuma_jax.models.profile_table import ProfileTable, build_profile_table
from cuma_jax.models.sources import ModelFiles, resolve
from cuma_jax.models.weights import fingerprint, load_params
from cuma_jax.preferences.preferences import Preferences
from cuma_jax.sharding import check_divisible, make_mesh, put_tree, put_whole, tree_shardings
from cuma_jax.surveys.profiles import Profiles, build_profiles
from cuma_jax.surveys.splits import split_rows
from cuma_jax.surveys.survey import Survey
from cuma_jax.surveys.units import Units
from cuma_jax.training.layouts import (
    ConversationLayout,
    Layout,
    PairLayout,
    plain_tables,
    survey_layout,
    survey_pair_layout,
)
from cuma_jax.training.needs import check_needs, lookup_experts
from cuma_jax.training.prompt_layout import PromptLayout
from cuma_jax.training.start import start_adapters
from cuma_jax.training.tokenise import fitting_answers, tokenise

Tree = Any


@dataclasses.dataclass(frozen=True)
class Assembly:
    """A config made real.

    Attributes:
        config: the resolved config.
        mesh: the devices.
        source: the data: a survey, or preference data as conversations.
        units: what its rows belong to.
        profiles: its persons' distinct profiles.
        split_N: int8, the split of every row (answer or conversation), as positions in `SPLITS`.
        tokenizer: the base's, or the one that was asked for.
        files, fingerprint: the base's files and what tells it from another base.
        decoder: with dropout off; `train_decoder` has it on. For a lookup both have as many experts as training has
            values of the field, where `config` says 0.
        base, base_shardings: the frozen weights.
        adapter_shapes, adapter_shardings: the trainable tree, abstract.
        table: profile vectors; None where no router sees them.
        training: rows as the objective supervises them.
        prediction: rows as options are predicted (`training` itself, for `choice`); None for conversations.
    """

    config: Config
    mesh: Mesh
    source: Survey | Preferences
    units: Units
    profiles: Profiles
    split_N: np.ndarray
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
    training: Layout | ConversationLayout | PairLayout | PromptLayout
    prediction: Layout | None

    @property
    def decoder_config(self) -> DecoderConfig:
        """Shapes of the base."""
        return self.decoder.config

    @property
    def survey(self) -> Survey:
        """The survey that the run was trained on.

        Raises:
            CumaError: it was trained on conversations.
        """
        if not isinstance(self.source, Survey):
            raise CumaError(f"{self.source.name} was read as conversations; there are no survey questions to predict")
        return self.source

    def mask(self, split: str) -> np.ndarray:
        """Bool [N], the rows of a split."""
        return self.split_N == SPLITS.index(split)

    def init_adapters(self, seed: int) -> Tree:
        """Adapters to start training from, on their devices: those of `adapter.init_from`, or fresh ones."""
        if not self.config.adapter.init_from:
            return self.fresh_adapters(seed)
        return put_tree(self.start, self.adapter_shardings)

    @functools.cached_property
    def start(self) -> Tree:
        """The adapters of `adapter.init_from`, checked, in host memory; None where it is empty."""
        if not self.config.adapter.init_from:
            return None
        return start_adapters(self.config, self.files, self.decoder_config, self.adapter_shapes, self.table)

    def fresh_adapters(self, seed: int) -> Tree:
        """New adapters, made on their devices: the model starts as its base (with a prefix, near it)."""

        def init(key: jax.Array) -> Tree:
            return nn.meta.unbox(_init(self.decoder, self._profile_width, key)["adapters"])

        return jax.jit(init, out_shardings=self.adapter_shardings)(jax.random.key(seed))

    def idle_adapters(self, seed: int) -> Tree:
        """Adapters with which the model is its base: fresh ones, or a prefix of no tokens."""
        if self.config.adapter.kind != "prefix":
            return self.fresh_adapters(seed)
        none = jax.tree.map(lambda s: np.zeros((len(s), 0, *s.shape[2:]), s.dtype), self.adapter_shapes)
        return put_tree(none, self.adapter_shardings)

    @property
    def trainable_parameters(self) -> int:
        """How many numbers are trained, counted from shapes."""
        return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(self.adapter_shapes))

    @property
    def _profile_width(self) -> int:
        return 0 if self.table is None else self.table.width


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
        config: the run's.
        shape: of the base.
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


def _init(decoder: Decoder, profile_width: int, key: jax.Array) -> Tree:
    profile_BC = jnp.zeros((1, profile_width)) if profile_width else None
    keys = {"params": key, "adapters": key}
    variables = decoder.init(keys, jnp.zeros((1, 8), jnp.int32), jnp.full((1,), 8), profile_BC)
    return {"adapters": {}, **variables}  # kind none makes none


def abstract_variables(decoder: Decoder, profile_width: int) -> Tree:
    """Shapes and logical axes of all variables; nothing is allocated."""
    return jax.eval_shape(functools.partial(_init, decoder, profile_width), jax.random.key(0))


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


def _check_splits(config: Config, split_N: np.ndarray) -> None:
    """Before any training: a split that could not be scored after it."""
    there = [name for i, name in enumerate(SPLITS) if np.any(split_N == i)]
    for split in config.evaluation.splits:
        if split not in there:
            raise CumaError(
                f"config field evaluation.splits asks for {split!r}, which has no rows here; the data have "
                f"{', '.join(there)}. Raise its share in data.*, or change evaluation.splits"
            )


def assemble(config: Config, progress: bool = True, trains: bool = True) -> Assembly:
    """Puts a run together.

    Args:
        config: the resolved config.
        progress: report slow steps on stderr.
        trains: whether it will be trained on this mesh.

    Raises:
        CumaError: whatever is wrong with the config, the data, the files or the mesh; nothing is written.
    """
    cache = str(cache_dir(config.run.cache_dir))
    files = resolve(config.model.source, config.model.revision, cache)
    shape = decoder_config(files)
    mesh = make_mesh(config.mesh)
    check_mesh(config, mesh, shape, trains)
    decoder = make_decoder(config, shape)  # its settings are checked before the data are read
    check_attention(config.model.attention, decoder.dtype, shape.head_dim)

    source = load_source(config.data, config.objective.name, cache, config.profile.derived)
    check_needs(config, source)
    units = source_units(source)
    profiles = build_profiles(source, config.profile.fields, config.profile.sentence, config.profile.derived)
    split_N = split_rows(units, config.data)
    _check_splits(config, split_N)
    train_N, train_P = split_N == SPLITS.index("train"), np.zeros(len(profiles), bool)
    train_P[profiles.profile_R[units.person_N[train_N]]] = True
    sees_profile = "profile" in config.router.inputs or config.router.inputs == "lookup"
    experts = lookup_experts(config, profiles, train_P)
    decoder = make_decoder(config, shape, experts=experts)

    model = config.model.tokenizer
    token_files = resolve(model, "", cache, weights=False) if model else files
    tokenizer = load_tokenizer(token_files)
    if tokenizer.vocab_size > shape.vocab:
        raise CumaError(
            f"tokenizer {tokenizer.name} has {tokenizer.vocab_size} tokens but the model {config.model.source} has "
            f"{shape.vocab}; give the tokenizer that belongs to the model (--model.tokenizer)"
        )
    # Before the weights are read: an option letter that is not one token is found here, and a row that is too long.
    tokens = tokenise(config, source, profiles, tokenizer, cache, progress, train_N)
    left_out: dict[str, int] = {}
    if isinstance(source, Survey) and isinstance(tokens, dict):
        fits_N, left_out = fitting_answers(config, source, profiles, tokens)
        if left_out:
            source, units, split_N = source.with_answers(fits_N), units.with_rows(fits_N), split_N[fits_N]
            _check_splits(config, split_N)

    boxed = abstract_variables(decoder, experts if sees_profile else 0)  # the base does not depend on the width
    base_shardings = tree_shardings(boxed["params"], mesh)
    base = load_params(files, shape, nn.meta.unbox(boxed["params"]), base_shardings, decoder.n_frozen)

    identity, table = fingerprint(files), None
    if sees_profile:
        encoder = None
        if config.profile.granularity != "categorical":
            backbone = Backbone(
                shape, base, tokenizer, identity, config.model.source, decoder.dtype, quantize=config.model.quantize
            )
            encoder = load_encoder(config.profile, cache, backbone)
        lookup, seed = config.router.inputs == "lookup", config.train.seed
        table = build_profile_table(profiles, train_P, config.profile, encoder, cache, seed, progress, lookup)

    widths = () if table is None else table.embedder.widths
    boxed = abstract_variables(decoder, 0 if table is None else table.width)["adapters"]
    vectors_PM = None if table is None else put_whole(table.vectors_PM, mesh)
    training: Layout | ConversationLayout | PairLayout | PromptLayout
    prediction: Layout | None = None
    grpo = config.objective.name == "grpo"
    if isinstance(tokens, ConversationTokens):
        assert isinstance(source, Preferences)
        training = ConversationLayout(config, source, profiles, tokens, plain_tables(config, vectors_PM))
        if grpo:
            training = PromptLayout(config, source, profiles, tokens, training.tables, {})
    elif isinstance(tokens, PairTokens):
        training = PairLayout(config, source, profiles, tokens, plain_tables(config, vectors_PM), {})
    else:
        assert isinstance(source, Survey)
        layouts = {
            name: survey_layout(
                config, name, pieces, source, profiles, vectors_PM, decoder, base, base_shardings, mesh, left_out
            )
            for name, pieces in tokens.items()
        }  # fmt: skip
        prediction = layouts["choice"]
        training = layouts["choice" if grpo else config.objective.name]
        if grpo:
            tables = plain_tables(config, vectors_PM)
            training = PromptLayout(config, source, profiles, tokens["choice"], tables, left_out)
        if config.objective.name == "dpo":
            training = survey_pair_layout(layouts["dpo"])
    return Assembly(
        config=config,
        mesh=mesh,
        source=source,
        units=units,
        profiles=profiles,
        split_N=split_N,
        tokenizer=tokenizer,
        files=files,
        fingerprint=identity,
        decoder=decoder,
        train_decoder=make_decoder(config, shape, not has_dropout(config), experts, widths),
        base=base,
        base_shardings=base_shardings,
        adapter_shapes=nn.meta.unbox(boxed),
        adapter_shardings=tree_shardings(boxed, mesh),
        table=table,
        training=training,
        prediction=prediction,
    )


def has_dropout(config: Config) -> bool:
    """Whether training draws masks."""
    profile = config.profile
    return max(config.adapter.dropout, config.router.dropout, profile.dropout, profile.field_dropout) > 0
