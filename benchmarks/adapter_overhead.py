"""What a CuMA step costs beside a plain LoRA step of the same rank, both in this package.

    python benchmarks/adapter_overhead.py                          Qwen3-0.6B shape, batch 4 x 128, float32
    python benchmarks/adapter_overhead.py --shape tiny             a second or two

Random weights; E=8, K=2, q and v of every layer; one supervised position a row, so that no large logits blur the
comparison. Steps are taken in turns and the ratio is the median of neighbouring ones. To reach on a CPU with the
default shape: at most 1.15 at rank 8 and 1.3 at rank 64.
"""

import steps

LIMITS = {8: 1.15, 64: 1.3}
METHODS = ("lora", "cuma")


def main() -> None:
    """Parses, times, prints."""
    parser = steps.shape_arguments(__doc__.splitlines()[0])
    parser.add_argument("--ranks", type=int, nargs="+", default=[8, 64], help="adapter ranks to compare at")
    args = parser.parse_args()
    bench, results = steps.Bench(args), {}
    for rank in args.ranks:
        by_method = {method: bench.step(method, rank, "option") for method in METHODS}
        for step in by_method.values():
            step()  # compiles
            step()
        seconds: dict[str, list[float]] = {method: [] for method in METHODS}
        for _ in range(args.repeats):
            for method, step in by_method.items():
                seconds[method].append(step())
        ratio = steps.paired_ratio(seconds["cuma"], seconds["lora"])
        results[f"rank_{rank}"] = {m: steps.summary(s) for m, s in seconds.items()} | {"ratio": ratio}
        for method in METHODS:
            figures = steps.summary(seconds[method])
            print(
                f"rank {rank:3d}  {method:5s} {figures['median_s']:8.4f} s a step "
                f"({figures['min_s']:.4f} to {figures['max_s']:.4f})"
            )
        asked = rank in LIMITS and args.shape == parser.get_default("shape") and not args.layers
        goal = f"  (to reach: at most {LIMITS[rank]})" if asked else ""
        print(f"rank {rank:3d}  cuma / lora = {ratio:.3f}{goal}", flush=True)
    steps.report(args, results)


if __name__ == "__main__":
    main()
