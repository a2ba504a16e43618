"""Which options are a known scale, and their order; which are no answer."""

from cuma_jax.surveys.scales.no_answer import means_no_answer
from cuma_jax.surveys.scales.order import is_middle, is_no_answer, scale_order, scale_with_ends

__all__ = ["is_middle", "is_no_answer", "means_no_answer", "scale_order", "scale_with_ends"]
