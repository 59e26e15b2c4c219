"""What analyses say that take long, or are of interest to few: a sentence each, with what it is worth where there is
nothing to find. Nothing is computed for them; where nobody has asked for a result, nothing is said."""

from collections.abc import Callable, Mapping
from typing import Any

import xarray as xr

from interp.analysis import find, stored_result
from interp.figures import as_count, as_number, as_percent
from interp.runs import Run

Summary = Mapping[str, Any]


def requested_results(run: Run) -> dict[str, xr.Dataset]:
    """The results of the analyses in REQUESTED that were computed before, and are fresh; none is computed.

    >>> import interp
    >>> run = interp.open_run(interp.reference_path())
    >>> requested_results(run).keys() <= REQUESTED.keys()
    True
    """
    found = {name: stored_result(run, name) for name in REQUESTED if find(name).is_for(run.task, run.model)}
    return {name: result for name, result in found.items() if result is not None}


def requested_sentence(name: str, result: xr.Dataset) -> str | None:
    """What a result says in one sentence; None for an analysis that has none, and for a result that knows nothing.

    >>> import interp
    >>> requested_sentence("weight_norms", interp.open_run(interp.reference_path()).results.weight_norms) is None
    True
    """
    return REQUESTED[name](find(name).summary(result)) if name in REQUESTED else None


def requested_sentences(results: Mapping[str, xr.Dataset]) -> tuple[str, ...]:
    """A sentence for every result of an analysis in REQUESTED."""
    told = (requested_sentence(name, results[name]) for name in REQUESTED if name in results)
    return tuple(sentence for sentence in told if sentence is not None)


def _description_length(found: Summary) -> str | None:
    name, one = next((name, one) for name, one in found.items() if name.startswith("at "))
    if one["last_bytes"] is None or one["two_part_over_labels"] is None:
        return None
    within = name.removeprefix("at ") if name != "at 1 nats" else "1 nat"
    verdict = "a compression" if one["is_a_compression"] else "no compression"
    return (
        f"Description length: within {within} of its training loss the network takes at most "
        f"{as_number(one['last_bytes'])} bytes at step {found['step']:,} ({as_number(one['most_bytes'])} at step "
        f"{one['most_at']:,}, where it takes most), and with what it then does not know "
        f"{as_number(one['two_part_over_labels'])} times the {as_number(found['label_bytes'])} bytes of the training "
        f"labels by themselves: {verdict} of them."
    )


def _curvature(found: Summary) -> str | None:
    own, equal = (found[at] and found[at]["highest"] for at in ("own", "equal"))
    if own is None:
        return None
    if equal is None:
        return (
            f"Curvature: the highest eigenvalue of the training loss goes from {_course(own)}; at equal loss, without "
            "which that is mostly the loss itself, it is not known."
        )
    return (
        f"Curvature: at equal loss ({as_number(found['equal_loss'])} nats) the highest eigenvalue of the training loss "
        f"goes from {_course(equal)}; at the loss that the network has from {_course(own)} (a smaller loss is flatter "
        "by itself)."
    )


def _course(one: Summary) -> str:
    last = f"{as_number(one['last'])} at step {one['last_at']:,}"
    if one["most_at"] == one["last_at"]:
        return f"{as_number(one['first'])} at step {one['first_at']:,} to {last}, where it is highest"
    return f"{as_number(one['most'])} at step {one['most_at']:,}, where it is highest, to {last}"


def _graduation(found: Summary) -> str | None:
    trained, held_out = found["train"], found["held_out"]
    if trained["share_learned"] is None:
        return None
    sentence = f"Graduation: half of the training pairs are right for good {_since(trained)}"
    if held_out["share_learned"] is not None:
        sentence += f", of the held-out pairs {_since(held_out)}"
    orders = []
    for group in ("sum", "distance"):
        one = found[f"explained_by_{group}"]
        if one["share"] is not None and one["by_chance"] is not None:
            than = "more" if one["is_more"] else "no more"
            orders.append(
                f"{group} explains {as_percent(one['share'])} of the order of held-out pairs, {than} than 97.5 % of "
                f"random deals ({as_percent(one['by_chance'])})"
            )
    return f"{'; '.join([sentence, *orders])}."


