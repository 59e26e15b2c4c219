"""Coarse weights: that they are what the code says, and that the shortest code is found where it is known."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from interp.mathematics.coarse_graining import Code, Factored, as_matrix, from_matrix, quantized, shortest

RNG = np.random.default_rng


def furthest(weights):
    """The distortion as the largest change of an entry."""
    return lambda coarse: max(float(np.abs(coarse[name] - weights[name]).max()) for name in weights)


@pytest.mark.parametrize("shape", [(5,), (7, 3), (4, 32, 8), (4, 8, 32), (2, 3, 5, 4)])
def test_a_tensor_comes_back_from_its_matrix(shape) -> None:
    tensor = RNG(0).normal(size=shape)
    assert_array_equal(from_matrix(as_matrix(tensor), shape), tensor)


def test_heads_that_read_one_subspace_have_its_rank_together() -> None:
    shared = RNG(0).normal(size=(32, 2))
    heads = np.stack([shared @ RNG(head).normal(size=(2, 8)) for head in range(4)])
    assert np.linalg.matrix_rank(as_matrix(heads)) == 2
    assert np.linalg.matrix_rank(as_matrix(heads.transpose(0, 2, 1))) == 2


@pytest.mark.parametrize("rank", [1, 3])
def test_a_matrix_of_low_rank_is_sent_as_its_factors(rank: int) -> None:
    rows, columns = 30, 40
    weights = {"W": RNG(rank).normal(size=(rows, rank)) @ RNG(9).normal(size=(rank, columns))}
    (found,) = shortest(Factored(weights), furthest(weights), [0.05], taus=(1.0,))
    assert found is not None
    assert [part.shape for part in found.code.tensors["W"]] == [(rows, rank), (rank, columns)]
    full = {"W": RNG(0).normal(size=(rows, columns))}
    (other,) = shortest(Factored(full), furthest(full), [0.05], taus=(1.0,))
    assert other is not None
    assert len(other.code.tensors["W"]) == 1
    assert other.code.bits > 3 * found.code.bits


def test_noise_below_half_a_step_changes_no_integer() -> None:
    step, values = 0.25, RNG(0).integers(-9, 9, (6, 5)) * 0.25
    noise = RNG(1).uniform(-0.49, 0.49, values.shape) * step
    one, other = (quantized({"W": (one,)}, step) for one in (values, values + noise))
    assert_array_equal(one.tensors["W"][0], other.tensors["W"][0])
    assert_array_equal(other.decoded({"W": values.shape})["W"], values)


def test_zeros_are_within_reach_of_small_weights() -> None:
    """32 bits of Δ, one of its form and two of integers that are all 0."""
    weights = {"W": RNG(0).normal(size=(20, 30)) * 1e-3}
    (found,) = shortest(Factored(weights), furthest(weights), [1.0], taus=(1.0,))
    assert found is not None
    assert found.code.bits == 35
    assert not found.code.decoded({"W": (20, 30)})["W"].any()


def test_the_length_never_increases_in_the_tolerance_though_the_loss_is_not_monotone() -> None:
    weights = {"W": RNG(0).normal(size=(12, 12)), "b": RNG(1).normal(size=12)}
    tolerances = [0.01, 0.02, 0.05, 0.1, 0.3, 0.6, 1.0, 3.0]

    def rough(coarse):
        error = furthest(weights)(coarse)
        return error * (1.5 + np.sin(40 * error))

    found = shortest(Factored(weights), rough, tolerances)
    bits = [one.code.bits for one in found if one]
    assert len(bits) == len(tolerances)
    assert bits == sorted(bits, reverse=True)
    assert all(
        one and rough(one.code.decoded({"W": (12, 12), "b": (12,)})) < tolerance
        for one, tolerance in zip(found, tolerances, strict=True)
    )


def test_no_code_is_none() -> None:
    weights = {"W": RNG(0).normal(size=(4, 4))}
    assert shortest(Factored(weights), lambda coarse: 1.0, [0.5]) == [None]


def test_changed_places_of_neurons_cost_nothing() -> None:
    order = RNG(3).permutation(40)
    W_in, W_out = RNG(0).normal(size=(10, 40)), RNG(1).normal(size=(40, 10))
    one = Factored({"W_in": W_in, "W_out": W_out}).kept(0.6)
    other = Factored({"W_in": W_in[:, order], "W_out": W_out[order]}).kept(0.6)
    assert quantized(one, 0.1).bits == pytest.approx(quantized(other, 0.1).bits, rel=0.01)


def test_integers_are_packed_in_the_smallest_type() -> None:
    sizes = [len(Code(1.0, {"W": (np.array([[0, top]]),)}).packed) for top in (127, 128, 32_768)]
    assert sizes == [2, 4, 8]
