"""Learning curves. When did the network memorize, and when did it generalize?

Loss is the mean over the pairs of a split of what the network was trained on: the cross-entropy (natural logarithm,
float64 log-softmax), or what its training names (`TrainingConfig.loss`); accuracy the share of correct answers. Splits:
train; test; unmirrored: test pairs (a, b) whose mirror (b, a) was not trained on either, because for a commutative
operation a pair and its mirror have one label; held out: test pairs that no symmetry of the task makes of a trained one
(`Task.symmetries`: of most operations these are the unmirrored ones); validation, where some pairs are to choose on:
then the figure shows what early stopping would have kept (`early_stopping`). When it memorized and when it generalized
are told by `interp.mathematics.grokking` from train and held-out pairs. The generalization gap is test loss − train
loss. A network overfits where its test accuracy is more than 5 points below its train accuracy. Its training loss
spikes where it is more than ten times its median over the 500 steps before, once the network has memorized
(`interp.mathematics.spikes`; where it is logged, the highest loss since the line before counts). Every step that
training logged is here, and every checkpoint: one without logged metrics is run to obtain them.

It cannot tell why: a circuit may long be growing while these curves stand still. What spikes are, `slingshots` tells.
Held out excludes what the listed symmetries give away, not all that a network could infer from training pairs without
the whole rule. What an importer gave as test curves, without a split, has mirrored pairs among them.
"""

import numpy as np
import xarray as xr

from interp.figures import NEUTRAL, PALETTE, TEST, TRAIN, new_panels, percent_axis, power_of_ten_axis
from interp.mathematics import early_stopping, grokking, spikes

ASKS = "answers"
REFERENCE = "Power et al. 2022, arXiv:2201.02177, §3; Nanda et al. 2023, arXiv:2301.05217, §3"
READS = ()
CORE = True
PLACE = 2
SPLITS = ("train", "test", "unmirrored", "held_out")  # and, where there are such pairs, "validation"


def compute(run, *, overfitting_gap: float = 0.05) -> xr.Dataset:
    """`loss` and `accuracy` [step, split], `generalization_gap`, `overfits` (1, 0, or NaN where it cannot be known),
    and `highest_train_loss` since the logged line before, at `highest_train_loss_step` (NaN where it was not logged,
    and on mini-batches) [step].

    `overfitting_gap` is the difference of accuracies from which on the network counts as overfitting.

    >>> import interp
    >>> accuracy = compute(interp.open_run(interp.reference_path())).accuracy.sel(split=["train", "test"])
    >>> [accuracy.sel(step=step).values.round(1).tolist() for step in (100, 3000)]  # memorized, then generalized
    [[1.0, 0.2], [1.0, 1.0]]
    """
    task, logged = run.task, run.curves
    steps = np.union1d(logged.step.values, run.steps).astype(np.int32)
    logged = logged.reindex(step=steps)
    loss_words = logged.loss.attrs
    curves = {name: logged[name].values.copy() for name in ("loss", "accuracy")}
    splits = [str(split) for split in logged.split.values]
    knowable = [place for place, split in enumerate(splits) if split != "unmirrored" and task.mask(split).any()]
    unknown = np.isnan(curves["loss"][:, knowable] + curves["accuracy"][:, knowable]).any(1)
    for row in np.flatnonzero(unknown & np.isin(steps, run.steps)):
        checkpoint = run[int(steps[row])]
        for column, split in enumerate(splits):
            curves["loss"][row, column] = checkpoint.trained_loss(split)
            curves["accuracy"][row, column] = checkpoint.accuracy(split)
    loss, accuracy = curves["loss"], curves["accuracy"]
    metrics, unlogged = run.metrics.reindex(step=steps), np.full(len(steps), np.nan)
    # The highest loss of a mini-batch is that of a sample: it is no spike of the loss of all.
    is_of_batches = run.training is not None and run.training.batch_size is not None
    highest, highest_at = (
        metrics[name].values if name in metrics and not is_of_batches else unlogged
        for name in ("train_loss_max", "train_loss_max_step")
    )
    overfits = np.where(np.isnan(accuracy[:, :2]).any(1), np.nan, accuracy[:, 1] < accuracy[:, 0] - overfitting_gap)
    return xr.Dataset(
        {
            "loss": (("step", "split"), loss, loss_words),
            "accuracy": (("step", "split"), accuracy, {"long_name": "accuracy", "units": "1"}),
            "generalization_gap": (
                "step",
                loss[:, 1] - loss[:, 0],
                {"long_name": "test loss − train loss", "units": loss_words["units"]},
            ),
            "highest_train_loss": (
                "step",
                highest,
                loss_words | {"long_name": "highest training loss since the line before"},
            ),
            "highest_train_loss_step": ("step", highest_at, {"long_name": "step of it", "units": "updates"}),
            "overfits": (
                "step",
                overfits,
                {"long_name": f"test accuracy more than {100 * overfitting_gap:g} points below train", "units": "1"},
            ),
        },
        coords={
            "step": ("step", steps, {"long_name": "step", "units": "updates"}),
            "split": ("split", np.array(splits), {"long_name": "split", "units": "name"}),
        },
        attrs={
            **{f"{split}_pairs": int(task.mask(split).sum()) for split in ("train", "held_out")},
            "independent_held_out_pairs": task.n_held_out,
            **logged.attrs,
            "mirrors_included": int(not task.split_known and bool(task.symmetries)),
        },
    )


