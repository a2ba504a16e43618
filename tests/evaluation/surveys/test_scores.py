"""The laws of `evaluate`, on a small survey with weights, strata, missing countries and an unordered question."""

import dataclasses
import json
import pathlib

import numpy as np
import pandas as pd
import pytest
from guessing import evaluate_guess

from cuma_jax.config import EvaluationConfig
from cuma_jax.evaluation import Results, read_results, summary_table, write_results
from cuma_jax.evaluation.metrics.bootstrap import poisson_weights
from cuma_jax.evaluation.metrics.distances import distance, nll
from cuma_jax.evaluation.results import read_resamples
from cuma_jax.evaluation.surveys.grouping import build_clusters, select_answers
from cuma_jax.runtime.errors import CumaError
from cuma_jax.surveys.groups import MISSING, build_groups
from cuma_jax.surveys.profiles import build_profiles
from cuma_jax.surveys.splits import SPLITS
from cuma_jax.surveys.survey import Question, Survey

SIZES = np.array([4, 2, 3])
CONFIG = EvaluationConfig(splits=("unseen_respondent",), min_cell=10, bootstrap=200)


def make_survey(respondents: int = 400, seed: int = 0) -> Survey:
    rng = np.random.default_rng(seed)
    country_R = rng.choice(["Aland", "Boria", "Cesta", "Durn", ""], respondents, p=[0.3, 0.25, 0.2, 0.15, 0.1])
    people = pd.DataFrame({
        "respondent_id": [f"r{i}" for i in range(respondents)],
        "weight": rng.gamma(4, 0.25, respondents),
        "country": pd.Categorical(np.where(country_R == "", None, country_R)),
        "age": pd.Categorical(rng.choice(["young", "old"], respondents)),
    })  # fmt: skip
    questions = tuple(
        Question(f"q{i}", f"Question {i}?", tuple("abcd"[:n]), tuple("1234"[:n]), ordered=i != 2)
        for i, n in enumerate(SIZES)
    )
    respondent_A = np.repeat(np.arange(respondents, dtype=np.int32), 3)
    question_A = np.tile(np.arange(3, dtype=np.int32), respondents)
    lean_R = 0.8 * (people["country"].cat.codes.to_numpy() / 4)
    draw_A = np.clip(0.5 * rng.random(len(respondent_A)) + lean_R[respondent_A] * 0.6, 0, 0.999)
    option_A = (draw_A * SIZES[question_A]).astype(np.int32)
    return Survey("small", questions, people, ("country", "age"), respondent_A, question_A, option_A)


def halves(survey: Survey) -> np.ndarray:
    return np.where(survey.respondent_A % 2 == 0, SPLITS.index("train"), SPLITS.index("unseen_respondent"))


def some_predictions(profile_N: np.ndarray, question_N: np.ndarray) -> np.ndarray:
    """A distribution that depends on the pair only."""
    raw_NO = 0.1 + np.abs(np.sin(np.arange(4) * 1.7 + profile_N[:, None] * 0.9 + question_N[:, None]))
    raw_NO = raw_NO * (np.arange(4) < SIZES[question_N][:, None])
    return (raw_NO / raw_NO.sum(-1, keepdims=True)).astype(np.float32)


def run(survey: Survey, predict=some_predictions, **config) -> Results:
    config = dataclasses.replace(CONFIG, **config)
    return evaluate_guess(survey, build_profiles(survey), halves(survey), predict, config)


def of(results: Results) -> dict:
    return results.values["splits"]["unseen_respondent"]


def marginal(survey: Survey):
    """Predicts everybody's answers in training."""
    train = halves(survey) == SPLITS.index("train")
    mass_QO = np.zeros((3, 4))
    weight_A = survey.respondents["weight"].to_numpy()[survey.respondent_A]
    np.add.at(mass_QO, (survey.question_A[train], survey.option_A[train]), weight_A[train])
    pooled_QO = mass_QO / mass_QO.sum(-1, keepdims=True)
    return lambda profile_N, question_N: pooled_QO[question_N]


