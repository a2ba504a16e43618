"""What `python -m cuma_jax.predict` does: the answers of groups of people, as a trained run predicts them."""

import dataclasses
import sys
from typing import Annotated, Literal

from tyro.conf import UseAppendAction

from cuma_jax.commands.command_line import parse
from cuma_jax.config.fields import Line, Range
from cuma_jax.runtime.errors import CumaError

_HELP = """Predicts how groups of people would answer: questions of the run, or a new one. Beside each prediction stand
the real answers of people that training did not see, simple baselines, and the run's measured error on such cells."""


@dataclasses.dataclass(frozen=True)
class Options:
    """Who is asked what."""

    run: Annotated[str, Line()] = ""
    """Folder of a run, an exported bundle, or the hub name of one (required)."""
    checkpoint: Literal["", "last", "best"] = ""
    """Empty: what the run's evaluation.checkpoint says."""
    where: Annotated[UseAppendAction[tuple[str, ...]], Line()] = ()
    """A group: "country=Japan,Peru; age>=60". Several: give the flag again. None: everybody."""
    question: Annotated[UseAppendAction[tuple[str, ...]], Line()] = ()
    """Id of a question of the run; again for more. None, and no --ask: all of them."""
    ask: Annotated[str, Line(longest=20_000, lines=True)] = ""
    """A new question; its options follow --options."""
    options: Annotated[tuple[str, ...], Line()] = ()
    """The new question's options, in their order."""
    unordered: bool = False
    """The new question's options are no scale."""
    option_orders: Annotated[int, Range(0, 1000)] = 0
    """Orders of the options that are averaged over; 0: as the run was evaluated, and 2 for a new question."""
    average_over: Literal["people", "profile"] = "people"
    """people: all who match, by their weights; profile: exactly the profile that --where names."""
    people: Annotated[str, Line()] = "all"
    """all, or the split whose people are averaged over, as evaluate does."""
    json: bool = False
    """A JSON list, one object an option."""
    csv: bool = False
    """CSV, one line an option."""

    def __post_init__(self) -> None:
        if self.options and not self.ask:
            raise CumaError("--options belong to a new question; give it with --ask TEXT")
        if self.ask and len(self.options) < 2:
            raise CumaError("a new question needs its options: --ask TEXT --options A B C")
        if self.json and self.csv:
            raise CumaError("--json and --csv are given; choose one")


def main() -> None:
    """Reads the command line and the run's facts, then the run, and predicts."""
    (options,) = parse("predict", _HELP, sys.argv[1:], Options)
    if not options.run:
        raise CumaError("--run is required: the folder of a run, e.g. --run runs/quickstart")
    from cuma_jax.serving import Ask, load
    from cuma_jax.serving.shown import csv_text, json_text, shown_text

    asked: list[str | Ask] = list(options.question)
    if options.ask:
        asked.append(Ask(options.ask, options.options, not options.unordered))
    # Mistakes are found before the base is loaded.
    model = load(options.run, options.checkpoint, start=False)
    request = model.request(
        list(options.where) or "", asked or None, options.option_orders or None, options.average_over, options.people
    )
    (table,) = model.predict_many([request])
    if options.json:
        print(json_text(table))
    elif options.csv:
        print(csv_text(table), end="")
    else:
        print(shown_text(table, model.about["warnings"][:2]))
