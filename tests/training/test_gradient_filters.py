"""Gradient filters against their closed forms, their frequency responses, and another library's."""

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from pytorch_optimizer.optimizer import OrthoGrad, grokfast
from torch.testing import assert_close

from interp.errors import InputError
from interp.experiment import Experiment, GradientFilter, ModelConfig, Task, TrainingConfig
from interp.mathematics import frequency_response
from interp.models import Snapshot, Weights
from interp.training import groups, side_by_side, together, train
from interp.training.at_once import bytes_on_cores, bytes_on_gpu
from interp.training.gradient_filters import FilteredGradients, orthogonal

EXPERIMENT = Experiment(
    Task(11, train_fraction=0.5),
    ModelConfig(d_model=8, n_heads=2, d_mlp=12),
    TrainingConfig(steps=14, lr=1e-2, log_every=7, checkpoint_every=7, eps=1e-4),
)
EMA, MA = GradientFilter(kind="ema"), GradientFilter(kind="ma", strength=5.0, window=10)
UNBIASED, GAIN = GradientFilter(kind="unbiased-ema"), GradientFilter(kind="gain")
POLAR, NORMALIZED = GradientFilter(kind="polar"), GradientFilter(kind="normalized")
KINDS = (EMA, UNBIASED, MA, GAIN, GradientFilter(orthogonal=True), replace(MA, orthogonal=True), POLAR, NORMALIZED)


def with_filter(one: GradientFilter, **training: Any) -> Experiment:
    return replace(EXPERIMENT, training=replace(EXPERIMENT.training, filter=one, **training))


def through(one: GradientFilter, values: np.ndarray) -> np.ndarray:
    """A sequence of scalars, filtered in float64."""
    weights = {"w": torch.zeros(1, dtype=torch.float64)}
    filtered = FilteredGradients([one], weights)
    given = torch.from_numpy(values.astype(np.float64))
    return np.array([filtered.of(step, {"w": value[None]})["w"].item() for step, value in enumerate(given)])


def same_bits(one: Weights, other: Weights) -> bool:
    return list(one) == list(other) and all(
        torch.equal(mine.view(torch.uint8), yours.view(torch.uint8))
        for mine, yours in zip(map(torch.atleast_1d, one.values()), map(torch.atleast_1d, other.values()), strict=True)
    )


def last(experiment: Experiment) -> Snapshot:
    *_, found = train(experiment)
    return found


# ---- closed forms ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("one", [EMA, UNBIASED, GAIN], ids=lambda one: one.kind)
def test_a_constant_gradient_is_raised_from_the_first_step_on(one: GradientFilter) -> None:
    np.testing.assert_allclose(through(one, np.full(60, 0.7)), 3 * 0.7, rtol=1e-12)


def test_a_window_leaves_the_gradient_alone_until_it_is_full() -> None:
    found = through(MA, np.full(30, 0.7))
    assert (found[:9] == 0.7).all()
    np.testing.assert_allclose(found[9:], 6 * 0.7, rtol=1e-12)


def test_after_a_step_the_average_approaches_it() -> None:
    found = through(EMA, np.repeat([0.0, 1.0], 20))
    assert (found[:20] == 0).all()
    np.testing.assert_allclose(found[20:], 1 + 2 * (1 - 0.98 ** np.arange(1, 21)), rtol=1e-12)


def test_the_first_gradient_weighs_as_published_and_unbiased_as_any_other() -> None:
    impulse = np.zeros(4000)
    impulse[0] = 1
    # 1 + λ of itself, and λ(α + α² + …) later.
    assert through(EMA, impulse).sum() == pytest.approx(1 + 2 / (1 - 0.98))
    constant, alpha = through(UNBIASED, impulse), 0.98
    t = np.arange(1, 4001)
    expected = 2 * (1 - alpha) * alpha ** (t - 1) / (1 - alpha**t)
    expected[0] += 1
    np.testing.assert_allclose(constant, expected, rtol=1e-9)


@pytest.mark.parametrize("omega", [0.0, 0.05, 1.0, 2 * math.pi / 10])
@pytest.mark.parametrize("one", [EMA, UNBIASED, MA, GAIN], ids=lambda one: one.kind)
def test_an_oscillation_is_amplified_by_the_frequency_response(one: GradientFilter, omega: float) -> None:
    steps = np.arange(1500 if one.kind.endswith("ema") else 60)
    at = np.array([omega])
    response = {
        "ma": lambda: frequency_response.of_window(at, one.strength, one.window),
        "gain": lambda: frequency_response.of_gain(at, one.strength),
    }.get(one.kind, lambda: frequency_response.of_average(at, one.strength, one.memory))()
    found = through(one, np.cos(omega * steps))
    expected = np.real(response * np.exp(1j * omega * steps))
    np.testing.assert_allclose(found[-20:], expected[-20:], atol=1e-6)


