"""Prequential codes with closed forms: a coin, the uniform predictor, an oracle, the chain rule, random labels."""

import math

import numpy as np
import pytest
from numpy.testing import assert_allclose

from interp.mathematics.coding import kt_bits
from interp.mathematics.prequential import (
    UNIFORM,
    Code,
    Tempering,
    choose_tempering,
    joint_gain,
    label_bits,
    least_mixing,
    most_saved,
)


def coded(labels: np.ndarray, predictor, n_classes: int, blocks: list[int], given: np.ndarray | None = None) -> Code:
    """The code of labels whose predictor is `predictor(prefix)`, logits; without a given prefix the first is sent."""
    given, bits = np.zeros(0, dtype=int) if given is None else given, []
    for start, end in zip(np.cumsum([0, *blocks[:-1]]), np.cumsum(blocks), strict=True):
        prefix, asked = np.concatenate([given, labels[:start]]), labels[start:end]
        logits = np.tile(predictor(prefix), (len(asked), 1)) if len(prefix) else np.zeros((len(asked), n_classes))
        bits.append(label_bits(logits, asked).sum())
    return Code(np.array(bits), np.array(blocks), n_classes, len(given))


def krichevsky_trofimov(n_classes: int):
    return lambda prefix: np.log(np.bincount(prefix, minlength=n_classes) + 0.5)


@pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
def test_the_prequential_code_of_a_coin_is_that_of_krichevsky_and_trofimov(share):
    labels = (np.random.default_rng(0).random(300) < share).astype(int)
    code = coded(labels, krichevsky_trofimov(2), 2, [1] * 300)
    assert_allclose(code.total, kt_bits(np.bincount(labels, minlength=2)), atol=1e-9)


def test_a_coin_costs_its_entropy_and_half_a_logarithm():
    """n H + ½ log₂ n + ½ log₂ (π/2) (§2 of Krichevsky and Trofimov), up to terms in 1/n."""
    labels = np.random.default_rng(1).permutation(np.repeat([0, 1], [700, 300]))
    entropy = -sum(q * math.log2(q) for q in (0.7, 0.3))
    code = coded(labels, krichevsky_trofimov(2), 2, [1] * 1000)
    assert_allclose(code.total, 1000 * entropy + math.log2(1000) / 2 + math.log2(math.pi / 2) / 2, atol=0.01)


def test_the_uniform_predictor_costs_n_log_k_and_an_oracle_the_first_block():
    labels = np.random.default_rng(2).integers(0, 31, 100)
    uniform = coded(labels, lambda prefix: np.zeros(31), 31, [20, 30, 50])
    assert_allclose([uniform.total, uniform.uniform, uniform.share], [100 * math.log2(31), 100 * math.log2(31), 1])
    assert math.isnan(uniform.free_from)
    assert_allclose(uniform.paid_before, 80 * math.log2(31))
    constant = np.full(100, 7)
    oracle = coded(constant, lambda prefix: 200.0 * np.eye(31)[7], 31, [20, 30, 50])
    assert_allclose(oracle.total, 20 * math.log2(31), rtol=1e-12)
    assert (oracle.free_from, oracle.paid_before) == (20, 0)


def test_the_chain_rule():
    """L(X) + L(Y|X) = L(XY) where the blocks are the same, and the gain is what one of them says."""
    rng = np.random.default_rng(3)
    x, y = rng.choice(5, 40, p=[0.6, 0.1, 0.1, 0.1, 0.1]), rng.choice(5, 60, p=[0.6, 0.1, 0.1, 0.1, 0.1])
    of = krichevsky_trofimov(5)
    of_x, of_y = coded(x, of, 5, [10, 30]), coded(y, of, 5, [20, 40])
    y_after_x, x_after_y = coded(y, of, 5, [20, 40], given=x), coded(x, of, 5, [10, 30], given=y)
    both = coded(np.concatenate([x, y]), of, 5, [10, 30, 20, 40])
    assert_allclose(of_x.total + y_after_x.total, both.total, rtol=1e-12)
    assert y_after_x.prefixes.tolist() == [40, 60]
    gain = joint_gain(of_x.total, of_y.total, y_after_x.total, x_after_y.total)
    assert_allclose(gain.x_first, of_x.total + of_y.total - both.total)
    assert gain.mean > 0
    assert_allclose(gain.normalized, gain.mean / of_x.total)


def test_one_by_one_the_order_of_two_data_sets_does_not_matter():
    """The KT code knows no order, so with blocks of one L(XY) = L(YX)."""
    x, y = np.random.default_rng(4).integers(0, 3, (2, 30)) * np.array([[1], [0]])
    of, ones = krichevsky_trofimov(3), [1] * 30
    totals = [coded(x, of, 3, ones), coded(y, of, 3, ones)]
    totals += [coded(y, of, 3, ones, given=x), coded(x, of, 3, ones, given=y)]
    assert_allclose(joint_gain(*(one.total for one in totals)).difference, 0, atol=1e-9)


def test_random_labels_are_not_saved():
    """A code saves c bits of labels without a rule with a chance of 2^−c: of 4,000 codes that overfit, counted."""
    labels, saved = np.random.default_rng(5).integers(0, 4, (4000, 20)), np.zeros(4000)
    for start in range(4, 20, 4):  # the first block is sent as it is
        counts = (labels[:, :start, None] == np.arange(4)).sum(1)
        for place in range(start, start + 4):
            saved += 2 - label_bits(3 * np.log(counts + 0.1), labels[:, place])
    for bits in (1, 2, 4):
        chance = np.mean(saved >= bits)
        assert 0 < chance <= 2**-bits
    assert most_saved(1, 2**-4) == 4
    assert saved.max() < most_saved(4000, 1e-6)


def test_a_sure_memorizer_is_tempered_to_the_uniform_code_and_a_good_one_is_not():
    rng = np.random.default_rng(6)
    logits, labels = 40 * rng.normal(size=(30, 31)), rng.integers(0, 31, 30)
    assert label_bits(logits, labels).mean() > 3 * math.log2(31)
    chosen = choose_tempering(logits, labels)
    assert label_bits(logits, labels, chosen).sum() <= 30 * math.log2(31)
    right = 40 * np.eye(31)[labels]
    good = choose_tempering(right, labels)
    assert_allclose(good.mixing, least_mixing(30))
    assert_allclose(label_bits(right, labels, good), -math.log2(1 - good.mixing * 30 / 31), rtol=1e-9)


def test_the_right_temperature_is_found():
    """Labels drawn from softmax(z) and logits of 8 z: T = 8 on the grid of half powers of two, and e small."""
    rng = np.random.default_rng(7)
    z = 2 * rng.normal(size=(1500, 6))
    p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    labels = (p.cumsum(1) < rng.random((1500, 1))).sum(1)
    chosen = choose_tempering(8 * z, labels)
    assert 8 / 2**0.5 <= chosen.temperature <= 8 * 2**0.5
    assert chosen.mixing < 0.05


def test_every_tempering_is_a_probability():
    logits = 30 * np.random.default_rng(8).normal(size=(1, 9))
    for tempering in (Tempering(0.5, 0.0), Tempering(7.0, 0.3), UNIFORM):
        every = label_bits(np.repeat(logits, 9, 0), np.arange(9), tempering)
        assert_allclose((2.0**-every).sum(), 1, rtol=1e-12)
