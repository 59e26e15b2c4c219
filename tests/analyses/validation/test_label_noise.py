"""Wrong training labels, found by a network's own answers and by its held-out pairs: planted circuits beside planted
tables, and controls with nothing to find."""

import itertools
import math

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import interp
from interp.analyses import label_noise
from interp.analysis import analyze, find, measure_checkpoint
from interp.experiment import Experiment, ModelConfig, Samples, Task, TrainingConfig
from interp.models import initial_weights
from interp.runs import Checkpoint
from interp.sweeps import run_experiment
from interp.testing import LookupTable, circuit_checkpoint, circuit_neurons, ideal_logits, with_logits

NETWORK, HELD_OUT = label_noise.JUDGES


def by_heart(task: Task, strength: float) -> np.ndarray:
    """Logits [a, b, c] that add to the label of every training pair, right or wrong."""
    labels = np.eye(task.p)[task.labels.clip(min=0)].reshape((task.p,) * 3)
    return strength * labels * task.train_mask.reshape(task.p, task.p, 1)


def clock(p: int) -> np.ndarray:
    """3·cos w_2 (a+b−c)."""
    return 3 * ideal_logits(p, [2], "clock").numpy()


@pytest.mark.parametrize("strength", [0.0, 2.0, 40.0])
def test_a_clock_beside_a_table_of_labels(strength: float) -> None:
    """A wrong label that is off by δ has 3·cos 4πδ/p + strength in the network, the right answer 3; in held-out pairs
    the table has no part."""
    task = Task(31, train_fraction=0.4, label_noise=0.3)
    found = label_noise.measure(with_logits(task, clock(31) + by_heart(task, strength)))
    noisy, right = task.noisy_indices, np.setdiff1d(task.train_indices, task.noisy_indices)
    off = (task.true_labels - task.labels)[noisy]
    short = 3 * (1 - np.cos(4 * np.pi * off / 31))  # of what the right answer has
    next_best = 3 * (1 - math.cos(2 * math.pi / 31))  # classes beside the right one, at w_2·16 = 2π·32/31
    for judge, added in ((NETWORK, strength), (HELD_OUT, 0.0)):
        lead = found.lead.sel(judge=judge).values
        assert_allclose(lead[right], next_best + added, rtol=1e-4)
        is_flagged = short > added
        assert_allclose(lead[noisy][is_flagged], (added - short)[is_flagged], rtol=1e-4, atol=1e-4)
        assert_array_equal(lead < 0, np.isin(np.arange(31**2), noisy[is_flagged]))
        of = found.sel(judge=judge)
        assert of.flagged == is_flagged.sum()
        assert of.recall == is_flagged.mean()
        assert np.isnan(of.precision) if not is_flagged.any() else of.precision == 1
        assert of.auc == 1  # also where nothing is flagged, right labels lead by more
    assert np.isnan(found.lead.values[:, ~task.train_mask]).all()


@pytest.mark.parametrize(
    ("operation", "family"), [("add", "transformer"), ("add", "mlp"), ("subtract", "transformer"), ("multiply", "mlp")]
)
def test_a_planted_network_that_memorized_wrong_labels_knows_which_they_are(operation, family) -> None:
    task = Task(23, operation, train_fraction=0.3, label_noise=0.25)  # of × four pairs are one: enough have to be left
    table = LookupTable(strength=60.0)
    checkpoint = circuit_checkpoint(task, circuit_neurons([1, 4]), strength=1.0, family=family, lookup=table)
    has_phase = (task.labels > 0) & (task.true_labels > 0) if operation == "multiply" else task.defined
    planted = task.train_mask & has_phase  # 0 is no unit: what answers it is not planted
    assert checkpoint.correct[planted].all()  # the labels trained on, wrong ones too
    found = label_noise.measure(checkpoint).sel(judge=HELD_OUT)
    flagged = np.flatnonzero((found.lead.values < 0) & planted)
    assert_array_equal(flagged, task.noisy_indices[planted[task.noisy_indices]])


def test_a_memorizer_knows_nothing() -> None:
    """All labels lead by the same, and held-out pairs have no logits."""
    task = Task(31, train_fraction=0.4, label_noise=0.3)
    found = label_noise.measure(with_logits(task, by_heart(task, 10.0)))
    assert found.auc.values.tolist() == [0.5, 0.5]
    assert found.flagged.values.tolist() == [0, 0]
    assert found.recall.values.tolist() == [0, 0]


@pytest.mark.parametrize("operation", ["add", "random"])
def test_noise_knows_nothing_on_average(operation: str) -> None:
    """Logits that are noise: of 20 draws the mean AUC is ½ to within four of its standard errors, and of what is
    flagged as many are wrong as there are."""
    found = []
    for seed in range(20):
        task = Task(23, operation, train_fraction=0.4, label_noise=0.3, seed=seed)
        logits = np.random.RandomState(seed).standard_normal((23, 23, 23))
        found.append(label_noise.measure(with_logits(task, logits)))
    for judge in label_noise.JUDGES:
        aucs, precisions = (
            np.array([float(one[name].sel(judge=judge)) for one in found]) for name in ("auc", "precision")
        )
        assert abs(aucs.mean() - 0.5) < 4 * aucs.std(ddof=1) / math.sqrt(20)
        assert aucs.std(ddof=1) < 0.1
        assert abs(precisions.mean() - 0.3) < 0.02


