"""What can be said of recorded curves alone: the same six words as of a run, by the same definitions, and no more than
curves hold. Sentences speak of pairs and steps, as those of runs do; `in_words_of` makes of them what was recorded."""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from interp.explanation.recorded import RecordedCurves
from interp.explanation.run_facts import FALLEN, FromCurves
from interp.explanation.run_sentences import (
    HALF,
    IN_PART,
    MOSTLY,
    NEARLY,
    VERDICTS,
    apart,
    held_since,
    how_it_ends,
    how_training_pairs_end,
    last_unseen,
    the_falls,
)
from interp.figures import as_accuracy, as_count, as_number, as_percent, as_step
from interp.mathematics import grokking
from interp.mathematics.crossings import Crossing, highest_held

# Right answers, at a loss of 0.01, as a wrong one costs ln 2 at least; rounded down.
PROVED = as_percent(math.floor(1000 * (1 - (1 - grokking.LEVEL) / math.log(2))) / 1000)
KNOWN_LOSS = round(1 - grokking.LEVEL, 9)
# So many deep falls, for so many of the logged steps, are the to and fro of two curves rather than one.
MANY_FALLS, TO_AND_FRO = 5, 0.25


@dataclass(frozen=True, kw_only=True)
class CurveFacts(FromCurves):
    """What recorded curves tell, with the curves; by what each split is judged (accuracy, loss or none); the loss of a
    guess that losses are held against: that of `classes`, or the first ones logged (NaN: they begin too late); and why
    the verdict is not told that the definitions alone would give (empty: it is)."""

    recorded: RecordedCurves
    judged_by: tuple[str, str]
    chance_loss: float
    verdict_by_fixed_gap: str
    withheld: str

    @property
    def steps(self) -> np.ndarray:
        return self.recorded.steps


def in_words_of(recorded: RecordedCurves, text: str) -> str:
    """A sentence about pairs and steps, in the words of what was recorded.

    >>> in_words_of(RecordedCurves(np.array([0]), {}, unit="epoch"), "It knew all training pairs from step 3 on.")
    'It knew all training examples from epoch 3 on.'
    """
    text = re.sub(r"\bpair(s?)\b", r"example\1", text).replace("held-out loss", "test loss")
    return re.sub(r"\bstep(s?)\b", rf"{recorded.unit}\1", text)


def headline(kind: str, facts: CurveFacts) -> str:
    """The verdict, and how much of the test pairs was known since when, by what was recorded of them; that it ends
    without its training pairs, or without finite values, where it does."""
    text, log_ends = _verdict_and_extent(kind, facts) + _how_training_pairs_end(kind, facts), facts.recorded.log_ends
    return text + (f"; no finite values after step {facts.steps[-1]:,} (of {log_ends:,})" if log_ends else "")


def _verdict_and_extent(kind: str, facts: CurveFacts) -> str:
    if kind == "unknown":
        return _unknown(facts)
    text, learned, by_accuracy = VERDICTS[kind], facts.learned, facts.judged_by[1] == "accuracy"
    if kind in ("grokking", "comprehension"):
        how = f"{held_since(facts)}{how_it_ends(facts)}" if by_accuracy else _low_loss_since(learned.generalized)
        return f"{text}: {how}"
    if kind == "collapse":
        if by_accuracy:
            return f"{text}: {held_since(facts)}, and {as_accuracy(last_unseen(facts))} at the end"
        last = as_number(_last(facts, "test_loss")[1])
        return f"{text}: {_low_loss_since(learned.generalized)}, and {last} at the end"
    if kind == "memorization":
        return text + _in_part(facts) if by_accuracy else f"{text}: {_most(facts, 1)}"
    return _confusion(facts)


def _in_part(facts: CurveFacts) -> str:
    """How much of the test pairs was known and held that never was generalized, as of a run."""
    reached, guess = facts.learned.reached, 1 / (facts.recorded.classes or math.inf)
    known = f"{as_accuracy(reached)} of the test pairs (step {as_step(grokking.whole(facts.learned.reached_at))})"
    extents = (
        (NEARLY, f" and nearly generalized: {known}{how_it_ends(facts)}"),
        (MOSTLY, f" and mostly generalized: {known}{how_it_ends(facts)}"),
        (max(IN_PART, 2 * guess) if guess else math.inf, f" and generalized in part: {known}{how_it_ends(facts)}"),
    )
    return next((text for least, text in extents if reached >= least), f": {_most(facts, 1)}")


