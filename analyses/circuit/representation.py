"""Representation. Do the residues lie on circles, and how many directions does the network use?

Principal components of W_E (rows: residues in phase order, centred; without `=`): share of the variance, coordinates,
and, with v the coordinates scaled to length 1, the frequency k and the circularity c = max_k ‖F_k v‖² (F: orthonormal
Fourier basis). Two components of one frequency, drawn against each other, are a circle.

Effective rank of a matrix: exp(−Σ q log q), q = σ/Σσ over its singular values; W_in and W_out are those around the
neurons of the last layer. Spectral entropy of the covariance of
the penultimate activations (the last residual stream, normalized where a norm follows, over all pairs in phase
coordinates):
H = −Σ q log q / log d_model, q = μ/Σμ its eigenvalues.

Representation quality index: the share of parallelograms i+j = m+n ({i, j} ≠ {m, n}, integer phases) that the embedding
closes, |E_i + E_j − E_m − E_n| ≤ `delta` times the root mean square distance of the E from their mean: 1 for numbers on
a line. All of them, or `parallelograms` random ones. (In the paper δ has no scale.)

Inverse participation ratio of a neuron: IPR = Σ_k q_k², q_k the share of frequency k in the power, the constant left
out, of its mean responses to each input (`input`), and of its row of W_L = W_out W_U over the classes (`output`): 1 for
a single frequency, 1/K for noise without end. In Gromov's complex transform of two inputs every frequency has four
terms, and 1 becomes 1/4.

It cannot tell what is used: a circle may lie in the embedding that nothing reads. A circle is no line, so a circuit
that adds modulo p need not raise the RQI.
"""

import functools

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float, Int
from torch import Tensor

from interp.analysis import axes
from interp.figures import PALETTE, color_of_frequency, key_frequencies_of, named_step, new_panels, percent_axis
from interp.mathematics import fourier
from interp.mathematics.effective_rank import effective_rank
from interp.runs import Checkpoint

REFERENCE = (
    "Zhong et al. 2023, arXiv:2306.17844, §4; Liu et al. 2022, arXiv:2205.10343; Gromov 2023, arXiv:2301.02679; "
    "DeMoss et al. 2024, arXiv:2412.09810; arXiv:2604.13123"
)
PLACE = 11
COMPONENTS = 8
MATRICES = ("W_E", "W_in", "W_out", "W_U")
SIDES = ("input", "output")
AT_ONCE = 500  # so many pairs at once stay in the processor's cache


