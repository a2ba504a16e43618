"""Predictions that start from the pooled answers: the offset, what it does to loss and gradients, and who refuses it.

Shapes: Q questions, O options, B rows.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import changed
from saved_runs import save_run
from served_runs import HOME, opened, per_cell, scored_run

from cuma_jax.config import Config, from_dict, to_dict
from cuma_jax.config.methods import apply_method
from cuma_jax.evaluation.surveys.prediction import predict
from cuma_jax.interop.export.official import export_reference
from cuma_jax.interop.export.peft import check_peft
from cuma_jax.losses.choice import choice_sums
from cuma_jax.objectives.choice import dropped_starts, prior_targets
from cuma_jax.run.build import build_run
from cuma_jax.run.forward import Model, hidden
from cuma_jax.run.init_adapters import check_start
from cuma_jax.run.pooled_start import PRIOR, PooledStart, pooled_shares, with_pooled_start
from cuma_jax.runtime.errors import CumaError
from cuma_jax.serving.bundle.export import export_bundle
from cuma_jax.surveys.sources.invented import make_invented

POOLED = {"objective": {"start": "pooled"}}


@pytest.fixture(scope="module")
def pooled_config(debug_config):
    splits = ("unseen_respondent", "unseen_country", "unseen_question")
    evaluation = {"splits": splits, "max_profiles": 30, "bootstrap": 20, "option_orders": 2}
    return changed(debug_config, data={"unseen_questions": 0.2}, evaluation=evaluation, **POOLED)


@pytest.fixture(scope="module")
def pooled_run(run_on, pooled_config):
    return run_on(pooled_config)


@pytest.fixture(scope="module")
def base_run(run_on, pooled_config):
    """The same run that starts from the base."""
    return run_on(changed(pooled_config, objective={"start": "base"}))


def everybody(run):
    """Some pairs of (profile, question), every question among them."""
    questions = len(run.survey.questions)
    profile_N = np.repeat(np.arange(0, len(run.profiles), max(len(run.profiles) // 4, 1)), questions).astype(np.int32)
    return profile_N, np.tile(np.arange(questions), len(profile_N) // questions).astype(np.int32)


def test_pooled_shares_are_the_weighted_answers_of_training_with_half_an_answer_more():
    survey = make_invented()
    weight_R = np.random.default_rng(0).choice([0.0, 0.5, 2.0], len(survey.respondents))
    survey = dataclasses.replace(survey, respondents=survey.respondents.assign(weight=weight_R))
    train_A = (np.random.default_rng(1).random(survey.num_answers) < 0.1) & (survey.question_A != 2)
    found_QO = pooled_shares(survey, train_A)
    assert np.isnan(found_QO[2]).any()
    for q, question in enumerate(survey.questions):
        if q == 2:
            continue
        weights = [
            (weight_R[r], o)
            for r, one, o, train in zip(survey.respondent_A, survey.question_A, survey.option_A, train_A, strict=True)
            if train and one == q
        ]
        total, square = sum(w for w, _ in weights), sum(w * w for w, _ in weights)
        counts = [sum(w for w, o in weights if o == option) * total / square for option in range(len(question.options))]
        expected = [(count + PRIOR) / (sum(counts) + PRIOR * len(counts)) for count in counts]
        np.testing.assert_allclose(found_QO[q, : len(expected)], expected, rtol=1e-12)
        assert not found_QO[q, len(expected) :].any()


@pytest.mark.slow
@pytest.mark.parametrize("sections", [{}, {"train": {"question_cache": "off"}}])
def test_untrained_it_predicts_the_pooled_answers_and_new_questions_as_the_base(
    run_on, pooled_config, base_run, sections
):
    run = run_on(changed(pooled_config, **sections))
    profile_N, question_N = everybody(run)
    found = predict(run, run.identity_adapters(0), profile_N, question_N)
    plain = predict(base_run, base_run.identity_adapters(0), profile_N, question_N)
    shares_QO = pooled_shares(run.survey, run.mask("train"))
    known_N = np.isfinite(shares_QO).all(1)[question_N]
    assert known_N.any()
    assert not known_N.all()
    for probs_NO in found.by_order:  # of as many texts
        np.testing.assert_allclose(probs_NO[known_N], shares_QO[question_N[known_N]], atol=2e-6)
    np.testing.assert_array_equal(found.probs_NO[~known_N], plain.probs_NO[~known_N])


@pytest.mark.slow
def test_loss_and_gradients_are_those_of_pooled_plus_the_difference_of_two_models(
    run_on, pooled_config, random_adapters, loss_and_gradients, train_batches
):
    """The twin runs the base through the whole decoder, with adapters that add nothing, on the same rows.

    Soft gates: with the best K of experts, rounding may choose another one.
    """
    soft = changed(pooled_config, router={"gate": "soft"})
    pooled_run, base_run = run_on(soft), run_on(changed(soft, objective={"start": "base"}))
    adapters, (bucket, batch) = random_adapters(pooled_run), train_batches(pooled_run)[0]
    assert "offset" in batch
    plain = {name: array for name, array in batch.items() if name != "offset"}
    same = train_batches(base_run)[0][1]
    assert same.keys() == plain.keys()  # off, batches hold nothing new
    for name, array in same.items():
        np.testing.assert_array_equal(array, plain[name])
    template_B = batch["template"]
    question_B = np.argmax(pooled_run.training.tokens.template_QO[:, :1] == template_B, axis=0)
    share_BO = pooled_shares(pooled_run.survey, pooled_run.mask("train"))[question_B]
    decoder, identity = pooled_run.decoder, pooled_run.identity_adapters(0)

    # Arguments, not constants: else the compiler computes half of the model itself.
    def logits(tree, base, tables, rows):
        h_BSD, _ = hidden(Model(decoder, base, tree, tables), rows, None)
        variables = {"params": base, "adapters": tree}
        return decoder.apply(variables, h_BSD[:, 0], rows["option_ids"], method="option_logits")

    def twin(tree, identity, base, tables, rows, share_BO):
        there_BO = share_BO > 0
        log_BO = jnp.log(jnp.where(there_BO, share_BO, 1.0))
        difference_BO = logits(tree, base, tables, rows) - logits(identity, base, tables, rows)
        logits_BO = jnp.where(there_BO, log_BO + difference_BO, 0.0)
        of = rows["options"], rows["target"], rows["weight"]
        return choice_sums(logits_BO, *of, "cross_entropy")["loss"].mean()

    given = identity, pooled_run.base, pooled_run.training.tables[bucket], plain, share_BO
    value, slopes = jax.jit(jax.value_and_grad(twin))(adapters, *given)
    no_balance = dataclasses.replace(pooled_run, config=changed(pooled_run.config, objective={"balance": 0.0}))
    metrics, gradients = loss_and_gradients(no_balance, adapters, batch, bucket)
    np.testing.assert_allclose(metrics["loss"], value, rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=2e-6), gradients, slopes)


def test_a_share_of_training_rows_starts_from_the_base_and_none_of_validation():
    offset_BO = np.random.default_rng(0).normal(size=(4000, 3)).astype(np.float32)
    batch = {"offset": jnp.asarray(offset_BO), "weight": jnp.ones(4000)}
    key = jax.random.key(0)
    found_BO = np.asarray(dropped_starts(batch, 0.25, key)["offset"])
    dropped_B = (found_BO == 0).all(1)
    assert 0.2 < dropped_B.mean() < 0.3
    np.testing.assert_array_equal(found_BO[~dropped_B], offset_BO[~dropped_B])
    other_BO = np.asarray(dropped_starts(batch, 0.25, jax.random.fold_in(key, 1))["offset"])
    assert ((other_BO == 0).all(1) != dropped_B).any()
    assert dropped_starts(batch, 0.25, None) is batch
    assert dropped_starts(batch, 0.0, key) is batch


@pytest.mark.slow
def test_training_rows_are_as_if_more_people_had_answered_as_all_do(pooled_run, train_batches):
    """The mean target over a question's answers is that of its answers and the others together; others stay."""
    survey, train_A = pooled_run.survey, pooled_run.mask("train")
    config = changed(pooled_run.config, objective={"start_answers": 50.0})
    layout = dataclasses.replace(pooled_run.training, config=config)
    start = PooledStart(
        config, pooled_run.decoder, pooled_run.base, pooled_run.base_shardings, pooled_run.mesh, pooled_run.tokenizer
    )
    layout = with_pooled_start(layout, start, train_A)
    cells = layout.training_rows(train_A)
    batch = cells.batch(np.arange(len(cells)), 0)
    np.testing.assert_array_equal(batch["offset"], pooled_run.training.start.offset_QO[cells.question_N])
    target_NO = np.asarray(prior_targets(batch))
    shares_QO = pooled_shares(survey, train_A)
    for q in np.unique(cells.question_N):
        n = (survey.question_A[train_A] == q).sum()
        mine = cells.question_N == q
        expected = (n * batch["target"][mine] + 50 * shares_QO[q]) / (n + 50)
        np.testing.assert_allclose(target_NO[mine], expected, atol=1e-6)
    plain = train_batches(pooled_run)[0][1]
    assert prior_targets(plain) is plain["target"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "sections",
    [
        pytest.param({}, marks=pytest.mark.nightly),
        {"profile": {"in_prompt": True}},
        {"evaluation": {"hold": "pooled"}},
        pytest.param({"evaluation": {"hold": "pooled"}, "objective": {"start": "base"}}, marks=pytest.mark.nightly),
    ],
)
def test_a_model_that_is_served_predicts_as_evaluate_does_whatever_else_is_asked(
    own_settings, run_on, pooled_config, random_adapters, tmp_path, sections
):
    """From its bundle, and from an export that leaves the answers out."""
    run = run_on(changed(pooled_config, **sections))
    folder = scored_run(tmp_path / "run", run, random_adapters(run))
    export_bundle(folder, "last", False, tmp_path / "export")
    model, exported = (opened(of, run.config.mesh) for of in (folder, tmp_path / "export"))
    for one in (model, exported):
        one.predict("country=Belmora", run.survey.questions[0].id)
        for wording in one._wordings._known.values():
            wording.probs.clear()
    if run.config.evaluation.hold == "pooled":
        assert len(model._contents.results["hold"]) > 2
        with pytest.raises(CumaError, match=r"not fitted for the checkpoint best; evaluate it first"):
            opened(folder, run.config.mesh, checkpoint="best")
        with pytest.raises(CumaError, match=r"not fitted for the checkpoint best; evaluate it first"):
            export_bundle(folder, "best", True, tmp_path / "other")
    cells = list(per_cell(folder).items())
    for (split, group, question), (predicted, *_) in cells:
        share = model.predict({"country": group}, question, people=split, option_orders=2)["share"]
        np.testing.assert_allclose(share, predicted, atol=1e-6)
    asked = [exported.request(f"country={cells[0][0][1]}", [q.id for q in run.survey.questions], option_orders=2)]
    asked.append(exported.request("country=Ardenia", HOME))
    together = exported.predict_many(asked)
    alone = model.predict_many(asked[:1])[0], model.predict_many(asked[1:])[0]
    for one, other in zip(together, alone, strict=True):
        np.testing.assert_allclose(one["share"], other["share"], atol=1e-6)


