"""Config: every value is checked, errors name field, value and what is allowed, and JSON keeps all of it."""

import ast
import dataclasses
import itertools
import json
import re

import pytest
from conftest import ROOT, changed

from cuma_jax.config import Config, from_dict, to_dict
from cuma_jax.config.chain import Chain
from cuma_jax.config.checks import RULES
from cuma_jax.config.presets import load_runs, presets
from cuma_jax.config.schema import ANY, RETIRED
from cuma_jax.runtime.errors import CumaError

# One value of each type and range: section, field, a value it may not have, what the message says it must be.
BAD = [
    ("model", "dtype", "float16", "one of auto, float32, bfloat16"),
    ("profile", "derived", ("planet",), "a list of region, language"),
    ("adapter", "targets", "q", "a list of str"),
    ("adapter", "rank", 2.5, "of type int"),
    ("adapter", "rank", True, "of type int"),
    ("optimizer", "learning_rate", "fast", "a number"),
    ("optimizer", "learning_rate", 0.0, "positive"),
    ("adapter", "layers", -1, "zero or more"),
    ("data", "unseen_respondents", 1.0, "at least 0 and below 1"),
]
LOOKUP = {
    "adapter": {"experts": 0},
    "router": {"inputs": "lookup", "top_k": 1},
    "profile": {"granularity": "categorical", "fields": ("country",)},
}
ONE = {"adapter": {"experts": 1}, "router": {"inputs": "none", "top_k": 1}}
DPO = {"objective": {"name": "dpo", "aggregate": "respondent"}}
# What breaks each rule, in the rules' order: the sections that do, and the message.
BROKEN = [
    ({"data": {"buckets": ()}}, "data.buckets is (); it must be at least one length"),
    ({"data": {"buckets": (64, 32)}}, "data.buckets is (64, 32); it must be increasing positive lengths"),
    ({"data": {"order": "epochs", "questions_per_batch": 4}}, "is 4; it must be 0, because data.order is epochs"),
    ({"data": {"questions_per_batch": 17}}, "is 17; it must be at most train.batch_size, which is 16"),
    ({"adapter": {"targets": ()}}, "adapter.targets is (); it must be at least one of q, k"),
    ({"adapter": {"targets": ("q", "query")}}, "adapter.targets is 'query'; it must be one of q, k"),
    ({"adapter": {"targets": ("q", "q")}}, "adapter.targets is ('q', 'q'); it must be no repeats"),
    (LOOKUP | {"adapter": {"experts": 3}}, "adapter.experts is 3; it must be 0 (as many as"),
    (LOOKUP | {"profile": {"fields": ("age", "sex")}}, "router.inputs is 'lookup'; it must be used with profile.gran"),
    (LOOKUP | {"profile": LOOKUP["profile"] | {"projection_layers": 1}}, "is 1; it must be 0, because router.inputs"),
    ({"router": {"inputs": "none"}}, "an input other than none, because adapter.experts is 8"),
    ({"adapter": {"experts": 1}, "router": {"top_k": 1}}, "at least 2, because router.inputs is 'hidden+profile'"),
    ({"router": {"top_k": 9}}, "router.top_k is 9; it must be at most adapter.experts, which is 8"),
    ({"adapter": {"kind": "dora"}}, "router.inputs is 'hidden+profile'; it must be none, because adapter.kind is dora"),
    ({"model": {"attention": "cudnn", "dtype": "float32"}}, "model.attention is 'cudnn'; it must be auto or xla"),
    (ONE | {"adapter": {"experts": 1, "kind": "full"}, "model": {"quantize": "int8"}}, "it must be none, because adap"),
    ({"profile": {"projection_layers": 3}}, "profile.projection_layers is 3; it must be 0, 1 or 2"),
    ({"profile": {"shots": 2}}, "profile.shots is 2; it must be 0 unless profile.in_prompt is set"),
    ({"train": {"micro_batches": 3}}, "train.batch_size is 16; it must be a multiple of train.micro_batches, which"),
    ({"train": {"steps": 0}}, "train.steps is 0; it must be a positive number, or train.epochs > 0"),
    ({"evaluation": {"splits": ("tset",)}}, "evaluation.splits is 'tset'; it must be one of train, validation"),
    ({"sampling": {"top_p": 0.0}}, "sampling.top_p is 0.0; it must be above 0 and at most 1"),
    ({"dpo": {"label_smoothing": 0.1, "loss": "ipo"}}, "dpo.label_smoothing is 0.1; it must be 0, because dpo.loss"),
    ({"dpo": {"label_smoothing": 0.5}}, "dpo.label_smoothing is 0.5; it must be below 0.5"),
    ({"judge": {"url": "http://localhost:8000/v1"}}, "judge.model is ''; it must be the name of a model at judge.url"),
    ({"reward": {"judge": 0.5}}, "judge.url is ''; it must be the address of a judge, because reward.judge is 0.5"),
]
OBJECTIVES = [
    ({"data": {"task": "conversations"}}, "data.task is 'conversations'; it must be choice or auto"),
    ({"data": {"packing": True}}, "data.packing is True; it must be False: only whole conversations"),
    (DPO | {"data": {"packing": True}}, "data.packing is True; it must be False: only whole conversations"),
    (DPO | ONE | {"adapter": {"kind": "none", "experts": 1}}, "a kind that is trained, because objective.name is dpo"),
    ({"objective": {"name": "sft"}}, "objective.aggregate is 'cell'; it must be respondent"),
    ({"objective": {"name": "sft", "aggregate": "respondent", "loss": "emd"}}, "because objective.name is"),
]


