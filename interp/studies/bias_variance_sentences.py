"""What the study of bias and variance says: a verdict on each of its statements."""

from typing import Any

import numpy as np
import xarray as xr

from interp.mathematics.double_descent import shape
from interp.studies.design import Prediction, Verdict
from interp.studies.variance_levers import (
    Estimate,
    estimate,
    foretold,
    gains,
    named_lever,
    of_part,
    places,
    shares,
)

STATEMENTS = {
    "bias-falls": "on digits the widest networks have less bias² than the narrowest",
    "variance-peak": "on digits variance rises with width and falls again",
    "seed-part": "past that peak more of the variance is the data's",
    "overfitting": "from the step of least risk on, risk rises, and most of that is variance",
    "grokking": "networks that grok disagree most on the way: less than half of that variance is left at the end",
    "lever-narrow": "the lever that is named lowers the risk of the narrowest networks",
    "lever-peak": "the lever that is named lowers the risk of the networks of the greatest variance",
    "lever-wide": "the lever that is named lowers the risk of the widest networks",
    "ensemble": "the mean of other networks of each draw has the risk that the decomposition foretells",
}
GROKKED = 0.1  # a Brier score; that of who always gives all classes the same is near 1
Judgment = tuple[Verdict, str, dict[str, Any]]


def judged(name: str, result: xr.Dataset) -> Prediction:
    """The verdict on a statement, why, and the numbers."""
    if name.startswith("lever-"):
        verdict, because, numbers = _lever(result, name.removeprefix("lever-"))
    else:
        verdict, because, numbers = JUDGES[name](result)
    return Prediction(name, STATEMENTS[name], verdict, because, numbers)


def _above(found: Estimate) -> Verdict:
    """Whether a number is above 0."""
    return "confirmed" if found.low > 0 else "not confirmed" if found.high < 0 else "not shown"


def _numbers(found: Estimate, **others: Any) -> dict[str, Any]:
    return {"difference": found.value, "difference_interval_95": [found.low, found.high]} | others


def _bias_falls(result: xr.Dataset) -> Judgment:
    bias = of_part(result.digits.isel(step=-1), "bias")
    found = estimate(bias.shape[1], lambda column: bias[0, column] - bias[-1, column])
    because = f"bias² {bias[0, 0]:.3f} at width {int(result.width[0])}, {bias[-1, 0]:.3f} at {int(result.width[-1])}"
    return _above(found), f"{because}: {found} lower", _numbers(found)


def _variance_peaks(result: xr.Dataset) -> Judgment:
    columns = of_part(result.digits.isel(step=-1), "variance")
    n_draws = columns.shape[1] - 1
    # Pseudo-values take the place of the values of the draws.
    values = n_draws * columns[:, :1] - (n_draws - 1) * columns[:, 1:]
    found = shape(values)
    widths, told = result.width.values.tolist(), ", ".join(f"{value:.3f}" for value in columns[:, 0])
    verdict: Verdict = (
        "confirmed" if found.kind == "double descent" else "not shown" if found.kind == "not shown" else "not confirmed"
    )
    because = f"variance {told} at widths {', '.join(map(str, widths))}: "
    at = None if found.peak is None else widths[found.peak]
    if verdict == "confirmed":
        because += f"a peak at {at}"
    else:
        because += "flat, or no clear shape" if verdict == "not shown" else "it does not both rise and fall"
    numbers = {"peak_width": at, "rise": found.rise.by, "fall": found.fall.by}
    return verdict, because, numbers | {"rise_error": found.rise.error, "fall_error": found.fall.error}


def _seeds_agree(result: xr.Dataset) -> Judgment:
    here, peak, wide = result.digits.isel(step=-1), places(result)["peak"], int(result.width[-1])
    if peak == wide:
        return "not shown", f"the variance is greatest at the widest, {wide}", {}

    def share(width: int) -> np.ndarray:
        of = here.sel(width=width)
        return of_part(of, "data") / of_part(of, "variance")

    of_peak, of_wide = share(peak), share(wide)
    found = estimate(len(of_peak), lambda column: of_wide[column] - of_peak[column])
    because = f"the data's share is {of_peak[0]:.2f} at width {peak} and {of_wide[0]:.2f} at {wide}, {found} more"
    return _above(found), because, _numbers(found)


