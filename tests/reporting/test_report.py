import dataclasses
import json
import re

import numpy as np
import pandas as pd
import pytest
from guessing import evaluate_guess
from pages import Page

from cuma_jax.config import Config, DataConfig, EvaluationConfig, to_dict
from cuma_jax.evaluation import Results, read_results, summary_table, write_results
from cuma_jax.reporting import render_report, write_report
from cuma_jax.reporting.charts import answer_panels, distance_plot, expert_map, mean_scatters, training_plot
from cuma_jax.reporting.measures import equity_rows, paper_rows, reliability_plot
from cuma_jax.reporting.scales import Scale, fit
from cuma_jax.reporting.verdict import verdict
from cuma_jax.surveys.profiles import build_profiles
from cuma_jax.surveys.sources.invented import make_invented
from cuma_jax.surveys.splits import split_answers

CONFIG = to_dict(Config(name="a run"))
METRICS = [
    {"step": s, "loss": 2.0 / s, "balance": 1.1, "examples_per_s": 5.0, "tokens_per_s": 900.0} for s in range(1, 41)
] + [{"step": 40, "eval": "validation", "loss": 0.2}]
ATTACK = '"><script>alert(1)</script>'


def scored(keep: float = 0.8, **changes) -> Results:
    """Results on the invented survey of predictions that keep a share of the differences between countries."""
    survey = make_invented()
    profiles = build_profiles(survey)
    sizes_Q = np.array([len(q.options) for q in survey.questions])
    country_P = profiles.codes_PF[:, profiles.fields.index("country")]
    counts = np.zeros((country_P.max() + 1, len(sizes_Q), sizes_Q.max()))
    np.add.at(counts, (country_P[profiles.profile_R[survey.respondent_A]], survey.question_A, survey.option_A), 1)
    true = counts / counts.sum(-1, keepdims=True)
    guess = keep * true + (1 - keep) * true.mean(0)
    config = dataclasses.replace(EvaluationConfig(min_cell=5, bootstrap=100), **changes)
    data = DataConfig(source="invented", unseen_respondents=0.4, validation_respondents=0.1)
    about = {"command": "python -m cuma_jax.train", "training_seconds": 12.34, "gone": None, "versions": {"jax": "1"}}
    split_A = split_answers(survey, data)
    return evaluate_guess(survey, profiles, split_A, lambda p, q: guess[country_P[p], q], config, about)


@pytest.fixture(scope="module")
def results() -> Results:
    return scored()


def experts(groups, layers: int = 0) -> pd.DataFrame:
    names = list(groups)
    index = pd.MultiIndex.from_product([names, range(layers)]) if layers else names
    gate = np.random.default_rng(0).dirichlet(np.ones(4), len(index))
    return pd.DataFrame(gate, index=index, columns=range(4))


def test_page_is_well_formed_self_contained_and_holds_every_part(results):
    groups = results.per_cell["group"].unique()
    page = render_report(results, METRICS, CONFIG, experts(groups, layers=3))
    assert page.startswith("<!doctype html>"), "anything before it puts browsers in quirks mode"
    shown = Page(page)
    assert not {"script", "iframe", "img", "object"} & set(shown.names)
    for tag, attributes in shown.tags:
        for name in ("src", "href", "srcset", "data"):
            assert attributes.get(name, "data:,").startswith("data:"), f"<{tag} {name}> leaves the page"
    assert not re.search(r"@import|url\(", page)
    assert "default-src 'none'" in page
    for text in ("Did the model collapse?", "What people answered", "Mean answer of each country", "Which experts",
                 "Training", "All scores", "When it is sure", "Whom does it serve worst", "As the paper measures",
                 "regression on the profile", "How it was measured", "12.3 s", "python -m cuma_jax.train"):  # fmt: skip
        assert text in page, text
    assert "gone" not in page.split("How it was measured")[1].split("Config of the run")[0]
    overall = results.values["splits"]["unseen_respondent"]["overall"]
    assert f"{overall['methods']['model']['emd']['value']:.4f}" in page
    assert "nan" not in page.lower()
    assert "None" not in page


