"""What the study of double descent predicts, and what came of it.

A peak is *removed* where, by 3 standard errors, less than half of it can be left: of its height, the smaller of rise
and fall. It is not removed where the rule still finds it.
"""

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import xarray as xr

from interp.figures import as_percent
from interp.mathematics.double_descent import CLEAR, CLEAR_ALONE, INTERPOLATES, Kind, peak_shift
from interp.studies.design import Prediction, Verdict
from interp.studies.double_descent_curves import (
    Curve,
    as_error,
    in_interval,
    middle_n,
    over_draws,
    over_features,
    over_linear_steps,
    over_samples,
    over_slice,
    over_steps,
    over_widths,
    threshold_of,
)
from interp.studies.random_features import PACES

OF_KIND: dict[Kind, Verdict] = {
    "double descent": "confirmed",
    "U-shaped": "not confirmed",
    "monotone": "not confirmed",
    "not shown": "not shown",
}
LEAST_SQUARES_INTERPOLATES = 1e-8  # of the variance of the labels


def _is(name: str, statement: str, curve: Curve) -> Prediction:
    """That a curve is a double descent."""
    return Prediction(name, statement, OF_KIND[curve.shape.kind], curve.in_words, curve.numbers)


def _removed(name: str, statement: str, before: Curve, after: Curve) -> Prediction:
    """That of the peak of one curve the other has nothing."""
    left, was = after.shape.prominence(CLEAR), before.shape.prominence(-CLEAR)
    verdict: Verdict = "not shown"
    if before.shape.kind != "double descent":
        because = f"there is no peak to remove: {before.in_words}"
    elif after.shape.kind == "double descent":
        verdict, because = "not confirmed", f"it is still there: {after.in_words}"
    else:
        verdict = "confirmed" if after.shape.kind != "not shown" and left < was / 2 else "not shown"
        at_most, at_least = as_error(max(left, 0)), as_error(was)
        because = f"{after.in_words}; at most {at_most} can be left of a peak that is at least {at_least} high"
    numbers = after.numbers | {"peak_left_at_most": left, "peak_at_least": was}
    return Prediction(name, statement, verdict, because, numbers)


# ---- networks --------------------------------------------------------------------------------------------------------


def of_networks(result: xr.Dataset) -> Iterator[Prediction]:
    """What is predicted of the networks, as far as there are curves to tell it."""
    names = [str(name) for name in result.arm.values]
    base, *others = names
    first, curve = result.sel(arm=base), over_widths(result, base)
    yield _is("peak", f"over widths, test error falls, rises and falls again ({base})", curve)
    yield _at_threshold(result, base, curve)
    for name in others:
        if first.arm_noise > 0 and result.sel(arm=name).arm_noise == 0:
            yield _removed("no-noise", "without label noise there is no peak", curve, over_widths(result, name))
    for field, key, statement in (
        ("arm_n", "more-data", "with more training examples the peak is at a larger width"),
        ("arm_noise", "more-noise", "with more label noise the peak is at a larger width"),
    ):
        alike = [base, *(name for name in others if result.sel(arm=name)[field] != first[field])]
        if field == "arm_noise":  # without noise no peak is predicted
            alike = [name for name in alike if result.sel(arm=name).arm_noise > 0]
        if len(alike) > 1:
            ordered = sorted(alike, key=lambda name: float(result.sel(arm=name)[field]))
            yield _moved(key, statement, result, ordered[0], ordered[-1])
    if "n" in result.sizes:
        yield _more_is_worse(result)
    yield _over_steps(result, base)
    stopped = Curve(curve.grid, over_draws(result, "stopped_error", arm=base), "width")
    yield _removed("early-stopping", "early stopping removes the peak", curve, stopped)
    for name in others:
        decay = float(result.sel(arm=name).arm_decay)
        if decay > first.arm_decay:
            held = over_widths(result, name, held_back=True)
            yield _removed(f"decay-{decay:g}", f"weight decay {decay:g} removes the peak", curve, held)


def _at_threshold(result: xr.Dataset, arm: str, curve: Curve) -> Prediction:
    """That the threshold lies where the peak can be, to a point of the grid on either side."""
    threshold, low, high = threshold_of(result, arm)
    _, first, last = curve.peak
    because = f"peak {in_interval(curve.peak)}, threshold {in_interval((threshold, low, high))}"
    verdict: Verdict = "not shown"
    if curve.shape.kind == "double descent" and math.isfinite(low + high):
        below, above = curve.grid[curve.grid < first].max(), curve.grid[curve.grid > last].min()
        if below <= low and high <= above:
            verdict = "confirmed"
        elif high < below or low > above:
            verdict = "not confirmed"
    level = as_percent(INTERPOLATES, 0)
    statement = f"the peak is where the training error comes down to {level}, to a point of the grid"
    numbers = {"threshold": threshold, "threshold_interval": [low, high], "peak_interval": [first, last]}
    return Prediction("threshold", statement, verdict, because, numbers)


