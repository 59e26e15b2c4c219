"""The sentences of an explanation: each follows from stored numbers, and what speaks against the story is said, not dropped."""

from collections.abc import Iterable, Mapping
from typing import Any

Summaries = Mapping[str, Mapping[str, Any]]


def what_happened(kind: str, summaries: Summaries) -> str:
    """What the curves say, for a verdict of the run."""
    curves, transitions = summaries["learning_curves"], summaries["transitions"]
    memorized, generalized = transitions["memorized_at"], transitions["generalized_at_sustained"]
    resolution = _known_to(transitions["generalized_sustained_interval"])
    last = f"At step {curves['last_step']:,} its accuracy is {as_percent(curves['final_train_accuracy'])} on the training pairs and "
    last += f"{as_percent(curves['final_test_accuracy'])} on the test pairs."
    if kind == "grokking":
        text = (
            f"The network knew 99 % of its training pairs at step {as_step(memorized)}, and 99 % of the test pairs for good only from step "
        )
        text += f"{as_step(generalized)} on{resolution}"
        text += f": {generalized / memorized:.1f} times as many steps." if memorized else "."
    elif kind == "comprehension":
        before = f"at step {as_step(memorized)}" if memorized is not None else "at no logged step"
        text = (
            f"It reached 99 % on the training pairs {before}, and on the test pairs for good at step {as_step(generalized)}{resolution}: "
        )
        text += "too close together for grokking."
    elif kind == "collapse":
        text = f"Test accuracy first reached 99 % at step {as_step(transitions['generalized_at'])}, and was lost again. {last}"
    elif kind == "memorization":
        text = f"It knew 99 % of its training pairs at step {as_step(memorized)} and never 99 % of the test pairs. {last}"
    elif kind == "confusion":
        text = last
    else:
        return "The curves cannot decide when, or whether, it memorized and generalized."
    if transitions["unmirrored_generalized_at"] is not None:
        text += f" Test pairs whose mirror it was never shown reached 99 % at step {as_step(transitions['unmirrored_generalized_at'])}."
    return text


def the_circuit(checkpoint: Mapping[str, Any], summaries: Summaries) -> str:
    """The circuit, as found at the checkpoint."""
    here = f"At step {checkpoint['step']:,}" if checkpoint["step"] >= 0 else "In this checkpoint"
    if not checkpoint["key_frequencies"]:
        return f"{here} no frequency is key: no sparse generalizing circuit is found. The state is: {checkpoint['state']}."
    key = checkpoint["key_frequencies"]
    shares = ", ".join(f"{entry['frequency']} ({as_percent(entry['share'], 0)})" for entry in key)
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
        f"With these frequencies alone the loss over all pairs is {as_number(restricted['all'])}; without them it is "
        f"{as_number(excluded['all'])} (as the network stands: {as_number(checkpoint['loss']['all'])}). "
    )
    text += f"By distance irrelevance ({as_number(clock['distance_irrelevance'])}) and gradient symmetricity "
    text += f"({as_number(clock['gradient_symmetricity'])}) it is {_article(clock['verdict'])}."
    return text


def the_phases(run: Mapping[str, Any]) -> list[str]:
    """Where the phases end, one sentence or two."""
    known = [phase for phase in run["phases"] if phase["end"] is not None]
    if not known:
        return ["The boundaries of memorization, circuit formation and cleanup cannot be placed: not enough data, or no generalization."]
    parts = [f"{phase['name']} until about step {phase['end']:,} ({phase['interval'][0]:,} to {phase['interval'][1]:,})" for phase in known]
    return [f"The bends of the curves place {'; '.join(parts)}. The intervals are the spread over signals, no confidence intervals."]


def the_norms(summaries: Summaries) -> str:
    """How the norm of all weights went."""
    norms = summaries["weight_norms"]
    share = norms["key_share_of_embedding"]
    held = f" {as_percent(share, 0)} of the embedding's squared norm lies in key frequencies." if share is not None else ""
    if norms["first_step"] == norms["last_step"]:
        return f"The norm of all weights is {norms['last_l2']:.1f}.{held}"
    return (
        f"The norm of all weights began at {norms['first_l2']:.1f}, was highest, {norms['highest_l2']:.1f}, at step "
        f"{norms['highest_l2_at']:,} and is {norms['last_l2']:.1f} at step {norms['last_step']:,}.{held}"
    )


