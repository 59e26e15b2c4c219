"""Which circuit was the stronger, since when, and at what price: what the two circuits' results give a reader, and no more."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import xarray as xr

from interp.sentences import as_number, as_step
from interp.setting import Setting

# In logits. Untrained networks have strengths of some hundredths, of either sign: below this there is nothing to compare.
FLOOR = 0.1


@dataclass(frozen=True)
class Competition:
    """Over the whole run, held out and on training pairs: the highest strengths in logits, the memorizing one's step, the step from which
    on the generalizing strength stays above the memorizing one and FLOOR, and there its scale-free efficiency as a multiple of the
    memorizing one's. None where unknown."""

    highest_memorizing: float | None
    highest_memorizing_at: int | None
    highest_generalizing: float | None
    leads_from: int | None
    efficiency_ratio: float | None


def competition(split: xr.Dataset, efficiency: xr.Dataset) -> Competition:
    """From the results of `circuit_split` and `circuit_efficiency` over all checkpoints."""
    steps, strength = split.step.values, split.strength.sel(estimator="held_out", split="train")
    generalizing, memorizing = (strength.sel(circuit=circuit).values for circuit in ("generalizing", "memorizing"))
    known = np.isfinite(memorizing) & np.isfinite(generalizing)
    if not known.any():
        return Competition(None, None, None, None, None)
    steps, generalizing, memorizing = steps[known], generalizing[known], memorizing[known]
    leads = np.logical_and.accumulate(((generalizing > memorizing) & (generalizing >= FLOOR))[::-1])[::-1]
    leads_from = int(steps[leads.argmax()]) if leads.any() else None
    ratio = None
    if leads_from is not None:
        own, other = (float(efficiency.scale_free_efficiency.sel(step=leads_from, circuit=of)) for of in ("generalizing", "memorizing"))
        ratio = own / other if np.isfinite(own) and other > 0 else None
    highest = memorizing.argmax()
    return Competition(float(memorizing[highest]), int(steps[highest]), float(generalizing.max()), leads_from, ratio)


def the_competition(step: int, strength: Mapping[str, float | None], found: Competition, setting: Setting) -> str:
    """Why the generalizing circuit won: the two circuits' strengths at a step and over the whole run, and what they cost."""
    if found.highest_memorizing is None or found.highest_generalizing is None:
        without = "test pairs" if setting.trains_on_all else "a known split"
        return f"Without {without} the memorizing circuit cannot be told from the generalizing one."
    if max(found.highest_memorizing, found.highest_generalizing) < FLOOR:
        return f"At no checkpoint does either circuit give the right answer of a training pair {FLOOR} logits: there is nothing to compare."
    text = f"Memorization gave the right answer of a training pair at most {as_number(found.highest_memorizing)} logits (step "
    text += f"{as_step(found.highest_memorizing_at)}); at step {as_step(step)} "
    if strength["memorizing"] is None or strength["generalizing"] is None:
        return text + "the strengths of the circuits cannot be computed."
    common = f"what is common to all pairs, told from test pairs alone, gives it {as_number(strength['generalizing'])}."
    if step == found.highest_memorizing_at:
        text = f"Memorization gives the right answer of a training pair {as_number(found.highest_memorizing)} logits at step "
        text += f"{as_step(step)}, where it is highest, and {common}"
    else:
        text += f"it gives it {as_number(strength['memorizing'])}, and {common}"
    if found.leads_from is not None:
        text += f" What is common is the stronger part from step {as_step(found.leads_from)} on."
    if found.leads_from is not None and found.efficiency_ratio is not None:
        text += (
            f" At that step it had {found.efficiency_ratio:.2f} times the logit-giving power per weight norm (scale-free) of the memorizing"
        )
        text += " circuit: one number at one step, without an error, and no proof of what weight decay did."
    return text
