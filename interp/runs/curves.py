"""The learning curves that training logged, by split."""

from typing import TYPE_CHECKING

import numpy as np

from interp.experiment import Examples, TrainingConfig

if TYPE_CHECKING:
    import xarray as xr


def columns_of(task: Examples) -> dict[str, str]:
    """What the metrics of each split begin with, as training writes them: of held-out pairs only where they are not the
    unmirrored ones, and of validation pairs where there are any."""
    is_same = bool((task.mask("held_out") == task.mask("unmirrored")).all())
    columns = {
        "train": "train",
        "test": "test",
        "unmirrored": "unmirrored_test",
        "held_out": "unmirrored_test" if is_same else "held_out",
    }
    return columns | ({"validation": "validation"} if task.mask("validation").any() else {})


def logged_curves(logged: "xr.Dataset", task: Examples, training: TrainingConfig | None) -> "xr.Dataset":
    """`loss` and `accuracy` [step, split] of train, test, unmirrored and held-out pairs, and of validation
    pairs where there are any, from what `Run.metrics` holds;
    NaN where nothing is known. Of the loss, which is the one trained on, the attributes say whether it may stand for an
    accuracy (`losses_decide`: whether it is the cross-entropy), what outputs that are all zero have (`chance_loss`),
    and what to write at its axis (`loss_axis`)."""
    import xarray as xr  # half a second, for which training need not wait

    from interp.mathematics.losses import chosen_loss  # it needs torch

    metrics = logged.drop_duplicates("step", keep="last")
    if metrics.data_vars:
        metrics = metrics.dropna("step", how="all")  # such as the step at which training diverged
    columns = columns_of(task)
    missing = np.full(metrics.sizes["step"], np.nan)

    def curves(name: str) -> np.ndarray:
        found = [metrics.get(f"{column}_{name}") for column in columns.values()]
        return np.stack([missing if values is None else values.values for values in found], axis=1)

    axes, of = ("step", "split"), TrainingConfig() if training is None else training
    words = {
        "loss": {"long_name": of.loss_title, "units": of.loss_unit},
        "accuracy": {"long_name": "accuracy", "units": "1"},
    }
    return xr.Dataset(
        {name: (axes, curves(name), words[name]) for name in ("loss", "accuracy")},
        {"step": metrics.step.values, "split": list(columns)},
        {
            "losses_decide": int(of.loss_is_cross_entropy),
            "chance_loss": chosen_loss(of).of_guessing(task.n_classes),
            "loss_axis": of.loss_axis,
        },
    )
