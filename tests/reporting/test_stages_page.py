"""The page of a chain says of each stage whether it came nearer, and escapes what it is given."""

from pages import Page

from cuma_jax.evaluation.stages.answers import ANSWER_METRICS, POOLED
from cuma_jax.evaluation.stages.pairs import PAIR_METRICS
from cuma_jax.evaluation.stages.scores import BASE, StageScores
from cuma_jax.reporting.stages import headline, write_stages_page


def scores(*changes, names=ANSWER_METRICS):
    def figures(value, low, high):
        return {name: {"value": value, "low": low, "high": high} for name in names}

    stages = {POOLED: figures(0.3, 0.28, 0.32), BASE: figures(0.4, 0.38, 0.42)}
    for n, change in enumerate(changes):
        stages[f"stage{n}"] = {**figures(0.2, 0.1, 0.3), "change": figures(*change)}
    values = {"splits": {"unseen_respondent": {"rows": 10, "people": 5, "stages": stages}}}
    return StageScores(names, "answers", values, {})


def test_a_stage_is_nearer_only_where_its_whole_interval_is():
    found = headline(scores((-0.1, -0.2, -0.01), (0.1, 0.05, 0.2), (-0.1, -0.2, 0.01), (-0.1, None, None)),
                     [f"stage{n}" for n in range(4)])  # fmt: skip
    assert [h["answer"] for h in found] == ["nearer", "further off", "no sure change", "no sure change"]
    assert found[0]["because"] == "energy score less by +0.1000 [+0.0100, +0.2000]"


def test_more_is_better_of_pairs():
    found = headline(scores((0.1, 0.05, 0.2), (-0.1, -0.2, -0.01), names=PAIR_METRICS), ["stage0", "stage1"])
    assert [h["answer"] for h in found] == ["better", "worse"]
    assert found[0]["because"] == "gained on the other more by +0.100 [+0.050, +0.200]"


def test_the_page_is_whole_and_escaped(tmp_path):
    about = {"command": "python -m x & y"}
    text = write_stages_page(tmp_path, "<b>chain", scores((-0.1, -0.2, -0.01)), [("stage0", "dpo")], about).read_text()
    assert "<b>chain" not in text
    Page(text)
    for part in ("&lt;b&gt;chain", 'href="stage0/report.html"', "x &amp; y"):
        assert part in text