def summary(result: xr.Dataset) -> dict:
    """`memorized_at` and `generalized_at` are the logged steps from which on 99 % of train and of held-out pairs were
    known and stayed so (`interp.mathematics.grokking`), `memorized_after` and `generalized_after` the last ones before
    at which they were not; `held_out_accuracy` is the highest that was held, since `held_out_accuracy_at`; `falls` are
    those of held-out accuracy later; `spikes` are those of the training loss: at which step it was highest, how high,
    and the lowest train accuracy that was logged. Null where unknown."""
    steps, found = result.step.values, grokking.events_of(result)
    loss = {split: result.loss.sel(split=split).values for split in SPLITS}
    accuracy = {split: result.accuracy.sel(split=split).values for split in SPLITS}
    test_loss, spiked = loss["test"], _spikes(result)
    is_known = np.isfinite(test_loss).any()
    return {
        **found.times,
        "last_step": int(steps[-1]),
        "final_train_loss": float(loss["train"][-1]),
        "final_test_loss": float(test_loss[-1]),
        "final_train_accuracy": float(accuracy["train"][-1]),
        "final_test_accuracy": float(accuracy["test"][-1]),
        "final_held_out_accuracy": float(accuracy["held_out"][-1]),
        "highest_test_loss": float(np.nanmax(test_loss)) if is_known else None,
        "highest_test_loss_at": int(steps[np.nanargmax(test_loss)]) if is_known else None,
        "spikes": [{"step": one.at, "loss": one.highest, "train_accuracy": one.accuracy} for one in spiked],
        "overfits_at_the_end": bool(result.overfits.values[-1]) if np.isfinite(accuracy["test"][-1]) else None,
    }


def _spikes(result: xr.Dataset) -> list[spikes.Spike]:
    of_train = result.sel(split="train")
    told = of_train.isel(step=np.isfinite(of_train.loss.values) & np.isfinite(of_train.accuracy.values))
    curves = told.step.values, told.loss.values, told.accuracy.values
    return spikes.spikes(*curves, told.highest_train_loss.values, told.highest_train_loss_step.values)


def plot(result: xr.Dataset):
    """Loss (logarithmic) and accuracy over training, with the steps of memorization and generalization, and the spikes
    of the training loss."""
    import plotly.graph_objects as go

    figure = new_panels("Learning curves", ("Loss", "Accuracy"), reference=REFERENCE, row_height=340)
    of_test = "test, mirrors included" if result.attrs["mirrors_included"] else "test"
    names = {"train": "train", "test": of_test, "held_out": "held out: no mirror trained on"}
    colors = {"train": TRAIN, "test": TEST, "held_out": PALETTE[4], "validation": PALETTE[2]}
    if "validation" in result.split.values:
        names["validation"] = "validation: to choose on"
    for column, variable in enumerate(("loss", "accuracy"), start=1):
        for split, split_name in names.items():
            values = result[variable].sel(split=split).values
            if np.isfinite(values).any():
                line = {"color": colors[split], "width": 2, "dash": "dot" if split == "held_out" else "solid"}
                trace = go.Scatter(
                    x=result.step.values, y=values, name=split_name, line=line, mode="lines", legendgroup=split
                )
                trace.showlegend = column == 2
                figure.add_trace(trace, row=1, col=column)
    facts = summary(result)
    for place, spike in enumerate(facts["spikes"]):
        look = {"color": TRAIN, "size": 7, "symbol": "triangle-down-open"}
        dot = go.Scatter(x=[spike["step"]], y=[spike["loss"]], mode="markers", marker=look, name="spike")
        figure.add_trace(dot.update(showlegend=place == 0, legendgroup="spike"), row=1, col=1)
    marks = {"memorized": facts["memorized_at"], "generalized": facts["generalized_at"]}
    if "validation" in result.split.values:
        stopped = early_stopping.stop(result.step.values, result.loss.sel(split="validation").values)
        marks["early stopping keeps"] = stopped.kept if stopped is not None else None
    for label, step in marks.items():
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
    power_of_ten_axis(figure, row=1, col=1, title_text=result.attrs["loss_axis"])
    percent_axis(figure, row=1, col=2, title_text="accuracy")
    return figure
