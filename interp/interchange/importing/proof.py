"""Proof by running: a network that was read right answers, and has the loss that its source says."""

import math
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, get_args

import torch

from interp.errors import InputError
from interp.experiment import MIXTURES, Operation, Task
from interp.figures import as_size
from interp.interchange.answers import Answers
from interp.interchange.importing.alternatives import Challenged, said, word
from interp.interchange.importing.challengers import Beside
from interp.interchange.importing.search import ANSWERS
from interp.interchange.importing.sources import Claim
from interp.interchange.layouts.fitting import Fitted
from interp.runs import Checkpoint

# Published code often stores the loss from before the update, and in float32, which cannot resolve less than 1.2e-7.
LOSS_FACTOR = 1.25
LOSS_FLOOR = 1e-6
ACCURACY_TOLERANCE = 0.01
# An operation is inferred from answers when it explains at least this share of them, and twice as many as any other.
INFERRED_ACCURACY = 0.2
# Less than this, a network is poor: it may be a memorizing one, or one that was read wrong. Only what is stored beside
# it, or the training pairs, can tell.
POOR = 0.5
MEMORIZED = 0.9
MOST_NAMED = 4  # activations that would answer as well
_STANDARD_ERRORS = 5.0
EXPORTED = "logits as at export"  # of how many pairs

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
    def answers_as_exported(self) -> bool:
        """Whether it gives the logits that were written when we exported it: then it is read right, however poor it
        is."""
        return any(entry["name"] == EXPORTED and entry["agrees"] for entry in self.compared)

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
    layout: str,
    fitted: Fitted,
    claims: Sequence[Claim],
    task_of: Callable[[int, str], Task],
    operations: Sequence[str],
    *,
    answers: Answers | None = None,
) -> list[Trial]:
    """A reading with every operation, the best first: one that agrees with what the source says (`answers`: what the
    network answered when we exported it), then the one with the most right answers."""
    found, refused = [], None
    check_memory(fitted)
    first: Checkpoint | None = None
    for operation in operations:
        try:
            task = task_of(fitted.p, operation)
        except InputError as error:
            refused = error
            continue  # a split with pairs for which this operation is not defined
        checkpoint = Checkpoint(-1, fitted.weights, task, fitted.model)
        if first is not None:
            checkpoint.__dict__["activations"] = first.activations  # the same network: only the labels differ
        first = first or checkpoint
        compared = [_compare(checkpoint, claim, claims) for claim in claims]
        compared += [entry for entry in [answers and _answered(checkpoint, answers)] if entry]
        found.append(Trial(layout, fitted, checkpoint, checkpoint.accuracy("all"), compared))
    for trial in found:
        # The largest arrays there are; losses and answers are kept.
        trial.checkpoint.__dict__.pop("activations", None)
    if refused is not None and not found:
        raise refused
    return sorted(found, key=lambda trial: (not trial.agrees, -trial.accuracy))


def check_memory(fitted: Fitted) -> None:
    """Raises InputError where all pairs at once are more than this machine holds: a small file can have a large p."""
    model, n_pairs = fitted.model, fitted.p**2
    # As measured: three times the logits, and twice the neurons, in float32.
    needed = n_pairs * (12 * fitted.p + 8 * model.d_mlp)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > memory:
        raise InputError(
            f"p = {fitted.p} and {model.d_mlp:,} neurons: the answers to all {n_pairs:,} pairs need more than "
            f"{as_size(needed)} of memory, and this machine has {as_size(memory)}"
        )