@pytest.fixture(scope="module")
def survey() -> Survey:
    return make_survey()


@pytest.fixture(scope="module")
def results(survey) -> Results:
    return run(survey)


def slow_cells(survey: Survey) -> pd.DataFrame:
    """One row a scored answer, by loops."""
    profiles = build_profiles(survey)
    rows = []
    for respondent, question, option, split in zip(
        survey.respondent_A, survey.question_A, survey.option_A, halves(survey), strict=True
    ):
        person = survey.respondents.iloc[respondent]
        rows.append({
            "split": SPLITS[split], "question": question, "option": option, "weight": person["weight"],
            "group": MISSING if pd.isna(person["country"]) else person["country"],
            "predicted": some_predictions(profiles.profile_R[[respondent]], np.array([question]))[0],
        })  # fmt: skip
    return pd.DataFrame(rows)


def slow_ece(p_NO, option_N, weight_N):
    """Expected calibration error, a bin at a time."""
    top_N, total = p_NO.max(-1), 0.0
    for low in np.arange(10) / 10:
        inside = (top_N >= low) & ((top_N < low + 0.1) | (low == 0.9))
        if inside.any():
            right = np.average(p_NO[inside].argmax(-1) == option_N[inside], weights=weight_N[inside])
            confidence = np.average(top_N[inside], weights=weight_N[inside])
            total += weight_N[inside].sum() / weight_N.sum() * abs(confidence - right)
    return total


def test_scores_equal_a_slow_twin(survey, results):
    table = slow_cells(survey)
    held, train = table[table["split"] == "unseen_respondent"], table[table["split"] == "train"]
    without = held["group"] == MISSING
    assert results.values["splits"]["unseen_respondent"]["n"]["answers_without_group"] == without.sum() > 0
    held = held[~without]
    macro = {"emd": [], "nll": [], "pooled": [], "group": []}
    for q, size in enumerate(SIZES):
        marginal = np.bincount(train[train.question == q].option, train[train.question == q].weight, 4)
        found = results.values["splits"]["unseen_respondent"]["questions"][f"q{q}"]["methods"]
        distances = {"emd": [], "pooled": [], "group": []}
        for group, cell in held[held.question == q].groupby("group"):
            true_O = np.bincount(cell.option, cell.weight, 4) / cell.weight.sum()
            predicted_O = np.average(np.stack(cell.predicted), axis=0, weights=cell.weight)
            own = train[(train.question == q) & (train.group == group)]
            own_O = np.bincount(own.option, own.weight, 4)
            for name, p_O in (("emd", predicted_O), ("pooled", marginal), ("group", own_O)):
                distances[name].append(distance(true_O, p_O / p_O.sum(), np.array(size), np.array(q != 2)))
        cell = held[held.question == q]
        p_NO = np.stack(cell.predicted)
        macro["nll"].append(np.average(nll(p_NO, cell.option.to_numpy()), weights=cell.weight))
        hits = np.average(p_NO.argmax(-1) == cell.option, weights=cell.weight)
        assert found["model"]["nll"]["value"] == pytest.approx(macro["nll"][-1], abs=1e-5)
        onehot_NO = np.eye(4)[cell.option]
        spoilt = np.average(((p_NO - onehot_NO) ** 2).sum(-1), weights=cell.weight)
        assert found["model"]["brier"]["value"] == pytest.approx(spoilt, abs=1e-5)
        size_ece = slow_ece(p_NO, cell.option.to_numpy(), cell.weight.to_numpy())
        assert found["model"]["ece"]["value"] == pytest.approx(size_ece, abs=1e-5)
        assert found["model"]["accuracy"]["value"] == pytest.approx(hits, abs=1e-5)
        for name, method in (("emd", "model"), ("pooled", "pooled"), ("group", "group")):
            macro[name].append(np.mean(distances[name]))
            assert found[method]["emd"]["value"] == pytest.approx(macro[name][-1], abs=1e-5)
    overall = results.values["splits"]["unseen_respondent"]["overall"]
    assert overall["methods"]["model"]["emd"]["value"] == pytest.approx(np.mean(macro["emd"]), abs=1e-5)
    assert overall["methods"]["model"]["nll"]["value"] == pytest.approx(np.mean(macro["nll"]), abs=1e-5)
    difference = np.mean(macro["emd"]) - np.mean(macro["pooled"])
    assert overall["difference"]["pooled"]["value"] == pytest.approx(difference, abs=1e-5)


