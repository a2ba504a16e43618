"""Held-out prompts, each with the person who asked it: what runs are compared on.

Of conversations: the opening prompt of a held-out conversation, with the profile of its person. Of a survey: a
question that a held-out respondent answered, with the respondent's profile. Which ones is decided by a hash of their
ids, so that two runs on the same data are asked the same, whatever else differs.

Shapes: N rows of a source (conversations or answers), R respondents, Q questions, T tokens.
"""

import dataclasses
import hashlib
from collections.abc import Iterable, Sequence

import numpy as np

from cuma_jax.config.checks import SPLITS
from cuma_jax.generation.texts import EncodedPrompt
from cuma_jax.preferences.preferences import Preferences
from cuma_jax.preferences.tasks import conversation_messages
from cuma_jax.run.run import Run
from cuma_jax.runtime.errors import CumaError
from cuma_jax.surveys.profiles import profile_text
from cuma_jax.surveys.prompts import conversation_system_message, question_message
from cuma_jax.tokenization.tokenizer import Message


@dataclasses.dataclass(frozen=True)
class HeldOutPrompt:
    """A prompt and who asks it, of a row of the source.

    Attributes:
        id: a conversation, or `respondent/question`.
        prompt: the prompt's number; rows with the same prompt share it.
        person, profile: row of the source's respondents, and who that is, as a sentence.
        messages: the turns, the user's last; without a system message.
        question, option: surveys: position of the question, and what the respondent answered; -1 elsewhere.
    """

    id: str
    split: str
    prompt: int
    person: int
    profile: str
    messages: tuple[Message, ...]
    question: int = -1
    option: int = -1


def held_out_prompts(run: Run, count: int) -> tuple[list[HeldOutPrompt], dict[str, int]]:
    """Held-out prompts of `evaluation.splits`, as many of each split as of the others where there are enough.

    At most `count`, and what was left out, by reason: no prompt is asked twice for the same profile, and those too long
    for `data.buckets` are left out.
    """
    splits = run.config.evaluation.splits
    found: list[HeldOutPrompt] = []
    too_long, taken = 0, set[tuple[int, int]]()
    for position, split in enumerate(splits):
        share = (count - len(found)) // (len(splits) - position)
        rows = np.flatnonzero(run.mask(split))
        for row in in_hash_order(run, rows, run.config.evaluation.seed):
            if share == 0:
                break
            asked = asked_of(run, int(row), split)
            who = (asked.prompt, int(run.profiles.profile_R[asked.person]))
            if who in taken:
                continue
            if len(prompt_tokens(run, asked)) > run.config.data.buckets[-1]:
                too_long += 1
                continue
            taken.add(who)
            found.append(asked)
            share -= 1
    if not found:
        raise CumaError(
            f"there is no held-out prompt of at most {run.config.data.buckets[-1]} tokens in "
            f"{', '.join(splits)}; add a longer bucket to data.buckets, or change evaluation.splits"
        )
    return found, {"prompts too long for data.buckets": too_long} if too_long else {}


def asked_of(run: Run, row: int, split: str) -> HeldOutPrompt:
    """The prompt of one row of the source."""
    source, person = run.source, int(run.units.person_N[row])
    profile = profile_text(run.profiles, int(run.profiles.profile_R[person]))
    name, prompt = row_id(run, row), int(run.units.item_N[row])
    if isinstance(source, Preferences):
        messages = tuple(conversation_messages(source, row)[:1])
        return HeldOutPrompt(name, split, prompt, person, profile, messages)
    question = int(source.question_A[row])
    message = {"role": "user", "content": question_message(source.questions[question])}
    return HeldOutPrompt(name, split, prompt, person, profile, (message,), question, int(source.option_A[row]))


def row_id(run: Run, row: int) -> str:
    """An id of a row of the source that does not depend on its place."""
    source = run.source
    if isinstance(source, Preferences):
        return str(source.conversations["conversation_id"].iloc[row])
    person = source.respondents["respondent_id"].iloc[source.respondent_A[row]]
    return f"{person}/{source.questions[source.question_A[row]].id}"


