"""The critical size on planted curves whose D_crit is known for every way, on controls in which a way has none."""

import math

import numpy as np
import pytest
import xarray as xr
from scipy import stats

from interp.errors import InputError
from interp.studies import DecayDesign, critical_size
from interp.studies.circuit_efficiency import KINDS
from interp.studies.critical_size import DESIGN, FULL, STRENGTHS, grid, memorized_sizes, predictions
from interp.studies.growth_at_a_moment import CIRCUITS
from interp.studies.isolated_circuits import nothing_isolated
from interp.studies.ways_to_critical_size import METHODS, Costs, counts, critical_sizes, told

SIZES = np.array(DESIGN.sizes)
HELD = memorized_sizes(DESIGN)
DEGREE, RISE = 6.0, 0.25
ALL_250 = dict.fromkeys(METHODS, 250.0)


def planted(
    d_crit: dict[str, float], *, slope: float = 0.05, noise: float = 0.0, seeds: int = 5, apart: bool = False
) -> xr.Dataset:
    """Norms w = c·f^(1/6) of memories, c rising as D^¼, and of circuits, as D^slope where they are known (D ≥ 500);
    accuracy logistic in log D, r_C − r_M linear in it. `noise`: of log D_crit over seeds, the same for all ways, or
    with `apart` another for each."""
    generator = np.random.RandomState(0)
    off = {way: generator.normal(size=seeds) * noise for way in METHODS}
    at = {way: d_crit[way] * np.exp(off[way if apart else "growth"]) for way in METHODS}
    axes = ("kind", "size", "weight_decay", "seed")
    logit = np.broadcast_to(np.array([26.0, 21.0, 17.0, 13.0])[:, None], (2, len(SIZES), 4, seeds))
    circuit = 12 * (SIZES[:, None] / 500) ** slope * np.ones(seeds)
    of_crossing = 12 * (at["efficiency"] / 500) ** slope
    memory = of_crossing * (SIZES[:, None] / at["efficiency"]) ** RISE
    norm = np.stack([memory, circuit])[:, :, None] * logit ** (1 / DEGREE)
    kept = np.stack([np.isin(SIZES, HELD), SIZES >= 500])[:, :, None, None] & np.ones_like(logit, dtype=bool)
    isolated = nothing_isolated(HELD, DESIGN.p, STRENGTHS, seeds)
    strong = np.broadcast_to(np.array([8.0, 20.0, 50.0])[:, None], isolated.isolated_kept.shape)
    held = isolated.isolated_size.values[:, None]
    costs = np.stack([11 * (held / at["isolated"]) ** RISE, 11 * np.ones((len(held), seeds))])
    isolated["isolated_correct_logit"] = isolated.isolated_correct_logit.copy(data=strong)
    isolated["isolated_weight_norm"] = isolated.isolated_weight_norm.copy(
        data=costs[:, :, None] * strong ** (1 / DEGREE)
    )
    there = np.arange(len(held)) < len(HELD)
    isolated["isolated_kept"] = isolated.isolated_kept.copy(
        data=np.stack([there, ~there])[:, :, None, None] & np.ones_like(strong, dtype=bool)
    )
    log = np.log(SIZES)[:, None]
    accuracy = 1 / (1 + np.exp(-6 * (log - np.log(at["ungrokking"]))))
    difference = 0.02 * (log - np.log(at["growth"]))
    data = {
        "correct_logit": (axes, logit),
        "weight_norm": (axes, norm),
        "kept": (axes, kept),
        "held_out_accuracy": (("size", "seed"), accuracy),
        "growth_ratio": (("circuit", "size", "seed"), np.stack([1.01 + difference, 1.01 + 0 * difference])),
        "start_accuracy": ("seed", np.ones(seeds)),
        "rest_separation": ("seed", np.full(seeds, 0.3)),
        "norm_change": (axes, np.zeros(kept.shape)),
        "norm_range": (axes, np.zeros(kept.shape)),
        "train_accuracy": (axes, np.where([[[[True]]], [[[False]]]], kept, True).astype(float)),
        "memory_share": (axes, np.where(kept & ([[[[False]]], [[[True]]]]), 0.04, 0.5)),
    }
    coords = {
        "kind": list(KINDS),
        "size": SIZES.astype(np.int32),
        "weight_decay": list(DESIGN.weight_decays),
        "circuit": list(CIRCUITS),
    }
    return xr.Dataset(data, coords=coords, attrs={"middle_weight_decay": 1.0}).merge(isolated)


def verdicts(result: xr.Dataset) -> dict[str, str]:
    return {prediction.name: prediction.verdict for prediction in predictions(result)}


