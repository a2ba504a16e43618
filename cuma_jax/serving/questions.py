"""Questions that a run was never asked. Nothing here imports JAX."""

import dataclasses
from collections.abc import Sequence

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
