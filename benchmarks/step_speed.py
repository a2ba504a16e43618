"""Tokens per second, share of the arithmetic's ceiling, and memory of a train step: methods x ranks x targets.

    python benchmarks/step_speed.py                                     Qwen3-0.6B shape, batch 4 x 128, float32
    python benchmarks/step_speed.py --shape qwen3-8b --dtype bfloat16 --remat dots --batch 32 --length 96   a GPU
    python benchmarks/step_speed.py --shape tiny --layers 1 --repeats 2                  a second or two

Random weights, E=8, K=2. Steps of one rank are taken in turns; a ratio is the median of neighbouring ones, beside plain
LoRA of the same rank and targets. `of ceiling` sets the step's useful FLOP/s (see `steps.useful_flops`) beside the best
single matrix product of this run (tokens x width x MLP width); where the chip's peak is known, `MFU` sets it beside
that. `first` is the first step: compiling, or reading the compiled program from the cache.

To reach: CuMA at most 1.10 times a LoRA step at rank 8 and 1.25 at rank 64 on a GPU (q, v), 1.15 and 1.3 on a CPU.
"""

import steps

SETS = {"qv": ("q", "v"), "all": ("q", "k", "v", "o", "gate", "up", "down")}


def main() -> None:
    """Parses, times, prints."""
    parser = steps.shape_arguments(__doc__.splitlines()[0])
    parser.add_argument(
        "--methods", nargs="+", default=["lora", "mixlora", "cuma_profile", "cuma"], help="see --method"
    )
    parser.add_argument("--ranks", type=int, nargs="+", default=[8, 64], help="adapter ranks")
    parser.add_argument("--sets", nargs="+", choices=tuple(SETS), default=["qv"], help="adapted linears, by name")
    parser.add_argument(
        "--supervised", choices=("option", "answer", "all"), default="answer", help="positions with a loss"
    )
    args = parser.parse_args()
    if "lora" not in args.methods:
        args.methods = ["lora", *args.methods]
    bench = steps.Bench(args)
    peak = steps.chip_peak(args.dtype)
    ceiling = steps.matmul_ceiling(args, bench.shape.width, bench.shape.ffn)
    useful = bench.useful_flops(args.batch, args.length, args.supervised)
    print(f"{args.shape} shape, {bench.shape.layers} layers, batch {args.batch} x {args.length}, {args.dtype}, "
          f"remat {args.remat}, base {args.quantize}; one matrix product reaches {ceiling / 1e12:.2f} TFLOP/s"
          + (f", the chip's peak is {peak / 1e12:.0f}" if peak else ""))  # fmt: skip
    results = {"matmul_flops_per_s": ceiling, "chip_peak_flops_per_s": peak, "steps": []}
    for targets in args.sets:
        for rank in args.ranks:
            made = {m: bench.step(m, rank, args.supervised, targets=SETS[targets]) for m in args.methods}
            seconds, first = steps.times_in_turns(made, args.repeats)
            for method in args.methods:
                figures = steps.summary(seconds[method])
                rate = useful / figures["median_s"]
                row = {"method": method, "rank": rank, "targets": targets, "first_s": first[method], **figures,
                       "tokens_per_s": args.batch * args.length / figures["median_s"], "of_ceiling": rate / ceiling,
                       "mfu": rate / peak if peak else None, "peak_bytes": steps.peak_bytes(),
                       "beside_lora": steps.paired_ratio(seconds[method], seconds["lora"])}  # fmt: skip
                results["steps"].append(row)
                mfu = f"MFU {row['mfu']:.0%}  " if peak else ""
                print(
                    f"{targets:4s} R={rank:<3d} {method:13s} {row['median_s']:8.4f} s ({row['min_s']:.4f} to "
                    f"{row['max_s']:.4f})  {row['tokens_per_s']:9.0f} tokens/s  {row['of_ceiling']:4.0%} of ceiling  "
                    f"{mfu}{row['beside_lora']:.2f} x LoRA  first {row['first_s']:.1f} s  "
                    f"peak so far {row['peak_bytes'] / 1e9:.2f} GB",
                    flush=True,
                )
            del made
    steps.report(args, results)


if __name__ == "__main__":
    main()