def _confusion(facts: CurveFacts) -> str:
    known = f"its training pairs ({_most(facts, 0)})", f"the test pairs ({_most(facts, 1)})"
    highest = [
        highest_held(facts.steps, facts.recorded.value(f"{split}_accuracy"))[0] if by == "accuracy" else 0.0
        for split, by in zip(("train", "test"), facts.judged_by, strict=True)
    ]
    # What two answers give by guessing is no part of what was learned.
    least = max(HALF, 2 / (facts.recorded.classes or math.inf))
    if min(highest) >= max(MOSTLY, least):
        return f"It {'nearly' if min(highest) >= NEARLY else 'mostly'} learned {known[0]} and {known[1]}"
    if min(highest) >= least:
        return f"It learned {known[0]} and {known[1]} in part only"
    if highest[0] >= least:
        return f"It learned {known[0]} in part only, and not {known[1]}"
    return f"It learned neither {known[0]} nor {known[1]}"


def _how_training_pairs_end(kind: str, facts: CurveFacts) -> str:
    falls = facts.learned.train_falls
    if facts.judged_by[0] == "loss" and kind != "confusion" and falls and math.isnan(falls[-1].recovered_at):
        return f"; train loss {as_number(_last(facts, 'train_loss')[1])} at the end"
    return how_training_pairs_end(kind, facts)


def _low_loss_since(generalized: Crossing | None) -> str:
    since = f" from step {generalized.at:,.0f} on" if generalized else ""
    return f"test loss at most {KNOWN_LOSS:g}{since}"


def _most(facts: CurveFacts, split: int) -> str:
    """How far a split came that was not known."""
    name, recorded = ("train", "test")[split], facts.recorded
    if facts.judged_by[split] == "accuracy":
        highest, at = highest_held(facts.steps, recorded.value(f"{name}_accuracy"))
        guess = f"; a guess among {recorded.classes:,}: {as_accuracy(1 / recorded.classes)}" if recorded.classes else ""
        of = "its training pairs" if name == "train" else "the test pairs"
        return f"never held more than {as_accuracy(highest)} of {of}, step {as_step(grokking.whole(at))}{guess}"
    losses = recorded.value(f"{name}_loss")
    lowest = int(np.nanargmin(losses))
    return f"{name} loss {as_number(float(losses[lowest]))} at its lowest, step {facts.steps[lowest]:,}"


def _unknown(facts: CurveFacts) -> str:
    text, generalized = VERDICTS["unknown"], facts.learned.generalized
    missing = [name for name, by in zip(("training", "test"), facts.judged_by, strict=True) if by == "none"]
    if missing and generalized is None:
        return f"{text}: nothing that decides was recorded of {' and '.join(missing)} pairs"
    if generalized is None:
        undecided = f": a loss between {KNOWN_LOSS:g} and half of a guess cannot decide"
        return text + (undecided if "loss" in facts.judged_by else "")
    known = held_since(facts) if facts.judged_by[1] == "accuracy" else _low_loss_since(generalized)
    if generalized.seen_for == 0:
        return f"It may have generalized ({known}); whether that holds cannot be told"
    if missing:
        return f"It generalized ({known}); nothing that decides was recorded of training pairs, so not whether late"
    if fell_before(facts) and not facts.withheld:
        return f"It knew the test pairs, lost them, and knows them again ({known}), too late to see that hold"
    why = f": {facts.withheld}" if facts.withheld else ""
    return f"It generalized ({known}); whether late or at once cannot be told{why}"


def fell_before(facts: CurveFacts) -> bool:
    """Whether test pairs had been reached before the step from which on they hold."""
    falls, generalized = facts.learned.falls, facts.learned.generalized
    return generalized is not None and bool(falls) and falls[0].step < generalized.at


def when(kind: str, facts: CurveFacts) -> str:
    """Between which logged steps it memorized and generalized, and how far apart; empty where neither is known."""
    memorized, generalized = facts.learned.memorized, facts.learned.generalized
    known = [_since(facts, split) for split, crossing in enumerate((memorized, generalized)) if crossing is not None]
    if not known:
        return ""
    text = ", ".join(known)
    if memorized is not None and generalized is not None:
        if kind == "unknown" and generalized.seen_for != 0 and memorized.after >= 0 and fell_before(facts):
            return f"{text}, having known and lost them before."
        if facts.withheld and generalized.seen_for != 0:
            return f"{text}."
        return text + apart(kind, memorized, generalized, facts.learned.delay)
    other = (0, 1)[memorized is not None]
    if facts.judged_by[other] == "accuracy":
        return f"{text}; 99 % of {('its training', 'the test')[other]} pairs never held."
    return f"{text}."