def test_every_figure_has_its_n_and_an_interval_around_it(results):
    def figures_in(node, path=""):
        if isinstance(node, dict) and "value" in node:
            yield path, node
        elif isinstance(node, dict):
            for key, value in node.items():
                yield from figures_in(value, f"{path}/{key}")

    found = list(figures_in(results.values["splits"]))
    assert len(found) > 100
    for path, figure in found:
        assert {"answers", "respondents", "cells", "questions"} <= set(figure), path
        if figure["value"] is not None and not path.endswith("floor"):
            assert figure["low"] <= figure["value"] + 1e-9, path
            assert figure["value"] <= figure["high"] + 1e-9, path


@pytest.mark.slow
def test_a_resample_is_the_plain_evaluation_of_a_survey_with_its_respondents_repeated(survey):
    found = run(survey, bootstrap=20).resamples
    held_R = np.unique(survey.respondent_A[halves(survey) == SPLITS.index("unseen_respondent")])
    held_R = held_R[survey.respondents["country"].notna().to_numpy()[held_R]]
    seed = (CONFIG.seed, SPLITS.index("unseen_respondent"))
    (copies_RB,) = poisson_weights(len(held_R), 20, seed, 20)
    weight_R = survey.respondents["weight"].to_numpy().copy()
    weight_R[held_R] *= copies_RB[:, 7]
    again = run(dataclasses.replace(survey, respondents=survey.respondents.assign(weight=weight_R)))
    for metric in ("emd", "js", "nll", "accuracy"):
        expected_Q = [question["methods"]["model"][metric]["value"] for question in of(again)["questions"].values()]
        np.testing.assert_allclose(found[f"unseen_respondent/{metric}"][:, 7], expected_Q, atol=1e-5)


def test_a_model_that_knows_the_groups_closes_the_distance_and_the_pooled_marginal_shows_collapse():
    survey = make_survey(3000)
    profiles = build_profiles(survey)
    country_P = profiles.codes_PF[:, 0]
    table_GQO = np.zeros((5, 3, 4))
    country_R = np.where(survey.respondents["country"].isna(), -1, country_P[profiles.profile_R])
    np.add.at(table_GQO, (country_R[survey.respondent_A], survey.question_A, survey.option_A), 1)
    table_GQO /= table_GQO.sum(-1, keepdims=True)
    good = of(run(survey, lambda p, q: table_GQO[country_P[p], q], bootstrap=300))["overall"]
    assert good["share_closed"]["model"]["value"] > 0.9
    assert good["difference"]["pooled"]["high"] < 0
    assert good["methods"]["model"]["spread_ratio"]["value"] == pytest.approx(1, abs=0.15)
    assert good["methods"]["model"]["correlation"]["value"] > 0.95
    assert good["spread"]["true_spread_corrected"]["value"] < good["spread"]["true_spread"]["value"]
    bad = of(run(survey, lambda p, q: table_GQO.mean(0)[q], bootstrap=300))["overall"]
    assert bad["methods"]["model"]["spread_ratio"]["value"] < 0.01
    assert bad["methods"]["pooled"]["spread_ratio"]["value"] < 0.01
    # Paired: two near-equal predictions are told apart better than their own intervals would.
    paired = bad["difference"]["pooled"]["high"] - bad["difference"]["pooled"]["low"]
    assert paired < bad["methods"]["model"]["emd"]["high"] - bad["methods"]["model"]["emd"]["low"]


