"""The objective grpo: replies of the policy's own, weighed by their rewards."""

from cuma_jax.objectives.grpo.objective import Grpo

__all__ = ["Grpo"]
