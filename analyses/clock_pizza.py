"""Clock or pizza. By which of the two known algorithms does the network add?

With the phases s, t of the inputs, u of the class and w_k = 2πk/n, the logits of the two ideal networks are

    clock  Σ_k cos w_k(s+t−u),        pizza  Σ_k |cos(w_k(s−t)/2)| cos w_k(s+t−u).

Distance irrelevance q, of the correct logits C[s, t] = logits[s, t, s+t]:  q = mean_d std_s C[s, s−d] / std C. It is near 0 for a pizza,
whose correct logit depends on the distance s − t alone, and 0.4 to 1 for a clock. The ideal clock's correct logit is constant, which
makes 0/0; it is given the value 1, the limit for any small noise on it. Where all logits are equal, q is NaN.

Gradient symmetricity s_g, the mean over triples (s, t, u) of cos(∂logit_u/∂x₀, ∂logit_u/∂x₁), x₀ and x₁ the residual stream at the
two inputs before the first layer: 1 for a pizza. Over all n³ triples, or `triples` random ones, with the standard error of the mean.

Circularity, over the first four principal components v of W_E (unit length, rows in phase order):  mean of max_k ‖F_k v‖².

Fit. y_k, the part of the logits with frequency k over the classes, against one formula's term of that frequency: 1 − mean (y_k − ŷ_k)²
over all n³ entries, both sides standardized, which is 2·correlation − 1. All key frequencies together: the share of the centred logit
power that Σ_k α_k·(term of k) explains, by least squares with α_k ≥ 0.

The verdict needs two independent witnesses to agree: the better fitting formula, explaining at least half of the logit power, and the
authors' line, on whose pizza side s_g > 0.98 and q < 0.6. Else it is `neither`. The margin is the clock's explained share less the
pizza's: even an ideal network's is at most 0.19.

It cannot tell how the neurons do it. s_g alone says nothing: an untrained network has 0.98 too. Circles of equal size mix in the
principal components, which lowers the circularity.
"""

import functools

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float, Int
from torch import Tensor

from interp import activations, fourier
from interp.checkpoint import Checkpoint
from interp.figures import NEUTRAL, PALETTE, SEQUENTIAL, new_panels, percent_axis
from interp.key_frequencies import in_phase
from interp.model import embed, transform

REFERENCE = "Zhong et al. 2023, arXiv:2306.17844, §3 and §4"
FORMULAS = ("clock", "pizza")
LEAST_EXPLAINED, SYMMETRIC, IRRELEVANT = 0.5, 0.98, 0.6


def measure(checkpoint: Checkpoint, *, key_frequencies: list[int] | None = None, triples: int = 20_000, seed: int = 0) -> xr.Dataset:
    """`distance_irrelevance`, `gradient_symmetricity` and its standard error, `circularity`, `fit` [formula, frequency] (NaN but for
    key frequencies), `explained` [formula].

    `key_frequencies` are those of the run's last checkpoint; of a checkpoint alone, its own. `triples` are drawn from `seed`.
    """
    key = checkpoint.frequencies_to_use(key_frequencies)
    symmetricity, error = _gradient_symmetricity(checkpoint, triples, seed)
    fit, explained = _fits(checkpoint, key)
    one = {"units": "1"}
    return xr.Dataset(
        {
            "distance_irrelevance": ((), _distance_irrelevance(checkpoint), {"long_name": "distance irrelevance q"} | one),
            "gradient_symmetricity": ((), symmetricity, {"long_name": "gradient symmetricity"} | one),
            "gradient_symmetricity_error": ((), error, {"long_name": "standard error of the gradient symmetricity"} | one),
            "circularity": ((), _circularity(checkpoint), {"long_name": "circularity of the embedding"} | one),
            "fit": (("formula", "frequency"), fit, {"long_name": "fraction of variance explained, both sides standardized"} | one),
            "explained": ("formula", explained, {"long_name": "share of centred logit power explained"} | one),
        },
        coords={
            "formula": ("formula", np.array(FORMULAS), {"long_name": "formula of the logits", "units": "name"}),
            "frequency": ("frequency", np.arange(1, checkpoint.n_frequencies + 1, dtype=np.int32), {"long_name": "frequency k"} | one),
        },
    )


