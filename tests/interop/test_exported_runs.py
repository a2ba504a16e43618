"""Whole runs through `python -m cuma_jax.export`, here: what is written, how close it is, what is refused."""

import dataclasses
import json
import sys
import types

import jax
import numpy as np
import pytest
from conftest import ROOT, changed, devices_of
from safetensors.numpy import load_file
from saved_runs import save_run

from cuma_jax.commands import export
from cuma_jax.config import Config, ProfileConfig, load_config
from cuma_jax.config.methods import METHODS, apply_method
from cuma_jax.interop.export import peft as exporting_peft
from cuma_jax.interop.export.profile_selection import profile_lines, select_profiles
from cuma_jax.interop.formats.official_folder import read_official
from cuma_jax.models.families import SHAPES
from cuma_jax.profile_encoders.profile_table import build_profile_table
from cuma_jax.run.folder import write_config
from cuma_jax.run.init_adapters import check_start
from cuma_jax.run.saved_adapters import find_step, read_adapters
from cuma_jax.runtime.errors import CumaError
from cuma_jax.surveys.profiles import build_profiles
from cuma_jax.surveys.sources.invented import make_invented
from cuma_jax.training.loop import Trainer, train


@pytest.fixture(scope="module")
def runs(run_on, debug_config, random_adapters, tmp_path_factory):
    """`runs(method, **sections)`: (run, adapters, folder) of a run with random adapters, made once."""
    made = {}

    def build(method, **sections):
        key = json.dumps([method, sections], sort_keys=True)
        if key not in made:
            config = changed(apply_method(debug_config, method), **sections)
            run = run_on(config)
            adapters = random_adapters(run)
            made[key] = (run, adapters, save_run(tmp_path_factory.mktemp("runs") / "run", run, adapters))
        return made[key]

    return build


def exported(folder, out, capsys, monkeypatch, *args):
    # The tests have their own settings.
    monkeypatch.setattr("cuma_jax.runtime.jax_setup.prepare_jax", lambda config: None)
    monkeypatch.setattr(sys, "argv", ["cuma_jax.export", "--run", str(folder), "--out", str(out), *args])
    with devices_of(load_config(str(folder / "config.json")).mesh):
        export.main()
    return capsys.readouterr().out


REFERENCE_RUN = {"adapter": {"shared_a": True, "layers": 2}, "router": {"gate": "double_softmax"}}


@pytest.mark.slow
def test_the_official_format_and_back(runs, tmp_path, capsys, monkeypatch):
    run, adapters, folder = runs("cuma", **REFERENCE_RUN)
    out = tmp_path / "out"
    text = exported(folder, out, capsys, monkeypatch, "--format", "reference")
    assert f"width {run.table.width}" in text
    official = read_official(out, run.decoder_config, run.config.model.source)
    assert official.config.target_modules[0] == "model.layers.2.self_attn.q_proj"
    np.testing.assert_array_equal(np.load(out / "profile_table.npz")["vectors"], run.table.vectors_PM)
    # Started from, the adapters are the run's own, bit for bit: from the export, and from the run.
    for start in (out, folder):
        config = changed(run.config, adapter={"init_from": str(start)})
        check_start(config, tmp_path / "new")
        begun = Trainer(dataclasses.replace(run, config=config)).fresh().adapters
        jax.tree.map(np.testing.assert_array_equal, jax.device_get(begun), jax.device_get(adapters))
    # Without any training: its own checkpoint holds them as they are.
    still = changed(config, train={"steps": 0})
    trained = train(dataclasses.replace(run, config=still), tmp_path / "still")
    saved = read_adapters(tmp_path / "still", find_step(tmp_path / "still", "last")[0])
    assert (trained.finished, saved.step) == (True, 0)
    jax.tree.map(np.testing.assert_array_equal, saved.adapters, jax.device_get(adapters))
    with pytest.raises(CumaError, match=r"train\.steps is 0; it must be a positive number, or train\.epochs > 0"):
        changed(still, adapter={"init_from": ""})
    with pytest.raises(CumaError, match=r"add: --adapter\.rank 4$"):
        check_start(changed(config, adapter={"rank": 8}), tmp_path / "new")
    with pytest.raises(CumaError, match="another base model"):
        check_start(changed(config, model={"source": "random:smollm2-135m"}), tmp_path / "new")
    check_start(changed(config, adapter={"init_from": "gone"}), folder)  # a run that goes on does not need it

    half = tmp_path / "half"
    exported(folder, half, capsys, monkeypatch, "--format", "reference", "--dtype", "bfloat16", "--checkpoint", "best")
    assert {str(v.dtype) for v in load_file(half / "adapter_model.safetensors").values()} == {"bfloat16"}
    narrow = changed(run.config, adapter={"init_from": str(half)}, profile={"components": 1})
    table = dataclasses.replace(run.table, vectors_PM=run.table.vectors_PM[:, :1])
    with pytest.raises(CumaError, match="demographic_embed_dim"):
        Trainer(dataclasses.replace(run, config=narrow, table=table)).fresh()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "sections", "rank"),
    [
        ("cuma_profile", {}, 8),
        (
            "cuma_profile",
            {
                "adapter": {"targets": ("q", "v", "up", "gate"), "shared_a": True},
                "router": {"gate": "soft", "shared": False, "layers": 1},
                "profile": {"projection_layers": 1, "projection_dim": 5},
            },
            4,
        ),
        ("per_country", {}, 4),
    ],
)
def test_one_adapter_a_profile_is_exact(method, sections, rank, runs, tmp_path, capsys, monkeypatch):
    run, _, folder = runs(method, **sections)
    if method != "per_country":  # that one is put together anew, as a user's would be
        monkeypatch.setattr(exporting_peft, "build_run", lambda config, **_: run)
    text = exported(folder, tmp_path / "out", capsys, monkeypatch, "--format", "peft", "--profiles", "3")
    assert "3 adapters of step 0" in text
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["gates"] == "exact"
    assert (manifest["base_in_torch"], manifest["differs"], manifest["dtype"]) == (None, [], "float32")
    assert [p["rank"] for p in manifest["profiles"]] == [rank] * 3
    answers = [p["training_answers"] for p in manifest["profiles"]]
    assert answers == sorted(answers, reverse=True)
    assert answers[-1] > 0
    report = json.loads((tmp_path / "out" / "parity.json").read_text())
    assert report["overall"]["profiles"] == 3
    assert report["overall"]["pairs"] >= 3
    assert 0 <= report["overall"]["kl_max"] < 1e-5
    for entry in manifest["profiles"]:
        settings = json.loads((tmp_path / "out" / entry["folder"] / "adapter_config.json").read_text())
        assert (settings["r"], settings["lora_alpha"], settings["layers_to_transform"]) == (rank, rank, [2, 3])