def test_the_sum_of_a_window_forgets_large_gradients_of_long_ago() -> None:
    window = replace(MA, window=100)
    values = np.random.default_rng(0).normal(size=1000)
    values[:300] *= 1e18
    found = through(window, values)
    expected = values + 5 * np.convolve(values, np.full(100, 0.01))[:1000]
    np.testing.assert_allclose(found[400:], expected[400:], rtol=1e-9, atol=1e-9)


# ---- a right angle ---------------------------------------------------------------------------------------------------


def test_a_right_angle_at_the_same_length() -> None:
    generator = torch.Generator().manual_seed(0)
    w, g = torch.randn(2, 3, 40, 50, generator=generator)
    for scale in (1.0, 1e-25):  # whose squares are no float32
        found = orthogonal(scale * g, w, stacked=True).double() / scale
        for mine, weight, gradient in zip(found, w.double(), g.double(), strict=True):
            assert abs((mine * weight).sum()) < 1e-5 * mine.norm() * weight.norm()
            assert mine.norm() == pytest.approx(gradient.norm().item(), rel=1e-6)
    assert_close(orthogonal(g, w, stacked=True)[1], orthogonal(g[1], w[1]))


def test_where_there_is_no_right_angle() -> None:
    w = torch.randn(300, generator=torch.Generator().manual_seed(0))
    assert torch.equal(orthogonal(w, torch.zeros(300)), w)
    assert torch.equal(orthogonal(0.3 * w, w), torch.zeros(300))
    assert torch.equal(orthogonal(torch.zeros(300), w), torch.zeros(300))


def test_by_sgd_the_norm_grows_by_pythagoras() -> None:
    """‖w₊‖² = ‖w‖² + lr²‖g‖²."""
    by_sgd = {"optimizer": "sgd", "momentum": 0.0, "weight_decay": 0.0, "warmup": 0, "lr": 0.2}
    snapshots = list(train(with_filter(GradientFilter(orthogonal=True), checkpoint_every=1, log_every=1, **by_sgd)))
    for before, after in pairwise(snapshots):
        grown = after.metrics["weight_norm"] ** 2 - before.metrics["weight_norm"] ** 2
        assert grown == pytest.approx((0.2 * before.metrics["gradient_norm"]) ** 2, rel=1e-3)


# ---- in training -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["ema", "unbiased-ema", "ma", "gain"])
def test_strength_zero_is_no_filter_to_the_last_bit(kind: Any) -> None:
    found = last(with_filter(GradientFilter(kind=kind, strength=0.0, **({"window": 4} if kind == "ma" else {}))))
    assert same_bits(found.weights, last(EXPERIMENT).weights)


def test_gain_by_sgd_is_a_larger_rate() -> None:
    by_sgd = {"optimizer": "sgd", "weight_decay": 0.0}
    found = last(with_filter(GAIN, **by_sgd)).weights
    assert_close(found, last(with_filter(GradientFilter(), lr=3e-2, **by_sgd)).weights, rtol=1e-5, atol=1e-6)


def test_adam_undoes_a_gain() -> None:
    by_adam = {"optimizer": "adam", "weight_decay": 0.0, "eps": 1e-30, "steps": 5, "checkpoint_every": None}
    found, bare = (last(with_filter(one, **by_adam)).weights for one in (GAIN, GradientFilter()))
    # Without ε an update is ± lr also where a gradient is nothing but rounding: b_K's, whose gradient is 0.
    scale = {name for name in bare if not name.endswith(("b_K", "b_Q"))}
    assert_close({n: found[n] for n in scale}, {n: bare[n] for n in scale}, rtol=1e-3, atol=1e-4)


