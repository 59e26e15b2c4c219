"""Linear mapping number. Of how many linear pieces is the network made, as seen from some of its examples?

Two examples i and j are joined by a straight path x(t) = x_i + t(x_j − x_i), t at `points` equal distances, of what
enters the layers (embeddings; of examples that are vectors, these). With r² the squared correlation of a logit with t,

    L_ij = mean of r² over the classes,   L_ii = 1,   LMN = exp(−Σ l log l),   l = |λ|/Σ|λ|,   λ eigenvalues of L,

the effective rank of L (`interp.mathematics.linear_mapping`): 1 of a linear network, c of c equal groups of examples
between which nothing is linear, and never more than the number of examples. So it is comparable only among equal
numbers of examples, which are drawn once, the same at every step: of those trained on, and of those held out.

A common factor of the logits, the order of neurons and examples, and how inputs are scaled before they enter change
nothing. What is added to all logits of an example alike would, though no softmax sees it.

It cannot tell how complex the network is on its examples alone: the paths lead through inputs that are none, where
nothing was learned. Nor does a smaller number make a network generalize.
"""

from collections.abc import Mapping

import numpy as np
import torch
import xarray as xr
from jaxtyping import Int

from interp.analysis import axes
from interp.errors import check_integer
from interp.figures import TEST, TRAIN, as_number, new_panels, percent_axis
from interp.mathematics import linear_mapping as mapping
from interp.models import embed, transform
from interp.runs import Checkpoint

ASKS = "answers"
REFERENCE = "Liu et al. 2023, arXiv:2310.05918, §3"
ON_REQUEST = True
SCALES = {"": "magnitude"}
SPLITS = ("train", "held_out")
AT_ONCE = 420  # so many inputs at once stay in the processor's cache


def measure(checkpoint: Checkpoint, *, examples: int = 16, points: int = 21, seed: int = 0) -> xr.Dataset:
    """`linear_mapping_number`, `mean_r_squared` over pairs of different examples, `n_examples` and `accuracy` [split],
    of at most so many `examples` of each split, drawn from `seed`.

    NaN for a split with fewer than two examples. Raises InputError for numbers that cannot be.

    >>> import interp
    >>> run = interp.open_run(interp.reference_path())
    >>> found = [measure(run[step]).linear_mapping_number.sel(split="train").item() for step in (0, 100, 3000)]
    >>> [round(number) for number in found]  # untrained, memorized, generalized
    [2, 5, 5]
    """
    check_integer("examples", examples, 2)
    check_integer("points", points, 3)
    check_integer("seed", seed, 0)
    numbers, straight = (np.full(len(SPLITS), np.nan) for _ in range(2))
    counts = np.zeros(len(SPLITS), dtype=np.int32)
    for place, split in enumerate(SPLITS):
        of_split = np.flatnonzero(checkpoint.task.mask(split))
        chosen = np.sort(np.random.default_rng(seed).permutation(of_split)[:examples])
        counts[place] = len(chosen)
        if len(chosen) > 1:
            linearity = linearity_of(checkpoint, chosen, points)
            numbers[place] = mapping.linear_mapping_number(linearity)
            off = ~torch.eye(len(chosen), dtype=torch.bool)
            straight[place] = float(linearity[off].mean())
    one = {"units": "1"}
    return xr.Dataset(
        {
            "linear_mapping_number": ("split", numbers, {"long_name": "linear mapping number"} | one),
            "mean_r_squared": ("split", straight, {"long_name": "mean r² of paths"} | one),
            "n_examples": ("split", counts, {"long_name": "number of examples"} | one),
            "accuracy": (
                "split",
                np.array([checkpoint.accuracy(split) for split in SPLITS]),
                {"long_name": "accuracy"} | one,
            ),
        },
        coords=axes({"split": ("split", np.array(SPLITS), {"long_name": "split", "units": "name"})}),
    )


@torch.no_grad()
def linearity_of(checkpoint: Checkpoint, chosen: Int[np.ndarray, " n"], points: int) -> torch.Tensor:
    """L [n, n] of examples, whose paths are sampled at so many points. A path is as straight one way as the other."""
    inputs = torch.from_numpy(checkpoint.task.inputs[chosen])
    if inputs.is_floating_point():
        inputs = inputs.to(next(iter(checkpoint.weights.values())))
    entered = embed(checkpoint.weights, checkpoint.model, inputs)
    first, second = (torch.from_numpy(ends) for ends in np.triu_indices(len(chosen), 1))
    t = torch.linspace(0, 1, points, dtype=entered.dtype)[:, None, None]
    found = []
    per_part = max(1, AT_ONCE // points)
    for i, j in zip(first.split(per_part), second.split(per_part), strict=True):
        start = entered[i][:, None]
        along = (start + t * (entered[j][:, None] - start)).flatten(0, 1)
        answers = transform(checkpoint.weights, checkpoint.model, along).logits
        found.append(answers.unflatten(0, (len(i), points)))
    linearity = torch.eye(len(chosen), dtype=torch.float64)
    linearity[first, second] = linearity[second, first] = mapping.straightness(torch.cat(found))
    return linearity


def summary(result: xr.Dataset) -> dict:
    """Of each split the number at the first and the last step, its highest and lowest with their steps, and how many
    examples it is of."""
    steps = result.step.values
    told: dict = {"last_step": int(steps[-1])}
    for split in SPLITS:
        values = result.linear_mapping_number.sel(split=split).values
        known = np.flatnonzero(np.isfinite(values))
        if not len(known):
            told[split] = None
            continue
        most, least = known[values[known].argmax()], known[values[known].argmin()]
        told[split] = {
            "first": float(values[known[0]]),
            "first_at": int(steps[known[0]]),
            "highest": float(values[most]),
            "highest_at": int(steps[most]),
            "lowest": float(values[least]),
            "lowest_at": int(steps[least]),
            "last": float(values[known[-1]]),
            "examples": int(result.n_examples.sel(split=split).values[known[-1]]),
        }
    return told


def in_words(found: Mapping) -> list[str]:
    """A line for each split."""
    lines = []
    for split in SPLITS:
        if (one := found[split]) is not None:
            lines.append(
                f"{split.replace('_', ' ')}, of {one['examples']} examples: {as_number(one['first'])} at step "
                f"{one['first_at']:,}, highest {as_number(one['highest'])} at {one['highest_at']:,}, lowest "
                f"{as_number(one['lowest'])} at {one['lowest_at']:,}, {as_number(one['last'])} at the end"
            )
    return lines or ["no split of two or more examples is known"]


def plot(result: xr.Dataset):
    """The number and the mean r² of each split over training, with the accuracies."""
    panels = ("Linear mapping number", "Mean r² of paths", "Accuracy")
    figure = new_panels("Linear mapping number", panels, columns=3, reference=REFERENCE)
    for column, name in enumerate(("linear_mapping_number", "mean_r_squared", "accuracy"), start=1):
        for split, color in zip(SPLITS, (TRAIN, TEST), strict=True):
            figure.add_scatter(
                x=result.step.values,
                y=result[name].sel(split=split).values,
                name=split.replace("_", " "),
                mode="lines",
                line={"color": color, "width": 1.8},
                showlegend=column == 1,
                row=1,
                col=column,
            )
    figure.update_yaxes(rangemode="tozero")
    percent_axis(figure, row=1, col=3)
    figure.update_xaxes(title_text="step (updates)")
    return figure
