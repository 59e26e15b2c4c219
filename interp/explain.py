"""From results to a verdict, a table of numbers and a short text. Every sentence follows from a stored result; what is unknown is said."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from textwrap import fill
from typing import Any

import xarray as xr

from interp import notebook
from interp.analysis import analyze
from interp.discovery import find
from interp.errors import InputError
from interp.store import Run

# What an explanation is made of.
EVIDENCE = (
    "calibration",
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

VERDICTS = {
    "grokking": "It grokked",
    "comprehension": "It generalized while it learned",
    "memorization": "It memorized and did not generalize",
    "confusion": "It learned neither the training pairs nor the rule",
    "collapse": "It generalized and lost it again",
    "unknown": "What happened cannot be told",
}

Summaries = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Fact:
    """One measured value of the story: what, how much, and where it comes from."""

    label: str
    value: str
    analysis: str


@dataclass(frozen=True)
class Explanation:
    """A verdict for a run and a state for one of its checkpoints, with the numbers (documented in docs/guide.md), the facts that a
    reader wants first, what a person would read aloud, what speaks against the story, and what cannot be said."""

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
        return "\n".join([self.headline, *table, "", *text, "", "What speaks against it:", *doubts, "", "What this cannot say:", *unsaid])


def explain(run: Run, step: int | None = None, *, progress: Callable[[Sequence[int]], Iterable[int]] = lambda steps: steps) -> Explanation:
    """The explanation of a run at one checkpoint (default: the last). Raises InputError, naming the nearest, for a step not saved."""
    if step is not None and step not in run.steps:
        run[step]  # raises, naming the nearest
    return explanation_of(analyze(run, EVIDENCE, progress=progress), step)


def explanation_of(results: Mapping[str, xr.Dataset], step: int | None = None) -> Explanation:
    """The explanation that the results of the analyses in EVIDENCE give."""
    missing = [name for name in EVIDENCE if name not in results]
    if missing:
        raise InputError(f"an explanation needs the results of {', '.join(missing)}")
    whole = {"learning_curves", "transitions"}
    at = {name: results[name] if step is None or name in whole else results[name].sel(step=[step]) for name in EVIDENCE}
    summaries = {name: find(name).module.summary(result) for name, result in at.items()}
    accuracy = at["frequency_ablation"].isel(step=-1).network_accuracy.sel(network="original")
    numbers = _numbers(summaries, {split: _known(accuracy.sel(split=split).item()) for split in SPLITS})
    state, kind = numbers["checkpoint"]["state"], numbers["run"]["verdict"]
    return Explanation(
        numbers,
        VERDICTS[kind],
        _facts(numbers, summaries),
        (_what_happened(kind, summaries), _circuit(numbers["checkpoint"], summaries), *_phases(numbers["run"]), _norms(summaries)),
        tuple(_against(state, numbers["checkpoint"], summaries)),
        tuple(_unsaid(numbers, summaries)),
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
    run = {name: transitions[name] for name in ("verdict", "memorized_at", "generalized_at", "generalized_at_sustained", "phases")}
    return {"run": run, "checkpoint": checkpoint}


def state_of(checkpoint: Mapping[str, Any], chance_loss: float | None) -> str:
    """The state of a checkpoint from its numbers.

    generalizing: test accuracy 99 % or more (without a known split: all pairs, and a key frequency); in transition: less, and there is a
    key frequency; untrained: no key frequency, less than half of the training pairs known, at a loss of at least 90 % of chance;
    memorizing: no key frequency otherwise; unknown: no split, and neither of the first two.
    """
    has_circuit = bool(checkpoint["key_frequencies"])
    accuracy, loss = checkpoint["accuracy"], checkpoint["loss"]
    if accuracy["test"] is None or accuracy["train"] is None:
        if not has_circuit:
            return "unknown"
        return "generalizing" if (accuracy["all"] or 0) >= 0.99 else "in transition"
    if accuracy["test"] >= 0.99:
        return "generalizing"
    if has_circuit:
        return "in transition"
    at_chance = chance_loss is None or loss["train"] is None or loss["train"] >= 0.9 * chance_loss
    return "untrained" if accuracy["train"] < 0.5 and at_chance else "memorizing"


def _facts(numbers: Mapping[str, Any], summaries: Summaries) -> tuple[Fact, ...]:
    run, checkpoint, norms = numbers["run"], numbers["checkpoint"], summaries["weight_norms"]
    key = [str(entry["frequency"]) for entry in checkpoint["key_frequencies"]]
    span = {norms["first_l2"]: None, norms["highest_l2"]: None, norms["last_l2"]: None}
    return (
        Fact("memorized at step", _step(run["memorized_at"]), "transitions"),
        Fact("generalized at step", _step(run["generalized_at_sustained"]), "transitions"),
        Fact("key frequencies", ", ".join(key) or "none", "embedding_spectrum"),
        Fact("periodic neurons", f"{checkpoint['periodic_neurons']} of {checkpoint['neurons']}", "neuron_periodicity"),
        Fact("loss on test pairs", _number(checkpoint["loss"]["test"]), "progress_measures"),
        Fact("weight norm", " → ".join(f"{value:.1f}" for value in span), "weight_norms"),
    )


def _what_happened(kind: str, summaries: Summaries) -> str:
    curves, transitions = summaries["learning_curves"], summaries["transitions"]
    memorized, generalized = transitions["memorized_at"], transitions["generalized_at_sustained"]
    resolution = _known_to(transitions["generalized_sustained_interval"])
    last = f"At step {curves['last_step']:,} its accuracy is {_percent(curves['final_train_accuracy'])} on the training pairs and "
    last += f"{_percent(curves['final_test_accuracy'])} on the test pairs."
    if kind == "grokking":
        text = (
            f"The network knew 99 % of its training pairs at step {_step(memorized)}, and 99 % of the test pairs for good only from step "
        )
        text += f"{_step(generalized)} on{resolution}"
        text += f": {generalized / memorized:.1f} times as many steps." if memorized else "."
    elif kind == "comprehension":
        before = f"at step {_step(memorized)}" if memorized is not None else "at no logged step"
        text = f"It reached 99 % on the training pairs {before}, and on the test pairs for good at step {_step(generalized)}{resolution}: "
        text += "too close together for grokking."
    elif kind == "collapse":
        text = f"Test accuracy first reached 99 % at step {_step(transitions['generalized_at'])}, and was lost again. {last}"
    elif kind == "memorization":
        text = f"It knew 99 % of its training pairs at step {_step(memorized)} and never 99 % of the test pairs. {last}"
    elif kind == "confusion":
        text = last
    else:
        return "The curves cannot decide when, or whether, it memorized and generalized."
    if transitions["unmirrored_generalized_at"] is not None:
        text += f" Test pairs whose mirror it was never shown reached 99 % at step {_step(transitions['unmirrored_generalized_at'])}."
    return text


def _circuit(checkpoint: Mapping[str, Any], summaries: Summaries) -> str:
    """The circuit, as found at the checkpoint."""
    here = f"At step {checkpoint['step']:,}" if checkpoint["step"] >= 0 else "In this checkpoint"
    if not checkpoint["key_frequencies"]:
        return f"{here} no frequency is key: no sparse generalizing circuit is found. The state is: {checkpoint['state']}."
    key = checkpoint["key_frequencies"]
    shares = ", ".join(f"{entry['frequency']} ({entry['share']:.0%})" for entry in key)
    counts = summaries["neuron_periodicity"]["periodic_neurons_per_frequency"]
    neurons = ", ".join(f"{counts.get(str(entry['frequency']), 0)} at {entry['frequency']}" for entry in key)
    clock = summaries["clock_pizza"]
    verb = "frequency carries" if len(key) == 1 else "frequencies carry"
    text = (
        f"{here} the state is {checkpoint['state']}. {len(key)} key {verb} the logits, k = {shares} by share of their power; "
        f"{checkpoint['periodic_neurons']} of {checkpoint['neurons']} neurons follow one frequency each ({neurons}). "
    )
    restricted, excluded = checkpoint["restricted_loss"], checkpoint["excluded_loss"]
    text += (
        f"With these frequencies alone the loss over all pairs is {_number(restricted['all'])}; without them it is "
        f"{_number(excluded['all'])} (as the network stands: {_number(checkpoint['loss']['all'])}). "
    )
    text += f"By distance irrelevance ({_number(clock['distance_irrelevance'])}) and gradient symmetricity "
    text += f"({_number(clock['gradient_symmetricity'])}) it is {_article(clock['verdict'])}."
    return text


def _phases(run: Mapping[str, Any]) -> list[str]:
    known = [phase for phase in run["phases"] if phase["end"] is not None]
    if not known:
        return ["The boundaries of memorization, circuit formation and cleanup cannot be placed: not enough data, or no generalization."]
    parts = [f"{phase['name']} until about step {phase['end']:,} ({phase['interval'][0]:,} to {phase['interval'][1]:,})" for phase in known]
    return [f"The bends of the curves place {'; '.join(parts)}. The intervals are the spread over signals, no confidence intervals."]


def _norms(summaries: Summaries) -> str:
    norms = summaries["weight_norms"]
    share = norms["key_share_of_embedding"]
    held = f" {share:.0%} of the embedding's squared norm lies in key frequencies." if share is not None else ""
    if norms["first_step"] == norms["last_step"]:
        return f"The norm of all weights is {norms['last_l2']:.1f}.{held}"
    return (
        f"The norm of all weights began at {norms['first_l2']:.1f}, was highest, {norms['highest_l2']:.1f}, at step "
        f"{norms['highest_l2_at']:,} and is {norms['last_l2']:.1f} at step {norms['last_step']:,}.{held}"
    )


def _against(state: str, checkpoint: Mapping[str, Any], summaries: Summaries) -> Iterable[str]:
    """What contradicts the story."""
    spectrum, has_circuit = summaries["embedding_spectrum"], bool(checkpoint["key_frequencies"])
    restricted, excluded, loss = (checkpoint[name]["all"] for name in ("restricted_loss", "excluded_loss", "loss"))
    if state == "generalizing" and not has_circuit:
        yield "It generalizes, yet no frequency is key: it uses many frequencies, or something else."
    if state == "generalizing" and has_circuit and restricted > max(10 * loss, 0.01):
        yield f"The key frequencies alone do worse (loss {_number(restricted)}) than the whole network ({_number(loss)}): more is at work."
    n_key, n_frequencies = len(checkpoint["key_frequencies"]), spectrum["n_frequencies"]
    if n_key > 4 and 2 * n_key > n_frequencies:
        yield f"{n_key} of {n_frequencies} frequencies are key: no sparse circuit. Modulo a small p, a lookup table looks like this too."
    if has_circuit and excluded is not None and excluded < 10 * loss:
        yield f"Without the key frequencies the loss barely rises (to {_number(excluded)}): they may not be what it uses."
    if spectrum["only_by_neurons"] and has_circuit:
        named = ", ".join(map(str, spectrum["only_by_neurons"][:8])) + (" …" if len(spectrum["only_by_neurons"]) > 8 else "")
        yield f"Some neurons' strongest frequency is one that the logits do not carry: {named}."
    if spectrum["only_by_weights_and_logits"]:
        named = ", ".join(map(str, spectrum["only_by_weights_and_logits"]))
        yield f"No neuron's strongest frequency is {named}, though the logits carry it."
    fixed = summaries["transitions"]["fixed_gap_verdict"]
    if fixed not in (summaries["transitions"]["verdict"], "unknown"):
        yield f"By the fixed gap of 1,000 steps (Liu et al.) the verdict would be {fixed}."


def _unsaid(numbers: Mapping[str, Any], summaries: Summaries) -> Iterable[str]:
    """What cannot be said."""
    if numbers["checkpoint"]["accuracy"]["test"] is None:
        yield "The split is unknown: nothing can be said of training and test pairs apart, nor of when it memorized or generalized."
    if numbers["checkpoint"]["circuit"] == "neither":
        yield "Neither the clock's nor the pizza's marks are clear enough for a name."
    yield "Fourier measures find Fourier circuits: a rule computed in another way would show only as power outside the key frequencies."
    yield "One run shows what happened in it, not how often it happens: repeat it over seeds."


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _known_to(interval: int | None) -> str:
    return f" (known to {interval} steps)" if interval else ""


def _article(name: str) -> str:
    return {"clock": "a clock", "pizza": "a pizza"}.get(name, "neither clearly a clock nor a pizza")


def _step(step: int | None) -> str:
    return f"{step:,}" if step is not None else "not seen"


def _number(value: float | None) -> str:
    return f"{value:.2g}" if value is not None else "unknown"


def _percent(value: float | None) -> str:
    return f"{value:.1%}" if value is not None else "unknown"
