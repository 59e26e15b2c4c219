"""The sentences of an explanation: each follows from stored numbers."""

from collections.abc import Iterator, Mapping
from typing import Any

from interp.explanation.run_facts import Setting
from interp.figures import as_count, as_norm, as_number, as_percent, as_step
from interp.mathematics.circuits import LEAST_STRENGTH

Summaries = Mapping[str, Mapping[str, Any]]


VERDICTS = {
    "grokking": "It grokked",
    "comprehension": "It generalized while it learned",
    "memorization": "It memorized and did not generalize",
    "confusion": "It learned neither the training pairs nor the rule",
    "collapse": "It generalized and lost it again",
    "unknown": "What happened cannot be told",
}
_COUNTED = ("memorization", "confusion")  # what more steps can still overturn


def headline(kind: str, setting: Setting) -> str:
    """The verdict of the run; one that more steps could overturn with the number of steps, and where training
    diverged."""
    text = VERDICTS[kind]
    if kind == "confusion" and setting.last_step == 0 and setting.planned_steps is not None:
        return (
            "No training is logged"
            if setting.diverged_at is None
            else f"Training diverged by step {setting.diverged_at:,}"
        )
    if kind in _COUNTED and setting.last_step > 0:
        planned = setting.planned_steps or 0
        of_planned = f" (of {planned:,})" if setting.last_step < planned else ""
        text += f" within its {as_count(setting.last_step, 'step')}{of_planned}"
    return text + (f"; training diverged by step {setting.diverged_at:,}" if setting.diverged_at is not None else "")


def how_it_ended(setting: Setting) -> Iterator[str]:
    """What a reader must know of the training before its curves: that it diverged, or that it did not reach its end."""
    if setting.diverged_at is not None:
        step = f"{setting.diverged_at:,}"
        yield (
            f"Training diverged by step {step}: there weights or loss are not finite, or the loss is far above "
            "guessing."
        )
    elif not setting.is_complete and setting.planned_steps is not None:
        steps = as_count(setting.planned_steps, "step")
        yield (
            f"Of {steps} only those up to step {setting.last_step:,} are logged: it was stopped, diverged "
            "after that, or still goes on."
        )


def the_task(setting: Setting) -> Iterator[str]:
    """What the task makes of the words that follow."""
    task = setting.task
    if task.operation == "random":
        yield "The labels are random: there is no rule to learn, and test pairs can only be guessed."
    if task.label_noise and task.split_known:
        wrong = as_percent(task.label_noise, 0)
        yield (
            f"Training pairs means the labels trained on, {wrong} of which are wrong on purpose; those of test "
            "pairs are right."
        )


def what_happened(kind: str, summaries: Summaries, setting: Setting) -> str:
    """What the curves say, for a verdict of the run."""
    transitions = summaries["transitions"]
    memorized, generalized = transitions["memorized_at"], transitions["generalized_at_sustained"]
    resolution = _known_to(transitions["generalized_sustained_interval"])
    last = (
        f"At step {setting.accuracy_at:,} its accuracy is {as_percent(setting.accuracy['train'])} on the "
        "training pairs and "
    )
    last += f"{as_percent(setting.accuracy['test'])} on the test pairs."
    if setting.trains_on_all:
        n_pairs = len(setting.task.train_indices)
        text = (
            f"There are no test pairs: all {n_pairs:,} were trained on, so memorizing and generalizing cannot "
            "be told apart by accuracy. "
        )
        if memorized is not None:
            text += f"It first knew 99 % of the training pairs at step {memorized:,}. "
        return (
            text + f"At step {setting.accuracy_at:,} its accuracy is {as_percent(setting.accuracy['train'])} on the "
            "training pairs."
        )
    if kind == "grokking":
        text = (
            f"The network knew 99 % of its training pairs at step {as_step(memorized)}, and 99 % of the test "
            "pairs for good only from step "
        )
        text += f"{as_step(generalized)} on{resolution}"
        text += f": {generalized / memorized:.1f} times as many steps." if memorized else "."
    elif kind == "comprehension":
        before = f"at step {as_step(memorized)}" if memorized is not None else "at no logged step"
        text = (
            f"It reached 99 % on the training pairs {before}, and on the test pairs for good at step "
            f"{as_step(generalized)}{resolution}: "
        )
        text += "too close together for grokking."
    elif kind == "collapse":
        text = (
            f"Test accuracy first reached 99 % at step {as_step(transitions['generalized_at'])}, and was lost "
            f"again. {last}"
        )
    elif kind == "memorization":
        text = (
            f"It knew 99 % of its training pairs at step {as_step(memorized)} and at no logged step 99 % of "
            f"the test pairs. {last}"
        )
    elif kind == "confusion":
        text = last
    else:
        return "The curves cannot decide when, or whether, it memorized and generalized."
    if transitions["unmirrored_generalized_at"] is not None:
        text += (
            " Test pairs whose mirror it was never shown reached 99 % at step "
            f"{as_step(transitions['unmirrored_generalized_at'])}."
        )
    return text


