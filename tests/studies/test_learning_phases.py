"""Learning phases on planted times: a pace of lr·wd, one of lr alone, an upper edge, and none."""

import numpy as np
import pytest
import xarray as xr

from interp.errors import InputError
from interp.studies import learning_phases
from interp.studies.generalization_times import EVENTS
from interp.studies.learning_phases import PhaseDesign, exponents, predictions

LRS, DECAYS, SEEDS, LAST = (1e-3, 3e-3, 1e-2, 3e-2), (0.1, 0.3, 1.0, 3.0), 4, 10_000


def planted(alpha: float, beta: float, edge: float = np.inf, seed: int = 0) -> xr.Dataset:
    """time = 10·lr^α·wd^β with 5 % of scatter; nothing is memorized where lr·wd is above `edge`."""
    random = np.random.RandomState(seed)
    lr, decay = (values.reshape(-1) for values in np.meshgrid(LRS, DECAYS, indexing="ij"))
    times = 10 * (lr**alpha * decay**beta)[:, None] * np.exp(0.05 * random.standard_normal((16, SEEDS)))
    memorized = np.where((lr * decay)[:, None] > edge, np.nan, np.full((16, SEEDS), 20.0))
    generalized = np.where((times > LAST) | np.isnan(memorized), np.nan, times)
    time = np.full((16, SEEDS, len(EVENTS)), np.nan)
    time[..., list(EVENTS).index("memorized")], time[..., list(EVENTS).index("generalized")] = memorized, generalized
    label = np.where(np.isnan(memorized), "confusion", np.where(np.isnan(generalized), "memorization", "grokking"))
    with np.errstate(invalid="ignore"):
        delay = np.log10(generalized / memorized)
    return xr.Dataset(
        {
            "time": (("setting", "seed", "event"), time),
            "censored_at": (("setting", "seed"), np.full((16, SEEDS), float(LAST))),
            "learning_rate": ("setting", lr),
            "decay": ("setting", decay),
            "label": (("setting", "seed", "rule"), np.stack([label, label], 2)),
            "delay": (("setting", "seed"), delay),
        },
        {"setting": [f"{i}" for i in range(16)], "event": list(EVENTS), "rule": ["gap", "ratio"]},
    )


def verdicts(result: xr.Dataset) -> list[str]:
    return [one.verdict for one in predictions(result)]


def test_planted_exponents_are_found():
    for alpha, beta in ((-1.0, -1.0), (-1.0, -0.5), (-0.4, -1.2)):
        np.testing.assert_allclose(exponents(planted(alpha, beta)), [alpha, beta], atol=0.06)


def test_a_pace_of_lr_times_wd_is_confirmed_and_another_is_not():
    assert verdicts(planted(-1.0, -1.0))[0] == "confirmed"
    assert verdicts(planted(-1.0, -0.3))[0] == "not confirmed"
    assert verdicts(planted(-1.0, 0.0))[0] == "not confirmed"


def test_an_upper_edge_of_lr_times_wd_is_found():
    found = predictions(planted(-1.0, -1.0, edge=0.02))[1]
    assert found.verdict == "confirmed"
    assert found.numbers["areas"]["lr·wd"] == 1
    assert 0.5 < found.numbers["areas"]["lr"] < 1
    assert verdicts(planted(-1.0, -1.0))[1] == "not shown"  # all memorized


def test_failures_without_a_cause_have_no_edge():
    result, random = planted(-1.0, -1.0), np.random.RandomState(3)
    time = result.time.values.copy()
    time[random.uniform(size=(16, SEEDS)) < 0.3] = np.nan
    assert verdicts(result.assign(time=(result.time.dims, time)))[1] == "not confirmed"


def test_where_hardly_anything_generalized_nothing_is_shown():
    result = planted(-1.0, -1.0)
    few = result.assign(time=result.time.where(result.learning_rate * result.decay > 0.05))
    assert verdicts(few)[0] == "not shown"
    assert verdicts(result.isel(seed=[0])) == ["not shown", "not shown"]


def test_labels_are_counted_and_drawn():
    result = planted(-1.0, -1.0, edge=0.02)
    told = learning_phases.numbers(result)
    assert told["rules_agree"] == {"share": 1.0, "kappa": 1.0}
    assert sum(told["labels"]["gap"].values()) == 16 * SEEDS
    figure = learning_phases.plot(result)
    heat = figure.data[-1].z
    assert heat.shape == (4, 4)
    assert heat[0, 3] == pytest.approx(np.log10(10 / (3e-2 * 0.1) / 20), abs=0.1)  # row: wd 0.1, column: lr 0.03


def test_what_cannot_be_is_refused_in_a_line():
    for wrong in ({"lrs": ()}, {"lrs": (0.1, 0.1)}, {"decays": (-1.0,)}, {"train_fraction": 0.0}, {"steps": 0}):
        with pytest.raises(InputError, match=r"^[^\n]*$"):
            PhaseDesign(**wrong)
