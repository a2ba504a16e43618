"""Folders of runs that are asked: of given adapters, scored as training does."""

import json

import pandas as pd
from conftest import devices_of
from saved_runs import save_run

from cuma_jax.commands.score_run import score
from cuma_jax.run.trained import CheckpointInfo
from cuma_jax.serving import Ask, load

HOME = Ask("Should people be allowed to work from home?", ["Never", "Sometimes", "Always"], id="home")
"""A question that no survey of the tests has."""


def scored_run(folder, run, adapters):
    """The folder of a run with its checkpoint, results and bundle."""
    save_run(folder, run, adapters)
    score(run, adapters, folder, 1.0, CheckpointInfo("last", 0, 0, 0))
    return folder


def opened(folder, mesh, **how):
    """The `Model` of a folder, on as many devices as the mesh names."""
    with devices_of(mesh):
        return load(folder, **how)


def per_cell(folder):
    """What `evaluate` predicted: (split, group, question) -> (predicted, true, pooled, n)."""
    cells = pd.read_parquet(folder / "per_cell.parquet")
    return {
        (row.split, row.group, row.question): (row.predicted, row.true, row.pooled, row.n)
        for row in cells.itertuples()
    }  # fmt: skip


def bundle_facts(folder):
    """facts.json of a bundle."""
    return json.loads((folder / "bundle" / "facts.json").read_text())