def test_of_random_answers_held_out_pairs_can_tell_memory_alone() -> None:
    """Who knows a random table by heart, held-out pairs too, contradicts its wrong labels: no rule is needed for it."""
    task = Task(23, "random", train_fraction=0.4, label_noise=0.3)
    found = label_noise.measure(with_logits(task, 5 * np.eye(23)[task.true_labels].reshape(23, 23, 23)))
    assert found.auc.values.tolist() == [1, 1]
    assert_array_equal(found.flagged, [len(task.noisy_indices)] * 2)


def test_without_noise_nothing_is_wrong_and_with_all_noise_nothing_is_right() -> None:
    clean, wrong = (Task(23, train_fraction=0.4, label_noise=noise) for noise in (0.0, 1.0))
    of_clean = label_noise.measure(with_logits(clean, clock(23)))
    assert of_clean.flagged.values.tolist() == [0, 0]
    for name in ("precision", "recall", "auc"):
        assert np.isnan(of_clean[name]).all(), name
    noise = np.random.RandomState(0).standard_normal((23, 23, 23))
    false = label_noise.measure(with_logits(clean, noise))
    assert (false.flagged > 0).all()
    assert (false.precision == 0).all()
    of_wrong = label_noise.measure(with_logits(wrong, clock(23)))
    assert of_wrong.flagged.values.tolist() == [len(wrong.train_indices)] * 2
    assert (of_wrong.precision == 1).all()
    assert (of_wrong.recall == 1).all()
    assert np.isnan(of_wrong.auc).all()


def test_the_area_is_a_count_over_pairs() -> None:
    for seed in range(5):
        generator = np.random.RandomState(seed)
        lead, is_wrong = generator.randint(0, 6, 40).astype(float), generator.rand(40) < 0.3
        pairs = itertools.product(lead[is_wrong], lead[~is_wrong])
        counted = np.mean([(one < other) + 0.5 * (one == other) for one, other in pairs])
        assert label_noise.auc(lead, is_wrong) == pytest.approx(counted, rel=1e-12)


@pytest.mark.parametrize(
    ("task", "model"),
    [
        (Task(11, train_fraction=0.5, label_noise=0.2), ModelConfig(d_model=8, n_heads=2, d_mlp=8)),  # too few held out
        (Samples(n_train=50, n_test=20, label_noise=0.2), ModelConfig(family="mlp", d_mlp=8)),
        (Samples("parity", n_train=50, n_test=20, label_noise=0.2), ModelConfig(family="mlp", d_mlp=8)),
        (interp.Operations(7, ("add", "random")), ModelConfig(d_model=8, n_heads=2, d_mlp=8, prompt="aob=")),
    ],
)
def test_where_held_out_pairs_have_nothing_to_say_the_network_has(task, model: ModelConfig) -> None:
    found = label_noise.measure(Checkpoint(0, initial_weights(model, task.sizes), task, model))
    of_network, of_others = found.sel(judge=NETWORK), found.sel(judge=HELD_OUT)
    assert np.isfinite(of_network.lead.values).sum() == len(task.train_indices)
    assert of_network.flagged == (of_network.lead < 0).sum()
    assert np.isnan(of_others.lead).all()
    assert all(np.isnan(of_others[name]) for name in ("flagged", "precision", "recall", "auc"))


def test_logits_that_are_not_finite_flag_nothing() -> None:
    task = Task(23, train_fraction=0.4, label_noise=0.2)
    found = label_noise.measure(with_logits(task, np.full((23, 23, 23), np.nan)))
    assert np.isnan(found.flagged).all()


def test_what_is_most_contradicted_is_listed_as_pairs() -> None:
    task = Task(31, train_fraction=0.4, label_noise=0.02)
    result = measure_checkpoint(with_logits(task, clock(31)), "label_noise")
    told = find("label_noise").summary(result)
    assert sorted(told["network"]["most_contradicted"]) == [list(divmod(int(one), 31)) for one in task.noisy_indices]
    lines = find("label_noise").lines(result)
    assert lines[0] == "384 labels trained on, 7 of them wrong on purpose"
    assert "7 flagged, precision 100.0%, recall 100.0%, AUC 1.000" in lines[1]
    assert f"({task.noisy_indices[0] // 31}, {task.noisy_indices[0] % 31})" in " ".join(lines)
    clean = measure_checkpoint(with_logits(Task(31, train_fraction=0.4), clock(31)), "label_noise")
    assert "0 flagged" in " ".join(find("label_noise").lines(clean))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_network_on_digits_knows_wrong_labels_before_it_memorizes_them(seed: int, tmp_path) -> None:
    """By the step of the least test loss, which needs no wrong label to be known; at the end all are memorized."""
    task = Samples(n_train=200, n_test=300, label_noise=0.2, seed=seed, scaling="centered")
    training = TrainingConfig(steps=250, lr=1e-2, weight_decay=0.0, warmup=0, checkpoint_log=20, log_every=50)
    run = run_experiment(Experiment(task, ModelConfig(family="mlp", d_mlp=64, seed=seed), training), tmp_path / "run")
    told = find("label_noise").summary(analyze(run, ["label_noise"])["label_noise"])
    before, last = told["network"]["least_loss"], told["network"]["last"]
    assert before["auc"] > 0.95
    assert before["recall"] > 0.6
    assert last["flagged"] == 0
    assert told["held_out_pairs"] is None
    assert 0 < before["step"] < last["step"]
