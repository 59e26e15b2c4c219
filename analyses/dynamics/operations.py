"""Several operations. When did one network memorize each of its operations, and when did it generalize?

Of a network that is told by a token of the prompt which of several operations is asked (`Operations`): loss and
accuracy over the pairs of each operation alone, of train, test and held-out pairs, and from these, for each operation
as for a network of its own (`interp.mathematics.grokking`), the steps from which on its training pairs and its held-out
pairs were known. Held out are test pairs that nothing gives away which is equal for all pairs: whole tables of the
operations are compared after exchanging a and b, changing signs and taking inverses, so that of `add` beside `subtract`
a + b is held out only if b + a, a − (−b) and b − (−a) were not trained on either. The operation "random" has no rule:
its training pairs can be memorized, and its held-out pairs guessed.

It cannot tell whether operations share neurons or frequencies; that is asked of the network of each one
(`Checkpoint.of_operation`, `interp extract`). Held out does not exclude what else could be inferred from training pairs
without a whole rule, such as b − a = −(a − b). Weights, norms and the total loss are those of all operations together.
"""

import numpy as np
import xarray as xr

from interp.figures import NEUTRAL, PALETTE, new_panels, percent_axis, power_of_ten_axis
from interp.mathematics import grokking

ASKS = "operations"
REFERENCE = "Power et al. 2022, arXiv:2201.02177, §3; Nanda et al. 2023, arXiv:2301.05217, §3"
CORE = True
PLACE = 3
SCALES = {}
SPLITS = ("train", "test", "held_out")


def compute(run) -> xr.Dataset:
    """`loss` and `accuracy` [step, operation, split], with `pairs` [operation, split], `independent_held_out_pairs` and
    `guessing_accuracy` [operation], the share of the pairs that have the most frequent answer. A checkpoint without
    logged metrics is run to obtain them.

    >>> import interp
    >>> from interp.models import initial_weights
    >>> from tempfile import TemporaryDirectory
    >>> task, model = interp.Operations(7), interp.ModelConfig(family="mlp", d_mlp=8)
    >>> with TemporaryDirectory() as folder:
    ...     with interp.RunWriter.create(f"{folder}/run", task, model) as writer:
    ...         writer.append(0, initial_weights(model, task.sizes))
    ...     found = compute(writer.run)
    >>> dict(found.accuracy.sizes), found.pairs.sel(operation="add").values.tolist()
    ({'step': 1, 'operation': 2, 'split': 3}, [14, 35, 13])
    """
    task, logged = run.task, run.metrics.drop_duplicates("step", keep="last")
    steps = np.union1d(logged.step.values, run.steps).astype(np.int32)
    logged, names = logged.reindex(step=steps), [[f"{one}.{split}" for split in SPLITS] for one in task.operations]
    unknown = np.full(len(steps), np.nan)
    curves = {
        variable: np.array([[logged.get(f"{name}_{variable}", unknown) for name in row] for row in names], dtype=float)
        for variable in ("loss", "accuracy")
    }
    pairs = np.array([[int(task.mask(name).sum()) for name in row] for row in names], dtype=np.int32)
    missing = np.isnan(curves["loss"] + curves["accuracy"])[pairs > 0].any(0)
    for at in np.flatnonzero(missing & np.isin(steps, run.steps)):
        checkpoint = run[int(steps[at])]
        for place in np.ndindex(pairs.shape):
            name = names[place[0]][place[1]]
            curves["loss"][(*place, at)] = checkpoint.trained_loss(name)
            curves["accuracy"][(*place, at)] = checkpoint.accuracy(name)
    words, axes = run.curves.loss.attrs, ("step", "operation", "split")
    independent = [len(np.unique(task.orbits[task.mask(row[-1])])) for row in names]
    guessed = [task.task_of(one).guessing_accuracy for one in task.operations]
    return xr.Dataset(
        {
            "loss": (axes, np.moveaxis(curves["loss"], -1, 0), dict(words)),
            "accuracy": (axes, np.moveaxis(curves["accuracy"], -1, 0), {"long_name": "accuracy", "units": "1"}),
            "pairs": (axes[1:], pairs, {"long_name": "pairs", "units": "1"}),
            "independent_held_out_pairs": (
                "operation",
                np.array(independent, dtype=np.int32),
                {"long_name": "held-out pairs that no symmetry makes of each other", "units": "1"},
            ),
            "guessing_accuracy": (
                "operation",
                np.array(guessed),
                {"long_name": "accuracy of the most frequent answer", "units": "1"},
            ),
        },
        coords={
            "step": ("step", steps, {"long_name": "step", "units": "updates"}),
            "operation": ("operation", np.array(task.operations), {"long_name": "operation", "units": "name"}),
            "split": ("split", np.array(SPLITS), {"long_name": "split", "units": "name"}),
        },
        attrs=run.curves.attrs,
    )


