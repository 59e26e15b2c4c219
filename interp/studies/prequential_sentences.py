"""What the study of prequential codes says: a verdict on each of its statements."""

import math
from typing import Any

import numpy as np
import xarray as xr

from interp.figures import as_count
from interp.mathematics.intervals import mean_interval
from interp.mathematics.prequential import FREE, Code, Gain, joint_gain, most_saved
from interp.studies.design import Prediction, Verdict

# Two data sets, by name: what is stated of them, and what their gain is compared with.
NOTHING, ALL = 0.02, 0.98  # shares of the lesser code: up to the one nothing is gained, from the other on all
GAINS = {
    "halves": "two halves of the table cost less together than apart",
    "mirrors-tied": "after pairs with random labels their mirrors cost nothing, where inputs are tied",
    "mirrors": "after pairs with random labels their mirrors cost less, where inputs are told apart",
    "operations": "the same pairs under two operations cost less together than apart",
    "halves-random": "two halves of a random table cost no less together than apart",
    "operations-random": "the pairs of the rule, and the same with random labels, cost no less together than apart",
}
NULLS = ("halves-random", "operations-random")


def codes(result: xr.Dataset, labels: str, bits: str = "bits") -> list[Code]:
    """The code of each order."""
    of = result[bits].sel(labels=labels).transpose("seed", "block").values
    return [Code(one, result["size"].values.astype(np.int64), int(result.attrs["classes"])) for one in of]


def _mean_and_interval(values: np.ndarray) -> tuple[float, float, float]:
    low, high = mean_interval(values[None])[:, 0].tolist()
    return float(values.mean()), low, high


# ---- one data set ----------------------------------------------------------------------------------------------------


def costs_less(result: xr.Dataset) -> Prediction:
    """Whether the code of the rule is shorter than n log₂ K, in the mean over orders."""
    statement = f"the labels of {result.attrs['rule']} cost less than n log₂ K"
    of = codes(result, "rule")
    shares = np.array([code.share for code in of])
    mean, low, high = _mean_and_interval(shares)
    raw = float(np.mean([code.share for code in codes(result, "rule", "raw_bits")]))
    verdict: Verdict = "confirmed" if high < 1 else "not confirmed" if low >= 1 else "not shown"
    because = (
        f"{np.mean([code.total for code in of]):,.0f} of {of[0].uniform:,.0f} bits, a share of {mean:.2f} ({low:.2f} "
        f"to {high:.2f}, 95 % over {as_count(len(of), 'order')}) of {result.attrs['pairs']}; not tempered it would be "
        f"{raw:.2f}"
    )
    numbers = {"share": mean, "share_interval_95": [low, high], "share_not_tempered": raw}
    return Prediction("rule", statement, verdict, because, numbers)


def saves_nothing(result: xr.Dataset) -> Prediction:
    """Whether the codes of random labels save no more than chance may: c bits with a chance of 2^−c each."""
    of = codes(result, "random")
    saved = np.array([code.uniform - code.total for code in of])
    allowed = most_saved(len(of))
    verdict: Verdict = "confirmed" if saved.max() <= allowed else "not confirmed"
    share = float(np.mean([code.share for code in of]))
    because = (
        f"a share of {share:.3f}; the code that saves most saves {saved.max():.1f} bits, and chance lets "
        f"{as_count(len(of), 'order')} save {allowed:.1f} (5 %)"
    )
    numbers = {"share": share, "saved_bits": saved.tolist(), "allowed_bits": allowed}
    return Prediction("null", "random labels cost n log₂ K", verdict, because, numbers)


