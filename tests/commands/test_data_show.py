"""What `show` counts equals a slow count, and what it marks in examples is what the loss is taken on."""

import collections
import dataclasses
import json
import re

import numpy as np
import pytest
from conftest import ROOT, changed
from made_up import odd_survey, write_preferences

from cuma_jax.commands.data.command_line import parse
from cuma_jax.commands.data.commands import show
from cuma_jax.commands.data.examples import Example, conversation_example, draw_answers, survey_example, try_tokenizer
from cuma_jax.commands.data.facts import preference_facts, split_facts, survey_facts, weight_facts
from cuma_jax.commands.data.show import bar, marked_lines, show_text, sparkline
from cuma_jax.config import load_config
from cuma_jax.config.checks import SPLITS
from cuma_jax.config.data import DataConfig
from cuma_jax.data.load import load_source, source_units
from cuma_jax.preferences.tasks import conversation_messages
from cuma_jax.runtime.errors import CumaError
from cuma_jax.surveys.profiles import build_profiles
from cuma_jax.surveys.sources.invented import make_invented
from cuma_jax.surveys.splits import split_answers
from cuma_jax.surveys.survey import Question

DATA = DataConfig(source="invented")


@pytest.fixture(scope="module")
def survey():
    return odd_survey()


@pytest.fixture(scope="module")
def facts(survey):
    return survey_facts(survey, source_units(survey), build_profiles(survey), DATA)


def test_the_counts_are_those_of_a_loop(survey, facts):
    by_country, by_option, by_weight = collections.Counter(), collections.Counter(), collections.Counter()
    weights = survey.respondents["weight"].tolist()
    countries = survey.respondents["country"].astype(object)
    for r, q, o in zip(survey.respondent_A, survey.question_A, survey.option_A, strict=True):
        country = countries.iloc[r]
        by_country[country if isinstance(country, str) else None] += 1
        by_option[survey.questions[q].id, survey.questions[q].codes[o]] += 1
        by_weight[survey.questions[q].id, survey.questions[q].codes[o]] += weights[r]
        by_weight[survey.questions[q].id] += weights[r]
    found = {row["value"]: row["answers"] for row in facts["by_country"]["values"]}
    found[None] = facts["by_country"]["missing"]["answers"]
    assert found == by_country
    for question in facts["by_question"]:
        for option in question["options"]:
            key = question["id"], option["code"]
            assert option["answers"] == by_option[key]
            assert option["share"] == pytest.approx(by_weight[key] / by_weight[question["id"]])
    json.dumps(facts)  # plain values only


def test_counts_add_up(survey, facts):
    assert sum(row["answers"] for row in facts["by_split"]["splits"]) == survey.num_answers
    split_A = split_answers(survey, DATA)
    for row in facts["by_split"]["splits"]:
        here = [a for a in range(survey.num_answers) if SPLITS[split_A[a]] == row["split"]]
        assert row["respondents"] == len({int(survey.respondent_A[a]) for a in here})
        assert row["questions"] == len({int(survey.question_A[a]) for a in here})
    everybody = [*facts["by_country"]["values"], facts["by_country"]["missing"]]
    assert sum(row["respondents"] for row in everybody) == len(survey.respondents)
    for question in facts["by_question"]:
        assert question["missing_share"] == pytest.approx(1 - question["answers"] / len(survey.respondents))
    missing = {field["field"]: field["missing"] for field in facts["profile_fields"]}
    assert missing == {field: int(survey.respondents[field].isna().sum()) for field in ("country", "sex", "age")}


def test_effective_n_is_kishs(survey, facts):
    weight = survey.respondents["weight"].tolist()
    assert facts["weights"]["effective_n"] == pytest.approx(sum(weight) ** 2 / sum(w * w for w in weight))
    assert facts["weights"]["psu"] == survey.respondents["psu"].nunique()
    assert weight_facts(make_invented())["all_equal"]
    assert weight_facts(make_invented())["effective_n"] == len(make_invented().respondents)


