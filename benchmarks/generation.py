"""Speed of writing beside transformers' `generate` in torch, on the same shapes, in one run.

    pip install -e '.[peers]'
    python benchmarks/generation.py                            SmolLM2-135M shape, batch 8, 64 + 64 tokens, float32
    python benchmarks/generation.py --new 16 --repeats 3       a short look

Both read the same random prompts of one length and write greedily, without stopping, with a cache, on all cores; the
weights are random. Ours is the base, and CuMA on it (E=8, K=2, R=8, a router in every layer, on q and v); theirs is
the base alone. Each framework has a process of its own that waits while the other one writes. Calls are made in turns;
a ratio is the median of neighbouring ones. Reported are the new tokens of a whole call, reading the prompt included,
and those after the first, from the difference to a call that writes one token. To reach on a CPU with the default
shape: 1.5 times their tokens/s.
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import peers
import steps

OURS, THEIRS = ("base", "cuma"), ("torch",)


def prompts(args: argparse.Namespace, vocab: int) -> np.ndarray:
    """int32 [B,T]."""
    return np.random.default_rng(0).integers(0, vocab, (args.batch, args.length)).astype(np.int32)


def our_writing(args: argparse.Namespace) -> tuple[dict[str, str], Callable[[str, int], dict[str, float]]]:
    """Versions, and a function (what, new tokens) -> seconds of a call."""
    import jax

    from cuma_jax.config import SamplingConfig
    from cuma_jax.generation import make_generate
    from cuma_jax.run.decoders import make_decoder

    bench = steps.Bench(args)
    made: dict[tuple[str, int], Callable[[], Any]] = {}

    def start(what: str, new: int) -> Callable[[], Any]:
        step = bench.step(what, args.rank, "all")  # never taken: for its weights
        decoder = make_decoder(steps.config_of(args, what, args.rank, "sft"), bench.shape)
        adapters, (base, tables, _) = step.state.adapters, step.rest
        shardings = [jax.tree.map(lambda x: x.sharding, tree) for tree in (adapters, base)]
        sampling = SamplingConfig(temperature=0.0, max_new_tokens=new)
        generate = make_generate(decoder, sampling, (-1,), 0, bench.mesh, *shardings)
        batch = {
            "tokens": prompts(args, bench.shape.vocab),
            "lengths": np.full(args.batch, args.length, np.int32),
            "profile": np.arange(args.batch, dtype=np.int32) % steps.PROFILES,
            "key": np.zeros((args.batch, 2), np.uint32),
        }
        return lambda: np.asarray(generate(base, adapters, tables.profile_PC, batch).tokens_BN)

    def write(what: str, new: int) -> dict[str, float]:
        if (what, new) not in made:
            made[what, new] = start(what, new)
        began = time.perf_counter()
        made[what, new]()
        return {"seconds": time.perf_counter() - began}

    return {"jax": jax.__version__, "device": jax.devices()[0].device_kind}, write


def torch_writing(args: argparse.Namespace) -> tuple[dict[str, str], Callable[[str, int], dict[str, float]]]:
    """Versions, and a function (what, new tokens) -> seconds of a call."""
    import torch

    model, device, versions = peers.torch_model(args, cached=True)
    model.eval()
    tokens_BT = torch.from_numpy(prompts(args, model.config.vocab_size)).long().to(device)

    def write(_: str, new: int) -> dict[str, float]:
        began = time.perf_counter()
        with torch.inference_mode():
            model.generate(
                tokens_BT, attention_mask=torch.ones_like(tokens_BT), max_new_tokens=new, min_new_tokens=new,
                do_sample=False, eos_token_id=None, pad_token_id=0,
            ).cpu()  # fmt: skip
        return {"seconds": time.perf_counter() - began}

    return versions, write


def main() -> None:
    """Parses, starts the workers, times, prints."""
    parser = steps.shape_arguments(__doc__.splitlines()[0])
    parser.set_defaults(shape="smollm2-135m", batch=8, length=64, repeats=5)
    parser.add_argument("--new", type=int, default=64, help="tokens that are written, at least 2")
    parser.add_argument("--rank", type=int, default=8, help="rank of CuMA's experts")
    parser.add_argument("--worker", choices=("ours", "theirs"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        peers.serve(lambda: (our_writing if args.worker == "ours" else torch_writing)(args))
        return
    by_name = dict.fromkeys(OURS, "ours") | dict.fromkeys(THEIRS, "theirs")
    seconds: dict[tuple[str, int], list[float]] = {(name, new): [] for name in by_name for new in (1, args.new)}
    with peers.both(__file__) as workers:
        results: dict[str, Any] = {name: worker.about for name, worker in workers.items()}
        print(
            f"{args.shape} shape, batch {args.batch}, {args.length} + {args.new} tokens, {args.dtype}; random weights"
        )
        for turn in range(-1, args.repeats):  # the first is not counted: it compiles
            for name, new in seconds:
                took = workers[by_name[name]].ask(name, new)["seconds"]
                if turn >= 0:
                    seconds[name, new].append(took)
    whole = {name: seconds[name, args.new] for name in by_name}
    after = {name: [a - b for a, b in zip(whole[name], seconds[name, 1], strict=True)] for name in by_name}
    for kind, times, tokens in (("whole call", whole, args.new), ("after the first", after, args.new - 1)):
        for name in by_name:
            figures = steps.summary(times[name])
            rate, ratio = args.batch * tokens / figures["median_s"], steps.paired_ratio(times[THEIRS[0]], times[name])
            results.setdefault(kind, {})[name] = figures | {"tokens_per_s": rate, "times_as_fast_as_torch": ratio}
            print(
                f"{kind:16s} {'ours: ' + name if name in OURS else 'theirs':12s} {figures['median_s']:8.3f} s "
                f"({figures['min_s']:.3f} to {figures['max_s']:.3f})  {rate:8.1f} tokens/s  {ratio:5.2f} x theirs"
            )
    steps.report(args, results)


if __name__ == "__main__":
    main()
