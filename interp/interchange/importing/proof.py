"""Proof by running: a network that was read right answers, and has the loss that its source says."""

import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, get_args

import torch

from interp.errors import InputError
from interp.experiment import Activation, Operation, Task
from interp.interchange.importing.sources import Claim
from interp.interchange.layouts.fitting import Fitted
from interp.runs import Checkpoint

# Published code often stores the loss from before the update, and in float32, which cannot resolve less than 1.2e-7.
LOSS_FACTOR = 1.25
LOSS_FLOOR = 1e-6
ACCURACY_TOLERANCE = 0.01
# An operation is inferred from answers when it explains at least this share of them, and twice as many as any other.
INFERRED_ACCURACY = 0.2
_STANDARD_ERRORS = 5.0

_READ_WRONG = (
    "the likely causes: orientation of the matrices, a class for '=', --task.operation, --task.p, "
    "--model.attention-rate, --split"
)
_SPLIT_WRONG = (
    "a misread network would not answer so well: the likely cause is --split, or that the source "
    "speaks of another checkpoint"
)


class Trial(NamedTuple):
    """A reading of the source, run over all pairs: what it answers if the task is `checkpoint.task`."""

    layout: str
    fitted: Fitted
    checkpoint: Checkpoint
    accuracy: float  # over all pairs
    compared: list[dict[str, Any]]  # what the source says beside what is found

    @property
    def agrees(self) -> bool | None:
        """Whether what the source says is so; None where it says nothing that can be compared."""
        known = [entry["agrees"] for entry in self.compared if entry["agrees"] is not None]
        return all(known) if known else None


@dataclass(frozen=True)
class Proof:
    """What was checked, in JSON values."""

    trial: Trial
    verified: bool
    facts: dict[str, Any]


def trials(
    readings: Iterable[tuple[str, Fitted]],
    claims: Sequence[Claim],
    task_of: Callable[[int, str], Task],
    operations: Sequence[str],
    activations: Sequence[str],
) -> list[Trial]:
    """Every reading with every activation and operation, the best first: one that agrees with what the source says,
    then the one with the most right answers, then, as many networks answer with any activation, the one whose
    activation comes first."""
    found, refused = [], None
    for layout, fitted in readings:
        _check_memory(fitted)
        for activation in activations:
            model = replace(fitted.model, activation=activation)
            first: Checkpoint | None = None
            for operation in operations:
                try:
                    task = task_of(fitted.p, operation)
                except InputError as error:
                    refused = error
                    continue  # a split with pairs for which this operation is not defined
                checkpoint = Checkpoint(-1, fitted.weights, task, model)
                if first is not None:
                    checkpoint.__dict__["activations"] = first.activations  # the same network: only the labels differ
                first = first or checkpoint
                compared = [_compare(checkpoint, claim, claims) for claim in claims]
                found.append(
                    Trial(layout, fitted._replace(model=model), checkpoint, checkpoint.accuracy("all"), compared)
                )
            for trial in found:
                # The largest arrays there are; losses and answers are kept.
                trial.checkpoint.__dict__.pop("activations", None)
    if refused is not None and not found:
        raise refused
    order = list(activations)
    return sorted(
        found,
        key=lambda trial: (
            not trial.agrees,
            -round(trial.accuracy, 2),
            order.index(trial.fitted.model.activation),
            -trial.accuracy,
        ),
    )


def _check_memory(fitted: Fitted) -> None:
    """Raises InputError where all pairs at once are more than this machine holds: a small file can have a large p."""
    model, n_pairs = fitted.model, fitted.p**2
    # As measured: three times the logits, and twice the neurons, in float32.
    needed = n_pairs * (12 * fitted.p + 8 * model.d_mlp)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > memory:
        raise InputError(
            f"p = {fitted.p} and {model.d_mlp:,} neurons: the answers to all {n_pairs:,} pairs need more than "
            f"{needed / 1e9:,.1f} GB of memory, and this machine has {memory / 1e9:,.1f} GB"
        )


def prove(found: Sequence[Trial], *, operation_given: bool) -> Proof:
    """The best trial, judged: is it above chance, is no other operation nearly as good, and does it agree with what the
    source says?

    Raises InputError where the operation must be told.
    """
    best = found[0]
    task, model = best.checkpoint.task, best.fitted.model
    chance = 1 / task.p
    least = chance + _STANDARD_ERRORS * math.sqrt(chance * (1 - chance) / int(task.defined.sum()))
    by_operation: dict[str, float] = {}
    by_activation: dict[str, float] = {}
    for trial in found:
        if trial.fitted.model.activation == model.activation:
            by_operation.setdefault(trial.checkpoint.task.operation, trial.accuracy)
        if trial.checkpoint.task.operation == task.operation:
            by_activation.setdefault(trial.fitted.model.activation, trial.accuracy)
    others = [accuracy for operation, accuracy in by_operation.items() if operation != task.operation]
    if not operation_given and (
        best.accuracy < max(INFERRED_ACCURACY, least) or 2 * max(others, default=0) > best.accuracy
    ):
        listed = ", ".join(f"{operation} {accuracy:.1%}" for operation, accuracy in by_operation.items())
        raise InputError(
            f"which operation this is cannot be told from its answers ({listed} right); give --task.operation"
        )
    doubts, right = [], best.accuracy > 1 - ACCURACY_TOLERANCE
    if best.accuracy <= least and not best.agrees:
        doubts.append(f"it answers {best.accuracy:.1%} of the pairs right, and chance is {chance:.1%}")
    for entry in best.compared:
        if entry["agrees"] is False:
            doubts.append(f"its source says {entry['name']} {entry['stored']:.4g}, and it has {_seen(entry)}")
    facts = {
        "verified": not doubts,
        "accuracy": _json(best.accuracy),
        "loss": _json(best.checkpoint.loss("all")),
        "operation": f"{task.operation}, {'given or configured' if operation_given else 'inferred from the answers'}",
        "activation": f"{model.activation}, {_how_known(by_activation, model.activation)}",
        "tried": by_operation,
        "tried_activations": by_activation,
        "claims": best.compared,
        "doubts": doubts,
        "likely_causes": _SPLIT_WRONG if right else _READ_WRONG,
    }
    return Proof(best, not doubts, facts)


