"""The paper's claim in miniature: two groups prefer opposite replies to the same prompts.

People of one country prefer one of the two replies to every prompt, people of the other the other, without exception.
No model that does not know who is asking can serve both: over the two groups it is right about half the pairs.
"""

import pytest
from conftest import changed
from preference_files import TURNS, community_alignment_rows, of_conversations, write_rows
from saved_runs import trained_and_scored

from cuma_jax.config.methods import apply_method

COUNTRIES = ("united states", "india")
PROMPTS = ("Tea?", "Rain?", "Chess?")
REPLIES = ("No, no.", "So, so.")  # of one length, so that neither is likelier for it
ANNOTATORS = 24


def opposite_rows():
    """Every annotator is asked every prompt once; the first country's people prefer the first reply."""
    known = community_alignment_rows(1, 1)[0]
    known |= {name: None for name in known if name.partition("_")[0] in TURNS}
    rows = []
    for annotator in range(ANNOTATORS):
        country = annotator % 2
        for number, prompt in enumerate(PROMPTS):
            order = (annotator + number) // 2 % 2  # which reply is shown first says nothing
            shown = REPLIES[::-1] if order else REPLIES
            liked = "ab"[shown.index(REPLIES[country])]
            rows.append(known | {
                "conversation_id": f"{annotator}.{number}", "annotator_id": f"{annotator}",
                "annotator_country": COUNTRIES[country], "first_turn_prompt": prompt,
                "first_turn_response_a": shown[0], "first_turn_response_b": shown[1],
                "first_turn_preferred_response": f"response_{liked}",
            })  # fmt: skip
    return rows


@pytest.fixture(scope="module")
def task(debug_config, tmp_path_factory):
    """A config of the constructed data; annotators that are scored are not trained on."""
    path = write_rows(tmp_path_factory.mktemp("opposite") / "ca.jsonl", opposite_rows())
    data = {"buckets": (64,), "max_length": 64, "unseen_respondents": 0.4, "validation_respondents": 0.0}
    return changed(
        of_conversations(debug_config, path, "dpo", **data),
        adapter={"layers": 2, "experts": 4, "targets": ("q", "v", "o", "up", "down")},
        profile={"fields": ("country",)},
        dpo={"beta": 0.5},
        optimizer={"learning_rate": 1e-2},
        train={"steps": 20, "batch_size": 8, "eval_every": 0, "save_every": 0, "log_every": 5},
        evaluation={"batch_size": 16},
    )


def pairwise_accuracy(config, folder):
    """Of each group, on annotators not trained on, as `python -m cuma_jax.train` does it."""
    groups = trained_and_scored(config, folder)[2]["groups"]["country"]
    assert len(groups) == 2
    return {name: (group["accuracy"]["value"], group["reward_accuracy"]["value"]) for name, group in groups.items()}


@pytest.mark.slow
def test_dpo_with_cuma_serves_both_groups_and_plain_lora_cannot(task, tmp_path):
    """At least 95% of each group's pairs, by likelihood and by implicit reward; plain LoRA: at most 60% over both."""
    cuma = pairwise_accuracy(task, tmp_path / "cuma")
    assert min(min(found) for found in cuma.values()) >= 0.95, cuma
    lora = pairwise_accuracy(apply_method(task, "lora"), tmp_path / "lora")
    for measure in (0, 1):
        assert sum(found[measure] for found in lora.values()) / 2 <= 0.6, lora
