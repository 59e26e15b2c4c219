"""Pattern learning. Do the curves of this run look like patterns that are learned one after the other, and which?

One to three patterns of Davies et al. (`interp.mathematics.pattern_learning`) are fitted to training and held-out
accuracy over the logarithm of the step (`interp.mathematics.pattern_fit`): the rule, overfitting, and a heuristic. Each
is learned by a share of the examples, γ/(1 + e^{−α(ln t − b)}). What is found is refused where the curves cannot tell
it: where two patterns swap without loss, or where they do not bear on a number.

It cannot tell whether a network has patterns: a good fit says what the curves are like. Intervals hold the errors of so
many pairs, as if the points of a run were independent, which they are not: they are of this run, and not of another
seed.
"""

import numpy as np
import xarray as xr

from interp.errors import check_integer
from interp.figures import NEUTRAL, TEST, TRAIN, new_figure, percent_axis
from interp.mathematics.pattern_fit import FEWEST_POINTS, NAMES, AccuracyCurves, fit_patterns, fitted

ASKS = "answers"
READS = ()
REFERENCE = "Davies et al. 2023, arXiv:2303.06173; the fit is ours"
NEEDS = ("learning_curves",)
ON_REQUEST = True
SCALES = {}
MOST_POINTS = 150
SPLITS = ("train", "held_out")


def compute(run, *, patterns: int = 2) -> xr.Dataset:
    """`accuracy` and `fitted_accuracy` [step, split] at up to MOST_POINTS logged steps, evenly spaced in log step; each
    `number` [name], its `interval` [name, end], the `dispersion` (the misfit per degree of freedom: 1 of binomial
    errors alone) and the `condition` number; `refused` in words, empty where it is not.

    Raises InputError for another number of patterns than 1 to 3.

    >>> import interp
    >>> found = summary(compute(interp.open_run(interp.reference_path()), patterns=1))
    >>> found["patterns"], found["dispersion"] > 10  # the curves of grokking are not those of one pattern
    (1, True)
    """
    check_integer("patterns", patterns, 1, 3)
    curves, names = curves_of(run), NAMES[patterns]
    numbers, intervals = np.full(len(names), np.nan), np.full((len(names), 2), np.nan)
    dispersion = condition = np.nan
    model = np.full((len(curves.log_steps), 2), np.nan)
    refused = _untold(curves)
    if not refused:
        found = fit_patterns(curves, patterns)
        numbers = np.array([found.numbers[name] for name in names])
        intervals = np.array([found.intervals[name] for name in names])
        refused, dispersion, condition = found.refused or "", found.dispersion, found.condition
        plateau = float(curves.train.max())
        model = np.stack(fitted(patterns, numbers, curves.log_steps, plateau, curves.chance), 1)
    steps = np.rint(np.exp(curves.log_steps)).astype(np.int32)
    axes, unit = ("step", "split"), {"units": "1"}
    return xr.Dataset(
        {
            "accuracy": (axes, np.stack([curves.train, curves.test], 1), {"long_name": "accuracy"} | unit),
            "fitted_accuracy": (axes, model, {"long_name": "accuracy of the patterns"} | unit),
            "number": ("name", numbers, {"long_name": "best number"} | unit),
            "interval": (("name", "end"), intervals, {"long_name": "95 % profile interval"} | unit),
            "dispersion": ((), dispersion, {"long_name": "misfit per degree of freedom"} | unit),
            "condition": ((), condition, {"long_name": "condition number of the covariance"} | unit),
            "refused": ((), np.array(refused), {"long_name": "why nothing is to be read from it", "units": "words"}),
        },
        coords={
            "step": ("step", steps, {"long_name": "step", "units": "updates"}),
            "split": ("split", np.array(SPLITS), {"long_name": "split", "units": "name"}),
            "name": ("name", np.array(names), {"long_name": "number", "units": "name"}),
            "end": ("end", np.array(["lower", "upper"]), {"long_name": "end of the interval", "units": "name"}),
        },
    )


