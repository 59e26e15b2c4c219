"""From results to a verdict, a table of numbers and a short text. Every sentence follows from a stored result; what is
unknown is said."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from textwrap import fill
from typing import Any

import xarray as xr

from interp.analysis import analyze, find
from interp.errors import InputError
from interp.experiment import json_values
from interp.explanation.doubts import against, unsaid
from interp.explanation.run_facts import Setting, setting_of
from interp.explanation.sentences import (
    Summaries,
    headline,
    how_it_ended,
    the_circuit,
    the_competition,
    the_norms,
    the_phases,
    the_task,
    what_happened,
)
from interp.figures import as_norm, as_number, as_step, notebook
from interp.mathematics import grokking
from interp.runs import Run, check_has_phases

# What an explanation is made of.
EVIDENCE = (
    "calibration",
    "circuit_efficiency",
    "circuit_split",
    "clock_pizza",
    "embedding_spectrum",
    "frequency_ablation",
    "learning_curves",
    "logit_structure",
    "neuron_periodicity",
    "progress_measures",
    "transitions",
    "weight_norms",
)
SPLITS = ("all", "train", "test")


@dataclass(frozen=True)
class Fact:
    """One measured value of the story: what, how much, and where it comes from."""

    label: str
    value: str
    analysis: str


@dataclass(frozen=True)
class Explanation:
    """A verdict for a run and a state for one of its checkpoints, with the numbers (documented in docs/guide.md), the
    main facts, the text in paragraphs, what speaks against it, and what cannot be said.

    >>> fact = Fact("key frequencies", "2, 5", "embedding_spectrum")
    >>> print(Explanation({}, "It grokked.", (fact,), ("It adds.",), (), ()).headline)
    It grokked.
    >>> str(Explanation({}, "It grokked.", (fact,), ("It adds.",), (), ())).splitlines()[1]
    '  key frequencies  2, 5'
    """

    numbers: dict[str, Any]
    headline: str
    facts: tuple[Fact, ...]
    paragraphs: tuple[str, ...]
    against: tuple[str, ...]
    unsaid: tuple[str, ...]

    _repr_html_ = notebook.of_explanation

    def __str__(self) -> str:
        width = max(len(fact.label) for fact in self.facts)
        table = [f"  {fact.label:<{width}}  {fact.value}" for fact in self.facts]
        doubts = [f"  - {sentence}" for sentence in self.against] or ["  nothing found"]
        text = [fill(paragraph, 100) for paragraph in self.paragraphs]
        unsaid = [f"  - {sentence}" for sentence in self.unsaid]
        return "\n".join(
            [
                self.headline,
                *table,
                "",
                *text,
                "",
                "What speaks against it:",
                *doubts,
                "",
                "What this cannot say:",
                *unsaid,
            ]
        )


def explain(
    run: Run,
    step: int | None = None,
    *,
    progress: Callable[[Sequence[int]], Iterable[int]] = lambda steps: steps,
    parallel: bool = False,
) -> Explanation:
    """The explanation of a run at one checkpoint (default: the last). Raises InputError, naming the nearest, for a step
    not saved.

    >>> import interp
    >>> from interp.testing import circuit_checkpoint, circuit_neurons
    >>> from tempfile import TemporaryDirectory
    >>> pizza = circuit_checkpoint(interp.Task(7), circuit_neurons([1, 2]))
    >>> with TemporaryDirectory() as folder:
    ...     with interp.RunWriter.create(f"{folder}/run", pizza.task, pizza.model) as writer:
    ...         writer.append(0, pizza.weights)
    ...     numbers = explain(writer.run).numbers["checkpoint"]
    >>> numbers["circuit"], [key["frequency"] for key in numbers["key_frequencies"]], numbers["state"]
    ('pizza', [1, 2], 'generalizing')
    """
    check_has_phases(run, "an explanation")
    if step is not None and step not in run.steps:
        run[step]  # raises, naming the nearest
    return explanation_of(run, analyze(run, EVIDENCE, progress=progress, parallel=parallel), step)


def explanation_of(run: Run, results: Mapping[str, xr.Dataset], step: int | None = None) -> Explanation:
    """The explanation that the results of the analyses in EVIDENCE give of a run.

    >>> import interp
    >>> explanation_of(interp.open_run(interp.reference_path()), {name: xr.Dataset() for name in EVIDENCE[1:]})
    Traceback (most recent call last):
        ...
    interp.errors.InputError: an explanation needs the results of calibration
    """
    missing = [name for name in EVIDENCE if name not in results]
    if missing:
        raise InputError(f"an explanation needs the results of {', '.join(missing)}")
    whole = {"learning_curves", "transitions"}
    at = {name: results[name] if step is None or name in whole else results[name].sel(step=[step]) for name in EVIDENCE}
    summaries = {name: find(name).summary(result) for name, result in at.items()}
    # Who was ahead, and since when, is a matter of the whole run, whichever checkpoint is looked at.
    of_run = {name: find(name).summary(results[name]) for name in ("circuit_split", "circuit_efficiency")}
    setting = setting_of(run, results)
    accuracy = at["frequency_ablation"].isel(step=-1).network_accuracy.sel(network="original", split=list(SPLITS))
    numbers = _numbers(summaries, dict(zip(SPLITS, json_values(accuracy.values.tolist()), strict=True)))
    kind, checkpoint = numbers["run"]["verdict"], numbers["checkpoint"]
    return Explanation(
        numbers,
        headline(kind, setting),
        _facts(numbers, summaries, setting),
        (
            " ".join((*how_it_ended(setting), *the_task(setting), what_happened(kind, summaries, setting))),
            the_circuit(checkpoint, summaries, setting),
            *the_phases(numbers["run"]),
            the_norms(summaries, setting),
            the_competition(checkpoint["step"], summaries["circuit_split"]["strength"], of_run, setting),
        ),
        tuple(against(checkpoint, summaries, of_run, setting)),
        tuple(unsaid(numbers, setting)),
    )


def _numbers(summaries: Summaries, accuracy: Mapping[str, float | None]) -> dict[str, Any]:
    """The numbers of the explanation; null where unknown."""
    transitions, progress = summaries["transitions"], summaries["progress_measures"]
    spectrum, neurons = summaries["embedding_spectrum"], summaries["neuron_periodicity"]
    checkpoint = {
        "step": progress["step"],
        "state": None,
        "loss": progress["loss"],
        "accuracy": accuracy,
        "restricted_loss": progress["restricted_loss"],
        "excluded_loss": progress["excluded_loss"],
        "key_frequencies": [{"frequency": int(k), "share": share} for k, share in spectrum["logit_shares"].items()],
        "periodic_neurons": neurons["periodic_neurons"],
        "neurons": neurons["neurons"],
        "calibrated_periodic_neurons": summaries["calibration"]["calibrated_periodic_neurons"],
        "l2_norm": summaries["weight_norms"]["last_l2"],
        "gini_embedding": spectrum["gini_embedding"],
        "gini_output": spectrum["gini_output"],
        "circuit": summaries["clock_pizza"]["verdict"] if spectrum["key_frequencies"] else None,
    }
    checkpoint["state"] = state_of(checkpoint, transitions["chance_loss"])
    run = {
        name: transitions[name]
        for name in ("verdict", "memorized_at", "generalized_at", "generalized_at_sustained", "phases")
    }
    return {"run": run, "checkpoint": checkpoint}


def state_of(checkpoint: Mapping[str, Any], chance_loss: float | None) -> str:
    """The state of a checkpoint from its numbers.

    generalizing: test accuracy 99 % or more (without a known split: all pairs, and a key frequency); in transition:
    less, and there is a key frequency; untrained: no key frequency, less than half of the training pairs known, at a
    loss of at least 90 % of chance; memorizing: no key frequency otherwise; unknown: no split, and neither of the first
    two; or no test pair, and not untrained.
    """
    has_circuit = bool(checkpoint["key_frequencies"])
    accuracy, loss = checkpoint["accuracy"], checkpoint["loss"]
    if accuracy["train"] is None:
        if not has_circuit:
            return "unknown"
        return "generalizing" if (accuracy["all"] or 0) >= grokking.LEVEL else "in transition"
    at_chance = chance_loss is None or loss["train"] is None or loss["train"] >= 0.9 * chance_loss
    is_untrained = not has_circuit and accuracy["train"] < 0.5 and at_chance
    if accuracy["test"] is None:
        return "untrained" if is_untrained else "unknown"
    if accuracy["test"] >= grokking.LEVEL:
        return "generalizing"
    if has_circuit:
        return "in transition"
    return "untrained" if is_untrained else "memorizing"


def _facts(numbers: Mapping[str, Any], summaries: Summaries, setting: Setting) -> tuple[Fact, ...]:
    run, checkpoint, norms = numbers["run"], numbers["checkpoint"], summaries["weight_norms"]
    key = [str(entry["frequency"]) for entry in checkpoint["key_frequencies"]]
    span = {as_norm(norms[name]): None for name in ("first_l2", "highest_l2", "last_l2")}
    no_test = "no test pairs" if setting.trains_on_all else None
    return (
        Fact(
            "training pairs known at step" if no_test else "memorized at step",
            as_step(run["memorized_at"]),
            "transitions",
        ),
        Fact("generalized at step", no_test or as_step(run["generalized_at_sustained"]), "transitions"),
        Fact("key frequencies", ", ".join(key) or "none", "embedding_spectrum"),
        Fact("periodic neurons", f"{checkpoint['periodic_neurons']} of {checkpoint['neurons']}", "neuron_periodicity"),
        Fact("loss on test pairs", no_test or as_number(checkpoint["loss"]["test"]), "progress_measures"),
        Fact("weight norm", " → ".join(span), "weight_norms"),
    )