def test_every_way_finds_what_is_planted():
    truth = {"efficiency": 220.0, "isolated": 190.0, "ungrokking": 260.0, "growth": 400.0}
    found = critical_sizes(planted(truth))
    for way, size in truth.items():
        # A straight line between sizes a quarter apart is exact but for accuracy.
        assert found[way] == pytest.approx(np.full(5, size), rel=0.02 if way == "ungrokking" else 1e-6), way


def test_the_flat_extrapolation_is_off_by_what_the_slope_says():
    """C_gen at D ≥ 500 on the mean costs that of (500·740)^½; taken for all D it is met at a larger D."""
    found = critical_sizes(planted(ALL_250, slope=0.05))
    middle = (500 * 740) ** 0.5
    assert found["efficiency_flat"] == pytest.approx(np.full(5, 250 * (middle / 250) ** (0.05 / RISE)), rel=1e-6)
    level = critical_sizes(planted(ALL_250, slope=0.0))
    assert level["efficiency_flat"] == pytest.approx(level["efficiency"])


def test_memories_that_give_more_than_was_demanded_cost_less_at_one_logit():
    """A memory of twice the logits that were demanded, at the norm of those that were: 2^(1/6) in norm is 2^(4/6) in
    D."""
    result = planted({**ALL_250, "isolated": 200.0})
    twice = result.isolated_correct_logit * xr.where(result.kind == "memorizing", 2.0, 1.0)
    result["isolated_correct_logit"] = twice.transpose(*result.isolated_correct_logit.dims)
    found = critical_sizes(result)
    assert found["isolated_demanded"] == pytest.approx(np.full(5, 200.0))
    assert found["isolated"] == pytest.approx(np.full(5, 200 * 2 ** (1 / (DEGREE * RISE))))


@pytest.mark.parametrize("factor", [0.1, 7.0])
def test_the_unit_of_norm_and_the_order_of_seeds_do_not_matter(factor: float):
    result = planted(ALL_250, noise=0.1, apart=True)
    scaled = result.assign(
        weight_norm=factor * result.weight_norm, isolated_weight_norm=factor * result.isolated_weight_norm
    ).isel(seed=[3, 1, 0, 4, 2])
    before, after = critical_sizes(result), critical_sizes(scaled)
    for way, values in before.items():
        assert after[way] == pytest.approx(values[[3, 1, 0, 4, 2]]), way
    assert verdicts(scaled) == verdicts(result)


def test_one_d_crit_is_confirmed_and_seeds_that_differ_together_do_not_matter():
    """Ratios are taken within a seed."""
    result = planted(ALL_250, noise=0.1)
    assert set(verdicts(result).values()) == {"confirmed"}


def test_intervals_are_students_over_the_seeds():
    result = planted(ALL_250, noise=0.1, apart=True)
    found = critical_sizes(result)
    [prediction] = [one for one in predictions(result) if one.name == "isolated-growth"]
    for values, interval in (
        (np.log(found["growth"]), prediction.numbers["d_crit"]["growth"]["interval_95"]),
        (np.log(found["growth"] / found["isolated"]), prediction.numbers["ratio_interval_95"]),
    ):
        theirs = stats.ttest_1samp(values, 0.0).confidence_interval()
        assert interval == pytest.approx(np.exp([theirs.low, theirs.high]))


def test_ways_that_differ_are_told_apart_and_ways_that_scatter_are_not():
    apart = planted({**ALL_250, "growth": 450.0}, noise=0.02, apart=True)
    told_apart = {name for name, verdict in verdicts(apart).items() if verdict == "not confirmed"}
    assert told_apart == {name for name in verdicts(apart) if "growth" in name}
    wide = verdicts(planted({**ALL_250, "growth": 300.0}, noise=0.4, apart=True))
    assert set(wide.values()) == {"not shown"}


def test_a_little_apart_is_not_shown():
    """A ratio of 1.1 whose interval has 1.1 in it is neither within 10 % nor beyond."""
    result = planted({**ALL_250, "isolated": 275.0}, noise=0.02, apart=True)
    [found] = [one for one in predictions(result) if one.name == "efficiency-isolated"]
    low, high = found.numbers["ratio_interval_95"]
    assert 1 < low < 1.1 < high
    assert (found.verdict, "lies above 1" in found.because) == ("not shown", True)