def test_a_gain_weakens_an_l2_term_and_no_decoupled_decay() -> None:
    """ĝ = 3g + wd·w: by Adam the same as g + (wd/3)w."""
    third = with_filter(GradientFilter(), optimizer="adam", weight_decay=0.1, eps=1e-4)
    found = last(with_filter(GAIN, optimizer="adam", weight_decay=0.3, eps=3e-4)).weights
    assert_close(found, last(third).weights, rtol=1e-3, atol=1e-5)
    decoupled = with_filter(GradientFilter(), eps=1e-4)
    assert_close(last(with_filter(GAIN, eps=3e-4)).weights, last(decoupled).weights, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("one", KINDS, ids=lambda one: one.in_words)
def test_resumed_anywhere_it_is_the_same_to_the_last_bit(one: GradientFilter) -> None:
    experiment = with_filter(one, checkpoint_steps=(3, 12))  # in the middle of the first window, and beyond it
    whole = list(train(experiment))
    for start in whole[:-1]:
        *_, found = train(experiment, resume=start)
        assert same_bits(found.weights, whole[-1].weights), start.step
        assert same_bits(found.state, whole[-1].state), start.step


@pytest.mark.parametrize("one", KINDS, ids=lambda one: one.in_words)
def test_as_one_batch_each_is_as_alone_up_to_rounding(one: GradientFilter, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers: tuple[dict[str, float], ...] = ({}, {}, {})
    if one.kind not in ("none", "polar", "normalized"):
        numbers = ({}, {"strength": 0.5} | ({"memory": 0.9} if "ema" in one.kind else {}), {"strength": 0.0})
    of_each = [with_filter(replace(one, **own), checkpoint_steps=(3,)) for own in numbers]
    experiments = [replace(each, model=replace(each.model, seed=seed)) for seed, each in enumerate(of_each)]
    alone = [list(train(each)) for each in experiments]
    on_cores = list(filter(None, together(experiments)))
    monkeypatch.setattr(side_by_side, "_has_cores", lambda device: False)
    stacked = list(filter(None, together(experiments)))
    for place, own in enumerate(alone):
        for snapshot, of_core, of_stack in zip(own, on_cores, stacked, strict=True):
            other, third = of_core[place], of_stack[place]
            assert isinstance(other, Snapshot)
            assert isinstance(third, Snapshot)
            assert same_bits(other.weights, snapshot.weights)
            assert same_bits(other.state, snapshot.state)
            assert_close(third.weights, snapshot.weights, rtol=2e-3, atol=2e-5)
            assert third.state.keys() == snapshot.state.keys()
            assert_close(third.state, snapshot.state, rtol=2e-2, atol=2e-5)
    middle = [moment[place] for moment in stacked for place in moment if moment[place].step == 3]
    assert all(isinstance(one, Snapshot) for one in middle)
    again = list(filter(None, together(experiments, resume=[one for one in middle if isinstance(one, Snapshot)])))
    for resumed, whole in zip(again[-1].values(), stacked[-1].values(), strict=True):
        assert isinstance(resumed, Snapshot)
        assert isinstance(whole, Snapshot)
        assert same_bits(resumed.weights, whole.weights)


# ---- its state -------------------------------------------------------------------------------------------------------

Damage = Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (
            lambda state: {name: one for name, one in state.items() if name != "filter|embed.W_E|0"},
            "has no 'filter|embed",
        ),
        (lambda state: {name: one for name, one in state.items() if not name.startswith("filter|")}, "has no 'filter|"),
        (lambda state: state | {"filter|embed.W_E|0": torch.zeros(3)}, r"is torch.float32 \[3\], expected"),
        (lambda state: state | {"filter|embed.W_E|sum": torch.zeros(12, 8)}, "expected torch.float64"),
        (
            lambda state: state | {"filter|embed.W_E|7": torch.zeros(12, 8)},
            "does not belong to ma, strength 5, window 10",
        ),
        (lambda state: state | {"filter|embed.W_E|mean": torch.zeros(12, 8)}, "does not belong"),
    ],
    ids=["a part is missing", "all is missing", "another shape", "another type", "beyond the window", "another filter"],
)
def test_a_damaged_state_is_refused_by_name(damage: Damage, told: str) -> None:
    middle = list(train(with_filter(MA)))[1]
    with pytest.raises(InputError, match=told):
        next(train(with_filter(MA), resume=replace(middle, state=damage(middle.state))))


def test_a_state_of_a_filter_is_refused_where_there_is_none() -> None:
    middle = list(train(with_filter(EMA)))[1]
    with pytest.raises(InputError, match=r"'filter\|embed.W_E\|mean' does not belong to none"):
        next(train(EXPERIMENT, resume=middle))


def test_a_snapshot_does_not_change_while_training_goes_on() -> None:
    of_all = [
        (one, {name: value.clone() for name, value in one.state.items()})
        for one in train(with_filter(MA, checkpoint_every=1))
    ]
    assert all(same_bits(one.state, then) for one, then in of_all)


# ---- what it is to others --------------------------------------------------------------------------------------------


