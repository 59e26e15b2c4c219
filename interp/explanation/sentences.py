"""The sentences of an explanation: each follows from stored numbers."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from interp.explanation.run_facts import Setting
from interp.figures import as_accuracy, as_count, as_norm, as_number, as_percent, as_step
from interp.mathematics import grokking
from interp.mathematics.circuits import LEAST_STRENGTH
from interp.mathematics.held_out import FEWEST_HELD_OUT

Summaries = Mapping[str, Mapping[str, Any]]

VERDICTS = {
    "grokking": "It grokked",
    "comprehension": "It generalized while it learned",
    "memorization": "It memorized",
    "confusion": "It learned neither its training pairs nor the rule",
    "collapse": "It generalized and lost it again",
    "unknown": "What happened cannot be told",
}
_COUNTED = ("memorization", "confusion")  # what more steps can still overturn
# How much of the held-out pairs is "nearly", "to" and "in part".
NEARLY, MOSTLY, HALF, IN_PART, A_POINT = 0.98, 0.9, 0.5, 0.1, 0.01


def headline(kind: str, setting: Setting) -> str:
    """The verdict of the run, and how much of the held-out pairs it came to know, since when; one that more steps could
    overturn with the number of steps, and where training diverged."""
    at = setting.diverged_at
    if kind == "confusion" and setting.last_step == 0 and setting.planned_steps is not None:
        return "No training is logged" if at is None else f"Training diverged by step {at:,}"
    return _verdict_and_number(kind, setting) + (f"; training diverged by step {at:,}" if at is not None else "")


def _verdict_and_number(kind: str, setting: Setting) -> str:
    if kind == "unknown":
        return _why_unknown(setting)
    learned, text = setting.learned, VERDICTS[kind]
    if kind in ("grokking", "comprehension"):
        return f"{text}: {_held_since(setting)}{_how_it_ends(setting)}"
    if kind == "collapse":
        return f"{text}: {_held_since(setting)}, and {as_accuracy(_last_unseen(setting))} at the end"
    within, known, end = _within(setting), _held_at(setting), _how_it_ends(setting)
    if kind == "confusion":
        return _confusion(setting)
    extents = (
        (NEARLY, f" and nearly generalized{within}: {known}{end}"),
        (MOSTLY, f" and mostly generalized{within}: {known}{end}"),
        (IN_PART, f" and generalized in part{within}: {known}{end}"),
        (0.0, f" and did not generalize{within}: at most {known}"),
    )
    return text + next((extent for least, extent in extents if learned.reached >= least), within)


def _confusion(setting: Setting) -> str:
    train, within = setting.accuracy["train"], _within(setting)
    if not math.isfinite(setting.learned.reached):
        return f"{VERDICTS['confusion']}{within}"
    known = f"its training pairs ({as_accuracy(train)})", f"the rule (at most {_held_at(setting, in_brackets=False)})"
    if max(train, setting.learned.reached) >= HALF:
        return f"It learned {known[0]} and {known[1]} in part only{within}"
    return f"It learned neither {known[0]} nor {known[1]}{within}"


def _why_unknown(setting: Setting) -> str:
    text, learned = VERDICTS["unknown"], setting.learned
    if setting.trains_on_all:
        return f"{text}: it was trained on all pairs"
    if setting.has_too_few_held_out:
        return f"{text}: {_few_held_out(setting)}"
    if learned.generalized is not None and learned.memorized is not None:
        return f"It generalized ({_held_since(setting)}); whether late or at once cannot be told"
    return text if setting.task.split_known else f"{text}: the split is unknown"


def _held_at(setting: Setting, *, in_brackets: bool = True) -> str:
    """How much of the held-out pairs it came to know and held, and when."""
    known = f"{as_accuracy(setting.learned.reached)} of the {setting.unseen}"
    step = f"step {as_step(grokking.whole(setting.learned.reached_at))}"
    return f"{known} ({step})" if in_brackets else f"{known}, {step}"


def _held_since(setting: Setting) -> str:
    learned = setting.learned
    since = as_step(grokking.whole(learned.reached_at))
    return f"{as_accuracy(learned.reached)} of the {setting.unseen}, from step {since} on"


def _within(setting: Setting) -> str:
    if setting.last_step <= 0:
        return ""
    planned = setting.planned_steps or 0
    of_planned = f" (of {planned:,})" if setting.last_step < planned else ""
    return f" within {as_count(setting.last_step, 'step')}{of_planned}"


def _how_it_ends(setting: Setting) -> str:
    """That it ends below what it had reached, by a point or more, or in a fall."""
    falls, last = setting.learned.falls, _last_unseen(setting)
    in_a_fall = bool(falls) and math.isnan(falls[-1].recovered_at)
    if math.isfinite(last) and (in_a_fall or last < setting.learned.reached - A_POINT):
        return f", and {as_accuracy(last)} at the end"
    return ""


def _last_unseen(setting: Setting) -> float:
    return setting.accuracy.get("held_out", setting.accuracy["test"])


def _few_held_out(setting: Setting) -> str:
    n = setting.task.n_held_out
    return f"only {n} independent {'pair is' if n == 1 else 'pairs are'} held out, and {FEWEST_HELD_OUT} are needed"


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
        text = "The labels are random: there is no rule to learn"
        if task.symmetric:
            yield f"{text} but that (a, b) and (b, a) have one label."
        else:
            yield f"{text}, and test pairs can only be guessed."
    if task.label_noise and task.split_known:
        wrong = as_percent(task.label_noise, 0)
        yield (
            f"Training pairs means the labels trained on, {wrong} of which are wrong on purpose; those of other pairs "
            "are right."
        )
    if task.split_known and setting.has_test_pairs and task.symmetries:
        left = f"{int(task.mask('held_out').sum()):,} of {int(task.test_mask.sum()):,} test pairs"
        yield f"Held out are {left}: those {what_held_out_means(setting)}."


def what_held_out_means(setting: Setting) -> str:
    """Which test pairs count as held out, after "those"."""
    if setting.task.symmetries == ("mirror",):
        return "(a, b) whose mirror (b, a) was not trained on either"
    if "mirror" in setting.task.symmetries:
        return "that neither exchanging a and b nor a change of signs which leaves the answer makes of a training pair"
    return "that no change of signs which leaves the answer makes of a training pair"


def when(kind: str, setting: Setting) -> str:
    """Between which steps it memorized and generalized, and how far apart that is; empty where neither is known."""
    learned, unseen = setting.learned, setting.unseen
    memorized, generalized = learned.memorized, learned.generalized
    levels = [_level(setting, split) for split in ("train", "held_out")]
    train, other = f"{levels[0]} of its training pairs", f"{levels[1]} of the {unseen}"
    if memorized is not None and generalized is not None:
        also = f"of the {unseen}" if levels[0] == levels[1] else other
        text = f"It knew {train} {_from(memorized)} and {also} {_from(generalized)}"
        return text + _apart(kind, memorized, generalized, learned.delay)
    if memorized is not None:
        return f"It knew {train} {_from(memorized)}, and at no logged step of the {unseen} so that it held."
    if generalized is not None:
        return f"It knew {other} {_from(generalized)}, and at no logged step of its training pairs so that it held."
    return ""


def when_in_short(kind: str, setting: Setting) -> str:
    """`when`, in fewer words; of too few held-out pairs only when it knew its training pairs."""
    learned, unseen = setting.learned, setting.unseen
    memorized, generalized = learned.memorized, learned.generalized
    if setting.has_too_few_held_out:
        known = f"{_level(setting, 'train')} of its training pairs known"
        return f"{known} {_from(memorized)}." if memorized is not None else ""
    if memorized is None or generalized is None:
        return when(kind, setting)
    levels = [_level(setting, split) for split in ("train", "held_out")]
    other = f" ({levels[1]})" if levels[0] != levels[1] else ""
    text = f"training pairs ({levels[0]}) known {_from(memorized)}, {unseen}{other} {_from(generalized)}"
    return text + _apart(kind, memorized, generalized, learned.delay)


def _apart(kind: str, memorized: grokking.Crossing, generalized: grokking.Crossing, delay: tuple[float, float]) -> str:
    least, most = (int(bound) for bound in delay)
    apart = f"{least:,} to {most:,}" if least != most else f"{most:,}"
    if kind == "unknown":
        return (
            f". The delay is between {least:,} and {most:,} steps: too coarse to tell grokking from generalizing while "
            "it learned."
        )
    if kind == "comprehension" and generalized.at <= memorized.after:
        return ": no later, so no grokking."
    if kind == "comprehension":
        return f", {apart} steps later: less than three times the steps it took to memorize, so no grokking."
    factor = generalized.after / memorized.at
    at_least = f", at least {factor:.1f} times as many" if kind == "grokking" else ""
    return f", {apart} steps later{at_least}."


def _from(crossing: grokking.Crossing) -> str:
    notes = [f"not at {crossing.after:,.0f}"] if 0 <= crossing.after < crossing.at else []
    if crossing.seen_for == 0:
        notes.append("the last that is logged")
    elif math.isfinite(crossing.seen_for):
        notes.append(f"seen for {crossing.seen_for:,.0f} steps only")
    return f"from step {crossing.at:,.0f} on" + (f" ({'; '.join(notes)})" if notes else "")


def _level(setting: Setting, split: str = "held_out") -> str:
    """How much of a split has to be known."""
    n = int(setting.task.mask(split).sum())
    return "99 %" if not 0 < n < grokking.SMALL_SPLIT else "all but two" if n >= FEWEST_HELD_OUT else "90 %"


def what_happened(kind: str, setting: Setting) -> str:
    """What the curves say, for a verdict of the run."""
    last = [f"{as_accuracy(setting.accuracy['train'])} of the training pairs"]
    if setting.trains_on_all:
        n_pairs = len(setting.task.train_indices)
        text = (
            f"There are no test pairs: all {n_pairs:,} were trained on, so memorizing and generalizing cannot be told "
            "apart by accuracy. "
        )
        if setting.learned.memorized is not None:
            text += f"It knew {_level(setting, 'train')} of them {_from(setting.learned.memorized)}. "
        return text + f"At step {setting.accuracy_at:,} it knows {last[0]}."
    if setting.task.split_known:
        last.append(f"{as_accuracy(setting.accuracy['held_out'])} of the held-out pairs")
    if not setting.task.split_known or setting.task.symmetries:
        last.append(f"{as_accuracy(setting.accuracy['test'])} of all test pairs")
    end = f"At step {setting.accuracy_at:,} it knows {', '.join(last[:-1])} and {last[-1]}."
    if kind == "unknown" and setting.has_too_few_held_out:
        return f"No verdict: {_few_held_out(setting)}. {end}"
    told = when(kind, setting)
    if kind == "unknown" and not told:
        cannot = "The curves cannot decide when, or whether, it memorized and generalized."
        return f"{cannot} {end}" if math.isfinite(setting.accuracy["train"]) else cannot
    return " ".join(part for part in (told, the_falls(setting), end) if part)


def the_falls(setting: Setting) -> str:
    """What was lost after it generalized, for however few steps; empty where nothing was."""
    falls = setting.learned.falls
    if not falls:
        return ""
    known = [fall for fall in falls if math.isfinite(fall.lowest)]
    deepest = min(known, key=lambda fall: fall.lowest) if known else None
    text = f"After it first knew {_level(setting)} of the {setting.unseen} it fell below that {_times(len(falls))}"
    if deepest is not None:
        text += f", deepest to {as_accuracy(deepest.lowest)} in the episode of step {deepest.step:,.0f}"
    ends = math.isnan(falls[-1].recovered_at)
    return text + (", and the run ends in such a fall." if ends else ", and recovered.")


def _times(n: int) -> str:
    return {1: "once", 2: "twice"}.get(n, f"{n:,} times")


def the_circuit(checkpoint: Mapping[str, Any], summaries: Summaries, setting: Setting) -> str:
    """The circuit, as found at the checkpoint."""
    here = f"At step {checkpoint['step']:,}" if checkpoint["step"] >= 0 else "In this checkpoint"
    text = f"{here} the state is {checkpoint['state']}"
    if not setting.task.split_known:
        text += f", and it answers {as_accuracy(checkpoint['accuracy']['all'])} of all pairs"
    key = checkpoint["key_frequencies"]
    if not setting.has_frequencies:
        return (
            f"{text}. {setting.task.operation} modulo {setting.task.p} is no addition in other coordinates: "
            "frequencies cannot be its circuit, and none are told of."
        )
    if not key:
        last = _the_last_circuit(checkpoint, setting)
        return f"{text}. No frequency is key: no sparse circuit of frequencies is found.{last}"
    if not checkpoint["has_circuit"]:
        return (
            f"{text}. The rule calls k = {_listed(key)} key, but alone they do not clearly answer better than a guess "
            f"(loss {as_number(_unseen_of(checkpoint['restricted_loss']))}, a guess {as_number(setting.guessing)}): "
            f"that is no circuit.{_the_last_circuit(checkpoint, setting)}"
        )
    short = circuit_in_short(checkpoint)
    text += f". {short[0].upper()}{short[1:]}{_of_what(setting)}"
    periodic, neurons = checkpoint["periodic_neurons"], checkpoint["neurons"]
    if periodic:
        counts = summaries["neuron_periodicity"]["periodic_neurons_per_frequency"]
        of_key = ", ".join(f"{counts.get(str(entry['frequency']), 0)} at {entry['frequency']}" for entry in key)
        text += f"; {periodic} of {neurons} neurons follow one frequency each ({of_key})"
    else:
        text += f"; none of {neurons} neurons follows one frequency alone"
    restricted, excluded = checkpoint["restricted_loss"], checkpoint["excluded_loss"]
    split = "held_out" if restricted["held_out"] is not None else "all"
    pairs = {"held_out": "held-out pairs", "all": "all pairs"}[split]
    text += (
        f". With k = {_listed(key)} alone the loss on {pairs} is {as_number(restricted[split])}; without them it is "
        f"{as_number(excluded[split])} (as the network stands: {as_number(checkpoint['loss'][split])}; a guess: "
        f"{as_number(setting.guessing)}). "
    )
    return text + the_algorithm(summaries["clock_pizza"], setting)


def circuit_in_short(checkpoint: Mapping[str, Any], most: int | None = None) -> str:
    """The key frequencies with their shares, the `most` strongest of them."""
    by_share = sorted(checkpoint["key_frequencies"], key=lambda entry: -entry["share"])
    shares = ", ".join(f"k = {entry['frequency']} ({as_percent(entry['share'], 0)})" for entry in by_share[:most])
    shares += ", …" if most is not None and len(by_share) > most else ""
    if len(by_share) == 1:
        share = as_percent(by_share[0]["share"], 0)
        return f"one key frequency carries {share} of the logits’ power, k = {_listed(by_share)}"
    total = as_percent(sum(entry["share"] for entry in by_share), 0)
    return f"{len(by_share)} key frequencies carry {total} of the logits’ power, {shares}"


def _listed(key: list[dict[str, Any]]) -> str:
    return ", ".join(str(entry["frequency"]) for entry in key)


def _unseen_of(losses: Mapping[str, float | None]) -> float | None:
    return losses["held_out"] if losses["held_out"] is not None else losses["all"]


def _the_last_circuit(checkpoint: Mapping[str, Any], setting: Setting) -> str:
    step = setting.key_frequencies_of_step
    if step is None or step == checkpoint["step"]:
        return ""
    key = ", ".join(map(str, setting.key_frequencies))
    return f" The last checkpoint of the run that has one is that of step {step:,}: k = {key}."


def _of_what(setting: Setting) -> str:
    """What the frequencies are frequencies of, where it is not the residues."""
    operation, p = setting.task.operation, setting.task.p
    if operation in ("multiply", "divide") and setting.task.coordinates.order < p:
        return " (frequencies of the discrete logarithm of the residues)"
    return ""


def the_algorithm(clock: Mapping[str, Any], setting: Setting) -> str:
    """Clock or pizza, and by which witnesses. The better fitting formula and distance irrelevance are one, how the
    logits depend on a − b; gradient symmetricity is another, but where it could not have been otherwise."""
    by = f"By how its logits depend on a − b (distance irrelevance {as_number(clock['distance_irrelevance'])})"
    if setting.gradients_are_equal:
        return (
            f"{by} alone it is {_article(clock['verdict'])}: a and b enter alike, so gradient symmetricity would be 1 "
            "whatever was learned."
        )
    return (
        f"{by} and by how alike its gradients for a and b are (gradient symmetricity "
        f"{as_number(clock['gradient_symmetricity'])}) it is {_article(clock['verdict'])}."
    )


def the_phases(run: Mapping[str, Any]) -> list[str]:
    """Where the phases end, one sentence or two."""
    known = [phase for phase in run["phases"] if phase["end"] is not None]
    if not known:
        return [
            "Phases of memorization, circuit formation and cleanup are not told: it did not memorize before it "
            "generalized, or fewer than two signals bend where a phase would end."
        ]
    parts = [
        f"{phase['name']} until about step {phase['end']:,} ({phase['interval'][0]:,} to {phase['interval'][1]:,}; "
        f"{_and(phase['signals'])})"
        for phase in known
    ]
    return [
        f"The bends of these curves place {'; '.join(parts)}. The intervals are the spread over signals, no confidence "
        "intervals."
    ]


def _and(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def the_norms(summaries: Summaries, setting: Setting) -> str:
    """How the norm of all weights went."""
    norms = summaries["weight_norms"]
    share, last, highest_at = norms["key_share_of_embedding"], as_norm(norms["last_l2"]), norms["highest_l2_at"]
    held = ""
    if share and setting.key_frequencies:
        n = setting.task.coordinates.order
        directions = sum(1 if 2 * k == n else 2 for k in setting.key_frequencies)
        step = setting.key_frequencies_of_step
        of_step = f" of step {step:,}" if step is not None and step != norms["last_step"] else ""
        held = (
            f" {as_percent(share, 0)} of the squared norm of the {setting.what_is_embedded} lies in the key frequencies"
            f"{of_step}, {directions} of {n} directions; any {directions} of a random matrix have "
            f"{as_percent(directions / n, 0)}."
        )
    if norms["first_step"] == norms["last_step"]:
        return f"The norm of all weights is {last}.{held}"
    text, at = f"The norm of all weights began at {as_norm(norms['first_l2'])}", f"at step {norms['last_step']:,}"
    if as_norm(norms["highest_l2"]) == last:
        return f"{text} and is {last} {at}, as high as ever.{held}"
    if highest_at == norms["first_step"]:
        return f"{text}, was never higher, and is {last} {at}.{held}"
    return f"{text}, was highest, {as_norm(norms['highest_l2'])}, at step {highest_at:,} and is {last} {at}.{held}"


def the_check(checkpoint: Mapping[str, Any]) -> str:
    """What the network still knows without the key frequencies, beside what it knows without random others; empty where
    there is nothing to remove, or so little known that removing cannot show anything."""
    ablation = checkpoint["ablation"]
    if ablation is None or not (ablation["whole"] or 0) >= IN_PART:
        return ""
    key, parts = ", ".join(map(str, ablation["key_frequencies"])), []
    for target, found in ablation["targets"].items():
        if found["without"] is not None:
            random = found["without_random"]
            if random is None:
                beside = "too few others to compare"
            else:
                beside = f"without as many random others {_range(random)}" if not parts else _range(random)
            if not parts and ablation["whole"] < grokking.LEVEL:
                beside = f"whole {as_accuracy(ablation['whole'])}, {beside}"
            knows = f"{as_accuracy(found['without'])}" if parts else f"it knows {as_accuracy(found['without'])}"
            of_pairs = "" if parts else f" of {ablation['pairs']}"
            parts.append(f"in the {target} {knows}{of_pairs} ({beside})")
    return f"without k = {key} {', '.join(parts)}." if parts else ""


def _range(bounds: list[float]) -> str:
    low, high = map(as_accuracy, bounds)
    return low if low == high else f"{low} to {high}"


def _article(name: str) -> str:
    return {"clock": "a clock", "pizza": "a pizza"}.get(name, "neither clearly a clock nor a pizza")


def the_competition(step: int, strength: Mapping[str, float | None], split: Mapping[str, Any], setting: Setting) -> str:
    """The two parts of the logits: their strengths at a step and over the whole run. `split`: the summary of
    `circuit_split` over all checkpoints."""
    highest = split["highest_memorizing_strength"]
    if highest is None:
        if setting.has_too_few_held_out and not setting.trains_on_all:
            return f"What was memorized cannot be told from what generalizes: {_few_held_out(setting)}."
        without = "held-out pairs" if setting.trains_on_all else "a known split"
        return f"Without {without} what was memorized cannot be told from what generalizes."
    if max(highest, split["highest_generalizing_strength"]) < LEAST_STRENGTH:
        return (
            f"At no checkpoint does either part of the logits give the right answer of a training pair "
            f"{LEAST_STRENGTH:g} logits: there is nothing to compare."
        )
    memorizing, generalizing = strength["memorizing"], strength["generalizing"]
    if memorizing is None or generalizing is None:
        return f"At step {as_step(step)} the strengths of the two parts cannot be computed."
    if not setting.has_frequencies:
        return (
            f"At step {as_step(step)} the right answer of a training pair gets {as_logits(memorizing + generalizing)} "
            f"logits on average, that of a held-out pair {as_logits(generalizing)}; "
            f"{as_accuracy(_last_unseen(setting))} of the latter are answered right at the end."
        )
    highest_at = split["highest_memorizing_strength_at"]
    now = ", where it is highest," if step == highest_at else f" it gives it {as_logits(memorizing)}, and"
    return (
        f"What was memorized gave the right answer of a training pair at most {as_logits(highest)} logits (step "
        f"{as_step(highest_at)}); at step {as_step(step)}{now} what held-out pairs have in common gives it "
        f"{as_logits(generalizing)}. {_the_lead(split)}"
    )


def _the_lead(split: Mapping[str, Any]) -> str:
    leads_from, led_not_at = split["generalizing_leads_from"], split["generalizing_led_not_at"]
    if leads_from is None:
        return "At no checkpoint does the latter take the lead, with the right answer ahead in it, and keep it."
    after = f" (not at {led_not_at:,})" if led_not_at is not None else ""
    return f"The latter is the stronger, with the right answer ahead in it, from step {leads_from:,} on{after}."


def as_logits(strength: float) -> str:
    """A strength for a reader; below LEAST_STRENGTH, of either sign, there is none."""
    return "about 0" if abs(strength) < LEAST_STRENGTH else as_number(strength)