def test_questions_of_one_group_are_left_out_of_the_mean_over_several_groups(survey, results):
    abroad_A = survey.respondents["country"].to_numpy()[survey.respondent_A] != "Aland"
    found = of(run(survey.with_answers(~(abroad_A & (survey.question_A == 1)))))
    assert found["questions"]["q1"]["floor"]["cells"] == 1
    several = [found["questions"][q]["methods"]["model"]["emd"]["value"] for q in ("q0", "q2")]
    assert found["several_groups"]["methods"]["model"]["emd"]["value"] == pytest.approx(np.mean(several))
    assert found["several_groups"]["floor"]["questions"] == 2
    assert found["overall"]["floor"]["questions"] == 3
    few, only = found["few_groups"]["methods"], found["questions"]["q1"]["methods"]
    assert few["model"]["emd"] == only["model"]["emd"]
    assert of(results)["several_groups"] == of(results)["overall"]
    assert of(results)["few_groups"] is None


def test_each_pair_is_predicted_once_over_all_splits(survey):
    config = dataclasses.replace(CONFIG, splits=("unseen_respondent", "train"))
    profile_N, question_N = select_answers(survey, build_profiles(survey), halves(survey), config).pairs
    assert len(set(zip(profile_N, question_N, strict=True))) == len(profile_N)
    assert np.all(np.diff(question_N) >= 0), "sorted by question, so that a question's cache is used once"


def test_sampled_profiles_are_the_same_in_any_row_order_and_are_counted(survey):
    order = np.random.default_rng(0).permutation(survey.num_answers)
    first, second = (run(s, max_profiles=6, min_cell=2, bootstrap=0) for s in (survey, survey.with_answers(order)))
    question = of(first)["questions"]["q0"]
    assert (question["n_profiles_kept"], question["n_profiles"]) == (6, 8)
    assert of(first)["n"]["answers_of_profiles_not_sampled"] > 0
    pd.testing.assert_frame_equal(first.per_cell, second.per_cell)


def test_seed_decides_everything(survey, results):
    assert run(survey).values == results.values
    other, here = (of(r)["overall"]["methods"]["model"]["emd"] for r in (run(survey, seed=1), results))
    assert other["value"] == here["value"]
    assert other["low"] != here["low"]


def test_held_out_answers_never_reach_the_baselines(survey, results):
    held_A = halves(survey) != SPLITS.index("train")
    flipped = np.where(held_A, SIZES[survey.question_A] - 1 - survey.option_A, survey.option_A).astype(np.int32)
    changed = run(dataclasses.replace(survey, option_A=flipped))
    assert changed.per_cell["n_train"].equals(results.per_cell["n_train"])
    for row_a, row_b in zip(changed.per_cell.itertuples(), results.per_cell.itertuples(), strict=True):
        np.testing.assert_allclose(row_a.true, row_b.true[::-1], atol=1e-6)
        assert row_a.predicted == row_b.predicted


