"""A run as PEFT adapters: one for plain LoRA and DoRA, one per profile where a router reads the profile."""

import dataclasses
import json
import pathlib
from typing import Any

import numpy as np

from cuma_jax.config import Config
from cuma_jax.hub.model_files import resolve
from cuma_jax.interop.export.base_model import BaseModel, base_model, check_no_offset
from cuma_jax.interop.export.gates import averaged_gates, profile_gates
from cuma_jax.interop.export.parity import Parity, table, write_report
from cuma_jax.interop.export.peft_adapters import dora_adapter, folded_adapter, plain_adapter
from cuma_jax.interop.export.profile_selection import (
    SelectedProfile,
    calibration_questions,
    profile_lines,
    select_profiles,
)
from cuma_jax.interop.formats.peft_folder import PeftAdapter, write_peft
from cuma_jax.models.families import decoder_config
from cuma_jax.models.weights import fingerprint
from cuma_jax.run.build import build_run
from cuma_jax.run.saved_adapters import SavedAdapters, find_step, read_adapters
from cuma_jax.runtime.errors import CumaError
from cuma_jax.runtime.files import atomic_write, cache_dir
from cuma_jax.runtime.sharding import put_tree
from cuma_jax.surveys.survey import Survey

MANIFEST = "manifest.json"
Questions = tuple[np.ndarray, np.ndarray]
"""Those to calibrate on, and those to check on."""
_REFUSED = {
    "full": "it trains the base's own weights, which are no LoRA",
    "prefix": "PEFT's prefix tuning has keys and values in every layer, before its own position embedding",
    "none": "nothing was trained",
}


@dataclasses.dataclass(frozen=True)
class ExportOptions:
    """What is exported."""

    checkpoint: str  # `last` or `best`
    dtype: str  # `float32` or `bfloat16`
    profiles: str  # see `select_profiles`
    questions: int  # prompts of each profile to average gates over, and to compare on


def check_peft(config: Config) -> None:
    """Raises a `CumaError`, which says why, where PEFT cannot hold a run."""
    kind, inputs = config.adapter.kind, config.router.inputs
    if kind in _REFUSED:
        raise CumaError(f"a run of adapter.kind {kind} cannot be a PEFT LoRA adapter: {_REFUSED[kind]}")
    check_no_offset(config, "a PEFT LoRA adapter")
    if inputs == "hidden":
        raise CumaError(
            "a run whose router reads only the text (router.inputs hidden) cannot be a PEFT LoRA adapter: each token "
            "has gates of its own, and no profile stands for them. To move it, use --format reference"
        )
    if kind == "dora" and config.model.quantize != "none":
        raise CumaError(
            f"a DoRA run on a base that is stored in {config.model.quantize} cannot be exported: PEFT's magnitudes are "
            "norms of the weights as they are published; train with --model.quantize none"
        )


def export_peft(config: Config, folder: pathlib.Path, options: ExportOptions, out: pathlib.Path) -> list[str]:
    """Writes the folder `out`, which is not there yet; returns lines to print.

    A `CumaError` where PEFT cannot hold this run, it has no checkpoint, or profiles are not there.
    """
    check_peft(config)
    profile_lines(options.profiles)  # a file that cannot be read is found before the model is
    saved = read_adapters(folder, find_step(folder, options.checkpoint)[0])
    files = resolve(config.model.source, config.model.revision, str(cache_dir(config.run.cache_dir)))
    if saved.base != (here := fingerprint(files)):
        raise CumaError(
            f"the checkpoint was trained on another base model (fingerprint {saved.base[:12]}) than model.source "
            f"{config.model.source} is now ({here[:12]})"
        )
    if config.router.inputs != "none":
        return _export_profiles(config, folder, saved, options, out)
    if config.adapter.kind == "dora":
        run = build_run(config, folder=folder)
        adapter = dora_adapter(saved.adapters, config.adapter, run.base, run.decoder_config.layers)
    else:
        adapter = plain_adapter(saved.adapters, config.adapter, decoder_config(files).layers)
    adapter, rounding = adapter.stored(options.dtype)
    base = base_model(config, files, rounding)

    def write(part: pathlib.Path) -> None:
        write_peft(part, adapter, base.name, options.dtype)
        _write_manifest(part, _about(config, saved, base, options), {"rank": adapter.rank})

    atomic_write(out, write)
    what = f"one {'DoRA' if adapter.magnitudes else 'LoRA'} adapter of rank {adapter.rank}, step {saved.step}"
    same = "" if base.differs or not base.load else "; the same function, exactly"
    return [f"{what}, {options.dtype}{same}", *base.lines()]


