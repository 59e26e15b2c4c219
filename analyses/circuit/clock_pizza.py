"""Clock or pizza. By which of the two known algorithms does the network add?

With the phases s, t of the inputs, u of the class and w_k = 2πk/n, the logits of the two ideal networks are

    clock  Σ_k cos w_k(s+t−u),        pizza  Σ_k |cos(w_k(s−t)/2)| cos w_k(s+t−u).

Distance irrelevance q, of the correct logits C[s, t] = logits[s, t, s+t]:  q = mean_d std_s C[s, s−d] / std C. It is
near 0 for a pizza, whose correct logit depends on the distance s − t alone, and 0.4 to 1 for a clock (1 for the ideal
one). Where all logits are equal, q is NaN.

Gradient symmetricity s_g, the mean over triples (s, t, u) of cos(∂logit_u/∂x₀, ∂logit_u/∂x₁), x₀ and x₁ the residual
stream at the two inputs before the first layer: 1 for a pizza. Over all n³ triples, or `triples` random ones, with the
standard error of the mean. Where a and b enter as one sum it is 1 whatever was learned, and no witness.

Circularity, over the first four principal components v of W_E (unit length, rows in phase order):  mean of
max_k ‖F_k v‖².

Fit. y_k, the part of the logits with frequency k over the classes, against one formula's term of that frequency:
1 − mean (y_k − ŷ_k)² over all n³ entries, both sides standardized, which is 2·correlation − 1. All key frequencies
together: the share of the centred logit power that Σ_k α_k·(term of k) explains, by least squares with α_k ≥ 0.

Circle isolation. The fit where of the embedding only its mean and the plane of one key frequency k are kept, its
projection on cos w_k s and sin w_k s; on as many random pairs of every distance s − t. The authors keep two principal
components: the same plane where each circle has a size of its own, but circles of nearly equal size mix in them.
`accompanied` keeps the circle of frequency 2k too, which can turn a pizza's logits into a clock's
(`interp.mathematics.clock_and_pizza`). Of an MLP without embedding, the rows of W_in play its part.

The verdict (`interp.mathematics.clock_and_pizza.judge`), of a network that has a circuit: both of the authors' criteria
agree, s_g > 0.98 and q < 0.6 on a pizza, neither of the two on a clock. The isolated circles are a third witness, which
has a say where s_g is none; where they say another thing, that is told. How often the rule errs on planted networks:
docs/published-numbers.md.

It cannot tell how the neurons do it. s_g alone says nothing: an untrained network has 0.98 too. An isolated circle is
an input that the network never met: attention that other circles steer is no longer steered, and may then look like a
pizza's. Circles of equal size mix in the principal components, which lowers the circularity.
"""

import functools

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float, Int
from torch import Tensor

from interp.analysis import axes
from interp.figures import NEUTRAL, PALETTE, SEQUENTIAL, named_step, new_panels, percent_axis
from interp.mathematics import clock_and_pizza, fourier
from interp.mathematics.clock_and_pizza import FORMULAS, IRRELEVANT, SYMMETRIC, Judgement
from interp.mathematics.key_frequencies import logits_in_phase
from interp.models import input_gradients, logits_with_vectors, matrices
from interp.runs import Checkpoint

REFERENCE = "Zhong et al. 2023, arXiv:2306.17844, §3 and §4"
CORE = True
PLACE = 8
CIRCLES = ("all", "isolated", "accompanied")
AT_ONCE = 500  # so many pairs at once stay in the processor's cache


