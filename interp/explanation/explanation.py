"""From results to a verdict, a table of numbers and a short text. Every sentence follows from a stored result; what is
unknown is said."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from interp.analysis import find, measure_checkpoint
from interp.errors import InputError
from interp.experiment import Operations, json_values
from interp.explanation import operation_sentences
from interp.explanation.brief import brief
from interp.explanation.circuit_sentences import PAIRS, the_check, the_circuit, the_competition
from interp.explanation.doubts import against, unsaid
from interp.explanation.early_stopping import early_stopping
from interp.explanation.force_sentences import the_forces
from interp.explanation.requested_sentences import requested_sentences
from interp.explanation.run_facts import Setting, setting_of
from interp.explanation.run_sentences import (
    Summaries,
    headline,
    how_it_ended,
    the_norms,
    the_phases,
    the_spikes,
    the_task,
    what_happened,
)
from interp.explanation.states import Known, state_of
from interp.explanation.told import Explanation, Fact
from interp.figures import as_accuracy, as_norm, as_number, as_step
from interp.runs import Checkpoint, Run

# What an explanation is made of; of a recorded module, whatever of it can be asked (`evidence_of`).
EVIDENCE = (
    "calibration",
    "circuit_forces",
    "circuit_split",
    "clock_pizza",
    "embedding_spectrum",
    "frequency_ablation",
    "frequency_evidence",
    "learning_curves",
    "logit_structure",
    "neuron_periodicity",
    "progress_measures",
    "transitions",
    "weight_norms",
)
SPLITS = ("all", "train", "test", "held_out")
MOST_NAMED_OF_FEW = 4  # so many frequencies can be a circuit with a name, be they more than half of all


def evidence_of(run: Run) -> list[str]:
    """The analyses of EVIDENCE that can be asked about a run: of a recorded module not those that read what was not
    recorded. Of several operations those that tell them apart.

    >>> import interp
    >>> len(evidence_of(interp.open_run(interp.reference_path()))) == len(EVIDENCE)
    True
    """
    evidence = operation_sentences.EVIDENCE if isinstance(run.task, Operations) else EVIDENCE
    return [name for name in evidence if find(name).is_for(run.task, run.model)]


def explanation_of(run: Run, results: Mapping[str, xr.Dataset], step: int | None = None) -> Explanation:
    """The explanation that the results of the analyses in EVIDENCE give of a run, with what others say that are in
    REQUESTED.

    >>> import interp
    >>> explanation_of(interp.open_run(interp.reference_path()), {name: xr.Dataset() for name in EVIDENCE[1:]})
    Traceback (most recent call last):
        ...
    interp.errors.InputError: an explanation needs the results of calibration
    """
    evidence = evidence_of(run)
    missing = [name for name in evidence if name not in results]
    if missing:
        raise InputError(f"an explanation needs the results of {', '.join(missing)}")
    if isinstance(run.task, Operations):
        return _of_operations(run, run.task, results, step)
    whole = {"circuit_forces", "learning_curves", "transitions"}
    at = {name: results[name] if step is None or name in whole else results[name].sel(step=[step]) for name in evidence}
    summaries = {name: find(name).summary(result) for name, result in at.items()}
    # Who was ahead, and since when, is a matter of the whole run, whichever checkpoint is looked at.
    of_run = find("circuit_split").summary(results["circuit_split"])
    setting = setting_of(run, results)
    numbers = _numbers(run, results, summaries, setting)
    kind, checkpoint = numbers["run"]["verdict"], numbers["checkpoint"]
    stopped = early_stopping(results["learning_curves"], run.task)
    found = tuple(against(numbers["run"], checkpoint, summaries, setting))
    circuit, check = the_circuit(checkpoint, summaries, setting), the_check(checkpoint, setting.of_last_layer)
    if check:
        circuit += f" Is it what the network uses? {check[0].upper()}{check[1:]}"
    return Explanation(
        numbers,
        headline(kind, setting),
        _facts(numbers, summaries, setting),
        tuple(brief(kind, checkpoint, summaries, of_run, setting, stopped=stopped)),
        (
            " ".join(
                (
                    *how_it_ended(setting),
                    *the_task(setting),
                    what_happened(kind, setting),
                    *the_spikes(summaries),
                    *stopped[:1],
                )
            ),
            *([the_forces(summaries["circuit_forces"], setting)] if "circuit_forces" in summaries else []),
            circuit,
            *the_phases(numbers["run"]),
            the_norms(summaries, setting),
            the_competition(checkpoint["step"], summaries["circuit_split"]["strength"], of_run, setting),
        ),
        found,
        tuple(unsaid(numbers, setting)),
        requested=requested_sentences(results),
    )


def _of_operations(run: Run, task: Operations, results: Mapping[str, xr.Dataset], step: int | None) -> Explanation:
    """The explanation of a network of several operations."""
    result, norms = results["operations"], results["weight_norms"]
    told, last = find("operations").summary(result), int(result.step.values[-1])
    of_norms = find("weight_norms").summary(norms)
    at = norms.sel(step=of_norms["last_step"] if step is None else step)
    numbers = operation_sentences.numbers(run, told, at)
    said = [operation_sentences.of_one(one, told[one], result.pairs.sel(operation=one)) for one in task.operations]
    return Explanation(
        numbers,
        operation_sentences.headline(told, last),
        tuple(Fact(label, value, "operations") for label, value in operation_sentences.facts(told)),
        tuple((sentence,) for sentence in said),
        (
            operation_sentences.what_it_is(run, task),
            *said,
            operation_sentences.the_checkpoint(numbers["checkpoint"]),
            operation_sentences.the_norm(of_norms),
        ),
        tuple(operation_sentences.against(told, run, last)),
        tuple(operation_sentences.unsaid(told, run)),
        requested=requested_sentences(results),
    )


def _gain(weights: Checkpoint) -> dict[str, float] | None:
    gain, error = weights.spectrum.gain_alone
    return {"nats": gain, "standard_error": error} if math.isfinite(gain + error) else None


def _numbers(run: Run, results: Mapping[str, xr.Dataset], summaries: Summaries, setting: Setting) -> dict[str, Any]:
    """The numbers of the explanation; null where unknown."""
    transitions, split = summaries["transitions"], summaries["circuit_split"]
    spectrum, neurons = summaries["embedding_spectrum"], summaries.get("neuron_periodicity", {})
    step = summaries["progress_measures"]["step"]
    weights = run.last if step == run.last.step else run[step]
    has_circuit = weights.spectrum.has_circuit and setting.has_frequencies
    is_sparse = (
        2 * len(spectrum["key_frequencies"]) <= spectrum["n_frequencies"]
        or len(spectrum["key_frequencies"]) <= MOST_NAMED_OF_FEW
    )
    clock = summaries.get("clock_pizza", {}) if has_circuit and is_sparse else {}
    # The stored measures are taken with the key frequencies of the run; of a checkpoint alone they are its own.
    of_own = find("progress_measures").summary(measure_checkpoint(weights, "progress_measures"))
    accuracy = json_values({name: weights.accuracy(name) for name in SPLITS})
    checkpoint = {
        "step": step,
        "state": None,
        "loss": of_own["loss"],
        "accuracy": accuracy,
        "restricted_loss": of_own["restricted_loss"],
        "excluded_loss": of_own["excluded_loss"],
        "key_frequencies": [{"frequency": int(k), "share": share} for k, share in spectrum["logit_shares"].items()],
        "has_circuit": has_circuit,
        "gain_alone": _gain(weights) if setting.has_frequencies else None,
        "strength": split["strength"],
        "standard_error": split["standard_error"],
        "ablation": _ablation(summaries.get("frequency_ablation"), accuracy, run.task.guessing_accuracy),
        "periodic_neurons": neurons.get("periodic_neurons"),
        "neurons": neurons.get("neurons"),
        "calibrated_periodic_neurons": summaries.get("calibration", {}).get("calibrated_periodic_neurons"),
        "l2_norm": summaries["weight_norms"]["last_l2"],
        "gini_embedding": spectrum["gini_embedding"],
        "gini_output": spectrum["gini_output"],
        "circuit": clock.get("verdict"),
        "circuit_witnesses": clock.get("witnesses"),
    }
    curves = results["learning_curves"]
    earlier = curves.accuracy.sel(split="train").values[curves.step.values <= step]
    known = Known(
        train_accuracy=weights.accuracy("train"),
        held_out_accuracy=weights.accuracy("held_out"),
        train_loss=weights.trained_loss("train"),
        has_circuit=has_circuit,
        part_answers=split["generalizing_part_answers"],
        knew_before=float(np.nanmax(earlier)) if np.isfinite(earlier).any() else math.nan,
        norm=checkpoint["l2_norm"],
        first_norm=float(results["weight_norms"].total_l2.values[0]),
        held_out_pairs=int(run.task.mask("held_out").sum()),
        independent=run.task.n_held_out,
        classes=run.task.n_classes,
        guessed=run.task.guessing_accuracy,
        guess_loss=weights.trained_on.of_guessing(run.task.n_classes),
    )
    checkpoint["state"] = state_of(known)
    of_run = {
        name: transitions[name]
        for name in (
            "verdict",
            *setting.learned.times,
            "delay",
            "phases",
        )
    }
    told = (
        "named_clearly",
        "rest",
        "plateau",
        "strengths",
        "growth_ratio",
        "growth_ratio_interval_95",
        "worn_from",
        "carried_from",
    )
    forces = {name: summaries.get("circuit_forces", {}).get(name) for name in ("known_from", "named", *told)}
    of_run |= {"independent_held_out_pairs": run.task.n_held_out, "forces": forces}
    return {"run": of_run, "checkpoint": checkpoint}


def _ablation(
    summary: Mapping[str, Any] | None, whole: Mapping[str, float | None], guess: float
) -> dict[str, Any] | None:
    """The causal check: the accuracy of the `whole` network and that without the key frequencies of the run, by place,
    on held-out pairs (on all, where none are known), beside the lowest and highest without as many random others, on
    the same sample of pairs, and a guess; None without key frequencies, and where nothing could be removed."""
    if summary is None or not summary["key_frequencies"]:
        return None
    of_held_out = summary["held_out_accuracy"]
    split = "held_out" if of_held_out["neurons"]["remove_key"] is not None else "all"
    targets = {}
    for target in ("embedding", "neurons"):
        random = summary["random_accuracy"][target][split]
        targets[target] = {
            "without": summary["accuracy_in_sample"][target][split],
            "without_random": None if None in random else random,
        }
    key = summary["key_frequencies"]
    return {
        "key_frequencies": key,
        "pairs": PAIRS[split],
        "whole": whole[split],
        "guess": guess,
        "random_sets": summary["random_sets"],
        "targets": targets,
    }


def _facts(numbers: Mapping[str, Any], summaries: Summaries, setting: Setting) -> tuple[Fact, ...]:
    run, checkpoint, norms = numbers["run"], numbers["checkpoint"], summaries["weight_norms"]
    key = ", ".join(str(entry["frequency"]) for entry in checkpoint["key_frequencies"])
    circuit = f"k = {key}" if key and checkpoint["has_circuit"] else "none that answers" if key else "none"
    span = {as_norm(norms[name]): None for name in ("first_l2", "highest_l2", "last_l2")}
    none = "no test pairs" if setting.trains_on_all else None
    unseen = setting.unseen
    split = "held_out" if setting.task.split_known else "test"
    reached = as_accuracy(run["held_out_accuracy"])
    if run["held_out_accuracy"] is not None:
        reached += f" at step {as_step(run['held_out_accuracy_at'])}"
    periodic = (
        []
        if checkpoint["neurons"] is None
        else [
            Fact(
                f"periodic neurons{setting.of_last_layer}",
                f"{checkpoint['periodic_neurons']} of {checkpoint['neurons']}",
                "neuron_periodicity",
            )
        ]
    )
    return (
        Fact("training pairs known from step", as_step(run["memorized_at"]), "transitions"),
        Fact(f"{unseen} known from step", none or as_step(run["generalized_at"]), "transitions"),
        Fact(f"highest accuracy on {unseen} that held", none or reached, "transitions"),
        Fact("circuit of key frequencies", circuit, "frequency_evidence"),
        *periodic,
        Fact(f"loss on {unseen}", none or as_number(checkpoint["loss"][split]), "progress_measures"),
        Fact("weight norm", " → ".join(span), "weight_norms"),
    )