@pytest.mark.slow
def test_a_profile_in_other_capitals_is_the_same_adapter_and_an_unknown_one_is_said(
    runs, tmp_path, capsys, monkeypatch
):
    run, _, folder = runs("cuma_profile")
    monkeypatch.setattr(exporting_peft, "build_run", lambda config, **_: run)
    country = run.profiles.values(0)["country"]
    people = tmp_path / "people.txt"
    people.write_text(f"\ufeffcountry={country}\nCountry: {country.upper()}\ncountry={country}x\n", encoding="utf-8")
    out, args = tmp_path / "out", ("--format", "peft", "--dtype", "bfloat16", "--profiles", str(people))
    text = exported(folder, out, capsys, monkeypatch, *args)
    one, two, three = ((out / f"profile_{n}" / "adapter_model.safetensors").read_bytes() for n in range(3))
    assert one == two != three
    assert f"line 3: nobody in the data has country '{country}x'; it is read as text (known: {country}" in text
    assert "it is not the run's function exactly: rounding moved its numbers by up to 0.00" in text
    assert "rounding" in json.loads((out / "manifest.json").read_text())["differs"][0]


@pytest.mark.slow
def test_full_cuma_is_averaged_and_says_how_far_off_it_is(runs, tmp_path, capsys, monkeypatch):
    run, _, folder = runs("cuma", **REFERENCE_RUN)
    monkeypatch.setattr(exporting_peft, "build_run", lambda config, **_: run)
    person = run.profiles.values(0)
    (tmp_path / "people.txt").write_text("# one\n" + ", ".join(f"{k}={v}" for k, v in person.items()) + "\n")
    args = ("--format", "peft", "--profiles", str(tmp_path / "people.txt"), "--questions", "2")
    text = exported(folder, tmp_path / "out", capsys, monkeypatch, *args)
    report = json.loads((tmp_path / "out" / "parity.json").read_text())
    assert report["gates"] == "averaged over training prompts"
    assert report["overall"]["profiles"] == 1
    assert 1 <= report["overall"]["pairs"] <= 2
    assert 0 < report["overall"]["kl_mean"] < 1
    assert "all pairs" in text
    (tmp_path / "people.txt").write_bytes("country=Perú\n".encode("latin-1"))
    with pytest.raises(CumaError, match=r"--profiles .*people\.txt is not UTF-8 text \(line 1\)"):
        exported(folder, tmp_path / "other", capsys, monkeypatch, *args)
    (tmp_path / "people.txt").write_text("country=Nowhere\n")
    with pytest.raises(CumaError, match="nobody like"):
        exported(folder, tmp_path / "other", capsys, monkeypatch, *args)
    (tmp_path / "people.txt").write_text("land=Nowhere\n")
    with pytest.raises(CumaError, match=r"line 1: .*unknown profile field 'land'"):
        exported(folder, tmp_path / "other", capsys, monkeypatch, *args)
    assert not (tmp_path / "other").exists()


def debug(method, **sections) -> Config:
    return changed(apply_method(load_config(str(ROOT / "configs" / "debug.py")), method), **sections)


