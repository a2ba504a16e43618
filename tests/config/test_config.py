"""Config: every value is checked, errors name field, value and what is allowed, and JSON keeps all of it."""

import dataclasses
import json
import subprocess
import sys

import pytest
from conftest import ROOT, changed

from cuma_jax.config import Config, from_dict, to_dict
from cuma_jax.config.chain import Chain
from cuma_jax.config.presets import load_runs, presets
from cuma_jax.runtime.errors import CumaError

# section, field, a value it may not have, what the message must say is allowed
BAD = [
    ("model", "dtype", "float16", "float32"),
    ("model", "remat", "some", "dots"),
    ("adapter", "experts", -1, "zero or more"),
    ("adapter", "rank", 0, "positive"),
    ("adapter", "rank", 2.5, "int"),
    ("adapter", "rank", True, "int"),
    ("adapter", "alpha", -1.0, "positive"),
    ("adapter", "targets", (), "at least one of q"),
    ("adapter", "targets", ("query",), "one of q, k, v"),
    ("adapter", "targets", ("q", "q"), "no repeats"),
    ("adapter", "targets", "q", "list of str"),
    ("adapter", "layers", -1, "zero or more"),
    ("adapter", "dropout", 1.0, "below 1"),
    ("router", "top_k", 9, "at most adapter.experts, which is 8"),
    ("router", "top_k", 0, "positive"),
    ("router", "inputs", "none", "other than none"),
    ("router", "gate", "hard", "softmax_topk"),
    ("profile", "projection_layers", 3, "0, 1 or 2"),
    ("profile", "normalise", "pca", "whiten"),
    ("data", "source", "gss", "open_values"),
    ("data", "buckets", (), "at least one"),
    ("data", "buckets", (64, 32), "increasing"),
    ("data", "unseen_respondents", 1.5, "below 1"),
    ("data", "task", "conversations", "choice or auto"),
    ("data", "packing", True, "whole conversations"),
    ("data", "order", "shuffled", "epochs"),
    ("data", "questions_per_batch", -1, "zero or more"),
    ("data", "questions_per_batch", 17, "at most train.batch_size, which is 16"),
    ("data", "validation_countries", 1.0, "below 1"),
    ("objective", "name", "ppo", "choice"),
    ("sampling", "top_p", 0.0, "above 0"),
    ("dpo", "label_smoothing", 0.5, "below 0.5"),
    ("objective", "balance", -0.1, "zero or more"),
    ("optimizer", "learning_rate", 0.0, "positive"),
    ("optimizer", "learning_rate", "fast", "a number"),
    ("optimizer", "warmup", 1.0, "below 1"),
    ("train", "batch_size", 0, "positive"),
    ("train", "micro_batches", 3, "multiple of train.micro_batches"),
    ("train", "steps", 0, "positive number"),
    ("evaluation", "splits", ("tset",), "unseen_respondent"),
    ("mesh", "tensor", 0, "positive"),
    ("mesh", "data", -1, "zero or more"),
    ("run", "resume", "yes", "auto"),
]


@pytest.mark.parametrize(("section", "field", "value", "allowed"), BAD)
def test_a_bad_value_is_refused_naming_field_value_and_what_is_allowed(section, field, value, allowed):
    with pytest.raises(CumaError) as caught:
        changed(Config(), **{section: {field: value}})
    message = str(caught.value)
    shown = "batch_size" if field == "micro_batches" else field
    assert f"{section}.{shown}" in message
    bad = value[-1] if isinstance(value, tuple) and value and field in ("targets", "splits") else value
    if field != "micro_batches":
        assert repr(bad) in message or repr(value) in message
    assert allowed in message
    assert "\n" not in message


def test_epochs_leave_no_questions_to_choose():
    with pytest.raises(CumaError, match=r"data.questions_per_batch is 4; it must be 0, because data.order is epochs"):
        changed(Config(), data={"order": "epochs", "questions_per_batch": 4})


def test_one_expert_has_no_router():
    values = to_dict(changed(Config(), router={"top_k": 1}))
    values["adapter"]["experts"] = 1
    with pytest.raises(CumaError, match=r"one expert needs router\.inputs none"):
        from_dict(values)
    values["router"]["inputs"] = "none"
    assert from_dict(values).adapter.experts == 1


def test_sft_needs_single_answers_and_cross_entropy():
    for bad in ({"name": "sft"}, {"name": "sft", "aggregate": "respondent", "loss": "emd"}):
        with pytest.raises(CumaError, match="objective"):
            changed(Config(), objective=bad)
    assert changed(Config(), objective={"name": "sft", "aggregate": "respondent"}).objective.name == "sft"


def test_every_preset_loads_and_survives_json():
    assert {"quickstart", "debug"} <= set(presets())
    for name in presets():
        preset = load_runs(name)
        assert preset.name == name
        for config in preset.stages if isinstance(preset, Chain) else (preset,):
            assert from_dict(json.loads(json.dumps(to_dict(config)))) == config


def test_json_is_read_strictly():
    values = to_dict(Config())
    values["adapter"]["ranks"] = 4
    with pytest.raises(CumaError, match=r"adapter\.ranks is unknown; known here: alpha"):
        from_dict(values)
    with pytest.raises(CumaError, match="config section adapter is 3"):
        from_dict({"adapter": 3})
    with pytest.raises(CumaError, match="config section top level"):
        from_dict([])  # type: ignore[arg-type]


def test_a_config_cannot_be_changed_in_place():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().adapter.rank = 3  # type: ignore[misc]


def test_every_field_has_a_help_text():
    files = [ROOT / "cuma_jax" / name for name in ("config.py", "config_data.py", "config_preferences.py")]
    source = "\n".join(file.read_text() for file in files)
    for section in dataclasses.fields(Config):
        value = getattr(Config(), section.name)
        if dataclasses.is_dataclass(value):
            body = source.split(f"class {type(value).__name__}:")[1].split("@dataclasses")[0]
            for field in dataclasses.fields(value):
                # A type that is too long for one line goes on in the next ones, up to the default.
                after = body.split(f"\n    {field.name}: ")[1].split(" = ")[1].split("\n")[1]
                assert after.strip().startswith('"""'), f"{section.name}.{field.name} has no help text"


def test_reading_a_config_imports_no_jax():
    code = "import sys, cuma_jax.config; sys.exit('jax' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