def test_repeated_texts_are_named():
    twice = Question("a", "Same  words?", ("Yes", "Yes"), ("1", "2"))
    made = make_invented()
    questions = (twice, Question("b", "same words?", ("Yes", "No"), ("1", "2")), *made.questions[2:])
    survey = dataclasses.replace(made, questions=questions, option_A=np.minimum(made.option_A, 1))
    facts = survey_facts(survey, source_units(survey), build_profiles(survey), DATA)
    assert facts["duplicates"] == {"question_texts": [["a", "b"]], "option_texts": ["a"]}
    assert "the same text: a, b" in show_text(facts, [], "", False)


def test_a_split_that_cannot_be_made_is_said_and_the_rest_is_shown(survey):
    nobody = dataclasses.replace(DATA, unseen_countries=0.0, split="official")
    facts = survey_facts(survey, source_units(survey), build_profiles(survey), nobody)
    assert "ships no split of its own" in facts["by_split"]["problem"]
    assert "it cannot be made" in show_text(facts, [], "", False)


@pytest.mark.parametrize(("objective", "supervised"), [("choice", ["letter"]), ("sft", ["letter", "<|im_end|>"])])
@pytest.mark.parametrize("in_prompt", [False, True])
def test_the_supervised_tokens_are_the_letter_and_for_sft_the_end_of_the_turn(objective, supervised, in_prompt):
    survey, objective_section = make_invented(), {"name": objective, "aggregate": "respondent"}
    config = changed(load_config("debug"), objective=objective_section, profile={"in_prompt": in_prompt})
    tokenizer, problem = try_tokenizer(config, "")
    assert problem == ""
    profiles = build_profiles(survey)
    for answer in draw_answers(survey, 5, seed=1):
        example = survey_example(survey, profiles, answer, tokenizer, config)
        letter = "ABCDE"[survey.option_A[answer]]
        marked = [text for text, is_marked in example.segments if is_marked]
        assert marked == ["".join(supervised).replace("letter", letter)]
        question = survey.questions[survey.question_A[answer]]
        whole = "".join(text for text, _ in example.segments)
        assert question.text in whole
        assert whole.endswith(f"<|im_start|>assistant\n{marked[0]}")
        assert (example.profile in whole) is in_prompt
        assert example.tokens == len(tokenizer.encode(whole))
        assert example.supervised == len(supervised)


def test_examples_are_of_different_questions_and_the_seed_draws_them(survey):
    picked = draw_answers(survey, 7, seed=0)
    assert len(set(survey.question_A[picked[:5]])) == 5
    assert picked == draw_answers(survey, 7, seed=0) != draw_answers(survey, 7, seed=1)


def test_lines_are_cut_without_loss_and_marks_close_on_every_line():
    line = "word " * 50 + "x" * 200
    cut = marked_lines(Example("", "", ((line, False),)), False)
    assert "".join(piece[5:] for piece in cut) == line
    assert all(len(piece) <= 100 for piece in cut)
    example = Example("", "", (("a\x1b[31m\n", False), ("b " * 90, True), ("c", False)))
    plain, coloured = marked_lines(example, False), marked_lines(example, True)
    assert "\x1b" not in "".join(plain)
    assert "".join(plain).count("⟦") == 1
    for line in coloured:
        assert line.count("\x1b[1;30;102m") == line.count("\x1b[0m")
    strip = [re.sub("\x1b\\[[0-9;]*m", "", line) for line in coloured]
    assert strip == [line.replace("⟦", "").replace("⟧", "") for line in plain]


def test_bars_and_sparklines_show_what_is_rare():
    assert bar(0) == ""
    assert bar(1e-9) != ""
    assert len(bar(1.0)) == 24
    assert sparkline([0, 0.001, 0.5, 1]) == "·▁▅█"


def test_a_survey_may_be_empty_of_answers():
    made = make_invented()
    empty = made.with_answers(np.zeros(made.num_answers, bool))
    facts = survey_facts(empty, source_units(empty), build_profiles(empty), dataclasses.replace(DATA, split="hash"))
    assert facts["answers"] == 0
    assert draw_answers(empty, 5, 0) == []
    assert show_text(facts, [], "", False)


# Conversations


@pytest.fixture(scope="module", params=["prism", "community_alignment"])
def preferences(request, tmp_path_factory):
    paths = write_preferences(tmp_path_factory.mktemp("files"))
    data = DataConfig(source=request.param, path=paths[request.param], unseen_conversations=0.1)
    return load_source(data, False, str(tmp_path_factory.mktemp("cache"))), data