@pytest.mark.parametrize(("section", "field", "value", "allowed"), BAD)
def test_a_value_of_another_type_or_range_is_refused(section, field, value, allowed):
    with pytest.raises(CumaError) as caught:
        changed(Config(), **{section: {field: value}})
    assert str(caught.value) == f"config field {section}.{field} is {value!r}; it must be {allowed}"


@pytest.mark.parametrize(("sections", "message"), [*BROKEN, *OBJECTIVES])
def test_fields_that_do_not_go_together_are_refused(sections, message):
    with pytest.raises(CumaError, match=re.escape(message)) as caught:
        changed(Config(), **sections)
    assert "\n" not in str(caught.value)


def test_every_rule_is_broken_by_a_case():
    with pytest.raises(CumaError, match="config field name is ''; it must be a name that is not empty"):
        Config(name="")
    assert len(BROKEN) == len(RULES) - 1
    for sections in (LOOKUP, ONE):  # what the cases start from holds
        changed(Config(), **sections)


def test_every_preset_loads_and_survives_json():
    assert {"quickstart", "debug"} <= set(presets())
    for name in presets():
        preset = load_runs(name)
        assert preset.name == name
        for config in preset.stages if isinstance(preset, Chain) else (preset,):
            assert from_dict(json.loads(json.dumps(to_dict(config)))) == config


def test_json_is_read_strictly():
    with pytest.raises(CumaError, match=r"adapter\.ranks is unknown; known here: alpha"):
        from_dict({"adapter": {"ranks": 4}})
    with pytest.raises(CumaError, match="config section adapter is 3"):
        from_dict({"adapter": 3})
    with pytest.raises(CumaError, match="config section top level"):
        from_dict([])  # type: ignore[arg-type]


@pytest.mark.parametrize("name", RETIRED)
def test_a_config_of_an_earlier_version_is_read_unless_it_asks_for_what_is_no_more(name):
    section, field = name.split(".")
    values = to_dict(Config())
    values[section][field] = 1.0
    assert from_dict(values) == Config()
    values[section][field] = 0.5
    if RETIRED[name] is ANY:
        assert from_dict(values) == Config()
    else:
        with pytest.raises(CumaError, match=rf"{name} is retired: 0.5 is no more .* 1.0. Take the field out"):
            from_dict(values)


def test_every_field_has_a_help_text():
    for section in (value for value in vars(Config()).values() if dataclasses.is_dataclass(value)):
        tree = ast.parse((ROOT / (type(section).__module__.replace(".", "/") + ".py")).read_text())
        (body,) = [node.body for node in tree.body if getattr(node, "name", "") == type(section).__name__]
        for field, text in itertools.pairwise([*body, None]):
            if isinstance(field, ast.AnnAssign):
                assert isinstance(text, ast.Expr), f"{type(section).__name__}.{ast.unparse(field.target)}: no help text"