@pytest.mark.parametrize("way", [*METHODS])
def test_a_way_that_does_not_cross_shows_nothing(way: str):
    result = planted({**ALL_250, way: 5000.0})
    assert np.isnan(critical_sizes(result)[way]).all()
    for prediction in predictions(result):
        assert (prediction.verdict == "not shown") == (way in prediction.name.split("-"))
        row = prediction.numbers["d_crit"][way]
        assert row["seeds_that_have_one"] == 0
        assert math.isnan(row["d_crit"])
        if way in prediction.name.split("-"):
            assert f"{METHODS[way]}: 0 of 5 seeds have a D_crit" in prediction.because


def test_a_way_that_one_seed_lacks_shows_nothing():
    result = planted(ALL_250)
    result["growth_ratio"][0, :, 2] += 1  # above memory at every D
    assert verdicts(result)["ungrokking-growth"] == "not shown"
    row = told(critical_sizes(result)["growth"])
    assert row["seeds_that_have_one"] == 4
    assert all(math.isnan(end) for end in (row["d_crit"], *row["interval_95"]))


def test_one_seed_shows_nothing():
    assert set(verdicts(planted(ALL_250, seeds=1)).values()) == {"not shown"}


def test_a_circuit_at_one_size_has_no_slope():
    """Then there is no D_crit by its own slope, and one by the flat extrapolation."""
    result = planted(ALL_250, slope=0.0)
    result["kept"][1] = result.kept[1] & (result["size"] == 740)
    found = critical_sizes(result)
    assert np.isnan(found["efficiency"]).all()
    assert found["efficiency_flat"] == pytest.approx(np.full(5, 250.0))


def test_the_line_is_that_of_least_squares():
    sizes = np.array([100.0, 200.0, 400.0, 800.0])
    cost = Costs(sizes, np.log(sizes), np.array([np.nan, 2.0, 3.0, 5.0]))
    slope, height = np.polyfit(np.log(sizes[1:]), [2.0, 3.0, 5.0], 1)
    assert cost.line == pytest.approx(height + slope * np.log(sizes))
    assert (cost.smallest, cost.slope) == (200.0, pytest.approx(slope))


def test_networks_that_had_not_grokked_show_nothing():
    result = planted(ALL_250)
    result["start_accuracy"][3] = 0.9
    assert set(verdicts(result).values()) == {"not shown"}
    assert "had not grokked" in predictions(result)[0].because


def test_the_figure_shows_both_frontiers_and_every_way():
    result = planted({**ALL_250, "growth": 5000.0}, noise=0.05)
    figure = critical_size.plot(result)
    names = {trace.name for trace in figure.data if trace.name}
    assert {f"memory, D = {size}" for size in HELD} < names
    assert "circuit, all 1,849 pairs" in names
    axis = {label for trace in figure.data if trace.xaxis == "x5" for label in trace.y}
    assert axis == {
        "isolated networks<br>5 of 5 seeds",
        "the same, C_gen flat<br>5 of 5 seeds",
        "isolated circuits<br>5 of 5 seeds",
        "the same, as demanded<br>5 of 5 seeds",
        "ungrokking<br>5 of 5 seeds",
        "growth ratios<br>0 of 5 seeds",
    }
    nothing = planted(ALL_250).merge(nothing_isolated(HELD, DESIGN.p, STRENGTHS, 5), compat="override")
    nothing = nothing.assign(nothing_isolated(HELD, DESIGN.p, STRENGTHS, 5).data_vars)
    critical_size.plot(nothing)  # draws what there is


def test_the_numbers_beside_are_those_planted():
    result = planted({**ALL_250, "isolated": 200.0}, noise=0.1)
    result["checkpoint_separation"][1] = 0.25
    result["isolated_least_separation"][1, -1, -1] = 0.1
    numbers = critical_size.numbers(result)
    less = numbers["isolated"]["least_separation_less_in_the_checkpoint"]
    assert [less[name]["mean"] for name in ("at_rest", "isolated")] == pytest.approx([0.05, -0.15])
    costs = numbers["costs"]
    assert costs["slopes"]["C_mem"]["mean"] == pytest.approx(RISE)
    assert costs["slopes"]["C_gen"]["mean"] == pytest.approx(0.05)
    apart = critical_sizes(result)
    memory = 12 / 11 * (apart["isolated"] / apart["efficiency"]) ** RISE * (apart["efficiency"] / 500) ** 0.05
    for size in HELD:
        row = costs["C_mem_over_isolated_memory"][size]
        assert row["factor"] == pytest.approx(stats.gmean(memory))
        theirs = stats.ttest_1samp(np.log(memory), 0.0).confidence_interval()
        assert row["interval_95"] == pytest.approx(np.exp([theirs.low, theirs.high]))
    assert costs["C_mem_over_isolated_memory"].keys() == {*HELD}
    # A logistic curve of slope 6 takes 2·ln 9 / 6 in log D from a tenth to nine; it is read by straight lines.
    assert numbers["ungrokking_10_to_90_percent"]["factor"] == pytest.approx(9 ** (2 / 6), rel=0.05)
    assert numbers["by_size"]["memory_share"][500] == {
        "mean": pytest.approx(0.04),
        "interval_95": pytest.approx([0.04, 0.04]),
        "seeds": 5,
    }


