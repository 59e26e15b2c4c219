"""The ways to D_crit of `interp.studies.critical_size`, each read of every seed by itself from its result; NaN where it
does not cross within the data.

It cannot tell a curve that would cross beyond the sizes from one that never does: both are NaN.
"""

import math
from typing import NamedTuple

import numpy as np
import xarray as xr
from jaxtyping import Float

from interp.mathematics.intervals import slope
from interp.studies.circuit_efficiency import LARGEST_CHANGE
from interp.studies.design import Verdict
from interp.studies.efficiency_curves import EfficiencyCurves
from interp.studies.isolation import LARGEST_OTHER, LARGEST_RANGE
from interp.studies.size_crossings import critical_size, geometric_interval, geometric_mean, of_several

LEVEL = 0.5  # of held-out accuracy
SAME_FACTOR = 1.1
METHODS = {
    "efficiency": "isolated networks",
    "isolated": "isolated circuits",
    "ungrokking": "ungrokking",
    "growth": "growth ratios",
}


class Costs(NamedTuple):
    """Log norms at one logit of the label, of a seed: of memories of D pairs, of the circuit where it was measured, and
    the line through these. NaN where unknown."""

    sizes: Float[np.ndarray, " size"]
    memory: Float[np.ndarray, " size"]
    circuit: Float[np.ndarray, " size"]

    @property
    def slope(self) -> float:
        """Of the log norm of the circuit against log D; NaN where it was measured at fewer than two D.

        >>> sizes = np.array([100.0, 200.0, 400.0])
        >>> Costs(sizes, np.zeros(3), np.array([np.nan, 1.0, 1.0 + math.log(2) / 2])).slope.__round__(6)
        0.5
        """
        return slope(np.log(self.sizes), self.circuit)

    @property
    def smallest(self) -> float:
        """The smallest D at which the circuit was measured."""
        known = np.isfinite(self.circuit)
        return float(self.sizes[known].min()) if known.any() else math.nan

    @property
    def line(self) -> Float[np.ndarray, " size"]:
        """The log norm of the circuit at every D, by the straight line through those that were measured."""
        known = np.isfinite(self.circuit)
        x = np.log(self.sizes)
        if not known.any():
            return np.full(len(x), np.nan)
        return self.circuit[known].mean() + self.slope * (x - x[known].mean())

    def critical_size(self, *, flat: bool = False) -> float:
        """The D at which memory passes the line, or the mean of the circuit."""
        level = float(np.nanmean(self.circuit)) if np.isfinite(self.circuit).any() else math.nan
        circuit = np.full(len(self.sizes), level) if flat else self.line
        return critical_size(self.sizes, self.memory - circuit)


def counts(
    result: xr.Dataset, *, largest_other: float = LARGEST_OTHER, largest_range: float = LARGEST_RANGE
) -> xr.Dataset:
    """The result with those networks `kept` that are at rest and hold their pairs, and of those that went on, that have
    no larger share of memory."""
    rests = (result.norm_change <= LARGEST_CHANGE) & (result.norm_range <= largest_range)
    holds = (result.train_accuracy == 1) & (result.correct_logit > 0)
    of_kind = (result.kind == "memorizing") | (result.memory_share <= largest_other)
    return result.assign(kept=(rests & holds & of_kind).assign_attrs(result.kept.attrs))


def efficiency_curves(result: xr.Dataset, *, at: float = math.nan) -> EfficiencyCurves:
    """Of isolated networks: C_mem and C_gen."""
    return EfficiencyCurves(result, at=at)


def isolated_curves(result: xr.Dataset, *, at: float = math.nan, demanded: bool = False) -> EfficiencyCurves:
    """Of isolated circuits, over strengths; the circuit at D = p², all pairs. Read at the logit at which isolated
    networks are, where they reach it, unless `at` is given; or, `demanded`, over the strength that was demanded, in the
    middle of all."""
    names = {"isolated_correct_logit": "correct_logit", "isolated_weight_norm": "weight_norm", "isolated_kept": "kept"}
    ours = result[[*names]].rename(names | {"isolated_size": "size"})
    if demanded:
        return EfficiencyCurves(ours.assign(correct_logit=ours.strength.broadcast_like(ours.correct_logit)))
    return EfficiencyCurves(ours, at=efficiency_curves(result).at if math.isnan(at) else at)


def costs(curves: EfficiencyCurves, seed: int) -> Costs:
    """Of one seed."""
    return Costs(curves.sizes.astype(np.float64), curves.read(0, [seed]), curves.read(1, [seed]))


def critical_sizes(result: xr.Dataset) -> dict[str, Float[np.ndarray, " seed"]]:
    """D_crit of every seed by every way; and, as `efficiency_flat`, of efficiency with the mean of C_gen for all D, as
    `isolated_demanded`, of isolation at one strength that was demanded."""
    seeds, sizes = range(result.sizes["seed"]), result["size"].values
    alone, isolated = efficiency_curves(result), isolated_curves(result)
    demanded = isolated_curves(result, demanded=True)
    rule, memory = (result.growth_ratio.sel(circuit=circuit).values for circuit in ("circuit", "memorizing"))
    accuracy = result.held_out_accuracy.values
    return {
        "efficiency": np.array([costs(alone, seed).critical_size() for seed in seeds]),
        "isolated": np.array([costs(isolated, seed).critical_size(flat=True) for seed in seeds]),
        "ungrokking": np.array([critical_size(sizes, accuracy[:, seed], LEVEL) for seed in seeds]),
        "growth": np.array([critical_size(sizes, (rule - memory)[:, seed]) for seed in seeds]),
        "efficiency_flat": np.array([costs(alone, seed).critical_size(flat=True) for seed in seeds]),
        "isolated_demanded": np.array([costs(demanded, seed).critical_size(flat=True) for seed in seeds]),
    }


def told(values: np.ndarray) -> dict:
    """A row of the table: the geometric mean over seeds and its interval, where each of them has a D_crit, and what the
    seeds have."""
    return {
        "d_crit": geometric_mean(values),
        "interval_95": geometric_interval(values),
        "seeds": len(values),
        "seeds_that_have_one": int(np.isfinite(values).sum()),
        "of_seeds": values.tolist(),
    }


class Comparison(NamedTuple):
    """Of the ratios of two ways: the verdict, Student's interval over seeds, and the one that covers as one of
    several."""

    verdict: Verdict
    interval: tuple[float, float]
    wider: tuple[float, float]


def compare(ratios: Float[np.ndarray, " seed"], n: int, factor: float = SAME_FACTOR) -> Comparison:
    """Whether two ways are the same to within `factor`, one of n comparisons: "confirmed" where the interval lies
    within, "not confirmed" where the wider one lies beyond, "not shown" otherwise and where a ratio is not known.

    >>> compare(np.array([1.50, 1.52, 1.49, 1.51]), 6).verdict
    'not confirmed'
    """
    interval, wider = geometric_interval(ratios), geometric_interval(ratios, of_several(n))
    if interval[0] >= 1 / factor and interval[1] <= factor:
        return Comparison("confirmed", interval, wider)
    beyond = wider[0] > factor or wider[1] < 1 / factor
    return Comparison("not confirmed" if beyond else "not shown", interval, wider)
