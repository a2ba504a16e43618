"""The data section of a config: which survey or conversations, how they are split, drawn and rendered."""

import dataclasses
from typing import Annotated, Literal

from cuma_jax.config.fields import SHARE, TOKENS, Line, Place, Range

CONVERSATIONS = ("community_alignment", "prism")
"""Sources of conversations in which people preferred a response."""

_CHECKOUT = "your checkout of github.com/Demon702/WorldValuesBench"
_PLACES: dict[str, dict[str, str]] = {
    "open_values": {},
    "invented": {},
    "csv": {"path": "the YAML file that describes your survey (docs/my_survey.md)"},
    "wvs7": {"raw": "the raw csv of the World Values Survey wave 7", "wvb": _CHECKOUT},
    "wvb": {"raw": "", "wvb": _CHECKOUT},
    "global_opinions": {"path": ""},
    **{source: {"path": ""} for source in CONVERSATIONS},
}
"""The paths that each source reads, and what it needs in them, as an error says it; empty: it can do without."""


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Which survey or preference data, how it is split, and how rows are drawn."""

    source: Literal[
        "open_values", "wvs7", "wvb", "global_opinions", "csv", "community_alignment", "prism", "invented"
    ] = "open_values"
    """What is read: open_values (public teaching tables), wvs7 (raw World Values Survey wave 7), wvb (WorldValuesBench
    tables), global_opinions, csv (a survey of your own), community_alignment, prism, invented (a small made-up one)."""
    path: Annotated[str, Place("file or folder")] = ""
    """csv: the survey's YAML file. global_opinions, community_alignment, prism: a file or folder (csv, tsv, parquet,
    jsonl, jsonl.gz, arrow); empty: from the Hugging Face hub."""
    raw: Annotated[str, Place("file")] = ""
    """wvs7: the raw csv (v5.0 or v6.0). wvb: the same file, if its weights and sampling units are to be joined."""
    wvb: Annotated[str, Place("folder")] = ""
    """wvs7 and wvb: your checkout of WorldValuesBench (codebook, metadata; for wvb its tables as well)."""
    revision: Annotated[str, Line()] = ""
    """Hub data: commit hash or tag; empty: the one this version was written against."""
    subset: Annotated[str, Line()] = ""
    """Hub data with several forms, e.g. community_alignment `v1.0/full`; empty: the newest."""
    wording: Literal["label", "natural"] = "label"
    """wvs7 and wvb: question texts from the codebook's labels (paper) or written out (question_metadata)."""
    option_texts: Literal["adjusted", "reference"] = "adjusted"
    """wvs7 and wvb: option texts recoded as the answers are, or as the official pipeline pairs them (15 questions)."""
    bad_rows: Literal["error", "skip"] = "error"
    """What to do with an answer that its question does not list: stop and name it, or leave it out and count it."""
    task: Literal["auto", "conversations", "choice"] = "auto"
    """Preference data: train on whole conversations, or on which response a person preferred; auto: conversations
    for the objective sft, choice for the objective choice."""
    questions: Annotated[tuple[str, ...], Line()] = ()
    """Question ids to keep; empty: all. A trailing * matches a prefix."""
    split: Annotated[str, Place("file", words=("hash", "official"))] = "hash"
    """How rows are held out: hash (by the shares below), official (the split that the source ships), or a file of ids
    that `python -m cuma_jax.data export` wrote (split.parquet)."""
    unseen_respondents: Annotated[float, SHARE] = 0.1
    """Share of respondents (annotators, in preference data) held out from training."""
    validation_respondents: Annotated[float, SHARE] = 0.05
    """Share of respondents (annotators) held out for validation while training."""
    validation_countries: Annotated[float, SHARE] = 0.0
    """Share of countries held out for validation while training, besides those of `unseen_countries`: the best
    checkpoint is then the one that serves countries it was not trained on."""
    unseen_countries: Annotated[float, SHARE] = 0.1
    """Share of countries held out from training (never one that is the only country of a question)."""
    unseen_questions: Annotated[float, SHARE] = 0.0
    """Share of questions (opening prompts, in preference data) held out from training."""
    unseen_conversations: Annotated[float, SHARE] = 0.0
    """Share of conversations held out from training (preference data)."""
    held_out_field: Annotated[str, Line()] = "country"
    """The profile field whose values `unseen_countries` and `held_out_countries` hold out."""
    held_out_countries: Annotated[tuple[str, ...], Line()] = ()
    """Countries (values of `held_out_field`) to hold out by name, instead of by share."""
    split_seed: Annotated[int, Range(0, 2**63 - 1)] = 0
    """Seed of the hash that splits."""
    order: Literal["weighted", "epochs"] = "weighted"
    """weighted: rows are drawn with replacement, by the masses below; epochs: every row once, shuffled, then again."""
    question_power: Annotated[float, Range(0, 10)] = 0.5
    """How often a question is drawn: its number of training answers to this power (0: all questions alike)."""
    sample_weights: bool = False
    """Draw a respondent's rows by the survey weight as well (aggregate respondent; cells use weights always)."""
    group_by: Annotated[str, Line()] = ""
    """A profile field whose groups are balanced by `group_power`; empty: none."""
    group_power: Annotated[float, Range(0, 10)] = 1.0
    """How often a group is drawn: its share of the rows to this power (1: as it is; 0: all groups alike)."""
    questions_per_batch: Annotated[int, Range(0, 2**20)] = 0
    """Survey rows of order weighted: how many different questions share a batch, so that many profiles meet over one
    question; 0: every row draws its own."""
    buckets: Annotated[tuple[int, ...], TOKENS] = (64, 96, 128, 160, 192, 256, 384, 512, 768, 1024)
    """Sequence lengths in tokens; a row takes the shortest that holds it."""
    max_length: Annotated[int, TOKENS] = 1024
    """Longest rendered row in tokens."""
    too_long: Literal["error", "skip"] = "error"
    """A longer row: stop and name it, or leave it out and count it. Text is never cut in the middle; a conversation
    loses its last turns first, and is too long only if its first turn is."""
    packing: bool = False
    """Conversations: put several into one row of the longest bucket; they do not see each other."""

    def needed(self, name: str) -> str:
        """What `source` wants in the path `name`, as an error says it; empty where it can do without."""
        return _PLACES[self.source].get(name, "")

    @property
    def unread(self) -> tuple[str, ...]:
        """The paths that `source` does not read."""
        return tuple(name for name in ("path", "raw", "wvb") if name not in _PLACES[self.source])
