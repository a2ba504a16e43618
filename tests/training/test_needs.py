"""What a method needs of the data is found before weights are read; a lookup has as many experts as values."""

import dataclasses

import jax
import numpy as np
import pytest
from conftest import changed

from cuma_jax.errors import CumaError
from cuma_jax.methods import apply_method
from cuma_jax.surveys.invented import make_invented
from cuma_jax.training import assembly as assembly_module
from cuma_jax.training.needs import check_needs


@pytest.fixture
def no_weights(monkeypatch):
    def fail(*args, **kwargs):
        raise AssertionError("the weights were read")

    monkeypatch.setattr(assembly_module, "load_params", fail)


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


def test_a_source_without_fields_is_found_before_the_weights(debug_config, assemble_on, no_weights, monkeypatch):
    monkeypatch.setattr(assembly_module, "load_source", lambda *_: without("country", "sex", "age"))
    with pytest.raises(CumaError, match="no profile fields"):
        assemble_on(changed(apply_method(debug_config, "persona"), data={"unseen_countries": 0.0}))


def test_a_lookup_needs_its_field_and_two_values(debug_config, assemble_on, no_weights, monkeypatch):
    config = apply_method(debug_config, "per_country")
    with monkeypatch.context() as patch:
        patch.setattr(assembly_module, "load_source", lambda *_: without("country"))
        with pytest.raises(CumaError, match=r"method per_country .*'invented' has no such field \(it has: sex, age\)"):
            assemble_on(config)
    others = tuple(make_invented().respondents["country"].cat.categories[1:])
    with pytest.raises(CumaError, match=r"method per_country .*training has only 'Ardenia'; it needs at least two"):
        assemble_on(changed(config, data={"held_out_countries": others, "validation_respondents": 0.3}))


def test_a_lookup_has_an_expert_for_each_country_of_training(debug_config, assemble_on):
    assembly = assemble_on(apply_method(debug_config, "per_country"))
    country_P = [assembly.profiles.values(p)["country"] for p in range(len(assembly.profiles))]
    train = sorted(
        {country_P[p] for p in assembly.profiles.profile_R[assembly.survey.respondent_A[assembly.mask("train")]]}
    )
    assert len(train) == 7
    assert assembly.config.adapter.experts == 0  # as it was asked for, and as it is saved
    assert assembly.decoder.adapter.experts == assembly.train_decoder.adapter.experts == 7
    assert all(7 in leaf.shape for leaf in jax.tree.leaves(assembly.adapter_shapes))
    for p, country in enumerate(country_P):
        want = [float(country == name) for name in train] if country in train else [1 / 7] * 7
        np.testing.assert_allclose(assembly.table.vectors_PM[p], want, rtol=1e-6)


def test_categorical_reads_no_encoder(debug_config, assemble_on, monkeypatch):
    def fail(*args, **kwargs):
        raise AssertionError("the encoder was loaded")

    monkeypatch.setattr(assembly_module, "load_encoder", fail)
    assembly = assemble_on(apply_method(debug_config, "categorical"))
    assert assembly.table.width == 7 + 2 + 3