def test_adapters_of_other_formats_and_of_other_starts_are_refused(debug_config, run_on, random_adapters, tmp_path):
    config = changed(apply_method(debug_config, "lora"), **POOLED)
    for export in (check_peft, lambda config: export_reference(config, tmp_path, "last", "float32", tmp_path / "out")):
        with pytest.raises(CumaError, match=r"objective.start pooled cannot be .* Use --format bundle"):
            export(config)
    plain = run_on(apply_method(debug_config, "lora"))
    folder = save_run(tmp_path / "plain", plain, random_adapters(plain))
    with pytest.raises(CumaError, match=r"has objective.start base, this one pooled.*Set --objective.start base"):
        check_start(changed(config, adapter={"init_from": str(folder)}), tmp_path / "new")


def test_strengths_need_validation_respondents_before_anything_is_trained(debug_config):
    config = changed(debug_config, evaluation={"hold": "pooled"}, data={"validation_respondents": 0.0})
    with pytest.raises(CumaError, match=r"evaluation.hold is pooled, but there are no validation respondents"):
        build_run(config, progress=False, devices=jax.devices()[:1])


def test_what_was_saved_before_starts_from_the_base():
    values = to_dict(Config())
    for field in ("start", "start_dropout", "start_answers"):
        del values["objective"][field]
    del values["evaluation"]["hold"]
    assert from_dict(values) == Config()
    assert Config().objective.start == "base"