def test_texts_are_escaped_and_an_unfinished_run_and_the_order_of_options_are_said(results):
    values = json.loads(json.dumps(results.values))
    values["option_order"] = {"orders": 3, "rows": 1234, "total_variation": 0.0521, "flips": 0.123}
    for split in values["splits"].values():
        for part in split["equity"].values():
            part["accuracy"]["worst"]["group"] = ATTACK
        split["equity"][ATTACK] = split["equity"].pop("sex")
        split["questions"] = {ATTACK if k == "invented.tea" else k: v for k, v in split["questions"].items()}
        for question in split["questions"].values():
            question["text"] = ATTACK
            question["options"] = [ATTACK] * len(question["options"])
    about = {"checkpoint": f"last, step 20 of 40 {ATTACK}", "step": 20, "steps": 40, "unfinished": True}
    values["about"] = about | {ATTACK: ATTACK}
    values["survey"] = ATTACK
    cells = results.per_cell.assign(group=ATTACK)
    cells["question"] = cells["question"].replace("invented.tea", ATTACK)
    metrics = [*METRICS, {"step": 40, "eval": ATTACK, "loss": 0.3}]
    use = experts([ATTACK, "b"]).rename(columns={0: ATTACK})
    page = render_report(Results(values, cells), metrics, {**CONFIG, "name": ATTACK}, use)
    assert "script" not in Page(page).names
    assert "<dt>steps</dt>" not in page
    for text in ("&lt;script&gt;", "unfinished run", "step 20 of 40", "0.052", "12.3% of"):
        assert text in " ".join(page.split())


def test_page_can_do_without_metrics_experts_and_intervals():
    found = scored(bootstrap=0, splits=("unseen_country",))
    page = render_report(found, [], CONFIG)
    Page(page)
    assert "Which experts" not in page
    assert "Load balance" not in page
    assert "None" not in page


def test_report_from_the_disk_is_the_same_and_only_process_zero_writes(results, tmp_path):
    write_results(results, tmp_path)
    assert not write_report(tmp_path, results, METRICS, CONFIG, process_index=1).exists()
    path = write_report(tmp_path, read_results(tmp_path), METRICS, CONFIG)
    assert path == tmp_path / "report.html"
    assert path.read_text(encoding="utf-8") == render_report(results, METRICS, CONFIG)


@pytest.mark.slow
@pytest.mark.parametrize(("keep", "answer"), [(0.95, "No"), (0.02, "Yes"), (0.4, "Partly")])
def test_the_headline_follows_the_spread_ratio(keep, answer):
    assert verdict(scored(keep))["answer"] == answer


def test_the_headline_tells_wrong_differences_from_right_ones_and_admits_not_knowing(results):
    values = json.loads(json.dumps(results.values))
    block = values["splits"]["unseen_respondent"]["several_groups"]
    block["methods"]["model"]["correlation"]["value"] = 0.1
    assert verdict(Results(values, results.per_cell))["tone"] == "bad"
    block["methods"]["model"]["spread_ratio"]["value"] = 0.4
    assert verdict(Results(values, results.per_cell))["answer"] == "Mostly"
    block["methods"]["model"]["spread_ratio"].update(value=None, low=None, high=None)
    unknown = verdict(Results(values, results.per_cell))
    assert unknown["answer"] == "Cannot tell"
    assert unknown["gauge"] is None


def test_distance_plot_orders_marks_as_the_numbers_are(results):
    scores = results.values["splits"]["unseen_respondent"]
    plot = distance_plot(scores, "countries")
    assert len(plot["rows"]) == 1 + len(scores["questions"])
    row, block = plot["rows"][0], scores["overall"]
    numbers = {m: block["methods"][m]["emd"]["value"] for m in ("model", "pooled", "group")}
    assert sorted(numbers, key=numbers.__getitem__) == sorted(numbers, key=row.__getitem__)
    assert row["low"] <= row["model"] <= row["low"] + row["width"]
    assert all(0 <= r[m] <= 100 for r in plot["rows"] for m in (*numbers, "floor", "low"))


def test_questions_of_one_group_are_put_aside_but_not_left_out(results):
    values = json.loads(json.dumps(results.values))
    scores = values["splits"]["unseen_respondent"]
    few = scores["questions"]["invented.tea"]
    few["floor"]["cells"] = few["methods"]["model"]["emd"]["cells"] = 1
    scores["several_groups"]["floor"]["questions"] -= 1
    scores["few_groups"] = {k: few[k] for k in ("methods", "floor", "share_closed", "difference", "spread")}
    plot = distance_plot(scores, "countries")
    assert [r["name"] for r in plot["aside"]] == ["invented.tea"]
    assert [r["name"] for r in plot["rows"][:3]] == [
        "4 questions with 3+ countries", "1 question with 1-2 countries", "All 5 questions",
    ]  # fmt: skip
    changed = Results(values, results.per_cell)
    Page(render_report(changed, METRICS, CONFIG))
    lines = summary_table(changed).split("unseen_country")[0]
    assert "1 with 1-2 groups" in lines
    assert "invented.tea" not in lines


