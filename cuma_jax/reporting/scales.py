"""Axes: where a value lies, in percent of the plot, and which values are worth a tick."""

import dataclasses
import math
from collections.abc import Sequence


@dataclasses.dataclass(frozen=True)
class Tick:
    """A tick: its place in percent from the low end, and its text."""

    at: float
    text: str


@dataclasses.dataclass(frozen=True)
class Scale:
    """A linear axis from `low` to `high`."""

    low: float
    high: float

    def at(self, value: float) -> float:
        """Place of `value` in percent, kept within the plot."""
        share = (value - self.low) / (self.high - self.low)
        return round(100.0 * min(max(share, 0.0), 1.0), 3)

    def ticks(self, wanted: int = 5) -> list[Tick]:
        """About `wanted` ticks at round values inside the axis."""
        step = round_step((self.high - self.low) / (wanted + 1))
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        decimals = max(0, -math.floor(math.log10(step) + 1e-9))
        return [Tick(self.at(i * step), f"{i * step:,.{decimals}f}") for i in range(first, last + 1)]


def round_step(rough: float) -> float:
    """The nearest of 1, 2, 5 x 10^k at or above `rough`."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next(m * power for m in (1.0, 2.0, 5.0, 10.0) if m * power >= rough * (1 - 1e-9))


def fit(values: Sequence[float], zero: bool = False, pad: float = 0.05) -> Scale:
    """A scale that holds all of `values` (and 0), with a margin; 0 to 1 where there are none."""
    known = [v for v in values if math.isfinite(v)] + ([0.0] if zero else [])
    if not known:
        return Scale(0.0, 1.0)
    low, high = min(known), max(known)
    margin = pad * (high - low) or max(abs(high) * 0.1, 1e-3)
    return Scale(low if zero and low == 0.0 else low - margin, high + margin)
