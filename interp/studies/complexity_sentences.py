"""What the study of effective model complexity says: where peaks lie, and a verdict on each of its statements."""

import itertools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from interp.mathematics.double_descent import INTERPOLATES, peak_interval, shape
from interp.mathematics.effective_complexity import CRITICAL, Complexity, effective_complexity
from interp.mathematics.intervals import mean_interval
from interp.studies.design import Prediction, Verdict

N_FEATURES, N_CLASSES = 64, 10
GUESSING = 1 - 1 / N_CLASSES
HALF = 0.5
Complexities = dict[tuple[float, int, float], Complexity]  # by noise, width, ε


def parameters(width: int) -> int:
    """Weights and biases of a network of one hidden layer of so many neurons.

    >>> parameters(8)
    610
    """
    return (N_FEATURES + 1) * width + (width + 1) * N_CLASSES


def epsilons(result: xr.Dataset) -> list[float]:
    """The ε of the study; NetCDF knows no list of one."""
    return np.atleast_1d(result.attrs["epsilons"]).tolist()


def complexities(result: xr.Dataset) -> Complexities:
    """The effective model complexity of each noise, width and ε."""
    sizes = result.n.values.tolist()
    return {
        (noise, width, epsilon): effective_complexity(
            sizes, result.training_error.sel(noise=noise, width=width).transpose("n", "draw").values, epsilon
        )
        for noise in result.noise.values.tolist()
        for epsilon in epsilons(result)
        for width in result.width.values.tolist()
    }


# ---- the peaks of test error -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Peak:
    """A double descent of the test error over widths, at one noise and n: its width, and the interval of that."""

    noise: float
    n: int
    width: int
    lowest_width: int
    highest_width: int

    def ratio(self, found: Complexities, epsilon: float) -> tuple[float, float]:
        """The interval of EMC/n at the peak: from the low end at its least width to the high end at its greatest."""
        return (
            found[self.noise, self.lowest_width, epsilon].ratio(self.n)[0],
            found[self.noise, self.highest_width, epsilon].ratio(self.n)[1],
        )


def peaks(result: xr.Dataset) -> list[Peak]:
    """The double descents there are."""
    widths = result.width.values.astype(float)
    found = []
    for noise in result.noise.values.tolist():
        for n in result.n.values.tolist():
            of = result.sel(noise=noise, n=n).transpose("width", "draw", ...)
            interpolates = bool((of.training_error.mean("draw") <= INTERPOLATES).any())
            if shape(of.test_error.values, reaches_zero=interpolates).kind == "double descent":
                at, low, high = peak_interval(widths, of.test_error.values)
                found.append(Peak(noise, n, int(at), int(low), int(high)))
    return found


def peaks_line_up(result: xr.Dataset, found: Complexities, there: list[Peak], epsilon: float) -> Prediction:
    """Whether all peaks are in the critical band; how far apart they are in EMC/n, and in parameters per sample."""
    statement = f"test error peaks where EMC/n is between ½ and 2, at ε = {epsilon:g}"
    name = f"peaks-{epsilon:g}"
    n_curves = result.sizes["noise"] * result.sizes["n"]
    if len(there) < 2:
        because = f"the test error has a double descent at {len(there)} of {n_curves} noises and n; two are needed"
        return Prediction(name, statement, "not shown", because, {"peaks": len(there), "curves": n_curves})
    ratios = [peak.ratio(found, epsilon) for peak in there]
    low, high = CRITICAL
    inside = sum(low <= below and above <= high for below, above in ratios)
    outside = sum(below > high or above < low for below, above in ratios)
    known = sum(below > 0 and math.isfinite(above) for below, above in ratios)  # others are bounds, and can only refute
    verdict: Verdict = "not confirmed" if outside else "confirmed" if 2 <= inside == known else "not shown"
    numbers: dict[str, Any] = {"peaks": len(there), "curves": n_curves, "inside": inside, "outside": outside}
    for peak, ratio in zip(there, ratios, strict=True):
        numbers[f"noise {peak.noise:g}, n {peak.n}"] = {
            "width": peak.width,
            "width_interval_95": [peak.lowest_width, peak.highest_width],
            "emc_over_n_interval_95": list(ratio),
            "parameters_over_n": parameters(peak.width) / peak.n,
        }
    told = ", ".join(
        f"{_range(*ratio)} (n {peak.n}, {100 * peak.noise:g} % wrong, width {peak.width})"
        for peak, ratio in zip(there, ratios, strict=True)
    )
    because = f"{len(there)} peaks at EMC/n {told}; {inside} surely inside, {outside} surely outside"
    at = [(peak, found[peak.noise, peak.width, epsilon].crossing) for peak in there]
    if all(0 < crossing < math.inf for _, crossing in at):
        spreads = {
            "emc_over_n_spread": _spread([crossing / peak.n for peak, crossing in at]),
            "parameters_over_n_spread": _spread([parameters(peak.width) / peak.n for peak in there]),
        }
        numbers |= spreads
        because += (
            f"; they are a factor of {spreads['emc_over_n_spread']:.2g} apart in EMC/n and of "
            f"{spreads['parameters_over_n_spread']:.2g} in parameters/n"
        )
    return Prediction(name, statement, verdict, because, numbers)


def _spread(values: list[float]) -> float:
    return max(values) / min(values)


def _range(low: float, high: float) -> str:
    """An interval of ratios in words.

    >>> _range(0.8, 1.62), _range(1.1, math.inf), _range(0.0, 0.4)
    ('0.80 to 1.62', 'above 1.10', 'below 0.40')
    """
    if math.isinf(high):
        return f"above {low:.2f}"
    return f"{low:.2f} to {high:.2f}" if low > 0 else f"below {high:.2f}"


