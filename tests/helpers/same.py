"""Equality, whole: of what was read, and of what a step computes."""

import jax
import numpy as np
import pandas as pd


def same_survey(a, b):
    """Respondents to the type of each column, answers to the bit, and all else of two surveys."""
    pd.testing.assert_frame_equal(a.respondents, b.respondents)
    assert (a.name, a.questions, a.profile_fields) == (b.name, b.questions, b.profile_fields)
    for name in ("respondent_A", "question_A", "option_A"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
        assert getattr(a, name).dtype == getattr(b, name).dtype == np.int32
    np.testing.assert_array_equal(a.official_A, b.official_A)


def same_preferences(a, b):
    pd.testing.assert_frame_equal(a.respondents, b.respondents)
    pd.testing.assert_frame_equal(a.conversations, b.conversations)
    assert a.turns.equals(b.turns)
    assert (a.prompt_ids, a.profile_fields) == (b.prompt_ids, b.profile_fields)
    assert a.skipped == b.skipped


def same_step(found, expected, same_gradient, **tolerance):
    """(metrics, gradients) of one step, computed in two ways: every metric, and every leaf by `same_gradient`."""
    for name, value in expected[0].items():
        np.testing.assert_allclose(found[0][name], value, err_msg=name, **tolerance)
    jax.tree.map(same_gradient, found[1], expected[1])