def in_hash_order(run: Run, rows: np.ndarray, seed: int) -> np.ndarray:
    """`rows` of the source in the order of a hash of what they belong to; a survey may have millions."""
    source = run.source
    if isinstance(source, Preferences):
        hash_N = _hashes(source.conversations["conversation_id"].iloc[rows], seed)
    else:
        person_R = _hashes(source.respondents["respondent_id"], seed)
        question_Q = _hashes((question.id for question in source.questions), seed)
        hash_N = _mixed(person_R[source.respondent_A[rows]] + question_Q[source.question_A[rows]])
    return rows[np.argsort(hash_N, kind="stable")]


def _hashes(ids: Iterable[str], seed: int) -> np.ndarray:
    digests = [hashlib.blake2b(f"{seed}:judged:{name}".encode(), digest_size=8).digest() for name in ids]
    return np.frombuffer(b"".join(digests), ">u8").astype(np.uint64)


def _mixed(x_N: np.ndarray) -> np.ndarray:
    """A uint64 whose every bit depends on every bit of `x_N` (the finaliser of splitmix64; Steele et al. 2014)."""
    x_N = (x_N ^ (x_N >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x_N = (x_N ^ (x_N >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x_N ^ (x_N >> np.uint64(31))


def prompt_tokens(run: Run, asked: HeldOutPrompt) -> np.ndarray:
    """The chat as this run's model is given it, int32 [T]; with the profile where `profile.in_prompt` is set."""
    profile = run.profiles.profile_R[asked.person]
    if asked.question >= 0:
        assert run.prediction is not None
        tokens = run.prediction.tokens
        profile_1, template_1 = np.array([profile]), tokens.template_QO[[asked.question], 0]
        return tokens.fill(profile_1, template_1, int(tokens.lengths(profile_1, template_1)[0]))[0]
    turns = [message | {"content": message["content"].strip()} for message in asked.messages]
    if run.config.profile.in_prompt:
        text = profile_text(run.profiles, int(profile))
        turns = [{"role": "system", "content": conversation_system_message(text)}, *turns]
    return np.array(run.tokenizer.encode_chat(turns, add_generation_prompt=True), np.int32)


def prompts_of(run: Run, asked: Sequence[HeldOutPrompt]) -> list[EncodedPrompt]:
    """What the run's writer is asked."""
    profile_R = run.profiles.profile_R
    return [EncodedPrompt(prompt_tokens(run, a), int(profile_R[a.person]), 0, f"prompt {a.id}") for a in asked]


def same_for(other: Run, run: Run, asked: Sequence[HeldOutPrompt]) -> list[HeldOutPrompt]:
    """The same prompts and people in another run; a CumaError if it has other data, or was trained on one of them."""
    theirs, ours = other.source, run.source
    people = ours.respondents["respondent_id"].to_numpy()
    person_of = {name: i for i, name in enumerate(theirs.respondents["respondent_id"])}
    persons = [person_of.get(people[a.person], -1) for a in asked]
    rows = np.flatnonzero(np.isin(other.units.person_N, persons))
    row_of = {row_id(other, int(row)): int(row) for row in rows}
    found = []
    for a, person in zip(asked, persons, strict=True):
        row = row_of.get(a.id)
        if row is None or isinstance(theirs, Preferences) != isinstance(ours, Preferences):
            raise CumaError(
                f"--against: the other run does not have {a.id!r} of {ours.name!r}; both runs need the same "
                "data.source, data.task and data.path"
            )
        if SPLITS[other.split_N[row]] in ("train", "validation"):  # training has seen something of them
            raise CumaError(
                f"--against: {a.id!r} is held out in one run, and in the other it is in {SPLITS[other.split_N[row]]}; "
                "give both the same shares to hold out and the same data.split_seed"
            )
        question = -1 if isinstance(theirs, Preferences) else int(theirs.question_A[row])
        found.append(dataclasses.replace(a, person=person, question=question))
    return found
