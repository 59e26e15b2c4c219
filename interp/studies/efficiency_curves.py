"""Logit against norm over weight decays: curves of networks that are one circuit, read at one logit (or one norm)."""

import math
from collections.abc import Sequence

import numpy as np
import xarray as xr

from interp.mathematics.intervals import slope
from interp.studies.size_crossings import critical_size

# Logits go with a high power of the norm: extended over half of this, a norm is off by far less than its spread over
# seeds.
WIDEST_GAP = math.log(1.05)


class EfficiencyCurves:
    """log w as a function of log f for every kind and D, over weight decays (or, `transposed`, log f of log w), read at
    one point.

    The point is the middle of what is reached by all of the curves whose mean is known. Where they miss one another by
    less than 5 %, it is the middle of the gap, and the curves are extended to it by straight lines; where by more,
    everything is NaN. Where the curves reach `at`, a value of x, they are read there instead.
    """

    def __init__(self, result: xr.Dataset, *, transposed: bool = False, at: float = math.nan) -> None:
        kept = result.kept.values.astype(bool)
        names = ("weight_norm", "correct_logit") if transposed else ("correct_logit", "weight_norm")
        with np.errstate(invalid="ignore", divide="ignore"):
            self.x, self.y = (np.where(kept, np.log(result[column].values), np.nan) for column in names)
        self.sizes = result["size"].values
        reach = [self._span(row) for kind in self.x for row in kind if np.isfinite(row).any()]
        self.low, self.high = (
            (max(low for low, _ in reach), min(high for _, high in reach)) if reach else (math.nan, math.nan)
        )
        self.at = (self.low + self.high) / 2 if self.low - self.high <= WIDEST_GAP else math.nan
        if self.low <= at <= self.high:
            self.at = at

    @staticmethod
    def _span(row: np.ndarray) -> tuple[float, float]:
        means = _means(row)
        return float(np.nanmin(means)), float(np.nanmax(means))

    def read(self, kind: int, seeds: Sequence[int] | None = None) -> np.ndarray:
        """y at the point for every D, of the means over seeds (all, when none are given); NaN where the curve does not
        reach it."""
        columns = list(range(self.x.shape[-1])) if seeds is None else list(seeds)
        xs, ys = _means(self.x[kind][..., columns]), _means(self.y[kind][..., columns])  # [size, weight decay]
        return np.array([self._read(x, y) for x, y in zip(xs, ys, strict=True)])

    def _read(self, x: np.ndarray, y: np.ndarray) -> float:
        known = np.isfinite(x)
        if not known.any() or not math.isfinite(self.at):
            return math.nan
        order = np.argsort(x[known])
        x, y = x[known][order], y[known][order]
        if x[0] <= self.at <= x[-1]:
            return float(np.interp(self.at, x, y))
        if len(x) == 1 or min(abs(self.at - x[0]), abs(self.at - x[-1])) > (x[-1] - x[0]) / 2:
            return math.nan
        first, second = (0, 1) if self.at < x[0] else (-2, -1)  # a sample of seeds may end a little before the point
        return float(y[first] + (y[second] - y[first]) * (self.at - x[first]) / (x[second] - x[first]))

    def critical_size(self, seeds: Sequence[int] | None = None, *, rising: bool = True) -> float:
        """D_crit: where y of C_mem passes the mean over D of y of C_gen; NaN where it does not within the data."""
        memorizing, generalizing = self._same_sizes(0, seeds), self._same_sizes(1, seeds)
        if not len(memorizing) or not len(generalizing):
            return math.nan
        (sizes, y), level = memorizing.T, float(generalizing[:, 1].mean())
        return critical_size(sizes, y, level, rising=rising) if np.isfinite([*y, level]).all() else math.nan

    def slope(self, kind: int, seeds: Sequence[int] | None = None) -> float:
        """The slope of y at the point against log D."""
        sizes, y = self._same_sizes(kind, seeds).T
        return slope(np.log(sizes), y, complete=True)

    def _same_sizes(self, kind: int, seeds: Sequence[int] | None) -> np.ndarray:
        """D and y [size, 2] at the D where y of all seeds is known; of some seeds y may be NaN there, and then what
        is computed of them is another number than that of all."""
        table = np.stack([self.sizes, self.read(kind, seeds)], -1)
        return table[np.isfinite(self.read(kind))]


def _means(values: np.ndarray) -> np.ndarray:
    """The means over the last axis of what is known; NaN where nothing is."""
    known = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        return np.where(known, values, 0).sum(-1) / known.sum(-1)