def measure(
    checkpoint: Checkpoint,
    *,
    key_frequencies: list[int] | None = None,
    triples: int = 16_000,
    pairs: int = 400,
    seed: int = 0,
) -> xr.Dataset:
    """`distance_irrelevance`, `gradient_symmetricity` and its standard error, `inputs_enter_as_sum`, `circularity`,
    `has_circuit`, `fit` [circles, formula, frequency] and `explained` [formula, frequency], NaN but for key
    frequencies; of isolated circles also where there is no circuit.

    `key_frequencies` are those of the run's last checkpoint; of a checkpoint alone, its own. `triples` and
    `pairs`, of which the isolated circles are run on so many at least, are drawn from `seed`.

    >>> import interp
    >>> from interp.testing import circuit_checkpoint, circuit_neurons
    >>> pizza = circuit_neurons([2, 5], per_frequency=8)
    >>> clock = circuit_neurons([2, 5], per_frequency=16, circuit="clock")
    >>> found = [measure(circuit_checkpoint(interp.Task(11), neurons)) for neurons in (clock, pizza)]
    >>> [one.explained.sum("frequency").values.round(2).tolist() for one in found]  # by clocks, by pizzas
    [[0.99, 0.81], [0.81, 0.99]]
    >>> [one.fit.sel(circles="isolated", frequency=2).values.round(2).tolist() for one in found]
    [[0.99, 0.8], [0.8, 0.99]]
    """
    key = checkpoint.spectrum.frequencies_to_use(key_frequencies)
    symmetricity, error = _gradient_symmetricity(checkpoint, triples, seed)
    logits = logits_in_phase(checkpoint.logits, checkpoint.task.coordinates)
    lowest, highest = (float(bound) for bound in logits.aminmax())
    rounding = 16 * torch.finfo(logits.dtype).eps * max(-lowest, highest)
    irrelevance = clock_and_pizza.distance_irrelevance(logits, rounding) if highest - lowest > rounding else np.nan
    has_circuit = checkpoint.spectrum.has_circuit
    fit, explained = _fits(checkpoint, key, rounding)
    isolated = _isolated_fits(checkpoint, key if has_circuit else [], pairs, seed)
    one, frequencies = {"units": "1"}, np.arange(1, checkpoint.spectrum.n_frequencies + 1, dtype=np.int32)
    return xr.Dataset(
        {
            "distance_irrelevance": ((), irrelevance, {"long_name": "distance irrelevance q"} | one),
            "gradient_symmetricity": ((), symmetricity, {"long_name": "gradient symmetricity"} | one),
            "gradient_symmetricity_error": (
                (),
                error,
                {"long_name": "standard error of the gradient symmetricity"} | one,
            ),
            "circularity": ((), _circularity(checkpoint), {"long_name": "circularity of the embedding"} | one),
            "inputs_enter_as_sum": (
                (),
                checkpoint.model.inputs_enter_as_sum,
                {"long_name": "whether a and b enter as one sum"} | one,
            ),
            "has_circuit": ((), has_circuit, {"long_name": "whether there is a circuit"} | one),
            "fit": (
                ("circles", "formula", "frequency"),
                np.concatenate([fit[None], isolated]),
                {"long_name": "fraction of variance explained, both sides standardized"} | one,
            ),
            "explained": (
                ("formula", "frequency"),
                explained,
                {"long_name": "share of centred logit power explained"} | one,
            ),
        },
        coords=axes(
            {
                "circles": (
                    "circles",
                    np.array(CIRCLES),
                    {"long_name": "circles of the embedding kept", "units": "name"},
                ),
                "formula": ("formula", np.array(FORMULAS), {"long_name": "formula of the logits", "units": "name"}),
                "frequency": ("frequency", frequencies, {"long_name": "frequency k"} | one),
            }
        ),
    )


def summary(result: xr.Dataset) -> dict:
    """Of the last step: the three measures; the verdict ("clock", "pizza" or "neither"), what its witnesses say (null:
    no witness) and which of them disagree; the shares of logit power that both formulas explain, with their difference
    as `margin` (positive: clock); and by key frequency the fit of both formulas, of the logits as a whole, of the
    circle isolated and of it with that of 2k (JSON keys are strings)."""
    last, fitted = result.isel(step=-1), _fitted(result)
    judged = _judgement(last)
    clock, pizza = (float(last.explained.sel(formula=formula).sum()) for formula in FORMULAS)

    def fits(circles: str) -> dict[str, dict[str, float]]:
        found = last.fit.sel(circles=circles)
        return {
            str(k): {formula: float(found.sel(formula=formula, frequency=k)) for formula in FORMULAS} for k in fitted
        }

    return {
        "step": int(last.step),
        "distance_irrelevance": float(last.distance_irrelevance),
        "gradient_symmetricity": float(last.gradient_symmetricity),
        "gradient_symmetricity_error": float(last.gradient_symmetricity_error),
        "circularity": float(last.circularity),
        "verdict": judged.verdict,
        "witnesses": judged.witnesses,
        "disagreeing": judged.disagreeing,
        "margin": clock - pizza,
        "explained_by_clock": clock,
        "explained_by_pizza": pizza,
        "fit_per_frequency": fits("all"),
        "isolated_fit_per_frequency": fits("isolated"),
        "accompanied_fit_per_frequency": fits("accompanied"),
    }


