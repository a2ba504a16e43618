"""Training on conversations: a packed row is its conversations, and both sources train, score and report."""

import functools
import json

import jax
import numpy as np
import pytest
from conftest import changed
from preference_files import write_community_alignment, write_prism

from cuma_jax.config.checks import SPLITS

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
        data = {
            "source": source,
            "path": str(paths[source]),
            "buckets": (384,),
            "unseen_respondents": 0.15,
            "validation_respondents": 0.15,
            "unseen_countries": 0.0,
        }
        objective = {"name": "sft", "aggregate": "respondent"}
        evaluation = {"splits": ("unseen_annotator",), "group_by": ("country",), "min_cell": 3, "batch_size": 8}
        config = changed(debug_config, data=data, objective=objective, evaluation=evaluation)
        return changed(config, **sections)

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
    for name in ("loss", "accuracy", "balance", "total"):
        np.testing.assert_allclose(other[0][name], one[0][name], rtol=2e-5, err_msg=name)
    jax.tree.map(close, other[1], one[1])
    assert max(float(np.abs(g).max()) for g in jax.tree.leaves(one[1])) > 1e-4


@pytest.mark.slow
@pytest.mark.parametrize(("source", "packing"), [("community_alignment", False), ("prism", True)])
def test_training_on_conversations_learns_scores_and_reports(conversations, tmp_path, source, packing):
    from conftest import devices_of

    from cuma_jax.commands.score_run import score
    from cuma_jax.run.build import build_run
    from cuma_jax.training.loop import train

    config = conversations(
        source,
        data={"packing": packing, "buckets": (768,) if packing else (384,)},
        train={"steps": 6, "batch_size": 4, "eval_every": 6, "eval_batches": 1, "save_every": 6},
        optimizer={"learning_rate": 1e-2},
        profile={"in_prompt": packing},
        run={"dir": str(tmp_path / "run")},
    )
    with devices_of(config.mesh):
        run = build_run(config, progress=False)
    people = run.source.conversations["person"].to_numpy()
    at = {name: set(people[run.split_N == SPLITS.index(name)]) for name in ("train", "unseen_annotator")}
    assert at["train"]
    assert at["unseen_annotator"]
    assert not at["train"] & at["unseen_annotator"]
    trained = train(run, tmp_path / "run")
    score(run, trained.state.adapters, tmp_path / "run", trained.seconds)
    values = json.loads((tmp_path / "run" / "results.json").read_text())
    figures = values["splits"]["unseen_annotator"]
    assert figures["loss"]["value"] < figures["base_loss"]["value"] - 0.1
    assert figures["difference"]["value"] == pytest.approx(figures["loss"]["value"] - figures["base_loss"]["value"])
    assert figures["difference"]["low"] <= figures["difference"]["value"] <= figures["difference"]["high"]
    assert sum(g["n"]["units"] for g in figures["groups"]["country"].values()) <= figures["n"]["units"]
    page = (tmp_path / "run" / "report.html").read_text()
    assert "people never seen in training" in page
    assert "<script" not in page


@pytest.mark.slow
def test_training_on_choices_scores_accuracy_beside_chance(conversations, tmp_path):
    """Figures equal plain loops over the predicted distributions; annotators that are scored are not trained on."""
    from conftest import devices_of

    from cuma_jax.commands.score_run import score
    from cuma_jax.evaluation.surveys.prediction import predict
    from cuma_jax.run.build import build_run
    from cuma_jax.training.loop import train

    config = conversations(
        "community_alignment",
        data={"buckets": (512,)},
        objective={"name": "choice", "aggregate": "respondent"},
        train={"steps": 4, "batch_size": 8, "eval_every": 4, "eval_batches": 1, "save_every": 4},
        run={"dir": str(tmp_path / "run")},
    )
    with devices_of(config.mesh):
        run = build_run(config, progress=False)
    trained = train(run, tmp_path / "run")
    score(run, trained.state.adapters, tmp_path / "run", trained.seconds)
    figures = json.loads((tmp_path / "run" / "results.json").read_text())["splits"]["unseen_annotator"]
    survey, held = run.survey, np.flatnonzero(run.mask("unseen_annotator"))
    assert not set(survey.respondent_A[held]) & set(survey.respondent_A[run.mask("train")])
    profile_N, question_N = run.profiles.profile_R[survey.respondent_A[held]], survey.question_A[held]
    probs_NO = predict(run, trained.state.adapters, profile_N, question_N).probs_NO
    right = [int(np.argmax(row)) == option for row, option in zip(probs_NO, survey.option_A[held], strict=True)]
    loss = [-np.log(row[option]) for row, option in zip(probs_NO, survey.option_A[held], strict=True)]
    chance = [1 / len(survey.questions[q].options) for q in question_N]
    assert figures["n"]["rows"] == figures["n"]["units"] == len(held)
    assert figures["accuracy"]["value"] == pytest.approx(np.mean(right))
    assert figures["loss"]["value"] == pytest.approx(np.mean(loss), rel=1e-4)
    assert figures["chance"]["value"] == pytest.approx(np.mean(chance))
    assert figures["chance"]["low"] <= figures["chance"]["value"] <= figures["chance"]["high"]
    assert "Does it know what people prefer?" in (tmp_path / "run" / "report.html").read_text()
