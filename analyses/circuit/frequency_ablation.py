"""Frequency ablation. What does the network lose without a frequency, and what is left when it has no other?

Three places are cut, in phase coordinates with n phases and w_k = 2πk/n, and the network runs on from there:

    embedding   the vectors by which the tokens t enter, W_E[t] or one-hot: the part in cos w_k t and sin w_k t, before
                anything reads it (where b has a vocabulary of its own, in either)
    neurons     N[a, b]: the eight products of {1, cos w_k a, sin w_k a} with {1, cos w_k b, sin w_k b} other than 1·1
                (3×3 block)
    logits      L[a, b]: the part in cos w_k(a+b) and sin w_k(a+b)

Each key frequency of the run's last checkpoint is removed alone; then all of them (remove_key); then everything but
them and the mean over t or over (a, b) (keep_key). NaN where a frequency is not key; `progress_measures` has the logits
without any k. And apart from that, every neuron of which one 3×3 block explains the fraction 0.85 or more is replaced
by its mean and that block: its polynomial of degree 2 in sines and cosines. Where a norm stands before the unembedding,
neurons are cut with the length that it divides by held at that of the whole network, pair by pair.

Removing anything may hurt. So beside remove_key, eight random sets of as many frequencies that are not key are removed
in each place, each all at once (remove_random_1 … 8; NaN where there are not so many sets). One of nine sets drawn
alike is the extreme one in 11 % of cases: eight are enough to see whether the key set stands apart, and no test of that
at 5 %, for which it takes 19, and more time than all the rest of this takes.

Random sets and the cuts of the embedding are judged on a fixed random sample of 1,024 pairs where there are more:
accuracies over all pairs have a standard error of up to 1.6 points. If fewer than 256 of them are held out
(`Task.held_out_mask`), such pairs are added, for that split alone. remove_key_in_sample is remove_key on these pairs.

It cannot tell that other frequencies were of no use: after a cut the rest runs on inputs that it never met. Nor are the
key frequencies and a random set alike but for that: what is key is also large, and more of the norm goes with it. For ×
and ÷ only the rows and pairs of units are cut and counted; the `=` row and the skip past the MLP are left alone.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import torch
import xarray as xr
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from interp.analysis import axes
from interp.experiment import Norm, Task
from interp.figures import PALETTE, band, named_step, new_panels, percent_axis, power_of_ten_axis
from interp.mathematics import fourier
from interp.mathematics.cross_entropy import PAIRS_AT_ONCE, judge_, leads_and_totals_, losses_from
from interp.mathematics.key_frequencies import in_phase
from interp.mathematics.pair_samples import pair_sample
from interp.mathematics.random_sets import random_sets
from interp.models import answer_scale, logits_with_vectors, matrices, residual_post
from interp.runs import Checkpoint

REFERENCE = "Nanda et al. 2023, arXiv:2301.05217, §4.4 and App. C.2"
CORE = True
PLACE = 6
SCALES = {}  # its numbers are not compared
TABLES = (("target", "frequency", "split"), ("target", "mode", "split"), ("network", "split"))
SPLITS = ("all", "train", "test", "held_out")
TARGETS = ("embedding", "neurons", "logits")
CUTS = ("remove_key", "keep_key")
RANDOM = tuple(f"remove_random_{draw}" for draw in range(1, 9))
IN_SAMPLE = "remove_key_in_sample"
MODES = (*CUTS, IN_SAMPLE, *RANDOM)
NETWORKS = ("original", "polynomial")


def measure(
    checkpoint: Checkpoint,
    *,
    key_frequencies: list[int] | None = None,
    threshold: float = 0.85,
    sample_pairs: int = 1024,
) -> xr.Dataset:
    """`loss`, `accuracy` [target, mode, split]; `loss_without`, `accuracy_without` [target, frequency, split], NaN but
    for key frequencies; `network_loss`, `network_accuracy` [network, split] of the original and of the network with
    `replaced_neurons` replaced; `is_key` [frequency].

    `key_frequencies` are those of the run's last checkpoint; of a checkpoint alone, its own. The random sets are drawn
    once for them (`interp.mathematics.random_sets`). Neurons are replaced from `threshold` on. Cuts of the embedding,
    for each of which the network runs anew, and random sets are judged on `sample_pairs` pairs, a fixed random draw, or
    on all if they are no more.

    >>> import interp
    >>> from interp.testing import circuit_checkpoint, circuit_neurons
    >>> found = measure(circuit_checkpoint(interp.Task(11), circuit_neurons([2, 5])))
    >>> found.accuracy.sel(target="logits", split="all", mode="keep_key").item()
    1.0
    >>> found.loss.sel(target="logits", split="all", mode="remove_key").item() > 2.4  # worse than a guess, ln 11
    True
    >>> found.accuracy.sel(target="neurons", split="all", mode=list(RANDOM)).values.tolist()  # three sets, of 1, 3, 4
    [1.0, 1.0, 1.0, nan, nan, nan, nan, nan]
    """
    n, task = checkpoint.task.coordinates.order, checkpoint.task
    frequencies = np.arange(1, n // 2 + 1, dtype=np.int32)
    is_key = np.isin(frequencies, checkpoint.spectrum.frequencies_to_use(key_frequencies))
    key = [int(k) for k in frequencies[is_key]]
    pairs, labels, splits = _pairs(task)
    logits = in_phase(checkpoint.logits, task.coordinates).flatten(0, 1).T.contiguous()
    periodic = checkpoint.spectrum.neuron_shares.nan_to_num(nan=-1).amax(0) >= threshold

    others = dict(zip(RANDOM, random_sets(n // 2, key, len(RANDOM)), strict=False))
    cuts = _cut_neurons(checkpoint, logits, key, periodic) | _cut_logits(logits, n, key)
    judged = _by_cut(cuts, *_judge(list(cuts.values()), labels), splits)

    sample, of_sample = _sample(len(pairs), sample_pairs, splits)
    base = logits[:, sample]  # one tensor for all that is cut out of it: `_judge` takes these together
    again = {(target, IN_SAMPLE): cuts[target, "remove_key"] for target in ("neurons", "logits")}
    some = {name: _Cut(base, cut.coefficients, cut.waves[:, sample]) for name, cut in again.items()}
    some |= _random_cuts(checkpoint, base, sample, others)
    judged |= _by_cut(some, *_judge(list(some.values()), labels[sample]), of_sample)

    names, remaining = _cut_embedding(checkpoint, pairs[sample], key, others)
    losses, correct = zip(*(judge_(outputs.T.contiguous(), labels[sample]) for outputs in remaining), strict=True)
    judged |= _by_cut([("embedding", name) for name in names], torch.stack(losses), torch.stack(correct), of_sample)
    judged["embedding", IN_SAMPLE] = judged["embedding", "remove_key"]
    loss_of, correct_of = (torch.from_numpy(values)[pairs] for values in (checkpoint.losses, checkpoint.correct))
    judged["network", "original"] = _mean(loss_of, splits), _mean(correct_of, splits)

    def table(of: Iterable[str], what: Iterable[int | str]) -> Float[np.ndarray, "2 targets cuts splits"]:
        return np.stack(
            [[judged.get((target, cut), np.full((2, len(SPLITS)), np.nan)) for cut in what] for target in of]
        ).transpose(2, 0, 1, 3)

    loss, accuracy = table(TARGETS, MODES)
    loss_without, accuracy_without = table(TARGETS, frequencies.tolist())
    network_loss, network_accuracy = table(("network",), NETWORKS)[:, 0]

    one, nats, several, single = (
        {"units": "1"},
        {"units": "nats"},
        ("target", "mode", "split"),
        ("target", "frequency", "split"),
    )
    return xr.Dataset(
        {
            "loss": (several, loss, {"long_name": "loss after the cut"} | nats),
            "accuracy": (several, accuracy, {"long_name": "accuracy after the cut"} | one),
            "loss_without": (single, loss_without, {"long_name": "loss without one frequency"} | nats),
            "accuracy_without": (single, accuracy_without, {"long_name": "accuracy without one frequency"} | one),
            "network_loss": (("network", "split"), network_loss, {"long_name": "loss"} | nats),
            "network_accuracy": (("network", "split"), network_accuracy, {"long_name": "accuracy"} | one),
            "replaced_neurons": (
                (),
                np.int32(periodic.sum()),
                {"long_name": f"neurons replaced, from {threshold:g} on"} | one,
            ),
            "is_key": ("frequency", is_key, {"long_name": "taken as key"} | one),
        },
        coords=axes(
            {
                "target": ("target", np.array(TARGETS), {"long_name": "where it is cut", "units": "name"}),
                "mode": ("mode", np.array(MODES), {"long_name": "what is cut", "units": "name"}),
                "frequency": ("frequency", frequencies, {"long_name": "frequency k"} | one),
                "network": ("network", np.array(NETWORKS), {"long_name": "periodic neurons", "units": "name"}),
                "split": ("split", np.array(SPLITS), {"long_name": "split", "units": "name"}),
            }
        ),
        attrs={"threshold": threshold},
    )


def summary(result: xr.Dataset) -> dict:
    """Of the last step, over all pairs and, where it says so, over held-out pairs; losses in nats. Without the key
    frequencies and with nothing else, by place; then, by place and pairs, in the sample: `loss_in_sample` and
    `accuracy_in_sample` without the key frequencies, `random_loss` and `random_accuracy` without random sets
    (`random_sets`: so many), the lowest and the highest. `loss_without` and `accuracy_without` by place and key
    frequency. The `network_loss` of the original and of the network with its periodic neurons replaced is by split.
    Null where unknown."""
    last = result.isel(step=-1)
    everywhere, key = last.sel(split="all"), [int(k) for k in last.frequency.values[last.is_key.values.astype(bool)]]
    held_out = last.sel(split="held_out")

    def by_mode(values: xr.DataArray) -> dict[str, dict[str, float]]:
        return {target: {mode: float(values.sel(target=target, mode=mode)) for mode in CUTS} for target in TARGETS}

    def by_pairs(*values: xr.DataArray) -> dict[str, dict[str, Any]]:
        of = {
            target: {
                split: [float(each.sel(target=target, split=split)) for each in values] for split in ("all", "held_out")
            }
            for target in TARGETS
        }
        return of if len(values) > 1 else {t: {s: v[0] for s, v in by.items()} for t, by in of.items()}

    def by_frequency(values: xr.DataArray) -> dict[str, dict[str, float]]:
        return {target: {str(k): float(values.sel(target=target, frequency=k)) for k in key} for target in TARGETS}

    return {
        "step": int(last.step),
        "key_frequencies": key,
        "loss": by_mode(everywhere.loss),
        "accuracy": by_mode(everywhere.accuracy),
        "held_out_loss": by_mode(held_out.loss),
        "held_out_accuracy": by_mode(held_out.accuracy),
        "loss_in_sample": by_pairs(last.loss.sel(mode=IN_SAMPLE)),
        "accuracy_in_sample": by_pairs(last.accuracy.sel(mode=IN_SAMPLE)),
        "random_sets": int(np.isfinite(everywhere.accuracy.sel(target="neurons", mode=list(RANDOM))).sum()),
        "random_loss": by_pairs(*random_range(last.loss)),
        "random_accuracy": by_pairs(*random_range(last.accuracy)),
        "loss_without": by_frequency(everywhere.loss_without),
        "accuracy_without": by_frequency(everywhere.accuracy_without),
        "replaced_neurons": int(last.replaced_neurons),
        "network_loss": {n: {s: float(last.network_loss.sel(network=n, split=s)) for s in SPLITS} for n in NETWORKS},
        "network_accuracy": {n: float(everywhere.network_accuracy.sel(network=n)) for n in NETWORKS},
    }


def random_range(values: xr.DataArray) -> tuple[xr.DataArray, xr.DataArray]:
    """The lowest and the highest of `loss` or `accuracy` over the random sets; NaN where there are none.

    >>> import interp
    >>> from interp.testing import circuit_checkpoint, circuit_neurons
    >>> found = measure(circuit_checkpoint(interp.Task(11), circuit_neurons([2, 5])))
    >>> [end.sel(target="neurons", split="all").item() for end in random_range(found.accuracy)]
    [1.0, 1.0]
    """
    at_random = values.sel(mode=list(RANDOM))
    return at_random.min("mode"), at_random.max("mode")


def plot(result: xr.Dataset):
    """Loss and accuracy without each key frequency at the last step; without all of them, with nothing else, and with
    polynomials for neurons, over training, as bands what is lost without random sets. All over all pairs."""
    import plotly.graph_objects as go

    last, steps = result.isel(step=-1), result.step.values
    everywhere, key = result.sel(split="all"), [int(k) for k in last.frequency.values[last.is_key.values.astype(bool)]]
    single = named_step(int(last.step)) if key else "no frequency is key"
    panels = (
        f"Loss without one key frequency, {single}",
        f"Accuracy without one key frequency, {single}",
        "Loss without any key frequency",
        "Loss with key frequencies only",
        "Accuracy: without key (solid), with key only (dots)",
        "Periodic neurons replaced by polynomials",
    )
    figure = new_panels("Frequency ablation", panels, reference=REFERENCE, vertical_spacing=0.11, row_height=310)
    mode = "lines" if len(steps) > 1 else "lines+markers"
    colors = dict(zip(TARGETS, (PALETTE[4], PALETTE[5], PALETTE[3]), strict=True))

    def add(values: xr.DataArray, name: str, line: dict, where: tuple[int, int], **options) -> None:
        trace = go.Scatter(x=steps, y=values, name=name, line=line, mode=mode, **options)
        trace.hovertemplate = f"{name}<br>step %{{x}}: %{{y:.4g}}<extra></extra>"
        figure.add_trace(trace, row=where[0], col=where[1])

    for column, name, form in ((1, "loss_without", ".3g"), (2, "accuracy_without", ".1%")):
        for target in TARGETS:
            values = last[name].sel(split="all", target=target, frequency=key).values if key else [None]
            bars = go.Bar(
                x=[f"k = {k}" for k in key] or ["none"],
                y=values,
                name=f"cut in the {target}",
                marker_color=colors[target],
            )
            bars.update(
                legendgroup=target,
                showlegend=column == 1,
                hovertemplate=f"{target}, %{{x}}: %{{y:{form}}}<extra></extra>",
            )
            figure.add_trace(bars, row=1, col=column)
    original, polynomial = (everywhere.network_loss.sel(network=name) for name in NETWORKS)
    gray = {"color": "#222", "width": 1.4}
    random = {"legendgroup": "random", "name": "without random sets"}
    for row, column, name in ((2, 1, "loss"), (3, 1, "accuracy")):
        ends = random_range(everywhere[name])
        for target in TARGETS:
            limits = [end.sel(target=target).values for end in ends]
            if np.isfinite(limits).any():
                band(figure, steps, limits, colors[target], row=row, col=column, **random)
                figure.data[-1].update(showlegend=(name, target) == ("loss", TARGETS[0]))
    for column, cut in enumerate(CUTS, start=1):
        for target in TARGETS:
            line, values = {"color": colors[target], "width": 2}, everywhere.loss.sel(target=target, mode=cut)
            add(values, f"cut in the {target}", line, (2, column), legendgroup=target, showlegend=False)
        add(original, "nothing cut", gray, (2, column), legendgroup="original", showlegend=column == 1)
    for cut, dash in zip(CUTS, ("solid", "dot"), strict=True):
        for target in TARGETS:
            line, values = (
                {"color": colors[target], "width": 1.8, "dash": dash},
                everywhere.accuracy.sel(target=target, mode=cut),
            )
            add(values, f"{target}, {cut}", line, (3, 1), legendgroup=target, showlegend=False)
    add(original, "nothing cut", gray, (3, 2), legendgroup="original", showlegend=False)
    add(
        polynomial,
        "periodic neurons replaced",
        {"color": PALETTE[6], "width": 2, "dash": "dot"},
        (3, 2),
        showlegend=True,
    )
    if key and (level := float(original[-1])) > 0:
        figure.add_shape(type="line", xref="x domain", x0=0, x1=1, y0=level, y1=level, line=gray, row=1, col=1)
        lowest, highest = (
            max(min(level, float(last.loss_without.min())), 1e-12),
            max(level, float(last.loss_without.max())),
        )
        # Else the axis begins at the line.
        figure.update_yaxes(range=[np.log10(lowest) - 0.4, np.log10(highest) + 0.4], row=1, col=1)
    figure.update_layout(margin_r=210, legend={"x": 1.01, "xanchor": "left", "y": 1, "yanchor": "top"}, bargap=0.25)
    figure.update_xaxes(title_text="step (updates)", title_standoff=4).update_xaxes(
        title_text="frequency removed", row=1
    )
    for row, column in ((1, 1), (2, 1), (2, 2), (3, 2)):
        power_of_ten_axis(figure, row=row, col=column, title_text="cross-entropy (nats)")
    figure.update_yaxes(dtick=None, row=3, col=2)  # often less than a power of ten
    percent_axis(figure, row=1, col=2, title_text="accuracy")
    percent_axis(figure, row=3, col=1, title_text="accuracy")
    return figure


# ---- the cuts: what is cut, and the logits that remain ---------------------------------------------------------------


class _Cut(NamedTuple):
    """What remains is base + coefficients · waves."""

    base: Float[Tensor, "c pairs"]
    coefficients: Float[Tensor, "c waves"]
    waves: Float[Tensor, "waves pairs"]


def _cut_embedding(
    checkpoint: Checkpoint, pairs: Int[Tensor, " pairs"], key: list[int], others: dict[str, list[int]]
) -> tuple[list[int | str], Float[Tensor, "cuts pairs c"]]:
    """The cuts of the embedding, and the logits that remain."""
    rows, whole = checkpoint.token_rows, matrices(checkpoint.weights, checkpoint.model).W_E
    embedding = torch.cat([whole[index] for index in rows], dim=1).double()

    def part(frequencies: list[int]) -> Tensor:
        waves = fourier.pairs(len(embedding))[[k - 1 for k in frequencies]].flatten(0, 1)
        return waves.T @ (waves @ embedding)

    without = [embedding - part(some) for some in (*([k] for k in key), key)]
    without_others = [embedding - part(some) for some in others.values()]
    cut = torch.stack([*without, embedding.mean(0) + part(key), *without_others]).to(whole.dtype)
    residues = whole[: len(rows) * checkpoint.task.p].expand(len(cut), -1, -1)
    vectors = residues.index_copy(1, torch.cat(rows), torch.cat(cut.tensor_split(len(rows), 2), dim=1))
    inputs = torch.stack([pairs // checkpoint.task.p, pairs % checkpoint.task.p], dim=-1)
    return [*key, *CUTS, *others], logits_with_vectors(checkpoint.weights, checkpoint.model, vectors, inputs)


def _cut_neurons(
    checkpoint: Checkpoint, logits: Float[Tensor, "c pairs"], key: list[int], periodic: Bool[Tensor, " d_mlp"]
) -> dict[tuple[str, int | str], _Cut]:
    """The key frequencies' blocks, and the polynomials in place of the periodic neurons: to the logits, all of it is
    linear."""
    spectrum, n, kind = checkpoint.spectrum, checkpoint.task.coordinates.order, logits.dtype
    neurons, frequencies = spectrum.neurons_in_phase.flatten(0, 1).to(kind), spectrum.neuron_frequencies
    mean, of_neurons = spectrum.neuron_mean.to(kind), checkpoint.W_L.T.to(kind)
    scale = _scale(checkpoint)
    constant = (
        _with_mean_neurons(checkpoint).to(kind).expand_as(logits)
        if scale is None
        else logits - of_neurons @ ((neurons - mean) * scale[:, None]).T
    )

    periods = frequencies[periodic].unique()
    chosen = sorted({*key, *periods.tolist()})
    products = (
        torch.stack([fourier.block_waves(n, k, logits.dtype) for k in chosen])
        if chosen
        else logits.new_zeros(0, 8, n * n)
    )
    products = products if scale is None else products * scale
    coefficients = spectrum.neuron_blocks[[k - 1 for k in chosen]].to(logits.dtype).flatten(1, 2).transpose(1, 2)
    keys, own = ([chosen.index(k) for k in some] for some in (key, periods.tolist()))
    # The smaller group of neurons is added or taken away as it is.
    added = bool(periodic.sum() > periodic.numel() / 2)
    base, group = (constant, ~periodic) if added else (logits, periodic)
    if group.any():
        group, sign = torch.nonzero(group)[:, 0], 1 if added else -1
        some, theirs = neurons.index_select(1, group), of_neurons[:, group]
        some = some if scale is None else (some - mean[group]) * scale[:, None]
        base = base - sign * (theirs @ mean[group])[:, None] if scale is None else base
        base = torch.addmm(base, theirs, some.T, alpha=sign)
    replaced = (periodic & (frequencies == periods[:, None]))[:, :, None]
    polynomial = _Cut(base, *_together(of_neurons @ (coefficients[own] * replaced), products[own]))
    cuts = _without_and_alone("neurons", logits, constant, key, (of_neurons @ coefficients[keys], products[keys]))
    return cuts | {("network", "polynomial"): polynomial}


def _scale(checkpoint: Checkpoint) -> Float[Tensor, " pairs"] | None:
    """By how much W_L is multiplied for each pair, in phase order; None where it is not (`models.answer_scale`)."""
    if checkpoint.model.norm == Norm():
        return None
    scale = answer_scale(checkpoint.weights, checkpoint.model, checkpoint.activations.residual_mid, checkpoint.neurons)
    return in_phase(scale[..., None], checkpoint.task.coordinates).flatten()


def _with_mean_neurons(checkpoint: Checkpoint) -> Float[Tensor, "c _"]:
    """The logits if every neuron kept to its mean: the same for all pairs, but for what the residual stream carries
    past the neurons."""
    weights, model, mid = checkpoint.weights, checkpoint.model, checkpoint.activations.residual_mid
    said = residual_post(weights, model, torch.zeros_like(mid[0, 0]), checkpoint.spectrum.neuron_mean) @ checkpoint.W_U
    if model.biases:
        said = said + weights["unembed.b_U" if "unembed.b_U" in weights else "mlp.b_out"]
    if model.family == "mlp":
        return said[:, None]
    past = in_phase(mid, checkpoint.task.coordinates).flatten(0, 1)
    return torch.addmm(said[:, None], checkpoint.W_U.T, past.T)


def _cut_logits(logits: Float[Tensor, "c pairs"], n: int, key: list[int]) -> dict[tuple[str, int | str], _Cut]:
    sums = (torch.arange(n)[:, None] + torch.arange(n)).flatten() % n
    waves = fourier.pairs(n, logits.dtype)[[k - 1 for k in key]][..., sums] / n**0.5  # orthonormal over the pairs
    coefficients = (logits @ waves.flatten(0, 1).T).unflatten(1, (len(key), 2)).transpose(0, 1)
    return _without_and_alone(
        "logits", logits, logits.mean(1, keepdim=True).expand_as(logits), key, (coefficients, waves)
    )


def _random_cuts(
    checkpoint: Checkpoint, logits: Float[Tensor, "c sample"], sample: Tensor, others: dict[str, list[int]]
) -> dict[tuple[str, int | str], _Cut]:
    """The cuts of random sets in neurons and logits, of a sample of pairs."""
    n, kind = checkpoint.task.coordinates.order, logits.dtype
    s, t = sample // n, sample % n
    arguments = torch.stack([s, t, (s + t) % n, (s - t) % n])
    waves = fourier.pairs(n, kind)[:, :, arguments].transpose(1, 2)  # [K, of a, b, a + b, a − b, (cos, sin), pairs]
    of_neurons, blocks = checkpoint.W_L.T.to(kind), checkpoint.spectrum.neuron_blocks.to(kind)
    by_sum = fourier.sum_coefficients(in_phase(checkpoint.logits, checkpoint.task.coordinates)).to(kind)
    scale = _scale(checkpoint)
    cuts: dict[tuple[str, int | str], _Cut] = {}
    for name, some in others.items():
        places = [k - 1 for k in some]
        chosen = waves[places] / n**0.5
        of_pairs = chosen.flatten(0, 2)
        of_blocks = of_neurons @ blocks[places].flatten(0, 2).T
        cuts["neurons", name] = _Cut(logits, -of_blocks, of_pairs if scale is None else of_pairs * scale[sample])
        cuts["logits", name] = _Cut(logits, -by_sum[places].flatten(0, 1).T, chosen[:, 2].flatten(0, 1))
    return cuts


def _without_and_alone(
    target: str,
    logits: Tensor,
    constant: Tensor,
    key: list[int],
    parts: tuple[Float[Tensor, "keys c w"], Float[Tensor, "keys w pairs"]],
) -> dict[tuple[str, int | str], _Cut]:
    """The cuts of a target, given the coefficients and waves of each key frequency's part and what is left without
    any."""
    coefficients, waves = _together(*parts)
    alone = {k: _Cut(logits, -own, wave) for k, own, wave in zip(key, *parts, strict=True)}
    together = {"remove_key": _Cut(logits, -coefficients, waves), "keep_key": _Cut(constant, coefficients, waves)}
    return {(target, what): cut for what, cut in (alone | together).items()}


def _together(coefficients: Float[Tensor, "keys c w"], waves: Float[Tensor, "keys w pairs"]) -> tuple[Tensor, Tensor]:
    return coefficients.transpose(0, 1).flatten(1), waves.flatten(0, 1)


# ---- judging logits --------------------------------------------------------------------------------------------------


def _pairs(task: Task) -> tuple[Int[Tensor, " pairs"], Int[Tensor, " pairs"], list[Int[Tensor, " _"]]]:
    """Row-major indices and labels of the pairs in phase coordinates, and which of them belong to each split."""
    phase = task.coordinates
    pairs = torch.from_numpy(phase.rows[:, None] * task.p + phase.columns).flatten()
    splits = [torch.from_numpy(task.mask(split))[pairs].nonzero()[:, 0] for split in SPLITS]
    return pairs, torch.from_numpy(task.labels)[pairs].clamp(min=0), splits


def _sample(
    n_pairs: int, size: int, splits: list[Int[Tensor, " _"]]
) -> tuple[Int[Tensor, " sample"], list[Int[Tensor, " _"]]]:
    """The pairs on which cuts of the embedding are judged, and which of these stand for each split: for held-out pairs
    all of them, for the others those that were drawn from all pairs alike."""
    held_out = torch.zeros(n_pairs, dtype=torch.bool).index_fill_(0, splits[-1], True)
    sample = pair_sample(held_out, size)
    place = torch.full((n_pairs,), -1)
    place[sample.places] = torch.arange(len(sample.places))
    *others, of_held_out = (place[split] for split in splits)
    drawn = [within[(within >= 0) & sample.is_drawn[within]] for within in others]
    return sample.places, [*drawn, of_held_out[of_held_out >= 0]]


def _judge(
    cuts: list[_Cut], labels: Int[Tensor, " pairs"]
) -> tuple[Float[Tensor, "cuts pairs"], Bool[Tensor, "cuts pairs"]]:
    """The loss and correctness of every pair after every cut."""
    leads, totals = torch.empty(2, len(cuts), len(labels), dtype=cuts[0].base.dtype)
    for base in {cut.base for cut in cuts}:
        of_base = [(index, cut) for index, cut in enumerate(cuts) if cut.base is base]
        for start in range(0, len(labels), PAIRS_AT_ONCE):
            some = slice(start, start + PAIRS_AT_ONCE)
            before, right = base[:, some].contiguous(), labels[some]
            remaining = torch.empty_like(before)
            for index, cut in of_base:
                torch.addmm(before, cut.coefficients, cut.waves[:, some], out=remaining)
                leads[index, some], totals[index, some] = leads_and_totals_(remaining, right)
    return losses_from(leads, totals), leads > 0


def _by_cut(
    cuts: Iterable[tuple[str, int | str]],
    losses: Float[Tensor, "cuts pairs"],
    correct: Bool[Tensor, "cuts pairs"],
    splits: list[Int[Tensor, " _"]],
) -> dict[tuple[str, int | str], tuple[np.ndarray, np.ndarray]]:
    """The mean loss and accuracy over each split, of every cut."""
    return dict(zip(cuts, zip(_mean(losses, splits), _mean(correct, splits), strict=True), strict=True))


def _mean(values: Shaped[Tensor, "*cuts pairs"], splits: list[Int[Tensor, " _"]]) -> Float[np.ndarray, "*cuts splits"]:
    """The mean over each split; NaN for one without pairs."""
    return torch.stack(
        [values.index_select(-1, split).mean(-1, dtype=torch.float64) for split in splits], dim=-1
    ).numpy()
