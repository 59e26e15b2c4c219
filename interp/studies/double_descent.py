"""Double descent. Is there a width, a number of examples, a time at which a better equipped network is worse?

The error of a model on new data was to fall and then rise with its size. Of networks, random features and trees it
falls again beyond the size at which the training error comes to 0 (Belkin et al. 2019); of deep networks it does so
over width, over training time, and over the number of training examples, of which more can be worse (Nakkiran et al.
2020). Here all three are measured on handwritten digits with wrong labels, whether a curve *is* a double descent is
decided by a rule that can say no, and cures are tried: early stopping, weight decay, ridge.

Networks: an MLP of one hidden layer, full-batch Adam, cross-entropy. The base is 800 training digits, 20 % of their
labels wrong, no weight decay; each other curve changes one of these. Test labels are right, and the same 797 digits
are tested throughout. Three losses are told, and the test error decides: the cross-entropy of networks that
interpolate rises by their being too sure, and peaks elsewhere. The rule (`interp.mathematics.double_descent`): with
e(c) the mean test error over draws of the training set, the peak is the point inside the grid at which the smaller of

    rise = e(c*) − min_{c < c*} e(c),    fall = e(c*) − e(c_max)

is largest. More than 3 standard errors each: double descent. Otherwise U-shaped for a rise of more than 4 alone,
monotone for none, where the ends are 3 apart and any way back is surely less than half of that. Not shown for less, or
where the training error nowhere comes down to 1 %. A flat truth with noise on 13 widths is called a double descent in
less than 3 % of grids. The interpolation threshold is the width at which the mean training error, on the labels trained
on, passes 1 %.

Without networks: least squares on random features of digits, where the threshold is d = n exactly, and gradient descent
on a linear model, where the error over time is a formula.

Early stopping is by the test error, which nobody has who trains; but it is chosen on one half of the test examples and
reported on the other.

It cannot tell that the number of parameters is the complexity, nor what comes beyond the grid. Draws of 800 of 1,000
digits share most of theirs: what varies between draws is less than between independent training sets.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import xarray as xr

from interp.mathematics.double_descent import INTERPOLATES
from interp.runs import Run
from interp.studies.design import Prediction
from interp.studies.double_descent_curves import as_error, in_interval, over_widths, threshold_of
from interp.studies.double_descent_design import DoubleDescentDesign
from interp.studies.double_descent_figure import double_descent_figure
from interp.studies.double_descent_scores import LOSSES, measure_curves
from interp.studies.double_descent_sentences import of_linear_models, of_networks
from interp.studies.random_features import linear_descent, random_features
from interp.sweeps import GridRun

TITLE = "Double descent"
REFERENCE = (
    "Belkin et al. 2019, arXiv:1812.11118; Nakkiran et al. 2020, arXiv:1912.02292; Pezeshki et al. 2022, "
    "arXiv:2112.03215; Huang et al. 2024, arXiv:2402.15175"
)
CAPTION = (
    "Lines: means over draws of the training set. Tinted: 95 % intervals over draws, Student’s t. Gray band: where the "
    f"training error of the base passes {INTERPOLATES:.0%}, with its interval. Dotted: training error."
)
DESIGN = DoubleDescentDesign()
FULL = DoubleDescentDesign(
    draws=10,
    seeds=2,
    widths=(2, 3, 4, 6, 8, 10, 12, 14, 16, 20, 24, 32, 48, 64, 96, 128),
    sizes=(800, 600, 400, 200),
    noises=(0.2, 0.0, 0.1, 0.4),
    weight_decays=(0.0, 0.1, 0.3, 1.0),
    samples=tuple(range(100, 1001, 100)),
    steps=20_000,
    checkpoints=40,
)


def grid(design: DoubleDescentDesign, *, full: bool = False) -> list[GridRun]:
    """A run per curve, width and network; and those over the number of examples."""
    return design.grid()


def measure(runs: Mapping[str, Run], design: DoubleDescentDesign) -> xr.Dataset:
    """Training error, test error, Brier score and cross-entropy at every kept step, and the test error of who stops
    early (`interp.studies.double_descent_scores.measure_curves`)."""
    return measure_curves(runs, design)


def beyond_grid(
    result: xr.Dataset,
    runs: Mapping[str, Run],
    design: DoubleDescentDesign,
    out: Path,
    *,
    processes: int | None = None,
    report: Callable[..., None] = lambda progress: None,
) -> xr.Dataset:
    """Random features of digits, and the linear model; of the task addition neither."""
    if design.task != "digits":
        return result
    return xr.merge([result, random_features(design.draws), linear_descent()], combine_attrs="no_conflicts")


def failed_precondition(result: xr.Dataset) -> str | None:
    """Why nothing can be said: there is one draw."""
    if result.sizes["draw"] < 2:
        return "there is one draw of the training set, which says nothing of others; two are needed (--draws)"
    return None


def predictions(result: xr.Dataset) -> list[Prediction]:
    """A verdict on every prediction that the design has curves for."""
    failed = failed_precondition(result)
    told = list(of_networks(result))
    if "features_error" in result:
        told += of_linear_models(result)
    if failed is None:
        return told
    return [Prediction(one.name, one.statement, "not shown", failed, {}) for one in told]


def table(result: xr.Dataset) -> list[dict[str, str]]:
    """What each curve over widths is, by each of the three losses."""
    rows = []
    for arm in result.arm.values.tolist():
        for loss, words in LOSSES.items():
            curve = over_widths(result, arm, loss, held_back=_held_back(result, arm))
            found, peaked = curve.shape, curve.shape.kind == "double descent"
            rows.append(
                {
                    "curve": arm,
                    "threshold": in_interval(threshold_of(result, arm)),
                    "loss": words,
                    "shape": found.kind,
                    "peak": in_interval(curve.peak) if peaked else "",
                    "first": as_error(curve.mean[0]),
                    "least before": as_error(curve.mean[found.rise.low]) if peaked else "",
                    "at the peak": as_error(curve.mean[found.rise.high]) if peaked else "",
                    "last": as_error(curve.mean[-1]),
                }
            )
    return rows


def _held_back(result: xr.Dataset, arm: str) -> bool:
    """Whether the networks of a curve need not interpolate: those with weight decay."""
    return bool(result.arm_decay.sel(arm=arm) > 0)


def numbers(result: xr.Dataset) -> dict[str, Any]:
    """Of every curve over widths and loss its shape, threshold, peak, and means."""
    told: dict[str, Any] = {}
    for arm in result.arm.values.tolist():
        threshold, low, high = threshold_of(result, arm)
        told[arm] = {"threshold": threshold, "threshold_interval": [low, high]}
        for loss in LOSSES:
            curve = over_widths(result, arm, loss, held_back=_held_back(result, arm))
            told[arm][loss] = curve.numbers | {"means": curve.mean.tolist()}
    return told


def plot(result: xr.Dataset):
    """Error over width, examples and steps; random features and the linear model where they are."""
    return double_descent_figure(result, TITLE, REFERENCE)
