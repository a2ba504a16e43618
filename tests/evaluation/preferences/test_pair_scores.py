"""Pairwise scores of a run that was trained on something else, against one reply at a time.

Shapes: S supervised positions, V vocabulary, D model width.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import changed
from preference_files import of_conversations, write_community_alignment

from cuma_jax.evaluation.preferences.pair_scores import pair_frame, pair_layout, pair_metrics
from cuma_jax.evaluation.stages.scores import score_stages, stages_table
from cuma_jax.preferences.tasks import pair_messages, preference_pairs
from cuma_jax.run.forward import Model, hidden
from cuma_jax.runtime.errors import CumaError

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def run(debug_config, run_on, tmp_path_factory):
    """Sft on whole conversations; pairs of long ones are left out."""
    path = write_community_alignment(tmp_path_factory.mktemp("scores") / "ca.jsonl", 40, 12)
    data = {"buckets": (96,), "max_length": 96, "too_long": "skip", "validation_respondents": 0.0}
    return run_on(changed(of_conversations(debug_config, path, "sft", **data), adapter={"layers": 1}))


def slow_scorer(a, models, told):
    """`score(model, turn, reply)`: summed log-probability of a reply and its tokens, from all logits.

    `models`: adapters by name; `told`: messages and profile of each turn.
    """

    @jax.jit
    def logp_of(adapters, tokens_BT, length_B, profile_B, first, last):
        batch = {"tokens": tokens_BT, "lengths": length_B, "profile": profile_B}
        batch["positions"] = jnp.arange(96)[None]
        h_BSD, _ = hidden(Model(a.decoder, a.base, adapters, a.training.tables[0]), batch, None)
        unembed_VD = a.decoder.apply({"params": a.base, "adapters": adapters}, method="unembedding")
        logp_SV = jax.nn.log_softmax(jnp.einsum("sd,vd->sv", h_BSD[0], unembed_VD), axis=-1)
        next_S = jnp.append(tokens_BT[0, 1:], 0)
        picked_S = jnp.take_along_axis(logp_SV, next_S[:, None], axis=1)[:, 0]
        place_S = jnp.arange(96)
        return jnp.sum(jnp.where((place_S >= first - 1) & (place_S < last - 1), picked_S, 0.0))

    @functools.cache
    def score(name, turn, reply):
        messages, profile = told[turn]
        adapters = models[name]
        ids, mask = a.tokenizer.supervised_tokens([*messages, {"role": "assistant", "content": reply}])
        last = int(np.flatnonzero(mask)[-1]) + 1
        first = int(np.flatnonzero(~mask[:last])[-1]) + 1
        if last > 96:
            return None, last - first
        tokens = np.full((1, 96), a.tokenizer.pad_id, np.int32)
        tokens[0, :last] = ids[:last]
        found = logp_of(adapters, tokens, np.array([last]), np.array([profile], np.int32), first, last)
        return float(found), last - first

    return score


def test_scores_of_any_run_equal_one_reply_at_a_time(run, random_adapters):
    a, adapters = run, random_adapters(run)
    held_N = a.mask("unseen_annotator")
    frame = pair_frame(a, adapters, held_N, pair_layout(a))
    made, told = preference_pairs(a.source), {}
    score = slow_scorer(a, {"run": adapters, "base": a.identity_adapters(0)}, told)
    conversation_T = a.source.turns["conversation"].to_numpy()
    rows = [p for p in range(len(made)) if held_N[conversation_T[made.turn_P[p]]]]
    kept, seen, checked = 0, set(), 0
    for p in rows:
        messages, *sides = pair_messages(a.source, made, p)
        turn = int(made.turn_P[p])
        person = a.source.conversations["person"].iloc[conversation_T[turn]]
        profile = int(a.profiles.profile_R[person])
        told[turn] = messages, profile
        logp = [score("run", turn, side) for side in sides]
        if any(value is None for value, _ in logp):
            continue
        row = frame.iloc[kept]
        kept += 1
        assert row["id"] == a.source.conversations["conversation_id"].iloc[conversation_T[turn]]
        assert row["margin"] == pytest.approx(logp[0][0] - logp[1][0], abs=2e-3)
        assert row["correct"] == (row["margin"] > 0)
        assert (row["loss"], row["tokens"]) == (pytest.approx(-logp[0][0], rel=1e-4), logp[0][1])
        base = [score("base", turn, side)[0] for side in sides]
        assert row["base_margin"] == row["reference_margin"] == pytest.approx(base[0] - base[1], abs=2e-3)
        assert row["reward_correct"] == (row["margin"] > row["base_margin"])
        if turn in seen:
            assert row["turns"] == 0
            continue
        seen.add(turn)
        candidates = a.source.turns["candidates"][turn].as_py()
        means = [score("run", turn, candidate) for candidate in candidates]
        whole = all(value is not None for value, _ in means)
        assert row["turns"] == whole
        if whole:
            best = int(np.argmax([value / count for value, count in means]))
            assert row["choice_correct"] == (best == made.chosen_P[p])
            assert row["choice_chance"] == 1 / len(candidates)
            checked += 1
    assert kept == len(frame) > 10
    assert checked > 3
    with pytest.raises(CumaError, match="no pairs of replies in these rows"):
        pair_frame(a, adapters, np.zeros_like(held_N), pair_layout(a))


def test_figures_of_a_split_are_those_of_its_frame(run, random_adapters):
    blocks, frame, _ = pair_metrics(run, random_adapters(run), ("unseen_annotator",))
    block, total = blocks["unseen_annotator"], frame.sum(numeric_only=True)
    ratios = {"accuracy": total.correct / len(frame), "reward_accuracy": total.reward_correct / len(frame),
              "margin": total.margin / len(frame), "choice_accuracy": total.choice_correct / total.turns,
              "loss": total.loss / total.tokens}  # fmt: skip
    assert {name: block[name]["value"] for name in ratios} == pytest.approx(ratios)
    assert block["n"]["units"] == total.turns


def test_stages_are_held_against_each_other_on_the_same_pairs(run, random_adapters):
    """The figures of a chain's page are those of the run's own page; what a stage changed is their difference."""
    one, two = random_adapters(run), random_adapters(run, seed=1)
    scores = score_stages(run, {"one": one, "two": two})
    block = scores.values["splits"]["unseen_annotator"]
    assert list(block["stages"]) == ["base", "one", "two"]
    before, layout = None, pair_layout(run)
    for name, adapters in {"base": run.identity_adapters(0), "one": one, "two": two}.items():
        frame, found = pair_frame(run, adapters, run.mask("unseen_annotator"), layout), block["stages"][name]
        gained = np.where(frame["margin"] == frame["base_margin"], 0.5, frame["reward_correct"]).mean()
        expected = {
            "reward_accuracy": gained,
            "pair_accuracy": frame["correct"].mean(),
            "choice_accuracy": frame["choice_correct"].sum() / frame["turns"].sum(),
            "margin": frame["margin"].mean(),
        }
        for figure, value in expected.items():
            assert found[figure]["value"] == pytest.approx(value, abs=1e-5)
            if before:
                assert found["change"][figure]["value"] == pytest.approx(value - before[figure], abs=1e-5)
        before = expected
    assert block["stages"]["base"]["reward_accuracy"]["value"] == 0.5
    assert block["rows"] == len(frame)
    assert "gained on the other" in stages_table(scores)


def test_a_survey_is_scored_by_its_letters_whatever_was_trained(debug_run, random_adapters):
    """A run of the objective choice: what a pair's sides differ by is the two letters' log-probability."""
    config = changed(debug_run.config, evaluation={"max_profiles": 20})
    survey_run = dataclasses.replace(debug_run, config=config)
    adapters = random_adapters(survey_run)
    frame = pair_frame(survey_run, adapters, survey_run.mask("unseen_respondent"), pair_layout(survey_run))
    assert len(frame) == 20
    assert set(frame["id"]) <= {question.id for question in debug_run.survey.questions}
    assert (frame["tokens"] == 2).all()
    assert not frame["turns"].any()
    assert (frame["margin"] - frame["base_margin"]).abs().min() > 1e-6
