"""Train steps of this package on made-up rows of one length: what the other scripts time.

Shapes: B rows, T tokens, S supervised positions, O options, P profiles, C profile width.
"""

import argparse
import dataclasses
import json
import os
import pathlib
import platform
import statistics
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from cuma_jax.config import Config, ModelConfig, ObjectiveConfig, TrainConfig
from cuma_jax.methods import apply_method

OPTIONS, PROFILES = 4, 64


@dataclasses.dataclass
class Step:
    """A jitted train step and everything it is called with.

    Attributes:
        function: from `make_train_step`.
        state: replaced by every call.
        rest: base, tables and batch.
    """

    function: Any
    state: Any
    rest: tuple[Any, Any, Any]
    loss: float = float("nan")

    def __call__(self) -> float:
        """Takes one step and waits for it; seconds."""
        began = time.perf_counter()
        self.state, metrics = self.function(self.state, *self.rest)
        self.loss = float(metrics["loss"])  # the loss and the new state come from one program
        return time.perf_counter() - began


def config_of(args: argparse.Namespace, method: str, rank: int, objective: str) -> Config:
    """The config of a method as it is timed: q and v of every layer, float32, alpha = 2R."""
    config = Config(
        name="benchmark",
        model=ModelConfig(source=f"random:{args.shape}", dtype="float32"),
        objective=ObjectiveConfig(name=objective, aggregate="respondent"),  # type: ignore[arg-type]
        train=TrainConfig(batch_size=args.batch),
    )
    config = apply_method(config, method)
    return dataclasses.replace(
        config, adapter=dataclasses.replace(config.adapter, rank=rank, alpha=2.0 * rank, targets=("q", "v"))
    )


def survey_batch(args: argparse.Namespace, vocab: int, supervised: str) -> dict[str, np.ndarray]:
    """Rows of random tokens, without padding.

    Args:
        args: `batch` and `length`.
        vocab: tokens are drawn below it.
        supervised: `option` (choice: one position a row, option letters only), `answer` (sft: the last two tokens of
            a row) or `all` (sft: every token but the first).
    """
    rng = np.random.default_rng(0)
    rows, width = args.batch, args.length
    tokens_BT = rng.integers(0, vocab, (rows, width)).astype(np.int32)
    first = {"option": width - 1, "answer": width - 3, "all": 0}[supervised]
    last = width if supervised == "option" else width - 1
    batch = {
        "tokens": tokens_BT,
        "lengths": np.full(rows, width, np.int32),
        "profile": rng.integers(0, PROFILES, rows).astype(np.int32),
        "positions": np.tile(np.arange(first, last, dtype=np.int32), (rows, 1)),
        "weight": np.ones(rows, np.float32),
    }
    if supervised != "option":
        return batch | {"labels": tokens_BT[:, first + 1 : last + 1]}
    return batch | {
        "option_ids": np.tile(np.arange(OPTIONS, dtype=np.int32), (rows, 1)),
        "options": np.full(rows, OPTIONS, np.int32),
        "target": np.eye(OPTIONS, dtype=np.float32)[rng.integers(0, OPTIONS, rows)],
    }


