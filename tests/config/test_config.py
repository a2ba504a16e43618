"""Config: every value is checked, errors name field, value and what is allowed, and JSON keeps all of it."""

import ast
import dataclasses
import itertools
import json
import math
import re
import typing

import pytest
from conftest import ROOT, changed

from cuma_jax.config import Config, from_dict, to_dict
from cuma_jax.config.checks import RULES
from cuma_jax.config.fields import Line, Name, Place, Range, declared
from cuma_jax.config.presets import load_runs, presets
from cuma_jax.config.schema import ANY, RETIRED, Chain
from cuma_jax.runtime.errors import CumaError

# One value of each type and range: section, field, a value it may not have, what the message says it must be.
BAD = [
    ("model", "dtype", "float16", "one of auto, float32, bfloat16"),
    ("profile", "derived", ("planet",), "a list of region, language"),
    ("adapter", "targets", "q", "a list of str"),
    ("adapter", "rank", 2.5, "of type int"),
    ("adapter", "rank", True, "of type int"),
    ("optimizer", "learning_rate", "fast", "a number"),
    ("optimizer", "learning_rate", 0.0, "at least 1e-12 and at most 100"),
    ("adapter", "layers", -1, "at least 0 and at most 4096"),
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
    (
        {"data": {"source": "prism", "task": "conversations", "questions": ("a",)}, "objective": {"name": "sft"}},
        "config field data.questions is ('a',); it must be empty, because data.source prism is read as conversations",
    ),
    ({"data": {"questions_per_batch": 17}}, "is 17; it must be at most train.batch_size, which is 16"),
    ({"adapter": {"targets": ()}}, "adapter.targets is (); it must be at least one of q, k"),
    ({"adapter": {"targets": ("q", "query")}}, "adapter.targets is 'query'; it must be one of q, k"),
    ({"adapter": {"targets": ("q", "q")}}, "adapter.targets is ('q', 'q'); it must be no repeats"),
    (LOOKUP | {"adapter": {"experts": 3}}, "adapter.experts is 3; it must be 0 (as many as"),
    (LOOKUP | {"profile": {"fields": ("age", "sex")}}, "router.inputs is 'lookup'; it must be used with profile.gran"),
    (LOOKUP | {"profile": LOOKUP["profile"] | {"context": "gapminder"}}, "must be empty, because router.inputs is"),
    (LOOKUP | {"profile": LOOKUP["profile"] | {"projection_layers": 1}}, "is 1; it must be 0, because router.inputs"),
    ({"router": {"inputs": "none"}}, "an input other than none, because adapter.experts is 8"),
    ({"adapter": {"experts": 1}, "router": {"top_k": 1}}, "at least 2, because router.inputs is 'hidden+profile'"),
    ({"router": {"top_k": 9}}, "router.top_k is 9; it must be at most adapter.experts, which is 8"),
    ({"adapter": {"kind": "dora"}}, "router.inputs is 'hidden+profile'; it must be none, because adapter.kind is dora"),
    ({"model": {"attention": "cudnn", "dtype": "float32"}}, "model.attention is 'cudnn'; it must be auto or xla"),
    (ONE | {"adapter": {"experts": 1, "kind": "full"}, "model": {"quantize": "int8"}}, "it must be none, because adap"),
    ({"profile": {"shots": 2}}, "profile.shots is 2; it must be 0 unless profile.in_prompt is set"),
    ({"train": {"micro_batches": 3}}, "train.batch_size is 16; it must be a multiple of train.micro_batches, which"),
    ({"train": {"steps": 0}}, "train.steps is 0; it must be a positive number, or train.epochs > 0"),
    ({"evaluation": {"splits": ()}}, "evaluation.splits is (); it must be at least one of train, validation"),
    ({"evaluation": {"splits": ("test", "test")}}, "splits is ('test', 'test'); it must be no repeats"),
    ({"evaluation": {"splits": ("tset",)}}, "evaluation.splits is 'tset'; it must be one of train, validation"),
    (
        {"data": {"source": "prism"}, "evaluation": {"hold": "pooled"}},
        "config field evaluation.hold is 'pooled'; it must be none, because data.source prism is of conversations",
    ),
    ({"evaluation": {"hold": "pooled", "splits": ("test", "validation")}}, "without validation, because evaluation.ho"),
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
    (
        {"objective": {"name": "sft", "aggregate": "respondent", "start": "pooled"}},
        "config field objective.start is 'pooled'; it must be base, because objective.name is sft",
    ),
    ({"objective": {"start": "pooled"}, "data": {"source": "prism"}}, "base, because the prompts of prism were"),
    ({"objective": {"start_dropout": 0.1}}, "start_dropout is 0.1; it must be 0, because objective.start is base"),
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
    assert len(BROKEN) == len(RULES)
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


RANGES = [
    ("adapter", "rank", 10**9, "at least 1 and at most 16384"),
    ("train", "epochs", math.inf, "at least 0 and at most 1000000"),
    ("train", "seed", -1, "at least 0 and at most 4294967295"),
    ("train", "seed", 2**32, "at least 0 and at most 4294967295"),
    ("evaluation", "bootstrap", 1, "at least 2 and at most 100000"),
    ("evaluation", "bootstrap", 10**9, "at least 2 and at most 100000"),
    ("data", "question_power", 1e300, "at least 0 and at most 10"),
    ("data", "buckets", (64, 2**30), "at least 1 and at most 1048576"),
    ("optimizer", "clip", math.inf, "0, or at least 1e-06 and at most 1000000"),
    ("sampling", "temperature", 1e-30, "0, or at least 0.001 and at most 1000"),
    ("sampling", "top_p", 0.0, "above 0 and at most 1"),
    ("reward", "survey", math.nan, "at least 0 and at most 1000"),
]
PLACES = {
    "~nobody-of-that-name/x": "it must be a path; this machine has no home of ~nobody-of-that-name",
    "x/" + "y" * 256: "it must be a path of names of at most 255 bytes each",
    "é/" * 1400: "it must be a path of at most 4000 bytes",
    "a\nb": "it must be one line of text, without control characters or broken bytes (here U+000A)",
    "a\0b": "broken bytes (here U+0000)",
    "\udc80": "broken bytes (here U+DC80)",
}


def test_every_number_has_a_range_and_every_text_a_kind():
    for section in (Config(), *(value for value in vars(Config()).values() if dataclasses.is_dataclass(value))):
        for name, (hint, kind) in declared(type(section)).items():
            inner = [hint, *typing.get_args(hint)]
            wanted = Range if {int, float} & set(inner) else Line | Name | Place if str in inner else type(None)
            assert isinstance(kind, wanted), f"{type(section).__name__}.{name}: no range or kind is declared"


@pytest.mark.parametrize(("section", "field", "value", "allowed"), RANGES)
def test_a_number_out_of_its_range_is_refused_with_the_limit(section, field, value, allowed):
    with pytest.raises(CumaError, match=re.escape(f"config field {section}.{field} is ")) as caught:
        changed(Config(), **{section: {field: value}})
    assert str(caught.value).endswith(f"; it must be {allowed}")
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 10**400, -(10**5000)], ids=range(5))
def test_no_number_may_be_endless(value):
    for section in (value for value in vars(Config()).values() if dataclasses.is_dataclass(value)):
        for name, (hint, kind) in declared(type(section)).items():
            if isinstance(kind, Range):
                with pytest.raises(CumaError, match=f"{name} is"):
                    changed(Config(), **{_section(section): {name: (value,) if "tuple" in str(hint) else value}})


