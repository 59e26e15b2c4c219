"""Spectra, slow share and alignments of planted signals, and a verdict that is right on planted cases of both kinds and
says nothing of controls."""

import math

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import signal, stats

from interp.mathematics import gradient_spectrum as spectrum
from interp.mathematics.sketch import Sketch

K = 64


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


# ---- spectra ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", [5, 32, 100])
def test_the_bin_of_a_planted_sinusoid_is_the_maximum(place: int):
    """Of a gradient of 300 weights, of which one direction oscillates, seen through its sketch."""
    step, direction, sketch = np.arange(400), noise(300), Sketch({"w": (300,)})
    rows = np.stack([sketch({"w": math.cos(2 * np.pi * place / 256 * at) * direction})[0] for at in step])
    found = spectrum.spectrogram(rows + 0.01 * noise(400, K))
    assert (found.frequency[found.power.argmax(1)] == place / 256).all()
    norm = np.square(sketch({"w": direction})).sum()
    assert_allclose(found.power.sum(1) / 256, norm / 2, rtol=0.02)  # its mean power


def test_parseval():
    rows = noise(700, 2, K) + np.linspace(0, 9, 700)[:, None, None]
    found = spectrum.spectrogram(rows)
    window = signal.windows.hann(256, sym=False)
    for center, power in zip(found.time, found.power, strict=True):
        start = round(center - 127.5)
        part = signal.detrend(rows[start : start + 256], axis=0) * window[:, None, None]
        assert_allclose(power.sum(0) / 256, np.square(part).sum((0, 2)) / np.square(window).sum(), rtol=1e-9)
    assert found.time[0] == 127.5
    assert found.time[-1] <= 699 - 127.5


def test_white_noise_is_flat_within_chi_squared_bands():
    """Each bin of one window is a mean of 64 χ²₂; a Hann window correlates neighbors, not bins by themselves."""
    power = spectrum.spectrogram(noise(256, 1, K)).power[0, 3:-1, 0] / (2 * K)
    low, high = stats.chi2.ppf([0.005, 0.995], 2 * K) / (2 * K)
    assert np.mean((power > low) & (power < high)) > 0.96
    assert power.mean() == pytest.approx(1, abs=0.05)


def test_a_straight_line_has_no_power_and_too_few_steps_are_refused():
    assert spectrum.spectrogram(np.outer(np.arange(300.0), np.ones(K))).power.max() < 1e-15
    with pytest.raises(ValueError, match="needs 256 steps, got 255"):
        spectrum.spectrogram(noise(255, K))
    assert len(spectrum.spectrogram(noise(40_000, 1)).time) <= spectrum.MOST_SPECTRA


# ---- slow share ------------------------------------------------------------------------------------------------------


def test_a_constant_is_all_slow_and_noise_is_at_the_null_line():
    assert_allclose(spectrum.slow_share(np.ones((50, 3, K))).value, 1, rtol=1e-12)
    share = spectrum.slow_share(noise(3000, K)).value[500:]
    assert share.mean() == pytest.approx(spectrum.null_share(), rel=0.1)


def test_permuting_in_time_destroys_the_slow_share():
    step = np.arange(2000)[:, None]
    rows = np.cos(2 * np.pi * step / 700) * noise(1, K) + 0.3 * noise(2000, K)
    mixed = spectrum.permuted(rows, np.random.default_rng(0))
    assert spectrum.slow_share(rows).value[500:].mean() > 0.5
    assert spectrum.slow_share(mixed).value[500:].mean() == pytest.approx(spectrum.null_share(), rel=0.35)
    assert np.square(mixed).mean() == pytest.approx(np.square(rows).mean())


def test_the_slow_part_is_the_weighted_mean_that_it_is_said_to_be():
    rows, memory = noise(40, 3), 0.8
    for two_sided in (False, True):
        found = spectrum.slow_part(rows, memory, two_sided=two_sided)
        for t in (0, 7, 39):
            weight = memory ** np.abs(t - np.arange(40)) * (two_sided | (np.arange(40) <= t))
            assert_allclose(found[t], weight @ rows / weight.sum(), rtol=1e-9)


def test_the_interval_of_the_slow_share_covers_that_of_the_whole_gradient():
    covered = []
    for draw in range(40):
        slow, fast = noise(2, 400, seed=draw)
        gradients = np.outer(np.cos(np.arange(120) / 60), slow) + np.outer((-1.0) ** np.arange(120), fast)
        name = str(draw)
        sketch = Sketch({name: (400,)})
        told = spectrum.slow_share(np.stack([sketch({name: one})[0] for one in gradients]), steps=np.array([119]))
        exact = spectrum.slow_share(gradients).value[119]
        covered.append(told.low[0] <= exact <= told.high[0])
    assert np.mean(covered) >= 0.85