def _since(facts: CurveFacts, split: int) -> str:
    crossing = (facts.learned.memorized, facts.learned.generalized)[split]
    assert crossing is not None
    name, of = (("train", "training pairs (99 %)"), ("test", "test pairs (99 %)"))[split]
    by_accuracy = facts.judged_by[split] == "accuracy"
    what = f"{of} known" if by_accuracy else f"{name} loss at most {KNOWN_LOSS:g}"
    notes = []
    values = facts.recorded.value(f"{name}_{'accuracy' if by_accuracy else 'loss'}")
    before = facts.steps[np.isfinite(values) & (facts.steps < crossing.at)]
    if 0 <= crossing.after < crossing.at and crossing.after in before:
        notes.append(
            f"not at {crossing.after:,.0f}"
            if by_accuracy
            else f"at least {as_number(facts.chance_loss / 2)} at {crossing.after:,.0f}"
        )
    elif not len(before):
        notes.append("the first logged")
    if crossing.seen_for == 0:
        notes.append("the last that is logged")
    elif math.isfinite(crossing.seen_for):
        notes.append(f"seen for {as_count(round(crossing.seen_for), 'step')} only")
    return f"{what} from step {crossing.at:,.0f} on" + (f" ({'; '.join(notes)})" if notes else "")


def plateau(facts: CurveFacts) -> str:
    """What the test curves did after the training pairs were known, and before the test pairs were."""
    learned, recorded = facts.learned, facts.recorded
    if learned.memorized is None:
        return ""
    end = learned.generalized.after if learned.generalized is not None else float(facts.steps[-1])
    within = (facts.steps >= learned.memorized.at) & (facts.steps <= end)
    parts = []
    for name, shown in (("test_accuracy", as_accuracy), ("test_loss", as_number)):
        known = recorded.value(name)[within & np.isfinite(recorded.value(name))]
        if len(known) > 1:
            low, high = shown(float(known.min())), shown(float(known.max()))
            span = f"between {low} and {high}" if low != high else f"at {low}"
            parts.append(f"{name.replace('_', ' ')} was {span} ({as_count(len(known), 'logged step')})")
    if not parts:
        return ""
    until = f"step {end:,.0f}" if learned.generalized is not None else "the end"
    return f"From knowing its training pairs to {until}, {' and '.join(parts)}."


def the_end(facts: CurveFacts) -> str:
    """The last numbers that were logged."""
    parts = []
    for name in ("train_accuracy", "test_accuracy", "train_loss", "test_loss"):
        if facts.recorded.has(name):
            step, value = _last(facts, name)
            shown = as_accuracy(value) if name.endswith("accuracy") else as_number(value)
            parts.append(f"{name.replace('_', ' ')} {shown} (step {step:,})")
    return f"Last logged: {', '.join(parts)}." if parts else ""


def _last(facts: CurveFacts, name: str) -> tuple[int, float]:
    values = facts.recorded.value(name)
    index = int(np.flatnonzero(np.isfinite(values))[-1])
    return int(facts.steps[index]), float(values[index])


def the_falls_of_test(facts: CurveFacts) -> str:
    """What was lost of the test pairs after they were first known; of losses, that they rose again."""
    if facts.judged_by[1] == "accuracy":
        return the_falls(facts)
    falls = facts.learned.falls
    if not falls:
        return ""
    ends = ", and the run ends so" if math.isnan(falls[-1].recovered_at) else ""
    rose = f"half of a guess or more at {as_count(len(falls), 'stretch')}".replace("stretchs", "stretches")
    return f"After test loss was first at most {KNOWN_LOSS:g} it was {rose} of logged steps{ends}."


def the_norm(recorded: RecordedCurves) -> str:
    """How the norm of the weights went, where it was recorded."""
    if not recorded.has("weight_norm"):
        return ""
    norm = recorded.value("weight_norm")
    known = np.flatnonzero(np.isfinite(norm))
    first, last, top = norm[known[0]], norm[known[-1]], known[int(norm[known].argmax())]
    return (
        f"The norm of the weights, as recorded, began at {as_number(float(first))}, was highest, "
        f"{as_number(float(norm[top]))}, at step {recorded.steps[top]:,}, and is {as_number(float(last))} at the end."
    )