def curves_of(run) -> AccuracyCurves:
    """The accuracies of a run as they are fitted: at logged steps above 0 at which both are known (at
    the first one where there are none).

    >>> import interp
    >>> curves = curves_of(interp.open_run(interp.reference_path()))
    >>> curves.n_train, curves.n_test, round(1 / curves.chance)
    (832, 305, 43)
    """
    task, table = run.task, run.result("learning_curves")
    steps, accuracy = table.step.values, table.accuracy.sel(split=list(SPLITS)).values
    known = np.isfinite(accuracy).all(1) if task.n_held_out else np.isfinite(accuracy[:, 0])
    places = np.flatnonzero((steps > 0) & known)
    if not len(places):
        places = np.array([0])  # too few for a fit, and said so
    if len(places) > MOST_POINTS:
        wanted = np.geomspace(steps[places[0]], steps[places[-1]], MOST_POINTS)
        places = np.unique(places[np.searchsorted(steps[places], wanted).clip(max=len(places) - 1)])
    train, test = accuracy[places].astype(np.float64).T
    counts = int(task.mask("train").sum()), task.n_held_out
    with np.errstate(divide="ignore"):
        log_steps = np.log(steps[places].astype(np.float64))
    return AccuracyCurves(log_steps, train, test, *counts, task.guessing_accuracy)


def _untold(curves: AccuracyCurves) -> str:
    """Why nothing can be fitted; nothing where it can."""
    if not curves.n_test:
        return "there are no held-out pairs, whose accuracy patterns are told from"
    n = len(curves.log_steps)
    return f"{n} points are too few for a fit; {FEWEST_POINTS} are needed" if n < FEWEST_POINTS else ""


def summary(result: xr.Dataset) -> dict:
    """The numbers and their intervals, NaN where they are refused, and why they are."""
    refused = str(result.refused.item())
    found: dict = {"patterns": {len(names): n for n, names in NAMES.items()}[result.sizes["name"]]}
    for name in result.name.values.tolist():
        at = result.sel(name=name)
        number = np.nan if refused else float(at.number)
        interval = [np.nan, np.nan] if refused else at.interval.values.tolist()
        found[name] = {"value": number, "interval_95": interval}
    return found | {
        "dispersion": float(result.dispersion),
        "condition": float(result.condition),
        "refused": refused or None,
    }


def in_words(summary: dict) -> list[str]:
    """A line for each number, or the one that refuses them."""
    head = f"{summary['patterns']} patterns, misfit {summary['dispersion']:.1f} per degree of freedom"
    if summary["refused"] is not None:
        return [head, f"refused: {summary['refused']}"]
    rows = [(name, one) for name, one in summary.items() if isinstance(one, dict)]
    return [head] + [
        f"{name.replace('_', ' ')}: {one['value']:.3g} ({one['interval_95'][0]:.3g} to {one['interval_95'][1]:.3g})"
        for name, one in rows
    ]


def plot(result: xr.Dataset):
    """Accuracies as dots, those of the patterns as lines."""
    refused = str(result.refused.item())
    figure = new_figure("Pattern learning", x="step (updates)", y="accuracy", reference=refused or REFERENCE)
    for split, color in zip(SPLITS, (TRAIN, TEST), strict=True):
        name, of = split.replace("_", "-"), result.sel(split=split)
        dots = {"color": color, "size": 4, "opacity": 0.5}
        figure.add_scatter(x=result.step.values, y=of.accuracy.values, mode="markers", marker=dots, name=name)
        line = {"color": NEUTRAL if refused else color, "width": 2}
        figure.add_scatter(
            x=result.step.values, y=of.fitted_accuracy.values, mode="lines", line=line, name=f"{name}, patterns"
        )
    figure.update_xaxes(type="log")
    percent_axis(figure)
    return figure
