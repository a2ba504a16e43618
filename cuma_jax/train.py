"""Trains adapters and scores them: `python -m cuma_jax.train`. See `--help` for every setting."""

import os

import jax

from cuma_jax.cache import cache_dir
from cuma_jax.cli import parse_config
from cuma_jax.config import Config
from cuma_jax.errors import run_main


def prepare_jax(config: Config) -> None:
    """Compiled programs are kept between runs, and a loss that depends on the backend's whims is not wanted."""
    jax.config.update("jax_compilation_cache_dir", str(cache_dir(config.run.cache_dir) / "compiled"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 1.0)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


def main() -> None:
    """Parses, assembles, trains, evaluates."""
    config = parse_config("cuma_jax.train", "Train LoRA experts and their router on how people answered.")
    prepare_jax(config)
    from cuma_jax.evaluation.run import evaluate_run  # after jax is configured
    from cuma_jax.training.assembly import assemble
    from cuma_jax.training.loop import train
    from cuma_jax.training.run_dir import open_run

    folder = open_run(config)
    assembly = assemble(config)
    trained = train(assembly, folder)
    if not trained.finished:
        print(f"stopped on request; saved in {folder}, run the same command to resume")
        return
    if config.evaluation.after_training:
        evaluate_run(assembly, trained.state.adapters, folder)


if __name__ == "__main__":
    run_main(main)