def prove(
    found: Sequence[Trial],
    challenged: Challenged,
    *,
    operation_given: bool,
    given: Collection[str] = (),
    challengers: Sequence[Beside] = (),
) -> Proof:
    """The best trial, judged: is it above chance and more than poor, is no other operation nearly as good, no other
    reading better, and does it agree with what the source says?

    Raises InputError where the operation must be told.
    """
    best = found[0]
    task, model = best.checkpoint.task, best.fitted.model
    chance = 1 / task.p
    least = chance + _STANDARD_ERRORS * math.sqrt(chance * (1 - chance) / int(task.defined.sum()))
    by_operation: dict[str, float] = {}
    for trial in found:
        by_operation.setdefault(trial.checkpoint.task.operation, trial.accuracy)
    others = [accuracy for operation, accuracy in by_operation.items() if operation != task.operation]
    stranger = None if best.answers_as_exported else _stranger(challengers)
    causes = _causes(best, challenged)
    if (
        not operation_given
        and not challenged.better
        and stranger is None
        and (best.accuracy < max(INFERRED_ACCURACY, least) or 2 * max(others, default=0) > best.accuracy)
    ):
        listed = ", ".join(f"{operation} {accuracy:.1%}" for operation, accuracy in by_operation.items())
        raise InputError(
            f"which operation this is cannot be told from its answers ({listed} right); give --task.operation; if they "
            f"are all poor, it may be read wrong: {causes}"
        )
    doubts = []
    if best.accuracy <= least and not best.agrees:
        doubts.append(f"it answers {best.accuracy:.1%} of the pairs right, and chance is {chance:.1%}")
    elif best.accuracy < POOR and not best.agrees and not _knows_its_training_pairs(best):
        doubts.append(
            f"it answers {best.accuracy:.1%} of the pairs right, more than chance ({chance:.1%}) and too poor to "
            "show that it was read right (where it memorizes, --split infer looks for the pairs that it was trained on)"
        )
    elif (
        best.accuracy < ANSWERS
        and (challenged.found or best.layout == "inferred")
        and not best.agrees
        and not _knows_its_training_pairs(best)
    ):
        listed = "; ".join(f"{word(one)} {said(challenged.guess[one])}" for one in challenged.found)
        doubts.append(
            f"the best reading that was found{f' ({listed})' if listed else ''} answers {best.accuracy:.1%} of the "
            f"pairs: what names and shapes do not tell is proved only by a network that answers {ANSWERS:.0%} (where "
            "it memorizes, --split infer looks for the pairs that it was trained on)"
        )
    poor = list(doubts) if best.accuracy > least else []
    for entry in best.compared:
        if entry["agrees"] is False:
            doubts.append(f"its source says {entry['name']} {entry['stored']:.4g}, and it has {_seen(entry)}")
    for other in () if best.answers_as_exported else challenged.better:
        doubts.append(
            f"{word(other.question)} {said(challenged.guess[other.question])} was given, and {said(other.option)} is "
            f"better: accuracy {other.outcome.accuracy:.4g} and loss {other.outcome.loss:.2g}, beside "
            f"{challenged.outcome.accuracy:.4g} and {challenged.outcome.loss:.2g}"
        )
    if stranger is not None:
        doubts.append(
            f"with {stranger.way.words} its answers are better: accuracy {stranger.outcome.accuracy:.4g} and loss "
            f"{stranger.outcome.loss:.2g}, beside {challenged.outcome.accuracy:.4g} and {challenged.outcome.loss:.2g}"
        )
        causes = "our models have nothing like that; where you have its code, bring it: --module FILE.py:NAME"
    facts = {
        "verified": not doubts,
        "accuracy": _json(best.accuracy),
        "loss": _json(best.checkpoint.loss("all")),
        "operation": f"{task.operation}, {'given or configured' if operation_given else 'inferred from the answers'}",
        "activation": f"{model.activation}, {_how_known(challenged, given, challengers)}",
        "tried": by_operation,
        "tried_activations": _by_activation(challenged),
        "readings": challenged.facts(),
        "assumed": challenged.assumed(),
        "claims": best.compared,
        "doubts": doubts,
        "poor": poor,  # of the doubts those that training pairs that are known by heart would take away
        "likely_causes": _SPLIT_WRONG
        if best.accuracy > 1 - ACCURACY_TOLERANCE and not challenged.better and stranger is None
        else causes,
    }
    return Proof(best, not doubts, facts)


