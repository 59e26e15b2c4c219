"""Double descent where it can be computed: least squares on random features of digits, and gradient descent on a linear
model. No network is trained.

*Random features*: φ(x) = max(0, xW) of centered images x, W [64, d] of independent normal entries of the variance
2/64; least norm or ridge from φ to one-hot labels less 1/10 (Belkin et al. 2019, arXiv:1812.11118). Images must be
centered: they have no negative values, a feature that is positive or 0 on all of them adds no dimension of its own,
and d of them span fewer than d. So the training residual is 0 from d = n on. The best penalty is chosen on one half of
the test images and reported on the other, and the other way about.

*A linear model*: n = 100 examples of 60 features of variance 1 with a weak signal and 10 of variance .01 with a strong
one, noise of variance 1, gradient descent with the rate 1/ν_max. The first are learned, and then their noise, before
the others are. The cure makes the steps of all features alike: the 10 are scaled to variance 1.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Float, Int

from interp.experiment import Samples
from interp.mathematics.least_squares import gradient_descent_risk, ridge
from interp.studies.digit_networks import N_TEST, TEST_SEED
from interp.studies.double_descent_scores import stopped_error

N_CLASSES = 10
SIZES = (150, 300, 600)
NOISES = (0.0, 0.2, 0.4)
WIDTHS = (20, 50, 75, 100, 120, 135, 150, 165, 190, 240, 270, 300, 330, 375, 480, 540, 600, 660, 750, 1000, 1500, 3000)
PENALTIES = (0.0, 1.0, 10.0, 100.0, 1000.0, 10_000.0)
# Over training examples, at one width and one noise.
SLICE_WIDTH, SLICE_NOISE = 300, 0.2
SLICE_SIZES = (100, 150, 200, 250, 300, 350, 400, 500, 600, 800)
PACES = ("in turn", "at once")
FAST, SLOW, SLOW_SCALE = 60, 10, 0.1
FAST_SIGNAL, SLOW_SIGNAL, LINEAR_NOISE, LINEAR_N, LINEAR_DRAWS = 6.0, 3.0, 1.0, 100, 10


class _Fit:
    """What least squares comes to on one draw of n digits, for several noises at once: features do not depend on
    labels."""

    def __init__(self, n: int, width: int, draw: int, noises: tuple[float, ...]) -> None:
        split = Samples(n_train=n, n_test=N_TEST, seed=draw, test_seed=TEST_SEED, scaling="centered")
        tasks = [replace(split, label_noise=noise) for noise in noises]
        train, test = split.mask("train"), split.mask("test")
        inputs = split.inputs.astype(np.float64)
        weights = np.random.default_rng([draw, n, width]).normal(0, np.sqrt(2 / 64), (inputs.shape[1], width))
        features = np.maximum(inputs @ weights, 0)
        one_hot = np.eye(N_CLASSES) - 1 / N_CLASSES
        targets = np.concatenate([one_hot[task.labels[train]] for task in tasks], axis=1)
        solutions = ridge(features[train], targets, np.array(PENALTIES))  # [penalty, width, noise · class]
        shape = len(PENALTIES), -1, len(noises), N_CLASSES
        answers = (features[test] @ solutions).reshape(shape)
        true = split.true_labels[test]
        self.wrong = answers.argmax(-1) != true[:, None]  # [penalty, test, noise]
        self.squared = np.square(answers[0] - one_hot[true][:, None]).sum(-1).mean(0)  # [noise], of least norm
        fitted = (features[train] @ solutions[0] - targets).reshape(n, len(noises), N_CLASSES)
        variance = targets.reshape(n, len(noises), N_CLASSES).var(0).sum(-1)
        self.unexplained = np.square(fitted).mean(0).sum(-1) / variance  # [noise]

    @property
    def error(self) -> Float[np.ndarray, " noise"]:
        """Test error of least norm."""
        return self.wrong[0].mean(0)

    @property
    def tuned_error(self) -> Float[np.ndarray, " noise"]:
        """Test error of ridge with the best of PENALTIES above 0."""
        halves = [self.wrong[1:, start::2].mean(1) for start in (0, 1)]  # [penalty, noise] each
        by_noise = np.stack(halves, axis=-1).transpose(1, 0, 2)
        return np.array([stopped_error(one) for one in by_noise])


def random_features(draws: int) -> xr.Dataset:
    """`features_error`, `features_squared_error` (sum over classes), `features_unexplained` (training squared error
    over the variance of the labels) and `ridge_error` [features_n, features_noise, features, feature_draw], and over n
    at one width and noise, which are attributes, `slice_error` [slice_n, feature_draw]."""
    names = ("features_error", "features_squared_error", "features_unexplained", "ridge_error")
    table = np.empty((len(names), len(SIZES), len(NOISES), len(WIDTHS), draws))
    for row, n in enumerate(SIZES):
        for column, width in enumerate(WIDTHS):
            for draw in range(draws):
                fit = _Fit(n, width, draw, NOISES)
                table[:, row, :, column, draw] = fit.error, fit.squared, fit.unexplained, fit.tuned_error
    of_slice = np.array(
        [[_Fit(n, SLICE_WIDTH, draw, (SLICE_NOISE,)).error[0] for draw in range(draws)] for n in SLICE_SIZES]
    )
    words = ("test error", "test squared error", "training squared error over variance", "test error of tuned ridge")
    dims, one = ("features_n", "features_noise", "features", "feature_draw"), {"units": "1"}
    variables: dict[str, Any] = {
        name: (dims, values, {"long_name": long} | one) for name, values, long in zip(names, table, words, strict=True)
    }
    variables["slice_error"] = ("slice_n", "feature_draw"), of_slice, {"long_name": "test error"} | one
    return xr.Dataset(
        variables,
        {
            "features_n": ("features_n", np.array(SIZES), {"long_name": "training examples"} | one),
            "features_noise": ("features_noise", np.array(NOISES), {"long_name": "label noise"} | one),
            "features": ("features", np.array(WIDTHS), {"long_name": "random features"} | one),
            "slice_n": ("slice_n", np.array(SLICE_SIZES), {"long_name": "training examples"} | one),
            "feature_draw": ("feature_draw", np.arange(draws), {"long_name": "draw"} | one),
        },
        {"slice_width": SLICE_WIDTH, "slice_noise": SLICE_NOISE},
    )


def linear_steps() -> Int[np.ndarray, " step"]:
    """0 and steps evenly spaced in their logarithm.

    >>> linear_steps()[[0, 1, -1]].tolist()
    [0, 1, 10000]
    """
    return np.concatenate([[0], np.unique(np.geomspace(1, 1e4, 40).round().astype(np.int64))])


def linear_descent() -> xr.Dataset:
    """`linear_risk` [pace, linear_step, linear_draw], exact but for which inputs were drawn, of features that are
    learned in turn and at once.

    >>> risk = linear_descent().linear_risk.sel(pace="in turn").mean("linear_draw").values
    >>> float(risk[0].round(6)), bool(risk[0] > risk[1:5].min() < risk[5:25].max() > risk[-1])
    (10.0, True)
    """
    scale = np.concatenate([np.ones(FAST), np.full(SLOW, SLOW_SCALE)])
    signal = np.sqrt(np.concatenate([np.full(FAST, FAST_SIGNAL / FAST), np.full(SLOW, SLOW_SIGNAL / SLOW)]))
    steps = linear_steps()
    risk = np.empty((len(PACES), len(steps), LINEAR_DRAWS))
    for draw in range(LINEAR_DRAWS):
        inputs = np.random.default_rng(draw).normal(size=(LINEAR_N, FAST + SLOW))
        for row, scales in enumerate((scale, np.ones_like(scale))):
            scaled = inputs * scales
            lr = 1 / np.linalg.eigvalsh(scaled.T @ scaled / LINEAR_N)[-1]
            risk[row, :, draw] = gradient_descent_risk(
                scaled, signal / scales, steps, lr=lr, noise=LINEAR_NOISE, covariance=scales**2
            )
    return xr.Dataset(
        {"linear_risk": (("pace", "linear_step", "linear_draw"), risk, {"long_name": "test risk", "units": "1"})},
        {
            "pace": ("pace", np.array(PACES), {"long_name": "features are learned", "units": "name"}),
            "linear_step": ("linear_step", steps, {"long_name": "step", "units": "updates"}),
            "linear_draw": ("linear_draw", np.arange(LINEAR_DRAWS), {"long_name": "draw", "units": "1"}),
        },
    )