def _section(section):
    return next(name for name, value in vars(Config()).items() if value == section)


@pytest.mark.parametrize(("value", "message"), PLACES.items(), ids=range(len(PLACES)))
def test_a_path_that_no_disk_can_have_is_refused(value, message):
    for section, field in (("run", "dir"), ("data", "path"), ("adapter", "init_from"), ("model", "source")):
        with pytest.raises(CumaError, match=f"config field {section}.{field} is .*{re.escape(message)}"):
            changed(Config(), **{section: {field: value}})


@pytest.mark.parametrize("value", ["sk-abc\n", "sk-abc" * 1000, ["sk-abc"], "sk-abc\0"])
@pytest.mark.parametrize("field", ["key_env", "url"])
def test_what_may_be_a_key_is_not_shown(field, value):
    with pytest.raises(CumaError, match=rf"config field judge\.{field} ") as caught:
        changed(Config(), judge={"model": "m", field: value})
    assert "sk-abc" not in str(caught.value)


@pytest.mark.parametrize("name", ["", " ", "../../x", "/x", "a/../b", "..", "a//b", "~/x", "a\\b", "a\nb", "x" * 256])
def test_a_run_has_the_name_of_a_folder_in_runs(name):
    with pytest.raises(CumaError, match="config field name is"):
        Config(name=name)
    assert Config(name="lora, seed 0 / zu\u0308rich").name == "lora, seed 0 / zu\u0308rich"


def test_every_field_has_a_help_text():
    for section in (value for value in vars(Config()).values() if dataclasses.is_dataclass(value)):
        tree = ast.parse((ROOT / (type(section).__module__.replace(".", "/") + ".py")).read_text())
        (body,) = [node.body for node in tree.body if getattr(node, "name", "") == type(section).__name__]
        for field, text in itertools.pairwise([*body, None]):
            if isinstance(field, ast.AnnAssign):
                assert isinstance(text, ast.Expr), f"{type(section).__name__}.{ast.unparse(field.target)}: no help text"