def _stranger(challengers: Sequence[Beside]) -> Beside | None:
    """Of the ways to run the network that our models do not have, the best one that is better than ours."""
    better = [one for one in challengers if one.verdict == "better"]
    return max(better, key=lambda one: (one.outcome.accuracy, -one.outcome.loss), default=None)


def _knows_its_training_pairs(trial: Trial) -> bool:
    """Whether a network that does not generalize answers the pairs that it was trained on."""
    task = trial.checkpoint.task
    return bool(task.mask("train").any()) and trial.checkpoint.accuracy("train") >= MEMORIZED


def _causes(best: Trial, challenged: Challenged) -> str:
    """Why a network may answer poorly: how it was read, or damage, with what speaks for each."""
    if challenged.better:
        return "the likely cause is what was given; leave it out, or give what is better"
    tried = len(challenged.alternatives)
    reading = f"{_READ_WRONG}" + (f" ({tried} other readings were run, and none of these is better)" if tried else "")
    tied = [note for note in best.fitted.notes if "tied" in note]
    empty = [name for name, weight in best.fitted.weights.items() if _is_matrix(name) and not weight.any()]
    if empty:
        reading += f"; or damage: {', '.join(empty[:4])} hold nothing but zeros"
    return f"{reading}; {tied[0]}, which may not be so" if tied else reading


def _is_matrix(name: str) -> bool:
    return name.rpartition(".")[2].startswith("W_") and "W_pos" not in name


def _by_activation(challenged: Challenged) -> dict[str, float]:
    """The activations that were tried, and the accuracy with each."""
    taken = {challenged.guess["activation"]: challenged.outcome.accuracy} if "activation" in challenged.guess else {}
    beside = [one for one in challenged.alternatives if one.question == "activation"]
    return taken | {one.option: one.outcome.accuracy for one in beside}


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


def _how_known(challenged: Challenged, given: Collection[str], challengers: Sequence[Beside]) -> str:
    if "activation" in given:
        # A square makes any network louder, and so its loss lower where it answers.
        others = [one for one in challenged.as_good("activation") if one.option != "square"]
        half = [one for one in others if one.outcome.loss < 0.5 * challenged.outcome.loss]
        words = " and ".join(str(one.option) for one in half)
        return (
            f"given or configured ({words} would answer with less than half of the loss)"
            if half
            else "given or configured"
        )
    near = [str(one.option) for one in challenged.as_good("activation")]
    near += [
        str(one.way.activation)
        for one in challengers
        if one.way.words == f"the activation {one.way.activation}" and one.verdict == "as good"
    ]
    if not near:
        return "inferred from the answers"
    words = " and ".join(near[:MOST_NAMED]) + (f" and {len(near) - MOST_NAMED} more" if near[MOST_NAMED:] else "")
    return f"assumed ({words} would answer as well; --model.activation)"


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


def _answered(checkpoint: Checkpoint, answers: Answers) -> dict[str, Any] | None:
    """What was answered at export beside what is answered now; None where it tells nothing."""
    if (found := answers.agreeing(checkpoint)) is None:
        return None
    n = len(answers.told)
    return {"name": EXPORTED, "stored": n, "found": found, "agrees": found == n}


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
    """The operation that is given, or all that have a table of their own. A mixture has not: half of its answers are
    those of each of its parts, so that either could be taken for it, and it must be given."""
    return (given,) if given else tuple(name for name in get_args(Operation) if name not in ("random", *MIXTURES))


def check_numbers(where: str, weights: Mapping[str, torch.Tensor]) -> None:
    """Raises InputError, naming the tensor, for one that holds NaN or infinity."""
    for name, weight in weights.items():
        if not all(end.isfinite() for end in weight.aminmax()):  # without a copy; NaN comes out as both
            raise InputError(f"{where}: {name} holds NaN or infinity; leave this checkpoint out")


def task_with(p: int, operation: Any, split: tuple[int, ...] | None, train_fraction: float | None) -> Task:
    """The task of an import."""
    fraction = train_fraction if train_fraction is not None else Task.train_fraction
    return Task(p=p, operation=operation, split=split if split is not None else "unknown", train_fraction=fraction)
