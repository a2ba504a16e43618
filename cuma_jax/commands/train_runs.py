"""Trains and scores one run, or the stages of a chain one after another."""

import contextlib
import json
import pathlib
import shlex

import jax

from cuma_jax.commands.process_checks import check_config, check_data
from cuma_jax.commands.score_run import check_cells, check_checkpoint, score
from cuma_jax.config import Config
from cuma_jax.evaluation.preferences.head_to_head import Sizes, compare_sides
from cuma_jax.evaluation.preferences.replies import Side
from cuma_jax.evaluation.preferences.results import preferences_lines
from cuma_jax.evaluation.results import is_scored
from cuma_jax.evaluation.run import about_run
from cuma_jax.evaluation.stages.scores import BASE, score_stages, stages_table
from cuma_jax.reporting.report import add_preferences
from cuma_jax.reporting.stages import write_stages_page
from cuma_jax.run.build import build_run
from cuma_jax.run.folder import check_shared, open_run, run_dir
from cuma_jax.run.init_adapters import check_start
from cuma_jax.run.objective import objective_of
from cuma_jax.run.saved_adapters import has_checkpoint
from cuma_jax.run.trained import CheckpointInfo, load_adapters
from cuma_jax.runtime.files import cache_dir, write_text
from cuma_jax.runtime.jax_setup import prepare_jax
from cuma_jax.runtime.lock import locked
from cuma_jax.runtime.processes import process_index
from cuma_jax.serving.bundle.written import save_bundle
from cuma_jax.surveys.survey import Survey
from cuma_jax.training.loop import train

STAGES_FILE = "stages.json"
_SIZES = Sizes(prompts=200)


def run_all(configs: tuple[Config, ...]) -> None:
    """Trains and scores the runs of a command line; says where one that was asked to stop has saved."""
    for config in configs:
        check_config(config)
    prepare_jax(configs[0].run.cache_dir)
    stopped = run_chain(configs) if len(configs) > 1 else None if train_run(configs[0]) else configs[0]
    if stopped:
        _say(f"stopped on request; saved in {run_dir(stopped)}, run the same command to resume")


def train_run(config: Config) -> bool:
    """Builds the run, trains, evaluates; whether it came to its end (False: stopped on request, and saved)."""
    with locked(run_dir(config)) if process_index() == 0 else contextlib.nullcontext():
        return _train_run(config)


def _train_run(config: Config) -> bool:
    folder = open_run(config)
    is_scored(folder)  # damaged scores are found now, and not when they are written over
    check_shared(folder)
    check_start(config, folder)
    objective_of(config).check_surroundings(config, str(cache_dir(config.run.cache_dir)))
    run = build_run(config, folder=folder)
    check_data(run)
    if not has_checkpoint(folder):
        _ = run.start  # profile vectors that do not fit it are found before anything is written
    if config.evaluation.after_training:
        check_checkpoint(run)
        if not has_checkpoint(folder):
            check_cells(run)
    trained = train(run, folder)
    if trained.finished and config.evaluation.after_training:
        steps = int(jax.device_get(trained.state.step))
        adapters, scored = trained.state.adapters, CheckpointInfo("last", steps, steps, steps)
        if config.evaluation.checkpoint == "best":
            adapters, scored = load_adapters(run, folder, "best")
        score(run, adapters, folder, trained.seconds, scored)
    elif trained.finished:
        save_bundle(run, folder)
    return trained.finished


def run_chain(configs: tuple[Config, ...]) -> Config | None:
    """Runs the stages that are not done yet, then scores all of them on the same people; the stage that was stopped."""
    folders = [open_run(config) for config in configs]  # what does not belong there is found before the first stage
    for number, (config, folder) in enumerate(zip(configs, folders, strict=True), start=1):
        title = f"stage {number} of {len(configs)}, {config.name} (objective {objective_of(config)}), in {folder}"
        if is_scored(folder):
            _say(f"\n== {title}: done before")
            continue
        _say(f"\n== {title}")
        if not train_run(config):
            return config
    compare_stages(configs, folders)
    return None


def compare_stages(configs: tuple[Config, ...], folders: list[pathlib.Path]) -> None:
    """Scores the stages of a chain beside each other; of a survey also the last one's replies beside the base's.

    Prints a table; writes stages.json and the chain's page. Replies on preference data need a judge, who is only asked
    where somebody says so.
    """
    run, last = build_run(configs[-1], folder=folders[-1]), configs[-1]
    adapters = {
        config.name: load_adapters(run, folder, config.evaluation.checkpoint)[0]
        for config, folder in zip(configs, folders, strict=True)
    }
    scores, won = score_stages(run, adapters), None
    if isinstance(run.source, Survey):
        base = Side(BASE, run, run.identity_adapters(last.train.seed))
        won = compare_sides(Side(last.name, run, adapters[last.name]), lambda: base, None, last.sampling, _SIZES)
    if jax.process_index() != 0:
        return
    folder = folders[-1].parent
    write_text(folder / STAGES_FILE, json.dumps(scores.values | {"winrate": won}, indent=1) + "\n")
    names = [(config.name, str(objective_of(config))) for config in configs]
    page = write_stages_page(folder, folder.name, scores, names, about_run(last))
    further = f"win-rate: python -m cuma_jax.evaluate --run {shlex.quote(str(folders[-1]))} --preferences"
    if won is not None:
        page, further = add_preferences(folder, won, folder.name), preferences_lines(won)
    print(f"\n{stages_table(scores)}\n\n{further}\n\nreport: {page.resolve()}")


def _say(text: str) -> None:
    if jax.process_index() == 0:
        print(text, flush=True)
