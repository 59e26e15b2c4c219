"""Circuit split. How strong is the memorizing circuit, how strong the generalizing one, and which would answer alone?

The logits L_c, centred over classes, are the sum of a generalizing part G = g(d), a function of d = s + t − u alone (s
and t the phases of the inputs, u that of the class), and of a memorizing part M = L_c − G. The published g is the even
part of the mean of L_c at each d over all pairs, which is the projection on cos w_k d; the held-out g is that over the
pairs that could not have been memorized, in five folds, so that none judges itself (`interp.mathematics.circuits`,
`Task.held_out_mask`). The published one takes the share f of what was memorized, f the fraction of pairs known by
heart, for generalization: strengths at s + t obey gen_published = gen_held_out + f·mem_held_out and mem_published =
(1−f)·mem_held_out. Of an operation without phases (x² + y², random labels) only held-out strengths are known: the
generalizing one is then the mean logit of the label on held-out pairs.

    strength   mean logit of the (trained) label in a part
    margin     mean lead of the label over the best other class
    loss       mean cross-entropy of a part as if it were all
    degree     d log strength / d log λ, all weights scaled by λ, at λ = 1

It cannot tell a lookup table of all pairs from a circuit, both being functions of d: only few frequencies can
(`coefficient`). What a circuit's logits owe to s − t, as a pizza's do, is counted as memorizing; on held-out pairs a
real memorizer can be below zero. Held out means: no symmetry in `Task.symmetries` makes the pair of a trained one; what
a network infers from its training pairs in another way counts as generalizing.
"""

import numpy as np
import torch
import xarray as xr
from jaxtyping import Bool, Float
from torch import Tensor

from interp.analysis import axes
from interp.figures import PALETTE, TEST, TRAIN, named_step, new_panels, percent_axis, power_of_ten_axis, threshold_line
from interp.mathematics import circuits, grokking
from interp.mathematics.circuits import PhasePairs
from interp.mathematics.cross_entropy import PAIRS_AT_ONCE, losses_and_leads_
from interp.mathematics.held_out import CLEAR, FEWEST_HELD_OUT, standard_error
from interp.models import logits
from interp.runs import Checkpoint, centred_logits, phase_pairs

REFERENCE = "Varma et al. 2023, arXiv:2309.02390, §3; the held-out estimator is ours"
READS = ()
CORE = True
PLACE = 12
SCALES = {
    "strength": "signed",
    "margin": "signed",
    "loss_alone_on_held_out_pairs": "magnitude",
    "held_out_margin": "signed",
    "degree": "signed",
    "published_strength": "signed",
    "published_power_share": "share",
}
TABLES = (("estimator", "circuit", "split"),)
ESTIMATORS = ("published", "held_out")
CIRCUITS = ("generalizing", "memorizing")
SPLITS = ("all", "train", "test", "held_out")


