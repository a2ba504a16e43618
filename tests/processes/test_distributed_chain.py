"""DPO, then GRPO, by two processes of two devices: what one process of four comes to, up to rounding."""

import json

import pytest
from conftest import ROOT, devices_of
from processes import metrics
from test_distributed import Group, losses

from cuma_jax.commands.command_line import parse_runs
from cuma_jax.commands.train import Options
from cuma_jax.commands.train_runs import run_chain

pytestmark = pytest.mark.slow
CHAIN = ["--config", str(ROOT / "tests" / "helpers" / "chain_case.py"), "--mesh.data", "2",
         "--mesh.tensor", "2", "--run.no-tensorboard", "--data.buckets", "256", "--adapter.layers", "1",
         "--train.steps", "2", "--train.batch_size", "16", "--train.eval_every", "0", "--train.eval_batches", "0",
         "--train.log_every", "1", "--train.save_every", "0", "--evaluation.splits", "unseen_country",
         "--evaluation.bootstrap", "20"]  # fmt: skip


def scored(place, name):
    return json.loads((place / name / "stages.json").read_text())["splits"]["unseen_country"]["stages"]


def test_a_chain_of_dpo_and_grpo_is_that_of_one_process(tmp_path):
    argv = {name: [*CHAIN, "--run.dir", str(tmp_path / name), "--run.cache_dir", str(tmp_path / f"cache of {name}")]
            for name in ("one", "two")}  # fmt: skip
    Group(tmp_path / "logs", 2, *[["-m", "cuma_jax.train", *argv["two"]]] * 2).succeed()
    _, configs = parse_runs("train", "", argv["one"], Options)
    with devices_of(configs[0].mesh):
        assert run_chain(configs) is None
    for stage in ("dpo", "grpo"):
        expected = losses(tmp_path / "one" / stage)
        assert len(expected) == 2
        assert losses(tmp_path / "two" / stage) == pytest.approx(expected, abs=1e-5)
    # What was sampled is the same: rewards are of whole tokens.
    one, two = ([line["reward"] for line in metrics(tmp_path / name / "grpo") if "eval" not in line]
                for name in ("one", "two"))  # fmt: skip
    assert one == pytest.approx(two, abs=1e-6)
    expected, found = scored(tmp_path, "one"), scored(tmp_path, "two")
    assert list(found) == ["everybody alike", "base", "dpo", "grpo"]
    for stage, figures in expected.items():
        assert found[stage]["energy"]["value"] == pytest.approx(figures["energy"]["value"], abs=1e-5)
    assert expected["grpo"]["energy"] != expected["dpo"]["energy"]
