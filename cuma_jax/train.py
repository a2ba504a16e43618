"""Trains adapters and scores them: `python -m cuma_jax.train`. See `--help` for every setting."""

import sys

import jax

from cuma_jax.cli import parse_config
from cuma_jax.config import Config
from cuma_jax.distributed import HELP, joined
from cuma_jax.errors import run_main
from cuma_jax.evaluate import check_checkpoint, restore, score
from cuma_jax.evaluation.run import Scored
from cuma_jax.jax_setup import prepare_jax
from cuma_jax.training.agreement import check_config, check_data
from cuma_jax.training.assembly import assemble
from cuma_jax.training.loop import train
from cuma_jax.training.run_dir import check_shared, open_run, run_dir
from cuma_jax.training.saved_adapters import has_checkpoint
from cuma_jax.training.start import check_start


def main() -> None:
    """Parses, then runs."""
    args = sys.argv[1:]
    about = f"Train LoRA experts and their router on how people answered.\n\n{HELP}"
    with joined(args):
        config = parse_config("cuma_jax.train", about, args)
        check_config(config)
        if not run(config) and jax.process_index() == 0:
            print(f"stopped on request; saved in {run_dir(config)}, run the same command to resume")


def run(config: Config) -> bool:
    """Assembles, trains, evaluates; whether it came to its end (False: stopped on request, and saved)."""
    prepare_jax(config)
    folder = open_run(config)
    check_shared(folder)
    check_start(config, folder)
    assembly = assemble(config)
    check_data(assembly)
    if not has_checkpoint(folder):
        _ = assembly.start  # profile vectors that do not fit it are found before anything is written
    if config.evaluation.after_training:
        check_checkpoint(assembly)
    trained = train(assembly, folder)
    if trained.finished and config.evaluation.after_training:
        steps = int(jax.device_get(trained.state.step))
        adapters, scored = trained.state.adapters, Scored("last", steps, steps, steps)
        if config.evaluation.checkpoint == "best":
            adapters, scored = restore(assembly, folder, "best")
        score(assembly, adapters, folder, trained.seconds, scored)
    return trained.finished


if __name__ == "__main__":
    run_main(main)
