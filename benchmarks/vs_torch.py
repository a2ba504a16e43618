"""Training speed beside Hugging Face PEFT in torch, on the same shapes, in one run.

    pip install -e '.[peers]'
    python benchmarks/vs_torch.py                              Qwen3-0.6B shape, batch 4 x 128, float32
    python benchmarks/vs_torch.py --layers 2 --repeats 3       a short look

Ours is CuMA (E=8, K=2, R=8, a router in every layer) and plain LoRA; theirs is plain LoRA of the same rank on the
same linears (q and v of every layer). A step on either side is: loss, gradient of the adapters, clipping at norm 1,
AdamW; no gradient checkpointing; all cores. Weights and tokens are random. Two tasks:

all     every token but the first is supervised, both sides compute logits at every position;
survey  the last two tokens of each row are supervised, as an answer's letter and end of turn are. transformers still
        computes logits at every position (its model's usual call with labels); ours only where they are needed.

Each framework has a process of its own that waits while the other one steps, so that neither memory nor threads are
shared. Steps are taken in turns; a ratio is the median of neighbouring ones. To reach on a CPU with the default
shape: CuMA 1.3 times as fast as their plain LoRA.
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

import peers
import steps

TASKS = {"all": "all", "survey": "answer"}
OURS, THEIRS = ("cuma", "lora"), ("peft_lora",)


def our_steps(args: argparse.Namespace) -> tuple[dict[str, str], Callable[[str, str], dict[str, float]]]:
    """Versions, and a function (method, task) -> seconds and loss of a step."""
    import jax

    bench, made = steps.Bench(args), {}

    def take(method: str, task: str) -> dict[str, float]:
        if (method, task) not in made:
            made[method, task] = bench.step(method, args.rank, TASKS[task])
        step = made[method, task]
        return {"seconds": step(), "loss": step.loss}

    return {"jax": jax.__version__, "device": jax.devices()[0].device_kind}, take


def torch_steps(args: argparse.Namespace) -> tuple[dict[str, str], Callable[[str, str], dict[str, float]]]:
    """Versions, and a function (method, task) -> seconds and loss of a step."""
    import peft
    import torch

    base, device, versions = peers.torch_model(args, cached=False)
    model: Any = peft.get_peft_model(
        base, peft.LoraConfig(r=args.rank, lora_alpha=2 * args.rank, target_modules=[f"{n}_proj" for n in args.targets])
    )
    model.train()
    trainable = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trainable, lr=1e-3)

    def take(method: str, task: str) -> dict[str, float]:
        vocab = base.config.vocab_size
        tokens_BT = torch.from_numpy(steps.survey_batch(args, vocab, "all")["tokens"]).long().to(device)
        labels_BT = tokens_BT.clone()
        if task == "survey":
            labels_BT[:, :-2] = -100
        began = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        loss = model(input_ids=tokens_BT, labels=labels_BT).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trainable, 1.0)
        optimizer.step()
        value = float(loss.detach())
        if device == "cuda":
            torch.cuda.synchronize()
        return {"seconds": time.perf_counter() - began, "loss": value}

    return versions | {"peft": peft.__version__}, take


def compare(args: argparse.Namespace, task: str, ours: peers.Worker, theirs: peers.Worker) -> dict[str, Any]:
    """Times one task, prints its table, and returns the figures."""
    workers = dict.fromkeys(OURS, ours) | dict.fromkeys(THEIRS, theirs)
    first = {method: worker.ask(method, task)["loss"] for method, worker in workers.items()}  # compiles, too
    for method, worker in workers.items():
        worker.ask(method, task)
    seconds: dict[str, list[float]] = {method: [] for method in workers}
    for _ in range(args.repeats):
        for method, worker in workers.items():
            seconds[method].append(worker.ask(method, task)["seconds"])
    results: dict[str, Any] = {}
    for method in workers:
        figures = steps.summary(seconds[method])
        tokens = args.batch * args.length / figures["median_s"]
        ratio = steps.paired_ratio(seconds[THEIRS[0]], seconds[method])
        results[method] = figures | {
            "tokens_per_s": tokens,
            "times_as_fast_as_peft": ratio,
            "first_loss": first[method],
        }
        name = f"ours: {method}" if method in OURS else "theirs: lora (PEFT)"
        print(
            f"{task:7s} {name:20s} {figures['median_s']:8.3f} s per step ({figures['min_s']:.3f} to "
            f"{figures['max_s']:.3f})  {tokens:9.1f} tokens/s  {ratio:6.2f} x theirs  first loss {first[method]:.3f}",
            flush=True,
        )
    return results


def main() -> None:
    """Parses, starts the workers, times, prints."""
    parser = steps.shape_arguments(__doc__.splitlines()[0])
    parser.add_argument("--rank", type=int, default=8, help="adapter rank on both sides")
    parser.add_argument("--tasks", nargs="+", choices=tuple(TASKS), default=list(TASKS), help="what is supervised")
    parser.add_argument("--worker", choices=("ours", "theirs"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        peers.serve(lambda: (our_steps if args.worker == "ours" else torch_steps)(args))
        return
    with peers.both(__file__) as workers:
        results = {name: worker.about for name, worker in workers.items()}
        print(f"{args.shape} shape, batch {args.batch} x {args.length}, rank {args.rank}; random weights")
        for task in args.tasks:
            results[task] = compare(args, task, workers["ours"], workers["theirs"])
    steps.report(args, results)


if __name__ == "__main__":
    main()
