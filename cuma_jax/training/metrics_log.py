"""Where metrics go: metrics.jsonl is the record; TensorBoard and Weights & Biases mirror it."""

import json
import pathlib
import sys
import time
from typing import Any, TextIO

from tqdm import tqdm

from cuma_jax.config import RunConfig
from cuma_jax.run.folder import METRICS_FILE
from cuma_jax.runtime.errors import CumaError

Line = dict[str, Any]
"""Step, and values by name; `interference` holds values by block and name."""


class MetricsLog:
    """Writes each line to every place that `config` switches on; not `active` (processes other than 0), nothing."""

    def __init__(self, folder: pathlib.Path, config: RunConfig, active: bool):
        self._file: TextIO | None = None
        self._tensorboard: Any = None
        self._wandb: Any = None
        if not active:
            return
        if config.wandb:
            self._wandb = _start_wandb(folder, config.wandb)
        self._file = (folder / METRICS_FILE).open("a", encoding="utf-8")
        if config.tensorboard:
            from tensorboardX import SummaryWriter

            self._tensorboard = SummaryWriter(str(folder / "tensorboard"))

    def write(self, line: Line) -> None:
        """One object a line; it must have `step`. Evaluations have `eval`, the name of their split; measurements of how
        gradients agree have `interference` instead of a loss."""
        if self._file is None:
            return
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()
        prefix = f"{line['eval']}/" if "eval" in line else "train/"
        values = {f"{prefix}{k}": v for k, v in line.items() if k not in ("step", "eval", "interference")}
        for block, figures in line.get("interference", {}).items():
            values |= {f"interference/{block}/{k}": v for k, v in figures.items() if v is not None}
        if self._tensorboard is not None:
            for name, value in values.items():
                self._tensorboard.add_scalar(name, value, line["step"])
        if self._wandb is not None:
            self._wandb.log(values, step=line["step"])

    def close(self) -> None:
        """Closes every place."""
        if self._file is not None:
            self._file.close()
        if self._tensorboard is not None:
            self._tensorboard.close()
        if self._wandb is not None:
            self._wandb.finish()


def _start_wandb(folder: pathlib.Path, project: str) -> Any:
    try:
        import wandb
    except ImportError:
        raise CumaError("run.wandb needs the package wandb: pip install 'cuma_jax[wandb]'") from None
    return wandb.init(project=project, dir=str(folder), name=folder.name)


class Progress:
    """A bar on a terminal, elsewhere a plain line every `every` steps: speed, loss, balance, time left.

    `start` of the `total` steps are done before; `active`: whether this process shows anything.
    """

    def __init__(self, total: int, start: int, every: int, active: bool):
        self._bar = None
        self._active, self._total, self._every, self._start = active, total, every, start
        self._began: float | None = None
        self._latest: Line | None = None
        if active and sys.stderr.isatty():
            self._bar = tqdm(total=total, initial=start, unit="step", dynamic_ncols=True, smoothing=0.1)

    def update(self, step: int, line: Line | None) -> None:
        """Step number `step` is done; `line` holds metrics where they were logged."""
        self._latest = line or self._latest
        if self._bar is not None:
            self._bar.update(step - self._bar.n)
            if line is not None:
                self._bar.set_postfix_str(_short(line))
        elif self._active and self._latest and (self._began is None or step % self._every == 0 or step == self._total):
            left = "compiled" if self._began is None else f"{self._seconds_left(step):.0f} s left"
            print(f"step {step}/{self._total}  {_short(self._latest)}  {left}", file=sys.stderr, flush=True)
        if self._began is None:  # the first step is compilation; it says nothing about the others
            self._began, self._start = time.perf_counter(), step

    def _seconds_left(self, step: int) -> float:
        spent = time.perf_counter() - (self._began or 0.0)
        return spent / max(step - self._start, 1) * (self._total - step)

    def say(self, text: str) -> None:
        """A message that does not break the bar."""
        if self._active:
            tqdm.write(text, file=sys.stderr) if self._bar is not None else print(text, file=sys.stderr, flush=True)

    def close(self) -> None:
        """Closes the bar."""
        if self._bar is not None:
            self._bar.close()


def _short(line: Line) -> str:
    first = f"reward {line['reward']:.4f}" if "reward" in line else f"loss {line['loss']:.4f}"
    parts = [first, f"balance {line['balance']:.3f}"]
    return "  ".join([*parts, f"{line['tokens_per_s']:.0f} tokens/s", f"{line['examples_per_s']:.1f} examples/s"])
