"""When did a run memorize, when generalize? By accuracy that holds and by both thresholds of loss that published curves
are read at.

A run that has not come so far when its training ends is not without a time: its time is later than its last logged
step, it is *censored* there. To leave such runs out makes a setting look the quicker the fewer of its runs arrive. So
the median is Kaplan and Meier's, and the mean of log time that of the normal distribution which makes most likely what
was seen: times that are known, and times that are later than a step. (Without censored runs that is the mean.)

It cannot tell never from later: times are taken to be log-normal, so every run is taken to arrive at last. With few
seeds the mean is still a little low, because settings of which fewer than half arrive are not counted: where 3 of 10
runs are censored, by a seventh of the spread of log time over seeds with 5 seeds, and by nothing with 10. (Leaving them
out: by half of it, with however many seeds.)
"""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Float
from scipy import stats
from scipy.optimize import fmin

from interp.mathematics import grokking
from interp.mathematics.intervals import seed_interval, slope
from interp.runs import Run, events_of

# Each event in words: where a metric exceeds (accuracy) or falls below (loss) its level, and holds, or first.
EVENTS = {
    "memorized": "99 % train accuracy that holds",
    "train_loss_1e-2": "train loss below 0.01, first",
    "test_loss_1": "test loss below 1, first",
    "test_loss_1e-2": "test loss below 0.01, first",
    "generalized": "99 % held-out accuracy that holds",
}


def event_steps(run: Run) -> dict[str, float]:
    """The logged step of every event, NaN where it did not happen; what holds, by `interp.mathematics.grokking`."""
    metrics, events = run.metrics, events_of(run)
    losses = {
        "train_loss_1e-2": metrics.train_loss.values < 1e-2,
        "test_loss_1": metrics.test_loss.values < 1,
        "test_loss_1e-2": metrics.test_loss.values < 1e-2,
    }
    return {
        "memorized": math.nan if events.memorized is None else events.memorized.at,
        **{event: grokking.first(metrics.step.values, state.astype(float))[0] for event, state in losses.items()},
        "generalized": math.nan if events.generalized is None else events.generalized.at,
    }


def measure_times(
    runs: Mapping[str, Run],
    name: Callable[[Any, int], str],
    *,
    axis: str,
    long_name: str,
    values: Sequence[float] | Sequence[str],
    seeds: int,
) -> xr.Dataset:
    """`time` [axis, seed, event] in steps, NaN where it had not come when the run ended, at `censored_at` [axis, seed];
    `logging_interval`, `learning_rate` and `decay` [axis]: of the runs name(value, seed). The values of the axis are
    numbers, or names."""
    of_names = isinstance(values[0], str)
    coordinate = np.array(values, dtype=np.str_ if of_names else np.float64)
    shape = (len(values), seeds, len(EVENTS))
    times, last, interval, rate, decay = (
        np.full(shape, np.nan),
        np.full(shape[:2], np.nan),
        np.zeros(len(values)),
        np.zeros(len(values)),
        np.zeros(len(values)),
    )
    for row, value in enumerate(values):
        for seed in range(seeds):
            run = runs[name(value, seed)]
            times[row, seed] = list(event_steps(run).values())
            last[row, seed] = run.metrics.step.values[-1]
            if run.training is not None:
                interval[row], rate[row], decay[row] = (
                    run.training.log_every,
                    run.training.lr,
                    run.training.weight_decay,
                )
    return xr.Dataset(
        {
            "time": ((axis, "seed", "event"), times, {"long_name": "step of the event", "units": "updates"}),
            "censored_at": ((axis, "seed"), last, {"long_name": "last logged step", "units": "updates"}),
            "logging_interval": (axis, interval, {"long_name": "how finely times are known", "units": "updates"}),
            "learning_rate": (axis, rate, {"long_name": "learning rate", "units": "1"}),
            "decay": (axis, decay, {"long_name": "weight decay", "units": "1"}),
        },
        coords={
            axis: (axis, coordinate, {"long_name": long_name, "units": "name" if of_names else "1"}),
            "seed": ("seed", np.arange(seeds, dtype=np.int32), {"long_name": "seed", "units": "1"}),
            "event": ("event", np.array(list(EVENTS)), {"long_name": "event", "units": "name"}),
        },
    )


