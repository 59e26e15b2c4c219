"""What an explanation says of the run: each sentence follows from stored numbers."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from interp.experiment import MIXTURES
from interp.explanation.run_facts import FALLEN, FromCurves, Setting
from interp.figures import as_accuracy, as_count, as_norm, as_number, as_percent, as_step
from interp.mathematics import grokking
from interp.mathematics.held_out import FEWEST_HELD_OUT
from interp.mathematics.spikes import SETTLED

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
    text = _verdict_and_number(kind, setting) + how_training_pairs_end(kind, setting)
    return text + (f"; training diverged by step {at:,}" if at is not None else "")


def _verdict_and_number(kind: str, setting: Setting) -> str:
    if kind == "unknown":
        return _why_unknown(setting)
    learned, text = setting.learned, VERDICTS[kind]
    if kind in ("grokking", "comprehension"):
        return f"{text}: {held_since(setting)}{how_it_ends(setting)}"
    if kind == "collapse":
        return f"{text}: {held_since(setting)}, and {as_accuracy(last_unseen(setting))} at the end"
    within, known, end = _within(setting), _held_at(setting), how_it_ends(setting)
    if kind == "confusion":
        return _confusion(setting)
    extents = (
        (NEARLY, f" and nearly generalized{within}: {known}{end}"),
        (MOSTLY, f" and mostly generalized{within}: {known}{end}"),
        (IN_PART if setting.knows_in_part else math.inf, f" and generalized in part{within}: {known}{end}"),
        (0.0, f" and did not generalize{within}: {_at_most(setting)}"),
    )
    return text + next((extent for least, extent in extents if learned.reached >= least), within)


def _confusion(setting: Setting) -> str:
    train, within = setting.accuracy["train"], _within(setting)
    if not math.isfinite(setting.learned.reached):
        return f"{VERDICTS['confusion']}{within}"
    known = f"its training pairs ({as_accuracy(train)})", f"the rule ({_at_most(setting, in_brackets=False)})"
    if max(train, setting.learned.reached) >= HALF:
        if not setting.knows_in_part:
            return f"It learned {known[0]} in part only, and not {known[1]}{within}"
        return f"It learned {known[0]} and {known[1]} in part only{within}"
    return f"It learned neither {known[0]} nor {known[1]}{within}"


def _why_unknown(setting: Setting) -> str:
    text, learned = VERDICTS["unknown"], setting.learned
    if setting.trains_on_all:
        return f"{text}: it was trained on all pairs"
    if setting.has_too_few_held_out:
        return f"{text}: {few_held_out(setting)}"
    if learned.generalized is not None and learned.generalized.seen_for == 0:
        return f"It may have generalized ({held_since(setting)}); whether that holds cannot be told"
    if learned.generalized is not None and learned.memorized is not None:
        return f"It generalized ({held_since(setting)}); whether late or at once cannot be told"
    return text if setting.task.split_known else f"{text}: the split is unknown"


def _held_at(setting: Setting) -> str:
    """How much of the held-out pairs it came to know and held, and when."""
    return f"{as_accuracy(setting.learned.reached)} of the {setting.unseen} ({_reached_at(setting)})"


def _at_most(setting: Setting, *, in_brackets: bool = True) -> str:
    """`_held_at` of one that did not come far, beside what guessing gives: a single step may have had more, and not
    held it."""
    if setting.learned.reached == 0:
        known, guess = f"never held any of the {setting.unseen}", f"a guess: {as_accuracy(setting.guessed)}"
        return f"{known} ({guess})" if in_brackets else f"{known}, {guess}"
    known = f"never held more than {as_accuracy(setting.learned.reached)} of the {setting.unseen}"
    since = f"{_reached_at(setting)}; a guess: {as_accuracy(setting.guessed)}"
    return f"{known} ({since})" if in_brackets else f"{known}, {since}"


def _reached_at(setting: Setting) -> str:
    at = grokking.whole(setting.learned.reached_at)
    return f"step {as_step(at)}" + (", the last alone" if at == setting.last_step > 0 else "")


def held_since(setting: FromCurves) -> str:
    """How much of the held-out pairs it came to know, and since when it had generalized."""
    learned, known = setting.learned, f"{as_accuracy(setting.learned.reached)} of the {setting.unseen}"
    if learned.generalized is None or learned.generalized.at == learned.reached_at:
        since = as_step(grokking.whole(learned.reached_at))
        alone = learned.generalized is not None and learned.generalized.seen_for == 0
        return f"{known}, at step {since} alone, the last" if alone else f"{known}, from step {since} on"
    return f"{known}, {_level(setting)} from step {as_step(grokking.whole(learned.generalized.at))} on"


def _within(setting: Setting) -> str:
    if setting.last_step <= 0:
        return ""
    planned = setting.planned_steps or 0
    of_planned = f" (of {planned:,})" if setting.last_step < planned else ""
    return f" within {as_count(setting.last_step, 'step')}{of_planned}"


def how_it_ends(setting: FromCurves) -> str:
    """That it ends below what it had reached, by a point or more, or in a fall."""
    falls, last = setting.learned.falls, last_unseen(setting)
    in_a_fall = bool(falls) and math.isnan(falls[-1].recovered_at)
    if math.isfinite(last) and (in_a_fall or last < setting.learned.reached - A_POINT):
        return f", and {as_accuracy(last)} at the end"
    return ""


def how_training_pairs_end(kind: str, setting: FromCurves) -> str:
    """That it ends without its training pairs, which it had known."""
    falls, last = setting.learned.train_falls, setting.accuracy["train"]
    if kind == "confusion" or not falls or math.isfinite(falls[-1].recovered_at) or not last < FALLEN:
        return ""
    return f"; {as_accuracy(last)} of its training pairs at the end"


def last_unseen(setting: FromCurves) -> float:
    """The last known accuracy on held-out pairs; of test pairs, where the split is unknown."""
    return setting.accuracy.get("held_out", setting.accuracy["test"])


def few_held_out(setting: Setting) -> str:
    """That too few pairs are held out."""
    n = setting.task.n_held_out
    return f"only {n} independent {'pair is' if n == 1 else 'pairs are'} held out, and {FEWEST_HELD_OUT} are needed"


def how_it_ended(setting: Setting) -> Iterator[str]:
    """What a reader must know of the training before its curves: that its losses are no cross-entropies, that it
    diverged, or that it did not reach its end."""
    if setting.trained_on is not None:
        yield (
            f"It was trained on another loss ({setting.trained_on}), and the curves are of that; losses of parts of "
            "the network, and of the network beside them, are cross-entropies in nats, which it was not trained on."
        )
    if setting.diverged_at is not None:
        step = f"{setting.diverged_at:,}"
        yield (
            f"Training diverged by step {step}: there weights or loss are not finite, or the loss is far above "
            "guessing."
        )
    elif setting.planned_steps is not None and setting.last_step < setting.planned_steps:
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
    if task.is_mixture:
        decides, even, odd = MIXTURES[task.operation]
        yield f"Where {decides} is even it is to {even}, where {decides} is odd to {odd}."
    if task.label_noise and task.split_known:
        wrong = as_percent(task.label_noise, 0)
        yield (
            f"Training pairs means the labels trained on, {wrong} of which are wrong on purpose (which of them the "
            "network contradicts: the analysis label_noise); those of other pairs are right."
        )
    if task.operation in ("multiply", "divide") and task.has_phase:
        yield "Losses, strengths and cuts are over pairs of units (those without 0), accuracies over all pairs."
    if task.augmentation == "mirror":
        drawn = as_count(len(task.drawn_indices), "drawn pair")
        added = as_count(len(task.train_indices) - len(task.drawn_indices), "mirror")
        yield f"Trained on are {drawn} and {added} of them."
    if n_validation := setting.pairs("validation"):
        yield f"{as_count(n_validation, 'pair')} are to choose on: they are neither training nor test pairs."
    if task.split_known and setting.has_test_pairs and task.symmetries:
        left = f"{int(task.mask('held_out').sum()):,} of {int(task.test_mask.sum()):,} test pairs"
        yield f"Held out are {left}: those {what_held_out_means(setting)}."


def what_held_out_means(setting: Setting) -> str:
    """Which test pairs count as held out, after "those"."""
    if setting.task.is_mixture:
        return "that no symmetry of the operation which answers them makes of a training pair of that operation"
    if setting.task.symmetries == ("mirror",):
        return "(a, b) whose mirror (b, a) was not trained on either"
    if setting.task.symmetries == ("mirror and negate both",):
        return "(a, b) whose (−b, −a), which has the same difference, was not trained on either"
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
        return text + apart(kind, memorized, generalized, learned.delay)
    if memorized is not None:
        return f"It knew {train} {_from(memorized)}, and never held {other}."
    if generalized is not None:
        return f"It knew {other} {_from(generalized)}, and never held {train}."
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
    return text + apart(kind, memorized, generalized, learned.delay)


def apart(kind: str, memorized: grokking.Crossing, generalized: grokking.Crossing, delay: tuple[float, float]) -> str:
    """How far apart the two are, as the end of a sentence; why that is not known, where the verdict is unknown."""
    least, most = (int(bound) for bound in delay)
    steps = f"{least:,} to {most:,}" if least != most else f"{most:,}"
    if kind == "unknown" and memorized.after < 0:
        return ". Its curves begin when it knew its training pairs: since when, and how long before, is not known."
    if kind == "unknown" and generalized.seen_for == 0:
        return ". Whether that holds is not seen."
    if kind == "unknown":
        return (
            f". The delay is between {least:,} and {most:,} steps: too coarse to tell grokking from generalizing while "
            "it learned."
        )
    if kind == "comprehension" and generalized.at <= memorized.after:
        return ": no later, so no grokking."
    if kind == "comprehension":
        return f", {steps} steps later: less than three times the steps it took to memorize, so no grokking."
    factor = generalized.after / memorized.at
    at_least = f", at least {factor:.1f} times as many" if kind == "grokking" else ""
    return f", {steps} steps later{at_least}."


def _from(crossing: grokking.Crossing) -> str:
    notes = [f"not at {crossing.after:,.0f}"] if 0 <= crossing.after < crossing.at else []
    if crossing.seen_for == 0:
        notes.append("the last that is logged")
    elif math.isfinite(crossing.seen_for):
        notes.append(f"seen for {as_count(round(crossing.seen_for), 'step')} only")
    return f"from step {crossing.at:,.0f} on" + (f" ({'; '.join(notes)})" if notes else "")


def _level(setting: FromCurves, split: str = "held_out") -> str:
    """How much of a split has to be known."""
    n = setting.pairs(split)
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
        return f"No verdict: {few_held_out(setting)}. {end}"
    told = when(kind, setting)
    if kind == "unknown" and not told:
        cannot = "The curves cannot decide when, or whether, it memorized and generalized."
        return f"{cannot} {end}" if math.isfinite(setting.accuracy["train"]) else cannot
    return " ".join(part for part in (told, the_falls(setting), end) if part)


def the_falls(setting: FromCurves) -> str:
    """What was lost after it generalized, for however few steps; empty where nothing was."""
    falls = setting.learned.falls
    if not falls:
        return ""
    known = [fall for fall in falls if math.isfinite(fall.lowest)]
    deepest = min(known, key=lambda fall: fall.lowest) if known else None
    text = f"After it first knew {_level(setting)} of the {setting.unseen} it fell below that {_times(len(falls))}"
    if deepest is not None:
        is_near = round(deepest.lowest, 3) >= grokking.LEVEL > deepest.lowest  # and is not to be rounded to it
        lowest = as_accuracy(math.floor(1000 * deepest.lowest) / 1000 if is_near else deepest.lowest)
        text += f", deepest to {lowest} in the fall of step {deepest.step:,.0f}"
    ends = math.isnan(falls[-1].recovered_at)
    return text + (", and the run ends in such a fall." if ends else ", and recovered.")


def the_spikes(summaries: Summaries) -> Iterator[str]:
    """That the training loss spiked after the network had memorized, where it did."""
    spikes = summaries["learning_curves"]["spikes"]
    if not spikes:
        return
    highest = max(spikes, key=lambda spike: spike["loss"])
    at = f"to {as_number(highest['loss'])} at step {highest['step']:,}"
    if len(spikes) > 1:
        at = f"first at step {spikes[0]['step']:,}, highest {at}"
    yield (
        f"Once it had known all training pairs for {SETTLED} steps, the training loss spiked {_times(len(spikes))} "
        f"({at}): the analysis slingshots tells whether a norm grew before, and whether rounding is to blame."
    )


def _times(n: int) -> str:
    return {1: "once", 2: "twice"}.get(n, f"{n:,} times")


def the_phases(run: Mapping[str, Any]) -> list[str]:
    """Where the phases end, one sentence or two."""
    known = [phase for phase in run["phases"] if phase["end"] is not None]
    if not known:
        memorized_at, generalized_after = run["memorized_at"], run["generalized_after"]
        if run["generalized_at"] is None:
            why = "it did not generalize so that it held"
        elif memorized_at is None or generalized_after is None or memorized_at > generalized_after:
            why = "it is not known to have memorized before it generalized"
        else:
            why = "fewer than two signals bend where a phase would end"
        return [f"Phases of memorization, circuit formation and cleanup are not told: {why}."]
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
