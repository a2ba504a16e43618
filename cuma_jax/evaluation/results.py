"""What an evaluation leaves behind: results.json, per_cell.parquet, resamples.npz and a table for the terminal.

resamples.npz holds the bootstrap of each split, so that two runs can be compared as pairs (`read_resamples`; numpy's
format, nothing pickled). Its keys are `SPLIT/NAME`, with Q the split's questions, B `evaluation.bootstrap` and K its
clusters of respondents:

| NAME | what |
|---|---|
| `questions` | [Q] text, ids; the order of every Q below |
| `several_groups` | [Q] bool, questions with three or more groups (`several_groups` in results.json) |
| `answers` | [Q] int64, scored answers |
| `emd`, `js`, `nll`, `accuracy`, `spread_ratio`, `correlation` | [Q,B] float32, the model's; NaN where not defined |
| `uniform_emd`, `pooled_emd`, ... | [Q,B] float32, of each baseline; `pooled`: all training answers together |
| `floor` | [Q] float64; it is not resampled; NaN of shares, which have none |
| `key` | text, a hash of who is in which cluster, the seed and B |

Column b of every array is one draw of respondents. Two runs whose `key` of a split is the same drew the same people in
every column (the draws depend on the seed, the split and K only), so the difference of their columns is a paired
resample of the difference. Point estimates are in results.json, `splits[SPLIT]["questions"][id]["methods"]`.
"""

import dataclasses
import json
import pathlib
import shlex
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from cuma_jax.config.saved import RESULTS_FILE
from cuma_jax.evaluation.metrics.spread import MIN_GROUPS
from cuma_jax.runtime.errors import CumaError
from cuma_jax.runtime.files import atomic_write, read_arrays, undamaged, write_text
from cuma_jax.runtime.json_files import read_object
from cuma_jax.runtime.text_table import interval_text, number_text, text_table

if TYPE_CHECKING:
    from cuma_jax.evaluation.surveys.logistic import Logistic
    from cuma_jax.evaluation.surveys.prediction import Predictions

SCHEMA = 2
"""Version of results.json."""
PER_CELL_FILE, RESAMPLES_FILE = "per_cell.parquet", "resamples.npz"


@dataclasses.dataclass(frozen=True)
class Results:
    """Scores of one evaluation.

    Attributes:
        values: plain JSON values; `values["splits"][split]` has `n`, `overall`, `several_groups`, `few_groups` (means
            over the questions with three or more groups and with fewer; None where there are none) and
            `questions[id]`; these have `methods[method][metric]`, `floor`, `share_closed`, `difference` and `spread`.
            A metric is {value, low, high, answers, respondents, cells, questions}; None where it is not defined
            (where respondents are no persons: floors, intervals, and what is corrected for the noise of a sample).
            Besides, a split has `paper` (`cuma_paper.paper_metrics`), `equity` (`equity.equity`) and `calibration`
            (`summaries.reliability`). `values["option_order"]` (`option_orders.sensitivity`) is there where
            `evaluation.option_orders` is above 1.
        per_cell: one row a (split, question, group) cell.
        resamples: what resamples.npz holds (see above); empty for preference data, and for results read from disk.
        predictions, logistic: what was scored, as long as this process lives; None as `resamples` is empty.
    """

    values: dict[str, Any]
    per_cell: pd.DataFrame
    resamples: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    predictions: "Predictions | None" = None
    logistic: "Logistic | None" = None


def write_results(results: Results, run_dir: pathlib.Path, process_index: int = 0) -> None:
    """Writes the three files, each whole or not at all, results.json last; processes other than 0 write nothing."""
    if process_index != 0:
        return
    (run_dir / RESAMPLES_FILE).unlink(missing_ok=True)  # never an older evaluation's beside new results
    if results.resamples:
        atomic_write(run_dir / RESAMPLES_FILE, lambda part: _write_arrays(part, results.resamples))
    text = json.dumps(results.values, indent=1, ensure_ascii=False, allow_nan=False)
    atomic_write(run_dir / PER_CELL_FILE, lambda part: results.per_cell.to_parquet(part, index=False))
    write_text(run_dir / RESULTS_FILE, text + "\n")


def _write_arrays(path: pathlib.Path, arrays: dict[str, np.ndarray]) -> None:
    with path.open("wb") as file:  # savez would add a second .npz to a path that does not end in it
        np.savez_compressed(file, allow_pickle=False, **arrays)  # type: ignore[arg-type]


def read_resamples(run_dir: pathlib.Path) -> dict[str, np.ndarray]:
    """What `resamples.npz` of a run holds, by the keys above; a CumaError where it is missing or damaged."""
    path = run_dir / RESAMPLES_FILE
    try:
        return read_arrays(path, _score_again(run_dir))
    except FileNotFoundError:
        raise CumaError(f"{run_dir} has no {path.name}; {_score_again(run_dir)}") from None