def measure(checkpoint: Checkpoint, *, delta: float = 0.1, parallelograms: int = 100_000, seed: int = 0) -> xr.Dataset:
    """`variance_share`, `circularity`, `frequency_of_component` [component] (0, NaN for a component of no variance),
    `coordinate` [component, phase], `effective_rank` [matrix], `spectral_entropy`, `rqi`, `ipr` [side]: the mean over
    neurons that have any power.

    `parallelograms` are drawn from `seed`.

    >>> import interp
    >>> from interp.testing import circuit_checkpoint, circuit_neurons
    >>> found = measure(circuit_checkpoint(interp.Task(11), circuit_neurons([2])))
    >>> found.circularity.values[:2].round(3).tolist(), found.effective_rank.values.round(3).tolist()
    ([1.0, 1.0], [2.0, 2.0, 2.0, 2.0])
    """
    phase, n = checkpoint.task.coordinates, checkpoint.task.coordinates.order
    rows = torch.from_numpy(phase.rows)
    share, frequency, circularity, coordinate = _components(checkpoint.W_E.double()[rows])
    matrices = {name: getattr(checkpoint, name) for name in MATRICES}
    one = {"units": "1"}
    return xr.Dataset(
        {
            "variance_share": ("component", share, {"long_name": "share of the variance of W_E"} | one),
            "circularity": ("component", circularity, {"long_name": "circularity"} | one),
            "frequency_of_component": (
                "component",
                frequency,
                {"long_name": "dominant frequency (0: no variance)"} | one,
            ),
            "coordinate": (("component", "phase"), coordinate, {"long_name": "coordinate of the residues"} | one),
            "effective_rank": (
                "matrix",
                np.array([effective_rank(matrices[name]) for name in MATRICES]),
                {"long_name": "effective rank"} | one,
            ),
            "spectral_entropy": (
                (),
                _spectral_entropy(checkpoint),
                {"long_name": "spectral entropy of the penultimate activations"} | one,
            ),
            "rqi": (
                (),
                _rqi(checkpoint.W_E.double()[rows], delta, parallelograms, seed),
                {"long_name": "representation quality index"} | one,
            ),
            "ipr": ("side", _ipr(checkpoint), {"long_name": "inverse participation ratio, mean over neurons"} | one),
        },
        coords=axes(
            {
                "component": (
                    "component",
                    np.arange(1, COMPONENTS + 1, dtype=np.int32),
                    {"long_name": "principal component of W_E"} | one,
                ),
                "phase": ("phase", np.arange(n, dtype=np.int32), {"long_name": "phase of the residue"} | one),
                "matrix": ("matrix", np.array(MATRICES), {"long_name": "matrix", "units": "name"}),
                "side": ("side", np.array(SIDES), {"long_name": "side of the neurons", "units": "name"}),
            }
        ),
        attrs={"delta": delta},
    )


def summary(result: xr.Dataset) -> dict:
    """Of the last step: the principal components (share of variance, frequency, circularity), the pairs that form
    circles, the effective ranks, the spectral entropy, the RQI and the mean IPR of the neurons on both sides."""
    last = result.isel(step=-1)

    components = [
        {
            "variance_share": float(at.variance_share),
            "frequency": int(at.frequency_of_component) or None,
            "circularity": float(at.circularity),
        }
        for at in (last.sel(component=component) for component in last.component)
        if np.isfinite(at.variance_share)
    ]
    return {
        "step": int(last.step),
        "components": components,
        "circles": [{"frequency": k, "components": [i, j]} for k, i, j in _circles(last)],
        "effective_rank": {str(name): float(last.effective_rank.sel(matrix=name)) for name in last.matrix.values},
        "spectral_entropy": float(last.spectral_entropy),
        "rqi": float(last.rqi),
        "ipr": {str(side): float(last.ipr.sel(side=side)) for side in last.side.values},
    }