def against(state: str, checkpoint: Mapping[str, Any], summaries: Summaries) -> Iterable[str]:
    """What contradicts the story."""
    spectrum, has_circuit = summaries["embedding_spectrum"], bool(checkpoint["key_frequencies"])
    restricted, excluded, loss = (checkpoint[name]["all"] for name in ("restricted_loss", "excluded_loss", "loss"))
    if state == "generalizing" and not has_circuit:
        yield "It generalizes, yet no frequency is key: it uses many frequencies, or something else."
    if state == "generalizing" and has_circuit and restricted > max(10 * loss, 0.01):
        yield f"The key frequencies alone do worse (loss {as_number(restricted)}) than the network ({as_number(loss)}): more is at work."
    n_key, n_frequencies = len(checkpoint["key_frequencies"]), spectrum["n_frequencies"]
    if n_key > 4 and 2 * n_key > n_frequencies:
        yield f"{n_key} of {n_frequencies} frequencies are key: no sparse circuit. Modulo a small p, a lookup table looks like this too."
    if has_circuit and excluded is not None and excluded < 10 * loss:
        yield f"Without the key frequencies the loss barely rises (to {as_number(excluded)}): they may not be what it uses."
    if spectrum["only_by_neurons"] and has_circuit:
        named = ", ".join(map(str, spectrum["only_by_neurons"][:8])) + (" …" if len(spectrum["only_by_neurons"]) > 8 else "")
        yield f"Some neurons' strongest frequency is one that the logits do not carry: {named}."
    if spectrum["only_by_weights_and_logits"]:
        named = ", ".join(map(str, spectrum["only_by_weights_and_logits"]))
        yield f"No neuron's strongest frequency is {named}, though the logits carry it."
    fixed = summaries["transitions"]["fixed_gap_verdict"]
    if fixed not in (summaries["transitions"]["verdict"], "unknown"):
        yield f"By the fixed gap of 1,000 steps (Liu et al.) the verdict would be {fixed}."


def unsaid(numbers: Mapping[str, Any], summaries: Summaries) -> Iterable[str]:
    """What cannot be said."""
    if numbers["checkpoint"]["accuracy"]["test"] is None:
        yield "The split is unknown: nothing can be said of training and test pairs apart, nor of when it memorized or generalized."
    if numbers["checkpoint"]["circuit"] == "neither":
        yield "Neither the clock's nor the pizza's marks are clear enough for a name."
    yield "Fourier measures find Fourier circuits: a rule computed in another way would show only as power outside the key frequencies."
    yield "One run shows what happened in it, not how often it happens: repeat it over seeds."


def the_competition(checkpoint: Mapping[str, Any], strength: Mapping[str, float | None], of_run: Summaries) -> str:
    """Why the generalizing circuit won: the two circuits' strengths, at the checkpoint and over the whole run, and what they cost."""
    split, efficiency = of_run["circuit_split"], of_run["circuit_efficiency"]
    if split["highest_memorizing_strength"] is None:
        return "Without a known split the memorizing circuit cannot be told from the generalizing one."
    text = (
        f"Memorization gave the right answer of a training pair at most {as_number(split['highest_memorizing_strength'])} logits (step "
        f"{as_step(split['highest_memorizing_strength_at'])}); at step {as_step(checkpoint['step'])} it gives it "
        f"{as_number(strength['memorizing'])}, and what is common to all pairs, told from test pairs alone, gives it "
        f"{as_number(strength['generalizing'])}."
    )
    lead, ratio = efficiency["generalizing_leads_from"], efficiency["efficiency_ratio_at_lead"]
    if lead is not None:
        text += f" What is common is the stronger part from step {as_step(lead)} on."
    if ratio is not None and lead:
        cheaper = f"{as_number(ratio)} times the logit-giving power per weight norm"
        text += f" When it took the lead it had {cheaper} (scale-free) of the memorizing circuit. "
        text += "Weight decay favors it." if ratio > 1 else "By this measure weight decay did not favor it."
    return text


def _known_to(interval: int | None) -> str:
    return f" (known to {interval} steps)" if interval else ""


def _article(name: str) -> str:
    return {"clock": "a clock", "pizza": "a pizza"}.get(name, "neither clearly a clock nor a pizza")


def as_step(step: int | None) -> str:
    """A step for a reader."""
    return f"{step:,}" if step is not None else "not seen"


def as_number(value: float | None) -> str:
    """A number of two digits for a reader."""
    return f"{value:.2g}" if value is not None else "unknown"


def as_percent(value: float | None, digits: int = 1) -> str:
    """A share for a reader."""
    return f"{100 * value:.{digits}f} %" if value is not None else "unknown"