REFUSED = {
    "no_run": (None, ["--format", "peft"], "config.json does not exist"),
    "no_checkpoint": (debug("lora"), ["--format", "peft"], "has no checkpoint yet"),
    "full": (debug("full"), ["--format", "peft"], "adapter.kind full"),
    "prefix": (debug("prefix"), ["--format", "peft"], "adapter.kind prefix"),
    "base": (debug("base"), ["--format", "peft"], "nothing was trained"),
    "mixlora": (debug("mixlora"), ["--format", "peft"], "router.inputs hidden"),
    "int8_dora": (debug("dora", model={"quantize": "int8"}), ["--format", "peft"], "--model.quantize none"),
    "cuma_gate": (debug("cuma"), ["--format", "reference"], "--router.gate double_softmax"),
    "lora_reference": (debug("lora"), ["--format", "reference"], "--format peft"),
    "questions": (debug("lora"), ["--format", "peft", "--questions", "0"], "--questions is 0"),
    "profiles": (debug("reference"), ["--format", "reference", "--profiles", "3"], "--profiles goes with"),
    "out_is_there": (debug("lora"), ["--format", "peft", "--out", "."], "--out . is there already"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_mistake_is_one_message_and_nothing_is_written(case, tmp_path, refused, monkeypatch):
    config, args, part = REFUSED[case]
    folder = tmp_path / "run"
    if config:
        write_config(folder, config)
    monkeypatch.setattr("cuma_jax.runtime.jax_setup.prepare_jax", lambda config: None)
    out = () if "--out" in args else ("--out", str(tmp_path / "out"))
    monkeypatch.setattr(sys, "argv", ["cuma_jax.export", "--run", str(folder), *out, *args])
    error = refused(export.main)
    assert error.startswith("error: ")
    assert part in error
    assert not (tmp_path / "out").exists()


def test_every_method_is_exported_or_refused_with_a_reason():
    """No method falls through: what `check_peft` lets pass has a router that reads the profile, or none."""
    refused = set()
    for method in METHODS:
        config = debug(method)
        try:
            exporting_peft.check_peft(config)
        except CumaError:
            refused.add(method)
        else:
            assert config.router.inputs in ("none", "profile", "hidden+profile", "lookup")
    assert refused == {
        "base", "persona", "persona_few_shot", "full", "prefix", "mixlora", "hydralora", "mixlora_persona",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["20", "all"])
def test_a_file_that_is_called_like_a_number_is_a_file(name, tmp_path, monkeypatch):
    survey = make_invented()
    profiles = build_profiles(survey)
    train_P = np.ones(len(profiles), bool)
    run = types.SimpleNamespace(
        profiles=profiles,
        table=build_profile_table(profiles, train_P, ProfileConfig(granularity="categorical"), None),
        units=types.SimpleNamespace(person_N=survey.respondent_A),
        mask=lambda split: np.ones(survey.num_answers, bool),
    )
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_text("country=Hestia, sex=female")
    (found,) = select_profiles(run, f"./{name}")
    assert found.values == {"country": "Hestia", "sex": "female"}
    assert profile_lines(f"./{name}") == ["country=Hestia, sex=female"]


def test_init_from_says_what_it_is_not(tmp_path):
    config = debug("cuma", adapter={"init_from": str(tmp_path)})
    with pytest.raises(CumaError, match="no adapter there"):
        check_start(config, tmp_path / "run")
    with pytest.raises(CumaError, match="nothing to start"):
        check_start(debug("base", adapter={"init_from": str(tmp_path)}), tmp_path / "run")
    golden = ROOT / "tests" / "golden" / "reference" / "adapter_qwen3_r8_script"
    assert SHAPES["tiny"].width == 32
    with pytest.raises(CumaError, match="another base: its hidden_size is 64"):
        check_start(debug("reference", adapter={"init_from": str(golden)}), tmp_path / "run")


def test_all_that_an_official_adapter_asks_for_is_one_message(tmp_path):
    golden = ROOT / "tests" / "golden" / "reference" / "adapter_qwen3_r8_script"
    flags = "--adapter.rank 8 --adapter.shared_a --adapter.layers 0 --router.gate double_softmax"
    start, width = {"init_from": str(golden)}, r"profile vectors of width 32, demographic_embed_dim\)"
    with pytest.raises(
        CumaError, match=rf"another base: .*\(base_qwen3\) as model.source\. And .*{width}.*add: {flags}$"
    ):
        check_start(debug("cuma", adapter=start), tmp_path / "run")
    base = {"source": str(golden.parent / "base_qwen3")}
    with pytest.raises(CumaError, match=rf"^config field adapter.init_from: the adapters in .*{width}.*add: {flags}$"):
        check_start(debug("cuma", adapter=start, model=base), tmp_path / "run")
    followed = start | {"rank": 8, "shared_a": True, "layers": 0}
    check_start(debug("cuma", adapter=followed, model=base, router={"gate": "double_softmax"}), tmp_path / "run")