def mean_log_time(result: xr.Dataset, event: str, seeds: Sequence[int] | None = None) -> Float[np.ndarray, " setting"]:
    """The mean of log time for every value of the axis, of runs that arrived and of censored ones; NaN where fewer than
    half of all runs arrived. Of some `seeds` it is NaN only where none of these arrived: which settings count does not
    change with who has a say."""
    times, last = result.time.sel(event=event).values, result.censored_at.values
    enough = arrived(result, event) * 2 >= times.shape[1]
    some = slice(None) if seeds is None else list(seeds)
    with np.errstate(divide="ignore"):
        logs, limits = np.log(times[:, some]), np.log(last[:, some])
    return np.array(
        [censored_mean(row, limit) if good else math.nan for row, limit, good in zip(logs, limits, enough, strict=True)]
    )


def time_exponent(
    result: xr.Dataset, scale: Float[np.ndarray, " setting"], event: str, seeds: Sequence[int] | None = None
) -> float:
    """The slope of log time against the logarithm of what varies, over the settings that have a time; NaN where some
    `seeds` leave one of these without: a slope over fewer settings is another number."""
    counts = np.isfinite(mean_log_time(result, event))
    return slope(np.log(scale[counts]), mean_log_time(result, event, seeds)[counts], complete=True)


def log_time_interval(result: xr.Dataset, event: str) -> Float[np.ndarray, "2 setting"]:
    """The 95 % interval over seeds of the mean of log time for every value of the axis."""
    return seed_interval(result.sizes["seed"], lambda seeds: mean_log_time(result, event, seeds))


def median_time(result: xr.Dataset, event: str) -> Float[np.ndarray, " setting"]:
    """Kaplan and Meier's median of the steps for every value of the axis: the first step by which at least half of the
    runs arrived; NaN where fewer than half did."""
    times, last = result.time.sel(event=event).values, result.censored_at.values
    return np.array([censored_median(*of_setting) for of_setting in zip(times, last, strict=True)])


def arrived(result: xr.Dataset, event: str) -> np.ndarray:
    """How many runs came so far, for every value of the axis."""
    return np.isfinite(result.time.sel(event=event).values).sum(1)


def too_few(result: xr.Dataset, settings: str) -> str | None:
    """Why the times of generalization make no slope, where they make none: fewer than three settings have one, or there
    is one seed."""
    counts, seeds = arrived(result, "generalized"), result.sizes["seed"]
    if seeds < 2:
        return "there is one seed, which says nothing of others; two are needed"
    if (known := int((counts * 2 >= seeds).sum())) < 3:
        return (
            f"{known} of {len(counts)} {settings} generalized in at least half of the runs in the time given; "
            "three are needed"
        )
    return None


def censored_mean(values: Float[np.ndarray, " n"], limits: Float[np.ndarray, " n"]) -> float:
    """The mean of the normal distribution by maximum likelihood, from values of which those that are NaN are only known
    to lie above their `limits`; NaN where all are.

    >>> censored_mean(np.array([1.0, 2.0, 6.0]), np.full(3, 9.0))
    3.0
    >>> round(censored_mean(np.array([1.0, 2.0, np.nan]), np.full(3, 9.0)), 1)  # 4.0, were it known to be 9
    5.0
    """
    known = np.isfinite(values)
    if not known.any() or not np.isfinite(limits[~known]).all():
        return math.nan
    if known.all():
        return float(values.mean())
    # In units of their spread and one of these above 0: the first steps of the search are a twentieth of where it
    # starts, which is at the mean and the spread of all that is given, and at 0 it would end before it began.
    seen = np.where(known, values, limits)
    unit = seen.std() or 1.0
    zero = seen.mean() - unit
    data = stats.CensoredData(uncensored=(values[known] - zero) / unit, right=(limits[~known] - zero) / unit)
    return float(zero + unit * stats.norm.fit(data, optimizer=partial(fmin, xtol=1e-8, ftol=1e-10))[0])


def censored_median(times: Float[np.ndarray, " n"], limits: Float[np.ndarray, " n"]) -> float:
    """Kaplan and Meier's median, the first time by which at least half have arrived, from times of which those that are
    NaN are only known to be later than their `limits`; NaN where it is later than all that is known.

    >>> censored_median(np.array([100.0, np.nan, 300.0]), np.array([500.0, 500.0, 500.0]))
    300.0
    """
    known = np.isfinite(times)
    if not known.any() or not np.isfinite(limits[~known]).all():
        return math.nan
    by = stats.ecdf(stats.CensoredData(uncensored=times[known], right=limits[~known])).cdf
    half = np.flatnonzero(by.probabilities >= 0.5 - 1e-12)
    return float(by.quantiles[half[0]]) if len(half) else math.nan
