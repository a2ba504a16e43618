"""A loss or metric is (sum, count) until it is logged.

Sums of micro-batches, devices and hosts add up; a mean is taken once, at the end. A mean of means would be wrong
wherever counts differ.
"""

import flax.struct
import jax

from cuma_jax.losses.balance import RouterSums


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


@flax.struct.dataclass
class BatchSums:
    """All that a loss needs of a batch; adds up leaf by leaf over micro-batches.

    Attributes:
        objective: loss and metrics.
        routers: sums for the balance loss.
        tokens: valid tokens.
    """

    objective: dict[str, Sum]
    routers: dict[str, RouterSums]
    tokens: jax.Array