def _overfitting_is_variance(result: xr.Dataset) -> Judgment:
    width = places(result)["peak"]
    here = result.digits.sel(width=width)
    risk, variance, bias = (of_part(here, part) for part in ("risk", "variance", "bias"))
    best, steps = int(risk[:, 0].argmin()), result.step.values.tolist()
    rise = estimate(risk.shape[1], lambda column: risk[-1, column] - risk[best, column])
    more = estimate(
        risk.shape[1],
        lambda column: (variance[-1, column] - variance[best, column]) - (bias[-1, column] - bias[best, column]),
    )
    verdicts = _above(rise), _above(more)
    verdict: Verdict = (
        "not confirmed"
        if "not confirmed" in verdicts
        else "confirmed"
        if set(verdicts) == {"confirmed"}
        else "not shown"
    )
    because = (
        f"at width {width} the risk is least at step {steps[best]:,}, {risk[best, 0]:.3f}, and {risk[-1, 0]:.3f} at "
        f"the end: variance {variance[best, 0]:.3f} → {variance[-1, 0]:.3f}, bias² {bias[best, 0]:.3f} → "
        f"{bias[-1, 0]:.3f}"
    )
    numbers = {"rise": rise.value, "rise_interval_95": [rise.low, rise.high], "best_step": steps[best]}
    return verdict, because, numbers | {"variance_more": more.value, "variance_more_interval_95": [more.low, more.high]}


def _grokking_disagrees(result: xr.Dataset) -> Judgment:
    neurons = int(result.neurons[-1])
    here = result.addition.sel(neurons=neurons)
    risk, variance, bias = (of_part(here, part) for part in ("risk", "variance", "bias"))
    steps, at = result.addition_step.values.tolist(), int(variance[:, 0].argmax())
    because = (
        f"with {neurons} neurons variance is greatest at step {steps[at]:,}, {variance[at, 0]:.3f}, where bias² is "
        f"{bias[at, 0]:.3f}; at step {steps[-1]:,} they are {variance[-1, 0]:.3f} and {bias[-1, 0]:.3f}"
    )
    found = estimate(variance.shape[1], lambda column: variance[at, column] / 2 - variance[-1, column])
    numbers = _numbers(found, step=steps[at], variance=variance[at, 0], bias_there=bias[at, 0], risk=risk[-1, 0])
    if risk[-1, 0] > GROKKED:
        return "not shown", f"{because}; they have not grokked (risk {risk[-1, 0]:.3f})", numbers
    return _above(found), because, numbers


def _lever(result: xr.Dataset, place: str) -> Judgment:
    width = places(result)[place]
    named, found = named_lever(result, width), gains(result, place)
    best = max(found, key=lambda lever: found[lever].value)
    told = ", ".join(f"{lever} {one}" for lever, one in found.items())
    lower = sum(one.low > 0 for one in found.values())
    because = (
        f"{shares(result, width)}. Named: {named}. Lower by: {told}; in the mean the most by {best}; {lower} of "
        f"{len(found)} lower it, which is what a lever drawn at random has"
    )
    numbers = {"width": width, "lever": named, "best": best}
    for lever, one in found.items():
        key = lever.replace(" ", "_")
        numbers |= {f"lower_by_{key}": one.value, f"lower_by_{key}_interval_95": [one.low, one.high]}
    return _above(found[named]), because, numbers


def _ensemble_foretold(result: xr.Dataset) -> Judgment:
    told, numbers, verdicts = [], dict[str, Any](), list[Verdict]()
    for place, width in places(result).items():
        said, more = foretold(result, place)
        holds = more.low <= 0 <= more.high
        verdicts.append(
            "not confirmed" if not holds else "confirmed" if said.low > more.high - more.value else "not shown"
        )
        told.append(f"width {width}: lower by {said.value:.3f} foretold, {said.value + more.value:.3f} found")
        numbers |= {f"{place}_foretold": said.value, f"{place}_found_less_foretold_interval_95": [more.low, more.high]}
    verdict: Verdict = (
        "not confirmed" if "not confirmed" in verdicts else "not shown" if "not shown" in verdicts else "confirmed"
    )
    return verdict, "; ".join(told), numbers


JUDGES = {
    "bias-falls": _bias_falls,
    "variance-peak": _variance_peaks,
    "seed-part": _seeds_agree,
    "overfitting": _overfitting_is_variance,
    "grokking": _grokking_disagrees,
    "ensemble": _ensemble_foretold,
}
