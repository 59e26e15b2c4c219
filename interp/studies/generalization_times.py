"""When did a run memorize, when generalize? By accuracy that holds and by both thresholds of loss that published curves
are read at."""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import xarray as xr

from interp.mathematics import grokking
from interp.runs import Run
from interp.studies.outcomes import events_of

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
    name: Callable[[float, int], str],
    *,
    axis: str,
    long_name: str,
    values: Sequence[float],
    seeds: int,
) -> xr.Dataset:
    """`time` [axis, seed, event] in steps; `logging_interval`, `learning_rate` and `decay` [axis]: of the runs
    name(value, seed)."""
    shape = (len(values), seeds, len(EVENTS))
    times, interval, rate, decay = (
        np.full(shape, np.nan),
        np.zeros(len(values)),
        np.zeros(len(values)),
        np.zeros(len(values)),
    )
    for row, value in enumerate(values):
        for seed in range(seeds):
            run = runs[name(value, seed)]
            times[row, seed] = list(event_steps(run).values())
            if run.training is not None:
                interval[row], rate[row], decay[row] = (
                    run.training.log_every,
                    run.training.lr,
                    run.training.weight_decay,
                )
    return xr.Dataset(
        {
            "time": ((axis, "seed", "event"), times, {"long_name": "step of the event", "units": "updates"}),
            "logging_interval": (axis, interval, {"long_name": "how finely times are known", "units": "updates"}),
            "learning_rate": (axis, rate, {"long_name": "learning rate", "units": "1"}),
            "decay": (axis, decay, {"long_name": "weight decay", "units": "1"}),
        },
        coords={
            axis: (axis, np.array(values, dtype=np.float64), {"long_name": long_name, "units": "1"}),
            "seed": ("seed", np.arange(seeds, dtype=np.int32), {"long_name": "seed", "units": "1"}),
            "event": ("event", np.array(list(EVENTS)), {"long_name": "event", "units": "name"}),
        },
    )


def mean_log_time(result: xr.Dataset, event: str, seeds: Sequence[int] | None = None) -> np.ndarray:
    """The mean over seeds of log time for every value of the axis; NaN where no seed came that far, and where fewer
    than half did."""
    times = result.time.sel(event=event).values
    times = times if seeds is None else times[:, list(seeds)]
    known = np.isfinite(times)
    enough = known.sum(1) * 2 >= times.shape[1]
    return np.array(
        [
            np.log(row[ok]).mean() if good and ok.any() else np.nan
            for row, ok, good in zip(times, known, enough, strict=True)
        ]
    )
