"""Which lever a decomposition into bias and variance names, and what pulling it did to the risk."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from interp.mathematics.double_descent import INTERPOLATES
from interp.mathematics.intervals import COVERAGE, seed_interval

PLACES = ("narrow", "peak", "wide")


class Estimate(NamedTuple):
    """A number of all draws, and the ends of its 95 % interval, by the jackknife over draws."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def estimate(n_columns: int, statistic: Callable[[int], float], *, coverage: float = COVERAGE) -> Estimate:
    """A statistic of columns: that of the first, of all draws, and its interval by the others, of all draws but one.

    >>> print(estimate(4, lambda column: [2.0, 2.5, 2.0, 1.5][column]))  # the mean of 1, 2 and 3
    2.000 [-0.484, 4.484]
    """
    everyone = set(range(n_columns - 1))

    def of(draws: list[int]) -> float:
        missing = everyone - set(draws)
        return statistic(missing.pop() + 1 if missing else 0)

    low, high = seed_interval(len(everyone), of, coverage=coverage)
    return Estimate(statistic(0), float(low), float(high))


def of_part(table: xr.DataArray, part: str) -> np.ndarray:
    """The columns [..., left_out] of a part; "variance" is that of data and initialization."""
    if part == "variance":
        return of_part(table, "data") + np.nan_to_num(of_part(table, "initialization"))
    return table.sel(part=part).transpose(..., "left_out").values


def estimates(table: xr.DataArray) -> dict[str, Any]:
    """The parts of a table [part, left_out] with their intervals, as numbers of a summary."""
    found = dict[str, Any]()
    for part in (*table.part.values.tolist(), "variance"):
        columns = of_part(table, part)
        one = estimate(len(columns), columns.__getitem__)
        found |= {part: one.value, f"{part}_interval_95": [one.low, one.high]}
    return found


def places(result: xr.Dataset) -> dict[str, int]:
    """The widths at which levers are pulled: the narrowest, that of the greatest variance in between, the widest."""
    widths = result.width.values.tolist()
    variance = of_part(result.digits.isel(step=-1), "variance")[:, 0]
    inner = variance[1:-1] if len(widths) > 2 else variance
    return dict(zip(PLACES, (widths[0], widths[int(inner.argmax()) + (len(widths) > 2)], widths[-1]), strict=True))


def named_lever(result: xr.Dataset, width: int) -> str:
    """The lever that the decomposition names for a width: by the parts and the training error alone.

    >>> parts = xr.DataArray([[0.5], [0.1], [0.1], [0.3]], {"part": ["risk", "bias", "data", "initialization"]},
    ...     ["part", "left_out"])
    >>> some = xr.Dataset({"digits": parts.expand_dims(width=[8], step=[0]), "training_error": ("width", [0.0])})
    >>> named_lever(some, 8)
    'ensemble'
    """
    here = result.digits.sel(width=width).isel(step=-1)
    risk, bias, data, initialization = (
        float(of_part(here, part)[0]) for part in ("risk", "bias", "data", "initialization")
    )
    if bias > risk / 2:
        return "wider"
    if initialization >= data:
        return "ensemble"
    return "regularize" if float(result.training_error.sel(width=width)) <= INTERPOLATES else "more data"


def gains(result: xr.Dataset, place: str) -> dict[str, Estimate]:
    """By how much each lever lowered the risk."""
    columns = of_part(result.levers.sel(place=place), "risk")
    names = result.lever.values.tolist()
    return {
        name: estimate(columns.shape[1], lambda column, row=row: columns[0, column] - columns[row, column])
        for row, name in enumerate(names)
        if row
    }


def foretold(result: xr.Dataset, place: str) -> tuple[Estimate, Estimate]:
    """By how much the mean of S networks was to lower the risk, V_s·(1 − 1/S), and by how much more it did, with an
    interval that holds at all places together 95 % of the time (Bonferroni)."""
    n_seeds = int(result.attrs["seeds"])
    table = result.levers.sel(place=place)
    within = of_part(table.sel(lever="none"), "initialization") * (1 - 1 / n_seeds)
    did = of_part(table.sel(lever="none"), "risk") - of_part(table.sel(lever="ensemble"), "risk")
    n_columns = len(within)
    together = 1 - (1 - COVERAGE) / len(PLACES)
    more = estimate(n_columns, lambda column: did[column] - within[column], coverage=together)
    return estimate(n_columns, within.__getitem__), more


def shares(result: xr.Dataset, width: int) -> str:
    """What the risk at a width is made of, in words, and what averaging would remove."""
    here, n_seeds = result.digits.sel(width=width).isel(step=-1), int(result.attrs["seeds"])
    risk, variance, data, within = (
        float(of_part(here, part)[0]) for part in ("risk", "variance", "data", "initialization")
    )
    if not risk or not variance or not math.isfinite(within):
        return f"at width {width} the parts are not known"
    return (
        f"at width {width} {100 * variance / risk:.0f} % of the risk is variance, {100 * data / variance:.0f} % of "
        f"that from the draw of the data; averaging {n_seeds} networks of a draw would remove "
        f"{within * (1 - 1 / n_seeds):.3f} of {risk:.3f}"
    )


def lever_rows(result: xr.Dataset) -> list[dict[str, str]]:
    """A row for each width at which levers were pulled."""
    rows = []
    for place, width in places(result).items():
        named, found = named_lever(result, width), gains(result, place)
        here = result.digits.sel(width=width).isel(step=-1)
        parts = {part: float(of_part(here, part)[0]) for part in ("risk", "bias", "data", "initialization")}
        words = {"bias": "bias²", "data": "by data", "initialization": "by weights"}
        rows.append(
            {"width": str(width)}
            | {words.get(part, part): f"{value:.3f}" for part, value in parts.items()}
            | {"lever": named}
            | {f"{name} lowers it by": str(one) for name, one in found.items()}
        )
    return rows