def with_likelier_operation(proof: Proof, others: Sequence[Trial]) -> Proof:
    """A proof that failed, with an operation that the answers fit far better than the one that was given, if there is
    one."""
    best = max(others, key=lambda trial: trial.accuracy)
    if best.accuracy < max(INFERRED_ACCURACY, 2 * proof.trial.accuracy):
        return proof
    cause = (
        f"the likely cause is --task.operation, as {best.accuracy:.1%} of the answers are right for "
        f"{best.checkpoint.task.operation}"
    )
    return replace(proof, facts=proof.facts | {"likely_causes": cause})


def _how_known(accuracies: Mapping[str, float], chosen: str) -> str:
    if len(accuracies) == 1:
        return "given or configured"
    as_good = [
        activation
        for activation, accuracy in accuracies.items()
        if activation != chosen and accuracy > accuracies[chosen] - 0.01
    ]
    return (
        f"assumed ({' and '.join(as_good)} would answer as well; --model.activation)"
        if as_good
        else "inferred from the answers"
    )


def above_chance(task: Task) -> tuple[float, float]:
    """The accuracy over all pairs above which it is clear of chance, and chance."""
    chance = 1 / task.p
    return chance + _STANDARD_ERRORS * math.sqrt(chance * (1 - chance) / int(task.defined.sum())), chance


def compared(checkpoint: Checkpoint, claims: Sequence[Claim]) -> list[dict[str, Any]]:
    """What the source says beside what the network does."""
    return [_compare(checkpoint, claim, claims) for claim in claims]


def _compare(checkpoint: Checkpoint, claim: Claim, claims: Sequence[Claim]) -> dict[str, Any]:
    """A claim beside what the network does. Where the split that it speaks of is not known, `agrees` is None, or False
    for what no split has: a mean over some of the pairs lies between the least and the largest of all, and the mean
    over all pairs between those over training and test pairs."""
    if checkpoint.task.mask(claim.split).any():
        found = getattr(checkpoint, claim.measure)(claim.split)
        return {
            "name": claim.name,
            "stored": claim.value,
            "found": _json(found),
            "agrees": _agrees(claim.measure, claim.value, found),
        }
    of_pairs = (checkpoint.losses if claim.measure == "loss" else checkpoint.correct)[checkpoint.task.defined].astype(
        float
    )
    least, mean, most = float(of_pairs.min()), float(of_pairs.mean()), float(of_pairs.max())
    beside = [
        other.value
        for other in claims
        if other.measure == claim.measure and {other.split, claim.split} == {"train", "test"}
    ]
    if beside:
        least, most = (mean, most) if claim.value > max(beside) else (least, mean)
    possible = least <= claim.value <= most or any(_agrees(claim.measure, claim.value, end) for end in (least, most))
    possible = possible or (claim.measure == "accuracy" and least <= claim.value / 100 <= most)
    between = {"least": _json(least), "most": _json(most)}
    return {"name": claim.name, "stored": claim.value, "found": None, "agrees": None if possible else False, **between}


def _seen(entry: Mapping[str, Any]) -> str:
    if entry["found"] is not None:
        return f"{entry['found']:.4g}"
    least, most = f"{entry['least']:.4g}", f"{entry['most']:.4g}"
    return f"{least if least == most else f'{least} to {most}'} whatever the split"


def _agrees(measure: str, stored: float, found: float) -> bool:
    if measure == "accuracy":
        # Some store per cent.
        return min(abs(stored - found), abs(stored / 100 - found)) <= ACCURACY_TOLERANCE
    if max(stored, found) <= LOSS_FLOOR:
        return True
    return min(stored, found) > 0 and max(stored, found) <= LOSS_FACTOR * min(stored, found)


def _json(value: float | None) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None


def operations_to_try(given: str | None) -> tuple[str, ...]:
    """The operation that is given, or all that have a table of their own."""
    return (given,) if given else tuple(name for name in get_args(Operation) if name != "random")


def activations_to_try(given: str | None) -> tuple[str, ...]:
    """The activation that is given, or all."""
    return (given,) if given else get_args(Activation)


def check_numbers(where: str, weights: Mapping[str, torch.Tensor]) -> None:
    """Raises InputError, naming the tensor, for one that holds NaN or infinity."""
    for name, weight in weights.items():
        if not all(end.isfinite() for end in weight.aminmax()):  # without a copy; NaN comes out as both
            raise InputError(f"{where}: {name} holds NaN or infinity; leave this checkpoint out")


def task_with(p: int, operation: Any, split: tuple[int, ...] | None, train_fraction: float | None) -> Task:
    """The task of an import."""
    fraction = train_fraction if train_fraction is not None else Task.train_fraction
    return Task(p=p, operation=operation, split=split if split is not None else "unknown", train_fraction=fraction)
