"""What the loss and what weight decay did to a number S(w) of the weights between two moments of training.

Decoupled weight decay acts on the weights before each update, so from w₀ to w₁, over the updates s₀ … s₁ − 1,

    Δw = D + R exactly,   D = −Σ_s lr_s·wd·w_s,   R: the gradient of the loss, through momentum and preconditioner

From checkpoints alone the weights in between are taken to lie on the line from w₀ to w₁, so that D = −(c₀ w₀ + c₁ w₁)
with c₀ + c₁ = Σ_s lr_s·wd (`TrainingConfig.decay_coefficients`); of a single update that is exact. With the mean of the
gradients at both ends, ḡ = ½ (∇S(w₀) + ∇S(w₁)),

    decay = ḡ·D,   loss = ḡ·R,   residual = S(w₁) − S(w₀) − ḡ·Δw

The residual is what the trapezoid rule misses, third order in Δw where S is smooth; the kinks of few ReLU neurons make
it second order. Where it exceeds a fiftieth of |decay| + |loss| both are refused (NaN); a network at rest has
S(w₁) = S(w₀), which is no reason to refuse. The same from every second moment is coarser: a third of the difference
(Richardson) is the error of decay and loss over two intervals.

Where S > 0 and decay < 0,

    κ = w·∇S / S        the local degree: S ~ λ^κ where all weights are scaled by λ
    r = loss / |decay|  above 1 the circuit grows, at 1 it rests, below 1 it is worn down

It cannot tell how the loss came to push: what the gradient of one circuit owes to the other is in no single force. And
the push of Adam's update is that of its preconditioned gradient, not of the gradient.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

# Of |decay| + |loss|: above this share of it the residual makes both unknown.
MOST_RESIDUAL = 0.02
# In logits. Strengths below this have no ratio: untrained networks have some hundredths, of either sign.
LEAST_STRENGTH = 0.1
CLEAR = 2  # standard errors

Coefficients = tuple[float, float]  # c₀ and c₁ of D = −(c₀ w₀ + c₁ w₁)


class Derivatives(NamedTuple):
    """Of numbers S at each moment: their value, and their derivative along the weights themselves and along the way
    from, or to, a moment before or after; NaN where there is none.

    >>> moment = Derivatives(*np.ones((6, 1, 1)))
    >>> moment.to_next.shape
    (1, 1)
    """

    value: Float[np.ndarray, "moments S"]
    along_weights: Float[np.ndarray, "moments S"]  # w·∇S
    from_last: Float[np.ndarray, "moments S"]  # (w_i − w_{i−1})·∇S(w_i)
    to_next: Float[np.ndarray, "moments S"]  # (w_{i+1} − w_i)·∇S(w_i)
    from_second_last: Float[np.ndarray, "moments S"]  # (w_i − w_{i−2})·∇S(w_i)
    to_second_next: Float[np.ndarray, "moments S"]  # (w_{i+2} − w_i)·∇S(w_i)


class Forces(NamedTuple):
    """On numbers S over each interval, in units of S. `used` says where decay and loss are not refused; their errors
    are signed, to be added up before their size is taken."""

    change: Float[np.ndarray, "intervals S"]
    decay: Float[np.ndarray, "intervals S"]
    loss: Float[np.ndarray, "intervals S"]
    residual: Float[np.ndarray, "intervals S"]
    decay_error: Float[np.ndarray, "intervals S"]
    loss_error: Float[np.ndarray, "intervals S"]

    @property
    def used(self) -> Bool[np.ndarray, "intervals S"]:
        with np.errstate(invalid="ignore"):
            return np.abs(self.residual) <= MOST_RESIDUAL * (np.abs(self.decay) + np.abs(self.loss))


def pairs_of_intervals(n_intervals: int) -> list[int]:
    """The first intervals of the pairs that tell errors: 0 and 1, 2 and 3, …; the last two where one is left over.

    >>> pairs_of_intervals(4), pairs_of_intervals(5), pairs_of_intervals(1)
    ([0, 2], [0, 2, 3], [])
    """
    return sorted({*range(0, n_intervals - 1, 2), *([n_intervals - 2] if n_intervals > 1 else [])})


def forces(
    at: Derivatives, coefficients: Sequence[Coefficients | None], coarse: Sequence[Coefficients | None]
) -> Forces:
    """The forces over the intervals between moments, given c₀ and c₁ of each interval, and of each with the next
    (`coarse`); None where unknown, and then decay and loss are NaN.

    >>> w = np.array([1.0, 0.9, 0.81])  # pure decay with lr·wd = 0.1, and S = w²
    >>> steps = np.diff(w)
    >>> along = 2 * w, 2 * w * w, 2 * w * [np.nan, *steps], 2 * w * [*steps, np.nan]
    >>> none = np.full(3, np.nan)
    >>> at = Derivatives(*(x[:, None] for x in (w**2, *along[1:], none, none)))
    >>> found = forces(at, [(0.1, 0.0)] * 2, [None])
    >>> found.decay[:, 0].round(6).tolist(), abs(found.loss[:, 0]).round(6).tolist()  # ΔS: a square has no residual
    ([-0.19, -0.1539], [0.0, 0.0])
    """
    along = (at.to_next[:-1] + at.from_last[1:]) / 2
    change = np.diff(at.value, axis=0)
    decay = _decay(at.along_weights, at.to_next, at.from_last, coefficients, 1)
    loss, residual = along - decay, change - along
    errors = np.full((2, *decay.shape), np.nan)
    if len(coarse) == 0:
        return Forces(change, decay, loss, residual, *errors)
    coarse_along = (at.to_second_next[:-2] + at.from_second_last[2:]) / 2
    coarse_decay = _decay(at.along_weights, at.to_second_next, at.from_second_last, coarse, 2)
    for first in pairs_of_intervals(len(decay)):
        fine = np.stack([decay[first : first + 2].sum(0), loss[first : first + 2].sum(0)])
        rough = np.stack([coarse_decay[first], coarse_along[first] - coarse_decay[first]])
        errors[:, first : first + 2] = ((rough - fine) / 3 / 2)[:, None]
    return Forces(change, decay, loss, residual, *errors)


def _decay(
    along_weights: np.ndarray, onward: np.ndarray, back: np.ndarray, coefficients: Sequence[Coefficients | None], n: int
) -> np.ndarray:
    """ḡ·D: D is −(c₀ + c₁) w₀ − c₁ Δw seen from the first end, −(c₀ + c₁) w₁ + c₀ Δw from the other."""
    c0, c1 = np.array([(np.nan, np.nan) if c is None else c for c in coefficients]).reshape(-1, 2).T[..., None]
    at_first = -(c0 + c1) * along_weights[:-n] - c1 * onward[:-n]
    at_other = -(c0 + c1) * along_weights[n:] + c0 * back[n:]
    return (at_first + at_other) / 2


def refused(found: Forces) -> Forces:
    """The same with decay, loss and their errors NaN where they are refused.

    >>> one = np.ones((1, 1))
    >>> refused(Forces(one, -one, 2 * one, 0.5 * one, one, one)).loss.item()
    nan
    """
    keep = found.used
    return found._replace(
        **{
            name: np.where(keep, getattr(found, name), np.nan)
            for name in ("decay", "loss", "decay_error", "loss_error")
        }
    )


def spacing_that_would_do(found: Forces, updates: Float[np.ndarray, " intervals"]) -> Float[np.ndarray, "intervals S"]:
    """The number of updates between checkpoints at which the residual would be small enough, from its order: beside
    decay and loss it goes as the square of the spacing.

    >>> one = np.ones((1, 1))
    >>> spacing_that_would_do(Forces(one, -one, one, 0.16 * one, one, one), np.array([20.0])).item()
    10.0
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        excess = np.abs(found.residual) / (MOST_RESIDUAL * (np.abs(found.decay) + np.abs(found.loss)))
        return updates[:, None] / np.sqrt(np.maximum(excess, 1))


