"""What a comparison's preset may say."""

import dataclasses

import pytest

from cuma_jax.config import load_config
from cuma_jax.config.comparison import Comparison, Variant, by_method, changes, variant
from cuma_jax.config.methods import METHODS, apply_method
from cuma_jax.config.presets import comparisons, load_comparison, load_preset, presets
from cuma_jax.runtime.errors import CumaError

BASE = load_config("debug")


def made(*variants, **more):
    return Comparison(name="x", base=BASE, variants=variants or by_method("cuma"), **more)


def test_a_trial_is_base_then_method_then_overrides_then_seed():
    v = variant("short", "lora", title="Short", train={"steps": 3}, adapter={"rank": 2})
    config = made(*by_method("cuma"), v, dir="d").config(v, 7)
    assert config.train.steps == 3
    assert config.train.seed == 7
    assert config.adapter == dataclasses.replace(apply_method(BASE, "lora").adapter, rank=2)
    assert config.run.dir == "d/short/seed7"
    assert config.data == BASE.data
    assert config.evaluation == BASE.evaluation
    assert changes(BASE, config)["train.steps"] == (BASE.train.steps, 3)
    assert "train.seed" not in changes(BASE, config)


def test_a_title_may_change_without_making_it_another_run():
    one, other = variant("a", "lora", title="A"), variant("a", "lora", title="B", note="new")
    assert made(one, reference="a").config(one, 0) == made(other, reference="a").config(other, 0)


def test_first_seeds_come_first():
    c = made(*by_method("cuma", "lora", seeds=2), variant("base", seeds=(5,)))
    names = [f"{v.name}{s}" for v, s in c.trials()]
    assert names == ["cuma0", "lora0", "base5", "cuma1", "lora1"]
    assert [f"{v.name}{s}" for v, s in c.trials(("lora", "base"), (1, 5))] == ["base5", "lora1"]


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: made(*by_method("lora")), "reference 'cuma' must be one of its variants: lora"),
        (lambda: made(*by_method("cuma", "cuma")), "different names; twice there: cuma"),
        (lambda: made(variant("a/b", "cuma"), reference="a/b"), "names a folder"),
        (lambda: made(variant("cuma", "cma")), "variant cuma: method 'cma' is unknown"),
        (lambda: made(variant("cuma", trains={"steps": 1})), "variant cuma: section 'trains' is unknown"),
        (lambda: made(variant("cuma", train={"step": 1})), r"variant cuma: train\.step is unknown; known there: batch"),
        (lambda: made(variant("cuma", train={"steps": -1})), r"variant cuma: config field train\.steps"),
        (lambda: made(Variant("cuma", seeds=0)), "seeds is 0"),
        (lambda: made(Variant("cuma", seeds=(1, 1))), "different seeds"),
        (lambda: made(splits=("probe",)), "splits names probe"),
        (lambda: list(made().trials(("lora",))), "has no variant 'lora'; it has cuma"),
        (lambda: list(made().trials((), (9,))), "has no seed 9"),
        (lambda: load_comparison(""), "--config is required"),
        (lambda: load_comparison("debug"), "returns a Comparison; presets are compare_debug"),
        (lambda: load_config("compare_debug"), "python -m cuma_jax.compare --config compare_debug"),
    ],
)
def test_a_mistake_is_one_message_that_names_the_variant(build, message):
    with pytest.raises(CumaError, match=message):
        build()


def test_the_presets_load_and_cover_every_method():
    assert {"compare_debug", "compare_open_values"} <= set(comparisons())
    assert not set(comparisons()) & set(presets())
    for name in comparisons():
        assert load_preset(name).name == name
    assert {v.method for v in load_preset("compare_debug").variants} == set(METHODS)
