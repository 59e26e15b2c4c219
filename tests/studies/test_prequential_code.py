"""What is coded from what, mirrors that a network cannot tell apart, and verdicts of planted costs."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from numpy.testing import assert_allclose, assert_array_equal

from interp.errors import InputError
from interp.mathematics.prequential import least_mixing
from interp.studies import conduct
from interp.studies import prequential_code as study
from interp.studies.prequential_code import CODES, LABELS, PrequentialDesign, code_of, codes_of
from interp.studies.prequential_runs import Coding, Tables, blocks, mirror
from interp.studies.prequential_sentences import GAINS, gains_of
from interp.sweeps import run_grid

SMALL = PrequentialDesign(p=7, seeds=2, prefixes=(0.4, 0.7), joint_prefixes=(0.5,), steps=5, d_model=8, d_mlp=8)


def every_code(design: PrequentialDesign) -> list[Coding]:
    single = [code_of(design, labels, seed) for labels in LABELS for seed in range(2)]
    return single + [one for name in GAINS for seed in range(2) for one in codes_of(design, name, seed).values()]


@pytest.mark.parametrize("options", [{}, {"ordered": True}, {"operation": "divide"}])
def test_every_label_is_coded_once_from_what_is_before_it(options: dict):
    design = replace(SMALL, **options)
    for code in every_code(design):
        known, labels = list(code.given), code.tables.labels
        for part in code.parts:
            if len(part.trained):
                assert set(part.trained) | set(part.tempered_on) == set(known), code.name
                assert not {*part.trained, *part.tempered_on} & {*part.asked}, code.name
                task = code.tables.trained_on(part.trained)
                trained = np.sort(part.trained)
                assert_array_equal(task.labels[task.train_indices], labels[trained], err_msg=code.name)
                assert len(task.train_indices) == len(trained)
            else:
                assert not known
            known += list(part.asked)
        assert sorted(known) == sorted({*code.given, *code.then})
        assert (labels[known] >= 0).all()


def test_the_tenth_is_held_out_unless_no_asked_pair_can_be_told_from_a_trained_one():
    for name in ("mirrors", "mirrors-tied"):
        codes = codes_of(PrequentialDesign(), name, seed=0)
        x, y = codes["X"].then, codes["Y"].then
        assert {*mirror(x, 31)} == {*y}
        assert not {*x} & {*y}
        for of in CODES:
            for part in codes[of].parts:
                if name == "mirrors-tied" and "after" in of:
                    assert_array_equal(part.trained, part.tempered_on)
                elif len(part.trained):
                    assert len(part.tempered_on) == (len(part.trained) + len(part.tempered_on)) // 10
                    assert not {*part.trained} & {*part.tempered_on}


def test_unordered_pairs_are_coded_once_and_ordered_ones_said_so():
    assert len(code_of(PrequentialDesign(), "rule", 0).then) == 31 * 32 // 2
    assert len(code_of(PrequentialDesign(ordered=True), "rule", 0).then) == 31**2
    assert len(code_of(PrequentialDesign(operation="subtract", partner="add"), "rule", 0).then) == 31**2
    table = code_of(PrequentialDesign(), "random", 0).tables.labels.reshape(31, 31)
    assert (table == table.T).all()  # as the network sees it
    other = code_of(PrequentialDesign(), "random", 1).tables.labels.reshape(31, 31)
    assert 0 < (table == other).mean() < 0.1


def test_mirrors_cost_a_network_with_tied_inputs_what_it_says_of_its_own_pairs(tmp_path: Path):
    """Random labels that were memorized: after X the labels of Y cost −log₂(1 − e + e/K) each, the least there is."""
    design = PrequentialDesign(p=7, seeds=1, joint_prefixes=(0.5,), steps=100, d_model=16, d_mlp=32)
    code = codes_of(design, "mirrors-tied", 0)["Y after X"]
    runs = run_grid(tmp_path, code.runs(design), processes=1)
    asked = {part.name: part.asked for part in code.parts}
    for block, (name, pairs) in zip(blocks(code, runs), asked.items(), strict=True):
        logits = runs[name].last.logits.reshape(-1, 7)
        assert_allclose(logits[pairs], logits[mirror(pairs, 7)], atol=1e-4)
        assert block.accuracy == 1
        assert_allclose(block.tempering.mixing, least_mixing(len(runs[name].task.train_indices)))
        assert_allclose(block.bits, -block.labels * math.log2(1 - block.tempering.mixing * 6 / 7), rtol=0.01)
    apart = Tables(7, ("random",), False, 0, symmetric=True).run("apart", code.given, design)
    logits = run_grid(tmp_path, [apart], processes=1)["apart"].last.logits.reshape(-1, 7)
    assert abs(logits[code.then] - logits[mirror(code.then, 7)]).max() > 1


# ---- planted ---------------------------------------------------------------------------------------------------------

PREFIXES, UNIFORM = np.array([0, 50, 100, 150, 200]), math.log2(31)


def planted(
    *,
    rule: tuple[float, ...] = (1.0, 1.0, 0.9, 0.1, 0.01),
    random: float = 1.0,
    untrained: float = 1.0,
    gain: float = 0.4,
    null: float = 0.0,
    scatter: float = 0.005,
    seeds: int = 5,
) -> xr.Dataset:
    """Costs as shares of uniform, and gains as shares of either code, with a scatter over orders."""
    rng = np.random.default_rng(0)
    noise = 1 + scatter * rng.normal(size=(2, seeds, 5))
    shares = np.stack([np.tile(rule, (seeds, 1)), np.full((seeds, 5), random)]) * noise
    joint = np.zeros((len(GAINS), seeds, 4, 2))
    for at, name in enumerate(GAINS):
        of = null if "random" in name else 1 if name == "mirrors-tied" else gain
        left = 1 - of * (1 + 2 * scatter * rng.normal(size=seeds)) if 0 < of < 1 else np.full(seeds, 1 - of)
        joint[at, :, :2], joint[at, :, 2:] = 100, (left * 100)[:, None, None]
    values = {
        "bits": shares * 50 * UNIFORM,
        "raw_bits": shares * 50 * UNIFORM * 3,
        "untrained_bits": np.full((2, seeds, 5), untrained * 50 * UNIFORM),
        "accuracy": 1 - shares,
    }
    return xr.Dataset(
        {name: (study.AXES, of) for name, of in values.items()}
        | {
            "size": ("block", np.full(5, 50)),
            "prefix": ("block", PREFIXES),
            "joint_bits": (study.JOINT_AXES, joint),
            "joint_labels": (("setting", "code"), np.full((len(GAINS), 4), 40)),
        },
        coords={"labels": list(LABELS), "seed": range(seeds), "block": range(5)}
        | {"setting": list(GAINS), "code": list(CODES), "joint_block": range(2)},
        attrs={"classes": 31, "rule": "add modulo 31", "pairs": "unordered pairs"},
    )


def told(result: xr.Dataset) -> dict:
    return {one.name: one for one in study.predictions(result)}


def test_what_was_planted_is_found():
    found = told(planted())
    assert {one.verdict for one in found.values()} == {"confirmed"}
    assert_allclose(found["rule"].numbers["share"], 0.602, atol=0.01)
    assert found["free"].numbers["free_from"] == [150] * 5
    assert found["free"].numbers["not_yet_after"] == [100] * 5
    assert_allclose(found["free"].numbers["paid_before_bits"], 1.9 * 50 * UNIFORM, rtol=0.02)
    assert_allclose(found["halves"].numbers["gain_normalized"], 0.4, atol=0.02)


def test_without_a_rule_nothing_is_confirmed_of_it():
    found = told(planted(rule=(1.0,) * 5, gain=0.0, scatter=0.0))
    verdicts = {name: found[name].verdict for name in ("rule", "free", "halves", "mirrors", "operations")}
    assert set(verdicts.values()) == {"not confirmed"}
    assert found["null"].verdict == "confirmed"


def test_random_labels_that_cost_less_refute_the_null():
    """4 % of 1,239 bits: a chance of 2^−49."""
    found = told(planted(random=0.96))
    assert found["null"].verdict == "not confirmed"
    assert min(found["null"].numbers["saved_bits"]) > found["null"].numbers["allowed_bits"]
    assert told(planted(random=0.15))["free"].verdict == "not confirmed"
    assert told(planted(untrained=0.15))["free"].verdict == "not confirmed"
    leak = told(planted(null=0.1))
    assert (leak["halves-random"].verdict, leak["operations-random"].verdict) == ("not confirmed", "not confirmed")
    assert told(planted(null=-0.1))["operations-random"].verdict == "confirmed"  # sharing may cost


def test_what_scatters_too_much_is_not_shown():
    result = planted()
    some = result.bits.copy()
    some[0, 0, 3:] = 50 * UNIFORM  # in one order labels never become free
    found = told(result.assign(bits=some))["free"]
    assert (found.verdict, found.numbers["orders_free"]) == ("not shown", 4)
    wild = result.assign(
        joint_bits=result.joint_bits + 80 * xr.DataArray([1, -1, 1, -1, 0], dims="seed") * (result.code == "X")
    )
    assert told(wild)["halves"].verdict == "not shown"


def test_the_gain_of_both_orders():
    result = planted()
    joint = result.joint_bits.copy()
    joint.loc[{"setting": "halves", "code": "Y after X"}] = 10.0
    gain = gains_of(result.assign(joint_bits=joint), "halves")[0]
    assert_allclose([gain.x_first, gain.mean - gain.y_first], [180, gain.difference / 2])
    assert told(result.assign(joint_bits=joint))["halves"].numbers["x_first_less_y_first_interval_95"][0] > 0


def test_why_nothing_can_be_shown():
    result = planted()
    assert study.failed_precondition(result.isel(seed=slice(2))) == (
        "there are 2 orders; three are needed for an interval (--seeds)"
    )
    diverged = result.assign(bits=result.bits.where(result.block != 3))
    assert str(study.failed_precondition(diverged)).startswith("10 costs are not finite")
    assert {one.verdict for one in told(diverged).values()} == {"not shown"}


def test_the_table_the_numbers_and_the_figure():
    result = planted()
    assert [row["prefix"] for row in study.table(result)] == ["0", "50", "100", "150", "200"]
    assert json.dumps(study.numbers(result))
    figure = study.plot(result)
    assert len(figure.data) == 2 * (5 + 1) + 2 * len(GAINS)
    assert figure.data[5].y[-1] == pytest.approx(UNIFORM, rel=0.01)  # the mean of random labels


def test_runs_are_ordinary_and_the_result_is_their_own(tmp_path: Path):
    design = PrequentialDesign(
        p=5,
        seeds=3,
        prefixes=(0.5,),
        joint_prefixes=(0.5,),
        data_sets=("operations-random",),
        steps=3,
        d_model=8,
        d_mlp=8,
    )
    outcome = conduct("prequential-code", tmp_path, design, processes=1)
    result = outcome.result
    assert result.bits.shape == (2, 3, 2)
    assert result.joint_bits.shape == (1, 3, 4, 2)
    assert_allclose(result.bits.sel(block=0), result["size"][0] * math.log2(5))
    assert_allclose(result.untrained_bits.sel(block=1), result["size"][1] * math.log2(5))  # one label shows nothing
    both = (tmp_path / "runs").glob("operations-random-y-after-x-n15-seed*")
    assert len(list(both)) == 3


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"operation": "random"}, "operation is a rule, and random has none"),
        ({"partner": "add"}, "partner is add, as operation is; give another one"),
        ({"prefixes": ()}, "prefixes needs one share or more, each once; got none"),
        ({"prefixes": (0.5, 0.5)}, "prefixes needs one share or more, each once; got 0.5 0.5"),
        ({"joint_prefixes": (1.0,)}, "joint-prefixes must be less than 1, got 1"),
        ({"data_sets": ("halfs",)}, "did you mean"),
        ({"data_sets": ()}, "data-sets needs one or more of halves"),
        ({"p": 12, "operation": "permutations-ab"}, "permutations"),
    ],
)
def test_designs_that_cannot_be(options: dict, said: str):
    with pytest.raises(InputError, match=said):
        PrequentialDesign(**options)


def test_blocks_without_a_label_are_refused():
    with pytest.raises(InputError, match=r"^prefixes 0.4 0.41 of 28 labels leave a block without one; [^\n]*$"):
        study.grid(PrequentialDesign(p=7, prefixes=(0.4, 0.41)))
