"""Logit structure. How much of the logits is a sum of cosines cos w_k(a+b−c), and is that sum the better network?

The n² × n logits L in phase coordinates, centred over classes to L_c, are fitted by least squares
with one coefficient per frequency,

    L_c(a, b, c) ≈ Σ_k α_k cos w_k(a+b−c),   w_k = 2πk/n.

The cosines are orthogonal and depend on d = a+b−c alone, so with m(d) the mean of L_c over all a, b, c at that d

    α_k = (2/n) Σ_d m(d) cos w_k d   (half of that for k = n/2),    cosine share_k = ‖α_k cos w_k(a+b−c)‖² / ‖L_c‖²
    R² = Σ_k cosine share_k          trigonometric fraction = ‖Σ_k α_k cos w_k(a+b−c)‖ / ‖L_c‖ = √R²

over the key frequencies of the run's last checkpoint, as Nanda et al. fit it, and over all K, the trigonometric
subspace of Varma et al. Beside it the share of centred logit power in cos, sin w_k(a+b) with any dependence on c
(`interp.mathematics.key_frequencies`). The loss is that of the fit in place of the logits. Being a function of d, the
fit has the same loss on every pair whose label is a+b.

It cannot tell memorization from a circuit of another shape: a pizza's logits, |cos w_k(a−b)/2| cos w_k(a+b−c), leave a
large rest though nothing is memorized. For × and ÷ the fit knows only pairs and classes that are units.
"""

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float
from torch import Tensor

from interp.analysis import axes
from interp.figures import (
    PALETTE,
    TEST,
    TRAIN,
    color_of_frequency,
    named_step,
    new_panels,
    percent_axis,
    power_of_ten_axis,
    threshold_line,
)
from interp.mathematics import fourier
from interp.runs import Checkpoint

REFERENCE = "Nanda et al. 2023, arXiv:2301.05217, §4.2; Varma et al. 2023, arXiv:2309.02390"
READS = ()
CORE = True
PLACE = 7
SPLITS = ("all", "train", "test")
TERMS = ("key", "all")


