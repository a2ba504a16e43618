"""Where gradients of groups are compared, and where it is said why they are not."""

from conftest import changed

from cuma_jax.analysis.conflict import conflict


def test_rewards_of_replies_have_no_gradients_of_answers_to_compare(debug_config, run_on, random_adapters):
    run = run_on(changed(debug_config, objective={"name": "grpo", "aggregate": "respondent"}, reward={"survey": 1.0}))
    values, cosines, reason = conflict(run, random_adapters(run), 16)
    assert values is None
    assert cosines.empty
    assert "which grpo does not have" in reason
