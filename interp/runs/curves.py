"""The learning curves that training logged, by split."""

from typing import TYPE_CHECKING

import numpy as np

from interp.experiment import Examples

if TYPE_CHECKING:
    import xarray as xr


def logged_curves(logged: "xr.Dataset", task: Examples) -> "xr.Dataset":
    """`loss` and `accuracy` [step, split] of train, test, unmirrored and held-out pairs, from what `Run.metrics` holds;
    NaN where nothing is known."""
    import xarray as xr  # half a second, for which training need not wait

    metrics = logged.drop_duplicates("step", keep="last")
    if metrics.data_vars:
        metrics = metrics.dropna("step", how="all")  # such as the step at which training diverged
    # Training writes of held-out pairs only where they are not the unmirrored ones.
    is_same = bool((task.mask("held_out") == task.mask("unmirrored")).all())
    columns = {
        "train": "train",
        "test": "test",
        "unmirrored": "unmirrored_test",
        "held_out": "unmirrored_test" if is_same else "held_out",
    }
    missing = np.full(metrics.sizes["step"], np.nan)

    def curves(name: str) -> np.ndarray:
        found = [metrics.get(f"{column}_{name}") for column in columns.values()]
        return np.stack([missing if values is None else values.values for values in found], axis=1)

    axes = ("step", "split")
    return xr.Dataset(
        {name: (axes, curves(name)) for name in ("loss", "accuracy")},
        {"step": metrics.step.values, "split": list(columns)},
    )
