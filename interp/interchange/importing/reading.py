"""From sources to one reading of them: the layout recognized, the model fitted, the reading proved by running it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from interp.errors import InputError, check_number
from interp.experiment import ModelConfig, Task
from interp.interchange.importing.alternatives import challenge, with_free
from interp.interchange.importing.challengers import beside
from interp.interchange.importing.configuration import (
    Fields,
    answers_beside,
    check_we_have,
    configuration_of,
    shown,
)
from interp.interchange.importing.proof import (
    Proof,
    Trial,
    check_memory,
    check_numbers,
    operations_to_try,
    prove,
    task_with,
    trials,
    with_likelier_operation,
)
from interp.interchange.importing.recognition import check_family, find_candidates, tensors_of, why_left_over
from interp.interchange.importing.search import Judge, Search, is_better
from interp.interchange.importing.sources import Source
from interp.interchange.importing.splits import split_of
from interp.interchange.layouts.candidates import Candidate, Guess, as_questions, with_every_token
from interp.interchange.layouts.fitting import Fitted
from interp.interchange.layouts.mapping import Mapped
from interp.models import Weights


@dataclass(frozen=True)
class Known:
    """What the person says of the source. Fields of Task and ModelConfig that are not known are absent."""

    task: Mapping[str, Any] = field(default_factory=dict)
    model: Mapping[str, Any] = field(default_factory=dict)
    split: str | None = None
    train_fraction: float | None = None
    layout: str | None = None
    mapping: Mapped | None = None
    configuration: Path | None = None


@dataclass(frozen=True)
class Reading:
    """How every checkpoint of the sources is read, and the proof of it."""

    candidate: Candidate
    guess: Guess
    task: Task
    model: ModelConfig
    facts: Mapping[str, Any]  # of the proof, in JSON values
    given: Fields
    drop: tuple[str, ...]
    notes: tuple[str, ...]
    split_from: str
    shapes: Mapping[str, tuple[int, ...]]

    @property
    def layout(self) -> str:
        """The name of the layout, or `inferred`."""
        return self.candidate.layout

    def weights_of(self, source: Source) -> Weights:
        """The weights of one of the sources. Raises InputError for one that is not like the one that was proved."""
        return self.fitted(source).weights

    def fitted(self, source: Source) -> Fitted:
        """The network of one of the sources, read as the others."""
        tensors = tensors_of(source)
        for name in sorted(self.candidate.used):
            if name not in tensors:
                raise InputError(
                    f"{source.where} is not in the layout {self.layout!r} like the others: {name!r} is missing"
                )
            if (shape := tuple(tensors[name].shape)) != self.shapes[name]:
                raise InputError(
                    f"{source.where} has other sizes than the others: {name!r} has shape {list(shape)}, expected "
                    f"{list(self.shapes[name])}"
                )
        why_left_over(self.candidate, tensors, self.drop, source.where)
        # What a first checkpoint does not show yet, biases that are still zero, it has all the same.
        settled = {"biases": self.model.biases, "tied": self.model.tied, "activation": self.model.activation}
        fitted = self.candidate.fitted(tensors, self.guess, {**self.given, **settled}, self.task.p)
        if fitted.model != self.model:
            raise InputError(f"{source.where} has other sizes than the others: {fitted.model}, expected {self.model}")
        check_numbers(source.where, fitted.weights)
        return fitted


def read(sources: Sequence[Source], known: Known) -> Reading:
    """Recognize, fit and run the sources; the last checkpoint is the one that is proved, or where it answers nothing,
    one before it.

    Raises InputError where no layout fits, where something must be given, and for what contradicts itself.
    """
    last = sources[-1]
    task_found, model_found, configured = configuration_of(last, known.configuration)
    check_we_have(last, known.configuration)
    mapped = dict(known.mapping.model) if known.mapping else {}
    task_fields, model_fields = {**task_found, **known.task}, as_questions({**model_found, **mapped, **known.model})
    # The words of the configuration file are for several families; what the tensors say comes first, and a
    # contradiction is told there.
    fraction = _fraction(known.train_fraction, task_fields)
    notes = [f"{configured} says: {shown({**task_found, **model_found})}"] if task_found or model_found else []
    tensors, p = tensors_of(last), task_fields.get("p")
    found = find_candidates(last, tensors, known, model_fields, p)
    check_family(found, known)
    with_split = next((one for one in (last, *sources) if {"train_indices", "train_data"} & one.beside.keys()), last)
    operation = task_fields.get("operation")
    asked = _Asked(model_fields, p, operation, known.split, fraction, with_split, known.configuration)
    proof, proved, refused = None, None, []
    for source in _to_prove(sources):
        theirs = tensors if source is last else tensors_of(source)
        try:
            search, guess, splits = _searched(source, theirs, found, asked)
            outcome, guess = _proved(search, guess, source, splits, asked)
        except InputError as error:
            refused.append(error)
            continue
        outcome = replace(outcome, facts=outcome.facts | {"step": source.step, "runs": search.runs})
        if proof is None or outcome.verified:
            proof, proved = outcome, (search.candidate, guess, splits)
        if outcome.verified or outcome.facts["claims"]:
            break
    if proof is None or proved is None:
        raise refused[0] if not refused[0].args[0].startswith("which operation") else refused[-1]
    candidate, guess, splits = proved
    reasons = why_left_over(candidate, tensors, known.mapping.drop if known.mapping else (), last.where)
    notes += [*candidate.notes, *(f"{name!r} was left out: {reason}" for name, reason in reasons.items())]
    notes += [*proof.facts["found_by_running"], *proof.trial.fitted.notes]
    # Of the activation the line of the proof speaks.
    notes += [f"assumed: {text}" for text in proof.facts["assumed"] if not text.startswith("activation ")]
    task, model = proof.trial.checkpoint.task, proof.trial.fitted.model
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    drop = known.mapping.drop if known.mapping else ()
    return Reading(
        candidate, guess, task, model, proof.facts, dict(model_fields), drop, tuple(notes), splits[1], shapes
    )


Split = tuple[tuple[int, ...] | None, str]


class _Asked(NamedTuple):
    """What was said of all sources."""

    model: Fields
    p: int | None
    operation: str | None
    split: str | None
    fraction: float | None
    with_split: Source  # that has the split beside its weights, if one has
    configuration: Path | None


def _searched(
    source: Source, tensors: Mapping[str, Tensor], found: Sequence[Candidate], asked: _Asked
) -> tuple[Search, Guess, Split]:
    """The candidate that answers best, with its best guess, and the split; one whose p the split cannot be of is none.
    Where the orientation of a matrix leaves p open, a split may tell."""
    stored = asked.with_split
    judge, every = Judge(operations_to_try(asked.operation)), Judge(operations_to_try(None))
    best: tuple[Search, Guess, Split] | None = None
    refused = []
    for candidate in found:
        try:
            search = Search(candidate, tensors, asked.model, asked.p, judge)
            first = search.fitted(candidate.default)
            check_numbers(source.where, first.weights)
            check_memory(first)
            guess = search.best()
            if asked.operation is not None and not search.answers(guess):
                # Where the operation is wrong, the reading that answers is found with another.
                other = Search(candidate, tensors, asked.model, asked.p, every)
                right = other.best()
                search, guess = (other, right) if other.answers(right) else (search, guess)
            split = split_of(asked.split, search.fitted(guess).p, asked.fraction, stored.beside, stored.where)
        except InputError as error:
            refused.append(error)
            continue
        outcome = search.outcome(guess)
        assert outcome is not None
        beside = best[0].outcome(best[1]) if best is not None else None
        if best is None or beside is None or is_better(outcome, beside):
            best = search, guess, split
    if best is None:
        raise refused[0]
    return best


def _proved(search: Search, guess: Guess, source: Source, split: Split, asked: _Asked) -> tuple[Proof, Guess]:
    """The proof of a guess, with the guess that is better or that the source's own numbers tell."""
    given = [question for question in guess if asked.model.get(question) is not None]
    challenged = challenge(search, guess, given)
    said = [*given, *(("tokens",) if "tokens" not in given and _are_tokens_said(guess, asked) else ())]
    if said and not search.answers(challenged.guess):
        # What was given may be what is wrong: then the network answers with something else.
        candidate = with_every_token(search.candidate, search.tensors) if "tokens" in said else search.candidate
        free = Search(candidate, search.tensors, search.given, None, search.judge, free=True)
        answering = free.best()
        if free.answers(answering):
            challenged = with_free(replace(challenged, given=tuple(said)), free, answering)

    def tried(guess: Guess, operations: Sequence[str]) -> list[Trial]:
        return trials(
            search.candidate.layout,
            search.fitted(guess),
            source.claims,
            lambda p, operation: task_with(p, operation, split[0], asked.fraction),
            operations,
            answers=answers_beside(source, asked.configuration),
        )

    found = tried(challenged.guess, operations_to_try(asked.operation))
    if found[0].agrees is False:
        for other in challenged.alternatives:
            if other.verdict != "as good" or other.question in given:
                continue
            guess = {**challenged.guess, other.question: other.option}
            again = tried(guess, operations_to_try(asked.operation))
            if again[0].agrees:  # what the source says of itself tells what the answers do not
                challenged, found = challenge(search, guess, (*given, other.question)), again
                break
    fitted = search.fitted(challenged.guess)
    challengers = beside(search.judge, fitted, challenged.outcome)
    outcome = prove(
        found, challenged, operation_given=asked.operation is not None, given=given, challengers=challengers
    )
    if not outcome.verified and asked.operation is not None:
        outcome = with_likelier_operation(outcome, tried(challenged.guess, operations_to_try(None)))
    found_by_running = challenged.notes(search.candidate.default)
    return replace(outcome, facts=outcome.facts | {"found_by_running": found_by_running}), challenged.guess


def _are_tokens_said(guess: Guess, asked: _Asked) -> bool:
    """Whether something was said of the tokens that a transformer reads: p, the prompt or the vocabularies."""
    words = (asked.p, asked.model.get("prompt"), asked.model.get("vocabularies"))
    return "tokens" in guess and any(word is not None for word in words)


def _fraction(given: float | None, task: Fields) -> float | None:
    """The share of pairs trained on, as given or configured, if it is known."""
    fraction = given if given is not None else task.get("train_fraction")
    if fraction is not None:
        check_number("--train-fraction", fraction, 0, 1, above=True)
    return fraction


def unverified(facts: Mapping[str, Any]) -> InputError:
    """The refusal of a reading that could not be proved."""
    doubts, causes = "; ".join(facts["doubts"]), facts["likely_causes"]
    return InputError(f"the import cannot be verified: {doubts}; {causes}; --accept-unverified imports it all the same")


def _to_prove(sources: Sequence[Source]) -> list[Source]:
    """The last checkpoint, and for a run whose end answers nothing, two before it."""
    places = dict.fromkeys((len(sources) - 1, 3 * len(sources) // 4, len(sources) // 2))
    return [sources[place] for place in places if place < len(sources)]
