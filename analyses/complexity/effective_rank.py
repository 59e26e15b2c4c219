"""Effective rank. In how many directions does each matrix of the network act, beside a random one of its shape?

H = −Σ q log q, q = σ/Σσ over the singular values of a weight matrix, is its spectral entropy, and e^H its effective
rank: r of r equal singular values. A tensor of three axes is a stack of matrices, as of heads, and told by the mean
over them; of more than three the first axis is taken against all others. Vectors have no rank.

A matrix of independent normal numbers has an effective rank too, below full: it stands beside every other (one draw of
each shape). So weights as they are drawn are at 1 of what is random, and what training takes away is seen against that.
ΣH over all tensors is the penalty of DeMoss et al.

Of what W_E, W_in, W_out and W_U say to each other, with norms folded in, and of activations, `representation` tells
rank and entropy. It cannot tell which directions are used; and no number of one matrix knows that singular values can
be moved from it to the next, without another function: where two matrices are multiplied, only the product counts. Nor
does what falls say that a rule was found: weight decay lowers it of random labels, too.
"""

import functools
import html
from collections.abc import Mapping

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from interp.analysis import axes
from interp.errors import InputError
from interp.figures import PALETTE, as_number, as_percent, new_panels, percent_axis
from interp.mathematics import effective_rank as spectrum
from interp.models import own_weights
from interp.runs import HasWeights

ASKS = "weights"
REFERENCE = "Roy & Vetterli 2007, EUSIPCO; DeMoss et al. 2024, arXiv:2412.09810, §5"
ON_REQUEST = True
SCALES = {"": "magnitude"}


def measure(checkpoint: HasWeights) -> xr.Dataset:
    """`effective_rank`, `random_rank` and `largest_rank` [tensor] of every tensor that has at least two axes, and
    `total_entropy`, ΣH in nats. NaN of a matrix of zeros.

    Raises InputError where no tensor has two axes.

    >>> from interp.runs import Weighted
    >>> found = measure(Weighted(0, {"square": torch.eye(4), "heads": torch.ones(2, 5, 3), "bias": torch.ones(7)}))
    >>> found.tensor.values.tolist(), found.effective_rank.values.round(6).tolist()
    (['square', 'heads'], [4.0, 1.0])
    """
    stacks = {name: as_stack(weight) for name, weight in own_weights(checkpoint.weights).items() if weight.ndim > 1}
    if not stacks:
        raise InputError("effective_rank is of matrices, and these weights are vectors alone")
    ranks = [[spectrum.effective_rank(matrix) for matrix in stack] for stack in stacks.values()]
    entropies = [np.log(of_stack).mean() for of_stack in ranks]
    one = {"units": "1"}
    return xr.Dataset(
        {
            "effective_rank": (
                "tensor",
                np.array([np.mean(of_stack) for of_stack in ranks]),
                {"long_name": "effective rank"} | one,
            ),
            "random_rank": (
                "tensor",
                np.array([_random_rank(*stack.shape) for stack in stacks.values()]),
                {"long_name": "effective rank of random numbers"} | one,
            ),
            "largest_rank": (
                "tensor",
                np.array([min(stack.shape[1:]) for stack in stacks.values()], dtype=np.int32),
                {"long_name": "largest rank"} | one,
            ),
            "total_entropy": ((), float(np.sum(entropies)), {"long_name": "spectral entropy", "units": "nat"}),
        },
        coords=axes({"tensor": ("tensor", np.array(list(stacks)), {"long_name": "tensor", "units": "name"})}),
    )


def as_stack(weight: Tensor) -> Tensor:
    """A tensor as matrices [matrices, rows, columns].

    >>> [as_stack(torch.ones(shape)).shape for shape in ((5, 3), (4, 5, 3), (6, 2, 3, 3))]
    [torch.Size([1, 5, 3]), torch.Size([4, 5, 3]), torch.Size([1, 6, 18])]
    """
    return weight if weight.ndim == 3 else weight.flatten(1)[None]


@functools.lru_cache(maxsize=64)
def _random_rank(matrices: int, rows: int, columns: int) -> float:
    drawn = torch.randn(matrices, rows, columns, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return float(np.mean([spectrum.effective_rank(matrix) for matrix in drawn]))


def summary(result: xr.Dataset) -> dict:
    """ΣH at the first and the last step, its highest with its step; and of every tensor the effective rank at both, as
    it is and as a share of what is random."""
    steps, total = result.step.values, result.total_entropy.values
    first, last = result.isel(step=0), result.isel(step=-1)
    known = np.isfinite(total)
    highest = int(np.argmax(np.where(known, total, -np.inf)))
    told: dict = {
        "first_step": int(steps[0]),
        "last_step": int(steps[-1]),
        "first_entropy": float(total[0]),
        "highest_entropy": float(total[highest]),
        "highest_entropy_at": int(steps[highest]) if known.any() else None,
        "last_entropy": float(total[-1]),
        "last_rank": {},
        "first_of_random": {},
        "last_of_random": {},
    }
    for name in result.tensor.values:
        random = float(last.random_rank.sel(tensor=name))
        one, other = (float(end.effective_rank.sel(tensor=name)) for end in (first, last))
        told["last_rank"][str(name)] = other
        told["first_of_random"][str(name)], told["last_of_random"][str(name)] = one / random, other / random
    return told


def in_words(found: Mapping) -> list[str]:
    """A line for ΣH, and one for the ranks at the last step."""
    first, last = (as_number(found[f"{end}_entropy"]) for end in ("first", "last"))
    ranks = [f"{name} {as_percent(share)}" for name, share in found["last_of_random"].items()]
    return [
        f"sum of spectral entropies: {first} nats at step {found['first_step']:,}, {last} at {found['last_step']:,}",
        f"effective ranks there, of those of random numbers: {', '.join(ranks)}",
    ]


def plot(result: xr.Dataset):
    """The effective rank of every tensor over training, as a share of that of random numbers, and ΣH."""
    figure = new_panels(
        "Effective rank", ("Of random numbers of that shape", "Sum of spectral entropies"), reference=REFERENCE
    )
    steps = result.step.values
    for place, name in enumerate(result.tensor.values):
        one = result.sel(tensor=name)
        dash = ("solid", "dot", "dash")[place // len(PALETTE) % 3]
        line = {"color": PALETTE[place % len(PALETTE)], "width": 1.8, "dash": dash}
        values = (one.effective_rank / one.random_rank).values
        figure.add_scatter(x=steps, y=values, name=_short(str(name)), mode="lines", line=line, row=1, col=1)
    total = result.total_entropy.values
    figure.add_scatter(
        x=steps, y=total, mode="lines", line={"color": PALETTE[0], "width": 1.8}, showlegend=False, row=1, col=2
    )
    highest = np.nanmax([1.0, *np.ravel((result.effective_rank / result.random_rank).values)])
    percent_axis(figure, row=1, col=1, title_text="share")
    figure.update_yaxes(range=[0, 1.02 * highest], row=1, col=1)
    figure.update_yaxes(title_text="ΣH (nats)", row=1, col=2)
    figure.update_xaxes(title_text="step (updates)")
    return figure


def _short(name: str) -> str:
    """A name without what all have, and as letters where it is somebody else's."""
    return html.escape(name.replace("blocks.", "").replace("attn.", "").replace("mlp.", ""), quote=False)
