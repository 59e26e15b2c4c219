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
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import xarray as xr

from interp.analysis import Scale, find
from interp.experiment import json_values
from interp.runs import Checkpoint

# What a checkpoint is asked by name; of other analyses, the numbers of their summaries that have a scale are compared.
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
    "loss.test": "loss.held_out",
    "loss.unmirrored": "loss.held_out",
    "loss.all": "loss.held_out",
    "accuracy.unmirrored": "accuracy.held_out",
    "accuracy.all": "accuracy.test",
    "restricted_loss.test": "restricted_loss.held_out",
    "restricted_loss.all": "restricted_loss.held_out",
    "excluded_loss.all": "excluded_loss.train",
    **{
        f"circuit_efficiency.accuracy_alone.generalizing.{split}": (
            "circuit_efficiency.accuracy_alone.generalizing.held_out"
        )
        for split in ("all", "test")
    },
}
PAIRS = {
    "train": "training pairs",
    "test": "test pairs",
    "held_out": "held-out pairs",
    "unmirrored": "unmirrored test pairs",
    "all": "all pairs",
}


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
    """The numbers of a checkpoint, in reading order, from the results of the analyses in MEASURES and of any others:
    of these, all numbers of their summaries that have a scale."""
    summaries = {name: find(name).summary(result) for name, result in results.items()}
    others = [name for name in summaries if name not in (*MEASURES, *CIRCUIT_MEASURES)]
    found = [
        *_answers(checkpoint),
        *_circuit(summaries),
        *_logits(summaries, results),
        *_by_scale(summaries, [name for name in CIRCUIT_MEASURES if name in summaries], "Circuits"),
        *_norms(summaries, results),
        *_ranks(summaries),
        *_by_scale(summaries, others, "Other analyses"),
    ]
    return [Quantity(name, label, group, scale, json_values(value)) for name, label, group, scale, value in found]


_Row = tuple[str, str, str, Scale, float | None]


def _answers(checkpoint: Checkpoint) -> Iterator[_Row]:
    for split, pairs in PAIRS.items():
        yield f"loss.{split}", f"cross-entropy, {pairs}", "Answers", "magnitude", checkpoint.loss(split)
    for split, pairs in PAIRS.items():
        yield f"accuracy.{split}", f"accuracy, {pairs}", "Answers", "share", checkpoint.accuracy(split)


def _circuit(summaries: Mapping[str, Any]) -> Iterator[_Row]:
    progress, neurons = summaries["progress_measures"], summaries["neuron_periodicity"]
    spectrum, clock, group = summaries["embedding_spectrum"], summaries["clock_pizza"], "Circuit"
    shown = [("restricted", "held_out"), ("restricted", "test"), ("restricted", "all")]
    for kind, split in (*shown, ("excluded", "train"), ("excluded", "all")):
        loss = progress[f"{kind}_loss"][split]
        yield f"{kind}_loss.{split}", f"{kind} loss, {PAIRS[split]}", group, "magnitude", loss
    share = neurons["periodic_neurons"] / neurons["neurons"]
    yield "periodic_neurons", "periodic neurons", group, "share", share
    yield "gini.embedding", "Gini coefficient of W_E", group, "index", spectrum["gini_embedding"]
    yield "gini.output", "Gini coefficient of W_L", group, "index", spectrum["gini_output"]
    for name in ("distance_irrelevance", "gradient_symmetricity"):
        yield name, name.replace("_", " "), group, "index", clock[name]


def _logits(summaries: Mapping[str, Any], results: Mapping[str, xr.Dataset]) -> Iterator[_Row]:
    own_keys = float(np.sum(list(summaries["embedding_spectrum"]["logit_shares"].values())))
    structure, coefficient, group = summaries["logit_structure"], results["logit_structure"].coefficient, "Logits"
    yield "logit_power.key", "logit power in its key frequencies", group, "share", own_keys
    yield "r_squared.all", "R² of Σ α_k cos w_k(a+b−c), all k", group, "share", structure["r_squared"]["all"]
    yield "coefficient.largest", "largest coefficient α_k", group, "magnitude", float(abs(coefficient).max())


def _norms(summaries: Mapping[str, Any], results: Mapping[str, xr.Dataset]) -> Iterator[_Row]:
    norms, told = results["weight_norms"].l2.isel(step=0), summaries["weight_norms"]
    yield "l2.total", "norm of all weights", "Norms", "magnitude", told["last_l2"]
    for tensor in map(str, norms.tensor.values):
        yield f"l2.{tensor}", f"norm of {tensor}", "Norms", "magnitude", float(norms.sel(tensor=tensor))
    for name, symbol in (("embedding", "W_E"), ("unembedding", "W_U")):
        label = f"key frequencies' share of ‖{symbol}‖²"
        yield f"key_share.{name}", label, "Norms", "share", told[f"key_share_of_{name}"]


def _ranks(summaries: Mapping[str, Any]) -> Iterator[_Row]:
    for matrix, rank in summaries["representation"]["effective_rank"].items():
        yield f"effective_rank.{matrix}", f"effective rank of {matrix}", "Ranks", "magnitude", rank


def _by_scale(summaries: Mapping[str, Any], names: Iterable[str], group: str) -> Iterator[_Row]:
    """The numbers of summaries that have a scale, under the name of their analysis."""
    for name in names:
        scales = find(name).scales
        for path, value in _leaves(summaries[name]):
            declared: list[Scale] = [scales[of] for of in scales if f"{path}.".startswith(of and f"{of}.")]
            if declared:
                label = f"{name}: {path.replace('.', ', ')}".replace("_", " ")
                yield f"{name}.{path}", label, group, declared[0], value


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, float | None]]:
    """The numbers of nested dictionaries, by dotted path; counts and steps, which are integers, are none of these."""
    if isinstance(value, Mapping):
        for key, entry in value.items():
            yield from _leaves(entry, f"{path}.{key}" if path else key)
    elif path and (value is None or isinstance(value, float)):
        yield path, value
