"""What `python -m cuma_jax.evaluate` does: scores a run, compares it with another side, or scores a file."""

import dataclasses
import json
import pathlib
import sys
from typing import Literal

from cuma_jax.commands.command_line import (
    EvaluationSections,
    UsedRun,
    asks_for_help,
    check_at_least,
    joined,
    parse,
    parse_saved_run,
    peek,
)
from cuma_jax.config import JudgeConfig, SamplingConfig
from cuma_jax.runtime.errors import CumaError

_HELP = """Scores a trained run on held-out answers; writes results.json, per_cell.parquet and report.html.

With --preferences, who is preferred: replies of this run and of another side to the same held-out prompts, each with
the profile of the person who asked. Writes preferences.json, and adds to report.html. Without --judge.url the held-out
respondents of a survey judge themselves, and conversations have no win-rate. See docs/judging.md.

With --paper_metrics, without a run, WorldValuesBench's own figure for a file of predictions."""


@dataclasses.dataclass(frozen=True)
class PreferenceOptions(UsedRun):
    """Which run is compared with what."""

    preferences: bool = False
    """Who is preferred: this run's replies or another side's. The options below, --sampling.* and --judge.* go with
    it."""
    against: str = "base"
    """The other side: base, the model without adapters, or another run's folder."""
    prompts: int | None = None
    """Prompts that are judged (default: 100; 400 where respondents judge)."""
    pairs: int = 50
    """Pairs that people judged, on which the judge is compared with them."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least(self, 1, "prompts")
        check_at_least(self, 0, "pairs")


@dataclasses.dataclass(frozen=True)
class PreferenceSections(EvaluationSections):
    """What may differ with --preferences."""

    sampling: SamplingConfig
    judge: JudgeConfig


@dataclasses.dataclass(frozen=True)
class PaperOptions:
    """Without a run: WorldValuesBench's own figure for a file of predictions."""

    paper_metrics: str = ""
    """Without a run: a tsv or csv with the columns QUESTION_ID, PARTICIPANT_ID, SCORE. The options below go with it."""
    source: Literal["wvb"] = "wvb"
    """Whose figure: the only one that is published so."""
    wvb: str = ""
    """Your checkout of WorldValuesBench with its generated tables."""
    out: str = ""
    """Where to write {question: EMD}; without it, it is printed."""


@dataclasses.dataclass(frozen=True)
class _Mode:
    preferences: bool = False
    paper_metrics: str = ""


def main() -> None:
    """Reads the command line and the run, restores a checkpoint, scores it."""
    argv = sys.argv[1:]
    if asks_for_help(argv):
        parse("evaluate", _HELP, argv, PreferenceOptions, PaperOptions, PreferenceSections)
    mode = peek(_Mode, argv)
    if mode.paper_metrics:
        return paper_metrics(*parse("evaluate", _HELP, argv, PaperOptions))
    with joined(argv):
        if mode.preferences:
            asked, folder, config = parse_saved_run("evaluate", _HELP, argv, PreferenceOptions, PreferenceSections)
            from cuma_jax.commands.score_run import compare_with

            which = asked.checkpoint or config.evaluation.checkpoint
            compare_with(asked.against, config, folder, which, asked.prompts, asked.pairs)
        else:
            options, folder, config = parse_saved_run("evaluate", _HELP, argv, UsedRun, EvaluationSections)
            from cuma_jax.commands.score_run import build_saved, score
            from cuma_jax.run.trained import load_adapters

            run = build_saved(config)
            adapters, scored = load_adapters(run, folder, options.checkpoint or config.evaluation.checkpoint)
            score(run, adapters, folder, None, scored)


def paper_metrics(options: PaperOptions) -> None:
    """EMD by question of a file of predictions, as WorldValuesBench's own program computes it; no run is needed."""
    if not options.wvb:
        raise CumaError("--paper-metrics needs --wvb DIR, your checkout of WorldValuesBench with its generated tables")
    import numpy as np

    from cuma_jax.evaluation.surveys.wvb_emd import question_distances, read_score_file, threshold_auc
    from cuma_jax.runtime.files import write_text

    found = question_distances(read_score_file(pathlib.Path(options.paper_metrics)), pathlib.Path(options.wvb))
    text = json.dumps(found, indent=4)
    if not options.out:
        print(text)
        return
    write_text(pathlib.Path(options.out), text + "\n")
    distances = np.array(list(found.values()))
    auc = threshold_auc(distances)
    print(f"{len(found)} questions, mean EMD {distances.mean():.4f}, AUC {auc:.2f} of 60: {options.out}")
