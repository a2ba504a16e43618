"""Folders of runs: of those whose adapters are given, and of those that are trained and scored."""

import json

import numpy as np
from conftest import devices_of

from cuma_jax.commands.score_run import score
from cuma_jax.run.build import build_run
from cuma_jax.run.folder import write_config
from cuma_jax.training.checkpoints import Checkpoints
from cuma_jax.training.loop import Trainer, train


def save_run(folder, run, adapters, step=0):
    """Makes the folder of `run`, with one validated checkpoint that holds `adapters`; returns it."""
    write_config(folder, run.config)
    if run.table is not None:
        run.table.save(folder)
    state = Trainer(run).fresh().replace(step=np.int32(step), adapters=adapters)
    checkpoints = Checkpoints(folder, run)
    checkpoints.save(state, 1.0)
    checkpoints.close()
    return folder


def trained_and_scored(config, folder):
    """As the command does it: the run, its adapters, and the figures of annotators not trained on."""
    with devices_of(config.mesh):
        run = build_run(config, progress=False)
    trained = train(run, folder)
    score(run, trained.state.adapters, folder, trained.seconds)
    splits = json.loads((folder / "results.json").read_text())["splits"]
    return run, trained.state.adapters, splits["unseen_annotator"]
