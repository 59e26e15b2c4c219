"""What an explanation says first: when, what changed, which circuit, and whether that is what the network uses."""

from collections.abc import Iterator, Mapping
from typing import Any

from interp.explanation.circuit_sentences import (
    PAIRS,
    as_logits,
    circuit_in_short,
    the_check,
    the_check_in_short,
    the_competition,
    the_last_circuit,
    the_name,
)
from interp.explanation.force_sentences import why
from interp.explanation.run_facts import Setting
from interp.explanation.run_sentences import Summaries, how_it_ended, when_in_short
from interp.figures import as_accuracy, as_norm, as_number
from interp.mathematics.circuits import LEAST_STRENGTH

MOST_NAMED = 5  # frequencies, the strongest


def brief(
    kind: str,
    checkpoint: Mapping[str, Any],
    summaries: Summaries,
    split: Mapping[str, Any],
    setting: Setting,
    *,
    stopped: tuple[str, ...] = (),
) -> Iterator[tuple[str, ...]]:
    """What comes after the headline and before what speaks against it: each in one or more wordings, from the fullest
    to the shortest. `stopped`: what early stopping would have kept, in wordings too."""
    for sentence in how_it_ended(setting):
        yield (sentence,)
    if told := " ".join([when_in_short(kind, setting), *stopped[1:2]]).strip():
        learned = setting.learned
        if stopped and learned.memorized is not None and learned.generalized is not None:
            begun = f"training pairs from step {learned.memorized.at:,.0f} on, {setting.unseen} from step "
            yield f"When: {told}", f"When: {begun}{learned.generalized.at:,.0f} on; {stopped[-1]}"
        else:
            yield (f"When: {told}",)
    changed, norm = _what_changed(checkpoint, split, summaries["circuit_split"], setting), _norm(summaries)
    yield f"What changed: {changed} {norm}", f"What changed: {changed}"
    if "circuit_forces" in summaries and (told := why(summaries["circuit_forces"], setting)):
        yield tuple(f"Why: {wording}" for wording in told)
    step = f"at step {checkpoint['step']:,}" if checkpoint["step"] >= 0 else "in this checkpoint"
    circuit, alone = _circuit(checkpoint, summaries.get("clock_pizza", {}), setting)
    known = "" if setting.task.split_known else f"; {as_accuracy(checkpoint['accuracy']['all'])} of all pairs right"
    named = f"Circuit {step} (state: {checkpoint['state']}{known}): {circuit}"
    yield (f"{named} {alone}", named) if alone else (named,)
    if checkpoint["has_circuit"] and (check := the_check(checkpoint, setting.of_last_layer)):
        in_short = the_check_in_short(checkpoint, setting.of_last_layer)
        yield tuple(f"Check: {wording}" for wording in (check, in_short) if wording)
    if setting.model.is_recorded:
        yield (
            f"Recorded of a module were its {_recorded(setting)}: why, and whether it uses its key frequencies, "
            "is not told.",
        )


def _recorded(setting: Setting) -> str:
    """What is known of a module."""
    *parts, last = ("logits", *setting.model.module.holds)
    return f"{', '.join(parts)} and {last}" if parts else f"{last} alone"


def _norm(summaries: Summaries) -> str:
    norms = summaries["weight_norms"]
    span = {as_norm(norms[name]): None for name in ("first_l2", "highest_l2", "last_l2")}
    return f"Weight norm {' → '.join(span)}."


def _what_changed(
    checkpoint: Mapping[str, Any], of_run: Mapping[str, Any], here: Mapping[str, Any], setting: Setting
) -> str:
    strength, highest = checkpoint["strength"], of_run["highest_memorizing_strength"]
    memorizing, generalizing = strength["memorizing"], strength["generalizing"]
    if None in (highest, memorizing, generalizing) or not setting.has_frequencies:
        told = the_competition(checkpoint["step"], strength, of_run, setting)
        return f"{told[0].lower()}{told[1:]}"
    if highest < LEAST_STRENGTH:
        shared = f"what held-out pairs share gives the right answer {as_logits(generalizing)} logits"
        return f"of memory there is none at any checkpoint that is clear of chance; {shared}{_lead(of_run, here)}."
    return (
        f"memory gave the right answer at most {as_logits(highest)} logits (step "
        f"{of_run['highest_memorizing_strength_at']:,}), here {as_logits(memorizing)}; what held-out pairs share "
        f"gives it {as_logits(generalizing)}{_lead(of_run, here)}."
    )


def _lead(of_run: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    if not here["generalizing_part_answers"]:
        return ", with another answer ahead"
    leads_from = of_run["generalizing_leads_from"]
    return f", more than memory from step {leads_from:,} on" if leads_from is not None else ""


def _circuit(checkpoint: Mapping[str, Any], clock: Mapping[str, Any], setting: Setting) -> tuple[str, str]:
    """The circuit, and what it does alone; the latter empty where there is none."""
    if not setting.has_frequencies:
        return "the operation is no addition in other coordinates, so none of frequencies is looked for.", ""
    if not checkpoint["has_circuit"]:
        keys, last = checkpoint["key_frequencies"], the_last_circuit(checkpoint, setting)
        none = "its key frequencies do not clearly answer better than a guess." if keys else "no frequency is key."
        return f"{none}{last}", ""
    name = the_name(clock) if checkpoint["circuit"] else ""
    kind = f"; {name}" if name else ""
    split = "held_out" if checkpoint["restricted_loss"]["held_out"] is not None else "all"
    alone, whole = (as_number(checkpoint[name][split]) for name in ("restricted_loss", "loss"))
    return (
        f"{circuit_in_short(checkpoint, MOST_NAMED)}{kind}.",
        f"Alone: loss {alone} on {PAIRS[split]} (network {whole}, a guess {as_number(setting.guessing)}).",
    )
