"""What may be held out of preference data and of shares, and that it is."""

import dataclasses

import numpy as np
import pytest
from preference_files import community_alignment_rows, write_community_alignment, write_prism, write_rows

from cuma_jax.config import DataConfig
from cuma_jax.config.checks import SPLITS
from cuma_jax.data.load import load_source, source_units
from cuma_jax.preferences.preferences import Preferences
from cuma_jax.surveys.sources.invented import make_invented
from cuma_jax.surveys.splits import split_rows
from cuma_jax.surveys.survey import Survey

SHARES = {"unseen_questions": 0.2, "unseen_conversations": 0.1, "unseen_countries": 0.2, "unseen_respondents": 0.15,
          "validation_respondents": 0.15}  # fmt: skip


@pytest.fixture(scope="module", params=["community_alignment", "prism"])
def data(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("prefs")
    if request.param == "prism":
        path = write_prism(folder / "prism", 250, 60)
    else:
        path = write_community_alignment(folder / "ca.csv", 300, 60)
    return DataConfig(source=request.param, path=str(path), **SHARES)


def plain(text):
    return " ".join(text.casefold().split())


def test_no_annotator_conversation_or_prompt_is_on_both_sides_of_its_split(data, cache_folder):
    """By the texts themselves, at every turn: no prompt that opens a held-out conversation is anywhere in training."""
    source = load_source(data, False, cache_folder)
    assert isinstance(source, Preferences)
    split_N = split_rows(source_units(source), data)
    of = {name: np.flatnonzero(split_N == i) for i, name in enumerate(SPLITS)}
    seen = np.concatenate([of["train"], of["validation"]])
    for name in ("train", "validation", "unseen_annotator", "unseen_prompt", "unseen_conversation", "unseen_country"):
        assert len(of[name]), name
    frame = source.conversations
    people = frame["person"].to_numpy()
    assert not set(people[of["unseen_annotator"]]) & set(people[seen])
    assert not set(people[of["validation"]]) & set(people[of["train"]])
    ids = frame["conversation_id"].to_numpy()
    assert not set(ids[of["unseen_conversation"]]) & set(ids[seen])
    country = source.respondents["country"].to_numpy()[people]
    assert not set(country[of["unseen_country"]]) & set(country[seen])
    opened: dict[int, str] = {}
    said: dict[int, set[str]] = {}
    for turn in source.turns.select(["conversation", "turn", "prompt"]).to_pylist():
        said.setdefault(turn["conversation"], set()).add(plain(turn["prompt"]))
        if turn["turn"] == 0:
            opened[turn["conversation"]] = plain(turn["prompt"])
    held = {opened[c] for c in of["unseen_prompt"]}
    assert not held & set().union(*(said[c] for c in seen))


def test_prompts_that_meet_in_a_conversation_are_held_out_together(tmp_path, cache_folder):
    rows = community_alignment_rows(60, 12)
    first = rows[0]["first_turn_prompt"]
    other = next(row for row in rows if row["first_turn_prompt"] != first)
    linked = next(row for row in rows if row["second_turn_prompt"] and row["first_turn_prompt"] == first)
    linked["second_turn_prompt"] = other["first_turn_prompt"].upper() + " "
    data = DataConfig(source="community_alignment", path=str(write_rows(tmp_path / "ca.jsonl", rows)))
    source = load_source(data, False, cache_folder)
    units = source_units(source)
    item = dict(zip(units.conversation_ids, units.item_N.tolist(), strict=True))
    assert item[str(linked["conversation_id"])] == item[str(other["conversation_id"])]
    assert len(units.item_ids) < len(source.prompt_ids)


def test_the_choice_task_holds_out_prompts_and_annotators(data, cache_folder):
    source = load_source(data, True, cache_folder)
    assert isinstance(source, Survey)
    units = source_units(source)
    split_N = split_rows(units, data)
    of = {name: np.flatnonzero(split_N == i) for i, name in enumerate(SPLITS)}
    seen = np.concatenate([of["train"], of["validation"]])
    text = np.array([plain(question.text) for question in source.questions])[source.question_A]
    assert not set(text[of["unseen_prompt"]]) & set(text[seen])
    assert not set(source.respondent_A[of["unseen_annotator"]]) & set(source.respondent_A[seen])
    assert not len(of["unseen_respondent"])
    assert not len(of["unseen_question"])


def test_shares_of_a_country_are_held_out_together_and_persons_are_not_whatever_the_survey_is_called():
    persons = dataclasses.replace(make_invented(), name="global_opinions")
    frame = persons.respondents.assign(respondent_id=[f"{r // 3}/q/{r % 3}" for r in range(len(persons.respondents))])
    persons = dataclasses.replace(persons, respondents=frame)
    shares = dataclasses.replace(persons, name="mine", persons=False)
    assert source_units(persons).person_ids[:4] == ["0/q/0", "0/q/1", "0/q/2", "1/q/0"]
    assert source_units(shares).person_ids[:4] == ["0/q", "0/q", "0/q", "1/q"]
