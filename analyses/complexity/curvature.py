"""Curvature. How sharply does the training loss bend around the weights, at the loss that they have and at equal loss?

H = ∇²L of the mean cross-entropy L of the training labels, in all weights, without weight decay. From one run of
Lanczos (`interp.mathematics.lanczos`) come its highest and lowest eigenvalue, and at least and at most what share of
them is below −1e-3 of the highest: so few products do not resolve what is near zero. From random signs r

    tr H = E rᵀHr   and   Σ_i w_i² H_ii = E (w∘r)ᵀH(w∘r)

the second does not change when one weight is made larger and what it meets smaller, the others do: a network can be
made as sharp as one likes without changing what it computes (Dinh et al. 2017, arXiv:1703.04933).

A loss that falls takes its curvature along: with it the softmax saturates. So all of this is told twice, of the weights
as they are and at equal loss, where the logits are divided by the temperature at which L is 0.1 nats.

It cannot tell a saddle: of that, the gradient has to be zero, and in training it is not. What is called negative
curvature is of one step. Nor can it tell that what is flat generalizes: flatness at the loss that a network has is
mostly that loss, and every measure but the last hangs on how weights are scaled.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float, Int
from scipy.optimize import brentq, minimize_scalar
from torch import Tensor

from interp.analysis import axes
from interp.errors import check_integer, check_number
from interp.figures import PALETTE, as_number, as_percent, new_panels, percent_axis, power_of_ten_axis
from interp.mathematics.lanczos import lanczos, traces
from interp.models import Hessian
from interp.runs import Checkpoint

ASKS = "answers"
REFERENCE = "Ghorbani et al. 2019, arXiv:1901.10159; Dinh et al. 2017, arXiv:1703.04933; at equal loss ours"
ON_REQUEST = True
MOST_STEPS = 24
SCALES = {"": "magnitude"}
AT = ("own", "equal")  # loss
NEGATIVE = 1e-3  # of the highest eigenvalue: what is above is taken for zero
SMALL_GRADIENT = 1e-3  # of the largest of the run: above, no place is near a critical point
LOSS_FALLS = 2  # so many times, and a change of curvature is in part one of the loss
HIGHEST_SCALE = 1e6  # of logits
ENDS = ("lowest", "highest")
TRACES = ("plain", "weighted")
ESTIMATES = ("value", "error")
BOUNDS = ("least", "most")
SPLITS = ("train", "held_out")


def measure(
    checkpoint: Checkpoint, *, products: int = 20, probes: int = 6, equal_loss: float = 0.1, seed: int = 0
) -> xr.Dataset:
    """At the `own` loss and at `equal` loss [at]: `loss`, `temperature`, the `eigenvalue` [at, end, estimate] at the
    lowest and the highest end of the spectrum of H and within what of it there is one, the `negative_share` [at, bound]
    of eigenvalues, the `trace` [at, weighting, estimate], plain and weighted by w², with its standard error, and the
    whole `spectrum` [at, ritz, part], values and their weights. And the `gradient_norm`, and `accuracy` [split].

    NaN where no training labels are known, and at equal loss where no temperature makes the loss so small: some
    training pair is answered wrongly.

    Raises InputError for numbers that cannot be.

    >>> import interp
    >>> run = interp.open_run(interp.reference_path())
    >>> found = [measure(run[step], products=16, probes=2).eigenvalue for step in (100, 3000)]
    >>> highest = [one.sel(end="highest", estimate="value").values for one in found]
    >>> [[f"{value:.2g}" for value in values] for values in highest]  # at its own loss, and at 0.1 nats
    [['24', '25'], ['4e-05', '2.8']]
    """
    check_integer("products", products, 2)
    check_integer("probes", probes, 1)
    check_number("equal-loss", equal_loss, 0, above=True)
    check_integer("seed", seed, 0)
    rows = {name: np.full(len(AT), np.nan) for name in ("loss", "temperature")}
    negative = np.full((len(AT), len(BOUNDS)), np.nan)
    eigenvalue, trace = (np.full((len(AT), 2, len(ESTIMATES)), np.nan) for _ in range(2))
    spectrum = np.full((len(AT), products, 2), np.nan)
    gradient_norm, task = math.nan, checkpoint.task
    chosen = task.train_indices
    if len(chosen):
        inputs, labels = torch.from_numpy(task.inputs[chosen]), torch.from_numpy(task.labels[chosen])
        said = checkpoint.logits.flatten(0, -2)[chosen].double()
        for place, temperature in enumerate((1.0, temperature_of(said, labels, equal_loss))):
            if math.isnan(temperature):
                continue
            random = np.random.default_rng(seed)
            hessian = Hessian(checkpoint.weights, checkpoint.model, inputs, labels, temperature)
            found = lanczos(hessian.times, random.normal(size=hessian.size), products)
            eigenvalue[place] = [(found.values[end], found.errors[end]) for end in (0, -1)]
            for row, scale in enumerate((np.ones(hessian.size), hessian.weights)):
                trace[place, row] = traces(hessian.times, scale, probes, random)
            rows["loss"][place], rows["temperature"][place] = hessian.loss, temperature
            negative[place] = found.share_below(-NEGATIVE * abs(found.values[-1]))
            spectrum[place, : len(found.values)] = np.stack([found.values, found.weights], axis=1)
            if not place:
                gradient_norm = float(np.linalg.norm(hessian.gradient))
    one, name = {"units": "1"}, {"units": "name"}
    accuracy = np.array([checkpoint.accuracy(split) for split in SPLITS])
    return xr.Dataset(
        {
            "loss": ("at", rows["loss"], {"long_name": "training loss", "units": "nat"}),
            "temperature": ("at", rows["temperature"], {"long_name": "what logits are divided by"} | one),
            "negative_share": (("at", "bound"), negative, {"long_name": "share of negative eigenvalues"} | one),
            "eigenvalue": (("at", "end", "estimate"), eigenvalue, {"long_name": "eigenvalue of the Hessian"} | one),
            "trace": (("at", "weighting", "estimate"), trace, {"long_name": "trace of the Hessian"} | one),
            "spectrum": (("at", "ritz", "part"), spectrum, {"long_name": "Ritz values and weights"} | one),
            "gradient_norm": ((), gradient_norm, {"long_name": "norm of the gradient"} | one),
            "accuracy": ("split", accuracy, {"long_name": "accuracy"} | one),
        },
        coords=axes(
            {
                "at": ("at", np.array(AT), {"long_name": "at which loss"} | name),
                "end": ("end", np.array(ENDS), {"long_name": "end of the spectrum"} | name),
                "weighting": ("weighting", np.array(TRACES), {"long_name": "weighting of the trace"} | name),
                "bound": ("bound", np.array(BOUNDS), {"long_name": "bound of the share"} | name),
                "estimate": ("estimate", np.array(ESTIMATES), {"long_name": "estimate"} | name),
                "ritz": ("ritz", np.arange(products, dtype=np.int32), {"long_name": "Ritz value", "units": "index"}),
                "part": ("part", np.array(("value", "weight")), {"long_name": "part"} | name),
                "split": ("split", np.array(SPLITS), {"long_name": "split"} | name),
            }
        ),
    )


def temperature_of(logits: Float[Tensor, "n classes"], labels: Int[Tensor, " n"], loss: float) -> float:
    """The temperature T at which the mean cross-entropy of the softmax of logits/T is `loss`, the larger where there
    are two; NaN where there is none.

    >>> logits, labels = torch.tensor([[3.0, 0.0]], dtype=torch.float64), torch.tensor([0])
    >>> round(temperature_of(logits, labels, math.log1p(math.exp(-1))), 6)
    3.0
    >>> temperature_of(-logits, labels, 0.1)
    nan
    """

    def excess(log_scale: float) -> float:
        return torch.nn.functional.cross_entropy(logits * math.exp(log_scale), labels).item() - loss

    ends = -math.log(HIGHEST_SCALE), math.log(HIGHEST_SCALE)
    # Of a scale the loss is convex; where some answer is wrong, it has a least value.
    least = ends[1] if excess(ends[1]) < 0 else float(minimize_scalar(excess, bounds=ends, method="bounded").x)
    if excess(ends[0]) < 0 or excess(least) > 0:
        return math.nan
    return math.exp(-brentq(excess, ends[0], least, xtol=1e-10))


def summary(result: xr.Dataset) -> dict:
    """At each loss the highest eigenvalue and the weighted trace: at the first step at which they are known, at the
    step where they are largest, and at the last; how often the last goes into the largest, and the loss at the last
    into that where it is largest. The last step with negative curvature for certain, the largest bounds of its share up
    to there, and the least gradient norm over the largest of all, at the steps with negative curvature and at all."""
    steps = result.step.values
    told: dict = {"step": int(steps[-1])}
    for at in AT:
        one = result.sel(at=at, estimate="value")
        courses = {"highest": one.eigenvalue.sel(end="highest"), "weighted_trace": one.trace.sel(weighting="weighted")}
        told[at] = {name: _course(values.values, one.loss.values, steps) for name, values in courses.items()}
    losses = result.loss.sel(at="equal").values
    told["equal_loss"] = float(losses[np.isfinite(losses)][0]) if np.isfinite(losses).any() else None
    own = result.sel(at="own")
    lowest, error = (own.eigenvalue.sel(end="lowest", estimate=which).values for which in ESTIMATES)
    bent = lowest + error < -NEGATIVE * np.abs(own.eigenvalue.sel(end="highest", estimate="value").values)
    told["negative_until"] = int(steps[np.flatnonzero(bent)[-1]]) if bent.any() else None
    told["largest_negative_share"] = {
        bound: float(own.negative_share.sel(bound=bound).values[bent].max()) if bent.any() else None for bound in BOUNDS
    }
    norms = result.gradient_norm.values
    least = {"until_then": norms[bent], "of_all": norms}
    told["least_gradient_over_most"] = {
        name: float(np.nanmin(some) / np.nanmax(norms)) if np.isfinite(some).any() else None
        for name, some in least.items()
    }
    return told


def _course(
    values: Float[np.ndarray, " step"], losses: Float[np.ndarray, " step"], steps: Int[np.ndarray, " step"]
) -> dict[str, Any] | None:
    """None where nothing is known."""
    known = np.flatnonzero(np.isfinite(values))
    if not len(known):
        return None
    most = known[values[known].argmax()]
    return {
        "first": float(values[known[0]]),
        "first_at": int(steps[known[0]]),
        "most": float(values[most]),
        "most_at": int(steps[most]),
        "last": float(values[known[-1]]),
        "last_at": int(steps[known[-1]]),
        "most_over_last": float(values[most] / values[known[-1]]),
        "loss_over_last": float(losses[most] / losses[known[-1]]),
    }


def in_words(found: Mapping) -> list[str]:
    """A line for each loss, and one for negative curvature."""
    lines = []
    for at in AT:
        if (one := found[at]["highest"]) is None:
            continue
        where = "at the loss that it has" if at == "own" else f"at equal loss ({found['equal_loss']:.2g} nats)"
        most = f"{as_number(one['most'])} at step {one['most_at']:,}, where it is largest"
        line = f"{where} the highest eigenvalue is {most}, and {as_number(one['last'])} at step {one['last_at']:,}"
        if at == "equal":
            lines.append(f"{line}: {as_number(one['most_over_last'])} times less")
        elif one["loss_over_last"] > LOSS_FALLS:
            # No factor: it would be read as one of flatness.
            falls = f"the loss falls to one part in {as_number(one['loss_over_last'])} meanwhile"
            lines.append(f"{line}; {falls}, and a cross-entropy takes its curvature along")
        else:
            lines.append(line)
    if found["negative_until"] is None:
        return [*lines, "no negative curvature is certain"]
    share, least = found["largest_negative_share"]["least"], found["least_gradient_over_most"]["until_then"]
    line = (
        f"negative curvature, last seen at step {found['negative_until']:,}; at one of these steps of at least "
        f"{as_percent(share)} of the spectrum as one random vector sees it"
    )
    if least > SMALL_GRADIENT:
        line += (
            f"; no saddle is among these checkpoints: their gradient is never below {as_percent(least)} of its largest"
        )
    return [*lines, line]


def plot(result: xr.Dataset):
    """The highest and lowest eigenvalue and the weighted trace at each loss, the norm of the gradient (without which
    negative curvature is no saddle), and the accuracies."""
    known = result.loss.sel(at="equal").values
    equal = f"{known[np.isfinite(known)][0]:.2g} nats" if np.isfinite(known).any() else "unknown"
    panels = (
        "At the loss that the network has",
        f"At equal loss ({equal})",
        "Norm of the gradient, at the loss that the network has",
        "Accuracy",
    )
    figure = new_panels("Curvature of the training loss", panels, reference=REFERENCE, vertical_spacing=0.16)
    steps = result.step.values

    def draw(values: Float[np.ndarray, " step"], name: str, color: str, row: int, column: int, **look: Any) -> None:
        marks = {"mode": "lines+markers", "marker_size": 4, "line": {"color": color, "width": 1.8}}
        figure.add_scatter(x=steps, y=values, name=name, **marks, row=row, col=column).data[-1].update(look)

    for column, at in enumerate(AT, start=1):
        one = result.sel(at=at, estimate="value")
        drawn = {
            "highest eigenvalue": one.eigenvalue.sel(end="highest").values,
            "|lowest eigenvalue|": np.abs(one.eigenvalue.sel(end="lowest").values),
            "Σ w²H, weighted trace": one.trace.sel(weighting="weighted").values,
        }
        for place, (name, values) in enumerate(drawn.items()):
            above = np.where(values > 0, values, np.nan)  # a logarithmic axis has no zero
            draw(above, name, PALETTE[place], 1, column, showlegend=column == 1)
        power_of_ten_axis(figure, row=1, col=column)
    draw(result.gradient_norm.values, "gradient", PALETTE[3], 2, 1, showlegend=False)
    power_of_ten_axis(figure, row=2, col=1)
    for place, split in enumerate(result.split.values):
        values = result.accuracy.sel(split=split).values
        draw(values, str(split).replace("_", " "), PALETTE[place + 5], 2, 2, legend="legend2")
    percent_axis(figure, row=2, col=2)
    figure.update_xaxes(title_text="step (updates)")
    figure.update_layout(legend={"y": 1, "yanchor": "top"}, legend2={"y": 0.4, "yanchor": "top"})
    return figure
