"""Learning curves. When did the network memorize, and when did it generalize?

Loss is the mean cross-entropy (natural logarithm, float64 log-softmax) over the pairs of a split; accuracy the share of
correct answers. Splits: train, test, and unmirrored: test pairs (a, b) whose mirror (b, a) was not trained on either,
because for a commutative operation a pair and its mirror have one label. The generalization gap is test loss − train
loss. A network overfits where its test accuracy is more than 5 points below its train accuracy. Every step that
training logged is here, and every checkpoint: one without logged metrics is run to obtain them.

It cannot tell why: a circuit may long be growing while these curves stand still.
"""

import numpy as np
import xarray as xr

from interp.figures import NEUTRAL, PALETTE, TEST, TRAIN, new_panels, percent_axis, power_of_ten_axis
from interp.mathematics import grokking

ASKS = "answers"
REFERENCE = "Power et al. 2022, arXiv:2201.02177, §3; Nanda et al. 2023, arXiv:2301.05217, §3"
CORE = True
PLACE = 2
SPLITS = ("train", "test", "unmirrored")
_LOGGED = {
    "loss": ("train_loss", "test_loss", "unmirrored_test_loss"),
    "accuracy": ("train_accuracy", "test_accuracy", "unmirrored_test_accuracy"),
}


def compute(run, *, overfitting_gap: float = 0.05) -> xr.Dataset:
    """`loss` and `accuracy` [step, split], `generalization_gap` and `overfits` (1, 0, or NaN where it cannot be
    known) [step].

    `overfitting_gap` is the difference of accuracies from which on the network counts as overfitting.

    >>> import interp
    >>> accuracy = compute(interp.open_run(interp.reference_path())).accuracy.sel(split=["train", "test"])
    >>> [accuracy.sel(step=step).values.round(1).tolist() for step in (100, 3000)]  # memorized, then generalized
    [[1.0, 0.2], [1.0, 1.0]]
    """
    logged = run.metrics.drop_duplicates("step", keep="last")
    if logged.data_vars:
        logged = logged.dropna("step", how="all")  # such as the step at which training diverged
    steps = np.union1d(logged.step.values, run.steps).astype(np.int32)
    logged = logged.reindex(step=steps)
    curves = {}
    for name, columns in _LOGGED.items():
        missing = xr.full_like(logged.step, np.nan, dtype=np.float64)
        curves[name] = np.stack([logged.get(column, missing).values for column in columns], axis=1)
    knowable = [column for column, split in enumerate(SPLITS[:2]) if run.task.mask(split).any()]
    unknown = np.isnan(curves["loss"][:, knowable] + curves["accuracy"][:, knowable]).any(1)
    for row in np.flatnonzero(unknown & np.isin(steps, run.steps)):
        checkpoint = run[int(steps[row])]
        for column, split in enumerate(SPLITS):
            curves["loss"][row, column] = checkpoint.loss(split)
            curves["accuracy"][row, column] = checkpoint.accuracy(split)
    loss, accuracy = curves["loss"], curves["accuracy"]
    overfits = np.where(np.isnan(accuracy[:, :2]).any(1), np.nan, accuracy[:, 1] < accuracy[:, 0] - overfitting_gap)
    return xr.Dataset(
        {
            "loss": (("step", "split"), loss, {"long_name": "cross-entropy", "units": "nats"}),
            "accuracy": (("step", "split"), accuracy, {"long_name": "accuracy", "units": "1"}),
            "generalization_gap": (
                "step",
                loss[:, 1] - loss[:, 0],
                {"long_name": "test loss − train loss", "units": "nats"},
            ),
            "overfits": (
                "step",
                overfits,
                {"long_name": f"test accuracy more than {100 * overfitting_gap:g} points below train", "units": "1"},
            ),
        },
        coords={
            "step": ("step", steps, {"long_name": "step", "units": "updates"}),
            "split": ("split", np.array(SPLITS), {"long_name": "split", "units": "name"}),
        },
    )


def summary(result: xr.Dataset) -> dict:
    """Steps are the first logged ones at which it was so (99 %); `logging_interval` is the gap before `generalized_at`,
    its resolution. `generalized_at_sustained` is the step from which on test accuracy was 99 % or more at every logged
    step."""
    steps = result.step.values
    train, test, unmirrored = result.accuracy.values.T
    loss = {split: result.loss.sel(split=split).values for split in ("train", "test")}
    known = np.nan_to_num([train, test, unmirrored])  # an accuracy that is not known is not 99 %
    events, without_mirror = grokking.events(steps, known[:2]), grokking.events(steps, known[[0, 2]])
    sustained = events.generalized_for_good[0]
    after = test[steps >= sustained]
    return {
        "memorized_at": grokking.whole(events.memorized[0]),
        "generalized_at": grokking.whole(events.generalized[0]),
        "generalized_at_sustained": grokking.whole(sustained),
        "unmirrored_generalized_at": grokking.whole(without_mirror.generalized[0]),
        "logging_interval": grokking.whole(events.generalized[1]),
        "lowest_test_accuracy_since": float(after.min()) if len(after) else None,
        "last_step": int(steps[-1]),
        "final_train_loss": float(loss["train"][-1]),
        "final_test_loss": float(loss["test"][-1]),
        "final_train_accuracy": float(train[-1]),
        "final_test_accuracy": float(test[-1]),
        "highest_test_loss": float(np.nanmax(loss["test"])) if np.isfinite(loss["test"]).any() else None,
        "highest_test_loss_at": int(steps[np.nanargmax(loss["test"])]) if np.isfinite(loss["test"]).any() else None,
        "overfits_at_the_end": bool(result.overfits.values[-1]) if np.isfinite(test[-1]) else None,
    }


def plot(result: xr.Dataset):
    """Loss (logarithmic) and accuracy over training, with the steps of memorization and generalization."""
    import plotly.graph_objects as go

    figure = new_panels("Learning curves", ("Loss", "Accuracy"), reference=REFERENCE, row_height=340)
    names = {"train": "train", "test": "test", "unmirrored": "test, mirror (b, a) not trained on"}
    colors = {"train": TRAIN, "test": TEST, "unmirrored": PALETTE[4]}
    for column, variable in enumerate(("loss", "accuracy"), start=1):
        for split in SPLITS:
            values = result[variable].sel(split=split).values
            if np.isfinite(values).any():
                line = {"color": colors[split], "width": 2, "dash": "dot" if split == "unmirrored" else "solid"}
                trace = go.Scatter(
                    x=result.step.values, y=values, name=names[split], line=line, mode="lines", legendgroup=split
                )
                trace.showlegend = column == 2
                figure.add_trace(trace, row=1, col=column)
    facts = summary(result)
    for label, step in (("memorized", facts["memorized_at"]), ("generalized", facts["generalized_at_sustained"])):
        if step is not None:
            figure.add_vline(x=step, line={"color": NEUTRAL, "width": 1, "dash": "dash"})
            figure.add_annotation(
                x=step,
                y=0.5,
                xref="x2",
                yref="y2",
                text=f"{label} {step:,}",
                showarrow=False,
                textangle=-90,
                xshift=-9,
                font_size=11,
            )
    figure.update_xaxes(title_text="step (updates)")
    power_of_ten_axis(figure, row=1, col=1, title_text="cross-entropy (nats)")
    percent_axis(figure, row=1, col=2, title_text="accuracy")
    return figure
