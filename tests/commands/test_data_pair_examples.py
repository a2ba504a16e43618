"""What `show` marks in pairs is what DPO's loss is taken on."""

import pytest
from conftest import changed
from made_up import odd_survey
from preference_files import write_community_alignment

from cuma_jax.commands.data import commands
from cuma_jax.commands.data.examples import survey_pair_examples, text_pair_examples, try_tokenizer
from cuma_jax.config import Config, ModelConfig, ObjectiveConfig, ProfileConfig
from cuma_jax.config.data import DataConfig
from cuma_jax.data.pairs import build_survey_pairs
from cuma_jax.data.preference_pairs import PairRules, build_preference_pairs
from cuma_jax.data.survey_tokens import build_survey_tokens
from cuma_jax.preferences.load import load_preferences
from cuma_jax.preferences.tasks import preference_pairs
from cuma_jax.surveys.profiles import build_profiles


@pytest.fixture(scope="module")
def config(cache_folder, tmp_path_factory):
    path = write_community_alignment(tmp_path_factory.mktemp("show") / "ca.jsonl", 6, 3)
    return Config(
        model=ModelConfig(source="random:tiny"),
        profile=ProfileConfig(in_prompt=True),
        data=DataConfig(source="community_alignment", path=str(path)),
        objective=ObjectiveConfig("dpo", aggregate="respondent"),
    )


def test_examples_of_pairs_are_the_rows_of_training(config, cache_folder):
    source = load_preferences(config.data, cache_folder)
    profiles, pairs = build_profiles(source), preference_pairs(source)
    tokenizer, _ = try_tokenizer(config, cache_folder)
    rows = build_preference_pairs(source, profiles, tokenizer, PairRules(True, 1.0, 1024, "error", "error"), False)
    for p in (0, len(pairs) - 1):
        for side, example in enumerate(text_pair_examples(source, profiles, pairs, p, tokenizer, config)):
            prompt, reply = rows.replies.tokens(int(rows.reply_P2[p, side]))
            text = tokenizer.decode(reply.tolist())
            assert example.as_json()["supervised_texts"] == [text]
            assert example.as_json()["text"] == tokenizer.decode(prompt.tolist()) + text
            assert (example.tokens, example.supervised) == (len(prompt) + len(reply), len(reply))
    long = changed(config, data={"max_length": 20})
    assert "at most 20" in text_pair_examples(source, profiles, pairs, 0, tokenizer, long)[0].note
    plain = text_pair_examples(source, profiles, pairs, 0, None, config)
    assert [e.title.rpartition(": ")[2] for e in plain] == ["the preferred reply", "the other reply"]


def test_examples_of_survey_pairs_are_the_rows_of_training(config, cache_folder):
    survey = odd_survey()
    profiles = build_profiles(survey)
    tokenizer, _ = try_tokenizer(config, cache_folder)
    pairs = build_survey_pairs(survey, profiles, build_survey_tokens(survey.questions, profiles, tokenizer, "dpo"), 0)
    for answer in (0, 31):
        for side, example in enumerate(survey_pair_examples(survey, profiles, answer, tokenizer, config)):
            row = pairs.replies.fill(pairs.reply_P2[answer, [side]], 1024, 2)
            text = tokenizer.decode(row["labels"][0].tolist())
            assert example.as_json()["supervised_texts"] == [text]
            fed = row["tokens"][0, : row["lengths"][0] - 1].tolist()
            assert example.as_json()["text"] == tokenizer.decode(fed) + text


def test_show_prints_both_sides(config, cache_folder):
    found = commands.show(changed(config, run={"cache_dir": cache_folder}), examples=2, seed=1)
    assert found.text.count("the preferred reply") == found.text.count("the other reply") == 2
    assert len({row["supervised_texts"][0] for row in found.facts["examples"]}) == 4
