"""Frequency ablation. What does the network lose without a frequency, and what is left when it has no other?

Three places are cut, in phase coordinates with n phases and w_k = 2πk/n, and the network runs on from there:

    embedding   the vectors by which the tokens t enter, W_E[t] or one-hot: the part in cos w_k t and sin w_k t, before anything reads it
    neurons     N[a, b]: the eight products of {1, cos w_k a, sin w_k a} with {1, cos w_k b, sin w_k b} other than 1·1 (3×3 block)
    logits      L[a, b]: the part in cos w_k(a+b) and sin w_k(a+b)

Each key frequency of the run's last checkpoint is removed alone; then all of them (remove_key); then everything but them and the mean
over t or over (a, b) (keep_key). NaN where a frequency is not key; `progress_measures` has the logits without any k. And apart from
that, every neuron of which one 3×3 block explains the fraction 0.85 or more is replaced by its mean and that block: its polynomial of
degree 2 in sines and cosines.

The cuts of the embedding are judged on a fixed random sample of 2,048 pairs where there are more: accuracies have a standard error of
up to one point. It cannot tell that other frequencies were of no use: after a cut the rest runs on inputs that it never met. For × and
÷ only the rows and pairs of units are cut and counted; the `=` row and the skip past the MLP are left alone.
"""

from collections.abc import Iterator

import numpy as np
import torch
import xarray as xr
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from interp import fourier
from interp.checkpoint import Checkpoint
from interp.figures import PALETTE, new_panels, percent_axis, power_of_ten_axis, threshold_line
from interp.key_frequencies import in_phase
from interp.model import logits_with_vectors, token_vectors
from interp.task import Task

REFERENCE = "Nanda et al. 2023, arXiv:2301.05217, §4.4 and App. C.2"
SPLITS = ("all", "train", "test")
TARGETS = ("embedding", "neurons", "logits")
MODES = ("remove_key", "keep_key")
NETWORKS = ("original", "polynomial")


def measure(
    checkpoint: Checkpoint, *, key_frequencies: list[int] | None = None, threshold: float = 0.85, embedding_pairs: int = 2048
) -> xr.Dataset:
    """`loss`, `accuracy` [target, mode, split]; `loss_without`, `accuracy_without` [target, frequency, split], NaN but for key
    frequencies; `network_loss`, `network_accuracy` [network, split] of the original and of the network with `replaced_neurons`
    replaced; `is_key` [frequency].

    `key_frequencies` are those of the run's last checkpoint; of a checkpoint alone, its own. Neurons are replaced from `threshold` on.
    The network runs anew for every cut of the embedding: on `embedding_pairs` pairs, a fixed random draw, or on all if they are no more.
    """
    frequencies = np.arange(1, checkpoint.n_frequencies + 1, dtype=np.int32)
    is_key = np.isin(frequencies, checkpoint.frequencies_to_use(key_frequencies))
    key = [int(k) for k in frequencies[is_key]]
    pairs, labels, masks = _pairs(checkpoint.task)
    logits = in_phase(checkpoint.logits, checkpoint.task.coordinates)
    periodic = checkpoint.neuron_shares.nan_to_num(nan=-1).amax(0) >= threshold
    from_neurons, unexplained = _from_neurons(checkpoint, periodic)

    loss, accuracy = np.full((2, len(TARGETS), len(MODES), len(SPLITS)), np.nan)
    loss_without, accuracy_without = np.full((2, len(TARGETS), len(frequencies), len(SPLITS)), np.nan)
    sample = torch.from_numpy(np.sort(np.random.RandomState(0).permutation(pairs.numel())[:embedding_pairs]))
    cuts = (_cut_embedding(checkpoint, pairs.flatten()[sample], key), _cut_neurons(logits, from_neurons, key), _cut_logits(logits, key))
    for target, cut in enumerate(cuts):
        seen = (labels.flatten()[sample], masks.flatten(1)[:, sample]) if TARGETS[target] == "embedding" else (labels, masks)
        for what, table in cut:
            judged = _judge(table, *seen)
            if isinstance(what, str):
                loss[target, MODES.index(what)], accuracy[target, MODES.index(what)] = judged
            else:
                loss_without[target, what - 1], accuracy_without[target, what - 1] = judged
    original = [_mean(torch.from_numpy(values)[pairs], masks) for values in (checkpoint.losses, checkpoint.correct)]
    network_loss, network_accuracy = np.stack([original, _judge(logits - unexplained, labels, masks)], axis=1)

    one, nats = {"units": "1"}, {"units": "nats"}
    several, single = ("target", "mode", "split"), ("target", "frequency", "split")
    return xr.Dataset(
        {
            "loss": (several, loss, {"long_name": "loss after the cut"} | nats),
            "accuracy": (several, accuracy, {"long_name": "accuracy after the cut"} | one),
            "loss_without": (single, loss_without, {"long_name": "loss without one frequency"} | nats),
            "accuracy_without": (single, accuracy_without, {"long_name": "accuracy without one frequency"} | one),
            "network_loss": (("network", "split"), network_loss, {"long_name": "loss"} | nats),
            "network_accuracy": (("network", "split"), network_accuracy, {"long_name": "accuracy"} | one),
            "replaced_neurons": ((), np.int32(periodic.sum()), {"long_name": f"neurons replaced, from {threshold:g} on"} | one),
            "is_key": ("frequency", is_key, {"long_name": "taken as key"} | one),
        },
        coords={
            "target": ("target", np.array(TARGETS), {"long_name": "where it is cut", "units": "name"}),
            "mode": ("mode", np.array(MODES), {"long_name": "what is cut", "units": "name"}),
            "frequency": ("frequency", frequencies, {"long_name": "frequency k"} | one),
            "network": ("network", np.array(NETWORKS), {"long_name": "periodic neurons", "units": "name"}),
            "split": ("split", np.array(SPLITS), {"long_name": "split", "units": "name"}),
        },
        attrs={"threshold": threshold},
    )