def summary(result: xr.Dataset) -> dict:
    """Of the last step: the three measures, the verdict ("clock", "pizza" or "neither") with its margin (positive: clock), and the
    fit of both formulas, for the logits as a whole and by key frequency (JSON keys are strings)."""
    last = result.isel(step=-1)

    def known(value: xr.DataArray) -> float | None:
        return float(value) if np.isfinite(value) else None

    clock, pizza = (known(last.explained.sel(formula=formula)) for formula in FORMULAS)
    return {
        "step": int(last.step),
        "distance_irrelevance": known(last.distance_irrelevance),
        "gradient_symmetricity": known(last.gradient_symmetricity),
        "gradient_symmetricity_error": known(last.gradient_symmetricity_error),
        "circularity": known(last.circularity),
        "verdict": _verdict(last),
        "margin": clock - pizza if clock is not None and pizza is not None else None,
        "explained_by_clock": clock,
        "explained_by_pizza": pizza,
        "fit_per_frequency": {
            str(k): {formula: known(last.fit.sel(formula=formula, frequency=k)) for formula in FORMULAS} for k in _fitted(result)
        },
    }


def plot(result: xr.Dataset):
    """The authors' plane of q and s_g with the network's path, the three measures and both fits over training, and by frequency."""
    import plotly.graph_objects as go

    last, steps = result.isel(step=-1), result.step.values
    panels = (
        "Path in the plane of the two criteria",
        "The three measures over training",
        "Logit power explained by either formula",
        f"Fit by key frequency, step {int(last.step):,}",
    )
    figure = new_panels(f"Clock or pizza: {_verdict(last)}", panels, reference=REFERENCE, vertical_spacing=0.16, horizontal_spacing=0.2)
    figure.add_shape(type="rect", x0=0, x1=IRRELEVANT, y0=SYMMETRIC, y1=1.05, line_width=0, fillcolor=PALETTE[1], opacity=0.3, row=1, col=1)
    path = go.Scatter(x=result.distance_irrelevance.values, y=result.gradient_symmetricity.values, mode="lines+markers", showlegend=False)
    path.update(customdata=steps, hovertemplate="step %{customdata}<br>q %{x:.3f}, s_g %{y:.3f}<extra></extra>")
    path.update(line={"color": NEUTRAL, "width": 1}, marker={"size": 5, "color": np.arange(len(steps)), "colorscale": SEQUENTIAL})
    figure.add_trace(path, row=1, col=1)
    end = go.Scatter(x=[float(last.distance_irrelevance)], y=[float(last.gradient_symmetricity)], mode="markers", showlegend=False)
    end.update(marker={"size": 13, "symbol": "circle-open", "color": "#222", "line": {"width": 2}}, hoverinfo="skip")
    figure.add_trace(end, row=1, col=1)
    figure.add_annotation(x=0.02, y=0.97, text="pizza", showarrow=False, font_color=PALETTE[1], xanchor="left", yanchor="top", row=1, col=1)
    figure.update_xaxes(title_text="distance irrelevance q", range=[-0.03, 1.08], row=1, col=1)
    lowest = min(0.0, float(result.gradient_symmetricity.fillna(0).min()))
    figure.update_yaxes(title_text="gradient symmetricity", range=[lowest - 0.05, 1.08], row=1, col=1)

    def add(values: np.ndarray, name: str, color: str, row: int, column: int) -> None:
        line = go.Scatter(x=steps, y=values, name=name, mode="lines", line={"color": color, "width": 2})
        figure.add_trace(line.update(legend="legend" if row == 1 else "legend2"), row=row, col=column)

    names = {"distance_irrelevance": "distance irrelevance", "gradient_symmetricity": "gradient symmetricity", "circularity": "circularity"}
    for (variable, name), color in zip(names.items(), (PALETTE[2], PALETTE[3], PALETTE[4]), strict=True):
        add(result[variable].values, name, color, 1, 2)
    figure.update_yaxes(title_text="measure", range=[lowest - 0.05, 1.08], row=1, col=2)
    fitted = _fitted(result)
    for formula, color in zip(FORMULAS, PALETTE, strict=False):
        add(result.explained.sel(formula=formula).values, formula, color, 2, 1)
        values = last.fit.sel(formula=formula, frequency=fitted).values
        bars = go.Bar(x=[f"k = {k}" for k in fitted], y=values, name=formula, showlegend=False)
        bars.update(marker_color=color, hovertemplate=f"%{{x}}<br>{formula} %{{y:.2%}}<extra></extra>")
        figure.add_trace(bars, row=2, col=2)
    percent_axis(figure, row=2, col=1, title_text="share of centred logit power")
    figure.update_yaxes(title_text="fit, both sides standardized", tickformat=".0%", row=2, col=2)
    for row, column in ((1, 2), (2, 1)):
        figure.update_xaxes(title_text="step (updates)", row=row, col=column)
    figure.update_layout(legend={"y": 1, "yanchor": "top"}, legend2={"y": 0.36, "yanchor": "top"})
    return figure