def test_psu_moves_its_respondents_together_and_widens_the_interval(survey, results):
    # Ten psus that hold people who answer alike: the effective sample is ten, not two hundred.
    rank_R = pd.Series(survey.option_A[survey.question_A == 0]).rank(method="first").to_numpy()
    people = survey.respondents.assign(psu=pd.Series((rank_R // 40).astype(int).astype(str)))
    clustered = run(dataclasses.replace(survey, respondents=people))
    assert "primary sampling units" in clustered.values["interval"]

    def width(r):
        emd = of(r)["questions"]["q0"]["methods"]["model"]["emd"]
        return emd["high"] - emd["low"]

    assert width(clustered) > 1.5 * width(results)


def test_a_psu_label_is_its_own_in_each_group_and_a_missing_one_is_one_person(survey):
    people = survey.respondents.assign(psu="1")
    people.loc[:4, "psu"] = None
    survey = dataclasses.replace(survey, respondents=people)
    groups = build_groups(survey, ("country",))
    cluster_R = build_clusters(survey, groups)
    assert len(np.unique(cluster_R[:5])) == 5
    assert len(np.unique(cluster_R[5:])) == len(groups.names) == 5
    assert not set(cluster_R[:5]) & set(cluster_R[5:])


def test_results_survive_the_disk_and_only_process_zero_writes(results, tmp_path):
    write_results(results, tmp_path, process_index=1)
    assert not list(tmp_path.iterdir())
    write_results(results, tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["per_cell.parquet", "resamples.npz", "results.json"]
    again = read_results(tmp_path)
    assert again.values == json.loads(json.dumps(results.values))
    assert again.per_cell.shape == results.per_cell.shape
    np.testing.assert_allclose(again.per_cell["true"][0], results.per_cell["true"][0])
    (tmp_path / "results.json").write_text('{"schema": 99}')
    with pytest.raises(CumaError, match="schema 99"):
        read_results(tmp_path)
    (tmp_path / "results.json").unlink()
    with pytest.raises(CumaError, match=r"has no results\.json; run `python -m cuma_jax.evaluate --run '/a b'`"):
        read_results(pathlib.Path("/a b"))  # the command as a shell reads it


def test_summary_table_is_aligned_and_marks_unordered_questions(results):
    lines = summary_table(results).splitlines()
    body = lines[: lines.index("")]
    assert body[0].split()[:3] == ["split", "question", "CuMA"]
    assert len(body) == 2 + 1 + 3
    assert body[2].startswith("unseen_respondent  overall")
    assert "q2 *" in body[-1]
    assert len({len(line) for line in body}) == 1
    assert max(map(len, body)) <= 110


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"splits": ("unseen_country",)}, "split 'unseen_country' has no answers"),
        ({"group_by": ("planet",)}, "evaluation.group_by names 'planet'.*country, age"),
        ({"group_by": ()}, "evaluation.group_by is empty"),
        ({"min_cell": 500}, "no cell of country x question with at least 500"),
    ],
)
def test_user_mistakes_are_named(survey, change, message):
    with pytest.raises(CumaError, match=message):
        run(survey, **change)


def test_broken_predictions_and_weights_are_refused(survey):
    def spoiled(factor):
        return lambda p, q: some_predictions(p, q) * np.where(np.arange(len(p)) == 0, np.float32(factor), 1)[:, None]

    with pytest.raises(CumaError, match="1 distributions that are not finite"):
        run(survey, spoiled(np.nan))
    with pytest.raises(ValueError, match="sum to 1"):
        run(survey, spoiled(2.0))
    with pytest.raises(ValueError, match="expected"):
        run(survey, lambda p, q: some_predictions(p, q)[:, :3])
    people = survey.respondents.assign(weight=np.nan)
    with pytest.raises(CumaError, match="missing or negative"):
        run(dataclasses.replace(survey, respondents=people))


def test_groups_may_be_several_fields(survey):
    found = run(survey, group_by=("country", "age"), min_cell=5, bootstrap=0)
    assert "Aland / old" in set(found.per_cell["group"])
    assert of(found)["overall"]["methods"]["model"]["emd"]["low"] is None