def become_free(result: xr.Dataset) -> Prediction:
    """Whether a label of the rule comes to cost less than a bit in every order, and no other label in any."""
    statement = f"after a prefix a label of the rule costs less than {FREE:g} bit, and a random one never does"
    of = codes(result, "rule")
    free = np.array([code.free_from for code in of])
    others = {"random labels": codes(result, "random"), "untrained networks": codes(result, "rule", "untrained_bits")}
    n_others = {name: sum(math.isfinite(code.free_from) for code in theirs) for name, theirs in others.items()}
    n_free = int(np.isfinite(free).sum())
    verdict: Verdict = "not shown"
    if n_free == len(of) and not any(n_others.values()):
        verdict = "confirmed"
    elif n_free == 0 or any(n_others.values()):
        verdict = "not confirmed"
    numbers: dict[str, Any] = {"free_from": free.tolist(), "orders_free": n_free} | {
        f"orders_free_of_{name.replace(' ', '_')}": count for name, count in n_others.items()
    }
    because = f"it does in {n_free} of {as_count(len(of), 'order')}"
    if n_free == len(of):
        before = np.array([code.prefixes[np.flatnonzero(code.prefixes == code.free_from)[0] - 1] for code in of])
        paid = np.array([code.paid_before for code in of])
        mean, low, high = _mean_and_interval(free)
        n = int(of[0].labels.sum())
        stays = sum(bool((code.bits_per_label[code.prefixes >= code.free_from] < FREE).all()) for code in of)
        numbers |= {
            "free_from_mean": mean,
            "free_from_interval_95": [low, high],
            "not_yet_after": before.tolist(),
            "orders_that_stay_free": stays,
            "paid_before_bits": paid.tolist(),
        }
        because += (
            f", first after {mean:,.0f} ({low:,.0f} to {high:,.0f}, 95 %) of {n:,} labels, not yet after "
            f"{before.mean():,.0f}, and in {stays} from there on; {paid.mean():,.0f} bits are paid before, "
            "beside the first block"
        )
    because += "; " + ", ".join(f"with {name} in {count}" for name, count in n_others.items())
    return Prediction("free", statement, verdict, because, numbers)


# ---- two data sets ---------------------------------------------------------------------------------------------------


def gains_of(result: xr.Dataset, setting: str) -> list[Gain]:
    """What two data sets gain, for each order."""
    totals = result.joint_bits.sel(setting=setting).sum("joint_block").transpose("seed", "code").values
    return [joint_gain(*one) for one in totals.tolist()]


def gains(result: xr.Dataset) -> list[Prediction]:
    """A verdict for each two data sets."""
    return [_gain(result, setting) for setting in result.setting.values.tolist()]


def _gain(result: xr.Dataset, setting: str) -> Prediction:
    found = gains_of(result, setting)
    mean, low, high = _mean_and_interval(np.array([gain.normalized for gain in found]))
    verdict: Verdict = "not shown"
    if setting in NULLS:
        verdict = "confirmed" if high <= NOTHING else "not confirmed" if low > NOTHING else "not shown"
    else:
        least = ALL if setting == "mirrors-tied" else NOTHING
        verdict = "confirmed" if low > least else "not confirmed" if high <= least else "not shown"
    bits, difference = (np.array([getattr(gain, of) for gain in found]) for of in ("mean", "difference"))
    between = mean_interval(difference[None])[:, 0].tolist()
    sizes = result.joint_labels.sel(setting=setting)
    because = (
        f"{bits.mean():,.0f} bits, {mean:.3f} ({low:.3f} to {high:.3f}, 95 % over {as_count(len(found), 'order')}) of "
        f"the lesser code, of {int(sizes.sel(code='X')):,} and {int(sizes.sel(code='Y')):,} labels; X first gains "
        f"{difference.mean():,.0f} bits ({between[0]:,.0f} to {between[1]:,.0f}) more than Y first"
    )
    numbers = {
        "gain_bits": bits.tolist(),
        "gain_normalized": mean,
        "gain_normalized_interval_95": [low, high],
        "x_first_less_y_first_bits": difference.tolist(),
        "x_first_less_y_first_interval_95": between,
    }
    return Prediction(setting, GAINS[setting], verdict, because, numbers)


def gain_numbers(result: xr.Dataset) -> dict[str, Any]:
    """The totals of the four codes of every two data sets, in bits, for each order."""
    totals = result.joint_bits.sum("joint_block").transpose("setting", "code", "seed")
    return {
        setting: {code: totals.sel(setting=setting, code=code).values.tolist() for code in result.code.values.tolist()}
        for setting in result.setting.values.tolist()
    }