# ---- what is fitted --------------------------------------------------------------------------------------------------


def widens(result: xr.Dataset, found: Complexities) -> Prediction:
    """Whether the widest fit more samples than the narrowest, at every noise and ε."""
    widths = result.width.values.tolist()
    settings = [(noise, epsilon) for noise in result.noise.values.tolist() for epsilon in epsilons(result)]
    ends = [(found[noise, widths[0], epsilon], found[noise, widths[-1], epsilon]) for noise, epsilon in settings]
    more = sum(narrow.high < wide.low for narrow, wide in ends)
    fewer = sum(wide.high < narrow.low for narrow, wide in ends)
    verdict: Verdict = "not confirmed" if fewer else "confirmed" if more == len(ends) else "not shown"
    told = "; ".join(
        f"{100 * noise:g} % wrong, ε {epsilon:g}: {narrow} at width {widths[0]}, {wide} at {widths[-1]}"
        for (noise, epsilon), (narrow, wide) in zip(settings, ends, strict=True)
    )
    numbers = {"more": more, "fewer": fewer, "compared": len(ends)}
    return Prediction("rises", "the widest networks fit more samples than the narrowest", verdict, told, numbers)


def shrinks_with_noise(result: xr.Dataset, found: Complexities) -> Prediction:
    """Whether more noise makes fewer samples of some complexities, and more of none."""
    statement = "with more wrong labels no width fits more samples, and some fit fewer"
    noises = result.noise.values.tolist()
    if len(noises) < 2:
        return Prediction("noise", statement, "not shown", "there is one noise; two are needed", {})
    compared = [
        (found[less, width, epsilon], found[more, width, epsilon])
        for less, more in itertools.pairwise(noises)
        for width in result.width.values.tolist()
        for epsilon in epsilons(result)
    ]
    fewer = sum(noisy.high < clean.low for clean, noisy in compared)
    more = sum(noisy.low > clean.high for clean, noisy in compared)
    verdict: Verdict = "not confirmed" if more else "confirmed" if fewer else "not shown"
    because = f"of {len(compared)} widths, ε and neighboring noises {fewer} fit surely fewer and {more} surely more"
    numbers = {"fewer": fewer, "more": more, "compared": len(compared)}
    return Prediction("noise", statement, verdict, because, numbers)


def bisected(result: xr.Dataset, found: Complexities) -> Prediction:
    """Whether the bracket of other draws meets the interval of the grid."""
    statement = "bisection with other draws finds the crossing where the grid does"
    noise, width, epsilon, low, high, probability, tried = (
        float(result.attrs[f"bisected_{name}"])
        for name in ("noise", "width", "epsilon", "low", "high", "probability", "sizes")
    )
    if math.isnan(noise):
        return Prediction("bisection", statement, "not shown", "no crossing is on the grid", {})
    of_grid = found[noise, int(width), epsilon]
    meets = low <= of_grid.high and of_grid.low <= high
    verdict: Verdict = "not confirmed" if not meets else "confirmed" if probability >= HALF else "not shown"
    where = f"in [{low:,.0f}, {high:,.0f})" if low and math.isfinite(high) else "beyond the sizes of the grid"
    because = (
        f"width {int(width)}, {100 * noise:g} % wrong, ε {epsilon:g}: {where} with probability {probability:.2f}, from "
        f"{int(tried)} sizes; on the grid {of_grid}"
    )
    numbers = {
        "width": int(width),
        "noise": noise,
        "epsilon": epsilon,
        "bracket_interval": [low, high],
        "probability": probability,
        "of_the_grid_interval_95": [of_grid.low, of_grid.high],
    }
    return Prediction("bisection", statement, verdict, because, numbers)


def promises_nothing(result: xr.Dataset) -> Prediction:
    """Whether twice the Rademacher complexity of the widest networks is no better than guessing at every n, where they
    are better than that on the least noise."""
    width, noises = int(result.width[-1]), result.noise.values.tolist()
    statement = (
        f"of networks of width {width} Rademacher bounds promise no better than guessing, and they are better than that"
    )
    if HALF not in noises:
        because = "no noise is one half, at which training bounds the complexity; add 0.5 to --noises"
        return Prediction("promise", statement, "not shown", because, {})
    widest = result.sel(width=width)
    bounds = 2 * widest.rademacher.sel(noise=HALF).transpose("n", "draw").values
    errors = widest.test_error.sel(noise=noises[0]).transpose("n", "draw").values
    promised, found = mean_interval(bounds), mean_interval(errors)
    nothing = (promised[0] >= GUESSING) & (found[1] < GUESSING)
    something = promised[1] < GUESSING
    verdict: Verdict = "confirmed" if nothing.all() else "not confirmed" if something.all() else "not shown"
    told = ", ".join(
        f"n {n}: {bound:.2f} or more, {error:.2f}"
        for n, bound, error in zip(result.n.values.tolist(), bounds.mean(1), errors.mean(1), strict=True)
    )
    because = f"promised test error, and that found with {100 * noises[0]:g} % wrong labels: {told}"
    numbers: dict[str, Any] = {
        f"n {n}": {
            "promised_at_least": float(bounds[row].mean()),
            "promised_interval_95": promised[:, row].tolist(),
            "test_error": float(errors[row].mean()),
        }
        for row, n in enumerate(result.n.values.tolist())
    }
    return Prediction("promise", statement, verdict, because, numbers)