class Bench:
    """One random base on one device, shared by every step that is timed on it."""

    def __init__(self, args: argparse.Namespace):
        import jax

        from cuma_jax.jax_setup import prepare_jax
        from cuma_jax.models.families import decoder_config
        from cuma_jax.models.sources import resolve
        from cuma_jax.sharding import make_mesh

        prepare_jax(Config())
        self.args = args
        self.files = resolve(f"random:{args.shape}")
        shape = decoder_config(self.files)
        self.shape = dataclasses.replace(shape, layers=args.layers or shape.layers)
        self.mesh = make_mesh(Config().mesh, jax.devices()[:1])
        self.base: Any = None

    def step(self, method: str, rank: int, supervised: str) -> Step:
        """A step of `method`, with fresh adapters."""
        import flax.linen as nn
        import jax
        import jax.numpy as jnp

        from cuma_jax.models.weights import load_params
        from cuma_jax.sharding import put_batch, replicated, tree_shardings
        from cuma_jax.training.assembly import abstract_variables, make_decoder
        from cuma_jax.training.forward import Tables
        from cuma_jax.training.optimizer import make_optimizer, make_schedule
        from cuma_jax.training.step import TrainState, make_train_step

        config = config_of(self.args, method, rank, "choice" if supervised == "option" else "sft")
        decoder, whole = make_decoder(config, self.shape), replicated(self.mesh)
        width = self.args.profile_width if "profile" in config.router.inputs else 0
        boxed = abstract_variables(decoder, width)
        base_shardings = tree_shardings(boxed["params"], self.mesh)
        if self.base is None:
            abstract = nn.meta.unbox(boxed["params"])
            self.base = load_params(self.files, self.shape, abstract, base_shardings, decoder.n_frozen)
        schedule = make_schedule(config.optimizer, 1000)
        optimizer = make_optimizer(config.optimizer, schedule)

        def start(key: jax.Array) -> TrainState:
            profile_BC = jnp.zeros((1, width)) if width else None
            keys, tokens_BT = {"params": key, "adapters": key}, jnp.zeros((1, 8), jnp.int32)
            adapters = nn.meta.unbox(decoder.init(keys, tokens_BT, jnp.full((1,), 8), profile_BC)["adapters"])
            return TrainState(jnp.zeros((), jnp.int32), adapters, optimizer.init(adapters), jax.random.key_data(key))

        with jax.set_mesh(self.mesh):
            state = jax.jit(start)(jax.random.key(0))
            state = jax.device_put(state, whole)
            vectors_PC = jax.random.normal(jax.random.key(1), (PROFILES, width)) if width else None
            batch = put_batch(survey_batch(self.args, self.shape.vocab, supervised), self.mesh)
        shardings = jax.tree.map(lambda _: whole, state)
        step = make_train_step(decoder, config, optimizer, schedule, self.mesh, shardings, base_shardings)
        tables = jax.device_put(Tables(vectors_PC), whole)
        return Step(step, state, (self.base, tables, batch))


def shape_arguments(description: str) -> argparse.ArgumentParser:
    """A parser with the options that all scripts on made-up rows share."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )  # fmt: skip
    parser.add_argument("--shape", default="qwen3-0.6b", help="named shape of the base (random weights)")
    parser.add_argument("--layers", type=int, default=0, help="use only this many layers of the shape; 0: all")
    parser.add_argument("--batch", type=int, default=4, help="rows a step")
    parser.add_argument("--length", type=int, default=128, help="tokens a row")
    parser.add_argument("--profile-width", type=int, default=1024, help="width of the profile vectors")
    parser.add_argument("--repeats", type=int, default=7, help="timed steps of each kind, taken in turns")
    parser.add_argument("--json", type=pathlib.Path, help="also write the figures to this file")
    return parser


def summary(seconds: Sequence[float]) -> dict[str, float]:
    """Median, least and greatest of repeated timings, in seconds."""
    return {"median_s": statistics.median(seconds), "min_s": min(seconds), "max_s": max(seconds)}


def paired_ratio(slow: Sequence[float], fast: Sequence[float]) -> float:
    """Median of the ratios of neighbouring timings: what else the machine does in a round falls on both."""
    return statistics.median(a / b for a, b in zip(slow, fast, strict=True))


def report(args: argparse.Namespace, results: dict[str, Any]) -> None:
    """Writes `results` with the machine and the arguments to `args.json`, if it is given."""
    if not args.json:
        return
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, python {platform.python_version()}"
    arguments = {name: str(value) if isinstance(value, pathlib.Path) else value for name, value in vars(args).items()}
    text = json.dumps({"machine": machine, "arguments": arguments, **results}, indent=1) + "\n"
    part = args.json.with_name(args.json.name + ".part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, args.json)
