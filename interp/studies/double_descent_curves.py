"""Curves of the study of double descent, with their shapes, in words and numbers."""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Float

from interp.mathematics.double_descent import (
    INTERPOLATES,
    Shape,
    interpolation_threshold,
    peak_interval,
    shape,
)


@dataclass(frozen=True)
class Curve:
    """Errors over a grid, a column for each draw, and what one of its points is called. `reaches_zero`: whether the
    training error comes down to ε on the grid; where it need not, True.

    >>> e = np.array([[0.3, 0.3], [0.2, 0.21], [0.4, 0.41], [0.1, 0.1]])
    >>> Curve(np.array([1.0, 2.0, 4.0, 8.0]), e, "width").in_words
    'double descent, .205 at width 2, .405 at width 4, .1 at width 8'
    >>> Curve(np.array([1.0, 2.0]), e[:2], "width").in_words
    'not shown, .3 at width 1, .205 at width 2'
    """

    grid: Float[np.ndarray, " point"]
    errors: Float[np.ndarray, "point draw"]
    point: str
    reaches_zero: bool = True

    @cached_property
    def shape(self) -> Shape:
        """What it is."""
        return shape(self.errors, reaches_zero=self.reaches_zero)

    @cached_property
    def mean(self) -> Float[np.ndarray, " point"]:
        """The mean over draws."""
        return self.errors.mean(1)

    @cached_property
    def peak(self) -> tuple[float, float, float]:
        """The peak and the ends of its interval."""
        return peak_interval(self.grid, self.errors)

    @property
    def in_words(self) -> str:
        """Its shape, and the means that it stands on: least before, peak and end; start, least and highest after; or
        start and end."""
        found, last = self.shape, len(self.grid) - 1
        places = {
            "double descent": (found.rise.low, found.rise.high, last),
            "U-shaped": (0, found.largest_rise.low, found.largest_rise.high),
        }.get(found.kind, (0, last))
        told = (f"{as_error(self.mean[at])} at {self.point} {self.grid[at]:,.6g}" for at in dict.fromkeys(places))
        return ", ".join([found.kind, *told])

    @property
    def numbers(self) -> dict[str, Any]:
        """What its shape stands on."""
        place, low, high = self.peak
        values: dict[str, Any] = {"shape": self.shape.kind, "peak": place, "peak_interval": [low, high]}
        for name in ("rise", "fall", "largest_rise"):
            side = getattr(self.shape, name)
            values |= {name: side.by, f"{name}_standard_error": side.error}
        return values


def as_error(value: float) -> str:
    """Three digits, without the 0 before the point.

    >>> as_error(0.2391), as_error(1.5), as_error(0.0), as_error(12.34), as_error(0.5)
    ('.239', '1.5', '0', '12.3', '.5')
    """
    text = f"{value:.3f}" if abs(value) < 1 else f"{value:.3g}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return text.removeprefix("0") or "0"


def in_interval(values: tuple[float, float, float]) -> str:
    """A number and its interval.

    >>> in_interval((16.0, 12.0, 20.0)), in_interval((math.inf, math.nan, math.nan)), in_interval((0.0, 0.0, 0.0))
    ('16 [12, 20]', 'beyond the grid', 'before the grid')
    """
    value, low, high = values
    if math.isnan(value):
        return "unknown"
    if math.isinf(value):
        return "beyond the grid"
    if value == 0:
        return "before the grid"
    ends = f" [{low:.3g}, {high:.3g}]" if math.isfinite(low + high) else ""
    return f"{value:.3g}{ends}"


def over_draws(result: xr.Dataset, variable: str, **where: Any) -> Float[np.ndarray, "point draw"]:
    """A score of networks at the last step, a column for each draw, in which its seeds are averaged."""
    values = result[variable].sel(**where)
    values = values.isel(step=-1) if "step" in values.dims else values
    (point,) = (dim for dim in values.dims if dim not in ("draw", "seed"))
    return values.mean("seed").transpose(point, "draw").values


def over_widths(result: xr.Dataset, arm: str, loss: str = "test_error", *, held_back: bool = False) -> Curve:
    """A loss over widths. Networks that are `held_back`, by stopping or by decay, need not come to a training error of
    0: not to is what they are held back for."""
    training = over_draws(result, "training_error", arm=arm)
    reaches = held_back or bool((training.mean(1) <= INTERPOLATES).any())
    return Curve(result.width.values.astype(float), over_draws(result, loss, arm=arm), "width", reaches)


def over_steps(result: xr.Dataset, arm: str, width: int) -> Curve:
    """The test error of one width over training."""
    of = result.sel(arm=arm, width=width)
    reaches = float(of.training_error.isel(step=-1).mean()) <= INTERPOLATES
    errors = of.test_error.mean("seed").transpose("step", "draw").values
    return Curve(result.step.values.astype(float), errors, "step", reaches)


def over_samples(result: xr.Dataset, loss: str = "test_error") -> Curve:
    """A loss over the number of training examples, at one width."""
    reaches = bool((over_draws(result, "samples_training_error").mean(1) <= INTERPOLATES).any())
    return Curve(result.n.values.astype(float), over_draws(result, f"samples_{loss}"), "n", reaches)


def threshold_of(result: xr.Dataset, arm: str) -> tuple[float, float, float]:
    """The interpolation threshold over widths, and its interval."""
    return interpolation_threshold(result.width.values.astype(float), over_draws(result, "training_error", arm=arm))


def middle_n(result: xr.Dataset) -> int:
    """The number of training examples of which random features are drawn, and told in detail."""
    ns = result.features_n.values
    return int(ns[len(ns) // 2])


def over_features(result: xr.Dataset, n: int, noise: float, variable: str = "features_error") -> Curve:
    """Test errors of least norm on random features, or with "ridge_error" those of tuned ridge."""
    values = result[variable].sel(features_n=n, features_noise=noise).transpose("features", "feature_draw").values
    return Curve(result.features.values.astype(float), values, "d")


def over_slice(result: xr.Dataset) -> Curve:
    """Test errors of least norm over the number of training examples."""
    return Curve(result.slice_n.values.astype(float), result.slice_error.transpose("slice_n", ...).values, "n")


def over_linear_steps(result: xr.Dataset, pace: str) -> Curve:
    """The risk of gradient descent on a linear model."""
    values = result.linear_risk.sel(pace=pace).transpose("linear_step", "linear_draw").values
    return Curve(result.linear_step.values.astype(float), values, "step")
