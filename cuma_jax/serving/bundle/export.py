"""A run as a folder of its own: bundle, adapters, results and a model card; see `files`."""

import dataclasses
import json
import pathlib
import shutil

from cuma_jax.config import Config, to_dict
from cuma_jax.config.saved import ANALYSIS_TABLES, CONFIG_FILE, MAPS, RESULTS_FILE, read_config
from cuma_jax.run.saved_adapters import find_step, read_adapters
from cuma_jax.runtime.errors import CumaError
from cuma_jax.runtime.files import atomic_write
from cuma_jax.serving.about import about_of, keeps
from cuma_jax.serving.bundle.adapters import save_adapters
from cuma_jax.serving.bundle.card import card_text
from cuma_jax.serving.bundle.contents import bundle_folder
from cuma_jax.serving.bundle.files import (
    FACTS,
    PREDICTIONS,
    SHOTS,
    copy_bundle,
    has_adapters,
    has_bundle,
    read_contents,
)

CARD = "README.md"


def elsewhere(config: Config) -> Config:
    """A config without this machine's folders and addresses; of the data's files only the names."""

    def name(path: str) -> str:
        return pathlib.PurePath(path).name if path else ""

    data = config.data
    return dataclasses.replace(
        config,
        data=dataclasses.replace(data, path=name(data.path), raw=name(data.raw), wvb=name(data.wvb)),
        adapter=dataclasses.replace(config.adapter, init_from=""),
        run=dataclasses.replace(config.run, dir="", cache_dir=""),
        judge=dataclasses.replace(config.judge, url=""),
    )


def export_bundle(run: pathlib.Path, checkpoint: str, answers: bool, out: pathlib.Path) -> list[str]:
    """Writes the export of a run's folder to `out`, whole or not at all; gives lines to print.

    Raises:
        CumaError: the run has no bundle, or no such checkpoint; or its prompts show answers that shall be left out.
    """
    if has_adapters(run):
        raise CumaError(f"{run} is an exported bundle already; copy it")
    if not has_bundle(run):
        raise CumaError(
            f"{run} has no bundle: it is not finished, or was trained by an earlier version. Then "
            f"`python -m cuma_jax.evaluate --run {run}` writes one"
        )
    contents = read_contents(run)
    if not answers and (bundle_folder(run) / SHOTS).exists():
        raise CumaError(
            f"--without-answers: prompts of {run} show what people alike answered (profile.shots), and without them "
            "the bundle could not be asked; leave the flag out, or train without shots"
        )
    if contents.config.evaluation.hold == "pooled" and not keeps(contents, run, checkpoint):
        raise CumaError(
            f"{run}: evaluation.hold is pooled, but how strongly was not fitted for the checkpoint {checkpoint}; "
            f"evaluate it first (python -m cuma_jax.evaluate --run {run} --evaluation.checkpoint {checkpoint})"
        )
    step, _ = find_step(run, checkpoint)
    saved = read_adapters(run, step)
    facts = contents.facts | {"checkpoint": checkpoint, "step": step}

    def write(part: pathlib.Path) -> None:
        part.mkdir()
        copy_bundle(run, part, answers)
        if not keeps(contents, run, checkpoint):  # they are those of another checkpoint
            facts.pop("predicted_checkpoint", None)
            (bundle_folder(part) / PREDICTIONS).unlink(missing_ok=True)
        text = json.dumps(facts, ensure_ascii=False, indent=1, allow_nan=False) + "\n"
        (bundle_folder(part) / FACTS).write_text(text, encoding="utf-8")
        save_adapters(saved.adapters, part, saved.base, step)
        text = json.dumps(to_dict(elsewhere(read_config(run))), indent=1) + "\n"
        (part / CONFIG_FILE).write_text(text, encoding="utf-8")
        if (run / RESULTS_FILE).exists():
            shutil.copyfile(run / RESULTS_FILE, part / RESULTS_FILE)
        if answers and (run / ANALYSIS_TABLES / MAPS).exists():  # where real answers put groups
            (part / ANALYSIS_TABLES).mkdir()
            shutil.copyfile(run / ANALYSIS_TABLES / MAPS, part / ANALYSIS_TABLES / MAPS)
        about = about_of(dataclasses.replace(contents, facts=facts), checkpoint)
        (part / CARD).write_text(card_text(contents, about, answers), encoding="utf-8")

    atomic_write(out, write)
    sizes = {str(path.relative_to(out)): path.stat().st_size for path in sorted(out.rglob("*")) if path.is_file()}
    lines = [f"{name}: {size:,} bytes" for name, size in sizes.items()]
    if answers:
        lines.append(
            "It holds counts of real answers by kind of person; --without-answers leaves them out, for surveys that "
            "may not be passed on"
        )
    return lines