def read_results(run_dir: pathlib.Path) -> Results:
    """The results that `write_results` left; a CumaError where a file is missing, or of another version."""
    for name in (RESULTS_FILE, PER_CELL_FILE):
        if not (run_dir / name).is_file():
            raise CumaError(f"{run_dir} has no {name}; {_score_again(run_dir)}")
    values = read_object(run_dir / RESULTS_FILE, _score_again(run_dir))
    if values.get("schema") != SCHEMA:
        raise CumaError(
            f"{run_dir / RESULTS_FILE} has schema {values.get('schema')!r}, this version reads {SCHEMA}; evaluate again"
        )
    with undamaged(run_dir / PER_CELL_FILE, _score_again(run_dir)):
        return Results(values, pd.read_parquet(run_dir / PER_CELL_FILE))


def is_scored(run_dir: pathlib.Path) -> bool:
    """Whether a run is trained to its end, and scored; a CumaError where its results.json is damaged."""
    path, advice = run_dir / RESULTS_FILE, "delete it, and the run is scored again"
    if not path.is_file():
        return False
    values = read_object(path, advice)
    if not isinstance(values.get("about", {}), dict):
        raise CumaError(f"{path} is damaged: it does not hold scores; {advice}")
    return values.get("schema") == SCHEMA and values.get("about", {}).get("unfinished") is False


def _score_again(run_dir: pathlib.Path) -> str:
    return f"run `python -m cuma_jax.evaluate --run {shlex.quote(str(run_dir))}`"


def summary_table(results: Results) -> str:
    """A plain-text table for the terminal: overall and by question for each split, questions of 1-2 groups together."""
    group = " x ".join(results.values["group_by"])
    header = ["split", "question", "CuMA EMD [95%]", "pooled", group, "floor", "closed", "spread", "corr"]
    rows: list[list[str]] = []
    persons = results.values.get("persons", True)
    for split, scores in results.values["splits"].items():
        blocks = {"overall": scores["overall"]}
        several, few = scores["several_groups"], scores["few_groups"]
        if several and few:
            blocks["with 3+ groups"] = several
        for name, block in scores["questions"].items():
            # Without a comparison between groups a question says little; dozens of such lines would bury the others.
            if block["methods"]["model"]["emd"]["cells"] >= MIN_GROUPS or not several:
                blocks[name] = block
        if several and few:
            blocks[f"{few['floor']['questions']} with 1-2 groups"] = few
        for position, (name, block) in enumerate(blocks.items()):
            model, pooled, own = (block["methods"][method] for method in ("model", "pooled", "group"))
            rows.append([
                split if position == 0 else "",
                name + (" *" if block.get("distance") == "total_variation" else ""),
                interval_text(model["emd"]),
                number_text(pooled["emd"]["value"]),
                number_text(own["emd"]["value"]),
                number_text(block["floor"]["value"]),
                number_text(block["share_closed"]["model"]["value"], "{:.0%}"),
                number_text(model["spread_ratio"]["value"], "{:.2f}"),
                number_text(model["correlation"]["value"], "{:.2f}"),
            ])  # fmt: skip
    notes = [
        f"EMD: distance between true and predicted distributions by {group}, 0 to 1, less is better; beside it the "
        "training answers' marginals",
        "(pooled: of all of them; next: of the group's own). floor: what sampling alone costs. closed: share of the "
        "way from pooled to floor.",
        "spread: predicted over true spread of group means (1 is right, 0 is mean collapse). corr: of group means.",
    ]
    if "hold" in results.values:
        counts = sorted(results.values["hold"].values())
        notes.append(
            f"Held to pooled (evaluation.hold): the model counts {counts[0]:.2f} to {counts[-1]:.2f}, by question; 0 "
            "is pooled, 1 the model alone."
        )
    if not persons:
        notes.append("Shares, not persons: there is no floor (closed counts from 0), nor intervals over persons.")
    for split, scores in results.values["splits"].items():
        if other := (scores.get("over_groups") or {}).get("pooled"):
            low, high = (number_text(other[bound], "{:+.4f}") for bound in ("low", "high"))
            notes.append(
                f"{split}: EMD minus pooled's {number_text(other['value'], '{:+.4f}')}, nearer in {other['nearer']} of "
                f"{other['groups']} groups; with the groups drawn anew [{low}, {high}]."
            )
    if any("*" in row[1] for row in rows):
        notes.append("* options without an order: total variation instead of EMD.")
    return text_table(header, rows, range(2, len(header)), notes)
