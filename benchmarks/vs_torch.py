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
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import steps

TASKS = {"all": "all", "survey": "answer"}
OURS, THEIRS = ("cuma", "lora"), ("peft_lora",)


class Worker:
    """The other end of a process that takes steps of one framework on request."""

    def __init__(self, framework: str, arguments: list[str]):
        self._process = subprocess.Popen(
            [sys.executable, __file__, *arguments, "--worker", framework],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"},  # both share one GPU, if there is one
        )
        self.about = self._read()

    def step(self, method: str, task: str) -> dict[str, float]:
        """Takes one step; its seconds and loss."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([method, task]) + "\n")
        self._process.stdin.flush()
        return self._read()

    def close(self) -> None:
        """Ends the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"a worker process ended early, exit code {self._process.wait()}; see its message above")
        return json.loads(line)


def our_steps(args: argparse.Namespace) -> tuple[dict[str, str], Callable[[str, str], tuple[float, float]]]:
    """Versions, and a function (method, task) -> (seconds, loss)."""
    import jax

    bench, made = steps.Bench(args), {}

    def take(method: str, task: str) -> tuple[float, float]:
        if (method, task) not in made:
            made[method, task] = bench.step(method, args.rank, TASKS[task])
        step = made[method, task]
        return step(), step.loss

    return {"jax": jax.__version__, "device": jax.devices()[0].device_kind}, take


def torch_steps(args: argparse.Namespace) -> tuple[dict[str, str], Callable[[str, str], tuple[float, float]]]:
    """Versions, and a function (method, task) -> (seconds, loss)."""
    import peft
    import torch
    import transformers

    from cuma_jax.models.families import SHAPES

    torch.set_num_threads(os.cpu_count() or 1)
    torch.manual_seed(0)
    shape = SHAPES[args.shape]
    known = {"qwen3": transformers.Qwen3Config, "llama": transformers.LlamaConfig}
    config = known[shape.family](
        vocab_size=shape.vocab,
        hidden_size=shape.width,
        num_hidden_layers=args.layers or shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        head_dim=shape.head_dim,
        intermediate_size=shape.ffn,
        rms_norm_eps=shape.norm_eps,
        rope_parameters={"rope_type": "default", "rope_theta": shape.rope_theta},
        tie_word_embeddings=shape.tied,
        use_cache=False,
    )
    device = "cuda" if torch.cuda.is_available() else "cpu"
    with torch.device(device):
        base = transformers.AutoModelForCausalLM.from_config(config, dtype=getattr(torch, args.dtype))
    model: Any = peft.get_peft_model(
        base, peft.LoraConfig(r=args.rank, lora_alpha=2 * args.rank, target_modules=[f"{n}_proj" for n in args.targets])
    )
    model.train()
    trainable = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trainable, lr=1e-3)

    def take(method: str, task: str) -> tuple[float, float]:
        tokens_BT = torch.from_numpy(steps.survey_batch(args, shape.vocab, "all")["tokens"]).long().to(device)
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
        return time.perf_counter() - began, value

    attention = str(getattr(model.config, "_attn_implementation", "?"))
    versions = {"torch": torch.__version__, "peft": peft.__version__, "transformers": transformers.__version__}
    return versions | {"attention": attention, "threads": str(torch.get_num_threads())}, take


def serve(framework: str, args: argparse.Namespace) -> None:
    """The worker's loop: a JSON line [method, task] in, a JSON line of figures out."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints must not be taken for an answer
    about, take = (our_steps if framework == "ours" else torch_steps)(args)
    print(json.dumps(about), file=answers, flush=True)
    for line in sys.stdin:
        seconds, loss = take(*json.loads(line))
        print(json.dumps({"seconds": seconds, "loss": loss}), file=answers, flush=True)


def compare(args: argparse.Namespace, task: str, ours: Worker, theirs: Worker) -> dict[str, Any]:
    """Times one task, prints its table, and returns the figures."""
    workers = dict.fromkeys(OURS, ours) | dict.fromkeys(THEIRS, theirs)
    first = {method: worker.step(method, task)["loss"] for method, worker in workers.items()}  # compiles, too
    for method, worker in workers.items():
        worker.step(method, task)
    seconds: dict[str, list[float]] = {method: [] for method in workers}
    for _ in range(args.repeats):
        for method, worker in workers.items():
            seconds[method].append(worker.step(method, task)["seconds"])
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
            f"{task:7s} {name:20s} {figures['median_s']:8.3f} s a step ({figures['min_s']:.3f} to "
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
        serve(args.worker, args)
        return
    workers = {name: Worker(name, sys.argv[1:]) for name in ("ours", "theirs")}
    results = {name: worker.about for name, worker in workers.items()}
    print("\n".join(f"{name}: {about}" for name, about in results.items()))
    print(f"{args.shape} shape, batch {args.batch} x {args.length}, rank {args.rank}; random weights")
    for task in args.tasks:
        results[task] = compare(args, task, workers["ours"], workers["theirs"])
    for worker in workers.values():
        worker.close()
    steps.report(args, results)


if __name__ == "__main__":
    main()
