"""The figure of WorldValuesBench's own program, of a file of predictions; no run is needed."""

import dataclasses
import json
import pathlib
from typing import Literal

from cuma_jax.runtime.errors import CumaError


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


def paper_metrics(options: PaperOptions) -> None:
    """EMD by question of a file of predictions, as WorldValuesBench's own program computes it.

    Raises:
        CumaError: a bad option or file; see `evaluation.surveys.wvb_emd`.
    """
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