def plot(result: xr.Dataset):
    """The first three circles of the last step, residue by residue, and the measures over training."""
    import plotly.graph_objects as go

    last, steps = result.isel(step=-1), result.step.values
    circles = _circles(last)
    shown = (
        circles + [(0, i, j) for i, j in ((1, 2), (3, 4), (5, 6)) if not any({i, j} & set(c[1:]) for c in circles)]
    )[:3]
    titles = [f"k = {k}: components {i} and {j}" if k else f"components {i} and {j}: no circle" for k, i, j in shown]
    panels = (
        *titles,
        *[""] * (3 - len(shown)),
        "Principal components of W_E",
        "Effective rank",
        "Entropy, RQI and IPR",
    )
    figure = new_panels(
        f"Representation, {named_step(int(last.step))}",
        panels,
        columns=3,
        reference=REFERENCE,
        row_height=340,
        vertical_spacing=0.17,
        horizontal_spacing=0.1,
    )
    key = key_frequencies_of(result, {k for k, _, _ in circles})
    for column, (k, i, j) in enumerate(shown, start=1):
        x, y = (last.coordinate.sel(component=component).values for component in (i, j))
        # Neighbors on the circle are joined.
        order = np.arange(len(x)) if not k else np.argsort(k * np.arange(len(x)) % len(x), kind="stable")
        trace = go.Scatter(
            x=x[order], y=y[order], mode="lines+markers+text" if len(x) <= 60 else "lines+markers", showlegend=False
        )
        trace.update(
            text=[str(t) for t in order],
            textposition="top center",
            textfont_size=8,
            line={"color": "#ccc", "width": 0.6},
        )
        trace.update(
            marker={"size": 5, "color": color_of_frequency(k, key)}, hovertemplate="phase %{text}<extra></extra>"
        )
        figure.add_trace(trace, row=1, col=column)
        figure.update_xaxes(title_text=f"component {i}", row=1, col=column)
        figure.update_yaxes(
            title_text=f"component {j}", scaleanchor="x" if column == 1 else f"x{column}", row=1, col=column
        )
    bars = go.Bar(x=last.component.values, y=last.variance_share.values, showlegend=False)
    bars.update(marker_color=[color_of_frequency(int(k), key) for k in last.frequency_of_component.values])
    bars.update(
        text=[f"k={int(k)}" for k in last.frequency_of_component.values], textposition="outside", textfont_size=10
    )
    bars.update(textangle=0, constraintext="none", cliponaxis=False)
    bars.update(
        customdata=last.circularity.values,
        hovertemplate="%{text}<br>share %{y:.1%}<br>circularity %{customdata:.1%}<extra></extra>",
    )
    figure.add_trace(bars, row=2, col=1)
    figure.update_xaxes(title_text="component", dtick=1, row=2, col=1)
    figure.update_yaxes(title_text="share of variance", tickformat=".0%", row=2, col=1)
    for name, color in zip(MATRICES, PALETTE, strict=False):
        line = go.Scatter(
            x=steps,
            y=result.effective_rank.sel(matrix=name).values,
            name=name,
            mode="lines",
            line_color=color,
            legend="legend",
        )
        figure.add_trace(line, row=2, col=2)
    figure.update_yaxes(title_text="effective rank", rangemode="tozero", row=2, col=2)
    curves = {"spectral entropy": result.spectral_entropy, "RQI": result.rqi}
    curves |= {f"IPR, {side}": result.ipr.sel(side=side) for side in SIDES}
    for (name, values), color in zip(curves.items(), PALETTE[4:], strict=False):
        line = go.Scatter(x=steps, y=values.values, name=name, mode="lines", line_color=color, legend="legend2")
        figure.add_trace(line, row=2, col=3)
    percent_axis(figure, row=2, col=3)
    figure.update_yaxes(tickformat=".1f", row=2, col=3)
    for column in (2, 3):
        figure.update_xaxes(title_text="step (updates)", row=2, col=column)
    below = {"orientation": "h", "y": -0.13, "yanchor": "top", "font_size": 11}
    figure.update_layout(legend=below | {"x": 0.36}, legend2=below | {"x": 0.69}, margin_b=110)
    return figure


def _circles(last: xr.Dataset, least: float = 0.5) -> list[tuple[int, int, int]]:
    """(k, i, j): the first two components of one frequency, each with a circularity of at least one half."""
    found: dict[int, list[int]] = {}
    for component, k, c in zip(
        last.component.values, last.frequency_of_component.values, last.circularity.values, strict=True
    ):
        if k and c >= least:
            found.setdefault(int(k), []).append(int(component))
    return [(k, components[0], components[1]) for k, components in found.items() if len(components) >= 2]


