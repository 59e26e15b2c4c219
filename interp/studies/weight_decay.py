"""Weight decay. Does time to generalize go as 1/(lr·wd)?

If memorization must be worn down to the norm w_c of the generalizing solution at the pace of decay alone,
w(t) = w₀ exp(−lr·wd·t), then t = ln(w₀/w_c)/(lr·wd): time falls as 1/wd, and t·lr·wd is one number. Grids vary wd at
one lr. The exponent is the slope of log t against log wd; prediction: −1, within 0.2. Confirmed when its 95 % interval
over seeds (Student's t by the jackknife) lies within −1.2 and −0.8, not confirmed when it lies outside, not shown when
a border lies in it: seeds that differ more make it harder, not easier. Runs that did not generalize in the time given
count as later than that (`generalization_times`).

It cannot tell whether the norm is the cause: wd also sets how large the logits come to be.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr

from interp.experiment import Task
from interp.figures import NEUTRAL, PALETTE, band, new_panels, plain_log_axis
from interp.mathematics.intervals import seed_interval
from interp.runs import Run
from interp.studies.design import DecayDesign, Prediction
from interp.studies.generalization_times import (
    EVENTS,
    arrived,
    log_time_interval,
    mean_log_time,
    measure_times,
    median_time,
    time_exponent,
    too_few,
)
from interp.sweeps import GridRun

TITLE = "Weight decay: time to generalize"
REFERENCE = "Liu et al. 2022 (Omnigrok), arXiv:2210.01117, §4; Nanda et al. 2023, arXiv:2301.05217, App. D.1"
DESIGN = DecayDesign(p=59, sizes=(1392,), weight_decays=(0.25, 0.5, 1.0, 2.0), seeds=5, duration=12, rescale_lr=False)
FULL = DecayDesign(sizes=(3830,), weight_decays=(0.1, 0.3, 1.0, 3.0), seeds=5, duration=15, lr=1e-3, rescale_lr=False)
TOLERANCE = 0.2


def grid(design: DecayDesign, *, full: bool = False) -> list[GridRun]:
    """A run per weight decay and seed, on the first of the sizes."""
    runs = []
    for decay in design.weight_decays:
        for seed in range(design.seeds):
            task = Task(design.p, train_pairs=design.sizes[0], seed=seed)
            runs.append(
                GridRun(name(decay, seed), design.experiment(task, decay, seed, log_every=_interval(design, decay)))
            )
    return runs


def name(weight_decay: float, seed: int) -> str:
    """The folder of a run."""
    return f"wd{weight_decay:g}-seed{seed}"


def _interval(design: DecayDesign, weight_decay: float) -> int:
    return max(1, math.ceil(design.steps(weight_decay) / 200))


def measure(runs: Mapping[str, Run], design: DecayDesign) -> xr.Dataset:
    """`time` [weight_decay, seed, event] in steps (NaN: did not happen), and how finely it is known."""
    decays = sorted(design.weight_decays)
    return measure_times(runs, name, axis="weight_decay", long_name="weight decay", values=decays, seeds=design.seeds)


def predictions(result: xr.Dataset) -> list[Prediction]:
    """The exponent of time against weight decay, by 99 % held-out accuracy that holds; those of the other events stand
    beside it."""
    statement = "time to generalize goes as 1/(lr·wd)"

    def exponent(event: str, seeds: Sequence[int] | None = None) -> float:
        return time_exponent(result, result.weight_decay.values, event, seeds)

    exponents = {event: exponent(event) for event in EVENTS}
    intervals = {
        event: seed_interval(result.sizes["seed"], lambda seeds, event=event: exponent(event, seeds)).tolist()
        for event in EVENTS
    }
    low, high = intervals["generalized"]
    scale = np.log(result.learning_rate.values * result.weight_decay.values)
    units = {event: [float(value) for value in np.exp(mean_log_time(result, event) + scale)] for event in EVENTS}
    known = [value for value in units["generalized"] if math.isfinite(value)]
    numbers = {
        "exponents": exponents,
        "exponent_intervals_95": intervals,
        "weight_decays": result.weight_decay.values.tolist(),
        "time_times_lr_times_wd": units,
        "spread_of_time_times_lr_times_wd": max(known) / min(known) if known else math.nan,
        "median_steps": {event: median_time(result, event).tolist() for event in EVENTS},
        "runs_that_arrived": {event: arrived(result, event).tolist() for event in EVENTS},
        "seeds": result.sizes["seed"],
        "logging_interval_steps": result.logging_interval.values.tolist(),
    }
    because = failed_precondition(result)
    if because is None and not math.isfinite(low):
        because = "without one of the seeds, at some weight decay no network generalized"
    if because is not None:
        return [Prediction("time", statement, "not shown", because, numbers)]
    shown = " / ".join(f"{value:.2f}" for value in known)
    because = f"exponent {exponents['generalized']:.2f} ({low:.2f} to {high:.2f}, 95 %), t·lr·wd {shown}"
    if low >= -1 - TOLERANCE and high <= -1 + TOLERANCE:
        verdict = "confirmed"
    else:
        verdict = "not confirmed" if high < -1 - TOLERANCE or low > -1 + TOLERANCE else "not shown"
    return [Prediction("time", statement, verdict, because, numbers)]


def failed_precondition(result: xr.Dataset) -> str | None:
    """Why nothing can be said of an exponent, where nothing can."""
    return too_few(result, "weight decays")


def plot(result: xr.Dataset):
    """Times against weight decay, and in units of 1/(lr·wd)."""
    return plot_times(result, "weight_decay", TITLE, REFERENCE)


def plot_times(result: xr.Dataset, axis: str, title: str, reference: str):
    """Times of every event against an axis, in steps and in units of 1/(lr·wd): a line through the mean of log time
    (censored runs count), its interval, and every run that arrived."""
    import plotly.graph_objects as go

    panels = ("Steps until it happened", "The same in units of 1/(lr·wd)")
    figure = new_panels(title, panels, reference=reference, row_height=380, horizontal_spacing=0.12)
    x = result[axis].values
    for column, scale in enumerate((np.ones(len(x)), result.learning_rate.values * result.decay.values), start=1):
        for index, (event, label) in enumerate(EVENTS.items()):
            color = NEUTRAL if event.startswith("train") else PALETTE[index]
            y, limits = (np.exp(of_event(result, event)) * scale for of_event in (mean_log_time, log_time_interval))
            each = result.time.sel(event=event).values * scale[:, None]
            band(figure, x, limits, color, row=1, col=column)
            line = go.Scatter(x=x[np.isfinite(y)], y=y[np.isfinite(y)], mode="lines", name=label, legendgroup=event)
            figure.add_trace(line.update(line={"color": color, "width": 2}, showlegend=column == 1), row=1, col=column)
            points = go.Scatter(
                x=np.repeat(x, each.shape[1]), y=each.reshape(-1), mode="markers", legendgroup=event, showlegend=False
            )
            figure.add_trace(points.update(marker={"color": color, "size": 5, "opacity": 0.5}), row=1, col=column)
        title = "steps (updates)" if column == 1 else "t·lr·wd"
        times = (result.time.values * scale[:, None, None]).reshape(-1)
        figure.update_yaxes(title_text=title, **plain_log_axis(times), row=1, col=column)
    figure.update_xaxes(title_text=str(result[axis].attrs["long_name"]), **plain_log_axis(x))
    if len(x) <= 5:
        figure.update_xaxes(tickvals=x, ticktext=[f"{value:,g}" for value in x])
    return figure