def test_conversations_are_counted_as_a_loop_counts_them(preferences):
    source, data = preferences
    facts = preference_facts(source, source_units(source), build_profiles(source), data)
    json.dumps(facts)
    turns = source.turns.to_pylist()
    chosen, sizes, talks = collections.Counter(), collections.Counter(), collections.Counter()
    for turn in turns:
        sizes[len(turn["candidates"])] += 1
        talks[turn["conversation"]] += 1
        chosen[len(turn["candidates"]), turn["chosen"]] += 1
    assert {row["value"]: row["count"] for row in facts["candidates_per_turn"]} == sizes
    lengths = collections.Counter(talks.values())
    assert {row["value"]: row["count"] for row in facts["turns_per_conversation"]} == lengths
    for group in facts["chosen_position"]["by_candidates"]:
        assert group["chosen"] == [chosen[group["candidates"], i] for i in range(group["candidates"])]
    people = collections.defaultdict(set)
    for person, prompt in zip(source.conversations["person"], source.conversations["prompt"], strict=True):
        people[prompt].add(person)
    assert facts["shared_prompts"]["prompts"] == sum(len(who) > 1 for who in people.values())
    assert facts["shared_prompts"]["most_annotators"] == max(len(who) for who in people.values())
    assert sum(row["conversations"] for row in facts["by_country"]["values"]) == len(source.conversations)
    page = show_text(facts, [], "", False)
    assert max(len(line) for line in page.splitlines()) <= 100
    assert "Opening prompts of several annotators" in page


def test_every_turn_of_the_assistant_is_marked_and_nothing_else(preferences):
    source, _ = preferences
    config = changed(load_config("debug"), data={"buckets": (1024,)}, profile={"in_prompt": True})
    tokenizer, _ = try_tokenizer(config, "")
    profiles = build_profiles(source)
    for n in range(5):
        example = conversation_example(source, profiles, n, tokenizer, config)
        answers = [m["content"] for m in conversation_messages(source, n) if m["role"] == "assistant"]
        marked = [text for text, is_marked in example.segments if is_marked]
        assert marked == [f"{answer}<|im_end|>" for answer in answers]
        assert example.profile in "".join(text for text, _ in example.segments)
        assert example.supervised == sum(len(tokenizer.encode(text)) for text in marked)


def test_a_conversation_is_shortened_or_left_out_as_training_does_it_and_the_page_says_so(preferences):
    source, _ = preferences
    config, profiles = changed(load_config("debug"), data={"buckets": (1024,)}), build_profiles(source)
    tokenizer, _ = try_tokenizer(config, "")
    long = int(np.argmax(np.diff(source.first_turn_C)))
    whole = conversation_example(source, profiles, long, tokenizer, config)
    room = whole.tokens - 2
    limits = [({"max_length": room}, "shortened"), ({"max_length": 5}, "data.max_length"),
              ({"buckets": (room,)}, "shortened")]  # fmt: skip
    for limit, note in limits:
        example = conversation_example(source, profiles, long, tokenizer, changed(config, data=limit))
        assert note in example.note
        assert example.tokens is None or example.tokens < whole.tokens


def test_a_survey_of_ones_own_is_shown_with_the_splits_that_training_with_it_uses():
    path = str(ROOT / "examples" / "my_survey" / "survey.yaml")
    trained = dataclasses.replace(load_config("my_survey").data, path=path)
    survey = load_source(trained, False, "")
    expected = collections.Counter(SPLITS[split] for split in split_answers(survey, trained))
    for line in ([path], ["--source", "csv", "--path", path], ["--config", "my_survey", "--path", path]):
        _, config, _ = parse(["show", *line])
        assert config.data == trained
        facts = split_facts(source_units(survey), config.data)
        assert {row["split"]: row["answers"] for row in facts["splits"]} == expected
    _, config, _ = parse(["show", path, "--unseen_respondents", "0.5"])
    assert config.data == dataclasses.replace(trained, unseen_respondents=0.5)
    with pytest.raises(CumaError, match=r"needs data\.path"):
        show(parse(["show", "--source", "csv"])[1], 0)
