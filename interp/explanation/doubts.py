"""What speaks against the story of a run, and what cannot be said: contrary evidence is shown, not dropped."""

from collections.abc import Iterable, Mapping
from typing import Any

from interp.explanation.run_facts import Setting
from interp.explanation.sentences import Summaries
from interp.figures import as_number, as_percent

# Without the key frequencies the loss must rise by this share of what guessing costs, ln p, for them to be what the
# network uses.
LEAST_RISE = 0.25


def against(checkpoint: Mapping[str, Any], summaries: Summaries, of_run: Summaries, setting: Setting) -> Iterable[str]:
    """What contradicts the story."""
    spectrum, has_circuit = summaries["embedding_spectrum"], bool(checkpoint["key_frequencies"])
    generalizes = checkpoint["state"] == "generalizing"
    restricted, excluded, loss = (checkpoint[name]["all"] for name in ("restricted_loss", "excluded_loss", "loss"))
    if generalizes and not has_circuit:
        yield "It generalizes, yet no frequency is key: it uses many frequencies, or something else."
    if generalizes and has_circuit and restricted > max(10 * loss, 0.01):
        yield (
            f"The key frequencies alone do worse (loss {as_number(restricted)}) than the network "
            f"({as_number(loss)}): more is at work."
        )
    n_key, n_frequencies = len(checkpoint["key_frequencies"]), spectrum["n_frequencies"]
    if n_key > 4 and 2 * n_key > n_frequencies:
        yield (
            f"{n_key} of {n_frequencies} frequencies are key: no sparse circuit. Modulo a small p, a lookup "
            "table looks like this too."
        )
    if has_circuit and excluded is not None and loss is not None and excluded - loss < LEAST_RISE * setting.guessing:
        yield (
            f"Without the key frequencies the loss goes from {as_number(loss)} to {as_number(excluded)} only, less "
            f"than a quarter of what guessing costs ({as_number(setting.guessing)}) more: they may not be what it uses."
        )
    if spectrum["only_by_neurons"] and has_circuit:
        named = ", ".join(map(str, spectrum["only_by_neurons"][:8])) + (
            " …" if len(spectrum["only_by_neurons"]) > 8 else ""
        )
        yield f"Some neurons' strongest frequency is one that the logits do not carry: {named}."
    if spectrum["only_by_weights_and_logits"]:
        named = ", ".join(map(str, spectrum["only_by_weights_and_logits"]))
        yield f"No neuron's strongest frequency is {named}, though the logits carry it."
    if setting.fall is not None:
        step, lowest = setting.fall
        yield (
            f"After it had known its training pairs it knew {as_percent(lowest, 0)} of them at step {step:,}: "
            "no smooth transition."
        )
    transitions, efficiency = summaries["transitions"], of_run["circuit_efficiency"]
    ratio, leads_from = efficiency["efficiency_ratio_at_lead"], efficiency["generalizing_leads_from"]
    if ratio is not None and ratio < 1 and transitions["generalized_at_sustained"] is not None:
        yield (
            f"When what is common took the lead, at step {leads_from:,}, it had {ratio:.2f} times the efficiency of "
            "memorization: by this one number weight decay did not favor it."
        )
    fixed = transitions["fixed_gap_verdict"]
    if fixed not in (transitions["verdict"], "unknown"):
        yield f"By the fixed gap of 1,000 steps (Liu et al.) the verdict would be {fixed}."


def unsaid(numbers: Mapping[str, Any], setting: Setting) -> Iterable[str]:
    """What cannot be said."""
    checkpoint, kind = numbers["checkpoint"], numbers["run"]["verdict"]
    if setting.trains_on_all:
        yield "Whether it would answer a pair that was held out: all were trained on."
    elif not setting.has_test_pairs:
        yield (
            "The split is unknown: nothing can be said of training and test pairs apart, nor of when it "
            "memorized or generalized."
        )
    if kind in ("memorization", "confusion", "collapse") and setting.last_step > 0 and setting.diverged_at is None:
        yield _what_more_steps_would_bring(checkpoint, setting)
    if checkpoint["circuit"] == "neither":
        yield "Neither the clock's nor the pizza's marks are clear enough for a name."
    if setting.task.operation not in ("random", "add", "subtract") and setting.task.coordinates.order == setting.task.p:
        yield (
            f"{setting.task.operation} modulo {setting.task.p} is no addition in other coordinates: "
            "frequencies need not be its circuit."
        )
    yield (
        "Fourier measures find Fourier circuits: a rule computed in another way would show only as power "
        "outside the key frequencies."
    )
    yield "One run shows what happened in it, not how often it happens: repeat it over seeds."


def _what_more_steps_would_bring(checkpoint: Mapping[str, Any], setting: Setting) -> str:
    signs = []
    if checkpoint["step"] == setting.last_step and checkpoint["state"] == "in transition":
        signs.append("its last state is in transition")
    if setting.late_changes:
        signs.append(f"the last tenth of its steps took {' and '.join(setting.late_changes)}")
    if signs:
        return f"What more steps would have brought: it was still changing ({'; '.join(signs)})."
    return (
        "What more steps would have brought: it stood still over the last tenth of its steps, and such "
        "plateaus can end."
    )
