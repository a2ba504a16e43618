"""How the cost of a CuMA step grows: experts, rank, tokens, rows, adapted layers, profiles, questions, processes.

    python benchmarks/scaling.py                                   SmolLM2 shape, 6 layers, batch 8 x 96, float32
    python benchmarks/scaling.py --factors experts rank --repeats 9

One factor is changed at a time, the others stay as they are (E=8, R=8, all layers adapted, q and v, 64 profiles). The
values of a factor are timed in turns; `x first` is the median of the ratios to the first value's step in the same
round. `questions` keeps the layers below the last third for that many questions, as training on surveys does.
`processes` starts real ones on this machine, which share its cores: what is seen is the cost of working together.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
from typing import Any

import steps

FACTORS: dict[str, tuple[int, ...]] = {
    "experts": (2, 4, 8, 16, 32),
    "rank": (4, 8, 16, 64),
    "tokens": (48, 96, 192, 384),
    "rows": (4, 8, 16, 32),
    "layers": (1, 2, 4, 6),
    "profiles": (64, 4096, 65536),
    "questions": (16, 256, 1024),
    "processes": (1, 2),
}


def made(bench: steps.Bench, factor: str, value: int) -> steps.Step:
    """The step in which `factor` is `value`."""
    rank = value if factor == "rank" else 8
    named: dict[str, Any] = {
        "experts": {"experts": value},
        "tokens": {"length": value},
        "rows": {"batch": value},
        "layers": {"layers": min(value, bench.shape.layers)},
        "profiles": {"profiles": value},
        "questions": {"questions": value, "layers": max(bench.shape.layers // 3, 1)},
    }
    return bench.step("cuma", rank, "option", **named.get(factor, {}))


def in_processes(args: argparse.Namespace, count: int) -> list[float]:
    """Seconds of each step that `count` processes take together, each with one device and its share of the rows."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    environment = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
    command = [sys.executable, __file__, *sys.argv[1:], "--worker"]
    workers = [
        subprocess.Popen([*command, f"{address},{count},{i}"], stdout=subprocess.PIPE, text=True, env=environment)
        for i in range(count)
    ]
    said = [worker.communicate()[0] for worker in workers]
    if any(worker.returncode for worker in workers):
        raise SystemExit("a worker process failed; see its message above")
    return json.loads(said[0].splitlines()[-1])


def work(args: argparse.Namespace) -> None:
    """One of several processes: takes its part in the steps; the first says how long they took."""
    import jax

    address, count, index = args.worker.split(",")
    if jax.config.jax_platforms in (None, "", "cpu"):
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(address, int(count), int(index))
    seconds, _ = steps.times_in_turns({"": steps.Bench(args, devices=0).step("cuma", 8, "option")}, args.repeats)
    if index == "0":
        print(json.dumps(seconds[""]), flush=True)


def main() -> None:
    """Parses, times, prints."""
    parser = steps.shape_arguments(__doc__.splitlines()[0])
    parser.set_defaults(shape="smollm2-135m", layers=6, batch=8, length=96, repeats=5)
    parser.add_argument("--factors", nargs="+", choices=tuple(FACTORS), default=list(FACTORS), help="what is changed")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        work(args)
        return
    results: dict[str, Any] = {}
    bench = None
    for factor in args.factors:
        values = FACTORS[factor]
        if factor == "processes":
            seconds = {str(value): in_processes(args, value) for value in values}
        else:
            bench = bench or steps.Bench(args)
            seconds = {}
            turns = {str(value): made(bench, factor, value) for value in values}
            seconds, _ = steps.times_in_turns(turns, args.repeats)
        first = seconds[str(values[0])]
        results[factor] = {}
        for value, taken in seconds.items():
            figures = steps.summary(taken) | {"ratio": steps.paired_ratio(taken, first)}
            results[factor][value] = figures
            print(
                f"{factor:10s} {int(value):7,d}  {figures['median_s']:8.4f} s a step ({figures['min_s']:.4f} to "
                f"{figures['max_s']:.4f})  {figures['ratio']:5.2f} x first",
                flush=True,
            )
    steps.report(args, results)


if __name__ == "__main__":
    main()
