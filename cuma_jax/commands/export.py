"""What `python -m cuma_jax.export` does: writes the adapters of a run for other programs."""

import dataclasses
import sys
from typing import Annotated, Literal

from cuma_jax.commands.command_line import RunFolder, parse
from cuma_jax.config.fields import Line, Place, Range, shown
from cuma_jax.runtime.errors import CumaError

_HELP = """Writes a run for other machines, or its adapters for other programs.

bundle: all that is needed to use the run without its data (cuma_jax.load, predict, serve), with a model card.

reference: the official CuMA code's format, for runs of method reference (adapter.init_from reads it back).
peft: LoRA adapters that Hugging Face PEFT loads: one for lora, rslora and dora; one a profile for cuma_profile (exact)
and for cuma (gates averaged over training prompts), with a manifest and a report of how close each is to the run.

What maps to what is in docs/formats.md."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(RunFolder):
    """What to export, and where to."""

    format: Literal["bundle", "reference", "peft"]
    """bundle: cuma_jax's own, to be loaded anywhere; reference: the official code's; peft: Hugging Face PEFT's."""
    out: Annotated[str, Place("new folder")]
    """Folder to write; it must not be there yet."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Type of the tensors. The official code wants that of the base."""
    checkpoint: Literal["last", "best"] = "last"
    """The newest checkpoint, or the one with the lowest validation loss."""
    profiles: Annotated[str, Line()] = ""
    """peft, with a router that reads the profile: a number (the most frequent profiles of training), all, or a file
    with one profile a line, such as: country=Chile, sex=female; empty: the 20 most frequent."""
    questions: Annotated[int, Range(1, 10**6)] = 32
    """peft, with a router: training questions of each profile that gates are averaged over, at most; as many others
    are compared."""

    without_answers: bool = False
    """bundle: leave out the real answers, for surveys that may not be passed on."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.profiles.isdecimal():
            if not 1 <= int(self.profiles[:12]) <= 10**9:
                raise CumaError(f"--profiles is {shown(self.profiles)}; it must be at least 1, all, or a file")
        elif found := Place("file", words=("all",)).trouble(self.profiles):
            raise CumaError(f"--profiles {shown(self.profiles)} {found}; give a number, all, or a file of profiles")
        if self.without_answers and self.format != "bundle":
            raise CumaError("--without-answers goes with --format bundle; other formats hold none")
        if self.profiles and self.format == "bundle":
            raise CumaError("--profiles goes with --format peft; a bundle answers for any")
        if self.profiles and self.format == "reference":
            raise CumaError("--profiles goes with --format peft; the official format holds the router itself")


def main() -> None:
    """Reads the command line and exports."""
    (options,) = parse("export", _HELP, sys.argv[1:], Options)
    # Imported here: `--help` must not wait for jax.
    from cuma_jax.config.saved import local_folder, read_config
    from cuma_jax.interop.export.official import export_reference
    from cuma_jax.interop.export.peft import ExportOptions, export_peft
    from cuma_jax.runtime.jax_setup import prepare_jax
    from cuma_jax.serving.bundle.export import export_bundle

    run, out = local_folder(options.run, "--run"), local_folder(options.out, "--out")
    config = read_config(run)
    if out.exists():
        raise CumaError(f"--out {out} is there already; give a folder that is not")
    prepare_jax(config.run.cache_dir)
    if options.format == "bundle":
        lines = export_bundle(run, options.checkpoint, not options.without_answers, out)
    elif options.format == "reference":
        lines = export_reference(config, run, options.checkpoint, options.dtype, out)
    else:
        choice = ExportOptions(options.checkpoint, options.dtype, options.profiles, options.questions)
        lines = export_peft(config, run, choice, out)
    if options.format != "bundle" and config.evaluation.hold == "pooled":
        lines.append("predictions with it are the model's alone: evaluation.hold is no part of an adapter")
    print("\n".join([*lines, f"exported: {out.resolve()}"]))
