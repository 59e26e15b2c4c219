"""What the slider moves: the state of the network at up to 200 checkpoints, from the results of the analyses and from
the checkpoints.

Shapes: S steps shown, N neurons, K frequencies, F frequencies drawn as circles, H heads, n phases (p, or
p − 1 for × and ÷).
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import xarray as xr

from interp.analysis import find, steps_to_show
from interp.figures import color_of_frequency
from interp.mathematics import fourier, grokking
from interp.mathematics.key_frequencies import in_phase, logits_in_phase
from interp.pages.encoding import Block, exact, quantized
from interp.runs import Checkpoint, Run

MOST_STEPS = 200
MOST_SHARES = 8_000_000  # S·N·K: beyond it fewer steps are shown
MOST_LINES = 6_000_000  # S·neurons·n: beyond it the lines of some neurons only
MOST_CIRCLES = 8
MOST_MAPS = 4_000_000  # values of the maps of attention, and of those of single classes
# Residues along the sides of a map, and along those of attention where that is too much.
WINDOW, NARROW_WINDOW = 128, 64
SPLITS = ("train", "test", "all")
# The results that the slider moves.
NEEDS = frozenset(
    (
        *(
            "circuit_efficiency",
            "circuit_forces",
            "circuit_split",
            "embedding_spectrum",
            "frequency_ablation",
            "learning_curves",
        ),
        *("logit_structure", "mlp_structure", "neuron_periodicity", "progress_measures", "transitions", "weight_norms"),
    )
)
Progress = Callable[[Sequence[int]], Iterable[int]]  # wraps the steps that are walked over


def frames(run: Run, results: Mapping[str, xr.Dataset], progress: Progress = lambda steps: steps) -> dict[str, Any]:
    """The JSON of one run for the page: steps, names, and one encoded array for everything that its panels draw."""
    periodicity = results["neuron_periodicity"]
    n_neurons, n_frequencies = periodicity.sizes["neuron"], periodicity.sizes["frequency"]
    transitions = results["transitions"]
    marks = [*transitions.event_at.sel(event_value="at").values, *transitions.boundary_at.values[:, 0]]
    most = max(2, min(MOST_STEPS, MOST_SHARES // (n_neurons * n_frequencies)))
    every = [int(step) for step in periodicity.step.values]
    steps = steps_to_show(every, marks, most)
    at = {
        name: result.sel(step=steps)
        for name, result in results.items()
        if "step" in result.dims and {*steps} <= {*result.step.values.tolist()}
    }
    key = [
        int(k)
        for k in results["logit_structure"].frequency.values[results["logit_structure"].is_key.values[-1].astype(bool)]
    ]
    circles = sorted(_strongest(results["embedding_spectrum"], key))
    order = _neuron_order(periodicity)
    lines = _spread(order, MOST_LINES // (len(steps) * run.task.coordinates.order))
    classes = _classes(run, len(steps))
    arrays = {
        **_of_neurons(at["neuron_periodicity"], order),
        **_of_frequencies(at),
        **_of_checkpoints(run, progress(steps), len(steps), circles=circles, classes=classes, neurons=order[lines]),
        "norms": exact(at["weight_norms"].l2.values),
    }
    return {
        "p": run.task.p,
        "n": run.task.coordinates.order,
        "operation": run.task.operation,
        "steps": steps,
        "all_steps": len(every),
        "last_step": every[-1],
        "opens_at": _opens_at(at["learning_curves"]),
        "key": key,
        "circles": circles,
        "colors": {str(k): color_of_frequency(k, key) for k in sorted({*key, *circles})},
        "neurons": order.tolist(),
        "lines": lines.tolist(),
        "threshold": float(periodicity.attrs["threshold"]),
        "classes": classes,
        "tensors": [str(name) for name in results["weight_norms"].tensor.values],
        "scalars": _scalars(at) | _forces(results["circuit_forces"], steps),
        "before": _steps_before(results["circuit_forces"], steps),
        "named": json.loads(results["circuit_forces"].attrs["named"]),
        "arrays": arrays,
    }


def _strongest(spectrum: xr.Dataset, key: list[int]) -> list[int]:
    """The frequencies drawn as circles: the key ones by their part in the logits, or else those the embedding speaks
    in."""
    last = spectrum.isel(step=-1)
    if key:
        return sorted(key, key=lambda k: -float(last.logit_share.sel(frequency=k)))[:MOST_CIRCLES]
    loudest = np.argsort(-np.nan_to_num(last.embedding_norm.values))[:4]
    return [int(k) for k in last.frequency.values[loudest]]


def _neuron_order(periodicity: xr.Dataset) -> np.ndarray:
    """Neurons by the dominant frequency of the last checkpoint, the clearest first."""
    last = periodicity.isel(step=-1)
    return np.lexsort((-np.nan_to_num(last.fraction_explained.values), last.dominant_frequency.values)).astype(np.int32)


def _spread(order: np.ndarray, most: int) -> np.ndarray:
    """Places in the order, evenly spread: at most so many, at least one."""
    return np.unique(np.round(np.linspace(0, len(order) - 1, max(1, min(len(order), most)))).astype(np.int32))


def _of_neurons(at: xr.Dataset, order: np.ndarray) -> dict[str, Block]:
    return {
        "share": quantized(at.share.values[:, order]),
        "explained": quantized(at.fraction_explained.values[:, order], bits=16),
        "dominant": exact(at.dominant_frequency.values[:, order]),
        "periodic": exact(at.periodic_neurons.values),
    }


def _of_frequencies(at: Mapping[str, xr.Dataset]) -> dict[str, Block]:
    spectrum, logits = at["embedding_spectrum"], at["logit_structure"]
    blocks = {name: exact(spectrum[name].values) for name in ("embedding_norm", "output_norm", "logit_share")}
    blocks["coefficient"] = exact(logits.coefficient.values)
    blocks["without"] = exact(at["frequency_ablation"].loss_without.sel(target="logits", split="all").values)
    blocks["wave_explained"] = exact(at["mlp_structure"].fraction_explained.mean("wave", skipna=True).values)
    if "attention_structure" in at:
        attention = at["attention_structure"]
        blocks["head_explained"] = quantized(attention.fraction_explained.sel(input="a").values, bits=16)
        blocks["head_mean"] = exact(attention["mean"].values)
        blocks["head_deviation"] = exact(attention.deviation.sel(position="a").values)
    return blocks


def _classes(run: Run, n_steps: int) -> list[int]:
    """The classes whose logits are shown over all pairs: one, two or three, spread out."""
    n = run.task.coordinates.order
    fitting = MOST_MAPS // (n_steps * min(n, WINDOW) ** 2)
    return [index * n // 3 for index in range(max(1, min(fitting, 3, n)))]


def _of_checkpoints(
    run: Run,
    steps: Iterable[int],
    n_steps: int,
    *,
    circles: Sequence[int],
    classes: Sequence[int],
    neurons: np.ndarray,
) -> dict[str, Block]:
    """What no analysis keeps: circles of the embedding, responses of neurons, maps of attention and logits. Each
    checkpoint is let go before the next."""
    n, heads = run.task.coordinates.order, run.model.n_heads
    side = min(n, WINDOW if n_steps * heads * n**2 <= MOST_MAPS else NARROW_WINDOW)
    rows: dict[str, list[np.ndarray]] = {}
    for step in steps:
        for name, values in _drawn(run[step], circles, classes, neurons, side).items():
            rows.setdefault(name, []).append(values)
    bits = {"circle": 16, "head_drive": 16}
    own_scale = {"logits_by_sum": 1, "logits_of_class": 1, "responses": 2}
    return {
        name: quantized(np.stack(values), bits=bits.get(name, 8), scales=own_scale.get(name, 0))
        for name, values in rows.items()
    }


def _drawn(
    checkpoint: Checkpoint, circles: Sequence[int], classes: Sequence[int], neurons: np.ndarray, side: int
) -> dict[str, np.ndarray]:
    """`circle` [F, n, 2]; `responses` [neuron, n], the mean of some neurons over the second input, centred;
    `logits_by_sum` [s, c], the mean over all pairs with s = a + b, and `logits_of_class` [class, a, b], centred over
    the classes; `attention` [H, a, b] to the first input; `head_drive` [H, F]. All in phase coordinates, maps cut to a
    window."""
    phase = checkpoint.task.coordinates
    logits = logits_in_phase(checkpoint.logits, phase)
    window = min(phase.order, WINDOW)
    by_sum = fourier.diagonal_sums(logits) / phase.order
    corner = logits[:window, :window]
    of_class = corner[..., list(classes)] - corner.mean(-1, keepdim=True)
    responses = checkpoint.spectrum.neuron_means[0].T[torch.from_numpy(neurons).long()]
    drawn = {
        "circle": circle_coordinates(checkpoint, circles),
        "responses": (responses - responses.mean(1, keepdim=True)).numpy(),
        "logits_by_sum": (by_sum - by_sum.mean(1, keepdim=True))[:window, :window].numpy(),
        "logits_of_class": of_class.permute(2, 0, 1).numpy(),
    }
    if checkpoint.attention.shape[2]:
        attention = in_phase(checkpoint.attention[..., checkpoint.model.inputs_at[0]], phase).permute(2, 0, 1)
        drawn["attention"] = attention[:, :side, :side].numpy()
        if checkpoint.model.n_layers == 1:
            drawn["head_drive"] = head_drive(checkpoint, circles)
    return drawn


def head_drive(checkpoint: Checkpoint, frequencies: Sequence[int]) -> np.ndarray:
    """The share of each head, [H, F], in what a one-layer transformer's neurons are given at frequency k by constant
    attention: ‖F_k W_E W_V W_O W_in‖² of the head over the sum of the heads; of two vocabularies, the sum of both. It
    leaves out how attention turns with the inputs."""
    weights = checkpoint.weights
    W_V, W_O, W_in = (weights[f"blocks.0.{name}"].double() for name in ("attn.W_V", "attn.W_O", "mlp.W_in"))
    spoken = torch.cat(
        [fourier.coefficients(weights["embed.W_E"][rows].double()) for rows in checkpoint.token_rows], dim=1
    )
    spoken = spoken[[k - 1 for k in frequencies]]  # [F, (cos, sin) of every vocabulary, d_model]
    power = torch.stack([(spoken @ v @ o @ W_in).square().sum((1, 2)) for v, o in zip(W_V, W_O, strict=True)])
    return (power / power.sum(0)).numpy()


def circle_coordinates(checkpoint: Checkpoint, frequencies: Sequence[int]) -> np.ndarray:
    """The residues, [F, n, 2], in the plane of the embedding space that each frequency k spans: W_E, centred, times the
    two orthonormal directions nearest to its cosine and sine parts F_k W_E (the orthogonal factor of their polar
    decomposition)."""
    phase = checkpoint.task.coordinates
    embedding = checkpoint.W_E.double()[torch.from_numpy(phase.rows)]
    embedding = embedding - embedding.mean(0)
    parts = fourier.coefficients(embedding)  # [K, 2, features]
    drawn = np.full((len(frequencies), phase.order, 2), np.nan)
    if not bool(embedding.isfinite().all()):
        return drawn
    for index, k in enumerate(frequencies):
        left, _, right = torch.linalg.svd(parts[k - 1], full_matrices=False)
        drawn[index] = 0
        both = (embedding @ (left @ right).T).numpy()
        drawn[index, :, : both.shape[1]] = both
        if 2 * k == phase.order:  # no sine: the second direction is arbitrary
            drawn[index, :, 1] = 0
    return drawn


def _scalars(at: Mapping[str, xr.Dataset]) -> dict[str, list[float | None]]:
    """One number per step each, exact; None where it is not known."""
    curves, progress, norms = at["learning_curves"], at["progress_measures"], at["weight_norms"]
    values = {f"{split}_loss": progress.loss.sel(split=split).values for split in SPLITS}
    values |= {
        f"{split}_accuracy": curves.accuracy.sel(split=split).values for split in ("train", "test", "unmirrored")
    }
    values |= {
        f"{name}_{split}": progress[f"{name}_loss"].sel(split=split).values
        for name in ("restricted", "excluded")
        for split in SPLITS
    }
    values |= {
        "l2": norms.total_l2.values,
        "periodic": at["neuron_periodicity"].periodic_neurons.sum("frequency").values,
    }
    spectrum, logits = at["embedding_spectrum"], at["logit_structure"]
    values |= {"gini_embedding": spectrum.gini_embedding.values, "gini_output": spectrum.gini_output.values}
    values |= {
        "cosine_of_key": logits.r_squared.sel(terms="key").values,
        "cosine_of_all": logits.r_squared.sel(terms="all").values,
    }
    strength = at["circuit_split"].strength.sel(estimator="held_out", split="train")
    values |= {
        f"strength_{circuit}": strength.sel(circuit=circuit).values for circuit in ("generalizing", "memorizing")
    }
    values |= {
        f"norm_{part}": at["circuit_efficiency"].norm.sel(set="key", part=part).values
        for part in ("generalizing", "memorizing", "shared")
    }
    return _plain(values)


def _forces(forces: xr.Dataset, steps: Sequence[int]) -> dict[str, list[float | None]]:
    """What loss and decay did to both circuits over the interval that ends at each step, and what came of it, in logits
    per update, with the growth ratio."""
    analysis, updates = find("circuit_forces").module, forces.interval.values - forces.start.values
    values = {}
    for name in ("circuit", "memorizing"):
        told = analysis.pushed(forces, name)
        series = {
            "loss_on": told.loss / updates,
            "decay_on": told.decay / updates,
            "net_on": analysis.net_change(forces, name) / updates,
            "ratio_of": told.ratio,
        }
        for kind, along in series.items():
            table = dict(zip(forces.interval.values.tolist(), along.tolist(), strict=True))
            values[f"{kind}_{name}"] = np.array([table.get(step, np.nan) for step in steps])
    return _plain(values)


def _opens_at(curves: xr.Dataset) -> int:
    """The place of the step that the slider begins at: in the transition, where half of the held-out pairs are first
    known, of a run that ends with 99 % of them; else the last."""
    known = np.nan_to_num(curves.accuracy.sel(split="held_out").values)
    return int((known >= 0.5).argmax()) if known[-1] >= grokking.LEVEL else len(known) - 1


def _steps_before(forces: xr.Dataset, steps: Sequence[int]) -> list[int]:
    """Where the interval that ends at each step begins; the step itself where none ends."""
    starts = dict(zip(forces.interval.values.tolist(), forces.start.values.tolist(), strict=True))
    return [starts.get(step, step) for step in steps]


def _plain(values: Mapping[str, np.ndarray]) -> dict[str, list[float | None]]:
    return {
        name: [float(x) if np.isfinite(x) else None for x in np.asarray(column, dtype=float)]
        for name, column in values.items()
    }