def _since(one: Summary) -> str:
    return "never" if one["median_step"] is None else f"from step {one['median_step']:,} on"


def _label_noise(found: Summary) -> str | None:
    judge = "held_out_pairs" if found["held_out_pairs"] is not None else "network"
    told = found[judge]
    if told is None or (one := told["least_loss"] or told["last"]) is None or one["flagged"] is None:
        return None
    known = as_percent(one["held_out_accuracy"])
    by = f"its held-out pairs (it knows {known} of these)" if judge == "held_out_pairs" else "its own answers"
    sentence = (
        f"Label noise: at step {one['step']:,} {by} contradict {one['flagged']:,} of "
        f"{as_count(found['trained'], 'training label')}, "
    )
    if not found["wrong"]:
        alarms = ": by that each of these is a false alarm." if one["flagged"] else ", and none was found."
        return f"{sentence}none of which is wrong on purpose{alarms}"
    all_flagged = as_percent(found["wrong"] / found["trained"])
    precision = ""
    if one["precision"] is not None:
        precision = f", {as_percent(one['precision'])} of those rightly (to flag all: {all_flagged})"
    of_nothing = "0.50 is a coin" if judge == "network" else "0.50 is a coin, and one that memorized can be far below"
    auc = "" if one["auc"] is None else f", with an AUC of {one['auc']:.2f} ({of_nothing})"
    return f"{sentence}{found['wrong']:,} of which are wrong on purpose{precision}{auc}."


def _class_scores(found: Summary) -> str | None:
    split = "held_out" if found["held_out"] is not None else "train"
    if (one := found[split]) is None:
        return None
    worst = one["worst"]
    which = f", worst {worst['class']}, of {as_count(worst['examples'], 'example')}" if worst is not None else ""
    beside = ", ".join(
        f"{name} {as_number(one['macro'][name])} ({as_number(one['guess'][name])})" for name in ("F1", "AUC", "KS")
    )
    of_split = "held-out" if split == "held_out" else "training"
    median = one["known_from"]["median"]
    keep = "never keep 0.9" if median is None else f"keep 0.9 from step {median:,} on"
    return (
        f"Class scores: of {one['classes']:,} classes of the {of_split} examples {one['below']:,} have an F1 below 0.9 "
        f"at step {found['step']:,}{which}; averaged over classes (a guess in parentheses) {beside}; half of them "
        f"{keep}."
    )


def _checkpoint_shift(found: Summary) -> str | None:
    split = "held_out" if found["held_out"] is not None else "train"
    if (one := found[split]) is None:
        return None
    most, answers = one["largest"], one["first_by_mcnemar"]
    of_split = "held-out" if split == "held_out" else "training"
    sentence = (
        f"Shift between checkpoints: the margins of {of_split} examples move most from step {most['from']:,} to "
        f"{most['to']:,}, by a PSI of {as_number(most['psi'])} (95 % of no changes of one "
        f"interval stay below {as_number(most['psi_by_chance_95'])}, and this is the largest of all: {most['band']})"
    )
    if one["stable_from"] is not None:
        sentence += f"; from step {one['stable_from']:,} on no interval is unstable"
    if answers is not None:
        sentence += (
            f"; how many are right changes beyond chance first from step {answers['from']:,} to {answers['to']:,} "
            "(McNemar, corrected for the number of intervals)"
        )
    return f"{sentence}."


REQUESTED: Mapping[str, Callable[[Summary], str | None]] = {
    "description_length": _description_length,
    "curvature": _curvature,
    "graduation": _graduation,
    "label_noise": _label_noise,
    "class_scores": _class_scores,
    "checkpoint_shift": _checkpoint_shift,
}
