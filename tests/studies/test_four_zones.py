"""The four zones on planted curves: labels, borders, agreement, and a network without any."""

import math

import numpy as np
import pytest
import xarray as xr

from interp.errors import InputError
from interp.experiment import Task
from interp.mathematics import grokking
from interp.studies import four_zones
from interp.studies.four_zones import ZoneDesign, curve_label, n_facts, norm_change, predictions, zones
from interp.studies.zone_borders import Border, border, zone

STEPS = np.arange(0, 1500, 10)
SIZES, WIDTHS, SEEDS = np.array([400, 600, 900, 1350]), np.array([4, 8, 16]), 4


def rises(at: float, top: float = 1.0) -> np.ndarray:
    return top / (1 + np.exp(-(STEPS - at) / 15))


@pytest.mark.parametrize(
    ("train", "held_out", "label"),
    [
        (rises(100), rises(1000), "grokking"),
        (rises(100), rises(1000, 0.02), "memorization"),
        (rises(100), rises(300, 0.6), "semi-grokking"),
        (rises(100), rises(1450, 0.9), "memorization"),  # not flat: still on its way
        (rises(300), rises(320), "progression"),
        (rises(300, 0.7), rises(300, 0.6), "progression"),
        (rises(300, 0.4), rises(300, 0.3), "confusion"),
        (rises(300, 0.9), rises(300, 0.3), "confusion"),
    ],
)
def test_a_run_is_labeled_from_its_own_curves(train: np.ndarray, held_out: np.ndarray, label: str):
    verdict = grokking.events(STEPS, np.stack([train, held_out])).verdict
    assert curve_label(STEPS, train, held_out, verdict) == label


def test_the_norm_is_counted_from_when_half_was_known():
    norms = np.where(STEPS < 100, 1.0, np.where(STEPS < 800, 8.0, 2.0))
    assert norm_change(rises(100), norms) == pytest.approx(math.log(2 / 8))
    assert math.isnan(norm_change(rises(100, 0.3), norms))


def test_facts_are_counted_once():
    assert n_facts(Task(7, train_fraction=1.0)) == 28
    task = Task(43, train_pairs=1400)
    pairs = {frozenset(pair) for pair in task.pairs[task.train_indices].tolist()}
    assert n_facts(task) == len(pairs) < 946


def test_borders_are_read_of_each_seed():
    sizes = np.array([100, 200, 400, 800])
    steep, later = np.array([0.0, 0.0, 1.0, 1.0]), np.array([0.0, 0.0, 0.0, 1.0])
    one = border(sizes, np.stack([steep], 1))
    assert one.critical == pytest.approx(200 * math.sqrt(2))
    assert one.low < one.critical < one.high
    both = border(sizes, np.stack([steep, later], 1))
    assert both.critical == pytest.approx(400)  # the geometric mean of 283 and 566
    assert border(sizes, np.ones((4, 2))) == Border(0.0, 0.0, 0.0)
    assert border(sizes, np.zeros((4, 2))).critical == math.inf
    assert math.isnan(border(sizes, np.stack([np.ones(4), np.zeros(4)], 1)).critical)


def test_zones_lie_about_their_borders():
    sizes, at = np.array([100, 1600]), Border(300.0, 400.0, 500.0)
    told = [zone(size, size, 1000.0, at, sizes) for size in (100, 299, 301, 499, 501, 1001)]
    assert told == ["ungrokking", "ungrokking", "semi-grokking", "semi-grokking", "grokking", "progression"]
    assert zone(100, 100, 1000.0, Border(0.0, 0.0, 0.0), sizes) == "grokking"
    assert zone(100, 100, 1000.0, Border(math.inf, math.inf, math.inf), sizes) == "ungrokking"
    assert zone(100, 100, 1000.0, Border(math.nan, math.nan, math.nan), sizes) == "unknown"
    assert zone(100, 100, 50.0, Border(math.nan, math.nan, math.nan), sizes) == "progression"