def test_without_a_filter_the_hash_is_what_it_was_and_each_field_changes_it() -> None:
    assert Experiment().hash == "909d76fd9682baa3"
    others = [
        GradientFilter(kind="ema"),
        GradientFilter(kind="ema", strength=3.0),
        GradientFilter(kind="ema", memory=0.9),
        GradientFilter(kind="ma"),
        GradientFilter(kind="ma", window=50),
        GradientFilter(orthogonal=True),
        POLAR,
        NORMALIZED,
    ]
    assert len({with_filter(one).hash for one in (GradientFilter(), *others)}) == 1 + len(others)


def test_numbers_may_differ_in_a_group_and_shapes_and_kinds_may_not() -> None:
    filters = (EMA, replace(EMA, strength=1.0, memory=0.5), MA, replace(MA, window=11), replace(EMA, orthogonal=True))
    assert groups([with_filter(one) for one in filters]) == [[0, 1], [2], [3], [4]]


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"strength": -1.0}, "training.filter.strength must be"),
        ({"memory": 1.0}, "training.filter.memory must be"),
        ({"window": 0}, "training.filter.window must be"),
        ({"window": 10**9}, "training.filter.window must be"),
        ({"kind": "ema", "strength": 1e300}, "training.filter.strength must be at most 1000"),
        ({"strength": 3.0}, "training.filter.strength does nothing where training.filter.kind is none; give .* ema or"),
        ({"kind": "ema", "window": 5}, "training.filter.window does nothing .* is ema; give training.filter.kind ma,"),
        ({"kind": "polar", "strength": 3.0}, "training.filter.strength does nothing .* is polar; give .* ema or"),
        ({"kind": "normalized", "memory": 0.5}, "training.filter.memory does nothing .* is normalized; give .* ema or"),
        ({"kind": "ma", "memory": 0.5}, "training.filter.memory does nothing .* is ma; give .* ema or unbiased-ema,"),
    ],
)
def test_what_cannot_be_is_refused(fields: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=told):
        GradientFilter(**fields)


def test_a_window_is_counted_as_memory() -> None:
    large = replace(MA, window=100)
    for bytes_of in (bytes_on_cores, bytes_on_gpu):
        weights = 4 * sum(one.numel() for one in last(EXPERIMENT).weights.values())
        assert bytes_of(with_filter(large)) - bytes_of(EXPERIMENT) > 100 * weights


# ---- gradients of one size -------------------------------------------------------------------------------------------

WITH_BIASES = replace(EXPERIMENT, model=ModelConfig(d_model=16, n_heads=2, d_mlp=12, activation="gelu", biases=True))


def first_gradient(experiment: Experiment) -> tuple[Weights, Weights]:
    """The initial weights, and the gradient there: what an update without decay by plain SGD with lr 1 takes away."""
    by_sgd = {"optimizer": "sgd", "momentum": 0.0, "weight_decay": 0.0, "warmup": 0, "lr": 1.0}
    steps = {"steps": 1, "checkpoint_every": 1, "log_every": 1}
    start, end = train(replace(experiment, training=replace(experiment.training, **by_sgd, **steps)))
    return start.weights, {name: weight - end.weights[name] for name, weight in start.weights.items()}


def test_every_singular_value_of_a_polar_gradient_is_one_and_those_of_rounding_are_none() -> None:
    """Of the network itself: the query is one vector of the token =, so the gradients of W_Q and of W_K have rank 1 for
    every head; the logits' gradient sums to 0 over the 11 classes, so those of W_U and W_out have rank 10."""
    _, gradient = first_gradient(WITH_BIASES)
    training = replace(WITH_BIASES.training, filter=POLAR)
    _, polar = first_gradient(replace(WITH_BIASES, training=training))
    ranks = {"attn.W_Q": 1, "attn.W_K": 1, "attn.W_V": 8, "attn.W_O": 8, "mlp.W_in": 12, "mlp.W_out": 10}
    for name, rank in [("unembed.W_U", 10), *((f"blocks.0.{part}", rank) for part, rank in ranks.items())]:
        values = torch.linalg.svdvals(polar[name])
        expected = (torch.arange(values.shape[-1]) < rank).float().expand_as(values)
        assert_close(values, expected, rtol=0, atol=2e-4, msg=name)
    for name in ("blocks.0.mlp.b_in", "blocks.0.mlp.b_out", "unembed.b_U"):
        assert_close(polar[name], gradient[name] / gradient[name].norm(), rtol=1e-3, atol=1e-5)
    of_heads = gradient["blocks.0.attn.b_V"]
    assert_close(polar["blocks.0.attn.b_V"], of_heads / of_heads.norm(dim=-1, keepdim=True), rtol=1e-3, atol=1e-5)


