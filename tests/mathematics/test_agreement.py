"""Cohen's κ against the well-kept implementation, on symmetries, and its null on labels without a cause."""

import math

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from interp.mathematics.agreement import cohens_kappa, kappa_null


def test_kappa_is_that_of_scikit_learn_and_has_no_direction():
    random = np.random.RandomState(0)
    one, other = random.choice(list("abcd"), (2, 200), p=[0.4, 0.3, 0.2, 0.1])
    other = np.where(random.uniform(size=200) < 0.6, one, other)
    assert cohens_kappa(one, other) == pytest.approx(cohen_kappa_score(one, other))
    assert cohens_kappa(other, one) == pytest.approx(cohens_kappa(one, other))
    order = random.permutation(200)
    assert cohens_kappa(one[order], other[order]) == pytest.approx(cohens_kappa(one, other))


def test_what_no_label_can_tell_is_unknown():
    same = np.full(5, "a")
    assert math.isnan(cohens_kappa(same, same))
    assert math.isnan(cohens_kappa(same[:0], same[:0]))
    assert math.isnan(kappa_null(same[:, None], same[:, None]).p_value)


def test_the_null_calls_labels_without_a_cause_rare_no_oftener_than_it_says():
    """Cells of three seeds that all have one label, drawn anew: 5 % of false calls at most, and half of them below ½ at
    most; fewer, because a permutation that agrees just as well counts as better."""
    random = np.random.RandomState(1)
    values = []
    for _ in range(200):
        one, other = (np.repeat(random.choice(list("abc"), (12, 1)), 3, axis=1) for _ in range(2))
        values.append(kappa_null(one, other, permutations=99).p_value)
    assert np.mean(np.array(values) <= 0.05) <= 0.096  # three standard deviations more
    assert 0.2 < np.mean(np.array(values) <= 0.5) < 0.606


def test_the_null_is_kappa_of_permuted_cells():
    random = np.random.RandomState(2)
    one, other = random.choice(list("abc"), (2, 6, 3))
    orders = np.random.RandomState(0)
    slow = [cohens_kappa(one, other[orders.permutation(6)]) for _ in range(50)]
    null = kappa_null(one, other, permutations=50)
    assert null.quantile_95 == pytest.approx(np.quantile(slow, 0.95))
    assert null.p_value == (1 + (np.array(slow) >= cohens_kappa(one, other) - 1e-12).sum()) / 51


def test_agreement_in_every_cell_is_rare_by_chance():
    labels = np.repeat(np.array(list("aabbccdd"))[:, None], 4, axis=1)
    null = kappa_null(labels, labels)
    assert null.p_value < 0.01
    assert null.quantile_95 < 0.6


def test_what_cannot_be_is_refused_in_a_line():
    with pytest.raises(ValueError, match=r"^[^\n]*$"):
        kappa_null(np.array([["a"], ["b"]]), np.array([["a"], ["b"]]), permutations=0)
