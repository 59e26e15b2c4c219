"""What an explanation says of the circuit of a checkpoint, and of what it memorized: each sentence follows from stored
numbers."""

import math
from collections.abc import Mapping
from typing import Any

from interp.explanation.run_facts import Setting
from interp.explanation.run_sentences import IN_PART, Summaries, few_held_out, last_unseen
from interp.figures import as_accuracy, as_number, as_percent, as_step
from interp.mathematics import grokking
from interp.mathematics.circuits import LEAST_STRENGTH
from interp.mathematics.clock_and_pizza import word_of
from interp.mathematics.key_frequencies import LEAST_FACTOR

PAIRS = {"held_out": "held-out pairs", "all": "all pairs"}


def the_circuit(checkpoint: Mapping[str, Any], summaries: Summaries, setting: Setting) -> str:
    """The circuit, as found at the checkpoint."""
    here = f"At step {checkpoint['step']:,}" if checkpoint["step"] >= 0 else "In this checkpoint"
    text = f"{here} the state is {checkpoint['state']}"
    if not setting.task.split_known:
        text += f", and it answers {as_accuracy(checkpoint['accuracy']['all'])} of all pairs"
    key = checkpoint["key_frequencies"]
    if not setting.has_frequencies:
        return (
            f"{text}. {setting.task.title} is no addition in other coordinates: "
            "frequencies cannot be its circuit, and none are told of."
        )
    if not key:
        last = the_last_circuit(checkpoint, setting)
        return f"{text}. No frequency is key: no sparse circuit of frequencies is found.{last}"
    pairs = summaries["frequency_evidence"]["judged_by"]
    if not checkpoint["has_circuit"]:
        return (
            f"{text}. The rule calls k = {_listed(key)} key, but alone they do not clearly answer better than a guess"
            f"{_gained(checkpoint, pairs)}: that is no circuit.{the_last_circuit(checkpoint, setting)}"
        )
    short = circuit_in_short(checkpoint)
    text += f". {short[0].upper()}{short[1:]}{_of_what(setting)}"
    if known := _beyond_chance(summaries["frequency_evidence"]):
        text += f" ({known})"
    periodic, neurons = checkpoint["periodic_neurons"], checkpoint["neurons"]
    if neurons is None:
        text += "; its neurons were not recorded"
    elif periodic:
        counts = summaries["neuron_periodicity"]["periodic_neurons_per_frequency"]
        of_key = ", ".join(f"{counts.get(str(entry['frequency']), 0)} at {entry['frequency']}" for entry in key)
        text += f"; {periodic} of {neurons} neurons{setting.of_last_layer} follow one frequency each ({of_key}), to "
        text += _periodic(summaries["calibration"])
    else:
        text += f"; none of {neurons} neurons{setting.of_last_layer} follows one frequency alone"
    restricted, excluded = checkpoint["restricted_loss"], checkpoint["excluded_loss"]
    split = "held_out" if restricted["held_out"] is not None else "all"
    text += (
        f". With k = {_listed(key)} alone the loss on {PAIRS[split]} is {as_number(restricted[split])}"
        f"{_gained(checkpoint, pairs)}; without them it is "
        f"{as_number(excluded[split])} (as the network stands: {as_number(checkpoint['loss'][split])}; a guess: "
        f"{as_number(setting.guessing)}). "
    )
    if setting.model.is_recorded:
        return text + (
            "Whether it is a clock or a pizza, and whether the network uses it, would take the module itself: of a "
            "module that is not ours only its answers were recorded."
        )
    return text + the_algorithm(summaries["clock_pizza"], setting)


def _beyond_chance(evidence: Mapping[str, Any]) -> str:
    """How far key frequencies are beyond what logits that know nothing of the sum have; nothing where there are
    none."""
    deviations, factor = list(evidence["deviations"].values()), min(evidence["loss_factor"].values(), default=0.0)
    if not deviations:
        return ""
    rise = min(evidence["loss_rise"].values())
    higher = f"{_at_least(factor)} times as high" if factor >= LEAST_FACTOR else f"{_at_least(rise)} nats higher"
    size = f"without any one of them the loss is at least {higher}"
    if evidence["judged_by"] != "held-out pairs":  # there memory has a signal of its own: chance is not all there is
        return f"by {evidence['judged_by']}: {size}"
    return (
        f"by held-out pairs: each {math.floor(10 * min(deviations)) / 10} or more standard deviations beyond chance, "
        f"which passes {evidence['limit']:.1f} in 1 of 100 networks, and {size}"
    )


def _at_least(value: float) -> str:
    """A number for a reader, of two digits and not above it."""
    digit = 10.0 ** (math.floor(math.log10(value)) - 1) if value > 0 else 1.0
    return as_number(math.floor(value / digit * (1 + 1e-12)) * digit)


def _gained(checkpoint: Mapping[str, Any], pairs: str) -> str:
    """What the key frequencies alone know of pairs that are answered from others, with its error; nothing where that
    is unknown."""
    if (gain := checkpoint["gain_alone"]) is None:
        return ""
    return (
        f" (with {pairs} answered from other ones they gain {as_number(gain['nats'])} nats over a guess, standard "
        f"error {as_number(gain['standard_error'])})"
    )