def test_every_column_of_a_normalized_gradient_has_length_one() -> None:
    """A column is what one output is made with: x W_in has one for each neuron, and each head's x W_Q one for each of
    its entries. That is the axis of the published `col_norm_update`, which divides by the norm over axis 0 of a matrix
    that is multiplied from the left."""
    weights, gradient = first_gradient(WITH_BIASES)
    _, found = first_gradient(replace(WITH_BIASES, training=replace(WITH_BIASES.training, filter=NORMALIZED)))
    for name, weight in weights.items():
        axis = -1 if weight.ndim == 1 or ".b_" in name else -2
        lengths = gradient[name].double().norm(dim=axis, keepdim=True)
        expected = torch.where(lengths == 0, 0.0, gradient[name] / lengths).float()
        assert_close(found[name], expected, rtol=1e-2, atol=1e-4, msg=name)
    assert found["blocks.0.mlp.W_in"].norm(dim=0).numpy() == pytest.approx(np.ones(12), abs=1e-5)
    assert (found["blocks.0.mlp.W_in"].norm(dim=1) - 1).abs().min() > 0.01  # and not the other axis


@pytest.mark.parametrize("one", [POLAR, NORMALIZED], ids=lambda one: one.kind)
def test_the_size_of_a_gradient_is_not_told(one: GradientFilter) -> None:
    generator = torch.Generator().manual_seed(0)
    shapes = {"attn.W_Q": (2, 8, 4), "attn.b_Q": (2, 4), "mlp.W_in": (8, 12), "ln1.w": (8,), "mlp.b_in": (12,)}
    gradient = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    filtered = FilteredGradients([one], gradient)
    whole = filtered.of(0, gradient)
    for size in (1e-30, 1e-8, 1e20):
        scaled = filtered.of(0, {name: size * value for name, value in gradient.items()})
        assert_close(scaled, whole, rtol=1e-4, atol=1e-6)
    assert whole["attn.b_Q"].norm(dim=-1).numpy() == pytest.approx(np.ones(2), abs=1e-6)  # each head's own
    assert whole["ln1.w"].norm().item() == pytest.approx(1, abs=1e-6)
    nothing = filtered.of(0, {name: torch.zeros_like(value) for name, value in gradient.items()})
    assert not any(value.any() for value in nothing.values())


@pytest.mark.parametrize("one", [POLAR, NORMALIZED], ids=lambda one: one.kind)
def test_a_network_that_diverges_leaves_the_gradients_of_others_alone(one: GradientFilter) -> None:
    """Each of three that are stacked, a gain among their weights, is as alone."""
    generator = torch.Generator().manual_seed(0)
    shapes = {"mlp.W_in": (3, 5, 7), "mlp.b_in": (3, 7), "ln_final.w": (3, 5)}
    gradient = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    filtered = FilteredGradients([one] * 3, gradient, stacked=True)
    found = filtered.of(0, {name: value.index_fill(0, torch.tensor(1), torch.nan) for name, value in gradient.items()})
    for place in (0, 2):
        own = {name: value[place] for name, value in gradient.items()}
        assert_close({name: value[place] for name, value in found.items()}, FilteredGradients([one], own).of(0, own))
    assert all(value[1].isnan().all() for value in found.values())


# ---- the published ones ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["ema", "ma", "orthogonal"])
def test_it_is_that_of_another_library(kind: str) -> None:
    memory: Any
    layer, generator, memory = torch.nn.Linear(6, 4), torch.Generator().manual_seed(0), None
    weights = {name: parameter.detach() for name, parameter in layer.named_parameters()}
    one = {"ema": EMA, "ma": MA, "orthogonal": GradientFilter(orthogonal=True)}[kind]
    filtered = FilteredGradients([one], weights)
    turned = OrthoGrad(torch.optim.SGD(layer.parameters(), lr=0.0))
    for step in range(25):
        gradient = {name: torch.randn(weight.shape, generator=generator) for name, weight in weights.items()}
        for name, parameter in layer.named_parameters():
            parameter.grad = gradient[name].clone()
        if kind == "ema":
            memory = grokfast.gradfilter_ema(layer, memory, alpha=one.memory, lamb=one.strength)
        elif kind == "ma":
            memory = grokfast.gradfilter_ma(layer, memory, window_size=one.window, lamb=one.strength)
        else:
            turned.step()
        expected = {name: parameter.grad for name, parameter in layer.named_parameters()}
        assert_close(filtered.of(step, gradient), expected, rtol=1e-5, atol=1e-6)
