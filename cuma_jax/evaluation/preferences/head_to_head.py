"""A run against its base or another run: replies of both to the same held-out prompts, and who prefers which.

Shapes: N comparisons.
"""

import dataclasses
import hashlib
import sys
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
import pandas as pd

from cuma_jax.config import SamplingConfig
from cuma_jax.evaluation.preferences.groups import group_columns
from cuma_jax.evaluation.preferences.held_out_prompts import HeldOutPrompt, held_out_prompts, in_hash_order, same_for
from cuma_jax.evaluation.preferences.replies import Replies, Side, groups_to_show, samples_of, write_replies
from cuma_jax.evaluation.preferences.win_rate import order_metrics, respondents_judge, scores_of, win_rate, win_rates
from cuma_jax.judging import Judge, ReplyPair
from cuma_jax.preferences.preferences import Preferences
from cuma_jax.preferences.tasks import pair_messages, preference_pairs
from cuma_jax.run.run import Run
from cuma_jax.surveys.groups import check_group_fields
from cuma_jax.surveys.profiles import profile_text


@dataclasses.dataclass(frozen=True)
class Sizes:
    """How much is asked: most comparisons (`prompts`), most held-out pairs on which the judge is compared with people,
    and prompts in the report, each for so many profiles.
    """

    prompts: int = 100
    pairs: int = 50
    shown: int = 6
    profiles: int = 4


def compare_sides(
    side: Side, other: Callable[[], Side], judge: Judge | None, sampling: SamplingConfig, sizes: Sizes
) -> dict[str, Any] | None:
    """Compares a run with another side. All processes call this; process 0 alone asks the judge. A `CumaError` for no
    held-out prompts, another run that does not fit, or where the judge failed too often.

    Args:
        other: brings the other side; called after the run's replies are written.
        judge: None: on a survey, the held-out respondents are the judge; on conversations there is no win-rate.

    Returns:
        Plain JSON values (None on processes other than 0): `judge`, `against`, `winrate` (`win_rate.win_rates` and,
        of a judge, `orders`), `agreement`, `distinct`, `samples`, `sampling`, `notes`.
    """
    a, first = side.run, jax.process_index() == 0
    survey = not isinstance(a.source, Preferences)
    check_group_fields(a.source, a.config.evaluation.group_by, some=False)
    asked, notes = held_out_prompts(a, sizes.prompts)
    more, shown = groups_to_show(a, asked, sizes.shown, sizes.profiles)
    agreement = None
    if judge and first:
        pairs = [] if survey else _pairs(a, sizes.pairs)
        _announce(judge, len(asked), [comparison for comparison, _ in pairs])
        if pairs:
            agreement = _agreement(a, judge, pairs)
        else:
            judge.check()  # what is wrong with it shows before anything is written

    prompts = [*asked, *more]
    ours = write_replies(side, prompts, shown, sampling)
    against = other()
    same = prompts if against.run is a else same_for(against.run, a, prompts)
    theirs = write_replies(against, same, shown, sampling)
    if not first:
        return None

    orders, score_N = None, np.full(len(asked), np.nan)
    if judge:
        score_N, orders = _judged(a, judge, asked, ours, theirs)
    elif survey:
        option_N, count = np.array([row.option for row in asked]), len(asked)
        score_N = respondents_judge(option_N, ours.option_N[:count], theirs.option_N[:count])
    return {
        "kind": "survey" if survey else "conversations",
        "run": side.name,
        "against": against.name,
        "judge": judge.about() if judge else {"judge": "respondents"} if survey else None,
        "winrate": _win_rates(a, asked, score_N) | {"orders": orders} if judge or survey else None,
        "agreement": agreement,
        "distinct": None if survey else {"run": ours.spread, "against": theirs.spread},
        "samples": samples_of(a, prompts, shown, score_N, ours, theirs),
        "sampling": dataclasses.asdict(sampling),
        "notes": notes | ours.notes | theirs.notes,
    }


