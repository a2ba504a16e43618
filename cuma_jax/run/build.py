"""Puts a run together from its config, in one order, for every command.

survey -> profiles and splits -> tokenizer and rows -> mesh and frozen base -> profile table -> question table.
"""

import flax.linen as nn
import numpy as np

from cuma_jax.config import Config
from cuma_jax.config.checks import SPLITS
from cuma_jax.data.conversations import ConversationTokens
from cuma_jax.data.load import load_source, source_units
from cuma_jax.data.pairs import PairTokens
from cuma_jax.data.tokenise import fitting_answers, tokenise
from cuma_jax.hub.model_files import resolve
from cuma_jax.models.attention import check_attention
from cuma_jax.models.families import decoder_config
from cuma_jax.models.weights import fingerprint, load_params
from cuma_jax.objectives.grpo.prompt_layout import PromptLayout
from cuma_jax.preferences.preferences import Preferences
from cuma_jax.profile_encoders.encoder_sources import Backbone, load_encoder
from cuma_jax.profile_encoders.profile_table import build_profile_table
from cuma_jax.run.decoders import abstract_variables, check_mesh, has_dropout, make_decoder
from cuma_jax.run.layouts import (
    ConversationLayout,
    Layout,
    PairLayout,
    plain_tables,
    survey_layout,
    survey_pair_layout,
)
from cuma_jax.run.requirements import check_needs, lookup_experts
from cuma_jax.run.run import Run
from cuma_jax.runtime.errors import CumaError
from cuma_jax.runtime.files import cache_dir
from cuma_jax.runtime.sharding import make_mesh, put_whole, tree_shardings
from cuma_jax.surveys.profiles import build_profiles
from cuma_jax.surveys.splits import split_rows
from cuma_jax.surveys.survey import Survey
from cuma_jax.tokenization.tokenizer import load_tokenizer


def _check_splits(config: Config, split_N: np.ndarray) -> None:
    """Before any training: a split that could not be scored after it."""
    there = [name for i, name in enumerate(SPLITS) if np.any(split_N == i)]
    for split in config.evaluation.splits:
        if split not in there:
            raise CumaError(
                f"config field evaluation.splits asks for {split!r}, which has no rows here; the data have "
                f"{', '.join(there)}. Raise its share in data.*, or change evaluation.splits"
            )


def build_run(config: Config, progress: bool = True, trains: bool = True) -> Run:
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
    return Run(
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
