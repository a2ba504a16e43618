"""The page of an analysis, from collapse to page on the invented survey with made-up predictions and gates."""

import json

import numpy as np
import pandas as pd
import pytest
from pages import Page

from cuma_jax.analysis.collapse import collapse, collapse_table, means_table
from cuma_jax.analysis.conflict import by_layer, cosine_table
from cuma_jax.analysis.run import Analysis, write_analysis
from cuma_jax.analysis.topology import profile_groups, topology
from cuma_jax.config import Config, DataConfig, EvaluationConfig, to_dict
from cuma_jax.evaluation import Results, evaluate
from cuma_jax.evaluation.surveys.grouping import select_answers
from cuma_jax.evaluation.surveys.prediction import Predictions
from cuma_jax.reporting.analysis_charts import cosine_map
from cuma_jax.reporting.analysis_page import analysis_table, render_analysis
from cuma_jax.reporting.analysis_verdict import conflict_answer, topology_answer
from cuma_jax.serving.http.page_data import culture_map
from cuma_jax.surveys.profiles import build_profiles
from cuma_jax.surveys.sources.invented import COUNTRIES, make_invented, planted_distribution
from cuma_jax.surveys.splits import split_answers
from cuma_jax.training.interference_metrics import Grams, summaries

ATTACK = '"><script>alert(1)</script>'
CONFIG = to_dict(Config(name="a run"))
ALIKE = 0.5
"""Share of a country's own answers in the made-up predictions; the rest is everybody's."""


@pytest.fixture(scope="module")
def analysis() -> Analysis:
    """Countries whose routes are their answers, half-collapsed predictions, gradients drawn at random."""
    survey = make_invented()
    profiles = build_profiles(survey)
    country_P = profiles.codes_PF[:, profiles.fields.index("country")]
    planted = planted_distribution()
    guess = ALIKE * planted + (1 - ALIKE) * planted.mean(0)
    config = EvaluationConfig(min_cell=5, bootstrap=50)
    split_A = split_answers(survey, DataConfig(source="invented", unseen_respondents=0.4))
    selection = select_answers(survey, profiles, split_A, config)
    profile_N, question_N = selection.pairs
    gate_NLE = np.repeat(planted[country_P[profile_N], question_N][:, None], 2, axis=1) + 0.05
    predictions = Predictions(profile_N, question_N, guess[country_P[profile_N], question_N], gate_NLE)
    results = evaluate(selection, predictions, config)
    vectors = np.random.default_rng(0).normal(size=(len(profiles), 6))
    group_P, names = profile_groups(survey, profiles, ("country",))
    routing, tables = topology(results, predictions, group_P, names, vectors, 4, 0)
    grams = random_grams()
    chosen = names[:5]
    interference = {
        "groups": [{"name": n, "answers": 100, "rows": 8} for n in chosen], "questions": ["invented.tea"],
        "blocks": summaries(grams), "by_layer": by_layer(grams, 4), "seconds": 1.0,
    }  # fmt: skip
    found = collapse(results)
    tables |= {"collapse": collapse_table(found), "means": means_table(results),
               "cosines": cosine_table(grams, chosen, 4)}  # fmt: skip
    values = {
        "schema": 1, "run": "a run", "survey": "invented", "group_by": ["country"], "step": 40, "seed": 0,
        "about": {"command": "python -m cuma_jax.analyze"}, "collapse": found, "interference": interference,
        "topology": routing, "training": [{"step": s, "interference": summaries(grams)} for s in (20, 40)],
    }  # fmt: skip
    return Analysis(values, tables, results)


def random_grams() -> Grams:
    """Five groups, two layers, three experts; expert 1 of the first layer is not used by the first group."""
    rng = np.random.default_rng(0)
    experts = np.stack([v @ v.T for v in rng.normal(size=(6, 10, 4))]).reshape(2, 3, 10, 10)
    experts[0, 0, :2], experts[0, 0, :, :2] = 0.0, 0.0
    router = np.stack([v @ v.T for v in rng.normal(size=(2, 10, 4))])
    return Grams(experts.sum(1), router, experts, np.zeros((10, 10)), np.zeros((10, 10)))


def test_page_is_well_formed_self_contained_and_answers_the_three_questions(analysis):
    page = render_analysis(analysis, CONFIG)
    assert not {"script", "iframe", "img", "object"} & set(Page(page).names)
    assert "default-src 'none'" in page
    for text in ("Did the model collapse?", "Do countries conflict in training?",
                 "Do countries that answer alike route alike?", "While it trained", "By layer", "Mantel",
                 "Adapters as a whole", "Each expert by itself", "docs/analysis.md"):  # fmt: skip
        assert text in page, text
    assert "nan" not in page.lower()
    assert "None" not in page
    table = analysis_table(analysis)
    assert "each expert by itself" in table
    assert "bits" in table


def test_a_method_without_router_says_so(analysis):
    values = {**analysis.values, "topology": {"reason": "this method has no router"},
              "interference": {"reason": "nothing is trained"}, "training": []}  # fmt: skip
    page = render_analysis(Analysis(values, {}, analysis.results), CONFIG)
    assert "This method has no router." in page
    assert "Nothing is trained." in page
    assert "No router" in analysis_table(Analysis(values, {}, analysis.results))


