"""From sources to one reading of them: the layout recognized, the model fitted, the reading proved by running it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from interp.errors import InputError, check_number, flag
from interp.experiment import ModelConfig, Task
from interp.interchange.importing.configuration import Fields, configuration_of, shown
from interp.interchange.importing.proof import (
    activations_to_try,
    check_numbers,
    operations_to_try,
    prove,
    task_with,
    trials,
    with_likelier_operation,
)
from interp.interchange.importing.sources import Source
from interp.interchange.importing.splits import split_of
from interp.interchange.layouts.fitting import Fitted, fit, of_no_use
from interp.interchange.layouts.mapping import Mapped
from interp.interchange.layouts.matching import Match, Mismatch, converted, match, nearest, recognize, split_axes
from interp.interchange.layouts.tables import LAYOUTS, Layout, layout_named
from interp.models import Weights

_SIZES = ("n_heads", "d_head", "d_model", "d_mlp")


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

    layout: Layout
    task: Task
    model: ModelConfig
    facts: Mapping[str, Any]  # of the proof, in JSON values
    given: Fields
    drop: tuple[str, ...]
    notes: tuple[str, ...]
    split_from: str

    def weights_of(self, source: Source) -> Weights:
        """The weights of one of the sources. Raises InputError for one that is not like the one that was proved."""
        tensors = source.load()
        found = match(
            self.layout, {name: tuple(tensor.shape) for name, tensor in tensors.items()}, _known_sizes(self.given)
        )
        if isinstance(found, Mismatch):
            raise InputError(
                f"{source.where} is not in the layout {self.layout.name!r} like the others: {found.reason}"
            )
        _why_left_over(found, tensors, self.drop, source.where)
        fitted = fit(
            converted(found, tensors), found.sizes, {**self.given, "activation": self.model.activation}, self.task.p
        )
        if fitted.model != self.model:
            raise InputError(f"{source.where} has other sizes than the others: {fitted.model}, expected {self.model}")
        check_numbers(source.where, fitted.weights)
        return fitted.weights


def read(sources: Sequence[Source], known: Known) -> Reading:
    """Recognize, fit and run the sources; the last checkpoint is the one that is proved, or where it answers nothing,
    one before it.

    Raises InputError where no layout fits, where something must be given, and for what contradicts itself.
    """
    last = sources[-1]
    task_found, model_found, configured = configuration_of(last, known.configuration)
    task_fields, model_fields = {**task_found, **known.task}, {**model_found, **known.model}
    # The words of the configuration file are for several families; what the tensors say comes first, and a
    # contradiction is told there.
    fraction = _fraction(known.train_fraction, task_fields)
    notes = [f"{configured} says: {shown({**task_found, **model_found})}"] if task_found or model_found else []
    matches = _matches(last, known, model_fields)
    readings: list[tuple[Match, Fitted]] = []
    refused: list[InputError] = []
    drop = known.mapping.drop if known.mapping else ()
    tensors = last.load()
    dropped: dict[str, tuple[str, ...]] = {}
    for found in matches:
        try:
            reasons = _why_left_over(found, tensors, drop, last.where)
            _check_told(found, model_fields)
            fitted = fit(converted(found, tensors), found.sizes, model_fields, task_fields.get("p"))
            check_numbers(last.where, fitted.weights)
            readings.append((found, fitted))
            dropped[found.layout.name] = tuple(f"{name!r} was left out: {reason}" for name, reason in reasons.items())
        except InputError as error:
            refused.append(error)
    if not readings:
        raise _better_explained(refused[0], matches[0], last, known, model_fields)
    with_split = (
        source.beside for source in (last, *sources) if {"train_indices", "train_data"} & source.beside.keys()
    )
    readings, splits = _with_splits(readings, known.split, fraction, next(with_split, {}))
    operation = task_fields.get("operation")
    proof = None
    for source in _to_prove(sources):
        again = (
            [(found.layout.name, fitted) for found, fitted in readings]
            if source is last
            else _fitted_again(source, readings, model_fields)
        )
        tried = partial(
            trials,
            again,
            task_of=lambda p, operation: task_with(p, operation, splits[p][0], fraction),
            activations=activations_to_try(model_fields.get("activation")),
        )
        try:
            outcome = prove(
                tried(source.claims, operations=operations_to_try(operation)), operation_given=operation is not None
            )
        except InputError as error:
            refused.append(error)
            continue
        if not outcome.verified and operation is not None:
            activation = outcome.trial.fitted.model.activation
            outcome = with_likelier_operation(
                outcome, tried((), operations=operations_to_try(None), activations=(activation,))
            )
        outcome = replace(outcome, facts=outcome.facts | {"step": source.step})
        proof = proof or outcome
        if outcome.verified:
            proof = outcome
            break
        if outcome.facts["claims"]:
            break
    if proof is None:
        raise refused[-1]
    chosen = next(found for found, _ in readings if found.layout.name == proof.trial.layout)
    notes += [*dropped[chosen.layout.name], *proof.trial.fitted.notes]
    task, model = proof.trial.checkpoint.task, proof.trial.fitted.model
    return Reading(chosen.layout, task, model, proof.facts, dict(model_fields), drop, tuple(notes), splits[task.p][1])


def _fraction(given: float | None, task: Fields) -> float | None:
    """The share of pairs trained on, as given or configured, if it is known."""
    fraction = given if given is not None else task.get("train_fraction")
    if fraction is not None:
        check_number("--train-fraction", fraction, 0, 1, above=True)
    return fraction


def _with_splits(
    readings: list[tuple[Match, Fitted]], way: str | None, fraction: float | None, stored: Mapping[str, Any]
) -> tuple[list[tuple[Match, Fitted]], dict[int, tuple[tuple[int, ...] | None, str]]]:
    """The readings whose p the split can be of, and that split. Where W_in and W_out leave open which axis is p, a
    split may tell."""
    splits, refused = {}, []
    for p in dict.fromkeys(fitted.p for _, fitted in readings):
        try:
            splits[p] = split_of(way, p, fraction, stored)
        except InputError as error:
            refused.append(error)
    if not splits:
        raise refused[0]
    return [entry for entry in readings if entry[1].p in splits], splits


def unverified(facts: Mapping[str, Any]) -> InputError:
    """The refusal of a reading that could not be proved."""
    doubts, causes = "; ".join(facts["doubts"]), facts["likely_causes"]
    return InputError(f"the import cannot be verified: {doubts}; {causes}; --accept-unverified imports it all the same")


def _to_prove(sources: Sequence[Source]) -> list[Source]:
    """The last checkpoint, and for a run whose end answers nothing, two before it."""
    places = dict.fromkeys((len(sources) - 1, 3 * len(sources) // 4, len(sources) // 2))
    return [sources[place] for place in places if place < len(sources)]


def _fitted_again(source: Source, readings: Sequence[tuple[Match, Fitted]], model: Fields) -> list[tuple[str, Fitted]]:
    tensors = source.load()
    again = []
    for found, fitted in readings:
        other = match(
            found.layout, {name: tuple(tensor.shape) for name, tensor in tensors.items()}, _known_sizes(model)
        )
        if isinstance(other, Match):
            again.append((found.layout.name, fit(converted(other, tensors), other.sizes, model, fitted.p)))
    if not again:
        raise InputError(f"{source.where} is not in the layout of the last checkpoint")
    return again


def _known_sizes(model: Mapping[str, Any]) -> dict[str, int]:
    return {name: model[name] for name in _SIZES if model.get(name) is not None}


def _matches(source: Source, known: Known, model: Mapping[str, Any]) -> list[Match]:
    layouts = _layouts(source, known)
    matches = recognize(source.shapes, layouts, _known_sizes(model))
    if not matches:
        raise _unknown_layout(source, nearest(layouts, source.shapes, _known_sizes(model)))
    return matches


def _layouts(source: Source, known: Known) -> list[Layout]:
    """The layouts that come into question."""
    if known.mapping is None:
        return [layout_named(known.layout)] if known.layout else list(LAYOUTS.values())
    absent = [name for name in known.mapping.layout.rules if name not in source.shapes]
    if absent:
        has = _names(source.shapes)
        raise InputError(f"{source.where} has no tensor {absent[0]!r}, which the mapping file speaks of; it has {has}")
    return [known.mapping.layout]


def _unknown_layout(source: Source, miss: Mismatch | None) -> InputError:
    why = (
        f"the nearest is {miss.layout.name!r}, but {miss.reason}"
        if miss and miss.found
        else f"it has {_names(source.shapes)}"
    )
    return InputError(
        f"{source.where} is in no layout that is known; {why}; "
        "`interp import --dry-run` shows its tensors and a mapping file to fill in, for --mapping"
    )


def _better_explained(
    refusal: InputError, found: Match, source: Source, known: Known, model: Mapping[str, Any]
) -> InputError:
    """A part of a network can fit a small layout; then a larger one that lacks little says more."""
    miss = nearest(_layouts(source, known), source.shapes, _known_sizes(model))
    return _unknown_layout(source, miss) if miss and found.left_over and miss.found > len(found.tensors) else refusal


def _names(names: Mapping[str, Any]) -> str:
    listed = [repr(name) for name in names]
    return ", ".join(listed[:8]) + (", …" if len(listed) > 8 else "")


def _check_told(found: Match, model: Mapping[str, Any]) -> None:
    """Raises InputError, by its flag, for what neither names nor shapes tell."""
    for entry in found.tensors.values():
        for group in split_axes(entry.rule.pattern.split("->")[0]):
            if any(axis not in found.sizes for axis in group):
                raise InputError(
                    f"the layout {found.layout.name!r} does not tell the number of heads; give "
                    f"--model.{flag('n_heads')}"
                )
    if found.layout.name == "nanda" and found.sizes["n_ctx"] == 2 and model.get("attention_rate") is None:
        raise InputError(
            "a prompt without '=' in the layout of Zhong et al. has an attention rate (attn_coeff in their "
            "configuration file); give --model.attention-rate, 1 for plain attention"
        )


def _why_left_over(found: Match, tensors: Mapping[str, Tensor], drop: Sequence[str], where: str) -> dict[str, str]:
    """Why each tensor that the layout does not know may be left out. Raises InputError for one that may matter."""
    recognized = {entry.theirs: tensors[entry.theirs] for entry in found.tensors.values()}
    for name, tensor in recognized.items():
        if not tensor.is_floating_point():
            raise InputError(f"{where}: tensor {name!r} is of type {tensor.dtype}; weights are floating-point numbers")
    reasons = {}
    for name in found.left_over:
        why = "as the mapping file says" if name in drop else of_no_use(name, tensors[name], recognized)
        if why is None:
            raise InputError(
                f"{where} fits the layout {found.layout.name!r} but for tensor {name!r} {list(tensors[name].shape)}, "
                "which is not known to be of no use; our models have no such part. Where it is, say so in a mapping "
                "file: drop"
            )
        reasons[name] = why
    return reasons