def test_resamples_on_disk_reproduce_the_intervals_and_pair_two_models(survey, results, tmp_path):
    write_results(results, tmp_path)
    kept = read_resamples(tmp_path)
    scores = of(results)
    assert kept["unseen_respondent/questions"].tolist() == list(scores["questions"])
    assert kept["unseen_respondent/answers"].tolist() == [q["floor"]["answers"] for q in scores["questions"].values()]
    np.testing.assert_allclose(kept["unseen_respondent/floor"].mean(), scores["overall"]["floor"]["value"])
    emd = scores["overall"]["methods"]["model"]["emd"]
    drawn_B = kept["unseen_respondent/emd"].mean(0)
    bounds = np.quantile(drawn_B, [0.025, 0.975]) - drawn_B.mean() + emd["value"]
    np.testing.assert_allclose(bounds, [emd["low"], emd["high"]], atol=1e-6)
    # A model that is the pooled marginal has that baseline's distance in every single resample.
    other = run(survey, marginal(survey)).resamples
    assert other["unseen_respondent/key"] == kept["unseen_respondent/key"]
    np.testing.assert_allclose(other["unseen_respondent/emd"], kept["unseen_respondent/pooled_emd"], atol=1e-5)
    assert run(survey, seed=1).resamples["unseen_respondent/key"] != kept["unseen_respondent/key"]
    write_results(Results(results.values, results.per_cell), tmp_path)
    with pytest.raises(CumaError, match=r"has no resamples.npz"):
        read_resamples(tmp_path)
    (tmp_path / "resamples.npz").write_bytes(b"PK")
    with pytest.raises(CumaError, match="cannot be read"):
        read_resamples(tmp_path)


def test_models_that_are_told_less_are_scored_on_the_same_people(survey):
    few = {"max_profiles": 6, "min_cell": 2, "bootstrap": 20}
    told_all, config = run(survey, **few), dataclasses.replace(CONFIG, **few)
    for fields in (("country",), ("age", "country")):
        found = evaluate_guess(survey, build_profiles(survey, fields), halves(survey), some_predictions, config)
        assert found.resamples["unseen_respondent/key"] == told_all.resamples["unseen_respondent/key"]
        assert of(found)["n"] == of(told_all)["n"]


def test_brier_tv_and_ece_of_a_marginal_are_those_of_a_model_that_predicts_it(survey, results):
    """Baselines are scored from counts of a cell, the model from single answers: two ways to one number."""
    found = of(run(survey, marginal(survey)))
    for block in (found["overall"], *found["questions"].values()):
        for metric in ("emd", "js", "tv", "nll", "brier", "accuracy", "ece"):
            model, pooled = (block["methods"][m][metric] for m in ("model", "pooled"))
            for key in ("value", "low", "high"):
                assert model[key] == pytest.approx(pooled[key], abs=1e-5), (metric, key)


def test_calibration_over_questions_is_not_the_sum_of_their_noise(survey):
    """Questions that are off in opposite directions, in the same bin, are calibrated together."""
    one = np.where(survey.question_A == 1, survey.option_A, 0).astype(np.int32)  # everybody answers q0 alike
    two = dataclasses.replace(survey, option_A=one).with_answers(survey.question_A < 2)

    def half_sure(profile_N, question_N):
        likely_N1 = (question_N == 0)[:, None]  # most answers to q1 are its first option too
        return np.where(likely_N1, [0.55, 0.45, 0, 0], [0.45, 0.55, 0, 0]).astype(np.float32)

    found = of(run(two, half_sure))
    models = [found["questions"][q]["methods"]["model"] for q in ("q0", "q1")]
    gaps = [0.55 - model["accuracy"]["value"] for model in models]
    assert gaps[0] == pytest.approx(-0.45, abs=1e-6)
    assert gaps[1] > 0
    for gap, model in zip(gaps, models, strict=True):
        assert model["ece"]["value"] == pytest.approx(abs(gap), abs=1e-6)
    assert found["overall"]["methods"]["model"]["ece"]["value"] == pytest.approx(abs(np.mean(gaps)), abs=1e-6)


def test_the_calibration_plot_and_the_papers_figures_are_of_the_same_predictions(results):
    scores = of(results)
    ece = sum(b["share"] * abs(b["confidence"] - b["accuracy"]) for b in scores["calibration"])
    assert ece == pytest.approx(scores["overall"]["methods"]["model"]["ece"]["value"], abs=1e-6)
    assert scores["paper"]["answers"] == scores["n"]["answers"] == sum(b["answers"] for b in scores["calibration"])
    assert set(scores["equity"]) == {"country", "age"}