def against(kind: str, facts: CurveFacts) -> Iterator[str]:
    """What speaks against the story."""
    learned, recorded = facts.learned, facts.recorded
    if learned.generalized is not None and learned.generalized.seen_for == 0:
        yield "That it generalized was seen at one logged step alone, the last."
    if learned.memorized is not None and learned.memorized.seen_for == 0:
        yield "That it knew its training pairs was seen at one logged step alone, the last."
    if learned.falls and kind != "collapse" and facts.judged_by[1] == "accuracy":
        yield the_falls(facts)
    yield from _to_and_fro(facts)
    deep = [fall for fall in learned.train_falls if fall.lowest < FALLEN]
    if deep:
        fall = min(deep, key=lambda one: one.lowest)
        ends = ", and the run ends in it" if math.isnan(fall.recovered_at) else ""
        yield (
            f"After it had known its training pairs it knew {as_accuracy(fall.lowest)} of them in a fall that began at "
            f"step {fall.step:,.0f}{ends}."
        )
    if "loss" in facts.judged_by:
        which = [name for name, by in zip(("train", "test"), facts.judged_by, strict=True) if by == "loss"]
        guess = "half of a guess" if recorded.classes else "half of the larger first loss"
        yield (
            f"No accuracy on {' and '.join(which)} pairs was recorded: the loss stands for it, taken for a "
            f"cross-entropy in nats. At most {KNOWN_LOSS:g} proves {PROVED} right; at least {guess} "
            f"({as_number(facts.chance_loss / 2)}) is taken for not known, which is a convention: answers can be right "
            "without confidence."
        )
    if recorded.classes and recorded.is_cross_entropy:
        yield from _first_losses(facts)
    lower = learned.verdict_at_lower_level
    if (kind not in ("unknown", "collapse") or facts.withheld) and lower not in (kind, "unknown"):
        yield f"With {as_percent(grokking.LOWER_LEVEL, 0)} in place of 99 % it would be {lower}."
    fixed = facts.verdict_by_fixed_gap
    if (
        recorded.unit == "step"
        and recorded.counts_updates
        and kind not in ("unknown", "collapse")
        and fixed not in (kind, "unknown")
    ):
        yield f"By the fixed gap of Liu et al. (90 %, 1,000 steps) it would be {fixed}."
    crossing = learned.memorized
    if kind in ("grokking", "comprehension") and crossing is not None and crossing.at == facts.steps[0] > 0:
        yield (
            f"Its training pairs were known at the first logged step, {facts.steps[0]:,}: that it began untrained at "
            "step 0 is taken for granted."
        )


def _to_and_fro(facts: CurveFacts) -> Iterator[str]:
    """That a split was lost and known again all the time, as rows of several runs would have it."""
    for name, falls in (("train", facts.learned.train_falls), ("test", facts.learned.falls)):
        deep = [fall for fall in falls if fall.lowest < FALLEN]
        accuracy = facts.recorded.value(f"{name}_accuracy")
        if len(deep) < MANY_FALLS:
            continue
        since = int((np.isfinite(accuracy) & (facts.steps >= deep[0].step)).sum())
        if len(deep) >= TO_AND_FRO * since:
            yield (
                f"{name.capitalize()} accuracy fell below {as_percent(FALLEN, 0)} {len(deep):,} times over "
                f"{since:,} logged steps: rows of several runs in one table look like this."
            )


def _first_losses(facts: CurveFacts) -> Iterator[str]:
    recorded = facts.recorded
    for name in ("train_loss", "test_loss"):
        if not recorded.has(name):
            continue
        losses = recorded.value(name)
        first = int(np.flatnonzero(np.isfinite(losses))[0])
        if losses[first] < recorded.guessing / 2:
            yield (
                f"{name.replace('_', ' ').capitalize()} begins at {as_number(float(losses[first]))} (step "
                f"{facts.steps[first]:,}), less than half of a guess among {recorded.classes:,} "
                f"({as_number(recorded.guessing)}): it may be no cross-entropy, or begin late."
            )


MIRRORS = (
    "Test curves are as you recorded them: if the operation is commutative, mirrored pairs (b, a) of training pairs "
    "(a, b) may be among the test examples, and are known by heart."
)


def unsaid(kind: str, facts: CurveFacts) -> Iterator[str]:
    """What cannot be said of curves alone."""
    recorded = facts.recorded
    yield (
        "By which circuit it generalizes, whether the network uses it, and why: curves hold no weights. Checkpoints do "
        "(interp import)."
    )
    if not recorded.classes:
        yield "What a guess would give: how many answers there are is not in the curves (--classes)."
    gaps = np.diff(facts.steps)
    if len(gaps):
        widest = int(gaps.argmax())
        yield (
            f"What happened between logged steps; the widest gap is from step {facts.steps[widest]:,} to "
            f"{facts.steps[widest + 1]:,}."
        )
    yield "Whether curves were taken over all pairs of a split or over batches, or smoothed: they are taken as exact."
    yield "How many test pairs there are: 99 % is asked of them, be they few or many."
    if kind in ("memorization", "confusion", "collapse"):
        yield _what_more_steps_would_bring(facts)
    yield "One run shows what happened in it, not how often it happens: repeat it over seeds."


def _what_more_steps_would_bring(facts: CurveFacts) -> str:
    text = "What more steps would have brought"
    if facts.late_changes is None:
        return f"{text}: too few were logged in the last tenth to tell whether it stood still."
    if facts.late_changes:
        moved = " and ".join(facts.late_changes)
        return f"{text}: it was still moving (over the last tenth of its steps, on test pairs, {moved})."
    still = [
        f"{name} within {within}"
        for name, within in (("accuracy", "1 point"), ("loss", "10 %"))
        if facts.recorded.has(f"test_{name}")
    ]
    return (
        f"{text}: on test pairs it stood still over the last tenth of its steps ({', '.join(still)}), and such "
        "plateaus can end."
    )