def _about(config: Config, saved: SavedAdapters, base: BaseModel, options: ExportOptions) -> dict[str, Any]:
    return {
        "base_model": base.name, "base_in_torch": base.load or None, "differs": list(base.differs),
        "dtype": options.dtype, "run": config.name, "step": saved.step,
    }  # fmt: skip


def _write_manifest(folder: pathlib.Path, about: dict[str, Any], more: dict[str, Any]) -> None:
    text = json.dumps(about | more, indent=1, ensure_ascii=False)
    (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")


def _export_profiles(
    config: Config, folder: pathlib.Path, saved: SavedAdapters, options: ExportOptions, out: pathlib.Path
) -> list[str]:
    reads_text = "hidden" in config.router.inputs
    run = build_run(config, folder=folder)
    asks = isinstance(run.source, Survey)
    if reads_text and not asks:
        raise CumaError(
            f"router.inputs is {config.router.inputs}, so gates must be averaged over training prompts, which is "
            f"done on survey questions; {run.source.name!r} was read as conversations. Only cuma_profile (router."
            "inputs profile) can be exported from such a run"
        )
    chosen = select_profiles(run, options.profiles)
    if reads_text and (strange := [p for p in chosen if p.row < 0]):
        raise CumaError(
            f"--profiles: the data have nobody like {strange[0].text!r}; a router that reads the text too is averaged "
            "over prompts of profiles that the data have"
        )
    on_devices = put_tree(saved.adapters, run.adapter_shardings)
    known = [profile for profile in chosen if profile.row >= 0] if asks else []
    questions = dict(zip([p.row for p in known], calibration_questions(run, known, options.questions), strict=True))
    if reads_text:
        rows = [profile.row for profile in chosen]
        gates = averaged_gates(run, on_devices, rows, [questions[row][0] for row in rows])
    else:
        assert run.table is not None
        gates = profile_gates(run.decoder, saved.adapters, run.table.embed_profiles([p.values for p in chosen]))
    assert run.decoder.adapter is not None
    settings, layers = run.decoder.adapter, run.decoder_config.layers
    parity = Parity(run, on_devices) if questions else None
    entries: list[dict[str, Any]] = []
    said: list[str] = []

    def write(part: pathlib.Path) -> None:
        part.mkdir()
        entries.clear()
        moved = [0.0]
        for number, (profile, gate) in enumerate(zip(chosen, gates, strict=True)):
            adapter = folded_adapter(saved.adapters, settings, gate, layers)
            name = f"profile_{number:0{len(str(len(chosen)))}d}"
            adapter, rounding = adapter.stored(options.dtype)
            moved.append(rounding)
            write_peft(part / name, adapter, base_model(config, run.files, 0).name, options.dtype)
            entries.append(_entry(name, profile, adapter, parity, questions))
        base = base_model(config, run.files, max(moved))
        said[:] = base.lines()
        about = _about(config, saved, base, options) | {
            "gates": "averaged over training prompts" if reads_text else "exact"
        }
        _write_manifest(part, about, {"profiles": [{k: v for k, v in e.items() if k != "parity"} for e in entries]})
        counts = {"calibration_questions_at_most": options.questions} if reads_text else {}
        write_report(part, {**about, **counts}, entries)

    atomic_write(out, write)
    trained = len(set(run.profiles.profile_R[run.units.person_N[run.mask("train")]].tolist()))
    lines = [f"{len(chosen)} adapters of step {saved.step} (training has {trained:,} profiles); {MANIFEST} says whose"]
    lines += [*said, *dict.fromkeys(note for profile in chosen for note in profile.notes)]
    if not options.profiles and trained > len(chosen):
        lines.append("these are the most frequent ones; --profiles N, all or FILE exports others")
    return [*lines, table(entries)]


def _entry(
    name: str, profile: SelectedProfile, adapter: PeftAdapter, parity: Parity | None, questions: dict[int, Questions]
) -> dict[str, Any]:
    row = profile.row
    compared = parity.of(adapter, row, questions[row][1]) if parity and row in questions else None
    return {
        "folder": name, "text": profile.text, "profile": profile.values, "training_answers": profile.answers,
        "rank": adapter.rank, "parity": compared,
    }  # fmt: skip
