"""What an explanation says first: when, what changed, which circuit, and whether that is what the network uses."""

from collections.abc import Iterator, Mapping
from typing import Any

from interp.explanation.run_facts import Setting
from interp.explanation.sentences import (
    Summaries,
    circuit_in_short,
    how_it_ended,
    the_check,
    the_competition,
    when,
)
from interp.figures import as_norm, as_number


def brief(
    kind: str, checkpoint: Mapping[str, Any], summaries: Summaries, split: Mapping[str, Any], setting: Setting
) -> Iterator[str]:
    """The lines after the headline and before what speaks against it, each a sentence or two."""
    told = when(kind, setting)
    if told and not setting.has_too_few_held_out:
        yield f"When: {told}"
    else:
        yield from how_it_ended(setting)
    yield f"What changed: {_what_changed(checkpoint, summaries, split, setting)}"
    yield f"Circuit: {_circuit(checkpoint, summaries, setting)}"
    if checkpoint["has_circuit"] and (check := the_check(checkpoint)):
        yield f"Check: {check}"


def _what_changed(
    checkpoint: Mapping[str, Any], summaries: Summaries, split: Mapping[str, Any], setting: Setting
) -> str:
    norms = summaries["weight_norms"]
    span = {as_norm(norms[name]): None for name in ("first_l2", "highest_l2", "last_l2")}
    norm = f"The weight norm went {' → '.join(span)}." if len(span) > 1 else f"The weight norm is {next(iter(span))}."
    strength, highest = checkpoint["strength"], split["highest_memorizing_strength"]
    if highest is None or strength["memorizing"] is None or strength["generalizing"] is None:
        return f"{the_competition(checkpoint['step'], strength, split, setting)} {norm}"
    return (
        f"of the right answer’s logit what was memorized gave at most {as_number(highest)} (step "
        f"{split['highest_memorizing_strength_at']:,}) and gives {as_number(strength['memorizing'])} now; what held-out "
        f"pairs share gives {as_number(strength['generalizing'])}{_lead(split)}. {norm}"
    )


def _lead(split: Mapping[str, Any]) -> str:
    leads_from = split["generalizing_leads_from"]
    return f", and leads from step {leads_from:,} on" if leads_from is not None else ""


def _circuit(checkpoint: Mapping[str, Any], summaries: Summaries, setting: Setting) -> str:
    step = f"step {checkpoint['step']:,}" if checkpoint["step"] >= 0 else "this checkpoint"
    state = f"{step} is in the state {checkpoint['state']}"
    if not setting.has_frequencies:
        return f"{state}; the operation is no addition, so none of frequencies is looked for."
    if not checkpoint["has_circuit"]:
        found = (
            "no frequency is key"
            if not checkpoint["key_frequencies"]
            else "its key frequencies answer no better than a guess"
        )
        return f"{state}; {found}."
    kind = {"clock": "; a clock", "pizza": "; a pizza"}.get(checkpoint["circuit"], "")
    alone = checkpoint["restricted_loss"]["held_out"]
    pairs, alone = ("held-out", alone) if alone is not None else ("all", checkpoint["restricted_loss"]["all"])
    return f"{state}; {circuit_in_short(checkpoint)}{kind}. Alone they have loss {as_number(alone)} on {pairs} pairs."
