"""How many times as many steps does one way of training need as another? By their runs' times of generalization
(`generalization_times`), censored ones among them.

It cannot tell that a run which had not arrived never would.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr
from scipy import stats

from interp.mathematics.intervals import seed_interval
from interp.studies.design import Verdict
from interp.studies.generalization_times import arrived, mean_log_time


@dataclass(frozen=True)
class Ratio:
    """How many times as many steps one method needs as another, with its 95 % interval over seeds; NaN where a bound is
    not known. `decides`: whether the shares of runs that arrived differ enough for a bound alone to decide.

    >>> str(Ratio(2.0, 1.5, 2.7)), Ratio(2.0, 1.5, 2.7).verdict
    ('2.00× (1.50 to 2.70, 95 %)', 'confirmed')
    """

    value: float
    low: float
    high: float
    decides: bool = True

    @property
    def verdict(self) -> Verdict:
        """Whether the first needs more steps."""
        if not self.decides:
            return "not shown"
        if self.low > 1:
            return "confirmed"
        return "not confirmed" if self.high < 1 else "not shown"

    def __str__(self) -> str:
        if math.isfinite(self.value):
            sure = f" ({self.low:.2f} to {self.high:.2f}, 95 %)" if math.isfinite(self.low) else ""
            return f"{self.value:.2f}×{sure}"
        if math.isfinite(self.low):
            return f"more than {self.low:.2f}×"
        return f"less than {self.high:.2f}×" if math.isfinite(self.high) else "unknown"


def ratio(result: xr.Dataset, without: str, with_it: str, *, axis: str = "method") -> Ratio:
    """The times of one method over those of another, of the same seeds. Where fewer than half of the runs of one
    arrived it is bounded by their last step and the interval of the other."""
    both = result[["time", "censored_at"]].sel({axis: [without, with_it]})

    def logs(seeds: Sequence[int] | None = None) -> np.ndarray:
        return mean_log_time(both, "generalized", seeds)

    def log_ratio(seeds: Sequence[int]) -> float:
        first, second = logs(seeds)
        return first - second

    value = logs()
    low, high = seed_interval(both.sizes["seed"], log_ratio)
    if np.isfinite(value).all():
        return Ratio(*np.exp([value[0] - value[1], low, high]).tolist())
    ends = seed_interval(both.sizes["seed"], logs)
    last = np.log(both.censored_at.values.min(1))
    came = arrived(both, "generalized")
    decides = bool(stats.fisher_exact(np.stack([came, both.sizes["seed"] - came])).pvalue < 0.05)
    if math.isfinite(value[1]):
        return Ratio(math.nan, math.exp(last[0] - ends[1][1]), math.nan, decides)
    if math.isfinite(value[0]):
        return Ratio(math.nan, math.nan, math.exp(ends[1][0] - last[1]), decides)
    return Ratio(math.nan, math.nan, math.nan)
