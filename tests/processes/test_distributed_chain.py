"""DPO, then GRPO, by two processes of two devices: what one process of four comes to, up to rounding."""

import json

import pytest
from conftest import ROOT, devices_of
from processes import Group, metrics

from cuma_jax.commands.command_line import parse_runs
from cuma_jax.commands.train import Options
from cuma_jax.commands.train_runs import run_chain

pytestmark = pytest.mark.slow
CHAIN = ["--config", str(ROOT / "tests" / "helpers" / "chain_case.py"), "--mesh.data", "2",
         "--mesh.tensor", "2", "--run.no-tensorboard", "--data.buckets", "256", "--adapter.layers", "1",
         "--train.steps", "2", "--train.batch_size", "8", "--train.eval_every", "0", "--train.eval_batches", "0",
         "--train.log_every", "1", "--train.save_every", "0", "--evaluation.splits", "unseen_country",
         "--evaluation.max_profiles", "20", "--evaluation.bootstrap", "20"]  # fmt: skip


def logged(folder, name):
    return [line[name] for line in metrics(folder) if "eval" not in line]


def scored(folder):
    return json.loads((folder / "stages.json").read_text())["splits"]["unseen_country"]["stages"]


@pytest.mark.nightly
def test_a_chain_of_dpo_and_grpo_is_that_of_one_process(tmp_path, cache_folder):
    one, two = tmp_path / "one", tmp_path / "two"
    # A cache of their own: the two make their profile table together.
    argv = {folder: [*CHAIN, "--run.dir", str(folder), "--run.cache_dir", cache]
            for folder, cache in ((one, cache_folder), (two, str(tmp_path / "cache")))}  # fmt: skip
    group = Group(tmp_path / "logs", 2, *[["-m", "cuma_jax.train", *argv[two]]] * 2)
    _, configs = parse_runs("train", "", argv[one], Options)
    with devices_of(configs[0].mesh):
        assert run_chain(configs) is None
    group.succeed()
    for stage in ("dpo", "grpo"):
        expected = logged(one / stage, "loss")
        assert len(expected) == 2
        assert logged(two / stage, "loss") == pytest.approx(expected, abs=1e-5)
    # What was sampled is the same: rewards are of whole tokens.
    assert logged(two / "grpo", "reward") == pytest.approx(logged(one / "grpo", "reward"), abs=1e-6)
    expected, found = scored(one), scored(two)
    assert list(found) == ["everybody alike", "base", "dpo", "grpo"]
    for stage, figures in expected.items():
        assert found[stage]["energy"]["value"] == pytest.approx(figures["energy"]["value"], abs=1e-5)
    assert expected["grpo"]["energy"] != expected["dpo"]["energy"]