def _announce(judge: Judge, prompts: int, pairs: Sequence[ReplyPair]) -> None:
    known = judge.requests_needed(pairs)
    most = judge.config.max_requests
    text = (
        f"{judge.config.model} will be asked at most {known + 2 * prompts:,} times: {known:,} about pairs that people "
        f"judged, 2 x {prompts:,} about replies; answers in the cache cost nothing"
    )
    if most and most < known + 2 * prompts:
        text += f". judge.max_requests is {most:,}: if it does not suffice, this stops; what was answered is kept"
    print(text, file=sys.stderr)


def _judged(
    run: Run, judge: Judge, asked: Sequence[HeldOutPrompt], ours: Replies, theirs: Replies
) -> tuple[np.ndarray, dict[str, Any]]:
    comparisons = [
        ReplyPair(row.profile, row.messages, first, second)
        for row, first, second in zip(asked, ours.texts, theirs.texts, strict=False)  # what is only shown comes last
    ]
    judged = judge.compare(comparisons, progress="judging replies", max_failed=judge.config.max_failed)
    config, cluster_N = run.config.evaluation, np.array([row.prompt for row in asked])
    return scores_of(judged), order_metrics(judged, cluster_N, config.bootstrap, config.seed)


def _win_rates(run: Run, asked: Sequence[HeldOutPrompt], score_N: np.ndarray) -> dict[str, Any]:
    config, person_N = run.config.evaluation, np.array([row.person for row in asked])
    # A survey has few questions and many people; conversations are about many prompts.
    survey = asked[0].question >= 0
    cluster_N = person_N if survey else np.array([row.prompt for row in asked])
    frame = pd.DataFrame({"score": score_N, "cluster": cluster_N, "split": [row.split for row in asked]})
    frame = frame.assign(**group_columns(run.source, person_N, config.group_by))
    blocks = win_rates(frame, config.group_by, config.min_cell, config.bootstrap, config.seed)
    return blocks | {"clusters": "respondents" if survey else "prompts"}


def _pairs(run: Run, count: int) -> list[tuple[ReplyPair, int]]:
    """Held-out pairs as comparisons (first: what the person preferred), one a conversation, and their prompts."""
    source, config = run.source, run.config
    assert isinstance(source, Preferences)
    pairs = preference_pairs(source, config.dpo.min_margin)
    conversation_P = source.turns["conversation"].to_numpy()[pairs.turn_P]
    held_N = np.any([run.mask(split) for split in config.evaluation.splits], axis=0)
    rows = in_hash_order(run, np.unique(conversation_P[held_N[conversation_P]]), config.evaluation.seed)
    found = []
    for row in rows[:count]:
        name = str(source.conversations["conversation_id"].iloc[row])
        own = np.flatnonzero(conversation_P == row)
        pair = own[int(hashlib.sha256(name.encode()).hexdigest(), 16) % len(own)]
        messages, chosen, rejected = pair_messages(source, pairs, int(pair))
        profile = profile_text(run.profiles, int(run.profiles.profile_R[run.units.person_N[row]]))
        found.append((ReplyPair(profile, messages, chosen, rejected), int(run.units.item_N[row])))
    return found


def _agreement(run: Run, judge: Judge, pairs: Sequence[tuple[ReplyPair, int]]) -> dict[str, Any]:
    """How often the judge prefers what the person preferred (ties half), with its interval over prompts."""
    comparisons = [comparison for comparison, _ in pairs]
    judged = judge.compare(comparisons, progress="judging people's pairs", max_failed=judge.config.max_failed)
    config, cluster_N = run.config.evaluation, np.array([prompt for _, prompt in pairs])
    found = win_rate(scores_of(judged), cluster_N, config.bootstrap, config.seed)
    return {
        "agreement": found["win_rate"],
        "n": found["n"],
        "orders": order_metrics(judged, cluster_N, config.bootstrap, config.seed),
    }
