"""How far exported adapters are from the run's own model: KL of the distributions over the options.

Each exported adapter is run here as plain LoRA, which is what PEFT makes of it.

Shapes: N (profile, question) pairs, O options.
"""

import json
import pathlib
from typing import Any

import numpy as np

from cuma_jax.evaluation.surveys.prediction import predict_rows
from cuma_jax.interop.export.peft_adapters import as_plain_lora
from cuma_jax.interop.formats.peft_folder import PeftAdapter
from cuma_jax.run.forward import predict
from cuma_jax.run.inference import Step, row_step
from cuma_jax.run.run import Run
from cuma_jax.runtime.sharding import replicated

Tree = Any
FILE = "parity.json"


class Parity:
    """Compares adapters, one profile after another; adapters of one rank share one program."""

    def __init__(self, run: Run, adapters: Tree):
        self._run, self._adapters = run, adapters
        self._exact = row_step(run, predict)
        self._plain: dict[int, Step] = {}

    def of(self, peft: PeftAdapter, row: int, questions: np.ndarray) -> dict[str, float]:
        """KL(run || exported) in nats over `questions` put to profile `row`: mean, largest, and how many."""
        adapter, router, tree = as_plain_lora(peft)
        if peft.rank not in self._plain:
            plain = self._run.decoder.clone(adapter=adapter, router=router, projection_layers=0)
            self._plain[peft.rank] = row_step(self._run, predict, plain, replicated(self._run.mesh))
        p_NO = self._predict(self._exact, self._adapters, row, questions)
        q_NO = self._predict(self._plain[peft.rank], tree, row, questions)
        kl_N = kl_divergence(p_NO, q_NO)
        return {"kl_mean": float(kl_N.mean()), "kl_max": float(kl_N.max()), "n": len(kl_N)}

    def _predict(self, step: Step, adapters: Tree, row: int, questions: np.ndarray) -> np.ndarray:
        layout = self._run.prediction
        assert layout is not None
        profile_N = np.full(len(questions), row, np.int32)
        return predict_rows(self._run, step, adapters, layout, profile_N, questions)[0]


def kl_divergence(p_NO: np.ndarray, q_NO: np.ndarray) -> np.ndarray:
    """KL(p || q) of each row, nats, float64 [N]; options past a question's are zero in both."""
    p_NO, q_NO = np.asarray(p_NO, np.float64), np.asarray(q_NO, np.float64)
    # In float64 they must add up to 1, or near zero the KL would be negative.
    p_NO, q_NO = p_NO / p_NO.sum(1, keepdims=True), q_NO / q_NO.sum(1, keepdims=True)
    ratio_NO = np.divide(p_NO, q_NO, out=np.ones_like(p_NO), where=(p_NO > 0) & (q_NO > 0))
    return np.sum(p_NO * np.log(ratio_NO), axis=1)


def summary(entries: list[dict[str, Any]]) -> dict[str, Any]:
    """Over all profiles that were compared: KL of the mean (profile, question) pair, the largest, and the numbers."""
    done = [entry["parity"] for entry in entries if entry.get("parity")]
    pairs = sum(d["n"] for d in done)
    mean = sum(d["kl_mean"] * d["n"] for d in done) / pairs if pairs else None
    largest = max((d["kl_max"] for d in done), default=None)
    return {"kl_mean": mean, "kl_max": largest, "profiles": len(done), "pairs": pairs}


def write_report(folder: pathlib.Path, about: dict[str, Any], entries: list[dict[str, Any]]) -> None:
    """Writes parity.json: what was compared, over all, and each profile."""
    report = {
        "what": "KL(run || exported adapter) of the distribution over the options of a question, nats",
        **about, "overall": summary(entries),
        "profiles": [{k: e[k] for k in ("folder", "text", "parity")} for e in entries if e.get("parity")],
    }  # fmt: skip
    (folder / FILE).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def table(entries: list[dict[str, Any]]) -> str:
    """The comparison as lines to print: the profiles that are furthest off, and all together."""
    done = sorted((e for e in entries if e.get("parity")), key=lambda e: -e["parity"]["kl_mean"])
    if not done:
        return "no exported adapter was compared with the run: there are no survey questions to ask"
    lines = [f"{'KL mean':>10} {'KL max':>10} {'n':>5}  profile (nats; the {min(len(done), 10)} furthest off)"]
    for e in done[:10]:
        p = e["parity"]
        lines.append(f"{p['kl_mean']:10.2e} {p['kl_max']:10.2e} {p['n']:5}  {e['folder']}: {e['text'][:70]}")
    total = summary(entries)
    lines.append(
        f"{total['kl_mean']:10.2e} {total['kl_max']:10.2e} {total['pairs']:5}  all pairs of a question and one of "
        f"{total['profiles']} profiles"
    )
    return "\n".join(lines)
