"""Tables for the terminal."""

from cuma_jax.runtime.text_table import aligned, interval_text, number_text, text_table


def test_columns_begin_or_end_at_one_place_and_nothing_trails():
    table = text_table(["name", "n"], [["a", "1,000"], ["long name", "2"]], right=(1,), notes=["n: how many"])
    assert table.split("\n") == ["name           n", "---------  -----", "a          1,000", "long name      2", "",
                                 "n: how many"]  # fmt: skip
    assert text_table(["a"], [["b"]]) == "a\n-\nb"
    assert aligned([["x", "y"], ["xx", ""]], least=(3,), gap=" ") == ["x   y", "xx"]
    assert aligned([]) == []


def test_text_has_no_negative_zero_and_a_dash_for_the_undefined():
    assert [number_text(v, "{:.0%}") for v in (-0.001, -0.02, None)] == ["0%", "-2%", "-"]
    assert interval_text({"value": 0.5, "low": -0.001, "high": 1.0}, "{:.1f}") == "0.5 [0.0, 1.0]"
    assert interval_text({"value": 0.5, "low": None, "high": None}) == "0.5000"
    assert interval_text({"value": None, "low": None, "high": None}, undefined="not defined") == "not defined"