def measure(checkpoint: Checkpoint, *, key_frequencies: list[int] | None = None) -> xr.Dataset:
    """`coefficient` α_k, `cosine_share`, `logit_share`, `is_key` [frequency]; `r_squared`,
    `trigonometric_fraction` [terms]; `loss` [terms, split] of the fit and `network_loss` [split], over the same pairs.

    `key_frequencies` are those of the run's last checkpoint; of a checkpoint alone, its own. Logits that are all equal
    have shares 0.

    >>> import interp
    >>> from interp.testing import ideal_logits, with_logits
    >>> found = measure(with_logits(interp.Task(7), 3 * ideal_logits(7, [2], "clock")))
    >>> found.coefficient.values.round(3).tolist()[1], found.r_squared.values.round(3).tolist()
    (3.0, [1.0, 1.0])
    """
    n = checkpoint.task.coordinates.order
    frequencies = np.arange(1, n // 2 + 1, dtype=np.int32)
    is_key = np.isin(frequencies, checkpoint.spectrum.frequencies_to_use(key_frequencies))

    means = _means_by_sum(checkpoint)
    means -= means.mean(1, keepdim=True)
    waves = fourier.pairs(n)
    cosines = waves[:, 0] / waves[:, 0, :1]  # [k, d], 1 at d = 0
    residue = torch.arange(n)
    by_difference = means[(residue[:, None] + residue) % n, residue].mean(1)  # m(d)
    coefficients = (cosines @ by_difference) / cosines.square().sum(1)

    # ‖α_k cos‖² as a part of ‖P_k L_c‖², both per pair, whose share of ‖L_c‖² the checkpoint knows.
    cosine_power = coefficients.square() * cosines.square().sum(1)
    power = fourier.power(means).sum(1) / n
    logit_shares = checkpoint.spectrum.logit_shares
    cosine_shares = torch.where(logit_shares > 0, logit_shares * cosine_power / power, 0)

    terms = torch.stack([torch.from_numpy(is_key), torch.ones(len(is_key), dtype=torch.bool)]).double()
    r_squared = terms @ cosine_shares
    loss, network_loss = _losses(checkpoint, (terms * coefficients) @ cosines)

    one, nats = {"units": "1"}, {"units": "nats"}
    return xr.Dataset(
        {
            "coefficient": ("frequency", coefficients.numpy(), {"long_name": "coefficient of cos w_k(a+b−c)"} | one),
            "cosine_share": (
                "frequency",
                cosine_shares.numpy(),
                {"long_name": "share of logit power in cos w_k(a+b−c)"} | one,
            ),
            "logit_share": (
                "frequency",
                logit_shares.numpy(),
                {"long_name": "share of logit power in cos, sin w_k(a+b)"} | one,
            ),
            "is_key": ("frequency", is_key, {"long_name": "taken as key"} | one),
            "r_squared": ("terms", r_squared.numpy(), {"long_name": "R² of the centred logits"} | one),
            "trigonometric_fraction": (
                "terms",
                r_squared.sqrt().numpy(),
                {"long_name": "norm of the fit / norm of the logits"} | one,
            ),
            "loss": (("terms", "split"), loss, {"long_name": "loss of the fit"} | nats),
            "network_loss": ("split", network_loss, {"long_name": "loss of the network"} | nats),
        },
        coords=axes(
            {
                "frequency": ("frequency", frequencies, {"long_name": "frequency k"} | one),
                "terms": ("terms", np.array(TERMS), {"long_name": "frequencies in the fit", "units": "name"}),
                "split": ("split", np.array(SPLITS), {"long_name": "split", "units": "name"}),
            }
        ),
    )


def summary(result: xr.Dataset) -> dict:
    """Of the last step: α_k and both shares of the key frequencies; R² and trigonometric fraction of the fit by key and
    by all frequencies; the losses of fit and network in nats by split, null where the split is unknown."""
    last = result.isel(step=-1)
    key = [int(k) for k in last.frequency.values[last.is_key.values.astype(bool)]]

    def losses(values: xr.DataArray) -> dict[str, float]:
        return {split: float(values.sel(split=split)) for split in SPLITS}

    return {
        "step": int(last.step),
        "key_frequencies": key,
        "coefficients": {str(k): float(last.coefficient.sel(frequency=k)) for k in key},
        "cosine_shares": {str(k): float(last.cosine_share.sel(frequency=k)) for k in key},
        "logit_shares": {str(k): float(last.logit_share.sel(frequency=k)) for k in key},
        "r_squared": {terms: float(last.r_squared.sel(terms=terms)) for terms in TERMS},
        "trigonometric_fraction": {terms: float(last.trigonometric_fraction.sel(terms=terms)) for terms in TERMS},
        "loss": {terms: losses(last.loss.sel(terms=terms)) for terms in TERMS},
        "network_loss": losses(last.network_loss),
    }


def plot(result: xr.Dataset):
    """α_k at the last step and over training; logit power by frequency; R² and trigonometric fraction; the losses of
    fit and network."""
    import plotly.graph_objects as go

    last, steps = result.isel(step=-1), result.step.values
    key = [int(k) for k in last.frequency.values[last.is_key.values.astype(bool)]]
    panels = (
        f"Coefficient of cos w_k(a+b−c), {named_step(int(last.step))}",
        "Coefficients over training",
        f"Share of centred logit power, {named_step(int(last.step))}",
        "Share of centred logit power in cos w_k(a+b−c)",
        "How much of the logits the fit explains",
        "Loss of the fit in place of the logits",
    )
    figure = new_panels("Logit structure", panels, reference=REFERENCE, vertical_spacing=0.1, row_height=310)
    mode = "lines" if len(steps) > 1 else "lines+markers"
    colors = [color_of_frequency(int(k), key) for k in last.frequency.values]
    hover = "k = %{x}: %{y:.4g}<extra></extra>"
    figure.add_bar(
        x=last.frequency.values,
        y=last.coefficient.values,
        marker_color=colors,
        showlegend=False,
        hovertemplate=hover,
        row=1,
        col=1,
    )
    for name, label, opacity in (
        ("logit_share", "in cos, sin w_k(a+b)", 0.45),
        ("cosine_share", "in cos w_k(a+b−c)", 1),
    ):
        bars = go.Bar(
            x=last.frequency.values,
            y=last[name].values,
            marker_color=colors,
            opacity=opacity,
            name=label,
            showlegend=False,
        )
        figure.add_trace(bars.update(hovertemplate=f"k = %{{x}}, {label}: %{{y:.2%}}<extra></extra>"), row=2, col=1)
    where = {"xref": "x3 domain", "yref": "y3 domain", "x": 1, "y": 1.0, "xanchor": "right", "yanchor": "top"}
    figure.add_annotation(
        text="pale: in cos, sin w_k(a+b)<br>full: in cos w_k(a+b−c)",
        showarrow=False,
        font_size=11,
        align="right",
        **where,
    )
    for row, column, name in ((1, 2, "coefficient"), (2, 2, "cosine_share")):
        for k in sorted(map(int, last.frequency.values), key=lambda k: k in key):
            line = {"color": color_of_frequency(k, key), "width": 2 if k in key else 0.5}
            trace = go.Scatter(x=steps, y=result[name].sel(frequency=k).values, mode=mode, line=line, name=f"k = {k}")
            trace.update(
                showlegend=k in key and row == 1, hovertemplate=f"k = {k}<br>step %{{x}}: %{{y:.4g}}<extra></extra>"
            )
            figure.add_trace(trace, row=row, col=column)
    for terms, dash in (("all", "dot"), ("key", "solid")):
        for name, label, color in (
            ("r_squared", "R²", PALETTE[2]),
            ("trigonometric_fraction", "norm fraction", PALETTE[3]),
        ):
            line = {"color": color, "width": 2, "dash": dash}
            trace = go.Scatter(
                x=steps,
                y=result[name].sel(terms=terms).values,
                mode=mode,
                line=line,
                name=f"{label}, {terms} frequencies",
            )
            figure.add_trace(trace.update(legend="legend2"), row=3, col=1)
    known = bool(np.isfinite(result.network_loss.sel(split="test").values).any())
    for split, color in (("train", TRAIN), ("test", TEST)) if known else (("all", TRAIN),):
        values = result.network_loss.sel(split=split).values
        trace = go.Scatter(
            x=steps, y=_positive(values), mode=mode, line={"color": color, "width": 1.6}, name=f"network, {split}"
        )
        figure.add_trace(trace.update(legend="legend3"), row=3, col=2)
    for terms, dash in (("all", "dot"), ("key", "solid")):
        values = result.loss.sel(terms=terms, split="all").values
        trace = go.Scatter(
            x=steps, y=_positive(values), mode=mode, line={"color": PALETTE[2], "width": 2, "dash": dash}
        )
        figure.add_trace(trace.update(name=f"fit by {terms} frequencies", legend="legend3"), row=3, col=2)
    for column in (1, 2):
        threshold_line(figure, 0, row=1, column=column)
    beside = {"x": 1.01, "xanchor": "left", "yanchor": "top", "font_size": 11}
    figure.update_layout(
        margin_r=230,
        barmode="overlay",
        legend={**beside, "y": 1, "title_text": "coefficients and shares"},
        legend2={**beside, "y": 0.28, "title_text": "explained"},
        legend3={**beside, "y": 0.13, "title_text": "loss"},
    )
    for column in (1, 2):
        for row in (1, 2, 3):
            over_frequency = column == 1 and row < 3
            title = "frequency k" if over_frequency else "step (updates)"
            figure.update_xaxes(title_text=title, title_standoff=4, row=row, col=column)
    figure.update_yaxes(title_text="α_k (logits)", row=1)
    figure.update_yaxes(title_text="share", tickformat=".0%", rangemode="tozero", row=2)
    figure.update_yaxes(
        range=[0, 1.3 * max(float(np.nanmax(np.nan_to_num(last.logit_share.values))), 1e-9)], row=2, col=1
    )
    percent_axis(figure, row=3, col=1, title_text="share")
    power_of_ten_axis(figure, row=3, col=2, title_text="cross-entropy (nats)")
    return figure


def _means_by_sum(checkpoint: Checkpoint) -> Float[Tensor, "n n"]:
    """The mean logits [s, c] of the n pairs with a + b ≡ s, in phase coordinates; all that P_k and the fit ever see."""
    phase, n_classes = checkpoint.task.coordinates, checkpoint.logits.shape[-1]
    residue = np.arange(phase.order)
    # pairs [s, a]
    pairs = phase.rows[residue] * checkpoint.task.p + phase.columns[(residue[:, None] - residue) % phase.order]
    logits = checkpoint.logits.reshape(-1, n_classes)
    # By few sums at a time, which stay in the processor's cache.
    chunks = torch.from_numpy(pairs).split(8)
    means = torch.cat(
        [logits.index_select(0, some.flatten()).view(*some.shape, -1).double().mean(1) for some in chunks]
    )
    return means[:, torch.from_numpy(phase.classes)]


def _losses(checkpoint: Checkpoint, fits: Float[Tensor, "terms n"]) -> tuple[np.ndarray, np.ndarray]:
    """Mean cross-entropies [terms, split] of logits fit(a+b−c), and [split] of the network, over pairs whose label has
    a phase.

    Over the classes, fit(s − c) takes the same values for every s, in another order: one log-softmax serves all pairs.
    """
    task = checkpoint.task
    phase = task.coordinates
    pairs = (phase.rows[:, None] * task.p + phase.columns).reshape(-1)
    phase_of = np.full(task.p, -1)
    phase_of[phase.classes] = np.arange(phase.order)
    labels = phase_of[task.labels[pairs]]
    seen = (task.labels[pairs] >= 0) & (labels >= 0)
    difference = np.add.outer(np.arange(phase.order), np.arange(phase.order)).reshape(-1) - labels
    losses = -fits.log_softmax(-1).numpy()[:, difference % phase.order]
    of_network = checkpoint.losses[pairs]
    masks = [task.mask(split)[pairs] & seen for split in SPLITS]
    missing = np.full(len(fits), np.nan)
    fitted = np.stack([losses[:, mask].mean(1) if mask.any() else missing for mask in masks], axis=1)
    return np.abs(fitted), np.array([of_network[mask].mean() if mask.any() else np.nan for mask in masks])


def _positive(values: np.ndarray) -> np.ndarray:
    """A logarithmic axis has no place for a loss that float64 cannot tell from 0."""
    return np.where(values > 0, values, np.nan)
