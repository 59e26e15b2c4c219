"""The linear teacher and student against closed forms, a slow second implementation, and a draw without small modes."""

import math

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import linalg, stats

from interp.mathematics.teacher_student import TeacherStudent, accuracy_at, average_train_loss, loss_at


def flow(samples: np.ndarray, start: np.ndarray, labels: np.ndarray, time: float, rate: float) -> np.ndarray:
    """D at a time: dD/dt = −2η(XᵀX/N D − Xᵀξ/N), by the exponential of the matrix that has the constant term in it."""
    n, d = samples.shape
    matrix = np.zeros((d + 1, d + 1))
    matrix[:d, :d], matrix[:d, d] = -2 * rate * samples.T @ samples / n, 2 * rate * samples.T @ labels / n
    return (linalg.expm(matrix * time) @ np.append(start, 1.0))[:d]


@pytest.mark.parametrize(("d", "n"), [(4, 7), (6, 4)])
def test_the_sums_are_what_gradient_flow_does(d: int, n: int):
    """Losses are quadratic in the noise, so their mean over it is that over the n unit vectors."""
    random, rate, noise = np.random.RandomState(0), 0.05, 0.3
    samples, start = random.standard_normal((n, d)), random.standard_normal(d)
    eigenvalues, vectors = np.linalg.eigh(samples.T @ samples / n)
    eigenvalues = np.where(eigenvalues > 1e-12, eigenvalues, 0.0)
    student = TeacherStudent(eigenvalues, (vectors.T @ start) ** 2, np.full(d, 1 / d), d / n, rate)
    for time in (0.0, 1.0, 20.0, 400.0):
        signal = flow(samples, start, np.zeros(n), time, rate)
        train, clean = np.square(samples @ signal).mean(), np.square(signal).sum()
        for label in np.eye(n) * math.sqrt(noise):
            answer = flow(samples, np.zeros(d), label, time, rate)
            train += np.square(samples @ answer - label).mean()
            clean += np.square(answer).sum()
        assert_allclose(student.loss(time, "train", noise=noise), train, rtol=1e-9)
        assert_allclose(student.loss(time, "generalization", noise=noise), clean, rtol=1e-9)


@pytest.mark.parametrize("ratio", [0.1, 0.5, 0.9, 1.0, 2.5])
def test_the_average_over_draws_is_the_bessel_function(ratio: float):
    times = np.geomspace(0.1, 3e4, 25)
    student = TeacherStudent.average(ratio)
    assert_allclose(student.loss(times, "train"), average_train_loss(times, ratio), rtol=1e-9, atol=1e-300)


def test_a_large_draw_is_near_the_average():
    """Of 1,000 squares of normal numbers the mean scatters by √(2/1000), 4.5 %."""
    one, average = TeacherStudent.drawn(1000, 1111), TeacherStudent.average(1000 / 1111)
    times = np.array([10.0, 100.0, 1000.0])
    assert_allclose(one.loss(times, "train"), average.loss(times, "train"), rtol=0.14)  # three standard deviations
    smooth = TeacherStudent(one.eigenvalues, one.shares, one.shares, one.ratio)  # without that scatter
    assert_allclose(smooth.loss(times, "train"), average.loss(times, "train"), rtol=0.02)
    assert_allclose(smooth.delay(), average.delay(), rtol=0.2)


@pytest.mark.parametrize("ratio", [0.2, 0.7, 0.95, 1.1, 1.5, 4.0])
def test_the_end_is_least_squares_with_the_peak_of_double_descent(ratio: float):
    noise, student = 0.3, TeacherStudent.average(ratio)
    unseen = max(0.0, 1 - 1 / ratio)
    spread = noise * (ratio / (1 - ratio) if ratio < 1 else 1 / (ratio - 1))
    assert_allclose(student.loss(math.inf, "generalization", noise=noise), unseen + spread, rtol=1e-6)
    assert_allclose(student.loss(math.inf, "train", noise=noise), noise * max(0.0, 1 - ratio), atol=1e-12)


def test_the_generalization_loss_falls_at_the_pace_of_the_training_loss():
    """Without noise dL_gen/dt = −4η L_train: what is nearly zero in training is nearly at rest."""
    student, times, step = TeacherStudent.average(0.9), np.array([1.0, 30.0, 1000.0]), 1e-3
    slope = student.loss(times + step, "generalization") - student.loss(times - step, "generalization")
    assert_allclose(slope / (2 * step), -4 * 0.01 * student.loss(times, "train"), rtol=1e-5)


def test_the_delay_is_of_the_sums_and_not_of_formula_12():
    delays = [TeacherStudent.average(ratio).delay() for ratio in (0.1, 0.5, 0.9, 0.97)]
    assert delays == sorted(delays)
    root = math.sqrt(0.9)
    published = -math.log(1 - root) / (2 * 0.01 * (1 - root) ** 2)
    assert 2.7 < published / TeacherStudent.average(0.9).delay() < 2.9
    assert TeacherStudent.average(0.9, rate=0.02).delay() == pytest.approx(TeacherStudent.average(0.9).delay() / 2)


def test_without_small_eigenvalues_there_is_no_delay_and_nothing_to_overfit():
    """Modes that are all seen alike: both accuracies rise together; and with many samples noise hardly enters."""
    whole = TeacherStudent(np.ones(10), np.full(10, 0.1), np.full(10, 0.1), ratio=1e-6)
    assert abs(whole.delay()) < 1e-6 * whole.time_to("train")
    noisy = whole.loss(np.geomspace(1, 1e5, 50), "generalization", noise=0.1)
    assert (np.diff(noisy) <= 1e-12).all()


def test_with_noise_the_loss_falls_and_rises_and_the_sooner_the_more():
    student = TeacherStudent.average(0.9)
    times = [student.best_time(noise) for noise in (0.001, 0.01, 0.1, 1.0)]
    assert times == sorted(times, reverse=True)
    best, end = student.loss([times[1], math.inf], "generalization", noise=0.01)
    assert_allclose([best, end], [0.059, 0.09], rtol=0.02)
    beside = student.loss(times[1] * np.array([0.9, 1.1]), "generalization", noise=0.01)
    assert (beside > best).all()
    assert math.isnan(student.time_to("generalization", noise=0.1))  # 0.9 at the end is far from right
    assert TeacherStudent.average(0.9).best_time(1e6) < 1


def test_accuracy_is_that_of_normal_errors():
    for loss in (1e-4, 1e-3, 0.5):
        inside = stats.norm(scale=math.sqrt(loss)).cdf(math.sqrt(1e-3))
        assert_allclose(accuracy_at(loss), 2 * inside - 1, rtol=1e-12)
    assert accuracy_at(loss_at(0.95)) == pytest.approx(0.95)
    assert accuracy_at(0.0) == 1.0
    time = TeacherStudent.average(0.5).time_to("train")
    assert accuracy_at(average_train_loss(time, 0.5)) == pytest.approx(0.95)


def test_what_cannot_be_is_refused_in_a_line():
    for wrong in (
        lambda: TeacherStudent.average(0.0),
        lambda: TeacherStudent.average(0.5, rate=-1.0),
        lambda: TeacherStudent.drawn(0, 5),
        lambda: loss_at(1.0),
        lambda: loss_at(0.9, 0.0),
        lambda: TeacherStudent.average(0.5).loss(1.0, "train", noise=-0.1),
    ):
        with pytest.raises(ValueError, match=r"^[^\n]*$"):
            wrong()
