"""Training on conversations: a packed row is its conversations, and both sources train, score and report."""

import functools

import jax
import numpy as np
import pytest
from conftest import changed
from preference_files import of_conversations, write_community_alignment, write_prism
from same import same_step
from saved_runs import trained_and_scored

from cuma_jax.config.checks import SPLITS
from cuma_jax.evaluation.surveys.prediction import predict

close = functools.partial(np.testing.assert_allclose, rtol=2e-4, atol=3e-6)


@pytest.fixture(scope="module")
def conversations(debug_config, tmp_path_factory):
    """`conversations(source, **sections)`: the debug model on an invented file of the source's shape."""
    folder = tmp_path_factory.mktemp("conversations")
    paths = {
        "community_alignment": write_community_alignment(folder / "ca.jsonl.gz", 160, 40),
        "prism": write_prism(folder / "prism", 120, 40),
    }

    def make(source, **sections):
        data = {"source": source, "buckets": (384,), "validation_respondents": 0.15}
        return changed(of_conversations(debug_config, paths[source], "sft", **data), **sections)

    return make


@pytest.mark.slow
@pytest.mark.parametrize("inputs", ["hidden+profile", "profile"])
def test_packed_rows_equal_their_conversations_one_a_row(
    conversations, run_on, random_adapters, loss_and_gradients, inputs
):
    """Loss, accuracy, balance and every gradient, in float32; profiles differ within a packed row."""
    config = conversations("prism", data={"buckets": (1024,)}, router={"inputs": inputs})
    config = changed(config, adapter={"dropout": 0.0}, profile={"projection_layers": 1})
    run = run_on(config)
    adapters, layout = random_adapters(run), run.training
    index = np.flatnonzero(layout.tokens.kept_C)[:6]
    plain, packed = layout.batcher(index, packing=False), layout.batcher(index, packing=True)
    assert len(packed) < len(plain) == 6
    several = packed.batch(np.arange(len(packed)), 0)
    assert len(set(several["profile"][0, : len(packed.rows[0])])) > 1
    one = loss_and_gradients(run, adapters, plain.batch(np.arange(6), 0), 0)
    other = loss_and_gradients(run, adapters, several, 0)
    kept = {name: one[0][name] for name in ("loss", "accuracy", "balance", "total")}
    same_step(other, (kept, one[1]), close, rtol=2e-5)
    assert max(float(np.abs(g).max()) for g in jax.tree.leaves(one[1])) > 1e-4


@pytest.mark.slow
@pytest.mark.parametrize(
    ("source", "packing"), [("community_alignment", False), pytest.param("prism", True, marks=pytest.mark.nightly)]
)
def test_training_on_conversations_learns_scores_and_reports(conversations, tmp_path, source, packing):
    config = conversations(
        source,
        data={"packing": packing, "buckets": (768,) if packing else (384,)},
        train={"steps": 6, "batch_size": 4, "eval_every": 6, "eval_batches": 1, "save_every": 6},
        optimizer={"learning_rate": 1e-2},
        profile={"in_prompt": packing},
    )
    run, _, figures = trained_and_scored(config, tmp_path / "run")
    people = run.source.conversations["person"].to_numpy()
    at = {name: set(people[run.split_N == SPLITS.index(name)]) for name in ("train", "unseen_annotator")}
    assert at["train"]
    assert at["unseen_annotator"]
    assert not at["train"] & at["unseen_annotator"]
    assert figures["loss"]["value"] < figures["base_loss"]["value"] - 0.1
    assert figures["difference"]["value"] == pytest.approx(figures["loss"]["value"] - figures["base_loss"]["value"])
    assert figures["difference"]["low"] <= figures["difference"]["value"] <= figures["difference"]["high"]
    assert sum(g["n"]["units"] for g in figures["groups"]["country"].values()) <= figures["n"]["units"]
    page = (tmp_path / "run" / "report.html").read_text()
    assert "people never seen in training" in page
    assert "<script" not in page


@pytest.mark.slow
@pytest.mark.nightly
def test_training_on_choices_scores_accuracy_beside_chance(conversations, tmp_path):
    """Figures equal plain loops over the predicted distributions; annotators that are scored are not trained on."""
    config = conversations(
        "community_alignment",
        data={"buckets": (512,)},
        objective={"name": "choice", "aggregate": "respondent"},
        train={"steps": 4, "batch_size": 8, "eval_every": 4, "eval_batches": 1, "save_every": 4},
    )
    run, adapters, figures = trained_and_scored(config, tmp_path / "run")
    survey, held = run.survey, np.flatnonzero(run.mask("unseen_annotator"))
    assert not set(survey.respondent_A[held]) & set(survey.respondent_A[run.mask("train")])
    profile_N, question_N = run.profiles.profile_R[survey.respondent_A[held]], survey.question_A[held]
    probs_NO = predict(run, adapters, profile_N, question_N).probs_NO
    right = [int(np.argmax(row)) == option for row, option in zip(probs_NO, survey.option_A[held], strict=True)]
    loss = [-np.log(row[option]) for row, option in zip(probs_NO, survey.option_A[held], strict=True)]
    chance = [1 / len(survey.questions[q].options) for q in question_N]
    assert figures["n"]["rows"] == figures["n"]["units"] == len(held)
    assert figures["accuracy"]["value"] == pytest.approx(np.mean(right))
    assert figures["loss"]["value"] == pytest.approx(np.mean(loss), rel=1e-4)
    assert figures["chance"]["value"] == pytest.approx(np.mean(chance))
    assert figures["chance"]["low"] <= figures["chance"]["value"] <= figures["chance"]["high"]
    assert "Does it know what people prefer?" in (tmp_path / "run" / "report.html").read_text()