def _fitted(result: xr.Dataset) -> list[int]:
    """The frequencies that were fitted at the last step."""
    last = result.fit.isel(step=-1)
    return [int(k) for k in last.frequency.values[last.notnull().any("formula").values]]


def _verdict(last: xr.Dataset) -> str:
    explained = last.explained.values
    better = FORMULAS[explained.argmax()]
    is_pizza = last.gradient_symmetricity > SYMMETRIC and last.distance_irrelevance < IRRELEVANT
    return better if explained.max() >= LEAST_EXPLAINED and is_pizza == (better == "pizza") else "neither"


def _distance_irrelevance(checkpoint: Checkpoint) -> float:
    phase, n = checkpoint.task.coordinates, checkpoint.task.coordinates.order
    s = torch.arange(n)
    rows, columns, classes = (torch.from_numpy(index) for index in (phase.rows, phase.columns, phase.classes))
    correct = checkpoint.logits[rows[:, None], columns, classes[(s[:, None] + s) % n]].double()
    lowest, highest = (float(value) for value in checkpoint.logits.aminmax())
    rounding = 16 * torch.finfo(checkpoint.logits.dtype).eps * max(-lowest, highest)
    if highest - lowest <= rounding:
        return float("nan")
    spread = correct.std(correction=0)
    by_distance = correct[s[:, None], (s[:, None] - s) % n].std(0, correction=0)  # over s, for every d = s − t
    return float(by_distance.mean() / spread) if spread > rounding else 1.0


def _circularity(checkpoint: Checkpoint) -> float:
    embedding = checkpoint.W_E.double()[torch.from_numpy(checkpoint.task.coordinates.rows)]
    components, sizes, _ = torch.linalg.svd(embedding - embedding.mean(0), full_matrices=False)
    real = components[:, :4][:, sizes[:4] > 1e-7 * sizes[0]]
    return float(fourier.power(real).amax(0).mean()) if real.numel() else float("nan")