def test_texts_of_others_are_escaped(analysis):
    values = json.loads(json.dumps(analysis.values).replace("Ardenia", json.dumps(ATTACK)[1:-1]))
    values |= {"run": ATTACK, "survey": ATTACK, "about": {ATTACK: ATTACK}}
    rename = {COUNTRIES[0]: ATTACK}
    tables = {name: t.replace(rename).rename(index=rename) for name, t in analysis.tables.items()}
    results = Results(analysis.results.values, analysis.results.per_cell.replace(rename), {})
    page = render_analysis(Analysis(values, tables, results), {"name": ATTACK})
    assert "<script" not in page
    assert page.count("&lt;script&gt;") > 5


def test_files_hold_every_figure_and_no_nan(analysis, tmp_path):
    write_analysis(analysis, tmp_path, process_index=1)
    assert not list(tmp_path.iterdir())
    write_analysis(analysis, tmp_path)
    assert json.loads((tmp_path / "analysis.json").read_text()) == json.loads(json.dumps(analysis.values))
    names = {p.stem for p in (tmp_path / "analysis").iterdir()}
    assert names == {"collapse", "means", "cosines", "gates", "distances", "maps"}
    gates = pd.read_parquet(tmp_path / "analysis" / "gates.parquet")
    assert len(gates) == len(COUNTRIES) * 2
    assert list(gates.columns[:2]) == ["group", "layer"]
    points = culture_map(tmp_path)["points"]  # what the explorer shows of it
    assert {point["group"] for point in points} == set(analysis.tables["maps"]["group"])


def test_collapse_reuses_the_evaluations_figures_and_adds_entropies(analysis):
    """Half of everybody's answers in every prediction: more mixed than the truth, and as mixed taken together."""
    for split, found in analysis.values["collapse"].items():
        scores = analysis.results.values["splits"][split]
        assert found["overall"]["spread_ratio"] == scores["overall"]["methods"]["model"]["spread_ratio"]
        assert found["overall"]["entropy"]["predicted"] > found["overall"]["entropy"]["true"]
        per_cell = analysis.results.per_cell[analysis.results.per_cell["split"] == split]
        for name, block in found["questions"].items():
            cells = per_cell[per_cell["question"] == name]
            probs = [np.array(p) for p in cells["true"]]
            by_hand = np.mean([-(p[p > 0] * np.log2(p[p > 0])).sum() for p in probs])
            assert block["entropy"]["true"] == pytest.approx(by_hand)
            pooled = np.average(np.stack(probs), axis=0, weights=cells["n"])
            pooled = pooled[pooled > 0]
            assert block["pooled_entropy"]["true"] == pytest.approx(-(pooled * np.log2(pooled)).sum())


def test_routes_that_are_the_answers_correlate_with_them_and_random_profiles_do_not(analysis):
    tests = analysis.values["topology"]["mantel"]
    assert tests["true x predicted"]["rho"] > 0.5
    assert tests["true x routes"]["rho"] > 0.5
    assert tests["true x routes"]["p"] < 0.05
    assert tests["true x profile"]["p"] > 0.05
    maps = analysis.tables["maps"]
    assert set(maps["map"]) == {"true", "predicted", "routes", "profile"}
    assert (maps.groupby("map")["group"].nunique() == analysis.values["topology"]["compared_groups"]).all()


def test_an_expert_that_one_group_does_not_use_is_no_cosine(analysis):
    cosines = analysis.tables["cosines"]
    gone = cosines.query("block == 'experts' and layer == 4 and expert == 1")["cosine"].isna()
    assert gone.sum() == 5  # with the four others, and with itself
    assert analysis.values["interference"]["blocks"]["experts"]["unused_pairs"] == 4
    alone = cosines[cosines["layer"].eq(4) & cosines["expert"].eq(1)]
    shown = cosine_map(alone, "experts", [g["name"] for g in analysis.values["interference"]["groups"]], 1.0)
    assert "none" in shown["rows"][0]["cells"][1]["kind"]
    assert "share nothing" in shown["rows"][0]["cells"][1]["text"]


def block(negative, mean=0.2, within=0.5, unused=0):
    return {"negative_share": negative, "mean_cosine": mean, "within": within, "pairs": 10, "unused_pairs": unused}


@pytest.mark.parametrize(
    ("whole", "experts", "answer", "tone"),
    [
        (block(0.5, -0.2), None, "Yes", "bad"),
        (block(0.5, -0.07), None, "Yes", "fair"),
        (block(0.5, -0.2), block(0.2), "Yes, less on experts", "fair"),
        (block(0.5, -0.2), block(0.52), "Yes, on experts too", "bad"),
        (block(0.2), block(0.4), "Some do, more on experts", "fair"),
        (block(0.05), block(0.4), "Hardly", "good"),
        (block(0.5, within=0.01), block(0.2), "Cannot tell", "unknown"),
        (block(0.5, -0.2), {**block(None, None), "pairs": 0, "unused_pairs": 9}, "Yes, less on experts", "fair"),
    ],
)
def test_conflict_in_words(whole, experts, answer, tone):
    blocks = {"matrices": whole} | ({"experts": experts} if experts else {})
    said = conflict_answer({"blocks": blocks, "groups": [{}] * 16}, "country", "countries")
    assert (said["answer"], said["tone"]) == (answer, tone)


@pytest.mark.parametrize(
    ("rho", "p", "answer"),
    [(0.5, 0.001, "Yes"), (0.2, 0.01, "A little"), (0.5, 0.2, "No"), (0.05, 0.01, "No"), (None, None, "Cannot tell")],
)
def test_topology_in_words(rho, p, answer):
    said = topology_answer({"mantel": {"true x routes": {"rho": rho, "p": p, "groups": 9}}}, "countries")
    assert said["answer"] == answer
