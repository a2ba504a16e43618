"""A run put together from its bundle, and its adapters."""

import dataclasses
import pathlib
from typing import Any

import numpy as np

from cuma_jax.config import Config, DataConfig
from cuma_jax.data.load import KeptData, RunData
from cuma_jax.run import saved_adapters
from cuma_jax.run.build import build_run
from cuma_jax.run.run import Run
from cuma_jax.runtime.errors import CumaError
from cuma_jax.runtime.jax_setup import prepare_jax
from cuma_jax.serving.bundle.adapters import load_adapters
from cuma_jax.serving.bundle.contents import Contents, train_profiles
from cuma_jax.serving.bundle.files import has_adapters
from cuma_jax.serving.bundle.people import survey_of
from cuma_jax.surveys.derived import derived_fields
from cuma_jax.surveys.profiles import build_profiles
from cuma_jax.surveys.units import survey_units

LONGEST = DataConfig().buckets
"""Lengths that a new question may come to, besides those of training."""


def open_run(contents: Contents) -> Run:
    """The run, without rows to train on or to score; see `build_run` for what a `CumaError` may say."""
    config = _longer(contents.config)
    prepare_jax(config.run.cache_dir)
    return build_run(config, progress=False, trains=False, data=data_of(contents))


def read_adapters(run: Run, folder: pathlib.Path, checkpoint: str) -> Any:
    """The adapters of a run's folder or an export, on the devices.

    Raises:
        CumaError: there are none, or they belong to another base.
    """
    if has_adapters(folder):
        return load_adapters(run, folder)
    step, _ = saved_adapters.find_step(folder, checkpoint)
    return saved_adapters.read_adapters(folder, step, run.abstract_adapters, run.fingerprint).adapters


def data_of(contents: Contents) -> RunData:
    """A bundle in the place of a run's data: its kinds of people, who have answered nothing."""
    config, facts = contents.config, contents.facts
    survey = survey_of(contents.people, contents.questions, facts)
    # Derived fields are columns already.
    profiles = build_profiles(survey, tuple(facts["told"]), config.profile.sentence)
    derived = tuple(field for field in derived_fields(config.profile.derived) if field in profiles.fields)
    profiles = dataclasses.replace(profiles, derived=(*derived, *profiles.derived))
    train_P = train_profiles(contents.people, profiles.profile_R, len(profiles))
    table = contents.table()
    if table is not None and not np.array_equal(table.codes_PF, profiles.codes_PF):
        raise CumaError("the bundle's profile vectors are not those of its people; write the bundle again")
    none = np.zeros(0, np.int8)
    return RunData(survey, survey_units(survey), profiles, none, train_P, KeptData(table))


def _longer(config: Config) -> Config:
    """The config with room for questions longer than those of training."""
    own = config.data.buckets
    buckets = (*own, *(length for length in LONGEST if length > own[-1]))
    data = dataclasses.replace(config.data, buckets=buckets, max_length=max(config.data.max_length, LONGEST[-1]))
    return dataclasses.replace(config, data=data)