def plot(result: xr.Dataset):
    """The authors' plane of q and s_g with the network's path; the three measures and both formulas' shares over
    training; and at the last step the fit of both for each circle isolated, beside what it is with that of 2k and of
    all."""
    import plotly.graph_objects as go

    last, steps = result.isel(step=-1), result.step.values
    path, measures = "Path of the two criteria, dark to light over training", "The three measures over training"
    panels = (
        path,
        measures,
        "Logit power explained by either formula",
        f"Circles of the embedding one at a time, {named_step(int(last.step))}",
    )
    judged = _judgement(last)
    named = " and ".join(name.replace("_", " ") for name in judged.disagreeing)
    doubt = f", but not by {named}" if named else ""
    figure = new_panels(
        f"Clock or pizza: {judged.verdict}{doubt}",
        panels,
        reference=REFERENCE,
        vertical_spacing=0.16,
        horizontal_spacing=0.2,
    )
    named = ((0, IRRELEVANT, SYMMETRIC, 1.05, PALETTE[4]), (IRRELEVANT, 1.05, -1, SYMMETRIC, PALETTE[5]))
    for x0, x1, y0, y1, color in named:
        rectangle = {"x0": x0, "x1": x1, "y0": y0, "y1": y1, "line_width": 0, "fillcolor": color}
        figure.add_shape(type="rect", opacity=0.3 if y0 > 0 else 0.12, layer="below", row=1, col=1, **rectangle)
    path = go.Scatter(
        x=result.distance_irrelevance.values,
        y=result.gradient_symmetricity.values,
        mode="lines+markers",
        showlegend=False,
    )
    path.update(customdata=steps, hovertemplate="step %{customdata}<br>q %{x:.3f}, s_g %{y:.3f}<extra></extra>")
    path.update(
        line={"color": NEUTRAL, "width": 1},
        marker={"size": 5, "color": np.arange(len(steps)), "colorscale": SEQUENTIAL},
    )
    figure.add_trace(path, row=1, col=1)
    end = go.Scatter(
        x=[float(last.distance_irrelevance)], y=[float(last.gradient_symmetricity)], mode="markers", showlegend=False
    )
    end.update(marker={"size": 13, "symbol": "circle-open", "color": "#222", "line": {"width": 2}}, hoverinfo="skip")
    figure.add_trace(end, row=1, col=1)
    for name, x, y, color in (("pizza", 0.02, 0.97, PALETTE[4]), ("clock", IRRELEVANT + 0.02, 0.97, PALETTE[5])):
        words = {"text": name, "showarrow": False, "font_color": color, "xanchor": "left", "yanchor": "top"}
        figure.add_annotation(x=x, y=y, row=1, col=1, **words)
    figure.update_xaxes(title_text="distance irrelevance q", range=[-0.03, 1.08], row=1, col=1)
    lowest = min(0.0, float(result.gradient_symmetricity.fillna(0).min()))
    figure.update_yaxes(title_text="gradient symmetricity", range=[lowest - 0.05, 1.08], row=1, col=1)

    def add(values: np.ndarray, name: str, color: str, row: int, column: int) -> None:
        mode = "lines" if len(steps) > 1 else "markers"
        line = go.Scatter(x=steps, y=values, name=name, mode=mode, line={"color": color, "width": 2})
        figure.add_trace(line.update(legend="legend" if row == 1 else "legend2"), row=row, col=column)

    for name, color in zip(
        ("distance_irrelevance", "gradient_symmetricity", "circularity"), (*PALETTE[2:4], PALETTE[7]), strict=True
    ):
        add(result[name].values, name.replace("_", " "), color, 1, 2)
    figure.update_yaxes(title_text="measure", range=[lowest - 0.05, 1.08], row=1, col=2)
    fitted = _fitted(result)
    at, shown = np.arange(len(fitted)), [f"k = {k}" for k in fitted]
    for formula, color, side in zip(FORMULAS, (PALETTE[5], PALETTE[4]), (-0.2, 0.2), strict=True):
        add(result.explained.sel(formula=formula).sum("frequency").values, formula, color, 2, 1)
        fit = last.fit.sel(formula=formula, frequency=fitted)
        hover = f"%{{customdata}}, WHAT<br>{formula} %{{y:.2%}}<extra></extra>"
        bars = go.Bar(x=at + side, y=fit.sel(circles="isolated").values, width=0.38, marker_color=color)
        bars.update(customdata=shown, showlegend=False, hovertemplate=hover.replace("WHAT", "alone"))
        figure.add_trace(bars, row=2, col=2)
        for circles, symbol, what in (("accompanied", "diamond", "with that of 2k"), ("all", "line-ew", "all circles")):
            beside = go.Scatter(x=at + side, y=fit.sel(circles=circles).values, mode="markers", customdata=shown)
            beside.update(marker={"symbol": symbol, "size": 8, "color": "#fff", "line": {"width": 2, "color": "#222"}})
            beside.update(name=what, legend="legend3", showlegend=formula == FORMULAS[0])
            figure.add_trace(beside.update(hovertemplate=hover.replace("WHAT", what)), row=2, col=2)
    figure.update_xaxes(tickvals=at, ticktext=shown, row=2, col=2)
    percent_axis(figure, row=2, col=1, title_text="share of centred logit power")
    figure.update_yaxes(title_text="fit, both sides standardized", tickformat=".0%", row=2, col=2)
    figure.update_xaxes(title_text="step (updates)", row=1, col=2).update_xaxes(
        title_text="step (updates)", row=2, col=1
    )
    legends = {"legend": 1.0, "legend2": 0.36, "legend3": 0.2}
    figure.update_layout({name: {"y": y, "yanchor": "top"} for name, y in legends.items()})
    return figure


