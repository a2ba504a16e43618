"""Questions that a run was never asked, and those that it knows. Nothing here imports JAX."""

import dataclasses
import functools
from collections.abc import Sequence

from cuma_jax.runtime.errors import CumaError
from cuma_jax.runtime.files import content_key
from cuma_jax.surveys.survey import Question
from cuma_jax.surveys.text import clean_text

MOST_TEXT, MOST_OPTION, MOST_OPTIONS = 4000, 1000, 26
"""Characters of a new question and of an option, and options."""


@dataclasses.dataclass(frozen=True)
class Ask:
    """A question never asked.

    Attributes:
        text: the wording; cleaned as a survey file's (no markup, nothing invisible).
        options: 2 to 26 different texts, in their order on the scale.
        ordered: whether the options are a scale.
        id: its name in tables; empty: one made from the wording.

    Raises:
        CumaError: an empty or too long text, too few, too many, empty or equal options.
    """

    text: str
    options: Sequence[str]
    ordered: bool = True
    id: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.text, str) or not isinstance(self.id, str) or isinstance(self.options, str):
            raise CumaError("a new question is a text and a list of options, each a text")
        options = tuple(self.options)
        if not all(isinstance(option, str) for option in options):
            raise CumaError("a new question's options must be texts")
        _check_length("the question", self.text, MOST_TEXT)
        if not 2 <= len(options) <= MOST_OPTIONS:
            raise CumaError(f"a new question has {len(options)} options; it needs 2 to {MOST_OPTIONS}")
        for number, option in enumerate(options, 1):
            _check_length(f"option {number}", option, MOST_OPTION)
        text, cleaned = clean_text(self.text), tuple(clean_text(option) for option in options)
        if not text:
            raise CumaError("a new question has no text (markup and invisible characters do not count); write one")
        if empty := [number for number, option in enumerate(cleaned, 1) if not option]:
            raise CumaError(f"option {empty[0]} of a new question has no text (markup does not count); write one")
        same = [option for number, option in enumerate(cleaned) if option in cleaned[:number]]
        if same:
            raise CumaError(f"a new question has the option {same[0][:80]!r} twice; options must differ")
        _check_length("the question's id", self.id, 200)
        object.__setattr__(self, "text", text)
        object.__setattr__(self, "options", cleaned)
        object.__setattr__(self, "ordered", bool(self.ordered))
        made = "new." + content_key("\x1f".join((text, *cleaned)))[:8]
        object.__setattr__(self, "id", clean_text(self.id) or made)

    @functools.cached_property
    def question(self) -> Question:
        """As surveys have it."""
        codes = tuple(str(number) for number in range(1, len(self.options) + 1))
        return Question(self.id, self.text, tuple(self.options), codes, self.ordered, "new")

    @property
    def key(self) -> tuple[str, tuple[str, ...]]:
        """Equal for questions that are put alike."""
        return self.text, tuple(self.options)


def _check_length(name: str, text: str, most: int) -> None:
    if len(text) > most:
        raise CumaError(f"{name} has {len(text):,} characters; at most {most:,} are read")
