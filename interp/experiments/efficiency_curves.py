"""Logit against norm over weight decays: curves of networks that are one circuit, read at one logit (or one norm)."""

import math
from collections.abc import Sequence

import numpy as np
import xarray as xr

from interp.experiments.statistics import crossing, slope


class EfficiencyCurves:
    """log w as a function of log f for every kind and D, over weight decays (or, `transposed`, log f of log w), read at one point.

    The point is the middle of what is reached by all of the curves whose mean is known; where there is none, everything is NaN.
    """

    def __init__(self, result: xr.Dataset, *, transposed: bool = False) -> None:
        kept = result.kept.values.astype(bool)
        names = ("weight_norm", "correct_logit") if transposed else ("correct_logit", "weight_norm")
        with np.errstate(invalid="ignore", divide="ignore"):
            self.x, self.y = (np.where(kept, np.log(result[column].values), np.nan) for column in names)
        self.sizes = result["size"].values
        reach = [self._span(row) for kind in self.x for row in kind if np.isfinite(row).any()]
        self.low, self.high = (max(low for low, _ in reach), min(high for _, high in reach)) if reach else (math.nan, math.nan)
        self.at = (self.low + self.high) / 2 if self.low <= self.high else math.nan

    @staticmethod
    def _span(row: np.ndarray) -> tuple[float, float]:
        means = [np.nanmean(of_decay) for of_decay in row if np.isfinite(of_decay).any()]
        return min(means), max(means)

    def read(self, kind: int, seeds: Sequence[int] | None = None) -> np.ndarray:
        """y at the point for every D, of the means over seeds (all, when none are given); NaN where the curve does not reach it."""
        columns = list(range(self.x.shape[-1])) if seeds is None else list(seeds)
        values = np.full(len(self.sizes), np.nan)
        for index in range(len(self.sizes)):
            x, y = self.x[kind, index][:, columns], self.y[kind, index][:, columns]
            known = np.isfinite(x).any(1)
            if known.any() and math.isfinite(self.at):
                pairs = sorted((np.nanmean(a), np.nanmean(b)) for a, b in zip(x[known], y[known], strict=True))
                xs, ys = np.array(pairs).T
                if xs[0] <= self.at <= xs[-1]:
                    values[index] = np.interp(self.at, xs, ys)
                elif len(xs) > 1 and min(abs(self.at - xs)) < 0.5 * (xs[-1] - xs[0]):  # a sample of seeds may end a little before it
                    ends = slice(0, 2) if self.at < xs[0] else slice(-2, None)
                    values[index] = ys[ends][0] + slope(xs[ends], ys[ends]) * (self.at - xs[ends][0])
        return values

    def critical_size(self, seeds: Sequence[int] | None = None, *, rising: bool = True) -> float:
        """D_crit: where y of C_mem passes the mean over D of y of C_gen; NaN where it does not within the data."""
        generalizing = self.read(1, seeds)
        if not np.isfinite(generalizing).any():
            return math.nan
        return math.exp(crossing(np.log(self.sizes), self.read(0, seeds), float(np.nanmean(generalizing)), rising=rising))

    def slope(self, kind: int, seeds: Sequence[int] | None = None) -> float:
        """The slope of y at the point against log D."""
        return slope(np.log(self.sizes), self.read(kind, seeds))
