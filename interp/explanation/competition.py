"""Which circuit was the stronger, since when, and at what price: what the two circuits' results give a reader, and no
more."""

from collections.abc import Mapping

from interp.explanation.run_facts import Setting
from interp.explanation.sentences import Summaries, as_number, as_step
from interp.mathematics.circuits import LEAST_STRENGTH


def the_competition(step: int, strength: Mapping[str, float | None], of_run: Summaries, setting: Setting) -> str:
    """The two circuits' strengths at a step and over the whole run, and what they cost. `of_run`: the summaries of
    `circuit_split` and `circuit_efficiency` over all checkpoints."""
    split, efficiency = of_run["circuit_split"], of_run["circuit_efficiency"]
    highest, highest_at, leads_from = (
        split[name]
        for name in ("highest_memorizing_strength", "highest_memorizing_strength_at", "generalizing_leads_from")
    )
    if highest is None:
        without = "test pairs" if setting.trains_on_all else "a known split"
        return f"Without {without} the memorizing circuit cannot be told from the generalizing one."
    if max(highest, split["highest_generalizing_strength"]) < LEAST_STRENGTH:
        at_most = f"{LEAST_STRENGTH:g} logits"
        return (
            f"At no checkpoint does either circuit give the right answer of a training pair {at_most}: there "
            "is nothing to compare."
        )
    if strength["memorizing"] is None or strength["generalizing"] is None:
        return f"At step {as_step(step)} the strengths of the circuits cannot be computed."
    now = ", where it is highest," if step == highest_at else f" it gives it {as_number(strength['memorizing'])}, and"
    text = (
        f"Memorization gave the right answer of a training pair at most {as_number(highest)} logits (step "
        f"{as_step(highest_at)}); "
    )
    text += f"at step {as_step(step)}{now} what is common to all pairs, told from test pairs alone, gives it "
    text += f"{as_number(strength['generalizing'])}."
    if leads_from is None:
        return text
    text += f" What is common is the stronger part from step {as_step(leads_from)} on."
    ratio = efficiency["efficiency_ratio_at_lead"]
    if ratio is not None and efficiency["generalizing_leads_from"] == leads_from:
        text += (
            f" At that step it had {ratio:.2f} times the logit-giving power per weight norm (scale-free) of "
            "the memorizing circuit: one "
        )
        text += "number at one step, without an error, and no proof of what weight decay did."
    return text
