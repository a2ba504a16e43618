"""Puts a run together from its config, in one order, for every command.

survey -> profiles and splits -> tokenizer and rows -> mesh and frozen base -> profile table -> question table.
"""

import functools
import pathlib

import flax.linen as nn
import jax
import numpy as np

from cuma_jax.config import Config
from cuma_jax.config.checks import SPLITS
from cuma_jax.data.load import RunData, check_splits, read_data
from cuma_jax.data.tokenise import Conversations, fitting_answers, survey_tokens
from cuma_jax.hub.model_files import resolve
from cuma_jax.models.attention import check_attention
from cuma_jax.models.families import decoder_config
from cuma_jax.models.weights import fingerprint, load_params
from cuma_jax.profile_encoders.encoder_sources import Backbone, load_encoder
from cuma_jax.profile_encoders.profile_embedders import training_values
from cuma_jax.profile_encoders.profile_table import build_profile_table
from cuma_jax.run.decoders import abstract_variables, check_mesh, has_dropout, make_decoder
from cuma_jax.run.folder import CHAT_TEMPLATE, check_contents, check_data_path
from cuma_jax.run.layouts import Layout, NoRows, SurveyLayout, plain_tables, survey_layout
from cuma_jax.run.objective import objective_of
from cuma_jax.run.pooled_start import PooledStart, check_validation, with_pooled_start
from cuma_jax.run.run import Run
from cuma_jax.runtime.errors import CumaError
from cuma_jax.runtime.files import cache_dir
from cuma_jax.runtime.sharding import check_divisible, make_mesh, put_whole, tree_shardings
from cuma_jax.surveys.groups import check_group_fields
from cuma_jax.surveys.profiles import Profiles
from cuma_jax.surveys.survey import Survey
from cuma_jax.tokenization.tokenizer import load_tokenizer


def lookup_experts(config: Config, profiles: Profiles, train_P: np.ndarray) -> int:
    """`adapter.experts`, or for a lookup the number of training values of its field.

    Raises:
        CumaError: there are fewer than two.
    """
    if config.router.inputs != "lookup":
        return config.adapter.experts
    field = profiles.fields[0]
    if field in profiles.numeric:
        raise CumaError(
            f"method per_country (router.inputs lookup) has one expert for each {field}, but {field} is a number; name "
            "another field in profile.fields, or put its numbers into bins"
        )
    values = training_values(profiles, train_P, field)
    if len(values) < 2:
        found = f"only {values[0]!r}" if values else "no value"
        raise CumaError(
            f"method per_country (router.inputs lookup) has one expert for each {field} of training, but training has "
            f"{found}; it needs at least two: hold out fewer (data.unseen_countries), name another field in "
            "profile.fields, or use method lora"
        )
    return len(values)


