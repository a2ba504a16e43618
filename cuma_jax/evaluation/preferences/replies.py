"""What a side replies to held-out prompts, how much it differs by who is asking, and a few examples to read.

To a survey's question a side replies with one of its options, drawn from the model's distribution over them: what is
compared is which answers it gives, not whether it keeps to the form.

distinct-n (Li et al. 2016, arXiv:1510.03055): different n-grams over all n-grams of some replies, here of the replies
to one prompt for several profiles, n-grams of tokens. Sampling alone makes replies differ; so the same is measured for
one profile that asks several times.

Shapes: N prompts that are compared, and after them prompts that are only shown; O options.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from cuma_jax.config import SamplingConfig
from cuma_jax.evaluation.preferences.held_out_prompts import HeldOutPrompt, in_hash_order, prompts_of
from cuma_jax.evaluation.surveys.prediction import predict
from cuma_jax.generation.texts import generate_texts
from cuma_jax.run.inference import writer_of
from cuma_jax.run.run import Run
from cuma_jax.surveys.held_out import hash_shares
from cuma_jax.surveys.profiles import profile_text
from cuma_jax.surveys.prompts import LETTERS


@dataclasses.dataclass(frozen=True)
class Side:
    """One of the two that are compared: a name, a run put together, and its adapters on the devices."""

    name: str
    run: Run
    adapters: Any


@dataclasses.dataclass(frozen=True)
class Replies:
    """What one side wrote.

    Attributes:
        texts: a reply to every prompt.
        option_N: int64, of a survey the options that were drawn; empty elsewhere.
        spread: `across_profiles`, and `one_profile` (one person who asks as often: what sampling alone makes of it),
            each as `spread_of_replies`; None on a survey.
        notes: what is wrong with some replies, by reason.
    """

    texts: list[str]
    option_N: np.ndarray
    spread: dict[str, Any] | None
    notes: dict[str, int]


def write_replies(
    side: Side, asked: Sequence[HeldOutPrompt], shown: Sequence[Sequence[int]], sampling: SamplingConfig
) -> Replies:
    """Replies of one side to `asked`, as `side.run` knows them. All processes call this.

    `shown` are numbers of prompts that are alike but for the profile.
    """
    if asked[0].question >= 0:
        return _answers(side, asked, sampling)
    a, prompts = side.run, prompts_of(side.run, asked)
    for group in shown:
        prompts += [dataclasses.replace(prompts[group[0]], index=index) for index in range(1, len(group))]
    writer = writer_of(a, sampling, a.config.evaluation.batch_size)
    found = generate_texts(writer, side.adapters, prompts, sampling.seed)
    replies, again = found[: len(asked)], iter(found[len(asked) :])
    texts = [reply.text for reply in replies]
    notes = {
        f"replies of {side.name} that are cut at sampling.max_new_tokens": sum(not reply.stopped for reply in replies),
        f"replies of {side.name} that are empty": sum(not text for text in texts),
    }
    across = [[texts[i] for i in group] for group in shown]
    same = [[texts[group[0]], *(next(again).text for _ in group[1:])] for group in shown]
    spread = {"across_profiles": _spread(a, across), "one_profile": _spread(a, same)}
    return Replies(texts, np.zeros(0, np.int64), spread, {reason: n for reason, n in notes.items() if n})


def _answers(side: Side, asked: Sequence[HeldOutPrompt], sampling: SamplingConfig) -> Replies:
    a = side.run
    profile_N = a.profiles.profile_R[[row.person for row in asked]]
    question_N = np.array([row.question for row in asked], np.int32)
    probs_NO = predict(a, side.adapters, profile_N, question_N).probs_NO
    # The same draw for both sides: they differ where their distributions do.
    uniform_N = hash_shares([row.id for row in asked], sampling.seed, "answer")
    option_N = draw_options(probs_NO, uniform_N, sampling.temperature)
    texts = [option_text(a, row.question, int(option)) for row, option in zip(asked, option_N, strict=True)]
    return Replies(texts, option_N, None, {})


def draw_options(probs_NO: np.ndarray, uniform_N: np.ndarray, temperature: float) -> np.ndarray:
    """The option at `uniform_N`, in [0, 1), of each distribution at a temperature, int64 [N]; at 0 the likeliest."""
    if temperature == 0:
        return probs_NO.argmax(1)
    log_NO = np.log(np.maximum(probs_NO.astype(np.float64), 1e-300)) / temperature
    power_NO = np.exp(log_NO - log_NO.max(1, keepdims=True)) * (probs_NO > 0)
    below_NO = np.cumsum(power_NO, axis=1)
    option_N = (below_NO <= uniform_N[:, None] * below_NO[:, -1:]).sum(1)
    last_N = probs_NO.shape[1] - 1 - (probs_NO[:, ::-1] > 0).argmax(1)
    return np.minimum(option_N, last_N)  # rounding may carry a draw past the last option


def distinct(replies: Sequence[Sequence[int]], n: int) -> float:
    """Different n-grams over all n-grams of `replies`, together; nan where no reply has n tokens."""
    grams = [tuple(reply[i : i + n]) for reply in replies for i in range(len(reply) - n + 1)]
    return len(set(grams)) / len(grams) if grams else float("nan")


def same_share(replies: Sequence[str]) -> float:
    """Share of the pairs of `replies` that are equal; nan for fewer than two."""
    pairs = [a == b for i, a in enumerate(replies) for b in replies[:i]]
    return sum(pairs) / len(pairs) if pairs else float("nan")


def spread_of_replies(texts: Sequence[Sequence[str]], tokens: Sequence[Sequence[Sequence[int]]]) -> dict[str, float]:
    """Means over prompts of `distinct_1`, `distinct_2`, and `equal`, the share of pairs of replies that are equal.

    Of each prompt its replies are given, as texts and as token ids. What is not defined for any prompt is left out.
    """
    found = {
        "distinct_1": [distinct(replies, 1) for replies in tokens],
        "distinct_2": [distinct(replies, 2) for replies in tokens],
        "equal": [same_share(replies) for replies in texts],
    }
    known = {name: [v for v in values if np.isfinite(v)] for name, values in found.items()}
    return {name: float(np.mean(values)) for name, values in known.items() if values}


def _spread(run: Run, texts: Sequence[Sequence[str]]) -> dict[str, float]:
    return spread_of_replies(texts, [[run.tokenizer.encode(text) for text in replies] for replies in texts])


def groups_to_show(
    run: Run, asked: Sequence[HeldOutPrompt], most: int, profiles: int
) -> tuple[list[HeldOutPrompt], list[list[int]]]:
    """Some prompts, each for several profiles.

    Of a survey: the questions that most of `asked` are about. Of conversations: each prompt for the person who asked
    it, and for others who are held out, of different groups (the first field of `evaluation.group_by`) if they are.

    Returns:
        Prompts to write besides `asked`; and numbers of prompts (in `asked` and these, one after the other) that are
        alike but for the profile.
    """
    groups: dict[int, list[int]] = {}
    for n, row in enumerate(asked):
        groups.setdefault(row.prompt, []).append(n)
    if asked[0].question >= 0:
        largest = sorted(groups.values(), key=len, reverse=True)
        return [], [numbers[:profiles] for numbers in largest[:most]]
    more, found, people = list[HeldOutPrompt](), [], _unlike_people(run)
    for numbers in list(groups.values())[:most]:
        row, group = asked[numbers[0]], [numbers[0]]
        seen = {int(run.profiles.profile_R[row.person])}
        for person in people:
            profile = int(run.profiles.profile_R[person])
            if len(group) < profiles and profile not in seen:
                seen.add(profile)
                group.append(len(asked) + len(more))
                more.append(dataclasses.replace(row, person=person, profile=profile_text(run.profiles, profile)))
        found.append(group)
    return more, found


def _unlike_people(run: Run) -> list[int]:
    """People of held-out rows: one of each group first, then everybody else, in the order of a hash."""
    config = run.config.evaluation
    held_N = np.any([run.mask(split) for split in config.splits], axis=0)
    person_N = run.units.person_N[in_hash_order(run, np.flatnonzero(held_N), config.seed + 1)]
    persons = dict.fromkeys(person_N.tolist())
    if not config.group_by:
        return list(persons)
    value_R = run.source.respondents[config.group_by[0]].astype("object").to_numpy()
    one_each = {str(value_R[person]): person for person in reversed(persons)}
    ahead = sorted(one_each.values(), key=list(persons).index)
    return [*ahead, *(person for person in persons if person not in set(ahead))]


def samples_of(
    run: Run,
    asked: Sequence[HeldOutPrompt],
    shown: Sequence[Sequence[int]],
    score_N: np.ndarray,
    ours: Replies,
    theirs: Replies,
) -> list[dict[str, Any]]:
    """The shown prompts as plain values: `prompt`, `split`, and a row for each profile: `profile`, `run` and `against`
    (the replies), `score` (None where they were not compared) and, of a survey, the person's own `answer`.
    """
    samples = []
    for group in shown:
        rows = []
        for i in group:
            known = i < len(score_N) and np.isfinite(score_N[i])
            row: dict[str, Any] = {"profile": asked[i].profile, "run": ours.texts[i], "against": theirs.texts[i]}
            row["score"] = float(score_N[i]) if known else None
            if asked[i].question >= 0:
                row["answer"] = option_text(run, asked[i].question, asked[i].option)
            rows.append(row)
        first = asked[group[0]]
        samples.append({"prompt": first.messages[-1]["content"], "split": first.split, "rows": rows})
    return samples


def option_text(run: Run, question: int, option: int) -> str:
    """An option as it stands in the prompt."""
    return f"{LETTERS[option]}. {run.survey.questions[question].options[option]}"