def degree(
    strength: Float[np.ndarray, "*times"], error: Float[np.ndarray, "*times"], scaling: Float[np.ndarray, "*times"]
) -> Float[np.ndarray, "*times"]:
    """κ = w·∇S / S where S is clear of 0.1 logits and of two standard errors; NaN elsewhere.

    >>> degree(np.array([2.0, 0.05]), np.array([0.1, 0.0]), np.array([6.0, 1.0])).tolist()
    [3.0, nan]
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(is_clear(strength, error), scaling / strength, np.nan)


def is_clear(strength: Float[np.ndarray, "*times"], error: Float[np.ndarray, "*times"]) -> Bool[np.ndarray, "*times"]:
    """Whether there is a circuit to speak of: S > max(0.1 logits, two standard errors).

    >>> is_clear(np.array([2.0, 0.05, 2.0]), np.array([0.1, 0.0, 1.5])).tolist()
    [True, False, False]
    """
    with np.errstate(invalid="ignore"):
        return (strength > LEAST_STRENGTH) & (strength > CLEAR * error)


def growth_ratio(
    decay: Float[np.ndarray, "*times"], loss: Float[np.ndarray, "*times"], clear: Bool[np.ndarray, "*times"]
) -> Float[np.ndarray, "*times"]:
    """r = loss / |decay| where decay pulls down a circuit that is there; NaN elsewhere.

    >>> growth_ratio(np.array([-2.0, 1.0]), np.array([3.0, 3.0]), np.array([True, True])).tolist()
    [1.5, nan]
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(clear & (decay < 0), loss / np.abs(decay), np.nan)


def through_tensors(
    along: Float[np.ndarray, "moments 3 *S"], coefficients: Sequence[Coefficients | None]
) -> Float[np.ndarray, "..."]:
    """Decay and loss over each interval, and an unknown residual, through each tensor, [interval, S, cause, tensor]:
    `along` has the derivatives through it along the weights, from the last moment and to the next.

    >>> along = np.array([[[[2.0]], [[np.nan]], [[-0.2]]], [[[1.8]], [[-0.2]], [[np.nan]]]])
    >>> through_tensors(along, [(0.1, 0.0)])[0, 0, :2, 0].round(3).tolist()  # -0.19 by decay, and -0.01 by the loss
    [-0.2, 0.0]
    """
    flat, none = along.reshape(len(along), 3, -1), np.full((len(along), 1), np.nan)
    found = forces(
        Derivatives(np.zeros_like(flat[:, 0]), flat[:, 0], flat[:, 1], flat[:, 2], none, none), coefficients, []
    )
    causes = np.stack([found.decay, found.loss, np.full_like(found.loss, np.nan)], axis=1)
    return causes.reshape(len(causes), 3, *along.shape[2:]).swapaxes(1, 2)