def planted(*, shuffled: bool = False) -> xr.Dataset:
    """Width 4 memorizes nothing of what it is given, 8 half of the D, 16 all; from D = 600 on these generalize."""
    random = np.random.RandomState(0)
    shape = (len(WIDTHS), len(SIZES), SEEDS)
    memory = np.array([50.0, 650.0, 2000.0])[:, None] + random.uniform(-5, 5, (3, SEEDS))
    accuracy = np.broadcast_to((SIZES >= 600)[None, :, None] * 1.0, shape).copy()
    label = np.full(shape, "", dtype="<U16")
    for i, j, seed in np.ndindex(*shape):
        more = SIZES[j] > memory[i, 0]
        label[i, j, seed] = "progression" if more else "grokking" if SIZES[j] >= 600 else "memorization"
    change = np.where(label == "progression", 0.3, -0.2) + random.uniform(-0.02, 0.02, shape)
    if shuffled:
        label = label.reshape(-1, SEEDS)[random.permutation(12)].reshape(shape)
        change = random.permutation(change.reshape(-1)).reshape(shape)
    axes = ("width", "size", "seed")
    facts = np.broadcast_to(SIZES[:, None] * 1.0, shape[1:]).copy()
    return xr.Dataset(
        {
            "label": (axes, label),
            "train_accuracy": (axes, np.ones(shape)),
            "held_out_accuracy": (axes, accuracy),
            "norm_change": (axes, change),
            "memory": (axes[::2], memory),
            "facts": (axes[1:], facts),
        },
        {"width": WIDTHS, "size": SIZES, "seed": np.arange(SEEDS)},
    )


def test_a_planted_theory_is_confirmed():
    result = planted()
    told = zones(result)
    assert (told[0] == "progression").all()
    assert told[2, :, 0].tolist() == ["ungrokking", "grokking", "grokking", "grokking"]
    found = {one.name: one for one in predictions(result)}
    assert [found[name].verdict for name in ("memory", "norm")] == ["confirmed", "confirmed"]
    assert found["zones"].numbers["kappa"] > 0.8
    assert found["zones"].numbers["null_p"] < 0.05
    assert four_zones.numbers(result)["sentences"][0] == (
        "At width 4 and D = 400 theory says progression, 4 of 4 are progression."
    )
    assert len(four_zones.table(result)) == 12
    assert four_zones.plot(result).data


def test_labels_that_have_nothing_to_do_with_size_are_not():
    found = {one.name: one for one in predictions(planted(shuffled=True))}
    assert found["zones"].verdict != "confirmed"
    assert found["zones"].numbers["null_p"] > 0.05
    assert found["norm"].verdict != "confirmed"


def test_a_run_has_no_say_in_its_own_zone():
    result = planted()
    accuracy = result.held_out_accuracy.values.copy()
    accuracy[2, :, 0] = 0.0  # one seed at which nothing generalizes
    other = zones(result.assign(held_out_accuracy=(("width", "size", "seed"), accuracy)))
    assert other[2, :, 0].tolist() == zones(result)[2, :, 0].tolist()


def test_few_seeds_show_nothing():
    few = planted().isel(seed=slice(2))
    assert {one.verdict for one in predictions(few)} == {"not shown"}
    assert four_zones.numbers(few) == {}


def test_what_cannot_be_is_refused_in_a_line():
    for wrong in ({"widths": (6,)}, {"widths": ()}, {"sizes": (5000,)}, {"sizes": (600, 600)}, {"lr": 0.0}):
        with pytest.raises(InputError, match=r"^[^\n]*$"):
            ZoneDesign(**wrong)


def test_networks_are_of_one_shape():
    grid = four_zones.grid(ZoneDesign(seeds=1, widths=(8, 32), sizes=(600,)))
    assert [one.name for one in grid] == [
        "width8-random-seed0",
        "width8-D600-seed0",
        "width32-random-seed0",
        "width32-D600-seed0",
    ]
    assert [one.experiment.model.d_mlp for one in grid] == [32, 32, 128, 128]
    labels = grid[0].experiment.task.labels.reshape(43, 43)
    assert (labels == labels.T).all()