def the_circuit(checkpoint: Mapping[str, Any], summaries: Summaries, setting: Setting) -> str:
    """The circuit, as found at the checkpoint."""
    here = f"At step {checkpoint['step']:,}" if checkpoint["step"] >= 0 else "In this checkpoint"
    state = f"the state is {checkpoint['state']}"
    if setting.trains_on_all and checkpoint["state"] == "unknown":
        state += ", for no pair was held out"
    key, periodic = checkpoint["key_frequencies"], checkpoint["periodic_neurons"]
    if not key:
        return f"{here} no frequency is key: no sparse generalizing circuit is found, and {state}."
    shares = ", ".join(f"{entry['frequency']} ({as_percent(entry['share'], 0)})" for entry in key)
    verb = "frequency carries" if len(key) == 1 else "frequencies carry"
    text = (
        f"{here} {state}. {len(key)} key {verb} the logits, k = {shares} by share of their power{_of_what(setting)}; "
    )
    if periodic:
        counts = summaries["neuron_periodicity"]["periodic_neurons_per_frequency"]
        neurons = ", ".join(f"{counts.get(str(entry['frequency']), 0)} at {entry['frequency']}" for entry in key)
        text += f"{periodic} of {checkpoint['neurons']} neurons follow one frequency each ({neurons}). "
    else:
        text += f"none of {checkpoint['neurons']} neurons follows one frequency alone. "
    restricted, excluded = checkpoint["restricted_loss"], checkpoint["excluded_loss"]
    text += (
        f"With these frequencies alone the loss over all pairs is {as_number(restricted['all'])}; without them it is "
        f"{as_number(excluded['all'])} (as the network stands: {as_number(checkpoint['loss']['all'])}). "
    )
    return text + _the_algorithm(summaries["clock_pizza"], setting)


def _of_what(setting: Setting) -> str:
    """What the frequencies are frequencies of, where it is not the residues."""
    operation, p = setting.task.operation, setting.task.p
    if operation in ("multiply", "divide") and setting.task.coordinates.order < p:
        return " (frequencies of the discrete logarithm of the residues)"
    return ""


def _the_algorithm(clock: Mapping[str, Any], setting: Setting) -> str:
    """Clock or pizza, and by which witnesses: gradient symmetricity is none where it could not have been otherwise."""
    text = f"By the better fitting formula, distance irrelevance ({as_number(clock['distance_irrelevance'])}) "
    if setting.gradients_are_equal:
        alone = "gradient symmetricity is no witness here: a and b enter alike, which makes it 1 whatever was learned"
        return text.replace("formula, ", "formula and ") + f"it is {_article(clock['verdict'])}; {alone}."
    return (
        text
        + f"and gradient symmetricity ({as_number(clock['gradient_symmetricity'])}) it is {_article(clock['verdict'])}."
    )