def _moved(name: str, statement: str, result: xr.Dataset, less: str, more: str) -> Prediction:
    """That the second arm's peak is to the right, in test error, or where that has none in the Brier score."""
    losses = {"test_error": "test error", "brier": "the Brier score"}
    numbers: dict[str, Any] = {}
    for arm in (less, more):
        at, low, high = threshold_of(result, arm)
        numbers[arm] = {"threshold": at, "threshold_interval": [low, high]}
    thresholds = " and ".join(in_interval(threshold_of(result, arm)) for arm in (less, more))
    for loss, words in losses.items():
        one, other = (over_widths(result, arm, loss) for arm in (less, more))
        if one.shape.kind == other.shape.kind == "double descent":
            ratio, low, high = peak_shift(one.grid, one.errors, other.errors)
            numbers |= {"decided_on": words, "ratio": ratio, "ratio_interval": [low, high]}
            verdict: Verdict = "confirmed" if low > 1 else "not confirmed" if high <= 1 else "not shown"
            moved = (
                f"from {in_interval(one.peak)} to {in_interval(other.peak)}, {in_interval((ratio, low, high))} times"
            )
            because = f"in {words} {moved}; thresholds {thresholds} ({less}; {more})"
            return Prediction(name, statement, verdict, because, numbers)
    because = f"they do not both have a peak in test error, nor both in the Brier score; thresholds {thresholds}"
    return Prediction(name, statement, "not shown", f"{because} ({less}; {more})", numbers)


def _more_is_worse(result: xr.Dataset) -> Prediction:
    """That at one width the error rises with n somewhere, by more than a single rise needs to count."""
    curve, width = over_samples(result), result.attrs["samples_width"]
    rise = curve.shape.largest_rise
    says = rise.exceeds(CLEAR_ALONE)
    falls = curve.shape.kind == "monotone" and curve.shape.descent.by > 0
    verdict: Verdict = "confirmed" if says else "not confirmed" if falls else "not shown"
    told = curve.in_words
    if rise.by > 0:
        told += f"; from n = {curve.grid[rise.low]:g} to {curve.grid[rise.high]:g} it rises by {as_error(rise.by)}"
        told += f" (standard error {as_error(rise.error)})"
    return Prediction("samples", f"at width {width}, more training examples are worse", verdict, told, curve.numbers)


def _over_steps(result: xr.Dataset, arm: str) -> Prediction:
    """That the widest network's error is a double descent over training. One that rises to the end may yet fall."""
    widths = result.width.values.tolist()
    curve = over_steps(result, arm, widths[-1])
    kinds = {f"width_{width}": over_steps(result, arm, width).shape.kind for width in widths}
    verdict: Verdict = "not shown" if curve.shape.kind == "U-shaped" else OF_KIND[curve.shape.kind]
    n_found = sum(kind == "double descent" for kind in kinds.values())
    because = f"{curve.in_words}; of {len(widths)} widths {n_found} have a double descent"
    statement = f"over steps, the test error of width {widths[-1]} falls, rises and falls again"
    return Prediction("steps", statement, verdict, because, curve.numbers | {"shapes": kinds})


# ---- what can be computed --------------------------------------------------------------------------------------------


def of_linear_models(result: xr.Dataset) -> Iterator[Prediction]:
    """What is predicted of least squares."""
    yield _at_n(result)
    width, noise, n = int(result.attrs["slice_width"]), float(result.attrs["slice_noise"]), middle_n(result)
    by_n = over_slice(result)
    at_n = by_n.shape.kind == "double descent" and by_n.peak == (width,) * 3
    verdict: Verdict = "confirmed" if at_n else "not shown" if by_n.shape.kind == "not shown" else "not confirmed"
    statement = f"of {width} random features, {as_percent(noise, 0)} noise, the error peaks over n at n = d"
    yield Prediction("features-samples", statement, verdict, by_n.in_words, by_n.numbers)
    plain, tuned = over_features(result, n, noise), over_features(result, n, noise, "ridge_error")
    removed = _removed("ridge", f"tuned ridge removes the peak of random features (n = {n})", plain, tuned)
    best = f"with the best width {as_error(tuned.mean.min())}, without ridge {as_error(plain.mean.min())}"
    yield replace(removed, because=f"{removed.because}; {best}")
    in_turn, at_once = (over_linear_steps(result, pace) for pace in PACES)
    yield _is("linear-steps", "features learned in turn make a double descent over steps", in_turn)
    statement = "where all are learned at once there is no peak over steps"
    yield _removed("linear-cure", statement, in_turn, at_once)


def _at_n(result: xr.Dataset) -> Prediction:
    """That the peak is at d = n in every cell, in error and in squared error, and the threshold too."""
    ns, noises = result.features_n.values.tolist(), result.features_noise.values.tolist()
    cells = [(n, noise) for n in ns for noise in noises]
    medians = {
        variable: result[variable].median("feature_draw") for variable in ("features_error", "features_squared_error")
    }
    there = {
        f"n {n}, noise {noise:g}": all(
            int(values.sel(features_n=n, features_noise=noise).idxmax("features")) == n for values in medians.values()
        )
        for n, noise in cells
    }
    zero = result.features_unexplained.max("feature_draw") <= LEAST_SQUARES_INTERPOLATES
    above = {n: result.features.values[~zero.sel(features_n=n).all("features_noise").values].max(initial=0) for n in ns}
    first = {n: int(result.features.values[result.features.values > above[n]].min()) for n in ns}
    kinds = [over_features(result, n, noise).shape.kind for n, noise in cells]
    at = sum(there.values())
    because = (
        f"in {at} of {len(cells)} settings of n and noise the medians over draws of error and of squared error are "
        f"highest there; training error is 0 from d = {', '.join(map(str, first.values()))} on; "
        f"{kinds.count('double descent')} are double descents"
    )
    verdict: Verdict = "not confirmed"
    if at == len(cells):
        verdict = "confirmed" if kinds.count("double descent") == at else "not shown"
    numbers = {"highest_at_n": there, "first_without_training_error": {str(n): d for n, d in first.items()}}
    return Prediction(
        "features", "of random features with least norm, the error peaks at d = n", verdict, because, numbers
    )