def _fitted(result: xr.Dataset) -> list[int]:
    """The frequencies that were fitted at the last step."""
    fit = result.fit.isel(step=-1).sel(circles="all")
    return [int(k) for k in result.frequency.values[fit.notnull().any("formula").values]]


def _judgement(last: xr.Dataset) -> Judgement:
    return clock_and_pizza.judge(
        has_circuit=bool(last.has_circuit),
        irrelevance=float(last.distance_irrelevance),
        symmetricity=np.nan if last.inputs_enter_as_sum else float(last.gradient_symmetricity),
        explained=last.explained.values,
        isolated=last.fit.sel(circles="isolated").values,
    )


def _circularity(checkpoint: Checkpoint) -> float:
    embedding = checkpoint.W_E.double()[torch.from_numpy(checkpoint.task.coordinates.rows)]
    embedding -= embedding.mean(0)
    if not embedding.isfinite().all():
        return float("nan")
    # Ascending; half the time of a singular value decomposition.
    squares, components = torch.linalg.eigh(embedding @ embedding.T)
    real = components[:, -4:][:, squares[-4:] > 1e-12 * squares[-1]]
    return float(fourier.power(real).amax(0).mean()) if real.numel() else float("nan")


def _fits(
    checkpoint: Checkpoint, key: list[int], rounding: float
) -> tuple[Float[np.ndarray, "2 K"], Float[np.ndarray, "2 K"]]:
    """`fit` of all circles, and `explained`."""
    logits = logits_in_phase(checkpoint.logits, checkpoint.task.coordinates)
    n, total = len(logits), float(checkpoint.spectrum.centred_logits.power)
    fit, explained = np.full((2, n // 2), np.nan), np.full((2, n // 2), np.nan)
    if not key or total <= rounding**2 * logits.numel():
        return fit, explained
    waves = fourier.pairs(n, logits.dtype)[torch.tensor(key) - 1]
    parts = (waves.flatten(0, 1) @ logits.flatten(0, 1).T).view(*waves.shape[:2], -1).double()
    correlations = clock_and_pizza.correlations(parts, _terms(n, tuple(key)))
    columns, power = np.array(key) - 1, parts.square().sum((1, 2))
    fit[:, columns] = (2 * correlations - 1).numpy()
    explained[:, columns] = (correlations.clamp(min=0).square() * power / total).nan_to_num().numpy()
    return fit, explained


def _isolated_fits(checkpoint: Checkpoint, key: list[int], pairs: int, seed: int) -> Float[np.ndarray, "2 2 K"]:
    """`fit` of the circles that are isolated and accompanied."""
    phase, p = checkpoint.task.coordinates, checkpoint.task.p
    n, fit = phase.order, np.full((2, 2, phase.order // 2), np.nan)
    if not key:
        return fit
    W_E = matrices(checkpoint.weights, checkpoint.model).W_E[: checkpoint.model.first_token_of_b(p) + p]
    partners = [(k, other) for k in key if (other := clock_and_pizza.accompanying(k, n)) is not None]
    kept = [(k,) for k in key] + partners
    vectors = W_E.repeat(len(kept), 1, 1)
    for rows in checkpoint.token_rows:
        for some, frequencies in zip(vectors, kept, strict=True):
            planes = fourier.pairs(n, W_E.dtype)[torch.tensor(frequencies) - 1].flatten(0, 1)
            some[rows] = W_E[rows].mean(0) + planes.T @ (planes @ W_E[rows])
    sums = -(-pairs // n)
    s, t = clock_and_pizza.pairs_of_every_distance(n, sums, seed)
    tokens = torch.from_numpy(np.stack([phase.rows[s], phase.columns[t]], axis=1))
    answers = logits_with_vectors(checkpoint.weights, checkpoint.model, vectors, tokens)
    waves = fourier.pairs(n, answers.dtype)[torch.tensor([frequencies[0] for frequencies in kept]) - 1]
    parts = (waves @ answers[..., torch.from_numpy(phase.classes)].transpose(1, 2)).double()  # [sets, 2, pairs]
    for row, some, those in ((0, key, parts[: len(key)]), (1, [k for k, _ in partners], parts[len(key) :])):
        if some:
            correlations = clock_and_pizza.correlations(those, _terms(n, tuple(some), sums, seed))
            fit[row][:, np.array(some) - 1] = (2 * correlations - 1).numpy()
    return fit


@functools.lru_cache(maxsize=3)
def _terms(n: int, key: tuple[int, ...], sums: int | None = None, seed: int = 0) -> Float[Tensor, "2 keys 2 pairs"]:
    """`clock_and_pizza.terms` of the pairs that circles are isolated on; without `sums`, of all in their order."""
    if sums is None:
        s, t = torch.cartesian_prod(torch.arange(n), torch.arange(n)).T
        return clock_and_pizza.terms(n, key, s, t)
    return clock_and_pizza.terms(n, key, *clock_and_pizza.pairs_of_every_distance(n, sums, seed))


def _gradient_symmetricity(checkpoint: Checkpoint, triples: int, seed: int) -> tuple[float, float]:
    """The mean over all pairs of the mean over a pair's random classes, and its standard error from the variance within
    the pairs, with m_i classes of pair i,

        error² = σ² Σ_i (1 − m_i/n)/m_i / pairs²,    σ² = Σ_i Σ_classes (cosine − mean_i)² / Σ_i (m_i − 1).
    """
    phase, p = checkpoint.task.coordinates, checkpoint.task.p
    drawn = _random_classes(p, phase.order, triples, seed)
    gradients = input_gradients(checkpoint.weights, checkpoint.model, checkpoint.activations)
    rows, columns, residues = (torch.from_numpy(index) for index in (phase.rows, phase.columns, phase.classes))
    cosines = torch.full((len(drawn), phase.order, p), torch.nan, dtype=torch.float64)
    for cosine, (s, classes) in zip(cosines, drawn, strict=True):
        chunks = zip(*(table.split(max(1, AT_ONCE // p)) for table in (rows[s], residues[classes])), strict=True)
        gram = torch.cat([torch.bmm(both, both.transpose(1, 2)) for both in (gradients(*chunk) for chunk in chunks)])
        cosine[s] = (gram[:, 0, 1] / (gram[:, 0, 0] * gram[:, 1, 1]).sqrt()).view(classes.shape).double()
    cosines = cosines[..., columns]
    draws = cosines.isfinite().sum(0)  # of each pair; a gradient of zero has no direction
    means = cosines.nansum(0) / draws
    within = (cosines - means).square().nansum() / (draws - 1).clamp(min=0).sum()
    variance = within * ((1 - draws / phase.order) / draws)[draws > 0].sum() / (draws > 0).sum() ** 2
    return float(means.nanmean()), float(variance.sqrt())


@functools.lru_cache(maxsize=4)
def _random_classes(
    p: int, n: int, triples: int, seed: int
) -> list[tuple[Int[Tensor, " rows"], Int[Tensor, "rows p"]]]:
    """At least `triples` different random triples, or all, the same at every step: several draws of a class for each
    pair of a row s and one of the p columns. Every pair is drawn, so that the differences between pairs add nothing to
    the error. Only the last draw is over some random rows alone: as many as it takes, and enough to tell the variance
    within the pairs.
    """
    generator = np.random.RandomState(seed)
    everywhere = min(max(1, triples // n**2), n)
    missing = max(triples - everywhere * n**2, n * -(-n // 4) if everywhere == 1 else 0)
    sizes = [n] * everywhere + ([min(-(-missing // n), n)] if missing > 0 and everywhere < n else [])
    first, offsets, order = generator.randint(n, size=(n, p)), generator.permutation(n), generator.permutation(n)
    rows = [np.sort(order[:size]) for size in sizes]
    return [
        (torch.from_numpy(s), torch.from_numpy((first[s] + offset) % n))
        for s, offset in zip(rows, offsets, strict=False)
    ]