def test_a_memory_that_leads_more_at_less_norm_is_found():
    """At a logit of 8 memories of up to 60·(50/8)^(4/6) = 203 pairs have less norm than the circuit at 50."""
    result = planted({**ALL_250, "isolated": 60.0})
    for lead_of_circuit, expected in ((0.1, 200.0), (1.0, math.nan)):
        separation = np.broadcast_to(np.array([0.9, lead_of_circuit])[:, None, None, None], result.isolated_kept.shape)
        result["isolated_least_separation"] = result.isolated_kept.copy(data=separation)
        found = critical_size.numbers(result)["isolated"]["memory_leads_more_at_less_norm_up_to"]
        assert found == pytest.approx([expected] * 5, nan_ok=True)


def test_other_choices_turn_what_they_should():
    """25 % of accuracy are reached at D·3^(−1/6), 75 % at D·3^(1/6): a factor of 1.2, not the same within 10 %."""
    numbers = critical_size.numbers(planted(ALL_250))
    choices = numbers["other_choices"]
    for level, power in (("25%", -1), ("75%", 1)):
        row = choices[f"ungrokking: {level} held-out accuracy"]
        assert row["d_crit"] == pytest.approx(250 * 3 ** (power / 6), rel=0.02)
        assert row["turns"] == dict.fromkeys(
            ("efficiency-ungrokking", "isolated-ungrokking", "ungrokking-growth"), "not confirmed"
        )
    straight = choices["growth ratios: straight line over all D"]
    assert (straight["d_crit"], straight["turns"]) == (pytest.approx(250.0), {})
    none = choices["isolated networks: memory up to 5%"]
    assert none["turns"] == {}  # what is kept has 4 %
    assert numbers["without_a_seed"] == {}


def test_one_seed_that_decides_is_named():
    """Of six seeds one lies far off: without it the two ways agree."""
    result = planted(ALL_250, seeds=6)
    result["held_out_accuracy"][:, 4] = 1 / (1 + np.exp(-6 * (np.log(SIZES) - np.log(400))))
    turned = critical_size.numbers(result)["without_a_seed"]
    assert turned == {
        4: dict.fromkeys(("efficiency-ungrokking", "isolated-ungrokking", "ungrokking-growth"), "confirmed")
    }


def test_a_circuit_of_which_memory_is_unknown_does_not_count():
    result = planted(ALL_250)
    result["memory_share"][1, -1] = math.nan
    kept = counts(result).kept
    assert not kept[1, -1].any()
    assert kept[1, -2].all()
    assert kept[0].sel(size=HELD).all()


def test_one_seed_has_numbers_too():
    critical_size.numbers(planted(ALL_250, seeds=1))
    nothing = planted(ALL_250).assign(nothing_isolated(HELD, DESIGN.p, STRENGTHS, 5).data_vars)
    nothing["growth_ratio"] = nothing.growth_ratio * math.nan
    assert critical_size.numbers(nothing)["other_choices"]["growth ratios: r_C passes 1"]["seeds_that_have_one"] == 0


def test_sizes_that_leave_no_pair_held_out_are_refused():
    with pytest.raises(InputError, match="with 48 of 49 pairs, the most of sizes, no pair is held out of training"):
        grid(DecayDesign(p=7, sizes=(10, 48)))


@pytest.mark.parametrize("design", [DESIGN, FULL])
def test_the_grid(design: DecayDesign):
    runs = grid(design)
    by_name = {run.name: run for run in runs}
    assert len(by_name) == len(runs)
    starts = {run.start for run in runs} - {None}
    assert starts == {f"start-seed{seed}" for seed in range(design.seeds)}
    for run in runs:
        task, training = run.experiment.task, run.experiment.training
        product = training.eps * training.weight_decay
        if run.start is not None:  # its pairs are among those of the network that it begins from
            assert {*task.train_indices} <= {*by_name[run.start].experiment.task.train_indices}
        if run.start is None and task.operation == "add":
            assert product == pytest.approx(design.eps)
        assert task.seed == run.experiment.model.seed
