"""What the scripts share that time this package beside torch: a process for each, and a shape's model in torch."""

import argparse
import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any


class Worker:
    """The other end of a process that does timed work of one framework on request.

    Args:
        script: of the process, run with `--worker FRAMEWORK`; it calls `serve`.
        framework: `ours` or `theirs`.
        arguments: further arguments.

    Attributes:
        about: versions, from `serve`.
    """

    def __init__(self, script: str, framework: str, arguments: list[str]):
        self._process = subprocess.Popen(
            [sys.executable, script, *arguments, "--worker", framework],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"},  # both share one GPU, if there is one
        )
        self.about = self._read()

    def ask(self, *request: Any) -> dict[str, Any]:
        """What the process answers to a request of JSON values."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
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


@contextlib.contextmanager
def both(script: str) -> Iterator[dict[str, Worker]]:
    """A worker of each framework, by its name; they end with the context."""
    workers = {name: Worker(script, name, sys.argv[1:]) for name in ("ours", "theirs")}
    print("\n".join(f"{name}: {worker.about}" for name, worker in workers.items()))
    yield workers
    for worker in workers.values():
        worker.close()


def serve(start: Callable[[], tuple[dict[str, str], Callable[..., dict[str, Any]]]]) -> None:
    """A worker's loop: a JSON line in, a JSON line out. `start` gives versions, and what answers requests."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints must not be taken for an answer
    about, answer = start()
    print(json.dumps(about), file=answers, flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(*json.loads(line))), file=answers, flush=True)


def torch_model(args: argparse.Namespace, cached: bool) -> tuple[Any, str, dict[str, str]]:
    """A shape's model with random weights in torch, its device, and versions.

    Args:
        args: `shape`, `layers` and `dtype` of `steps.shape_arguments`.
        cached: whether the model keeps keys and values, as for writing.
    """
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
        use_cache=cached,
    )
    device = "cuda" if torch.cuda.is_available() else "cpu"
    with torch.device(device):
        model = transformers.AutoModelForCausalLM.from_config(config, dtype=getattr(torch, args.dtype))
    attention = str(getattr(model.config, "_attn_implementation", "?"))
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    return model, device, versions | {"attention": attention, "threads": str(torch.get_num_threads())}
