"""Analyses of a series of weights, of any network: no run, no task, no model."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import xarray as xr

from interp.analysis.contract import find
from interp.errors import InputError
from interp.runs import HasWeights


def measure_series(series: Iterable[HasWeights], name: str, **parameters: Any) -> xr.Dataset:
    """One analysis that asks for weights alone, of every member of a series, along `step`.

    The members have the same tensors: one pass, in their order, each let go before the next. Raises InputError for an
    analysis that asks for more than weights, and for a series without members.

    >>> import torch
    >>> from interp.runs import Weighted
    >>> series = (Weighted(step, {"layer": torch.full((2, 2), float(step))}) for step in (0, 1, 2))
    >>> measure_series(series, "weight_norms").total_l2.values
    array([0., 2., 4.])
    """
    analysis = find(name)
    if analysis.asks != "weights" or analysis.of_run:
        raise InputError(f"{name} asks for more than weights; make checkpoints of them: interp.Checkpoint.from_weights")
    resolved = analysis.resolve(parameters)
    steps: list[int] = []
    rows: list[xr.Dataset] = []
    for member in series:
        steps.append(member.step)
        rows.append(analysis.function(member, **resolved))
    if not rows:
        raise InputError(f"{name}: the series has no members")
    step = xr.Variable("step", np.array(steps), {"long_name": "step", "units": "updates"})
    return xr.concat(rows, step, join="exact", combine_attrs="override")