def the_phases(run: Mapping[str, Any]) -> list[str]:
    """Where the phases end, one sentence or two."""
    known = [phase for phase in run["phases"] if phase["end"] is not None]
    if not known:
        return [
            "The boundaries of memorization, circuit formation and cleanup cannot be placed: not enough data, or "
            "no generalization."
        ]
    parts = [
        f"{phase['name']} until about step {phase['end']:,} ({phase['interval'][0]:,} to {phase['interval'][1]:,})"
        for phase in known
    ]
    return [
        f"The bends of the curves place {'; '.join(parts)}. The intervals are the spread over signals, no "
        "confidence intervals."
    ]


def the_norms(summaries: Summaries, setting: Setting) -> str:
    """How the norm of all weights went."""
    norms = summaries["weight_norms"]
    share, last, highest_at = norms["key_share_of_embedding"], as_norm(norms["last_l2"]), norms["highest_l2_at"]
    held = (
        f" {as_percent(share, 0)} of the squared norm of the {setting.what_is_embedded} lies in key frequencies."
        if share
        else ""
    )
    if norms["first_step"] == norms["last_step"]:
        return f"The norm of all weights is {last}.{held}"
    text, at = f"The norm of all weights began at {as_norm(norms['first_l2'])}", f"at step {norms['last_step']:,}"
    if as_norm(norms["highest_l2"]) == last:
        return f"{text} and is {last} {at}, as high as ever.{held}"
    if highest_at == norms["first_step"]:
        return f"{text}, was never higher, and is {last} {at}.{held}"
    return f"{text}, was highest, {as_norm(norms['highest_l2'])}, at step {highest_at:,} and is {last} {at}.{held}"


def _known_to(interval: int | None) -> str:
    return f" (known to {interval} steps)" if interval else ""


def _article(name: str) -> str:
    return {"clock": "a clock", "pizza": "a pizza"}.get(name, "neither clearly a clock nor a pizza")


def the_competition(step: int, strength: Mapping[str, float | None], of_run: Summaries, setting: Setting) -> str:
    """The two circuits' strengths at a step and over the whole run, and what they cost. `of_run`: the summaries of
    `circuit_split` and `circuit_efficiency` over all checkpoints."""
    split, efficiency = of_run["circuit_split"], of_run["circuit_efficiency"]
    highest, highest_at, leads_from = (
        split[name]
        for name in ("highest_memorizing_strength", "highest_memorizing_strength_at", "generalizing_leads_from")
    )
    if highest is None:
        without = "test pairs" if setting.trains_on_all else "a known split"
        return f"Without {without} the memorizing circuit cannot be told from the generalizing one."
    if max(highest, split["highest_generalizing_strength"]) < LEAST_STRENGTH:
        at_most = f"{LEAST_STRENGTH:g} logits"
        return (
            f"At no checkpoint does either circuit give the right answer of a training pair {at_most}: there "
            "is nothing to compare."
        )
    if strength["memorizing"] is None or strength["generalizing"] is None:
        return f"At step {as_step(step)} the strengths of the circuits cannot be computed."
    now = ", where it is highest," if step == highest_at else f" it gives it {as_number(strength['memorizing'])}, and"
    text = (
        f"Memorization gave the right answer of a training pair at most {as_number(highest)} logits (step "
        f"{as_step(highest_at)}); "
    )
    text += f"at step {as_step(step)}{now} what is common to all pairs, told from test pairs alone, gives it "
    text += f"{as_number(strength['generalizing'])}."
    if leads_from is None:
        return text
    text += f" What is common is the stronger part from step {as_step(leads_from)} on."
    ratio = efficiency["efficiency_ratio_at_lead"]
    if ratio is not None and efficiency["generalizing_leads_from"] == leads_from:
        text += (
            f" At that step it had {ratio:.2f} times the logit-giving power per weight norm (scale-free) of "
            "the memorizing circuit: one "
        )
        text += "number at one step, without an error, and no proof of what weight decay did."
    return text
