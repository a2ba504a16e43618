"""Trains adapters and scores them: `python -m cuma_jax.train`. See `--help` for every setting."""

from cuma_jax.cli import parse_config
from cuma_jax.errors import run_main
from cuma_jax.evaluate import score
from cuma_jax.jax_setup import prepare_jax
from cuma_jax.training.assembly import assemble
from cuma_jax.training.loop import train
from cuma_jax.training.run_dir import open_run


def main() -> None:
    """Parses, assembles, trains, evaluates."""
    config = parse_config("cuma_jax.train", "Train LoRA experts and their router on how people answered.")
    prepare_jax(config)
    folder = open_run(config)
    assembly = assemble(config)
    trained = train(assembly, folder)
    if not trained.finished:
        print(f"stopped on request; saved in {folder}, run the same command to resume")
    elif config.evaluation.after_training:
        score(assembly, trained.state.adapters, folder, trained.seconds)


if __name__ == "__main__":
    run_main(main)