def events(result: xr.Dataset, operation: str) -> grokking.Events:
    """What the curves of one operation tell (`interp.mathematics.grokking`)."""
    of = result.sel(operation=operation)
    curves = of[["loss", "accuracy"]].assign_attrs(
        train_pairs=int(of.pairs.sel(split="train")),
        held_out_pairs=int(of.pairs.sel(split="held_out")),
        independent_held_out_pairs=int(of.independent_held_out_pairs),
        chance_loss=result.attrs["chance_loss"],
        losses_decide=result.attrs["losses_decide"],
    )
    return grokking.events_of(curves)


def summary(result: xr.Dataset) -> dict:
    """Of each operation the verdict, `memorized_at` and `generalized_at`, the logged steps from which on its train and
    held-out pairs were known, the highest held-out accuracy that was held, what guessing gives, the last accuracies,
    and whether it `has_a_rule`, which "random" has not. Null where unknown."""
    told = {}
    for operation in result.operation.values.tolist():
        of, found = result.sel(operation=operation), events(result, operation)
        last = of.accuracy.isel(step=-1)
        told[operation] = {
            "verdict": found.verdict,
            **found.times,
            "guessing_accuracy": float(of.guessing_accuracy),
            "independent_held_out_pairs": int(of.independent_held_out_pairs),
            **{f"final_{split}_accuracy": float(last.sel(split=split)) for split in SPLITS},
            "has_a_rule": operation != "random",
        }
    return told


def plot(result: xr.Dataset):
    """Loss (logarithmic) and accuracy of the train and held-out pairs of each operation over training."""
    import plotly.graph_objects as go

    figure = new_panels("Several operations", ("Loss", "Accuracy"), reference=REFERENCE, row_height=340)
    looks = {"train": ("train", "dot", 1.6), "held_out": ("held out", "solid", 2.2)}
    for place, operation in enumerate(result.operation.values.tolist()):
        for column, variable in enumerate(("loss", "accuracy"), start=1):
            for split, (words, dash, width) in looks.items():
                values = result[variable].sel(operation=operation, split=split).values
                if np.isfinite(values).any():
                    line = {"color": PALETTE[place % len(PALETTE)], "dash": dash, "width": width}
                    name = f"{operation}, {words}"
                    trace = go.Scatter(
                        x=result.step.values, y=values, name=name, line=line, mode="lines", legendgroup=name
                    )
                    figure.add_trace(trace.update(showlegend=column == 2), row=1, col=column)
    for guess in np.unique(result.guessing_accuracy.values.round(3)):
        figure.add_hline(y=guess, line={"color": NEUTRAL, "width": 1, "dash": "dash"}, row=1, col=2)
    figure.update_xaxes(title_text="step (updates)")
    power_of_ten_axis(figure, row=1, col=1, title_text=result.attrs["loss_axis"])
    percent_axis(figure, row=1, col=2, title_text="accuracy (dashed: a guess)")
    return figure
