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
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cuma_jax.config import Config, ModelConfig, ObjectiveConfig, TrainConfig
from cuma_jax.config.methods import apply_method

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


def config_of(args: argparse.Namespace, method: str, rank: int, objective: str, **adapter: Any) -> Config:
    """The config of a method as it is timed: every layer, alpha = 2R; `adapter`: further fields of that section."""
    config = Config(
        name="benchmark",
        model=ModelConfig(source=f"random:{args.shape}", dtype=args.dtype, remat=args.remat, quantize=args.quantize),
        objective=ObjectiveConfig(name=objective, aggregate="respondent"),  # type: ignore[arg-type]
        train=TrainConfig(batch_size=args.batch),
    )
    config = apply_method(config, method)
    fields = {"rank": rank, "alpha": 2.0 * rank, "targets": tuple(args.targets)} | adapter
    return dataclasses.replace(config, adapter=dataclasses.replace(config.adapter, **fields))


def survey_batch(args: argparse.Namespace, vocab: int, supervised: str) -> dict[str, np.ndarray]:
    """Rows of random tokens, without padding.

    Args:
        args: `batch` and `length`.
        vocab: tokens are drawn below it.
        supervised: `option` (choice: one position a row, option letters only), `answer` (sft: the last two tokens of
            a row), `all` (sft: every token but the first) or `pairs` (dpo: two rows of kind `all` a row).
    """
    if supervised == "pairs":
        both = argparse.Namespace(**vars(args) | {"batch": 2 * args.batch})
        rows = survey_batch(both, vocab, "all")
        pairs = {name: x.reshape(-1, 2, *x.shape[1:]) for name, x in rows.items()}
        pairs |= {"profile": pairs["profile"][:, 0], "weight": pairs["weight"][:, 0]}
        pairs["label_weight"] = np.ones(pairs["labels"].shape, np.float32)
        return pairs | {"reference_logp": np.zeros((args.batch, 2), np.float32)}
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
    """One random base, shared by every step that is timed on it.

    Args:
        args: from `shape_arguments`.
        devices: how many to use; 0: all there are, of all processes.
    """

    def __init__(self, args: argparse.Namespace, devices: int = 1):
        import jax

        from cuma_jax.hub.model_files import resolve
        from cuma_jax.models.families import decoder_config
        from cuma_jax.runtime.jax_setup import prepare_jax
        from cuma_jax.runtime.sharding import make_mesh

        prepare_jax(Config().run.cache_dir)
        self.args = args
        self.files = resolve(f"random:{args.shape}")
        shape = decoder_config(self.files)
        self.shape = dataclasses.replace(shape, layers=args.layers or shape.layers)
        self.mesh = make_mesh(Config().mesh, jax.devices()[: devices or None])
        self._bases: dict[int, Any] = {}

    def useful_flops(self, batch: int, length: int, supervised: str) -> float:
        """Arithmetic of a step that counts as useful: 4 a token and weight of the layers (forward, and backward to the
        activations), 4 a supervised position and weight of the unembedding. Not counted: adapters, attention scores,
        what is computed again.
        """
        from cuma_jax.models.families import layer_params

        if supervised == "pairs":
            return 2 * self.useful_flops(batch, length, "all")
        positions = {"option": 0, "answer": 2, "all": length - 1}[supervised]
        return 4.0 * batch * (length * layer_params(self.shape) + positions * self.shape.vocab * self.shape.width)

    def step(
        self,
        method: str,
        rank: int,
        supervised: str,
        batch: int = 0,
        length: int = 0,
        profiles: int = PROFILES,
        questions: int = 0,
        **adapter: Any,
    ) -> Step:
        """A step of `method`, with fresh adapters.

        Args:
            method, rank, supervised: see `config_of` and `survey_batch`.
            batch, length: rows and tokens a row; 0: those of the arguments.
            profiles: rows of the profile table.
            questions: the layers below the first adapted one are kept for that many questions; 0: not kept.
            **adapter: further fields of the config's adapter section.
        """
        import flax.linen as nn
        import jax
        import jax.numpy as jnp

        from cuma_jax.models.weights import load_params
        from cuma_jax.run.decoders import abstract_variables, make_decoder
        from cuma_jax.run.forward import Tables
        from cuma_jax.run.objective import objective_of
        from cuma_jax.runtime.sharding import local_rows, put_batch, replicated, tree_shardings
        from cuma_jax.training.optimizer import make_optimizer, make_schedule
        from cuma_jax.training.step import TrainState, UpdateRule, make_train_step

        args = argparse.Namespace(
            **vars(self.args) | {"batch": batch or self.args.batch, "length": length or self.args.length}
        )
        config = config_of(args, method, rank, {"option": "choice", "pairs": "dpo"}.get(supervised, "sft"), **adapter)
        decoder, whole = make_decoder(config, self.shape), replicated(self.mesh)
        width = args.profile_width if "profile" in config.router.inputs else 0
        boxed = abstract_variables(decoder, width)
        base_shardings = tree_shardings(boxed["params"], self.mesh)
        if decoder.n_frozen not in self._bases:
            self._bases.clear()  # one base in memory at a time
            abstract = nn.meta.unbox(boxed["params"])
            base = load_params(self.files, self.shape, abstract, base_shardings, decoder.n_frozen)
            self._bases[decoder.n_frozen] = base
        schedule = make_schedule(config.optimizer, 1000)
        optimizer = make_optimizer(config.optimizer, schedule)

        def start(key: jax.Array) -> TrainState:
            profile_BC = jnp.zeros((1, width)) if width else None
            keys, tokens_BT = {"params": key, "adapters": key}, jnp.zeros((1, 8), jnp.int32)
            variables = nn.meta.unbox(decoder.init(keys, tokens_BT, jnp.full((1,), 8), profile_BC))
            adapters = variables.get("adapters", {})  # the base has none
            return TrainState(jnp.zeros((), jnp.int32), adapters, optimizer.init(adapters), jax.random.key_data(key))

        def table(key: jax.Array) -> Tables:
            vectors_PC = jax.random.normal(key, (profiles, width)) if width else None
            size = (questions, args.length, self.shape.width)
            return Tables(vectors_PC, jax.random.normal(key, size, decoder.dtype) if questions else None)

        rows = survey_batch(args, self.shape.vocab, supervised)
        rows["profile"] %= profiles
        if questions:
            rows.pop("tokens")
            rows["template"] = np.arange(args.batch, dtype=np.int32) % questions
        mine = local_rows(self.mesh, args.batch)
        with jax.set_mesh(self.mesh):
            state = jax.jit(start, out_shardings=whole)(jax.random.key(0))
            tables = jax.jit(table, out_shardings=whole)(jax.random.key(1))
            placed = put_batch({name: value[mine] for name, value in rows.items()}, self.mesh)
        shardings = jax.tree.map(lambda _: whole, state)
        step = make_train_step(
            decoder, config, objective_of(config).sums, UpdateRule(optimizer, schedule, shardings), self.mesh,
            base_shardings,
        )  # fmt: skip
        return Step(step, state, (self._bases[decoder.n_frozen], tables, placed))