def summary(result: xr.Dataset) -> dict:
    """Of the last step, over all pairs; losses in nats, `loss_without` and `accuracy_without` by place and key frequency. Only the
    `network_loss` of the original and of the network with its periodic neurons replaced is by split too, null where unknown."""
    last = result.isel(step=-1)
    everywhere, key = last.sel(split="all"), [int(k) for k in last.frequency.values[last.is_key.values.astype(bool)]]

    def by_mode(values: xr.DataArray) -> dict[str, dict[str, float | None]]:
        return {target: {mode: _known(values.sel(target=target, mode=mode)) for mode in MODES} for target in TARGETS}

    def by_frequency(values: xr.DataArray) -> dict[str, dict[str, float | None]]:
        return {target: {str(k): _known(values.sel(target=target, frequency=k)) for k in key} for target in TARGETS}

    return {
        "step": int(last.step),
        "key_frequencies": key,
        "loss": by_mode(everywhere.loss),
        "accuracy": by_mode(everywhere.accuracy),
        "loss_without": by_frequency(everywhere.loss_without),
        "accuracy_without": by_frequency(everywhere.accuracy_without),
        "replaced_neurons": int(last.replaced_neurons),
        "network_loss": {n: {s: _known(last.network_loss.sel(network=n, split=s)) for s in SPLITS} for n in NETWORKS},
        "network_accuracy": {n: _known(everywhere.network_accuracy.sel(network=n)) for n in NETWORKS},
    }


def plot(result: xr.Dataset):
    """Loss and accuracy without each key frequency at the last step; without all of them, with nothing else, and with polynomials for
    neurons, over training. All over all pairs."""
    import plotly.graph_objects as go

    last, steps = result.isel(step=-1), result.step.values
    everywhere, key = result.sel(split="all"), [int(k) for k in last.frequency.values[last.is_key.values.astype(bool)]]
    single = f"step {int(last.step):,}" if key else "no frequency is key"
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
    colors = dict(zip(TARGETS, PALETTE, strict=False))

    def add(values: xr.DataArray, name: str, line: dict, where: tuple[int, int], **options) -> None:
        trace = go.Scatter(x=steps, y=values, name=name, line=line, mode=mode, **options)
        trace.hovertemplate = f"{name}<br>step %{{x}}: %{{y:.4g}}<extra></extra>"
        figure.add_trace(trace, row=where[0], col=where[1])

    for column, name, form in ((1, "loss_without", ".3g"), (2, "accuracy_without", ".1%")):
        for target in TARGETS:
            values = last[name].sel(split="all", target=target, frequency=key).values
            bars = go.Bar(x=[f"k = {k}" for k in key], y=values, name=f"cut in the {target}", marker_color=colors[target])
            bars.update(legendgroup=target, showlegend=column == 1, hovertemplate=f"{target}, %{{x}}: %{{y:{form}}}<extra></extra>")
            figure.add_trace(bars, row=1, col=column)
    original = everywhere.network_loss.sel(network="original")
    gray = {"color": "#222", "width": 1.4}
    for column, cut in enumerate(MODES, start=1):
        for target in TARGETS:
            line, values = {"color": colors[target], "width": 2}, everywhere.loss.sel(target=target, mode=cut)
            add(values, f"cut in the {target}", line, (2, column), legendgroup=target, showlegend=False)
        add(original, "nothing cut", gray, (2, column), legendgroup="original", showlegend=column == 1)
    for cut, dash in zip(MODES, ("solid", "dot"), strict=True):
        for target in TARGETS:
            line, values = {"color": colors[target], "width": 1.8, "dash": dash}, everywhere.accuracy.sel(target=target, mode=cut)
            add(values, f"{target}, {cut}", line, (3, 1), legendgroup=target, showlegend=False)
    add(original, "nothing cut", gray, (3, 2), legendgroup="original", showlegend=False)
    polynomial = everywhere.network_loss.sel(network="polynomial")
    add(polynomial, "periodic neurons replaced", {"color": PALETTE[3], "width": 2, "dash": "dot"}, (3, 2), showlegend=True)
    if key and (level := float(original[-1])) > 0:
        threshold_line(figure, level, row=1, column=1)
    figure.update_layout(margin_r=210, legend={"x": 1.01, "xanchor": "left", "y": 1, "yanchor": "top"}, bargap=0.25)
    figure.update_xaxes(title_text="step (updates)", title_standoff=4)
    figure.update_xaxes(title_text="frequency removed", row=1)
    for row, column in ((1, 1), (2, 1), (2, 2), (3, 2)):
        power_of_ten_axis(figure, row=row, col=column, title_text="cross-entropy (nats)")
    figure.update_yaxes(dtick=None, row=3, col=2)  # often less than a power of ten
    percent_axis(figure, row=1, col=2, title_text="accuracy")
    percent_axis(figure, row=3, col=1, title_text="accuracy")
    return figure


