"""Loss barrier. Does the loss rise on the straight line from one checkpoint to another?

On w(t) = w₀ + t(w₁ − w₀), t at `points` equal distances from 0 to 1,

    barrier = max_t L(w(t)) − max(L(w₀), L(w₁))

of the mean loss L of training pairs and of held-out pairs; at so few points it is at least that. Every checkpoint that
is taken is joined to

    the next one that is taken: does training go straight, or around something?
    the last one: do the weights that memorize and those that generalize lie in one valley?
    itself with the last layer's neurons in another order (one draw; all other weights are the same): the same function,
    so both ends are equal, and what rises between them comes of the places of neurons alone.

A barrier of 0 is what a convex loss has. Accuracies along the lines stand beside the losses: where a cross-entropy is
large, its barrier is a matter of how loud the wrong answers are.

It cannot tell that there is no way around: a barrier is of the straight line alone, and the order of neurons alone can
make one. Nor is 0 on a coarse line a proof of a valley.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float, Int

from interp.errors import check_integer
from interp.figures import PALETTE, SEQUENTIAL, as_number, new_panels, power_of_ten_axis
from interp.mathematics.loss_barrier import barrier
from interp.models import Weights, are_finite, neuron_axes
from interp.runs import Checkpoint

if TYPE_CHECKING:
    from interp.runs import Run

ASKS = "answers"
REFERENCE = (
    "Goodfellow et al. 2015, arXiv:1412.6544; Frankle et al. 2020, arXiv:1912.05671; "
    "Entezari et al. 2022, arXiv:2110.06296"
)
ON_REQUEST = True
SCALES = {"": "magnitude"}
TO = ("next", "last", "reordered")
SPLITS = ("train", "held_out")
KNOWN = 0.99  # accuracy
FROM = {"memorized": "train", "generalized": "held_out"}
SAID = {
    "memorized": "the first that knows the training pairs",
    "generalized": "the first that knows those held out",
    "last": "the last",
}


def compute(
    run: "Run",
    *,
    checkpoints: int = 24,
    points: int = 11,
    seed: int = 0,
    progress: Callable[[Sequence[int]], Iterable[int]] = lambda steps: steps,
) -> xr.Dataset:
    """`loss` and `accuracy` [step, to, split, place] along the lines from at most so many `checkpoints`, each at so
    many `points`; `barrier` [step, to, split] of the loss that was trained on. The other order of neurons is drawn from
    `seed`.

    NaN for a split without pairs, for the last checkpoint's next one, and for weights that are not finite. Raises
    InputError for numbers that cannot be.

    >>> import interp
    >>> found = compute(interp.open_run(interp.reference_path()), checkpoints=2, points=3).barrier
    >>> found.sel(to="last", step=3000).values.tolist()  # from a network to itself
    [0.0, 0.0]
    """
    check_integer("checkpoints", checkpoints, 2)
    check_integer("points", points, 3)
    check_integer("seed", seed, 0)
    every = run.steps
    steps = [every[at] for at in np.unique(np.linspace(0, len(every) - 1, checkpoints).round().astype(int))]
    places = np.linspace(0, 1, points)
    loss, accuracy = (np.full((len(steps), len(TO), len(SPLITS), points), np.nan) for _ in range(2))
    last = run[steps[-1]]
    for row, step in enumerate(progress(steps)):
        one = run[step]
        ends = {"last": last.weights, "reordered": reordered(one, seed)}
        if row + 1 < len(steps):
            ends["next"] = run[steps[row + 1]].weights
        for to, end in ends.items():
            if are_finite(one.weights) and are_finite(end):
                for place, t in enumerate(places):
                    at = Checkpoint(step, between(one.weights, end, t), one.task, one.model, training=one.training)
                    loss[row, TO.index(to), :, place] = [at.trained_loss(split) for split in SPLITS]
                    accuracy[row, TO.index(to), :, place] = [at.accuracy(split) for split in SPLITS]
    name, along = {"units": "name"}, ("step", "to", "split", "place")
    unit = last.training.loss_unit
    return xr.Dataset(
        {
            "loss": (along, loss, {"long_name": last.training.loss_title, "units": unit}),
            "accuracy": (along, accuracy, {"long_name": "accuracy", "units": "1"}),
            "barrier": (along[:-1], barrier(loss), {"long_name": "rise above both ends", "units": unit}),
        },
        coords={
            "step": ("step", np.array(steps, dtype=np.int32), {"long_name": "step", "units": "updates"}),
            "to": ("to", np.array(TO), {"long_name": "where the line goes"} | name),
            "split": ("split", np.array(SPLITS), {"long_name": "split"} | name),
            "place": ("place", places, {"long_name": "place on the line", "units": "1"}),
        },
    )


def between(one: Weights, other: Weights, t: float) -> Weights:
    """The weights at a place of the straight line from one to the other, which are those of the one, to the last bit,
    where both are equal.

    >>> between({"w": torch.tensor([1.0, 3.0])}, {"w": torch.tensor([2.0, 3.0])}, 0.25)
    {'w': tensor([1.2500, 3.0000])}
    """
    if t == 1:
        return other
    return {name: weight + t * (other[name] - weight) for name, weight in one.items()}


def reordered(checkpoint: Checkpoint, seed: int) -> Weights:
    """The same function: the neurons of the last layer in another order, drawn at random."""
    axis_of = {name: axis for name, axis in neuron_axes(checkpoint.model).items() if name in checkpoint.weights}
    order = torch.from_numpy(np.random.default_rng(seed).permutation(checkpoint.model.d_mlp))
    return checkpoint.weights | {
        name: checkpoint.weights[name].index_select(axis, order) for name, axis in axis_of.items()
    }


def summary(result: xr.Dataset) -> dict:
    """The highest barrier between neighbors, with its step. And of three checkpoints, the first that knows the training
    pairs, the first that knows those held out, and the last: the barriers to the last and to themselves with their
    neurons in another order, and the lowest accuracy on the line to the last. All of both splits."""
    steps = result.step.values
    neighbors = result.barrier.sel(to="next")
    start = result.accuracy.sel(to="last").isel(place=0)
    known = {split: np.flatnonzero(start.sel(split=split).values >= KNOWN) for split in SPLITS}
    first = {name: steps[known[split][0]] if len(known[split]) else None for name, split in FROM.items()}
    told: dict = {"checkpoints": len(steps), "points": len(result.place), "unit": result.barrier.attrs["units"]}
    told["neighbors"] = {split: _highest(neighbors.sel(split=split).values, steps) for split in SPLITS}
    for name, step in (first | {"last": steps[-1]}).items():
        if step is None:
            told[name] = None
            continue
        one = result.sel(step=step)
        told[name] = {"step": int(step)}
        for split in SPLITS:
            of_split = one.sel(split=split)
            told[name][split] = {
                "to_last": float(of_split.barrier.sel(to="last")),
                "reordered": float(of_split.barrier.sel(to="reordered")),
                "lowest_accuracy_to_last": float(of_split.accuracy.sel(to="last").min(skipna=False)),
            }
    return told


def _highest(values: Float[np.ndarray, " step"], steps: Int[np.ndarray, " step"]) -> dict[str, Any] | None:
    """None where nothing is known."""
    if not np.isfinite(values).any():
        return None
    place = int(np.nanargmax(values))
    return {"barrier": float(values[place]), "from": int(steps[place]), "to": int(steps[place + 1])}


def in_words(found: Mapping) -> list[str]:
    """A line for neighbors, and one for each checkpoint of the summary."""
    unit = "" if found["unit"] == "1" else " nats"

    def of(numbers: Sequence[float | None]) -> str:
        return " and ".join("unknown" if number is None else f"{as_number(number)}{unit}" for number in numbers)

    lines = [
        "how far the loss rises above both ends of a straight line, of training and of held-out pairs (at least: each "
        f"line is seen at {found['points']} points):"
    ]
    if all(neighbors := [found["neighbors"][split] for split in SPLITS]):
        highest = of([one["barrier"] for one in neighbors])
        lines.append(f"  between neighbors of {found['checkpoints']} checkpoints never more than {highest}")
    for name, said in SAID.items():
        if (one := found[name]) is not None:
            to_last, mixed = (of([one[split][line] for split in SPLITS]) for line in ("to_last", "reordered"))
            to_last = "" if name == "last" else f"to the last {to_last}; "
            lines.append(f"  from step {one['step']:,}, {said}: {to_last}to itself with its neurons reordered {mixed}")
    return lines


def plot(result: xr.Dataset):
    """The barriers over training, and the losses on the lines from each checkpoint to the last."""
    from plotly.colors import sample_colorscale

    title, unit = result.loss.attrs["long_name"], result.loss.attrs["units"]
    label = title if unit == "1" else f"{title} ({unit})"
    panels = tuple(f"Barrier, {split.replace('_', '-')} pairs" for split in SPLITS) + tuple(
        f"From each checkpoint to the last, {split.replace('_', '-')} pairs" for split in SPLITS
    )
    figure = new_panels("Loss barrier", panels, reference=REFERENCE, vertical_spacing=0.16)
    names = {"next": "to the next", "last": "to the last", "reordered": "to itself, reordered"}
    colors = sample_colorscale(SEQUENTIAL, np.linspace(0, 0.95, len(result.step)).tolist())
    for column, split in enumerate(SPLITS, start=1):
        for place, (to, name) in enumerate(names.items()):
            figure.add_scatter(
                x=result.step.values,
                y=result.barrier.sel(to=to, split=split).values,
                name=name,
                mode="lines+markers",
                marker_size=4,
                line={"color": PALETTE[place], "width": 1.8},
                showlegend=column == 1,
                row=1,
                col=column,
            )
        for step, color in zip(result.step.values, colors, strict=True):
            figure.add_scatter(
                x=result.place.values,
                y=result.loss.sel(to="last", split=split, step=step).values,
                name=f"step {step:,}",
                mode="lines",
                line={"color": color, "width": 1.5},
                showlegend=False,
                row=2,
                col=column,
            )
        figure.update_xaxes(title_text="step (updates)", row=1, col=column)
        figure.update_xaxes(title_text="place on the line (lighter: from a later step)", row=2, col=column)
        figure.update_yaxes(title_text=f"rise of the {label}", rangemode="tozero", row=1, col=column)
        power_of_ten_axis(figure, row=2, col=column, title_text=label)
    return figure