def times_in_turns(made: Mapping[str, Step], repeats: int) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Seconds of each step, taken in turns, and of each one's first, which compiles; the second does not count."""
    first = {name: step() for name, step in made.items()}
    for step in made.values():
        step()
    seconds: dict[str, list[float]] = {name: [] for name in made}
    for _ in range(repeats):
        for name, step in made.items():
            seconds[name].append(step())
    return seconds, first


def peak_bytes() -> int:
    """The most memory that this process' devices (on a CPU: this process) have needed so far."""
    import jax

    from cuma_jax.runtime import memory

    return memory.peak_bytes(jax.local_devices()) or 0


_KINDS = {"h100": "h100", "h200": "h200", "a100": "a100", "rtx 4090": "rtx4090", "rtx 3090": "rtx3090", "l4": "l4",
          "v5 lite": "v5e", "v5e": "v5e", "v6": "v6e", "v5": "v5p", "v4": "v4"}  # fmt: skip
"""Part of a JAX device kind -> name in `planning/chips.py`; the first that fits counts."""


def chip_peak(dtype: str) -> float | None:
    """FLOP/s that the maker gives for one chip of this kind in bfloat16; None for other dtypes and unknown chips."""
    import jax

    from cuma_jax.planning.chips import GPUS, TPUS

    kind = jax.devices()[0].device_kind.lower()
    name = next((name for part, name in _KINDS.items() if part in kind), "")
    chips = GPUS | TPUS
    return chips[name].flops if dtype == "bfloat16" and name in chips and jax.default_backend() != "cpu" else None


def matmul_ceiling(args: argparse.Namespace, width: int, ffn: int) -> float:
    """FLOP/s of this device on one large product of the step's kind, the best of several: what a step can hope for."""
    import jax
    import jax.numpy as jnp

    rows = args.batch * args.length
    x, w = (jax.random.normal(jax.random.key(i), s, args.dtype) for i, s in enumerate([(rows, width), (width, ffn)]))
    product = jax.jit(jnp.dot)
    best = float("inf")
    for _ in range(12):
        began = time.perf_counter()
        product(x, w).block_until_ready()
        best = min(best, time.perf_counter() - began)
    return 2 * rows * width * ffn / best


def shape_arguments(description: str) -> argparse.ArgumentParser:
    """A parser with the options that all scripts on made-up rows share."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )  # fmt: skip
    parser.add_argument("--shape", default="qwen3-0.6b", help="named shape of the base (random weights)")
    parser.add_argument("--layers", type=int, default=0, help="use only this many layers of the shape; 0: all")
    parser.add_argument("--batch", type=int, default=4, help="rows a step")
    parser.add_argument("--length", type=int, default=128, help="tokens a row")
    parser.add_argument("--targets", nargs="+", default=["q", "v"], help="adapted linears: of q k v o gate up down")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32", help="compute dtype, both sides")
    parser.add_argument("--remat", choices=("none", "dots", "full"), default="none", help="what is computed again")
    parser.add_argument("--quantize", choices=("none", "int8"), default="none", help="storage of the frozen linears")
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
