"""A loss or metric is (sum, count) until it is logged.

Sums of micro-batches, devices and hosts add up; a mean is taken once, at the end. A mean of means would be wrong
wherever counts differ.
"""

import flax.struct
import jax


@flax.struct.dataclass
class Sum:
    """A running mean.

    Attributes:
        total: sum of the values, weighted.
        count: sum of the weights.
    """

    total: jax.Array
    count: jax.Array

    def mean(self) -> jax.Array:
        """total / count."""
        return self.total / self.count
