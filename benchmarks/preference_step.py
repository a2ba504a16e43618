"""What a DPO step costs in SFT steps of the same number of rows: `python benchmarks/preference_step.py`.

Both are train steps of this package on made-up rows of one length, taken in turns: sft on B rows, every token
supervised, and dpo on B pairs (2 B replies), every token supervised, the reference's log-probabilities in the batch.
"""

from steps import Bench, paired_ratio, report, shape_arguments, summary, times_in_turns

LIMIT = 2.2
"""What a DPO step may cost."""


def main() -> None:
    """Times the steps of every method asked for, and prints their ratio."""
    parser = shape_arguments(__doc__ or "")
    parser.add_argument("--methods", nargs="+", default=["cuma", "lora"], help="methods to time")
    parser.add_argument("--rank", type=int, default=8, help="rank of each expert")
    args = parser.parse_args()
    bench, results = Bench(args), {}
    for method in args.methods:
        made = {kind: bench.step(method, args.rank, kind) for kind in ("all", "pairs")}
        seconds, _ = times_in_turns(made, args.repeats)
        ratio = paired_ratio(seconds["pairs"], seconds["all"])
        sft, dpo = summary(seconds["all"]), summary(seconds["pairs"])
        results[method] = {"sft": sft, "dpo": dpo, "ratio": ratio}
        print(
            f"{method}, {args.batch} rows of {args.length} tokens: sft {sft['median_s']:.3f} s, dpo "
            f"{dpo['median_s']:.3f} s per step, {ratio:.2f} sft steps (at most {LIMIT})",
            flush=True,
        )
    report(args, {"limit": LIMIT, "methods": results})


if __name__ == "__main__":
    main()
