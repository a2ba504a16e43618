"""One reply, what a reward says of many, and the one method that a reward has.

Shapes: N replies.
"""

import dataclasses
from collections.abc import Sequence
from typing import Protocol

import numpy as np

Message = dict[str, str]
"""One turn: `role` (system, user or assistant) and `content`."""


@dataclasses.dataclass(frozen=True)
class Sample:
    """A reply that the model wrote to one prompt, for one person's profile.

    Attributes:
        group: a number; the replies of one group answer the same prompt for the same profile.
        profile: who asks, as a sentence.
        messages: the turns that were answered, the user's last.
        reply: the text, without special tokens.
        tokens: the tokens that were sampled, the end of the turn included.
        stopped: whether the end of the turn was written; else the reply was cut at `sampling.max_new_tokens`.
        profile_row: row of the profile among the run's distinct profiles.
        question: surveys: position of the question among the survey's; -1 elsewhere.
        option: surveys: the option that was chosen, if the reply is its letter and the end of the turn and nothing
            else; -1 where it is anything else, or no survey.
        reference: preference data: the reply that the person preferred; else empty.
    """

    group: int
    profile: str
    messages: tuple[Message, ...]
    reply: str
    tokens: tuple[int, ...] = ()
    stopped: bool = True
    profile_row: int = -1
    question: int = -1
    option: int = -1
    reference: str = ""


@dataclasses.dataclass(frozen=True)
class Scores:
    """What a reward says of N replies.

    Attributes:
        values: float64 [N], higher is better; nan where there is none for good (such a reply is left out).
        metrics: for the log, by name.
        reason: why some have none, the most frequent one; empty where all have one.
    """

    values: np.ndarray
    metrics: dict[str, float] = dataclasses.field(default_factory=dict)
    reason: str = ""


class Reward(Protocol):
    """Anything that scores replies."""

    def score(self, samples: Sequence[Sample]) -> Scores:
        """Scores replies; those of a group lie side by side."""