def test_panels_show_best_and_worst_cells_with_the_true_heights(results):
    questions = results.values["splits"]["unseen_respondent"]["questions"]
    panels = answer_panels(results.per_cell, "unseen_respondent", questions)
    assert {p["name"] for p in panels} == set(questions)
    cells = results.per_cell.query("split == 'unseen_respondent'")
    for question in panels:
        rows = cells[cells["question"] == question["name"]].sort_values("emd")
        by_rank = {p["rank"]: p for p in reversed(question["panels"])}
        assert by_rank["best"]["emd"] == f"{rows['emd'].iloc[0]:.3f}"
        assert by_rank["worst"]["emd"] == f"{rows['emd'].iloc[-1]:.3f}"
        heights = np.array([b["true"] for b in by_rank["best"]["bars"]])
        true = rows["true"].iloc[0]
        np.testing.assert_allclose(heights / heights.sum(), np.asarray(true) / np.sum(true), atol=0.01)


def test_scatters_are_for_ordered_questions_with_three_groups(results):
    questions = results.values["splits"]["unseen_respondent"]["questions"]
    names = {s["name"] for s in mean_scatters(results.per_cell, "unseen_respondent", questions)}
    assert names == {q for q, v in questions.items() if v["distance"] == "emd"}
    questions = results.values["splits"]["unseen_country"]["questions"]
    assert mean_scatters(results.per_cell, "unseen_country", questions) == []


def test_training_plot_leaves_out_what_is_not_a_number():
    plot = training_plot([*METRICS, {"step": 41, "loss": float("nan")}, {"step": 42, "note": "x"}])
    assert plot["steps"] == 40
    assert [p["title"] for p in plot["panels"]] == ["Loss", "Load balance"]
    assert len(plot["panels"][0]["dots"]) == 1
    assert "nan" not in str(plot)
    assert training_plot([{"step": 1, "eval": "validation", "loss": 1.0}]) is None


def test_experts_are_ordered_by_the_strongest_and_layers_averaged():
    use = experts("abcdefgh", layers=3)
    found = expert_map(use)
    mean = use.groupby(level=0).mean()
    strongest = [mean.loc[r["name"]].to_numpy().argmax() for r in found["rows"]]
    assert strongest == sorted(strongest)
    assert found["groups"] == 8
    assert len(found["layers"]["rows"]) == 3
    assert expert_map(experts("ab"))["layers"] is None


def test_scales_hold_their_values_and_ticks_are_round():
    scale = fit([0.03, 0.12], zero=True)
    assert scale.low == 0 < scale.at(0.03) < scale.at(0.12) < 100
    assert [t.text for t in Scale(0.0, 1.5).ticks(4)] == ["0.0", "0.5", "1.0", "1.5"]
    assert (Scale(0, 1).at(7.0), fit([]), fit([2.0, 2.0]).at(2.0)) == (100, Scale(0.0, 1.0), pytest.approx(50))


def test_calibration_groups_and_the_papers_figures_are_shown(results):
    split = results.values["splits"]["unseen_respondent"]
    plot = reliability_plot(split["calibration"], split["overall"]["methods"]["model"]["ece"])
    assert [d["left"] for d in plot["dots"]] == sorted(d["left"] for d in plot["dots"])
    assert max(d["size"] for d in plot["dots"]) == 16
    for dot, part in zip(plot["dots"], split["calibration"], strict=True):
        assert dot["left"] == pytest.approx(100 * part["confidence"] / 1.05, abs=1e-3)
        assert dot["bottom"] == pytest.approx(100 * part["accuracy"] / 1.05, abs=1e-3)
    rows = {row["field"]: row for row in equity_rows(split["equity"])}
    worst = split["equity"]["country"]["accuracy"]["worst"]
    assert rows["country"]["accuracy"]["worst"] == {
        "group": worst["group"], "answers": str(worst["answers"]), "score": f"{worst['score']:.1%}"
    }  # fmt: skip
    paper = paper_rows(results.values["splits"])
    assert paper["splits"] == ["unseen_respondent", "unseen_country"]
    assert paper["rows"][0]["values"][0] == f"{split['paper']['accuracy']:.1%}"
    page = render_report(results, METRICS, CONFIG)
    assert worst["group"] in page.split("Whom does it serve worst")[1]
    assert not re.search("unfinished|orders of the options", page)