def build_run(
    config: Config,
    progress: bool = True,
    trains: bool = True,
    devices: list[jax.Device] | None = None,
    folder: pathlib.Path | None = None,
    data: RunData | None = None,
) -> Run:
    """Puts a run together.

    Args:
        progress: report slow steps on stderr.
        trains: whether it will be trained on this mesh.
        devices: of the mesh; None: all.
        folder: of the run, where it may have been trained before: its data must be the same now.
        data: read before; None: read here. With `data.kept` there are no rows to train on or to score.

    Raises:
        CumaError: whatever is wrong with the config, the data, the files or the mesh; nothing is written.
    """
    cache, objective = str(cache_dir(config.run.cache_dir)), objective_of(config)
    files = resolve(config.model.source, config.model.revision, cache)
    shape = decoder_config(files)
    mesh = make_mesh(config.mesh, devices)
    check_mesh(config, mesh, shape, trains)
    if trains:
        check_divisible(mesh, {objective.rows_name: ("batch", objective.rows_per_step(config))})
    decoder = make_decoder(config, shape)  # its settings are checked before the data are read
    check_attention(config.model.attention, decoder.dtype, shape.head_dim)

    if data is None:
        check_data_path(folder, config)
        data = read_data(config, functools.partial(check_contents, folder, config))
    source, units, profiles, split_N, train_P = data.source, data.units, data.profiles, data.split_N, data.train_P
    if trains and config.evaluation.after_training:  # what would stop the scoring after it
        check_group_fields(source, config.evaluation.group_by, some=isinstance(source, Survey))
        if isinstance(source, Survey) and config.evaluation.hold == "pooled":
            check_validation(split_N)
    train_N = split_N == SPLITS.index("train")
    sees_profile = "profile" in config.router.inputs or config.router.inputs == "lookup"
    experts = lookup_experts(config, profiles, train_P)
    decoder = make_decoder(config, shape, experts=experts)

    model = config.model.tokenizer
    token_files = resolve(model, "", cache, weights=False) if model else files
    tokenizer = load_tokenizer(token_files, model=files)
    if tokenizer.vocab_size > shape.vocab:
        raise CumaError(
            f"tokenizer {tokenizer.name} has {tokenizer.vocab_size} tokens but the model {config.model.source} has "
            f"{shape.vocab}; give the tokenizer that belongs to the model (--model.tokenizer)"
        )
    if data.kept is None:
        data.contents[CHAT_TEMPLATE] = [tokenizer.vocab_size, tokenizer.fingerprint]
        check_contents(folder, config, data.contents)
    # Before the weights are read: an option letter that is not one token is found here, and a row that is too long.
    left_out: dict[str, int] = {}
    if data.kept is not None:
        pass
    elif isinstance(source, Survey):
        forms = dict.fromkeys((objective.answer_tokens, "choice"))
        pieces = survey_tokens(config, source, profiles, tokenizer, forms, train_N)
        fits_N, left_out = fitting_answers(config, source, profiles, pieces)
        if left_out:
            source, units, split_N = source.with_answers(fits_N), units.with_rows(fits_N), split_N[fits_N]
            check_splits(config, split_N)
    else:
        conversations = Conversations(config, source, profiles, tokenizer, cache, progress)
        tokens = objective.conversation_tokens(conversations)

    kept = None if data.kept is None else data.kept.table
    # The base does not depend on the width of profile vectors.
    boxed = abstract_variables(decoder, (experts if kept is None else kept.width) if sees_profile else 0)
    base_shardings = tree_shardings(boxed["params"], mesh)
    base = load_params(files, shape, nn.meta.unbox(boxed["params"]), base_shardings, decoder.n_frozen)

    identity, table = fingerprint(files), kept
    if sees_profile and data.kept is None:
        encoder = None
        if config.profile.granularity != "categorical":
            backbone = Backbone(
                shape, base, tokenizer, identity, config.model.source, decoder.dtype, quantize=config.model.quantize
            )
            encoder = load_encoder(config.profile, cache, backbone)
        lookup, seed = config.router.inputs == "lookup", config.train.seed
        people_P = data.people_P if profiles.numeric else None
        table = build_profile_table(profiles, train_P, config.profile, encoder, cache, seed, progress, lookup, people_P)

    widths = () if table is None else table.embedder.widths
    if data.kept is None:
        boxed = abstract_variables(decoder, 0 if table is None else table.width)
    boxed = boxed["adapters"]
    vectors_PM = None if table is None else put_whole(table.vectors_PM, mesh)
    training: Layout
    prediction: SurveyLayout | None = None
    if data.kept is not None:
        training = NoRows(plain_tables(config, vectors_PM))
    elif isinstance(source, Survey):
        layouts = {
            form: survey_layout(
                config, form, of_form, source, profiles, vectors_PM, decoder, base, base_shardings, mesh, left_out,
                objective.pairs_replies,
            )
            for form, of_form in pieces.items()
        }  # fmt: skip
        if config.objective.start == "pooled":
            start = PooledStart(config, decoder, base, base_shardings, mesh, tokenizer)
            layouts["choice"] = with_pooled_start(layouts["choice"], start, split_N == SPLITS.index("train"))
        training, prediction = objective.survey_rows(layouts), layouts["choice"]
    else:
        training = objective.conversation_rows(conversations, tokens, plain_tables(config, vectors_PM))
    return Run(
        config=config,
        objective=objective,
        mesh=mesh,
        source=source,
        units=units,
        profiles=profiles,
        split_N=split_N,
        split_table=data.split_table,
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
        contents=data.contents,
    )
