"""The report's part on preferences: generated text can contain anything, and an older part is replaced."""

import json

import numpy as np
import pandas as pd
import pytest
from pages import Page

from cuma_jax.evaluation.preferences.results import preferences_lines, read_preferences, write_preferences
from cuma_jax.evaluation.preferences.win_rate import order_metrics, win_rates
from cuma_jax.judging import FIRST, SECOND, TIE, Judged
from cuma_jax.reporting import add_preferences, report
from cuma_jax.reporting.win_rate import END, START, shown
from cuma_jax.runtime.errors import CumaError

ATTACK = (
    f"</script><script>alert(1)</script> {START} {END} </main></div><img src=x onerror=alert(2)> {{{{ 7 * 7 }}}} "
    "\u202eyllaer\u202c \x1b[31m \x00 \ud83d \u2066x\u2069 <style>*{display:none}</style> &lt;b&gt;"
)


def figure(value, width=0.08):
    return {"value": value, "low": value - width, "high": value + width}


def made_up_values(attack=ATTACK, judged=True):
    """preferences.json of an invented comparison: 60 prompts, a judge that likes what it sees first."""
    rng = np.random.default_rng(3)
    score_N = rng.choice([1.0, 0.5, 0.0, np.nan], 60, p=[0.5, 0.25, 0.2, 0.05])
    sides = {1.0: (FIRST, FIRST), 0.5: (FIRST, SECOND), 0.0: (SECOND, SECOND)}
    outcomes = [Judged(sides[s]) if s in sides else Judged((None, TIE), "no answer") for s in score_N]
    country_N = np.array(["Brazil", "India", "United States"])[rng.integers(0, 3, 60)]
    frame = pd.DataFrame({"score": score_N, "cluster": np.arange(60) // 2, "split": "unseen_annotator"})
    win = win_rates(frame.assign(country=country_N), ("country",), 5, 200, 0) | {"clusters": "prompts"}
    orders = order_metrics(outcomes, np.arange(60) // 2, 200, 0)
    spread = {"distinct_1": 0.42, "distinct_2": 0.71, "equal": 0.05}
    people = ("A person from Brazil; age: 25-34; religion: Catholic.", "A person from India; age: 55-64; sex: female.")
    replies = ["I would ask her first.\n\nThen I would wait.", "It depends on what your family expects of you. " * 12]
    samples = [
        {
            "prompt": prompt, "split": "unseen_annotator",
            "rows": [
                {"profile": who, "run": replies[0], "against": replies[1], "score": score}
                for who, score in zip((*people, attack), (1.0, None, 0.5), strict=True)
            ] + [{"profile": "A person.", "run": attack, "against": "w" * 9000, "score": 0.0}],
        }
        for prompt in ("Should I move in with my parents to care for them, or hire somebody?", attack)
    ]  # fmt: skip
    judge = {
        "judge": "some-judge-70b", "url": "http://localhost:8000/v1/chat/completions", "date": "2026-11-22",
        "prompt_version": 1, "prompt": f"Compare two replies. {attack}", "temperature": 0, "max_tokens": 256,
        "spent": {"requests": 220, "tokens_in": 120_000, "tokens_out": 9_000},
    }  # fmt: skip
    names = ("accuracy", "base_accuracy", "reward_accuracy", "reward_margin", "choice_accuracy",
             "base_choice_accuracy", "choice_chance")  # fmt: skip
    block = {"n": {"rows": 480, "annotators": 31, "units": 160}, **{name: figure(0.55) for name in names}}
    return {
        "kind": "conversations", "run": "ca_dpo", "against": "the base", "judge": judge if judged else None,
        "winrate": win | {"orders": orders} if judged else None,
        "agreement": {"agreement": figure(0.68), "n": win["n"], "orders": orders} if judged else None,
        "distinct": {side: {"across_profiles": spread, "one_profile": spread} for side in ("run", "against")},
        "samples": samples, "sampling": {"temperature": 1.0, "max_new_tokens": 256, "seed": 0},
        "notes": {"replies of ca_dpo that are cut at sampling.max_new_tokens": 3},
        "pairs": {"splits": {"unseen_annotator": block | {"groups": {"country": {"Brazil": block, "India": block}}}},
                  "notes": {}},
        "about": {"checkpoint": "last, step 40 of 40", "command": "python -m cuma_jax.evaluate --preferences"},
    }  # fmt: skip


def test_generated_text_can_contain_anything(tmp_path):
    page = add_preferences(tmp_path, made_up_values(), "run").read_text(encoding="utf-8")
    tags = Page(page).names
    assert not {"script", "img"} & set(tags)
    harmless = Page(add_preferences(tmp_path / "harmless", made_up_values("plain"), "run").read_text(encoding="utf-8"))
    assert tags == harmless.names, "an attack changes no tag"
    assert page.count(START) == page.count(END) == 1
    assert not set("\u202e\u2066\x1b\x00") & set(page)
    assert "[U+202E]yllaer[U+202C]" in page
    assert "{{ 7 * 7 }}" in page
    assert "6,000 more characters" in page


def test_long_texts_are_cut_and_joiners_stay():
    persian = "\u0645\u06cc\u200c\u062e\u0648"
    assert shown(persian) == persian, "joiners are part of how some scripts are written"
    assert shown("") == "(nothing)"
    assert shown("x" * 3001).endswith("[... 1 more characters]")


def test_the_part_says_who_is_preferred_and_what_the_judge_is_worth(tmp_path):
    values = made_up_values("plain")
    page = add_preferences(tmp_path, values, "run").read_text(encoding="utf-8")
    win = values["winrate"]
    assert f"{win['win_rate']['value']:.1%}" in page
    assert f"{win['orders']['first_position']['value']:.1%}" in page
    assert f"on {values['agreement']['n']['comparisons']} held-out pairs" in page
    for text in ("some-judge-70b", "2026-11-22", "prompt version 1", "Brazil", f"{win['n']['failed']} failed"):
        assert text in page, text
    lines = preferences_lines(values)
    for text in ("first-position share", "agrees with people", "likelier of two replies", "distinct-1 0.420"):
        assert text in lines


@pytest.mark.parametrize(("scores", "answer"), [([1.0] * 30, "Yes"), ([0.0] * 30, "No"), ([1.0, 0.0] * 15, "cannot"),
                                                ([1.0] * 4 + [0.5] * 80, "cannot")])  # fmt: skip
def test_the_headline_claims_no_more_than_the_interval(tmp_path, scores, answer):
    values = made_up_values("plain")
    frame = pd.DataFrame({"score": scores, "cluster": np.arange(len(scores)), "split": "unseen_annotator"})
    values["winrate"] |= win_rates(frame, (), 5, 200, 0)
    page = add_preferences(tmp_path, values, "run").read_text(encoding="utf-8")
    assert answer in page.split('<p class="big')[1].split("</p>")[0]


def test_a_part_takes_the_place_of_an_older_one(tmp_path):
    first = made_up_values("plain")
    once = add_preferences(tmp_path, first, "run").read_text(encoding="utf-8")
    other = add_preferences(tmp_path, first | {"run": "another"}, "run").read_text(encoding="utf-8")
    assert "another" in other
    assert "ca_dpo against" not in other
    path = add_preferences(tmp_path, first, "run")
    assert path.read_text(encoding="utf-8") == once
    path.write_text("<html><main><p>old</p></main></html>")
    add_preferences(tmp_path, first, "run")
    assert START in path.read_text(encoding="utf-8").split("<p>old</p>")[1]


def test_without_a_judge_there_is_no_win_rate_and_the_page_says_so(tmp_path):
    values = made_up_values("plain", judged=False)
    page = add_preferences(tmp_path, values, "run").read_text(encoding="utf-8")
    assert "No judge was named" in page
    assert "Side by side" in page
    assert "no win-rate: judge.url is empty" in preferences_lines(values)


def test_preferences_json_is_whole_and_strict(tmp_path):
    assert read_preferences(tmp_path) is None
    write_preferences(made_up_values(), tmp_path)
    values = read_preferences(tmp_path)
    assert json.dumps(values["winrate"]) == json.dumps(made_up_values()["winrate"])
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_preferences({"x": float("nan")}, tmp_path)
    assert read_preferences(tmp_path) == values


@pytest.mark.parametrize(
    "damage",
    [b'{"schema": 1, "judge', b"\xff\xfe", b'{"schema": 1}', b'{"schema": 1, "judge": [], "winrate": 7}'],
)
def test_a_damaged_preferences_json_is_one_message_that_says_what_to_do(tmp_path, monkeypatch, damage):
    monkeypatch.setattr(report, "render_report", lambda *args: "<html></html>")
    (tmp_path / "preferences.json").write_bytes(damage)
    with pytest.raises(CumaError, match=r"preferences\.json .*(cannot be read|not valid JSON).*; delete it, and run"):
        report.write_report(tmp_path, None, [], {})
    assert not (tmp_path / "report.html").exists()
    (tmp_path / "preferences.json").unlink()  # as it says
    page = report.write_report(tmp_path, None, [], {})
    page.write_bytes(b"\xff\xfe")
    with pytest.raises(CumaError, match=r"report\.html is damaged .*; delete it"):
        add_preferences(tmp_path, made_up_values(), "run")
    page.unlink()
    assert add_preferences(tmp_path, made_up_values(), "run") == page