# ---- the cuts: what is cut, and the logits [n, n, c] that remain -----------------------------------------------------------


def _cut_embedding(checkpoint: Checkpoint, pairs: Int[Tensor, " pairs"], key: list[int]) -> Iterator[tuple[int | str, Tensor]]:
    rows = torch.from_numpy(checkpoint.task.coordinates.rows)
    whole = token_vectors(checkpoint.weights, checkpoint.model)
    embedding = whole[rows].double()
    waves = fourier.pairs(len(rows))
    parts = {k: waves[k - 1].T @ (waves[k - 1] @ embedding) for k in key}
    in_key = sum(parts.values(), torch.zeros_like(embedding))
    remaining = {k: embedding - part for k, part in parts.items()} | {
        "remove_key": embedding - in_key,
        "keep_key": embedding.mean(0) + in_key,
    }
    inputs = torch.stack([pairs // checkpoint.task.p, pairs % checkpoint.task.p], dim=-1)
    for what, table in remaining.items():
        cut = whole.index_copy(0, rows, table.to(whole.dtype))
        with torch.no_grad():
            yield what, logits_with_vectors(checkpoint.weights, checkpoint.model, cut, inputs)


def _cut_neurons(
    logits: Float[Tensor, "n n c"], from_neurons: Float[Tensor, "n n c"], key: list[int]
) -> Iterator[tuple[int | str, Tensor]]:
    """Logits are linear in the neurons, so the blocks of what the neurons say are what the neurons' blocks say."""
    in_key = from_neurons.new_zeros(1, 1, 1)
    for k in key:
        along_a = _rows([k], len(from_neurons), from_neurons.dtype) @ from_neurons.flatten(1)
        block = _expand({k: _block(along_a.unflatten(1, from_neurons.shape[1:]), k)}, from_neurons)
        in_key = in_key + block
        yield k, logits - block
    yield "remove_key", logits - in_key
    yield "keep_key", logits - from_neurons + from_neurons.mean((0, 1)) + in_key


def _cut_logits(logits: Float[Tensor, "n n c"], key: list[int]) -> Iterator[tuple[int | str, Tensor]]:
    n = logits.shape[0]
    residue = torch.arange(n)
    sums = (residue[:, None] + residue) % n
    coefficients = fourier.sum_coefficients(logits)
    parts = {k: fourier.pairs(n, logits.dtype)[k - 1].T @ coefficients[k - 1] / n**0.5 for k in key}  # P_k L [s, c]
    in_key = sum(parts.values(), logits.new_zeros(n, logits.shape[2]))
    for k, part in parts.items():
        yield k, logits - part[sums]
    yield "remove_key", logits - in_key[sums]
    yield "keep_key", (logits.mean((0, 1)) + in_key)[sums]


def _from_neurons(checkpoint: Checkpoint, periodic: Bool[Tensor, " d_mlp"]) -> tuple[Tensor, Tensor]:
    """What the neurons add to the logits [n, n, c], and how much of that is what the polynomials of the periodic ones do not explain."""
    phase, neurons = checkpoint.task.coordinates, checkpoint.neurons
    to_logits = checkpoint.W_L.to(neurons.dtype)
    added = neurons @ torch.cat([to_logits, to_logits * periodic[:, None]], dim=1)
    from_neurons, from_periodic = in_phase(added, phase).tensor_split(2, dim=-1)
    frequencies = checkpoint.neuron_frequencies
    chosen = [int(k) for k in frequencies[periodic].unique()]
    rows = neurons.new_zeros(1 + 2 * len(chosen), checkpoint.task.p)
    rows[:, torch.from_numpy(phase.rows)] = _rows(chosen, len(from_neurons), from_neurons.dtype)
    along_a = (rows @ neurons.flatten(1)).unflatten(1, neurons.shape[1:])[:, torch.from_numpy(phase.columns)]
    cores = {}
    for index, k in enumerate(chosen):
        group = torch.nonzero(periodic & (frequencies == k))[:, 0]
        own = along_a[[0, 2 * index + 1, 2 * index + 2]][..., group]
        cores[k] = _block(own, k) @ to_logits[group]
    return from_neurons, from_periodic - from_periodic.mean((0, 1)) - _expand(cores, from_neurons)


def _rows(chosen: list[int], n: int, dtype: torch.dtype) -> Float[Tensor, "rows n"]:
    """The constant, cosine and sine rows of the Fourier basis of some frequencies; a missing sine (k = n/2) is zero."""
    waves = fourier.pairs(n, dtype)[[k - 1 for k in chosen]]
    return torch.cat([fourier.basis(n, dtype)[:1], waves.flatten(0, 1)])


def _block(along_a: Float[Tensor, "3 n c"], k: int) -> Float[Tensor, "3 3 c"]:
    """The coefficients of frequency k's 3×3 block, the constant left out, of a function whose rows over a are known."""
    core = _rows([k], along_a.shape[1], along_a.dtype) @ along_a
    core[0, 0] = 0
    return core


def _expand(cores: dict[int, Float[Tensor, "3 3 c"]], like: Float[Tensor, "n n c"]) -> Float[Tensor, "n n c"]:
    """The function of (a, b) with these blocks and nothing else."""
    if not cores:
        return torch.zeros_like(like)
    rows = torch.cat([_rows([k], len(like), like.dtype) for k in cores])
    along_b = torch.cat([_rows([k], len(like), like.dtype).T @ core for k, core in cores.items()])  # [3 per frequency, n, c]
    return (rows.T @ along_b.flatten(1)).view(like.shape)


# ---- judging logits --------------------------------------------------------------------------------------------------------


def _pairs(task: Task) -> tuple[Int[Tensor, "n n"], Int[Tensor, "n n"], Bool[Tensor, "splits n n"]]:
    """Row-major indices, labels and splits of the pairs in phase coordinates."""
    phase = task.coordinates
    pairs = torch.from_numpy(phase.rows[:, None] * task.p + phase.columns)
    masks = torch.stack([torch.from_numpy(task.mask(split))[pairs] for split in SPLITS])
    return pairs, torch.from_numpy(task.labels)[pairs].clamp(min=0), masks


def _judge(
    logits: Float[Tensor, "*pairs c"], labels: Int[Tensor, "*pairs"], masks: Bool[Tensor, "splits *pairs"]
) -> tuple[Float[np.ndarray, " splits"], Float[np.ndarray, " splits"]]:
    """Mean cross-entropy and accuracy by split. The largest term of the softmax is left out of the sum when it is the label's own, so
    that even float32 logits give a loss far below 1e-7 with the relative precision of the logits."""
    highest, answer = logits.max(-1)
    gap = (highest - logits.gather(-1, labels[..., None])[..., 0]).double()
    terms = (logits - highest[..., None]).clamp_(min=-80).exp_()  # below, float32 goes denormal, ten times as slow for nothing
    others = terms.scatter_(-1, labels[..., None], 0).sum(-1).double()
    losses = gap + torch.log1p(torch.expm1(-gap) + others)
    return _mean(losses, masks), _mean(answer == labels, masks)


def _mean(values: Shaped[Tensor, "*pairs"], masks: Bool[Tensor, "splits *pairs"]) -> Float[np.ndarray, " splits"]:
    """The mean over each split; NaN for one without pairs."""
    return np.array([float(values[mask].double().mean()) for mask in masks])


def _known(value: xr.DataArray) -> float | None:
    return float(value) if np.isfinite(value) else None
