"""How often verdicts are right: the confusion matrix, and shares with their intervals."""

import math
from typing import Any

import numpy as np
import xarray as xr

from interp.mathematics.grokking import VERDICTS
from interp.mathematics.intervals import wilson_interval

# What can be true of a run; what can be said of it is also "unknown".
TRUE = VERDICTS[:-1]


def clear(result: xr.Dataset, *, judging: bool) -> xr.Dataset:
    """The runs with odd seeds, which judge, or those with even ones, without those that are borderline."""
    of_half = result.seed.values % 2 == (1 if judging else 0)
    return result.isel(run=np.flatnonzero(of_half & (result.borderline.values == 0)))


def borderline(result: xr.Dataset) -> xr.Dataset:
    """The borderline runs, of either half."""
    return result.isel(run=np.flatnonzero(result.borderline.values))


def scores(some: xr.Dataset) -> dict[str, Any]:
    """The confusion matrix, by the true verdict and then by that said, and the shares with their intervals."""
    true, said = some.true.values, some.said.values
    matrix = {
        verdict: {other: int(((true == verdict) & (said == other)).sum()) for other in VERDICTS} for verdict in TRUE
    }
    given = said != "unknown"
    return {
        "runs": len(true),
        "right": share(int((true == said).sum()), int(given.sum())),
        "unknown": share(int((~given).sum()), len(true)),
        "recall": {name: share(row[name], sum(row.values())) for name, row in matrix.items()},
        "confusion_matrix": matrix,
    }


def share(successes: int, n: int) -> dict[str, Any]:
    """A share, of how many, with Wilson's interval.

    >>> share(9, 10)["share"], [round(end, 2) for end in share(9, 10)["interval_95"]]
    (0.9, [0.6, 0.98])
    """
    value = successes / n if n else math.nan
    return {"share": value, "of": n, "interval_95": list(wilson_interval(successes, n))}