def _periodic(chance: Mapping[str, Any]) -> str:
    """From which share of its variance on a neuron counts as periodic, beside chance."""
    told = "85 % of their variance or more"
    threshold = chance["calibrated_threshold"]
    return told if threshold is None else f"{told} (renamed at random, 1 in 100 reaches {as_percent(threshold, 0)})"


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


def the_last_circuit(checkpoint: Mapping[str, Any], setting: Setting) -> str:
    """The circuit that the run had at another checkpoint; empty where it had none."""
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
    """Clock or pizza, by the two witnesses of the authors' line (gradient symmetricity is none where it could not have
    been otherwise), and what the third says."""
    by = f"By how its logits depend on a − b (distance irrelevance {as_number(clock['distance_irrelevance'])})"
    circles = _one_circle_at_a_time(clock, setting)
    said = clock["witnesses"]
    if clock["verdict"] == "neither" and None not in (said["distance_irrelevance"], said["gradient_symmetricity"]):
        criteria = said["distance_irrelevance"], said["gradient_symmetricity"]
        if criteria[0] != criteria[1]:
            return (
                f"{by} it would be {_article(criteria[0])}, by how alike its gradients for a and b are (gradient "
                f"symmetricity {as_number(clock['gradient_symmetricity'])}) {_article(criteria[1])}: it has no "
                f"name.{circles}"
            )
    if setting.model.inputs_enter_as_sum:
        witnesses = f"{by} and by its circles one at a time" if circles else f"{by} alone"
        return (
            f"{witnesses} it is {_article(clock['verdict'])}: a and b enter alike, so gradient symmetricity would be 1 "
            f"whatever was learned.{circles}"
        )
    return (
        f"{by} and by how alike its gradients for a and b are (gradient symmetricity "
        f"{as_number(clock['gradient_symmetricity'])}) it is {_article(clock['verdict'])}.{circles}"
    )


def _one_circle_at_a_time(clock: Mapping[str, Any], setting: Setting) -> str:
    known = _isolated_fits(clock)
    if not known:
        return ""
    told = ", ".join(
        f"{as_percent(fit['clock'])} and {as_percent(fit['pizza'])} at k = {k}" for k, fit in known.items()
    )
    return f" One circle of the {setting.what_is_embedded} at a time, it fits a clock and a pizza to {told}."


def the_name(clock: Mapping[str, Any]) -> str:
    """The algorithm in short, with the witnesses that disagree; empty for neither."""
    if clock["verdict"] == "neither":
        return ""
    by = {"distance_irrelevance": "by q", "gradient_symmetricity": "by s_g", "isolated_circles": "circle by circle"}
    others: dict[str, list[str]] = {}
    for name in clock["disagreeing"]:
        others.setdefault(clock["witnesses"][name], []).append(by[name])
    buts = [
        f"{'not clearly' if word == 'neither' else _article(word)} {' and '.join(names)}"
        for word, names in others.items()
    ]
    return _article(clock["verdict"]) + "".join(f", but {but}" for but in buts)


def the_disagreement(clock: Mapping[str, Any]) -> str:
    """Which witnesses do not say the name that is given; empty where all do."""
    if clock["verdict"] == "neither":
        return ""
    other = "pizza" if clock["verdict"] == "clock" else "clock"
    others = [k for k, fit in _isolated_fits(clock).items() if word_of(**fit) == other]
    circles = f"circle{'s' if len(others) > 1 else ''} of k = {', '.join(others)} look{'' if len(others) > 1 else 's'}"
    alone = f"One at a time, the {circles} like {_article(other)}." if others else ""
    if not clock["disagreeing"]:
        return alone
    says = {
        "distance_irrelevance": f"distance irrelevance ({as_number(clock['distance_irrelevance'])}) says {{}}",
        "gradient_symmetricity": f"gradient symmetricity ({as_number(clock['gradient_symmetricity'])}) says {{}}",
        "isolated_circles": (
            "its circles one at a time say {} (those of twice the frequency may hide a pizza in the whole, or others "
            "have steered its attention)"
        ),
    }
    words = {"clock": "a clock", "pizza": "a pizza", "neither": "neither clearly"}
    told = [says[name].format(words[clock["witnesses"][name]]) for name in clock["disagreeing"]]
    named = f"By the criteria of Zhong et al. it is {_article(clock['verdict'])}, yet {' and '.join(told)}."
    return f"{named} {alone}".rstrip()


