"""Planted spikes: which verdicts follow."""

from dataclasses import replace

import numpy as np
import pytest
import xarray as xr

from interp.studies import slingshots

NAMES = list(slingshots.trainings(slingshots.DESIGN))
SOUND = {
    "spikes": {"float32": (11, 10, 9, 11)},
    "collapsed_share": {name: (0.6, 0.5, 0.3, 0.2) for name in NAMES if name != "sgd"},
    "settled_at": dict.fromkeys(NAMES, (370, 380, 360, 390)),
}


def planted(**changed: dict[str, tuple[float, ...]]) -> xr.Dataset:
    numbers = {name: np.zeros((len(NAMES), 4)) for name in slingshots.NUMBERS}
    for name in SOUND.keys() | changed:
        for training, values in (SOUND.get(name, {}) | changed.get(name, {})).items():
            numbers[name][NAMES.index(training)] = values
    if "is_numerical" not in changed:
        numbers["is_numerical"][NAMES.index("float32")] = 1
    curves = np.ones((len(NAMES), 4, 2))
    return xr.Dataset(
        {name: (("training", "seed"), values) for name, values in numbers.items()}
        | dict.fromkeys(("highest_loss", "cosine"), (("training", "seed", "step"), curves)),
        coords={"training": NAMES, "seed": range(4), "step": [0, 6000]},
    )


def verdicts(result: xr.Dataset) -> dict[str, str]:
    return {one.name: one.verdict for one in slingshots.predictions(result)}


def test_spikes_in_float32_alone_confirm_all_but_what_did_not_come_to_where_it_rounds():
    expected = dict.fromkeys(NAMES, "confirmed") | {"sgd": "not shown"}
    assert verdicts(planted()) == expected
    because = {one.name: one.because for one in slingshots.predictions(planted())}
    assert "there was little to round" in because["sgd"]
    assert because["float32"].startswith("11 / 10 / 9 / 11 spikes in 6,000 steps")


@pytest.mark.parametrize("name", NAMES[1:])
def test_one_spike_refutes_that_there_are_none(name: str):
    assert verdicts(planted(spikes={name: (0, 1, 0, 0)}))[name] == "not confirmed"


def test_float32_must_spike_as_often_as_was_said_and_numerically():
    assert verdicts(planted(spikes={"float32": (11, 3, 10, 9)})) == dict.fromkeys(NAMES, "not shown")
    none = verdicts(planted(spikes={"float32": (0, 0, 0, 0)}))
    assert none == dict.fromkeys(NAMES, "not shown") | {"float32": "not confirmed"}
    assert verdicts(planted(is_numerical={"float32": (0, 0, 0, 0)}))["float32"] == "not shown"


def test_three_seeds_are_too_few():
    few = slingshots.predictions(planted().isel(seed=slice(3)))
    assert {one.verdict for one in few} == {"not shown"}
    assert all("4 seeds are needed" in one.because for one in few)


def test_a_network_that_did_not_memorize_shows_nothing():
    result = planted(settled_at={"sgd": (370, np.nan, 370, 370)})
    assert slingshots.failed_precondition(result) == "a network did not memorize (sgd)"
    assert set(verdicts(result).values()) == {"not shown"}


def test_the_trainings_differ_from_float32_in_what_they_say():
    how = slingshots.trainings(slingshots.DESIGN)
    base = how["float32"]
    assert replace(how["float64"], loss_precision="float32") == base
    assert replace(how["zero-sum"], zero_sum=False) == base
    assert replace(how["eps"], eps=base.eps) == base
    assert (how["sgd"].optimizer, how["sgd"].loss_precision) == ("sgd", "float32")
