"""What an explanation says first: when, what changed, which circuit, and whether that is what the network uses."""

from collections.abc import Iterator, Mapping
from typing import Any

from interp.explanation.run_facts import Setting
from interp.explanation.sentences import (
    Summaries,
    as_logits,
    circuit_in_short,
    how_it_ended,
    the_check,
    the_competition,
    when,
)
from interp.figures import as_norm, as_number


MOST_NAMED = 5  # frequencies, the strongest


def brief(
    kind: str, checkpoint: Mapping[str, Any], summaries: Summaries, split: Mapping[str, Any], setting: Setting
) -> Iterator[str]:
    """The lines after the headline and before what speaks against it, each a sentence or two."""
    yield from how_it_ended(setting)
    if (memorized := setting.learned.memorized) is not None and setting.has_too_few_held_out:
        yield f"When: It knew its training pairs from step {memorized.at:,.0f} on."
    elif told := when(kind, setting):
        yield f"When: {told}"
    yield f"What changed: {_what_changed(checkpoint, summaries, split, setting)}"
    step = f"at step {checkpoint['step']:,}" if checkpoint["step"] >= 0 else "in this checkpoint"
    yield f"Circuit {step} (state: {checkpoint['state']}): {_circuit(checkpoint, setting)}"
    if checkpoint["has_circuit"] and (check := the_check(checkpoint)):
        yield f"Check: {check}"


def _what_changed(
    checkpoint: Mapping[str, Any], summaries: Summaries, split: Mapping[str, Any], setting: Setting
) -> str:
    norms = summaries["weight_norms"]
    span = {as_norm(norms[name]): None for name in ("first_l2", "highest_l2", "last_l2")}
    norm = f"Weight norm {' → '.join(span)}."
    strength, highest = checkpoint["strength"], split["highest_memorizing_strength"]
    is_unknown = highest is None or strength["memorizing"] is None or strength["generalizing"] is None
    if is_unknown or not setting.has_frequencies:
        told = the_competition(checkpoint["step"], strength, split, setting)
        return f"{told[0].lower()}{told[1:]} {norm}"
    return (
        f"memory gave the right answer at most {as_logits(highest)} logits (step "
        f"{split['highest_memorizing_strength_at']:,}), now {as_logits(strength['memorizing'])}; what held-out pairs have "
        f"in common gives it {as_logits(strength['generalizing'])}{_lead(split, summaries['circuit_split'])}. {norm}"
    )


def _lead(of_run: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    if not here["generalizing_part_answers"]:
        return ", with another answer ahead"
    leads_from = of_run["generalizing_leads_from"]
    return f", more than memory from step {leads_from:,} on" if leads_from is not None else ""


def _circuit(checkpoint: Mapping[str, Any], setting: Setting) -> str:
    if not setting.has_frequencies:
        return "the operation is no addition in other coordinates, so none of frequencies is looked for."
    if not checkpoint["has_circuit"]:
        keys = checkpoint["key_frequencies"]
        return "its key frequencies do not clearly answer better than a guess." if keys else "no frequency is key."
    kind = {"clock": "; a clock", "pizza": "; a pizza"}.get(checkpoint["circuit"], "")
    split = "held_out" if checkpoint["restricted_loss"]["held_out"] is not None else "all"
    alone, whole = (as_number(checkpoint[name][split]) for name in ("restricted_loss", "loss"))
    pairs = {"held_out": "held-out pairs", "all": "all pairs"}[split]
    return (
        f"{circuit_in_short(checkpoint, MOST_NAMED)}{kind}. Alone they have loss {alone} on {pairs} (network {whole}, a "
        f"guess {as_number(setting.guessing)})."
    )