def measure(checkpoint: Checkpoint, *, degree_pairs: int = 2048, scale_step: float = 0.01) -> xr.Dataset:
    """`strength`, `margin`, `loss`, `power_share` [estimator, circuit, split] (‖part‖²/‖L_c‖²; held out, the two need
    not add up to 1); `standard_error` [circuit] of the held-out strengths on training pairs;
    `degree` [estimator, circuit], on a fixed random sample of `degree_pairs` pairs between the scales 1 ± `scale_step`,
    NaN where a strength is below four of its standard errors; `coefficient` α_k [estimator, frequency] of the
    generalizing part; `network_loss` [split].

    NaN where the split is unknown, and held out where fewer than 20 independent pairs are. For × and ÷ pairs and
    classes are those of units.

    >>> import interp
    >>> from interp.testing import LookupTable, circuit_checkpoint
    >>> table = circuit_checkpoint(interp.Task(13), [], lookup=LookupTable(strength=13.0))
    >>> strength = measure(table).strength.sel(estimator="held_out", split="train")
    >>> abs(strength).values.round(3).tolist()  # generalizing, memorizing: 13 less its mean over the classes, 1
    [0.0, 12.0]
    """
    task = checkpoint.task
    pairs = phase_pairs(task)
    centred = centred_logits(checkpoint, pairs)
    profiles = circuits.profiles(centred, pairs)
    rows = (torch.zeros_like(pairs.fold), profiles.held_out_row(pairs))
    masks = _masks(pairs)
    total = centred.square().sum(1).double()
    measures = [_parts(centred, pairs, profile, row) for profile, row in zip(profiles, rows, strict=True)]
    strength, margin, loss, power = (
        torch.stack([part[name] for part in measures]) for name in ("strength", "margin", "loss", "power")
    )
    frequencies = np.arange(1, task.coordinates.order // 2 + 1, dtype=np.int32)
    coefficients = circuits.cosine_coefficients(torch.stack([profiles.published[0], profiles.held_out[0]]))
    degrees = _degrees(checkpoint, degree_pairs, scale_step)
    if not task.has_phase:
        for unknown in (strength, margin, loss, power, coefficients):
            unknown.fill_(torch.nan)
        degrees[:] = np.nan
        strength[1] = _strengths_without_phase(centred, pairs)
    kind, one, by = {"units": "logits"}, {"units": "1"}, ("estimator", "circuit", "split")
    return xr.Dataset(
        {
            "strength": (by, _mean(strength, masks), {"long_name": "mean logit of the label"} | kind),
            "margin": (by, _mean(margin, masks), {"long_name": "mean lead of the label"} | kind),
            "loss": (by, _mean(loss, masks), {"long_name": "loss of the part alone", "units": "nats"}),
            "power_share": (
                by,
                _shares(_mean(power, masks), _mean(total, masks)),
                {"long_name": "power beside that of the logits"} | one,
            ),
            "standard_error": (
                "circuit",
                _standard_errors(centred.gather(1, pairs.label[:, None])[:, 0], pairs),
                {"long_name": "standard error, held out"} | kind,
            ),
            "degree": (
                ("estimator", "circuit"),
                degrees,
                {"long_name": "degree"} | one,
            ),
            "coefficient": (
                ("estimator", "frequency"),
                coefficients.numpy(),
                {"long_name": "coefficient of cos w_k d"} | kind,
            ),
            "network_loss": (
                "split",
                _network_loss(checkpoint, pairs, masks),
                {"long_name": "loss of the network", "units": "nats"},
            ),
        },
        coords=axes(
            {
                "estimator": ("estimator", np.array(ESTIMATORS), {"long_name": "estimator", "units": "name"}),
                "circuit": ("circuit", np.array(CIRCUITS), {"long_name": "circuit", "units": "name"}),
                "split": ("split", np.array(SPLITS), {"long_name": "split", "units": "name"}),
                "frequency": ("frequency", frequencies, {"long_name": "frequency k", "units": "1"}),
            }
        ),
    )


def summary(result: xr.Dataset) -> dict:
    """Of the last step, held out: strength (with standard error) and margin of both circuits on training pairs, in
    logits, the margin of the generalizing one and the loss of each part alone (in nats) on held-out pairs, whether the
    generalizing part answers (its strength is clear of 0.1 logits and of three standard errors, and the right answer
    leads in it), and the degrees; the published strengths; the highest strengths, of the memorizing one where it is
    clear of three standard errors (0: nowhere), and its step; and between which checkpoints the generalizing part,
    answering, became the stronger one and stayed it (`interp.mathematics.grokking.crossing`). Null where unknown."""
    last = result.isel(step=-1)
    held_out, published = last.sel(estimator="held_out"), last.sel(estimator="published")
    told = competition(result)
    generalizing, memorizing = told.generalizing, told.memorizing
    known, lead = np.isfinite(memorizing).any(), grokking.crossing(result.step.values, told.leads())
    # The largest of many noisy numbers is a lucky one: only what is clear of its own error counts.
    is_clear = memorizing > CLEAR * result.standard_error.sel(circuit="memorizing").values
    clear = np.where(is_clear, memorizing, 0.0)
    answers = told.generalizes()[-1]

    def by_circuit(values: xr.DataArray) -> dict[str, float]:
        return {circuit: float(values.sel(circuit=circuit)) for circuit in CIRCUITS}

    return {
        "step": int(last.step),
        "strength": by_circuit(held_out.strength.sel(split="train")),
        "standard_error": by_circuit(last.standard_error),
        "margin": by_circuit(held_out.margin.sel(split="train")),
        "held_out_margin": float(told.margin[-1]),
        "generalizing_part_answers": bool(answers) if np.isfinite(answers) else None,
        "loss_alone_on_held_out_pairs": by_circuit(held_out.loss.sel(split="held_out")),
        "degree": by_circuit(held_out.degree),
        "published_strength": by_circuit(published.strength.sel(split="train")),
        "published_power_share": by_circuit(published.power_share.sel(split="all")),
        "highest_memorizing_strength": float(clear.max()) if known else None,
        "highest_memorizing_strength_at": int(result.step.values[clear.argmax()]) if known and is_clear.any() else None,
        "highest_generalizing_strength": float(np.nanmax(generalizing)) if known else None,
        "generalizing_leads_from": grokking.whole(lead.at) if lead is not None else None,
        "generalizing_led_not_at": grokking.whole(lead.after) if lead is not None and lead.after >= 0 else None,
    }


def competition(result: xr.Dataset) -> circuits.Competition:
    """The two circuits over training, held out, from a result of `measure` over steps.

    >>> import interp
    >>> told = competition(interp.open_run(interp.reference_path()).result("circuit_split"))
    >>> (told.leads()[[0, -1]]).tolist()  # not before training, and at its end
    [0.0, 1.0]
    """
    held_out = result.sel(estimator="held_out")
    generalizing, memorizing = (held_out.strength.sel(split="train", circuit=circuit).values for circuit in CIRCUITS)
    of_generalizing = held_out.sel(circuit="generalizing")
    margin = of_generalizing.margin.sel(split="held_out").values
    return circuits.Competition(generalizing, memorizing, of_generalizing.standard_error.values, margin)


def plot(result: xr.Dataset):
    """Strengths, margins, losses of the parts alone, shares of power and degrees over training; the last coefficients
    by frequency."""
    import plotly.graph_objects as go

    steps, last = result.step.values, result.isel(step=-1)
    panels = (
        "Strength on training pairs",
        "Margin on training pairs",
        "Loss on held-out pairs of each part alone",
        "Power beside that of the logits",
        "Degree of homogeneity",
        f"Generalizing part, {named_step(int(last.step))}",
    )
    figure = new_panels("Circuit split", panels, reference=REFERENCE, vertical_spacing=0.11)
    colors, dashes = (
        dict(zip(CIRCUITS, (PALETTE[2], PALETTE[3]), strict=True)),
        dict(zip(ESTIMATORS, ("dot", "solid"), strict=True)),
    )
    mode = "lines" if len(steps) > 1 else "lines+markers"

    def add(
        values: np.ndarray, name: str, color: str, dash: str, *, row: int, column: int, legend: bool = False
    ) -> None:
        trace = go.Scatter(
            x=steps,
            y=values,
            name=name,
            mode=mode,
            line={"color": color, "dash": dash, "width": 1.8},
            showlegend=legend,
        )
        trace.update(hovertemplate=f"{name}<br>step %{{x}}: %{{y:.4g}}<extra></extra>")
        figure.add_trace(trace, row=row, col=column)

    for estimator in ESTIMATORS:
        for circuit in CIRCUITS:
            of = result.sel(estimator=estimator, circuit=circuit)
            name, style = f"{circuit}, {estimator.replace('_', ' ')}", (colors[circuit], dashes[estimator])
            # Without a split, what is known is known of all pairs.
            seen = {name: "all" if np.isnan(of.strength.sel(split="train").values).all() else name for name in SPLITS}
            add(of.strength.sel(split=seen["train"]).values, name, *style, row=1, column=1, legend=True)
            add(of.margin.sel(split=seen["train"]).values, name, *style, row=1, column=2)
            add(_positive(of.loss.sel(split=seen["held_out"]).values), name, *style, row=2, column=1)
            add(of.power_share.sel(split="all").values, name, *style, row=2, column=2)
            add(of.degree.values, name, *style, row=3, column=1)
    for split, color in (("train", TRAIN), ("held_out", TEST)):
        add(
            _positive(result.network_loss.sel(split=split).values),
            f"network, {split.replace('_', ' ')}",
            color,
            "solid",
            row=2,
            column=1,
            legend=True,
        )
    for estimator, opacity in (("published", 0.4), ("held_out", 1.0)):
        bars = go.Bar(x=last.frequency.values, y=last.coefficient.sel(estimator=estimator).values, opacity=opacity)
        bars.update(marker_color=colors["generalizing"], showlegend=False, name=estimator.replace("_", " "))
        figure.add_trace(bars.update(hovertemplate="k = %{x}: %{y:.4g}"), row=3, col=2)
    for row in (1, 2):
        threshold_line(figure, 0, row=1, column=row)
    figure.update_layout(
        barmode="overlay",
        margin_r=220,
        legend={"x": 1.01, "xanchor": "left", "y": 1, "yanchor": "top", "font_size": 11},
    )
    figure.update_xaxes(title_text="step (updates)", title_standoff=4)
    figure.update_xaxes(title_text="frequency k", row=3, col=2)
    figure.update_yaxes(title_text="logits", row=1)
    power_of_ten_axis(figure, row=2, col=1, title_text="cross-entropy (nats)")
    percent_axis(figure, row=2, col=2, title_text="share")
    figure.update_yaxes(autorange=True, rangemode="tozero", row=2, col=2)
    figure.update_yaxes(title_text="d log strength / d log λ", row=3, col=1)
    figure.update_yaxes(title_text="α_k (logits)", row=3, col=2)
    return figure


def _parts(
    centred: Float[Tensor, "pairs n"], pairs: PhasePairs, profile: Float[Tensor, "rows n"], row: Tensor
) -> dict[str, Float[Tensor, "circuits pairs"]]:
    """Strength, margin, loss and power of both parts on every pair, where `row` of the profile is the generalizing
    part."""
    n, difference = profile.shape[1], pairs.label_difference % profile.shape[1]
    of_label = profile[row, difference]
    best = profile.topk(2)
    highest_other = torch.where(best.indices[row, 0] == difference, best.values[row, 1], best.values[row, 0])
    generalizing = {
        "strength": of_label,
        "margin": of_label - highest_other,
        "loss": profile.logsumexp(1)[row] - of_label,
        "power": profile.square().sum(1)[row],
    }
    memorizing = {name: torch.empty_like(of_label) for name in generalizing}
    generalizing_rows = circuits.part_rows(profile.to(centred.dtype))
    for start in range(0, len(centred), PAIRS_AT_ONCE):
        some = slice(start, start + PAIRS_AT_ONCE)
        # Classes first, as what follows sums over them.
        rest = (centred[some] - generalizing_rows.index_select(0, row[some] * n + pairs.sums[some])).T.contiguous()
        memorizing["power"][some] = rest.square().sum(0).double()
        memorizing["strength"][some] = rest.gather(0, pairs.label[None, some])[0].double()
        memorizing["loss"][some], memorizing["margin"][some] = losses_and_leads_(rest, pairs.label[some])
    return {name: torch.stack([generalizing[name], memorizing[name]]) for name in generalizing}


def _masks(pairs: PhasePairs) -> Bool[Tensor, "splits pairs"]:
    """The pairs of each split whose label has a phase."""
    every = torch.ones_like(pairs.is_train)
    return torch.stack([every, pairs.is_train, pairs.is_test, pairs.is_held_out]) & pairs.has_label


def _strengths_without_phase(centred: Float[Tensor, "pairs n"], pairs: PhasePairs) -> Float[Tensor, "circuits pairs"]:
    """What the label of a held-out pair is given on average, which every pair is given, and what is given beyond it."""
    of_label = centred.gather(1, pairs.label[:, None])[:, 0].double()
    unseen = pairs.is_held_out & pairs.has_label
    enough = len(pairs.orbit[unseen].unique()) >= FEWEST_HELD_OUT
    generalizing = torch.full_like(of_label, of_label[unseen].mean().item() if enough else torch.nan)
    return torch.stack([generalizing, of_label - generalizing])


def _mean(
    values: Float[Tensor, "*parts pairs"], masks: Bool[Tensor, "splits pairs"]
) -> Float[np.ndarray, "*parts splits"]:
    """The mean over each split; NaN for one without pairs."""
    return (values.double().unsqueeze(-2).where(masks, 0).sum(-1) / masks.sum(1)).numpy()


def _shares(parts: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """0 where all logits are equal; NaN where they are so large that their squares are not finite."""
    finite = np.isfinite(parts) & np.isfinite(whole)
    return np.divide(parts, whole, out=np.where(finite, 0.0, np.nan), where=finite & (whole != 0))


def _standard_errors(label_logits: Float[Tensor, " pairs"], pairs: PhasePairs) -> Float[np.ndarray, " circuits"]:
    """Of the held-out strengths: the generalizing one is a mean over held-out pairs, the memorizing one the difference
    of two means. Pairs of one orbit are one observation; what pairs with one label have in common is not allowed
    for."""
    _, train, _, unseen = _masks(pairs)
    of_train, of_unseen = (
        standard_error(label_logits[some].double().numpy(), pairs.orbit[some].numpy()) for some in (train, unseen)
    )
    return np.array([of_unseen, np.hypot(of_train, of_unseen)])


def _degrees(checkpoint: Checkpoint, n_pairs: int, step: float) -> Float[np.ndarray, "estimators circuits"]:
    """Log-slopes of both strengths by both estimators between the scales 1 − step and 1 + step; NaN for a recorded
    module, which cannot be run with other weights."""
    if checkpoint.model.is_recorded:
        return np.full((2, 2), np.nan)
    pairs = phase_pairs(checkpoint.task)
    chosen = torch.from_numpy(np.sort(np.random.RandomState(0).permutation(len(pairs.row_major))[:n_pairs]))
    sample = pairs.some(chosen)
    inputs = torch.from_numpy(checkpoint.task.pairs)[sample.row_major]
    scales = (1 - step, 1 + step)
    slopes = []
    for scale in scales:
        scaled = {name: scale * weight for name, weight in checkpoint.weights.items()}
        with torch.no_grad():
            slopes.append(
                _log_strengths(
                    circuits.centred(logits(scaled, checkpoint.model, inputs), checkpoint.task.coordinates), sample
                )
            )
    return ((slopes[1] - slopes[0]) / np.log(scales[1] / scales[0])).numpy()


def _log_strengths(centred: Float[Tensor, "pairs n"], pairs: PhasePairs) -> Float[Tensor, "estimators circuits"]:
    """Of the mean generalizing logit of the label over all pairs, and of the memorizing one over training pairs (all
    pairs where the split is unknown); NaN where chance could have made it."""
    profiles = circuits.profiles(centred, pairs)
    of_label = centred.gather(1, pairs.label[:, None])[:, 0].double()
    everything = torch.ones_like(pairs.is_train)
    memorized = pairs.is_train if pairs.is_train.any() else everything
    logs = []
    for profile, told_from in ((profiles.published[0], everything), (profiles.held_out[0], pairs.is_held_out)):
        generalizing = profile[pairs.label_difference % len(profile)]
        memorizing = (of_label - generalizing)[memorized & pairs.has_label]
        logs += [
            _clear_log(generalizing[pairs.has_label].mean(), of_label[told_from]),
            _clear_log(memorizing.mean(), memorizing),
        ]
    return torch.stack(logs).view(2, 2)


def _clear_log(strength: Tensor, sample: Float[Tensor, " pairs"]) -> Tensor:
    """The logarithm of a strength; NaN where that is below four standard errors of the mean of the sample, or no more
    than rounding."""
    error = sample.std() / len(sample) ** 0.5 if len(sample) > 1 else torch.inf
    clear = strength > 4 * error and strength > 1e-6 * sample.abs().max()
    return strength.log() if clear else torch.full_like(strength, torch.nan)


def _network_loss(checkpoint: Checkpoint, pairs: PhasePairs, masks: Tensor) -> Float[np.ndarray, " splits"]:
    return _mean(torch.from_numpy(checkpoint.losses)[pairs.row_major].nan_to_num(), masks)


def _positive(values: np.ndarray) -> np.ndarray:
    """A logarithmic axis has no place for a loss that float64 cannot tell from 0."""
    return np.where(values > 0, values, np.nan)
