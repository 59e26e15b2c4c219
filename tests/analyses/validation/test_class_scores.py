"""Class scores of networks that know everything, nothing, one class, or the training pairs."""

import math

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import interp
from interp.analyses import class_scores
from interp.analysis import find, measure_checkpoint
from interp.experiment import ModelConfig, Samples, Task
from interp.models import initial_weights
from interp.runs import Checkpoint
from interp.testing import ideal_logits, with_logits

P = 23
TASK = Task(P, train_fraction=0.4)
CLOCK = ideal_logits(P, [2, 5, 7], "clock").numpy()


def by_heart(task: Task) -> np.ndarray:
    """Logits [a, b, c] that are above 0 for the label of every training pair alone, with a little noise."""
    labels = np.eye(task.p)[task.labels.clip(min=0)].reshape((task.p,) * 3)
    noise = np.random.default_rng(0).normal(size=(task.p,) * 3)
    return 20 * labels * task.train_mask.reshape(task.p, task.p, 1) + noise


def averages(found, split: str, averaged: str = "macro") -> dict[str, float]:
    row = found.average.sel(split=split, averaged=averaged)
    return {str(name): float(row.sel(measure=name)) for name in class_scores.MEASURES}


def test_a_circuit_that_answers_everything() -> None:
    found = class_scores.measure(with_logits(TASK, CLOCK))
    for split in class_scores.SPLITS:
        assert averages(found, split) == dict.fromkeys(class_scores.MEASURES, 1.0)
    assert found.support.sel(split="train").sum() == len(TASK.train_indices)


def test_a_constant_answer() -> None:
    """Of K classes of K pairs, without the one pair that is trained on: one class has an F1, 2K/(K + K² − 1)."""
    task = Task(P, split=(0,))
    found = class_scores.measure(with_logits(task, np.broadcast_to(np.eye(P)[3], (P, P, P)).copy()))
    held_out = averages(found, "held_out")
    assert held_out["F1"] == pytest.approx(2 * P / (P + P**2 - 1) / P)
    assert averages(found, "held_out", "micro")["F1"] == pytest.approx(P / (P**2 - 1))
    assert (held_out["AUC"], held_out["KS"]) == (0.5, 0)
    assert found["count"].sel(split="held_out").values.tolist() == [P, P, P - 1]
    assert found["count"].sel(split="train").values.tolist() == [P, 1, 1]
    assert np.isfinite(found.f1.sel(split="train")).sum() == 1


def test_no_answer_is_taken_where_logits_are_equal() -> None:
    checkpoint = with_logits(TASK, np.zeros((P, P, P)))
    found = class_scores.measure(checkpoint)
    assert averages(found, "held_out", "micro")["recall"] == 0 == checkpoint.correct.sum()


@pytest.mark.parametrize("split", class_scores.SPLITS)
def test_micro_scores_are_the_accuracy(split: str) -> None:
    checkpoint = with_logits(TASK, CLOCK + 2 * np.random.default_rng(1).normal(size=(P, P, P)))
    found = class_scores.measure(checkpoint)
    assert averages(found, split, "micro")["F1"] == pytest.approx(checkpoint.accuracy(split))
    assert averages(found, split, "weighted")["recall"] == pytest.approx(checkpoint.accuracy(split))
    assert 0.05 < checkpoint.accuracy(split) < 0.95


@pytest.mark.parametrize("label_noise", [0.0, 1.0])
def test_a_memorizer_knows_its_labels_and_nothing_else(label_noise: float) -> None:
    """Right labels or random ones: the held-out scores are those of a guess."""
    p = 43
    task = Task(p, train_fraction=0.4, label_noise=label_noise)
    found = class_scores.measure(with_logits(task, by_heart(task)))
    assert averages(found, "train")["F1"] == 1
    held_out, guess = averages(found, "held_out"), averages(found, "held_out", "guess")
    assert held_out["F1"] < 3 / p
    assert held_out["AUC"] == pytest.approx(0.5, abs=0.05)
    assert held_out["KS"] == pytest.approx(guess["KS"], rel=0.35)
    assert guess["precision"] == pytest.approx(1 / p)
    assert guess["AUC"] == 0.5


def test_an_untrained_network_is_a_guess() -> None:
    model = ModelConfig(d_model=8, n_heads=2, d_mlp=8)
    found = class_scores.measure(Checkpoint(0, initial_weights(model, P), TASK, model))
    for split in class_scores.SPLITS:
        assert averages(found, split)["F1"] < 3 / P
        assert averages(found, split)["AUC"] == pytest.approx(0.5, abs=0.07)


def test_names_of_classes_and_offsets_of_examples_change_nothing() -> None:
    """a + 4 + b is the same table with other names; a constant added to all logits of one pair changes no answer."""
    noisy = CLOCK + np.random.default_rng(2).normal(size=(P, P, P))
    found = class_scores.measure(with_logits(TASK, noisy))
    offset = 50 * np.random.default_rng(3).normal(size=(P, P, 1))
    shifted = class_scores.measure(with_logits(TASK, noisy + offset))
    assert_allclose(shifted.auc, found.auc, atol=1e-9)
    assert_array_equal(shifted.f1, found.f1)
    renamed = with_logits(TASK, np.roll(noisy, 4, axis=2))
    renamed.task.__dict__["labels"] = (TASK.labels + 4) % P
    try:
        assert_array_equal(np.roll(found.f1, 4, axis=1), class_scores.measure(renamed).f1)
        assert_allclose(np.roll(found.auc, 4, axis=1), class_scores.measure(renamed).auc, atol=1e-12)
    finally:
        del renamed.task.__dict__["labels"]


def test_pairs_of_one_class_that_are_never_answered_are_told() -> None:
    logits = CLOCK.copy()
    logits[..., 5] -= 100
    result = measure_checkpoint(with_logits(TASK, logits), "class_scores")
    told = find("class_scores").summary(result)["held_out"]
    assert told["never_answered"] == 1
    assert told["below"] >= 1
    assert told["worst"]["class"] == 5
    assert told["worst"]["F1"] == 0
    assert "worst 5 (0.00" in " ".join(find("class_scores").lines(result))


def test_vectors_and_a_split_that_is_not_known() -> None:
    task = Samples(n_train=60, n_test=40)
    model = ModelConfig(family="mlp", d_mlp=8)
    found = class_scores.measure(Checkpoint(0, initial_weights(model, task.sizes), task, model))
    assert found.support.sum("class").values.tolist() == [60, 40]
    unknown = measure_checkpoint(with_logits(Task(P, split="unknown"), CLOCK), "class_scores")
    assert find("class_scores").summary(unknown)["held_out"] is None
    assert "not known" in find("class_scores").lines(unknown)[0]


def test_the_reference_run_ranks_before_it_answers() -> None:
    """At step 372 held-out pairs are answered as by a guess, and the right class is ranked far better than that."""
    run = interp.open_run(interp.reference_path())
    found = class_scores.measure(run[372])
    held_out, guess = averages(found, "held_out"), averages(found, "held_out", "guess")
    assert held_out["F1"] < 2 * guess["F1"]
    assert held_out["AUC"] > 0.6
    assert held_out["KS"] > 1.5 * guess["KS"]
    assert averages(class_scores.measure(run.last), "held_out") == dict.fromkeys(class_scores.MEASURES, 1.0)
    assert math.isfinite(guess["KS"])
