"""When will it generalize? Forecasts from growth ratios, read at one moment early on the plateau, and what they have to
beat.

At the moment m the rule has the strength C and the growth ratio r_C, memory M and r_M (`circuit_forces`), κ is the
degree of each. Strengths grow as d ln S/ds = κ·lr·wd·(r − 1), so were ratios to stay what they are,

    the rule alone          s = m + max(0, ln(c·M/C)) / (lr·wd·κ_C·(r_C − 1));   never where r_C is not clear of 1, or
                            r_C ≤ r_M
    the rule over memory    s = m + max(0, ln(c·M/C)) / (lr·wd·(κ_C·(r_C − 1) − κ_M·(r_M − 1)));   never where this is
                            not above 0
    memorization            s = c × the step at which the training pairs were known
    weight decay            s = c / (lr·wd)

Each has one constant c, which other runs give: the one with the least mean |log₁₀(forecast/true)|. A forecast is
unknown where C or M is not clear of its error. That a run generalizes *by its end* is forecast where s is not later.

The integral of κ·lr·wd·(r − 1) is Δ ln S by construction: to extrapolate ln(C/M) along a straight line is the same
forecast. What the ratios add is by how much the two are clear of rest.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from jaxtyping import Bool, Float, Num
from numpy.typing import ArrayLike

# Named for tables: what is forecast with, and what it is held against.
FORECASTS = ("the rule alone", "the rule over memory")
BASELINES = ("memorization", "weight decay")
METHODS = (*FORECASTS, *BASELINES)
MOST_ERROR = 1.0  # of one seed: never, and a factor of ten or more, count as that
CONSTANTS = np.geomspace(0.1, 1e4, 501)  # steps of 2.3 %


def forecast(result: xr.Dataset, method: str, constant: ArrayLike) -> Float[np.ndarray, "*constant run"]:
    """The step of generalization by a method, of every run: infinite for never, NaN where unknown."""
    c = np.asarray(constant, dtype=np.float64)[..., None]
    pace = (result.learning_rate * result.weight_decay).values
    with np.errstate(divide="ignore", invalid="ignore"):
        if method == "memorization":
            return c * np.where(result.known_from > 0, result.known_from, np.nan)
        if method == "weight decay":
            return c / pace
        (rule, memory), (r_rule, r_memory), (kappa, kappa_memory) = (
            result[name].transpose("circuit", "run").values for name in ("strength", "ratio", "degree")
        )
        known = np.isfinite(r_rule) & np.isfinite(r_memory) & np.isfinite(kappa) & np.isfinite(kappa_memory)
        if method == "the rule alone":
            growth = kappa * (r_rule - 1)
            grows = (result.ratio_interval.sel(circuit="circuit", end="low").values > 1) & (r_rule > r_memory)
        else:
            growth = kappa * (r_rule - 1) - kappa_memory * (r_memory - 1)
            grows = growth > 0
        steps = result.moment.values + np.maximum(0, np.log(c * memory / rule)) / (pace * growth)
    return np.where(known, np.where(grows, steps, np.inf), np.nan)


def log_error(
    told: Float[np.ndarray, "*constant run"], true: Float[np.ndarray, " run"]
) -> Float[np.ndarray, "*constant run"]:
    """|log₁₀(forecast/true)|: infinite for never, NaN where either is unknown.

    >>> log_error(np.array([100.0, np.inf]), np.array([1000.0, 10.0])).tolist()
    [1.0, inf]
    """
    return np.abs(np.log10(told) - np.log10(true))


def fit(result: xr.Dataset, method: str, true: Float[np.ndarray, " run"], of: Bool[np.ndarray, " run"]) -> float:
    """The constant with the least mean error over some runs, of those whose forecast is a step; NaN where none is."""
    errors = log_error(forecast(result, method, CONSTANTS), true)[:, of]
    used = np.isfinite(errors).all(0)
    return float(CONSTANTS[errors[:, used].mean(1).argmin()]) if used.any() else math.nan


def without_own_seed(
    result: xr.Dataset, method: str, true: Float[np.ndarray, " run"], of: Bool[np.ndarray, " run"]
) -> Float[np.ndarray, " run"]:
    """The forecasts of every run by the constant that the runs of other seeds give, among those that are asked
    (`of`)."""
    seeds, told = result.seed.values, np.full(len(true), np.nan)
    for seed in np.unique(seeds):
        constant = fit(result, method, true, of & (seeds != seed))
        told[seeds == seed] = forecast(result, method, constant)[seeds == seed]
    return told


def of_the_same_setting(result: xr.Dataset, true: Float[np.ndarray, " run"]) -> Float[np.ndarray, " run"]:
    """No forecast, a yardstick: the median of the other seeds of the same modulus, D and weight decay (those that did
    not generalize count as never); NaN without any."""
    settings = np.stack([result[name].values for name in ("modulus", "size", "weight_decay")], axis=1)
    told = np.full(len(true), np.nan)
    for place in range(len(true)):
        others = (settings == settings[place]).all(1) & (result.seed.values != result.seed.values[place])
        told[place] = _median(np.where(np.isnan(true), np.inf, true)[others])
    return told


class Score(NamedTuple):
    """How forecasts did: the median error over the runs that generalized after the moment they were read at, with never
    an infinite error and unknown left out; the same of each seed, where an error is at most that of a factor of ten;
    and of all runs, how many of those that generalized were forecast to do so by their end, and of those that did not;
    how well the forecast tells the two apart (`area_under_curve`); and how many forecasts were unknown."""

    runs: int
    median: float
    of_seed: tuple[float, ...]
    scored: int
    said_never: int
    generalized: int
    generalized_as_told: int
    others: int
    others_as_told: int
    area_under_curve: float
    unknown: int

    def to_dict(self) -> dict[str, Any]:
        """By name."""
        return self._asdict()


def score(
    told: Float[np.ndarray, " run"],
    true: Float[np.ndarray, " run"],
    last: Num[np.ndarray, " run"],
    seeds: Sequence[int] | np.ndarray,
) -> Score:
    """The score of forecasts against the true steps (NaN: it did not generalize by its `last` step).

    >>> told, true = np.array([200.0, np.inf, 900.0, np.nan]), np.array([100.0, 100.0, np.nan, np.nan])
    >>> found = score(told, true, np.full(4, 500.0), [0, 0, 0, 1])
    >>> found.median, found.scored, found.said_never, found.others, found.others_as_told, found.unknown
    (inf, 2, 1, 2, 1, 1)
    """
    errors, did = log_error(told, true), np.isfinite(true)
    scored = did & ~np.isnan(told)
    seeds = np.asarray(seeds)
    capped = np.minimum(errors, MOST_ERROR)
    return Score(
        len(true),
        _median(errors[scored]),
        tuple(_median(capped[scored & (seeds == seed)]) for seed in np.unique(seeds)),
        int(scored.sum()),
        int(np.isinf(errors[scored]).sum()),
        int(did.sum()),
        int((told <= last)[did].sum()),
        int((~did).sum()),
        int((told > last)[~did].sum()),
        area_under_curve(-np.minimum(told / last, 1e6), did),
        int(np.isnan(told).sum()),
    )


def _median(values: Float[np.ndarray, " n"]) -> float:
    """By the two in the middle, of which one may be infinite."""
    return float(np.median(values)) if len(values) else math.nan


def area_under_curve(values: Float[np.ndarray, " run"], did: Bool[np.ndarray, " run"]) -> float:
    """The chance that of two runs, one that did and one that did not, the first has the larger value; ties count half
    (the area under the ROC curve). NaN without one of each.

    >>> area_under_curve(np.array([1.0, 2.0, 2.0, 3.0]), np.array([False, True, False, True]))
    0.875
    """
    from sklearn.metrics import roc_auc_score

    known = np.isfinite(values)
    return float(roc_auc_score(did[known], values[known])) if len({*did[known].tolist()}) == 2 else math.nan