def _fits(checkpoint: Checkpoint, key: list[int]) -> tuple[Float[np.ndarray, "2 K"], Float[np.ndarray, " 2"]]:
    phase, n = checkpoint.task.coordinates, checkpoint.task.coordinates.order
    fit, explained = np.full((2, checkpoint.n_frequencies), np.nan), np.zeros(2)
    logits = checkpoint.logits.flatten(0, 1).T  # classes first, as the forward pass left them
    waves = logits.new_zeros(n, len(logits))
    waves[:, torch.from_numpy(phase.classes)] = fourier.basis(n, logits.dtype)
    grid = (waves[1:] @ logits).unflatten(1, (checkpoint.task.p, -1))  # without the constant: centred over the classes
    grid = in_phase(grid.movedim(0, -1), phase).movedim(-1, 0)  # [n − 1, n, n]
    total = float(grid.square().sum(dtype=torch.float64))
    if not key or total <= (torch.finfo(logits.dtype).eps * float(logits.abs().max())) ** 2 * grid.numel():
        return fit, explained
    index = torch.tensor(key)
    cosine = grid.index_select(0, 2 * index - 2).double()  # [keys, n, n]
    sine = grid.index_select(0, (2 * index - 1).clamp(max=n - 2)).double() * (2 * index < n)[:, None, None]
    s = torch.arange(n, dtype=torch.float64)
    angle = 2 * torch.pi * torch.remainder(index[:, None, None] * (s[:, None] + s), n) / n
    along = cosine * angle.cos() + sine * angle.sin()  # the amplitude of cos w_k(s+t−u)
    power = (cosine.square() + sine.square()).sum((1, 2))
    half = torch.pi * torch.remainder(index[:, None, None] * (s[:, None] - s), 2 * n) / n
    for formula, amplitude in enumerate((torch.ones_like(half), half.cos().abs())):
        correlation = (amplitude * along).sum((1, 2)) / (amplitude.square().sum((1, 2)) * power).sqrt()
        fit[formula, index.numpy() - 1] = (2 * correlation - 1).numpy()
        explained[formula] = float((correlation.clamp(min=0).square() * power).nan_to_num().sum()) / total
    return fit, explained


