"""What an explanation says of why: what the loss and weight decay did to memory and to the circuit that takes its
place."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from interp.explanation.run_facts import Setting
from interp.figures import as_count, as_number
from interp.mathematics.account import REST
from interp.mathematics.held_out import FEWEST_HELD_OUT

MOST_BORN = 6  # frequencies
CLOSE = 0.01  # an interval as narrow as this is told to three digits, and a ratio not twice as far from 1


def why(forces: Mapping[str, Any], setting: Setting) -> tuple[str, ...]:
    """What was done to memory and to the circuit, in up to three wordings, the fullest first; empty where nothing can
    be said."""
    if forces["known_from"] is None or forces["plateau"] is None:
        return ()
    if forces["has_decay"] is False and forces["intervals"] > forces["refused_intervals"]:
        return ("there is no weight decay, so nothing wears memory down.",)
    if forces["growth_ratio"]["memorizing"] is None:
        return ()
    through = "through a gradient filter, " if setting.gradient_filter else ""
    told, in_short = (through + _told(forces, short=short) for short in (False, True))
    carried = _carried(forces, setting)
    return (f"{told} {carried}", told, in_short) if carried else (told, in_short)


def _told(forces: Mapping[str, Any], *, short: bool = False) -> str:
    span = f"from step {forces['plateau']['from']:,} to {forces['plateau']['to']:,}"
    rule, worn = _rule(forces, short=short), forces["worn_from"]
    ends = "" if short else _ends(forces, "memorizing")
    told = (
        f"{span} loss and decay balance on memory{ends}"
        if _is_balanced(forces)
        else f"{span} the loss gives memory {_times(forces, 'memorizing')} what decay takes{ends}"
    )
    told += f"{'' if short else ','} while {rule}" if rule else ""
    if worn is None:
        return f"{told}."
    if short:
        return f"{told}; from {worn:,} on memory is worn down."
    return f"{told}; from step {worn:,} on decay wears memory down faster than the loss renews it."


def _is_balanced(forces: Mapping[str, Any]) -> bool:
    """Whether r of memory is 1 as far as can be told, to 1 %, and is told to 2 % at least."""
    low, high = forces["growth_ratio_interval_95"]["memorizing"]
    is_sure = 1 - 2 * REST <= low <= 1 <= high <= 1 + 2 * REST
    return is_sure and abs(forces["growth_ratio"]["memorizing"] - 1) < REST


def _rule(forces: Mapping[str, Any], *, short: bool = False) -> str:
    """How hard the named circuit was pushed up beside how hard it was pulled down, over the plateau; empty where that
    is unknown."""
    if forces["growth_ratio"]["circuit"] is None or not forces["named"]:
        return ""
    named, ratio, ends = _named(forces), _times(forces, "circuit"), _ends(forces, "circuit")
    low, high = forces["growth_ratio_interval_95"]["circuit"]
    grows = "" if low > 1 else " shrinks," if high < 1 else " is not seen to grow,"
    if short:
        return f"{named}{grows or ' is'} pushed up {ratio} as hard as pulled down"
    if not grows:
        return f"the loss pushes the circuit of {named} up {ratio} as hard as decay pulls it down{ends}"
    return f"the circuit of {named}{grows[:-1]}: the loss pushes it up {ratio} as hard as decay pulls it down{ends}"


def _named(forces: Mapping[str, Any]) -> str:
    """The frequencies that stood out clearly when they were named, and how many fainter ones are with them."""
    clear, n_faint = forces["named_clearly"], len(forces["named"]) - len(forces["named_clearly"])
    if not clear:
        return f"k = {', '.join(map(str, forces['named']))} (none clear when named)"
    faint = f" (and {n_faint} fainter)" if n_faint else ""
    return f"k = {', '.join(map(str, clear))}{faint}"


def _ends(forces: Mapping[str, Any], circuit: str) -> str:
    ends = forces["strengths"][circuit]
    if ends is None or None in ends:
        return ""
    first, last = (f"{end:.0f}" if abs(end) >= 9.5 else f"{end:.1f}" for end in ends)
    return f" ({first} → {last} logits)"


def _times(forces: Mapping[str, Any], circuit: str) -> str:
    ratio, (low, high) = forces["growth_ratio"][circuit], forces["growth_ratio_interval_95"][circuit]
    digits = 3 if high - low < CLOSE or max(abs(end - 1) for end in (ratio, low, high)) < 2 * CLOSE else 2
    return f"{ratio:.{digits}f} times (95 %: {low:.{digits}f} to {high:.{digits}f})"


def _carried(forces: Mapping[str, Any], setting: Setting) -> str:
    """Since when the generalizing part alone has the lower training loss, and which that is; empty where it never
    has."""
    if forces["carried_from"] is None or forces["carried_losses"] is None:
        return ""
    generalizing, memorizing = map(as_number, forces["carried_losses"])
    return (
        f"From step {forces['carried_from']:,} on the generalizing part of the logits alone has the lower training "
        f"loss, there {generalizing} (memory alone {memorizing}, a guess {as_number(setting.guessing)})."
    )


def the_forces(forces: Mapping[str, Any], setting: Setting) -> str:
    """All that the forces say, for `--long`: who is pushed and pulled, ratios and degrees, births and deaths, and what
    could not be told."""
    return " ".join(_sentences(forces, setting))


def _sentences(forces: Mapping[str, Any], setting: Setting) -> Iterator[str]:
    if forces["known_from"] is None:
        yield "What pushed and pulled at memory and circuit is not told: at no checkpoint are the training pairs known."
        return
    told = why(forces, setting)
    yield f"{told[0][0].upper()}{told[0][1:]}" if told else _why_not(forces, setting)
    if setting.gradient_filter:
        yield (
            f"Gradients are filtered ({setting.gradient_filter}): what is told of the loss is what the optimizer made "
            "of its filtered gradients."
        )
    if told and forces["growth_ratio"]["memorizing"] is not None:
        yield from _of_memory(forces)
    if forces["named"]:
        yield from _of_naming(forces, setting)
    degrees = forces["degree"]
    known = [f"{degrees[name]:.1f} of {of}" for name, of in _PARTS.items() if degrees[name] is not None]
    if known and forces["plateau"] is not None:
        at = f"at step {forces['plateau']['from']:,}"
        yield f"With all weights scaled by λ a strength goes as λ to the power {' and '.join(known)} ({at})."
    yield from _of_frequencies(forces["frequencies"])
    if forces["refused_intervals"]:
        spacing = forces["spacing_that_would_do"]
        would = f"; checkpoints every {as_count(spacing, 'step')} would do" if spacing is not None else ""
        intervals = f"{forces['refused_intervals']:,} of {as_count(forces['intervals'], 'interval')}"
        yield f"Over {intervals} between checkpoints the network moved too far to tell the two apart{would}."


def _of_memory(forces: Mapping[str, Any]) -> Iterator[str]:
    """Its growth ratio, where `why` does not say it; since when it rests; how sure all of these are."""
    if _is_balanced(forces):
        yield f"In that balance the loss gives memory {_times(forces, 'memorizing')} what decay takes."
    if (rest := forces["rest"]) is not None:
        yield f"From step {rest['from']:,} to {rest['to']:,} that is within 1 % of 1 in every interval."
    else:
        yield "There is no rest, of half a unit of 1/(lr·wd) steps, in which that is within 1 % of 1 in every interval."
    yield "Ratios are of sums over the steps named, whatever went on between; their intervals are over held-out pairs."


def _of_naming(forces: Mapping[str, Any], setting: Setting) -> Iterator[str]:
    named = ", ".join(map(str, forces["named"]))
    yield (
        f"The circuit, k = {named}, is named by what stood out most at step {forces['known_from']:,}, where the "
        "training pairs were first known: not by what it came to."
    )
    missing = [str(k) for k in setting.key_frequencies if k not in forces["named"]]
    if missing:
        yield f"Of the frequencies that are key in the end it does not have k = {', '.join(missing)}."


_PARTS = {"memorizing": "memory", "circuit": "the circuit"}


def _why_not(forces: Mapping[str, Any], setting: Setting) -> str:
    if setting.task.n_held_out < FEWEST_HELD_OUT:
        return (
            "What the loss and what decay did is not told: without held-out pairs memory and rule are not told apart."
        )
    if forces["has_decay"] is None:
        return (
            "What the loss and what decay did cannot be told apart: learning rate and weight decay are not known, or "
            "decay goes through the root of Adam or RMSProp."
        )
    if forces["refused_intervals"] > forces["intervals"] / 2:
        return "What the loss and what decay did to memory is not told."
    if forces["plateau"] is None:
        return (
            "What the loss and what decay did is not told: there is one checkpoint, or the pairs are known at the last."
        )
    return "Nothing that was memorized is clear enough, and told from held-out pairs, to say what pushed it."


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