def _isolated_fits(clock: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    return {k: fit for k, fit in clock["isolated_fit_per_frequency"].items() if None not in fit.values()}


def the_check(checkpoint: Mapping[str, Any], of_last_layer: str = "") -> str:
    """What the network still knows without the key frequencies, beside what it knows without random others; empty where
    there is nothing to remove, or so little known that removing cannot show anything."""
    ablation = checkpoint["ablation"]
    if ablation is None or not (ablation["whole"] or 0) >= IN_PART:
        return ""
    key, parts = ", ".join(map(str, ablation["key_frequencies"])), []
    for target, found in ablation["targets"].items():
        if found["without"] is not None:
            random, known = found["without_random"], as_percent(found["without"], 0)
            beside = "too few others to compare" if random is None else _range(random)
            if not parts:
                beside = _what_it_stands_beside(ablation, beside, is_known=random is not None)
                known = f"it knows {known} of {ablation['pairs']}"
            place = f"{target}{of_last_layer}" if target == "neurons" else target
            parts.append(f"in the {place} {known} ({beside})")
    is_its_own = ablation["key_frequencies"] == sorted(entry["frequency"] for entry in checkpoint["key_frequencies"])
    whose = "" if is_its_own else " (key in the run’s last circuit, not the set above)"
    return f"without k = {key}{whose} {', '.join(parts)}." if parts else ""


def the_check_in_short(checkpoint: Mapping[str, Any], of_last_layer: str = "") -> str:
    """`the_check` in fewer words: without the guess, and without saying how many random sets there are; empty where
    there are none."""
    ablation = checkpoint["ablation"]
    if not the_check(checkpoint):
        return ""
    found = {target: one for target, one in ablation["targets"].items() if one["without"] is not None}
    if any(one["without_random"] is None for one in found.values()):
        return ""
    places = {"neurons": f"neurons{of_last_layer}"}
    known = ", ".join(
        f"{as_percent(one['without'], 0)} in the {places.get(target, target)}" for target, one in found.items()
    )
    lows, highs = zip(*(one["without_random"] for one in found.values()), strict=True)
    is_its_own = ablation["key_frequencies"] == sorted(entry["frequency"] for entry in checkpoint["key_frequencies"])
    it = "it" if is_its_own else f"its last one, k = {', '.join(map(str, ablation['key_frequencies']))}:"
    return f"known without {it} {known} (random others {_range([min(lows), max(highs)])})."


def _what_it_stands_beside(ablation: Mapping[str, Any], beside: str, *, is_known: bool) -> str:
    whole = f"whole {as_percent(ablation['whole'], 0)}; " if ablation["whole"] < grokking.LEVEL else ""
    sets = ablation["random_sets"]
    others = f"without as many others, {sets} random {'set' if sets == 1 else 'sets'}, " if is_known else ""
    return f"{whole}a guess {as_percent(ablation['guess'], 0)}; {others}{beside}"


def _range(bounds: list[float]) -> str:
    low, high = (as_percent(bound, 0) for bound in bounds)
    return low if low == high else f"{low} to {high}"


def _article(name: str) -> str:
    return {"clock": "a clock", "pizza": "a pizza"}.get(name, "neither clearly a clock nor a pizza")


def the_competition(step: int, strength: Mapping[str, float | None], split: Mapping[str, Any], setting: Setting) -> str:
    """The two parts of the logits: their strengths at a step and over the whole run. `split`: the summary of
    `circuit_split` over all checkpoints."""
    highest = split["highest_memorizing_strength"]
    if highest is None:
        return _why_no_competition(setting)
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
            f"{as_accuracy(last_unseen(setting))} of the latter are answered right at the end."
        )
    highest_at, gives = split["highest_memorizing_strength_at"], as_logits(generalizing)
    if highest < LEAST_STRENGTH:
        return (
            f"At no checkpoint is what was memorized clear of chance; at step {as_step(step)} what held-out pairs have "
            f"in common gives the right answer of a training pair {gives} logits. {_the_lead(split)}"
        )
    now = ", where it is highest," if step == highest_at else f" it gives it {as_logits(memorizing)}, and"
    return (
        f"What was memorized gave the right answer of a training pair at most {as_logits(highest)} logits (step "
        f"{as_step(highest_at)}); at step {as_step(step)}{now} what held-out pairs have in common gives it "
        f"{gives}. {_the_lead(split)}"
    )


def _why_no_competition(setting: Setting) -> str:
    if setting.has_too_few_held_out and not setting.trains_on_all:
        return f"What was memorized cannot be told from what generalizes: {few_held_out(setting)}."
    without = "held-out pairs" if setting.trains_on_all else "a known split"
    return f"Without {without} what was memorized cannot be told from what generalizes."


def _the_lead(split: Mapping[str, Any]) -> str:
    leads_from, led_not_at = split["generalizing_leads_from"], split["generalizing_led_not_at"]
    if leads_from is None:
        return "At no checkpoint does the latter take the lead, with the right answer ahead in it, and keep it."
    after = f" (not at {led_not_at:,})" if led_not_at is not None else ""
    return f"The latter is the stronger, with the right answer ahead in it, from step {leads_from:,} on{after}."


def as_logits(strength: float) -> str:
    """A strength for a reader; below LEAST_STRENGTH, of either sign, there is none."""
    return "about 0" if abs(strength) < LEAST_STRENGTH else as_number(strength)
