"""What an explanation says of why: what the loss and weight decay did to memory and to the circuit that takes its
place."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from interp.figures import as_count, as_number, as_percent

MOST_BORN = 6  # frequencies
CLOSE = 0.01  # an interval as narrow as this is told to three digits, and a ratio not twice as far from 1
EVEN = 1.5  # tensors whose shares differ by less than this factor carried it together


def why(forces: Mapping[str, Any]) -> tuple[str, ...]:
    """Why memory gave way, or did not, in up to three wordings, the fullest first; empty where nothing can be said."""
    if forces["known_from"] is None or forces["plateau"] is None:
        return ()
    if forces["has_decay"] is False and forces["intervals"] > forces["refused_intervals"]:
        return ("there is no weight decay, so nothing wears memory down.",)
    if forces["growth_ratio"]["memorizing"] is None:
        return ()
    carried = f" From step {forces['carried_from']:,} on what it generalized answers the training pairs better."
    told, in_short = _told(forces), _told(forces, short=True)
    has_rule = forces["carried_from"] is not None and _rule(forces)
    return (told + carried, told, in_short) if has_rule else (told, in_short)


def _told(forces: Mapping[str, Any], *, short: bool = False) -> str:
    span = f"from step {forces['plateau']['from']:,} to {forces['plateau']['to']:,}"
    told = (
        f"{span} loss and decay balance on memory{'' if short else ','} to 1 %"
        if forces["rest"] is not None
        else f"{span} the loss gives memory {_times(forces, 'memorizing')} what decay takes"
    )
    rule, worn = _rule(forces, short=short), forces["worn_from"]
    told += f"{'' if short else ','} while {rule}" if rule else ""
    if worn is None:
        return f"{told}."
    if short:
        return f"{told}; from {worn:,} on memory is worn down."
    return f"{told}; from step {worn:,} on decay wears memory down faster than the loss renews it."


def _rule(forces: Mapping[str, Any], *, short: bool = False) -> str:
    """How hard the named circuit was pushed up beside how hard it was pulled down, over the plateau; empty where that
    is unknown."""
    if forces["growth_ratio"]["circuit"] is None or not forces["named"]:
        return ""
    named, ratio = f"k = {', '.join(map(str, forces['named']))}", _times(forces, "circuit")
    low, high = forces["growth_ratio_interval_95"]["circuit"]
    grows = "" if low > 1 else " shrinks," if high < 1 else " is not seen to grow,"
    if short:
        return f"{named}{grows or ' is'} pushed up {ratio} as hard as pulled down"
    if not grows:
        return f"the loss pushes the circuit of {named} up {ratio} as hard as decay pulls it down"
    return f"the circuit of {named}{grows[:-1]}: the loss pushes it up {ratio} as hard as decay pulls it down"


def _times(forces: Mapping[str, Any], circuit: str) -> str:
    ratio, (low, high) = forces["growth_ratio"][circuit], forces["growth_ratio_interval_95"][circuit]
    digits = 3 if high - low < CLOSE or max(abs(end - 1) for end in (ratio, low, high)) < 2 * CLOSE else 2
    return f"{ratio:.{digits}f} times (95 %: {low:.{digits}f} to {high:.{digits}f})"


def the_forces(forces: Mapping[str, Any]) -> str:
    """All that the forces say, for `--long`: who is pushed and pulled, ratios and degrees, births and deaths, and what
    could not be told."""
    return " ".join(_sentences(forces))


def _sentences(forces: Mapping[str, Any]) -> Iterator[str]:
    if forces["known_from"] is None:
        yield "What pushed and pulled at memory and circuit is not told: at no checkpoint are the training pairs known."
        return
    told = why(forces)
    yield f"{told[0][0].upper()}{told[0][1:]}" if told else _why_not(forces)
    degrees = forces["degree"]
    if told and forces["growth_ratio"]["memorizing"] is not None:
        yield from _of_memory(forces)
    if forces["named"]:
        yield (
            f"The circuit is named by what stood out most at step {forces['known_from']:,}, where the training pairs "
            "were first known: not by what it came to."
        )
    known = [f"{degrees[name]:.1f} of {of}" for name, of in _PARTS.items() if degrees[name] is not None]
    if known and forces["plateau"] is not None:
        at = f"at step {forces['plateau']['from']:,}"
        yield f"With all weights scaled by λ a strength goes as λ to the power {' and '.join(known)} ({at})."
    yield from _of_frequencies(forces["frequencies"])
    yield from _of_tensors(forces["pushed_through"])
    if forces["refused_intervals"]:
        spacing = forces["spacing_that_would_do"]
        would = f"; checkpoints every {as_count(spacing, 'step')} would do" if spacing is not None else ""
        intervals = f"{forces['refused_intervals']:,} of {as_count(forces['intervals'], 'interval')}"
        yield f"Over {intervals} between checkpoints the network moved too far to tell the two apart{would}."


def _of_memory(forces: Mapping[str, Any]) -> Iterator[str]:
    """Its growth ratio, where `why` does not say it, and how sure all of these are."""
    if forces["rest"] is not None:
        yield f"In that balance the loss gives memory {_times(forces, 'memorizing')} what decay takes."
    yield f"The intervals are over held-out pairs; the forces themselves are sure to {_error(forces)}."


_PARTS = {"memorizing": "memory", "circuit": "the circuit"}


def _error(forces: Mapping[str, Any]) -> str:
    errors = [error for error in forces["growth_ratio_error"].values() if error is not None]
    return f"{max(errors):.1g} of r" if errors and max(errors) > 0 else "rounding"


def _why_not(forces: Mapping[str, Any]) -> str:
    if forces["has_decay"] is None:
        return (
            "What the loss and what decay did cannot be told apart: learning rate and weight decay are not known, or "
            "decay goes through the root of Adam."
        )
    if forces["refused_intervals"] > forces["intervals"] / 2:
        return "What the loss and what decay did to memory is not told."
    if forces["growth_ratio"]["memorizing"] is None:
        return "Nothing that was memorized is clear enough, and told from held-out pairs, to say what pushed it."
    return "Its checkpoints begin and end too close to the step at which the training pairs are known."


def _of_frequencies(lives: list[Mapping[str, Any]]) -> Iterator[str]:
    if not lives:
        return
    by_height = sorted(lives, key=lambda life: -life["height"])[:MOST_BORN]
    born = ", ".join(
        f"k = {life['frequency']} at step {life['born']:,}" for life in sorted(by_height, key=lambda life: life["born"])
    )
    yield f"Frequencies come to stand out: {born}."
    for life in by_height:
        if life["died"] is not None:
            loss, decay = life["fall"] or (math.nan, math.nan)
            highest = f"highest at step {life['peak']:,} ({as_number(life['height'])} logits)"
            yield f"k = {life['frequency']}, {highest}, is gone by step {life['died']:,}{_killed(loss, decay)}."


def _killed(loss: float | None, decay: float | None) -> str:
    if loss is None or decay is None or not math.isfinite(loss + decay):
        return ""
    if loss < 0 and decay < 0:
        return f": loss ({loss:+.1f} logits) and decay ({decay:+.1f}) both took it down"
    if loss < 0:
        return f": the loss took it down ({loss:+.1f} logits)"
    return f": decay took {abs(decay):.1f} logits, and the loss gave only {loss:.1f}"


def _of_tensors(shares: Mapping[str, float] | None) -> Iterator[str]:
    if not shares:
        return
    matrices = {name: share for name, share in shares.items() if share > 0.02}
    highest, lowest = max(matrices.values()), min(matrices.values())
    if highest < EVEN * lowest:
        shared = f"{as_percent(lowest, 0)} to {as_percent(highest, 0)}"
        yield f"No one matrix carried it: {len(matrices)} had {shared} each of what the loss gave the circuit."
        return
    top = ", ".join(f"{name} {as_percent(share, 0)}" for name, share in list(matrices.items())[:3])
    yield f"What the loss gave the circuit went through {top} first of all."