def _gradient_symmetricity(checkpoint: Checkpoint, triples: int, seed: int) -> tuple[float, float]:
    """The mean over all pairs of the mean over a pair's random classes, and its standard error from the variance within the pairs."""
    phase, p = checkpoint.task.coordinates, checkpoint.task.p
    classes = _random_classes(p, phase.order, triples, seed)
    classes = torch.from_numpy(phase.classes).index_select(0, classes.flatten()).view_as(classes)
    gradients = _gradients_in_one_layer if checkpoint.model.family == "transformer" and checkpoint.model.n_layers == 1 else _gradients
    cosines = torch.empty(classes.shape, dtype=torch.float64)
    width = max(1, 2048 // p)  # so many rows of pairs at once stay in the processor's cache
    for first in range(0, p, width):
        rows = slice(first, min(first + width, p))
        for draw, chosen in enumerate(classes[:, rows]):
            cosines[draw, rows] = _cosines(*gradients(checkpoint, rows, chosen))
    cosines = cosines[:, torch.from_numpy(phase.rows)][:, :, torch.from_numpy(phase.columns)].flatten(1)
    cosines = cosines[:, ~cosines.isnan().any(0)]
    draws, pairs = cosines.shape
    if not pairs:
        return float("nan"), float("nan")
    within = float(cosines.var(0).mean()) * (1 - draws / phase.order)
    return float(cosines.mean()), (within / (draws * pairs)) ** 0.5


def _cosines(left: Float[Tensor, "d_model *pairs"], right: Float[Tensor, "d_model *pairs"]) -> Float[Tensor, "*pairs"]:
    """The cosine of the angle between the vectors along the first axis, NaN where one is zero."""
    return (left * right).sum(0) / (left.square().sum(0) * right.square().sum(0)).sqrt()


@functools.lru_cache(maxsize=4)
def _random_classes(p: int, n: int, triples: int, seed: int) -> Int[Tensor, "draws p p"]:
    """For each of the p² pairs at least two different random classes of the n, so many that there are `triples` in all, or every
    class: the same at every step."""
    generator = np.random.RandomState(seed)
    draws = min(max(2, -(-triples // n**2)), n)
    offsets = generator.permutation(n)[:draws, None, None]
    return torch.from_numpy((generator.randint(n, size=(p, p)) + offsets) % n)


def _gradients(
    checkpoint: Checkpoint, rows: slice, classes: Int[Tensor, "rows p"]
) -> tuple[Float[Tensor, "d_model rows p"], Float[Tensor, "d_model rows p"]]:
    """∂logit_c/∂x₀ and ∂logit_c/∂x₁ for the pairs (a, b) with a in `rows` and a class c for each, by autograd, for any network."""
    residues = torch.arange(checkpoint.task.p)
    with torch.enable_grad():
        x = embed(checkpoint.weights, checkpoint.model, torch.cartesian_prod(residues[rows], residues)).requires_grad_()
        chosen = transform(checkpoint.weights, checkpoint.model, x).logits.gather(1, classes.reshape(-1, 1))
        (gradient,) = torch.autograd.grad(chosen.sum(), x)
    first, second = (gradient[:, position].T.unflatten(1, classes.shape) for position in range(2))
    return first, second


def _gradients_in_one_layer(
    checkpoint: Checkpoint, rows: slice, classes: Int[Tensor, "rows p"]
) -> tuple[Float[Tensor, "d_model rows p"], Float[Tensor, "d_model rows p"]]:
    """The same written out for one layer: several times faster, because it reads what the forward pass over all pairs left behind."""
    weights, rate, p = checkpoint.weights, checkpoint.model.attention_rate, checkpoint.task.p
    W_Q, W_K, W_V, W_O = (weights[f"blocks.0.attn.{name}"] for name in ("W_Q", "W_K", "W_V", "W_O"))
    W_in, b_in, W_out = (weights[f"blocks.0.mlp.{name}"] for name in ("W_in", "b_in", "W_out"))
    x = [
        weights["embed.W_E"][tokens] + W_pos
        for tokens, W_pos in zip((rows, slice(p), slice(p, None)), weights["pos_embed.W_pos"], strict=False)
    ]

    def along(position: int, W: Tensor) -> Float[Tensor, "heads d_head #rows #p"]:
        table = torch.einsum("td,hde->het", x[position], W)
        return table[..., None] if position == 0 else table[:, :, None]

    # Examples last, as the forward pass left them.
    neurons, attention, mid = (table[rows].movedim((0, 1), (-2, -1)) for table in checkpoint.activations[1:4])
    relu = checkpoint.model.activation == "relu"  # whose derivative shows in its value
    preactivation = neurons if relu else (torch.einsum("dm,dxy->mxy", W_in, mid) + b_in[:, None, None])
    W_L, flat = W_out @ checkpoint.W_U, classes.flatten()
    d_neurons = W_L.index_select(1, flat).view_as(neurons)
    d_preactivation = activations.backward(checkpoint.model.activation, preactivation, neurons, d_neurons)
    d_mid = checkpoint.W_U.index_select(1, flat).addmm_(W_in, d_preactivation.flatten(1))
    d_heads = (W_O.flatten(0, 1) @ d_mid).view(*W_O.shape[:2], *classes.shape)  # [heads, d_head, rows, p]
    d_attention = torch.stack([(d_heads * along(position, W_V)).sum(1) for position in range(len(x))], dim=1)  # [heads, positions, rows, p]
    softmax_times_rate = attention - (1 - rate)
    mean = (softmax_times_rate * d_attention).sum(1, keepdim=True) / rate if rate else 0
    d_scores = softmax_times_rate * (d_attention - mean) / W_Q.shape[-1] ** 0.5
    query = along(len(x) - 1, W_Q)
    outer_V, outer_K, outer_Q = (W.transpose(0, 1).flatten(1) for W in (W_V, W_K, W_Q))  # [d_model, heads·d_head]
    gradients = []
    for position in range(2):
        by_value = outer_V @ (attention[:, None, position] * d_heads).flatten(2).flatten(0, 1)
        if len(x) == 3:  # `=` asks the same of every pair
            by_key = torch.einsum("hde,hexy->dh", W_K, query) @ d_scores[:, position].flatten(1)
        else:
            by_key = outer_K @ (d_scores[:, None, position] * query).flatten(2).flatten(0, 1)
        gradients.append(by_value + by_key)
    if len(x) == 2:  # the last position is an input itself: it also asks, and passes straight on
        d_query = d_scores[:, None, 0] * along(0, W_K) + d_scores[:, None, 1] * along(1, W_K)
        gradients[1] = gradients[1] + d_mid + outer_Q @ d_query.flatten(2).flatten(0, 1)
    return gradients[0].unflatten(1, classes.shape), gradients[1].unflatten(1, classes.shape)
