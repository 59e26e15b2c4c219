"""What speaks against the story of a run, and what cannot be said: contrary evidence is shown, not dropped."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from interp.explanation.circuit_sentences import the_check, the_disagreement
from interp.explanation.run_facts import Setting
from interp.explanation.run_sentences import IN_PART, Summaries, the_falls
from interp.figures import as_accuracy, as_number, as_percent
from interp.mathematics import grokking
from interp.mathematics.held_out import FEWEST_HELD_OUT

# Without the key frequencies the loss must rise by this share of what guessing costs, ln p, for them to be what the
# network uses.
LEAST_RISE = 0.25
FEW_PAIRS = 100


def against(
    run: Mapping[str, Any], checkpoint: Mapping[str, Any], summaries: Summaries, setting: Setting
) -> Iterable[str]:
    """What contradicts the story."""
    has_circuit = checkpoint["has_circuit"]
    generalizes = checkpoint["state"] == "generalizing"
    split = "held_out" if checkpoint["loss"]["held_out"] is not None else "all"
    restricted, excluded, loss = (checkpoint[name][split] for name in ("restricted_loss", "excluded_loss", "loss"))
    if (falls := the_falls(setting)) and run["verdict"] != "collapse":
        yield falls
    if setting.learned.generalized is not None and setting.learned.generalized.seen_for == 0:
        yield "That it generalized was seen at one logged step alone, the last."
    if setting.has_frequencies:
        yield from _against_the_circuit(checkpoint, (restricted, excluded, loss), summaries, setting)
    if generalizes and not has_circuit and setting.has_frequencies:
        yield (
            "It generalizes, yet no key frequencies answer alone: it uses many, or ones too weak beside its memory to "
            "be key, or something else."
        )
    if setting.fall is not None:
        ends = ", and the run ends in it" if math.isnan(setting.fall.recovered_at) else ": no smooth transition"
        yield (
            f"After it had known its training pairs it knew {as_accuracy(setting.fall.lowest)} of them in a fall that "
            f"began at step {setting.fall.step:,.0f}{ends}."
        )
    if setting.task.split_known and FEWEST_HELD_OUT <= setting.task.n_held_out < FEW_PAIRS:
        yield f"Only {setting.task.n_held_out} independent pairs are held out: one of them is more than a percent."
    if not setting.task.split_known and setting.task.symmetries and math.isfinite(setting.learned.reached):
        yield "The split is unknown: test curves may have mirrored pairs among them, which are known by heart."
    lower = setting.learned.verdict_at_lower_level
    if run["verdict"] not in ("unknown", "collapse") and lower not in (run["verdict"], "unknown"):
        yield f"With {as_percent(grokking.LOWER_LEVEL, 0)} in place of 99 % it would be {lower}."
    fixed = summaries["transitions"]["fixed_gap_verdict"]
    if run["verdict"] not in ("unknown", "collapse") and fixed not in (run["verdict"], "unknown"):
        yield f"By the fixed gap of Liu et al. (90 %, 1,000 steps) it would be {fixed}."


def _against_the_circuit(
    checkpoint: Mapping[str, Any],
    losses: tuple[float | None, float | None, float | None],
    summaries: Summaries,
    setting: Setting,
) -> Iterable[str]:
    (restricted, excluded, loss), has_circuit = losses, checkpoint["has_circuit"]
    evidence = summaries["frequency_evidence"]
    worse = restricted is not None and loss is not None and restricted > max(10 * loss, 0.01)
    if worse and has_circuit and checkpoint["state"] == "generalizing":
        yield (
            f"The key frequencies alone do worse (loss {as_number(restricted)}) than the network "
            f"({as_number(loss)}): more is at work."
        )
    n_key, n_frequencies = len(checkpoint["key_frequencies"]), evidence["n_frequencies"]
    if n_key > 4 and 2 * n_key > n_frequencies:
        yield f"{n_key} of {n_frequencies} frequencies are key: no sparse circuit."
    if has_circuit and excluded is not None and loss is not None and excluded - loss < LEAST_RISE * setting.guessing:
        yield (
            f"Without the key frequencies the loss goes from {as_number(loss)} to {as_number(excluded)} only, less "
            f"than a quarter of what guessing costs ({as_number(setting.guessing)}) more: they may not be what it uses."
        )
    if checkpoint["circuit"] and (disagreement := the_disagreement(summaries["clock_pizza"])):
        yield disagreement
    yield from _against_the_check(checkpoint["ablation"])
    key, by_neurons = evidence["key_frequencies"], evidence["key_frequencies_by"]["neurons"]
    if key and evidence["judged_by"] != "held-out pairs":
        yield (
            "Which frequencies are key is told from all pairs: a memorizer whose answers favor some frequencies can "
            "look like this."
        )
    if has_circuit and (others := sorted(set(by_neurons or key) - set(key))):
        whose = f"Of some neurons{deep} the" if (deep := setting.of_last_layer) else "Some neurons'"
        yield f"{whose} strongest frequency is not key: k = {_some(others)}."
    if by_neurons is not None and (others := sorted(set(key) - set(by_neurons))):
        whose = f"Of no neuron{deep} the" if (deep := setting.of_last_layer) else "No neuron's"
        yield f"{whose} strongest frequency is k = {_some(others)}, though the logits carry it."
    if has_circuit and (weak := evidence["signal_without_size"]):
        yield f"The logits carry k = {_some(weak)} too, of the sum and beyond chance, but hardly need it."


def _some(frequencies: list[int]) -> str:
    return ", ".join(map(str, frequencies[:8])) + (" …" if len(frequencies) > 8 else "")


def _against_the_check(ablation: Mapping[str, Any] | None) -> Iterable[str]:
    """Where removing the key frequencies costs no more than removing random ones."""
    if ablation is None or not (ablation["whole"] or 0) >= IN_PART:
        return
    for target, found in ablation["targets"].items():
        without, random = found["without"], found["without_random"]
        if without is not None and random is not None and without >= random[0]:
            yield (
                f"Without the key frequencies in the {target} it still knows {as_percent(without, 0)}, no less than "
                f"without random ones ({as_percent(random[0], 0)} to {as_percent(random[1], 0)}): the check fails."
            )


def unsaid(numbers: Mapping[str, Any], setting: Setting) -> Iterable[str]:
    """What cannot be said."""
    checkpoint, kind = numbers["checkpoint"], numbers["run"]["verdict"]
    if setting.trains_on_all:
        yield "Whether it would answer a pair that was held out: all were trained on."
    elif not setting.has_test_pairs:
        yield (
            "The split is unknown: nothing can be said of training and held-out pairs apart, nor of when it "
            "memorized or generalized."
        )
    else:
        yield (
            "Held out excludes what the symmetries of the operation give away, not all that a network could infer from "
            "training pairs without the whole rule."
        )
    if kind in ("memorization", "confusion", "collapse") and setting.last_step > 0 and setting.diverged_at is None:
        yield _what_more_steps_would_bring(setting)
    if checkpoint["circuit"] == "neither":
        yield "Neither the clock's nor the pizza's marks are clear enough for a name."
    if the_check(checkpoint):
        yield (
            "Whether another cut that takes as much away would cost as much: key frequencies are large, random others "
            "are not; and what is left runs on inputs that it never met."
        )
    if setting.model.is_recorded:
        yield (
            "Which forces made it, whether the network uses its key frequencies, and by which algorithm: these take "
            "the module itself, and only its answers were recorded."
        )
    else:
        yield (
            "Why the loss pushes one circuit harder than the other, or stops: forces say what was done to each, not "
            "what made it so."
        )
    yield (
        "Fourier measures find Fourier circuits: a rule computed in another way would show only as power "
        "outside the key frequencies."
    )
    yield "One run shows what happened in it, not how often it happens: repeat it over seeds."


def _what_more_steps_would_bring(setting: Setting) -> str:
    if setting.late_changes is None:
        return (
            "What more steps would have brought: too few were logged in the last tenth to tell whether it stood still."
        )
    if setting.late_changes:
        moved = " and ".join(setting.late_changes)
        return (
            f"What more steps would have brought: it was still moving (over the last tenth of its steps, on "
            f"{setting.unseen}, {moved})."
        )
    return (
        "What more steps would have brought: it stood still over the last tenth of its steps (accuracy within 1 point, "
        "loss within 10 %), and such plateaus can end."
    )
