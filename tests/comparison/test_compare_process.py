"""The command as users run it: real training of a tiny model, twice, with one variant that cannot run."""

import json
import re
import signal
import subprocess
import sys

import pytest
from conftest import TEST_XLA_FLAGS
from processes import environment, metrics, wait_for

from cuma_jax.commands import compare

pytestmark = pytest.mark.slow
PRESET = """
import dataclasses

from cuma_jax.config import load_config
from cuma_jax.config.comparison import Comparison, by_method, variant


def mine():
    base = load_config("debug")
    return Comparison(
        name="mine",
        base=dataclasses.replace(
            base,
            data=dataclasses.replace(base.data, questions=("invented.tea", "invented.rain"), buckets=(256,)),
            train=dataclasses.replace(base.train, steps=STEPS, batch_size=4, eval_every=0, save_every=0),
            evaluation=dataclasses.replace(base.evaluation, max_profiles=10, bootstrap=50),
            run=dataclasses.replace(base.run, tensorboard=False),
        ),
        variants=(*by_method("cuma", seeds=2), *by_method("lora"), variant("planted", "lora", adapter={"layers": 99})),
    )
"""


def start(folder, cache, *argv, steps=3):
    folder.mkdir(exist_ok=True)
    (folder / "mine.py").write_text(PRESET.replace("STEPS", str(steps)))
    return subprocess.Popen(
        [sys.executable, "-m", "cuma_jax.compare", "--config", str(folder / "mine.py"), "--dir", str(folder), *argv],
        env=environment(CUMA_JAX_CACHE=cache, XLA_FLAGS=TEST_XLA_FLAGS),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def finish(process, code):
    out = process.communicate(timeout=1200)[0]
    assert process.returncode == code, out
    return out


@pytest.fixture
def here(tmp_path, monkeypatch, capsys):
    """`here(*args)`: what the command prints in this process, where it has nothing to train, and its exit code."""
    monkeypatch.setattr("cuma_jax.commands.train_runs.prepare_jax", lambda config: None)

    def run(*args):
        argv = ["compare", "--config", str(tmp_path / "mine.py"), "--dir", str(tmp_path), *args]
        monkeypatch.setattr(sys, "argv", argv)
        try:
            compare.main()
            code = 0
        except SystemExit as end:
            code = end.code
        out, error = capsys.readouterr()
        return out + error, code

    return run


@pytest.mark.nightly
def test_a_comparison_runs_once_and_a_broken_variant_is_told(tmp_path, cache_folder, here):
    out = finish(start(tmp_path, cache_folder), 1)
    assert "[3/4] planted seed 0: refused (config field adapter.layers is 99" in out
    assert "1 of 4 trials did not end well: planted seed 0" in out
    assert out.count(": finished in") == 3
    values = json.loads((tmp_path / "comparison.json").read_text())
    rows = values["splits"]["unseen_respondent"]["scopes"]["overall"]["rows"]
    assert {r["name"]: r["seeds"] for r in rows if r["kind"] == "variant"} == {"cuma": 2, "lora": 1}
    assert values["variants"][0]["cost"]["steps"] == 3
    assert values["variants"][0]["cost"]["peak_memory_bytes"] > 10**8
    one, two = (json.loads((tmp_path / "cuma" / s / "results.json").read_text())["splits"] for s in ("seed0", "seed1"))
    assert one != two
    assert "planted" in (tmp_path / "report.html").read_text()

    again, code = here()
    assert code == 1
    assert again.count("finished already") == 3
    assert "finished in" not in again
    assert json.loads((tmp_path / "comparison.json").read_text())["splits"] == values["splits"]
    assert here("--table-only")[1] == 0
    listed, _ = here("--list")
    assert listed.count("finished") == 3
    assert "planted seed 0  refused" in listed
    assert "Traceback" not in out + again + listed


@pytest.mark.nightly
def test_a_comparison_stopped_by_ctrl_c_goes_on_where_it_was(tmp_path, cache_folder, here):
    process = start(tmp_path, cache_folder, "--only", "lora", "--seeds", "0", steps=4000)
    folder = tmp_path / "lora" / "seed0"
    wait_for(lambda: len(metrics(folder)) >= 2, process)
    process.send_signal(signal.SIGINT)
    out = finish(process, 130)
    assert "run the same command again to go on" in out
    saved = [int(path.name) for path in (folder / "checkpoints").iterdir()]
    assert saved
    assert 0 < max(saved) < 4000
    assert re.search(r"lora seed 0 +stopped", here("--list")[0])
