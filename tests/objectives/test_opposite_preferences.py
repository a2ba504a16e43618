"""The paper's claim in miniature: two groups prefer opposite replies to the same prompts.

People of one country prefer one of the two replies to every prompt, people of the other the other, without exception.
No model that does not know who is asking can serve both: over the two groups it is right about half the pairs.
"""

import json

import pytest
from conftest import changed, devices_of
from preference_files import write_rows

from cuma_jax.commands.score_run import score
from cuma_jax.config.methods import apply_method
from cuma_jax.run.build import build_run
from cuma_jax.training.loop import train

COUNTRIES = ("united states", "india")
PROMPTS = ("Tea?", "Rain?", "Chess?")
REPLIES = ("No, no.", "So, so.")  # of one length, so that neither is likelier for it
ANNOTATORS = 24


def opposite_rows():
    """Every annotator is asked every prompt once; the first country's people prefer the first reply."""
    rows = []
    for annotator in range(ANNOTATORS):
        country = annotator % 2
        for number, prompt in enumerate(PROMPTS):
            order = (annotator + number) // 2 % 2  # which reply is shown first says nothing
            shown = REPLIES[::-1] if order else REPLIES
            row = {
                "conversation_id": f"{annotator}.{number}", "assigned_lang": "en", "annotator_id": f"{annotator}",
                "annotator_country": COUNTRIES[country], "annotator_age": "18-34", "annotator_gender": "female",
                "annotator_education_level": "Some post-secondary", "annotator_political": "Very left-leaning",
                "annotator_ethnicity": "Other", "is_pregenerated_first_prompt": True, "in_balanced_subset": True,
                "in_balanced_subset_10": False, "wave": "1",
            }  # fmt: skip
            for turn in ("first", "second", "third", "fourth"):
                first = turn == "first"
                row[f"{turn}_turn_prompt"] = prompt if first else None
                for letter, reply in zip("abcd", (*shown, None, None), strict=True):
                    row[f"{turn}_turn_response_{letter}"] = reply if first else None
                liked = "ab"[shown.index(REPLIES[country])]
                row[f"{turn}_turn_preferred_response"] = f"response_{liked}" if first else None
                row[f"{turn}_turn_feedback"] = None
            rows.append(row)
    return rows


@pytest.fixture(scope="module")
def task(debug_config, tmp_path_factory):
    """A config of the constructed data; annotators that are scored are not trained on."""
    path = write_rows(tmp_path_factory.mktemp("opposite") / "ca.jsonl", opposite_rows())
    return changed(
        debug_config,
        adapter={"layers": 2, "experts": 4, "targets": ("q", "v", "o", "up", "down")},
        profile={"fields": ("country",)},
        data={
            "source": "community_alignment", "path": str(path), "buckets": (64,), "max_length": 64,
            "unseen_countries": 0.0, "unseen_respondents": 0.4, "validation_respondents": 0.0,
        },
        objective={"name": "dpo", "aggregate": "respondent"},
        dpo={"beta": 0.5},
        optimizer={"learning_rate": 1e-2},
        train={"steps": 20, "batch_size": 8, "eval_every": 0, "save_every": 0, "log_every": 5},
        evaluation={"splits": ("unseen_annotator",), "group_by": ("country",), "min_cell": 3, "batch_size": 16},
    )  # fmt: skip


def pairwise_accuracy(config, folder):
    """Of each group, on annotators not trained on, as `python -m cuma_jax.train` does it."""
    with devices_of(config.mesh):
        run = build_run(config, progress=False)
    trained = train(run, folder)
    score(run, trained.state.adapters, folder, trained.seconds)
    groups = json.loads((folder / "results.json").read_text())["splits"]["unseen_annotator"]["groups"]["country"]
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
