"""From recorded curves to a verdict, facts and a short text, as `interp.explanation.explanation` makes of a run."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from interp.analysis import find
from interp.explanation.curve_sentences import (
    KNOWN_LOSS,
    MIRRORS,
    CurveFacts,
    against,
    headline,
    in_words_of,
    plateau,
    the_end,
    the_falls_of_test,
    the_norm,
    unsaid,
    when,
)
from interp.explanation.explanation import Explanation, Fact
from interp.explanation.recorded import NAMES, RecordedCurves
from interp.explanation.run_facts import late_changes
from interp.explanation.run_sentences import the_phases
from interp.figures import as_accuracy, as_count, as_number, as_percent, as_step
from interp.mathematics import grokking
from interp.mathematics.crossings import crossing

SPLITS = ("train", "test")


@dataclass(frozen=True)
class Curves(Explanation):
    """What recorded curves tell: an `Explanation` without a circuit, with the curves (`recorded`), the dataset of the
    definitions that the verdict is told from (`transitions`; what they alone would give, where a verdict is withheld),
    the `stages` that crossings cut training into, and its `episodes`: falls of what had been known.

    >>> steps = np.arange(0, 1000, 10)
    >>> known = {"train_accuracy": (steps >= 50) * 1.0, "test_accuracy": (steps >= 500) * 1.0}
    >>> told = explain_curves(RecordedCurves(steps, known))
    >>> print(told.headline)
    It grokked: 100 % of the test examples, from step 500 on
    >>> [(stage["name"], stage["start"], stage["end"]) for stage in told.stages]
    [('memorizing', 0, 50), ('memorized', 50, 500), ('generalized', 500, 990)]
    """

    recorded: RecordedCurves
    transitions: xr.Dataset
    stages: tuple[dict[str, Any], ...]
    episodes: tuple[dict[str, Any], ...]


def explain_curves(recorded: RecordedCurves) -> Curves:
    """The verdict that curves alone allow, by the definitions of `interp.mathematics.grokking`: where an accuracy was
    recorded it decides; else a loss does, as far as a cross-entropy can.

    >>> steps = np.arange(0, 1000, 10)
    >>> losses = {"train_loss": np.where(steps >= 50, 1e-3, 4.7), "test_loss": np.where(steps >= 50, 12.0, 4.8)}
    >>> explain_curves(RecordedCurves(steps, losses)).headline
    'It memorized: test loss 4.8 at its lowest, step 0'
    """
    facts, transitions = _facts_of(recorded)
    kind = facts.learned.verdict
    summary = find("transitions").summary(transitions)

    def said(texts: Iterator[str]) -> Iterator[str]:
        return (in_words_of(recorded, text) for text in texts if text)

    stages = tuple(_stages(facts))
    doubts = [*recorded.doubts, *said(against(kind, facts))]
    if recorded.has("test_accuracy") or recorded.has("test_loss"):
        doubts.append(MIRRORS)
    told, kept = when(kind, facts), the_falls_of_test(facts)
    sentence = f"{told[:1].upper()}{told[1:]}"
    first = " ".join(part for part in (sentence, kept, the_end(facts)) if part)
    read = " ".join((_what_was_read(recorded), *recorded.notes))
    in_brief = [f"When: {told}" if told else "", plateau(facts), the_end(facts)]
    return Curves(
        numbers=_numbers(facts, summary, stages),
        headline=in_words_of(recorded, headline(kind, facts)),
        facts=tuple(
            Fact(in_words_of(recorded, label), in_words_of(recorded, value), section)
            for label, value, section in _facts(facts)
        ),
        brief=(*((text,) for text in said(iter(in_brief))), _in_fewer_words(recorded, read)),
        paragraphs=(*said(iter((first, plateau(facts), the_norm(recorded), *_phases(summary, recorded)))), read),
        against=tuple(doubts),
        unsaid=tuple(said(unsaid(kind, facts))),
        recorded=recorded,
        transitions=transitions,
        stages=stages,
        episodes=tuple(_episodes(facts)),
    )


def _facts_of(recorded: RecordedCurves) -> tuple[CurveFacts, xr.Dataset]:
    steps, value = recorded.steps, recorded.value
    first_losses = grokking.chance(value("train_loss"), value("test_loss"))
    chance = recorded.guessing if recorded.classes else first_losses
    # A loss stands for an accuracy where there is none, and where it can be a cross-entropy that begins at a guess.
    can_decide = recorded.is_cross_entropy and math.isfinite(first_losses)
    decides = tuple(can_decide and not recorded.has(f"{split}_accuracy") for split in SPLITS)
    transitions = find("transitions").module.from_curves(
        steps,
        *(value(f"{split}_loss") for split in SPLITS),
        *(value(f"{split}_accuracy") for split in SPLITS),
        chance_loss=chance if math.isfinite(chance) else None,
        weight_norm=value("weight_norm"),
        loss_decides=(decides[0], decides[1]),
    )
    accuracies = np.stack([value(f"{split}_accuracy") for split in SPLITS])
    losses = np.stack(
        [value(f"{split}_loss") if decides[i] else np.full(len(steps), np.nan) for i, split in enumerate(SPLITS)]
    )
    judged_by = tuple(
        "accuracy"
        if recorded.has(f"{split}_accuracy")
        else "loss"
        if decides[i] and recorded.has(f"{split}_loss")
        else "none"
        for i, split in enumerate(SPLITS)
    )
    last = {split: _last_known(value(f"{split}_accuracy")) for split in SPLITS}
    learned = grokking.events(steps, accuracies, losses, chance)
    if recorded.unit == "epoch" and steps[0] == 0:
        from_one = grokking.events(steps + 1, accuracies, losses, chance)
        if from_one.verdict_at_lower_level != learned.verdict_at_lower_level:
            learned = learned._replace(verdict_at_lower_level="unknown")
    else:
        from_one = learned
    withheld = _why_withheld(learned, recorded, from_one.verdict)
    facts = CurveFacts(
        learned=learned._replace(verdict="unknown") if withheld else learned,
        planned_steps=None,
        last_step=int(steps[-1]),
        diverged_at=None,
        accuracy_at=int(steps[-1]),
        accuracy=last,
        late_changes=_late_changes(recorded),
        recorded=recorded,
        judged_by=(judged_by[0], judged_by[1]),
        chance_loss=chance,
        verdict_by_fixed_gap=find("transitions").summary(transitions)["fixed_gap_verdict"],
        withheld=withheld,
    )
    return facts, transitions


def _why_withheld(learned: grokking.Events, recorded: RecordedCurves, from_one: str) -> str:
    """Why a verdict is not told; empty where it is. Recorded training accuracies are often those of minibatches, or
    with dropout, and may stand below 99 % when all is known; and epochs that count from 0 may each be one later
    (`from_one`: the verdict then)."""
    memorized, generalized, steps = learned.memorized, learned.generalized, recorded.steps
    if learned.verdict not in ("grokking", "comprehension") or generalized is None:
        return ""
    if memorized is None or memorized.at >= generalized.at:
        train = recorded.value("train_accuracy")
        stood = crossing(steps, np.where(np.isnan(train), np.nan, train >= grokking.LOWER_LEVEL))
        if stood is not None and generalized.after >= grokking.DELAY_FACTOR * stood.at:
            held = "training accuracy never held 99 %" if memorized is None else "training accuracy held 99 % no sooner"
            return f"{held}, but {as_percent(grokking.LOWER_LEVEL, 0)} from step {stood.at:,.0f} on"
    if from_one != learned.verdict:
        return f"counted from epoch 1 in place of 0 it would be {from_one} in place of {learned.verdict}"
    return ""


def _last_known(values: np.ndarray) -> float:
    known = values[np.isfinite(values)]
    return float(known[-1]) if len(known) else math.nan


def _late_changes(recorded: RecordedCurves) -> tuple[str, ...] | None:
    curves = {name: ("step", recorded.value(f"test_{name}")) for name in ("accuracy", "loss")}
    rows = np.isfinite(curves["accuracy"][1]) | np.isfinite(curves["loss"][1])
    return late_changes(xr.Dataset(curves, {"step": recorded.steps}).isel(step=rows)) if rows.any() else None


def _stages(facts: CurveFacts) -> Iterator[dict[str, Any]]:
    """What training is cut into by the steps from which on something was known, and by the fall that lost it."""
    learned, first, last = facts.learned, int(facts.steps[0]), int(facts.steps[-1])
    memorized, generalized = learned.memorized, learned.generalized
    at: list[tuple[str, int]] = [("memorizing" if memorized else "learning", first)]
    if memorized is not None and (generalized is None or memorized.at < generalized.at):
        at.append(("memorized", int(memorized.at)))
    elif generalized is not None:
        at = [("learning", first)]
    if generalized is not None:
        at.append(("generalized", int(generalized.at)))
        if learned.verdict == "collapse" and learned.falls:
            at.append(("lost", int(learned.falls[-1].step)))
    ends = [*(start for _, start in at[1:]), last]
    for (name, start), end in zip(at, ends, strict=True):
        if end > start:
            yield {"name": name, "start": start, "end": end}


def _episodes(facts: CurveFacts) -> Iterator[dict[str, Any]]:
    for split, falls in zip(SPLITS, (facts.learned.train_falls, facts.learned.falls), strict=True):
        for fall in falls:
            yield {"split": split} | fall.to_dict()


def _phases(summary: dict[str, Any], recorded: RecordedCurves) -> list[str]:
    """The phases, where a second signal beside the test loss was recorded."""
    if not recorded.has("weight_norm") or not recorded.has("test_loss"):
        return [
            "Phases of memorization, circuit formation and cleanup are not told: two signals have to bend together, "
            "and of those that curves can hold, test loss and the norm of the weights, not both were recorded."
        ]
    return the_phases(summary)


def _what_was_read(recorded: RecordedCurves) -> str:
    of = [
        f"{NAMES[curve]} from {name!r}" if (name := recorded.columns.get(curve)) else NAMES[curve]
        for curve in NAMES
        if recorded.has(curve)
    ]
    logged = as_count(len(recorded.steps), f"logged {recorded.unit}")
    span = f"{recorded.unit} {recorded.steps[0]:,} to {recorded.steps[-1]:,}"
    return f"Read: {', '.join(of)}; {logged}, {span}."


def _in_fewer_words(recorded: RecordedCurves, read: str) -> tuple[str, ...]:
    """What was read, in full, and with only the number of the notes, which --long tells."""
    if not recorded.notes:
        return (read,)
    names = ", ".join(NAMES[curve] for curve in NAMES if recorded.has(curve))
    notes = as_count(len(recorded.notes), "note")
    return read, f"Read: {names}, with {notes} on how (--long)."


def _numbers(facts: CurveFacts, summary: dict[str, Any], stages: tuple[dict[str, Any], ...]) -> dict[str, Any]:
    """JSON; null where unknown."""
    recorded, learned = facts.recorded, facts.learned
    is_steps = recorded.unit == "step" and recorded.counts_updates
    renamed = {name.replace("held_out", "test"): value for name, value in learned.times.items()}
    return {
        "run": {
            "verdict": learned.verdict,
            "withheld": facts.withheld or None,
            "judged_by": dict(zip(SPLITS, facts.judged_by, strict=True)),
            "verdict_at_90_percent": learned.verdict_at_lower_level,
            "fixed_gap_verdict": summary["fixed_gap_verdict"] if is_steps else None,
            **renamed,
            "delay": [grokking.whole(bound) for bound in learned.delay],
            "stages": list(stages),
            "phases": summary["phases"],
        },
        "episodes": list(_episodes(facts)),
        "curves": {
            "source": recorded.source,
            "unit": recorded.unit,
            "logged": len(recorded.steps),
            "first": int(recorded.steps[0]),
            "last": int(recorded.steps[-1]),
            "columns": dict(recorded.columns),
            "points": {name: recorded.points(name) for name in NAMES if recorded.has(name)},
            "classes": recorded.classes,
            "notes": list(recorded.notes),
        },
    }


def _facts(facts: CurveFacts) -> Iterator[tuple[str, str, str]]:
    learned, recorded = facts.learned, facts.recorded
    crossings = (learned.memorized, learned.generalized)
    for of, by, found in zip(("training", "test"), facts.judged_by, crossings, strict=True):
        label = f"{of} loss at most {KNOWN_LOSS:g} from step" if by == "loss" else f"{of} pairs known from step"
        yield label, as_step(grokking.whole(found.at) if found else None), "transitions"
    if facts.judged_by[1] == "accuracy":
        at = as_step(grokking.whole(learned.reached_at))
        yield "highest test accuracy that held", f"{as_accuracy(learned.reached)} at step {at}", "transitions"
    if recorded.has("test_loss"):
        losses = recorded.value("test_loss")
        top = int(np.nanargmax(losses))
        yield "highest test loss", f"{as_number(float(losses[top]))} at step {recorded.steps[top]:,}", "transitions"
    falls = [as_count(len(learned.train_falls), "fall"), as_count(len(learned.falls), "fall")]
    yield "after they were known", f"train {falls[0]}, test {falls[1]}", "episodes"
    yield "logged", as_count(len(recorded.steps), "step"), "columns"