def _components(embedding: Float[Tensor, "n d_model"]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Share of variance, dominant frequency, circularity and coordinates of the first components; NaN where there are
    fewer."""
    left, sizes, right = torch.linalg.svd(embedding - embedding.mean(0), full_matrices=False)
    real = (sizes > 1e-7 * sizes[0])[:COMPONENTS].numpy()
    # A component has no sign of its own; this one changes little from step to step.
    left = left * torch.sign(right.sum(1))
    power = fourier.power(left[:, :COMPONENTS])
    n_real = len(real)
    share, circularity = np.full(COMPONENTS, np.nan), np.full(COMPONENTS, np.nan)
    frequency, coordinate = (
        np.zeros(COMPONENTS, dtype=np.int32),
        np.full((COMPONENTS, len(embedding)), np.nan, dtype=np.float32),
    )
    share[:n_real] = (sizes.square() / sizes.square().sum())[:n_real].numpy()
    circularity[:n_real] = np.where(real, power.amax(0).numpy(), np.nan)
    frequency[:n_real] = np.where(real, power.argmax(0).numpy() + 1, 0)
    coordinate[:n_real] = (left * sizes)[:, :n_real].T.numpy()
    return share, frequency, circularity, coordinate


def _spectral_entropy(checkpoint: Checkpoint) -> float:
    phase = checkpoint.task.coordinates
    residual = checkpoint.residual_post
    if phase.order < checkpoint.task.p:
        residual = residual[torch.from_numpy(phase.rows)][:, torch.from_numpy(phase.columns)]
    residual = residual.flatten(0, 1)
    mean, products = residual.mean(0), residual.new_zeros(residual.shape[1], residual.shape[1])
    for some in residual.split(AT_ONCE):
        centred = some - mean
        products.addmm_(centred.T, centred)
    variances = torch.linalg.eigvalsh(products.double()).clamp(min=0)
    if len(variances) == 1:
        return float("nan")
    return float(torch.special.entr(variances / variances.sum()).sum() / np.log(len(variances)))


def _rqi(embedding: Float[Tensor, "n d_model"], delta: float, parallelograms: int, seed: int) -> float:
    sums, crossed = _parallelograms(len(embedding), parallelograms, seed)
    if not sums.size:
        return float("nan")
    centred = embedding - embedding.mean(0)
    # Distances of sums from products alone, without vectors of length d_model.
    products = (centred @ centred.T).numpy().reshape(-1)
    p = len(embedding)
    square = np.diagonal(products.reshape(p, p))
    of_sum = (square[:, None] + square + 2 * products.reshape(p, p)).reshape(-1)
    distance = of_sum.take(sums).sum(0) - 2 * products.take(crossed).sum(0)
    return float((distance <= delta**2 * square.mean()).mean()) if square.mean() > 0 else float("nan")


@functools.lru_cache(maxsize=4)
def _parallelograms(p: int, at_most: int, seed: int) -> tuple[Int[np.ndarray, "2 found"], Int[np.ndarray, "4 found"]]:
    """i, j, m, n with i + j = m + n, i ≤ j, m ≤ n and i < m: all, or `at_most` random ones, the same at every step; as
    row-major indices of the pairs (i, j), (m, n), and of (i, m), (i, n), (j, m), (j, n)."""
    corners = []
    for total in range(2 * p - 1):
        i = np.arange(max(0, total - p + 1), total // 2 + 1)
        first, second = np.triu_indices(len(i), 1)
        corners.append(np.stack([i[first], total - i[first], i[second], total - i[second]]))
    found = np.concatenate(corners, axis=1)
    if found.shape[1] > at_most:
        found = found[:, np.random.RandomState(seed).randint(0, found.shape[1], size=at_most)]
    i, j, m, n = found
    return np.stack([i * p + j, m * p + n]), np.stack([i * p + m, i * p + n, j * p + m, j * p + n])


def _ipr(checkpoint: Checkpoint) -> Float[np.ndarray, " sides"]:
    W_L = checkpoint.W_L[:, torch.from_numpy(checkpoint.task.coordinates.classes)]
    over_b, over_a = (fourier.power(means.double()) for means in checkpoint.spectrum.neuron_means)
    powers = over_b + over_a, fourier.power(W_L.T)
    ratios = []
    for power in powers:
        total = power.sum(0)
        alive = total > 1e-8 * total.mean()
        ratios.append(float((power[:, alive] / total[alive]).square().sum(0).mean()) if alive.any() else np.nan)
    return np.array(ratios)
