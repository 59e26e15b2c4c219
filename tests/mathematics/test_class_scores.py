"""Precision, recall, F1, AUC and KS: closed forms, other people's implementations, symmetries, and guesses."""

import math

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import binom, ks_2samp, norm
from sklearn.metrics import roc_auc_score

from interp.mathematics.class_scores import answer_scores, answered, ks_by_chance, separation


@pytest.mark.parametrize("n_classes", [2, 7, 113])
def test_a_constant_answer(n_classes: int) -> None:
    """Accuracy 1/K, and the only class with an F1 has 2/(K + 1)."""
    labels = np.repeat(np.arange(n_classes), 6)
    found = answer_scores(labels, np.zeros_like(labels), n_classes)
    assert found.f1.mean() == pytest.approx(2 / (n_classes * (n_classes + 1)))
    assert found.precision[0] == pytest.approx(1 / n_classes)
    assert found.recall.tolist() == [1] + [0] * (n_classes - 1)
    assert found.support.tolist() == [6] * n_classes


def test_random_answers_have_a_macro_f1_a_little_below_a_guess() -> None:
    """Of n examples a class is answered N ~ B(nK, 1/K) times, a share n/(nK) of them rightly: F1 is
    2/K E N/(n + N) < 1/K."""
    n_classes, n = 113, 20
    random, labels, count = np.random.default_rng(0), np.repeat(np.arange(n_classes), n), np.arange(200)
    exact = 2 / n_classes * (binom.pmf(count, n * n_classes, 1 / n_classes) * count / (n + count)).sum()
    drawn = [answer_scores(labels, random.integers(0, n_classes, len(labels)), n_classes).f1.mean() for _ in range(60)]
    assert np.mean(drawn) == pytest.approx(exact, abs=3 * float(np.std(drawn)) / math.sqrt(60))
    assert 0.97 / n_classes < exact < 1 / n_classes


def test_a_class_without_examples_is_not_known_and_no_answer_hurts_only_recall() -> None:
    found = answer_scores(np.array([0, 0, 2, 2]), np.array([0, -1, 2, 0]), 4)
    assert_array_equal(np.isnan(found.f1), [False, True, False, True])
    assert found.precision[[0, 2]].tolist() == [0.5, 1.0]
    assert found.recall[[0, 2]].tolist() == [0.5, 0.5]


def test_an_answer_is_one_logit_above_all_others() -> None:
    logits = torch.tensor([[3.0, 1.0, 2.0], [1.0, 2.0, 2.0], [0.0, 0.0, 0.0], [1.0, torch.nan, 0.0]])
    assert answered(logits).tolist() == [0, -1, -1, -1]


def scores_of(n: int, n_classes: int, seed: int, *, ties: bool) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    labels = random.integers(0, n_classes, n)
    scores = random.normal(size=(n, n_classes)) + 0.7 * np.eye(n_classes)[labels]
    return (scores.round(0) if ties else scores), labels


@pytest.mark.parametrize("ties", [False, True])
def test_it_is_what_others_compute(ties: bool) -> None:
    scores, labels = scores_of(200, 5, 3, ties=ties)
    found = separation(scores, labels)
    for c in range(5):
        own, others = scores[labels == c, c], scores[labels != c, c]
        assert found.auc[c] == pytest.approx(roc_auc_score(labels == c, scores[:, c]), abs=1e-12)
        assert found.ks[c] == pytest.approx(ks_2samp(own, others, alternative="less").statistic, abs=1e-12)


@pytest.mark.parametrize("mu", [0.25, 0.5, 1.0, 2.0])
def test_gaussian_scores_that_are_shifted(mu: float) -> None:
    """AUC = Φ(μ/√2) and KS = 2Φ(μ/2) − 1."""
    quantiles = norm.ppf((np.arange(4000) + 0.5) / 4000)
    scores, labels = np.concatenate([quantiles, quantiles + mu]), np.repeat([0, 1], 4000)
    found = separation(np.stack([-scores, scores], axis=1), labels)
    assert_allclose(found.auc, norm.cdf(mu / math.sqrt(2)), atol=1e-4)
    assert_allclose(found.ks, 2 * norm.cdf(mu / 2) - 1, atol=1e-3)


def test_increasing_functions_change_nothing_and_reversed_scores_have_the_other_area() -> None:
    scores, labels = scores_of(300, 4, 0, ties=False)
    found, other, reverse = (separation(one, labels) for one in (scores, np.exp(3 * scores), -scores))
    assert_array_equal(found.auc, other.auc)
    assert_array_equal(found.ks, other.ks)
    assert_allclose(reverse.auc, 1 - found.auc, rtol=1e-12)


def test_names_of_classes_do_not_matter() -> None:
    scores, labels = scores_of(200, 6, 1, ties=True)
    new = np.random.default_rng(0).permutation(6)  # class c is called new[c]
    renamed = np.empty_like(scores)
    renamed[:, new] = scores
    for one, other in zip(separation(scores, labels), separation(renamed, new[labels]), strict=True):
        assert_array_equal(one, other[new])
    answers = scores.argmax(1)
    ours, theirs = answer_scores(labels, answers, 6), answer_scores(new[labels], new[answers], 6)
    for one, other in zip(ours, theirs, strict=True):
        assert_array_equal(one, other[new])


def test_where_there_is_nothing_to_tell_apart() -> None:
    scores = np.random.default_rng(0).normal(size=(5, 3))
    assert np.isnan(separation(scores, np.zeros(5, dtype=int))).all()
    unknown = separation(np.where(np.arange(3) == 1, np.nan, scores), np.array([0, 1, 2, 0, 1]))
    assert_array_equal(np.isnan(unknown.auc), [False, True, False])
    constant = separation(np.zeros((6, 2)), np.array([0, 1] * 3))
    assert constant.auc.tolist() == [0.5, 0.5]
    assert constant.ks.tolist() == [0, 0]


@pytest.mark.parametrize("n", [1, 3, 20])
def test_the_ks_of_scores_that_know_nothing(n: int) -> None:
    random, labels = np.random.default_rng(0), np.repeat([0, 1], [n, 4000])
    found = [separation(random.normal(size=(n + 4000, 2)), labels).ks[0] for _ in range(300)]
    assert np.mean(found) == pytest.approx(ks_by_chance(n), abs=4 * float(np.std(found)) / math.sqrt(300))
