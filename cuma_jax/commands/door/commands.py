"""What `cuma` and `python -m cuma_jax` do: the commands under one name, and what a shell completes."""

import contextlib
import io
import runpy
import sys
from collections.abc import Sequence

from cuma_jax import __version__
from cuma_jax.runtime.errors import CumaError, run_main
from cuma_jax.runtime.near_matches import near

COMMANDS = {
    "train": "train adapters on how people answered, and score them",
    "evaluate": "score a trained run again, or compare its replies with another's",
    "predict": "how groups of people would answer, questions of a survey or new ones",
    "serve": "a trained run over HTTP, with the explorer page",
    "generate": "replies of a trained run to prompts, for the people who ask",
    "analyze": "did it collapse, do groups conflict, who shares experts",
    "compare": "train variants with several seeds, and set them side by side",
    "plan": "does a run fit a machine that is not here, and how fast would it be",
    "export": "a run as a bundle, or its adapters for other programs",
    "data": "build, show, check and export surveys and preferences",
    "completion": "a script that makes bash, zsh or fish complete all this",
}
"""Command -> its line in the list. All but the last are mains of the package: `cuma X` is `python -m cuma_jax.X`."""


def main() -> None:
    """Lists the commands, or hands the line over to one. A `CumaError` for a command that there is not."""
    first, *rest = sys.argv[1:] or ["--help"]
    if first in ("-h", "--help", "help"):
        print(listing())
    elif first == "--version":
        print(f"cuma_jax {__version__}")
    elif first == "completion":
        complete(rest)
    elif first in COMMANDS:
        run(first, rest)
    else:
        known = near(first, list(COMMANDS))
        raise CumaError(f"unknown command {first[:80]!r}; it must be one of {known} (cuma --help explains them)")


def console() -> None:
    """The script `cuma`."""
    run_main(main)


def listing() -> str:
    """The commands, a line each."""
    width = max(map(len, COMMANDS))
    lines = [f"  {command.ljust(width)}  {text}" for command, text in COMMANDS.items()]
    return "\n".join([
        "usage: cuma COMMAND [flags]",
        "",
        *lines,
        "",
        "`cuma COMMAND --help` explains a command; `cuma --version` says which version this is. `cuma COMMAND` and",
        "`python -m cuma_jax.COMMAND` are the same.",
    ])  # fmt: skip


def run(command: str, argv: Sequence[str]) -> None:
    """`python -m cuma_jax.COMMAND` with these words, in this process; results name that line as their command."""
    before = sys.argv, sys.orig_argv
    sys.argv, sys.orig_argv = [command, *argv], [sys.executable, "-m", f"cuma_jax.{command}", *argv]
    try:
        runpy.run_module(f"cuma_jax.{command}", run_name="__main__", alter_sys=True)
    finally:
        sys.argv, sys.orig_argv = before


def complete(argv: Sequence[str]) -> None:
    """Prints a shell's script; or, for that script, what the last of the words after `words --` may become."""
    from cuma_jax.commands.door.completion import HELP, SCRIPTS, words

    if argv[:2] == ["words", "--"]:
        with contextlib.suppress(Exception):  # a TAB is answered with nothing, not with an error
            print("\n".join(words(argv[2:], list(COMMANDS), flag_lines)))
    elif len(argv) == 1 and argv[0] in SCRIPTS:
        print(SCRIPTS[argv[0]], end="")
    elif argv and argv[0] in ("-h", "--help"):
        print(HELP)
    else:
        raise CumaError(f"completion takes one shell: {', '.join(SCRIPTS)} (cuma completion --help says where it goes)")


def flag_lines(words: Sequence[str]) -> str:
    """The flags of a command, given by its words, as its own parser prints them."""
    printed, unseen = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(unseen), contextlib.suppress(SystemExit):
        run(words[0], [*words[1:], "--help-flags"])
    return printed.getvalue()
