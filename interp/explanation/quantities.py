"""The numbers that checkpoints are compared by, and how far apart two of them are.

Numbers of different kinds are ranked by one measure of difference, in which a factor of ten counts as much as a whole:

    magnitude (losses, norms, ranks)       |log₁₀(x/y)|; 1 where only one of the two is zero
    share (accuracies, parts of a whole)   |x − y|
    index (Gini, irrelevance, symmetry)    |x − y|
    signed (strengths of circuits)         |x − y| / max(|x|, |y|), at most 2

Of more than two values it is the largest over all pairs. A number that repeats another one (REPEATS) is ranked only
where that is unknown. The measure says how much a number differs, not whether that matters: a training loss of 1e-8 is
two decades from one of 1e-6.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal

import xarray as xr

from interp.analysis import find
from interp.experiment import json_values
from interp.runs import Checkpoint

Scale = Literal["magnitude", "share", "index", "signed"]

# What a checkpoint is asked, and what more it is asked where there is such an analysis.
MEASURES = (
    "clock_pizza",
    "embedding_spectrum",
    "logit_structure",
    "neuron_periodicity",
    "progress_measures",
    "representation",
    "weight_norms",
)
CIRCUIT_MEASURES = ("circuit_split", "circuit_efficiency")
REPEATS = {
    "loss.unmirrored": "loss.test",
    "loss.all": "loss.test",
    "accuracy.all": "accuracy.test",
    "restricted_loss.all": "restricted_loss.test",
    "excluded_loss.all": "excluded_loss.train",
    "circuit_efficiency.accuracy_alone.generalizing.all": "circuit_efficiency.accuracy_alone.generalizing.test",
    "circuit_efficiency.accuracy_alone.memorizing.all": "circuit_efficiency.accuracy_alone.memorizing.test",
}
SPLITS = ("train", "test", "unmirrored", "all")


@dataclass(frozen=True)
class Quantity:
    """One number of one checkpoint; None where it cannot be known. `name` is stable (docs/guide.md), `label` is for
    people."""

    name: str
    label: str
    group: str
    scale: Scale
    value: float | None


def difference(scale: Scale, values: Sequence[float | None]) -> float | None:
    """How far apart the known values are, on the scale of their kind; None where fewer than two are known."""
    known = [value for value in values if value is not None]
    return max((_apart(scale, x, y) for x, y in combinations(known, 2)), default=None)


def _apart(scale: Scale, x: float, y: float) -> float:
    if x == y:
        return 0.0
    if scale in ("share", "index"):
        return abs(x - y)
    if scale == "signed":
        return abs(x - y) / max(abs(x), abs(y))
    return abs(math.log10(x) - math.log10(y)) if x > 0 and y > 0 else 1.0


def quantities(checkpoint: Checkpoint, results: Mapping[str, xr.Dataset]) -> list[Quantity]:
    """The numbers of a checkpoint, in reading order, from the results of the analyses in MEASURES and of those in
    CIRCUIT_MEASURES that are there."""
    found = [
        *_answers(checkpoint),
        *_circuit(results),
        *_logits(results),
        *_circuits(results),
        *_norms(results),
        *_ranks(results),
    ]
    return [
        Quantity(name, label, group, scale, json_values(None if value is None else float(value)))
        for name, label, group, scale, value in found
    ]


_Row = tuple[str, str, str, Scale, Any]


def _answers(checkpoint: Checkpoint) -> Iterator[_Row]:
    pairs = {"train": "training pairs", "test": "test pairs", "unmirrored": "unmirrored test pairs", "all": "all pairs"}
    for split in SPLITS:
        yield f"loss.{split}", f"loss, {pairs[split]}", "Answers", "magnitude", checkpoint.loss(split)
    for split in SPLITS:
        yield f"accuracy.{split}", f"accuracy, {pairs[split]}", "Answers", "share", checkpoint.accuracy(split)


def _circuit(results: Mapping[str, xr.Dataset]) -> Iterator[_Row]:
    progress, neurons = results["progress_measures"].isel(step=0), results["neuron_periodicity"].isel(step=0)
    spectrum, clock = results["embedding_spectrum"].isel(step=0), results["clock_pizza"].isel(step=0)
    group = "Circuit"
    for split in ("test", "all"):
        where = {"test": "test pairs", "all": "all pairs"}[split]
        yield (
            f"restricted_loss.{split}",
            f"restricted loss, {where}",
            group,
            "magnitude",
            progress.restricted_loss.sel(split=split),
        )
    for split in ("train", "all"):
        where = {"train": "training pairs", "all": "all pairs"}[split]
        yield (
            f"excluded_loss.{split}",
            f"excluded loss, {where}",
            group,
            "magnitude",
            progress.excluded_loss.sel(split=split),
        )
    periodic = int(neurons.periodic_neurons.sum()) / neurons.sizes["neuron"]
    yield "periodic_neurons", "periodic neurons", group, "share", periodic
    yield "gini.embedding", "Gini coefficient of W_E", group, "index", spectrum.gini_embedding
    yield "gini.output", "Gini coefficient of W_L", group, "index", spectrum.gini_output
    yield "distance_irrelevance", "distance irrelevance", group, "index", clock.distance_irrelevance
    yield "gradient_symmetricity", "gradient symmetricity", group, "index", clock.gradient_symmetricity


def _logits(results: Mapping[str, xr.Dataset]) -> Iterator[_Row]:
    spectrum, logits = results["embedding_spectrum"].isel(step=0), results["logit_structure"].isel(step=0)
    own_keys = spectrum.logit_share.values[spectrum.is_key.values.astype(bool)].sum()
    yield "logit_power.key", "logit power in its key frequencies", "Logits", "share", own_keys
    yield "r_squared.all", "R² of Σ α_k cos w_k(a+b−c), all k", "Logits", "share", logits.r_squared.sel(terms="all")
    yield "coefficient.largest", "largest coefficient α_k", "Logits", "magnitude", abs(logits.coefficient).max()


def _circuits(results: Mapping[str, xr.Dataset]) -> Iterator[_Row]:
    """Every number of the summaries of the circuit analyses that is about the checkpoint itself, once."""
    told: set[str] = set()
    for name in CIRCUIT_MEASURES:
        if name in results:
            summary = find(name).summary(results[name])
            title = name.replace("_", " ")
            for path, value in _leaves(summary):
                if (
                    path not in told
                    and not {"step", "at", "from", "error"} & set(path.replace(".", "_").split("_"))
                    and not path.startswith("highest")
                ):
                    label = f"{title}: {path.replace('_', ' ').replace('.', ', ')}"
                    told.add(path)
                    yield f"{name}.{path}", label, "Circuits", _scale_of(path), value


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, float | None]]:
    """The numbers of nested dictionaries, by dotted path; counts and steps, which are integers, are none of these."""
    if isinstance(value, Mapping):
        for key, entry in value.items():
            yield from _leaves(entry, f"{path}.{key}" if path else str(key))
    elif path and (value is None or isinstance(value, float)):
        yield path, value


def _scale_of(path: str) -> Scale:
    words = set(path.replace(".", "_").split("_"))
    if words & {"share", "fraction", "accuracy", "cosine", "overlap"}:
        return "share"
    return "magnitude" if words & {"loss", "norm", "l2"} else "signed"


def _norms(results: Mapping[str, xr.Dataset]) -> Iterator[_Row]:
    norms = results["weight_norms"].isel(step=0)
    yield "l2.total", "norm of all weights", "Norms", "magnitude", norms.total_l2
    for tensor in map(str, norms.tensor.values):
        yield f"l2.{tensor}", f"norm of {tensor}", "Norms", "magnitude", norms.l2.sel(tensor=tensor)
    for name, symbol in (("embedding", "W_E"), ("unembedding", "W_U")):
        squares = norms[f"{name}_l2"].values ** 2
        share = squares[1] / squares.sum() if squares.sum() > 0 else None
        yield f"key_share.{name}", f"key frequencies' share of ‖{symbol}‖²", "Norms", "share", share


def _ranks(results: Mapping[str, xr.Dataset]) -> Iterator[_Row]:
    representation = results["representation"].isel(step=0)
    for matrix in map(str, representation.matrix.values):
        rank = representation.effective_rank.sel(matrix=matrix)
        yield f"effective_rank.{matrix}", f"effective rank of {matrix}", "Ranks", "magnitude", rank