# ---- alignment -------------------------------------------------------------------------------------------------------


def test_the_cosine_and_its_error():
    told = []
    for draw in range(40):
        shapes = {f"{draw}a": (400,), f"{draw}b": (200,)}
        one, other = ({name: noise(*shape, seed=seed + 2 * draw) for name, shape in shapes.items()} for seed in (0, 1))
        other = {name: one[name] + other[name] for name in shapes}
        of = Sketch(shapes)
        found = spectrum.alignment(of(one)[None], of(other)[None])
        flat = [np.concatenate([*each.values()]) for each in (one, other)]
        exact = flat[0] @ flat[1] / np.linalg.norm(flat[0]) / np.linalg.norm(flat[1])
        told.append([found.cosine[0] - exact, found.error[0]])
    difference, error = np.array(told).T
    assert np.mean(np.abs(difference) < 2 * error) >= 0.85
    assert error.mean() == pytest.approx(difference.std(), rel=0.35)
    assert error.mean() < 1 / math.sqrt(K)


# ---- the hypothesis --------------------------------------------------------------------------------------------------

STEPS = np.arange(300, 1000, 20)


def planted(slow_on: str, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gradients [step, 2 tensors, 64], with the directions of the rule and of memory: a slow descent along one of them,
    and one in short bursts, that is fast at the checkpoints, along the other."""
    rule, memorizing = noise(2, 2, K, seed=seed)
    slow, fast = (rule, memorizing) if slow_on == "rule" else (memorizing, rule)
    step = np.arange(1100)
    burst = np.where(step % 20 == 0, 1.0, -1 / 19)
    rows = -slow - 3 * burst[:, None, None] * fast + 0.3 * noise(1100, 2, K, seed=seed + 1)
    rule, memorizing = (np.broadcast_to(one, (len(STEPS), 2, K)) for one in (rule, memorizing))
    return rows, rule, memorizing


@pytest.mark.parametrize(
    ("slow_on", "two_sided", "verdict"),
    [("rule", False, "confirmed"), ("rule", True, "confirmed"), ("memory", False, "not confirmed")],
)
def test_planted_cases_of_both_kinds(slow_on: str, two_sided: bool, verdict: str):
    rows, rule, memorizing = planted(slow_on)
    found = spectrum.hypothesis_of(rows, STEPS, rule, memorizing, two_sided=two_sided)
    assert found.verdict == verdict
    assert found.rule.null_low < 0 < found.rule.null_high
    assert (found.rule.value > 0.5) == (found.memory.value > 0.5) == (slow_on == "rule")


def test_rule_and_memory_exchanged_change_the_sign():
    rows, rule, memorizing = planted("rule")
    found = spectrum.hypothesis_of(rows, STEPS, rule, memorizing)
    turned = spectrum.hypothesis_of(rows, STEPS, memorizing, rule)
    assert_allclose(turned.rule.value, -found.memory.value, rtol=1e-12)
    assert_allclose(turned.memory.value, -found.rule.value, rtol=1e-12)
    louder = spectrum.hypothesis_of(7 * rows, STEPS, 3 * rule, 5 * memorizing)
    assert_allclose(np.array(louder), np.array(found), rtol=1e-9)


def test_controls_show_nothing():
    """Noise alone; and a gradient that is slow and fast, along directions that have nothing to do with either."""
    rows, *_ = planted("rule", seed=10)
    for seed in range(2):
        rule, memorizing = (np.broadcast_to(one, (len(STEPS), 2, K)) for one in noise(2, 2, K, seed=100 + seed))
        of_noise = spectrum.hypothesis_of(noise(1100, 2, K, seed=seed), STEPS, rule, memorizing)
        assert of_noise.verdict == "not shown"
        assert spectrum.hypothesis_of(rows, STEPS, rule, memorizing).verdict == "not shown"


def test_a_plateau_that_is_too_short_shows_nothing():
    rows, rule, memorizing = planted("rule")
    short = STEPS < 600  # three blocks of 100 steps
    found = spectrum.hypothesis_of(rows, STEPS[short], rule[short], memorizing[short])
    assert math.isnan(found.rule.value)
    assert found.verdict == "not shown"
    none = spectrum.hypothesis_of(rows, STEPS[:0], rule[:0], memorizing[:0])
    assert none.verdict == "not shown"
