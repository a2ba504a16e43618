"""What a method needs of the data is found before weights are read; a lookup has as many experts as values."""

import dataclasses

import jax
import numpy as np
import pytest
from conftest import changed

from cuma_jax.config.checks import SPLITS
from cuma_jax.config.methods import apply_method
from cuma_jax.data import load as load_module
from cuma_jax.data.load import check_needs
from cuma_jax.run import build as build_module
from cuma_jax.run.build import build_run
from cuma_jax.runtime.errors import CumaError
from cuma_jax.surveys.sources.invented import make_invented
from cuma_jax.surveys.splits import split_table

ONE = jax.devices()[:1]


@pytest.fixture
def no_weights(monkeypatch):
    def fail(*args, **kwargs):
        raise AssertionError("the weights were read")

    monkeypatch.setattr(build_module, "load_params", fail)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (("planet",), "evaluation.group_by names 'planet', which 'invented' does not have; it has country, sex"),
        ((), "evaluation.group_by is empty"),
    ],
)
def test_a_field_to_group_by_is_looked_for_before_weights_are_read(debug_config, no_weights, fields, message):
    config = changed(debug_config, evaluation={"group_by": fields})
    with pytest.raises(CumaError, match=message):
        build_run(config, progress=False, devices=ONE)
    for saved in (config, changed(config, evaluation={"after_training": False})):  # what is not scored may be used
        with pytest.raises(AssertionError, match="the weights were read"):
            build_run(saved, progress=False, devices=ONE, trains=saved is not config)


def without(*fields):
    survey = make_invented()
    kept = tuple(f for f in survey.profile_fields if f not in fields)
    return dataclasses.replace(
        survey, profile_fields=kept, respondents=survey.respondents.drop(columns=list(fields))
    )  # fmt: skip


@pytest.mark.parametrize("method", ["persona", "persona_few_shot", "lora_persona", "mixlora_persona", "cuma_persona"])
def test_persona_methods_need_somebody(debug_config, method):
    config = apply_method(debug_config, method)
    check_needs(config, without("country", "sex"))
    with pytest.raises(CumaError, match=r"persona methods \(profile.in_prompt\).*'invented' has no profile fields"):
        check_needs(config, without("country", "sex", "age"))
    check_needs(apply_method(debug_config, "mixlora"), without("country", "sex", "age"))


def test_a_source_without_fields_is_found_before_the_weights(debug_config, no_weights, monkeypatch):
    monkeypatch.setattr(load_module, "load_source", lambda *_: without("country", "sex", "age"))
    with pytest.raises(CumaError, match="no profile fields"):
        build_run(changed(apply_method(debug_config, "persona"), data={"unseen_countries": 0.0}), devices=ONE)


def test_a_lookup_needs_its_field_and_two_values(debug_config, no_weights, monkeypatch):
    config = apply_method(debug_config, "per_country")
    with monkeypatch.context() as patch:
        patch.setattr(load_module, "load_source", lambda *_: without("country"))
        with pytest.raises(CumaError, match=r"method per_country .*'invented' has no such field \(it has: sex, age\)"):
            build_run(config, devices=ONE)
    others = tuple(make_invented().respondents["country"].cat.categories[1:])
    with pytest.raises(CumaError, match=r"method per_country .*training has only 'Ardenia'; it needs at least two"):
        build_run(changed(config, data={"held_out_countries": others, "validation_respondents": 0.3}), devices=ONE)


def test_a_lookup_has_an_expert_for_each_country_of_training(debug_config, run_on):
    run = run_on(apply_method(debug_config, "per_country"))
    country_P = [run.profiles.values(p)["country"] for p in range(len(run.profiles))]
    train = sorted({country_P[p] for p in run.profiles.profile_R[run.survey.respondent_A[run.mask("train")]]})
    assert len(train) == 7
    assert run.config.adapter.experts == 0  # as it was asked for, and as it is saved
    assert run.decoder.adapter.experts == run.train_decoder.adapter.experts == 7
    assert all(7 in leaf.shape for leaf in jax.tree.leaves(run.adapter_shapes))
    for p, country in enumerate(country_P):
        want = [float(country == name) for name in train] if country in train else [1 / 7] * 7
        np.testing.assert_allclose(run.table.vectors_PM[p], want, rtol=1e-6)


def test_categorical_reads_no_encoder(debug_config, run_on, monkeypatch):
    def fail(*args, **kwargs):
        raise AssertionError("the encoder was loaded")

    monkeypatch.setattr(build_module, "load_encoder", fail)
    run = run_on(apply_method(debug_config, "categorical"))
    assert run.table.width == 7 + 2 + 3


def test_the_split_that_is_saved_is_the_one_that_was_made_before_rows_were_left_out(debug_config, monkeypatch):
    survey = make_invented()
    country_A = survey.respondents["country"].to_numpy()[survey.respondent_A]
    # What is left has so much of Hestia, which is held out, that a new split would hold out another country.
    fits_A = (country_A == "Hestia") | (survey.question_A == 0)
    monkeypatch.setattr(build_module, "fitting_answers", lambda *_: (fits_A, {"too long": int((~fits_A).sum())}))
    run = build_run(debug_config, progress=False, devices=ONE)
    held = run.split_table.query("split == 'unseen_country'")["id"].tolist()
    assert held == ["Hestia"] != split_table(run.units, debug_config.data).query("kind == 'country'")["id"].tolist()
    unseen_A = run.split_N == SPLITS.index("unseen_country")
    np.testing.assert_array_equal(unseen_A, country_A[fits_A] == "Hestia")
