"""Regularizers against their fixed points and exact consequences, and as a part of training."""

import itertools
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from interp.errors import InputError
from interp.experiment import (
    DecayFactors,
    Experiment,
    ModelConfig,
    Regularizers,
    Task,
    TrainingConfig,
    section_from_dict,
)
from interp.experiment.regularizers import group_of
from interp.models import Snapshot, initial_weights, weight_shapes
from interp.training import together, train
from interp.training.loop import check_regularizable
from interp.training.optimizers import WeightUpdater
from interp.training.regularizing import Regularizing, generator_of

SMALL = ModelConfig(d_model=8, n_heads=2, d_mlp=12)
DEEP = replace(SMALL, n_layers=2, biases=True)
PLAIN_SGD = TrainingConfig(optimizer="sgd", lr=0.1, momentum=0.0, weight_decay=0.0, warmup=0)
EACH = {
    "l2": Regularizers(l2=1e-3),
    "l1": Regularizers(l1=0.01),
    "l1 subgradient": Regularizers(l1=1e-4, l1_form="subgradient"),
    "dropout": Regularizers(dropout=0.3),
    "weight noise": Regularizers(weight_noise=0.01),
    "gradient noise": Regularizers(gradient_noise=1e-3),
    "norm": Regularizers(norm="global"),
    "norms": Regularizers(norm="tensors"),
    "all": Regularizers(1e-4, 1e-3, "proximal", 0.1, 1e-3, 1e-4, "global"),
}


def experiment(steps: int = 8, *, model: ModelConfig = SMALL, **training: Any) -> Experiment:
    fields: dict[str, Any] = {"weight_decay": 0.0, "checkpoint_every": 4, "log_every": 1} | training
    return Experiment(Task(11, train_fraction=0.5), model, TrainingConfig(steps=steps, **fields))


def descended(config: TrainingConfig, slope: Tensor, at: Tensor, steps: int, start: Tensor | None = None) -> Tensor:
    """The weight after so many steps on the loss ½ Σ h(w − a)²."""
    weights = {"mlp.W_in": torch.full_like(at, 0.3) if start is None else start.clone()}
    regularizing, updater = Regularizing(config, weights), WeightUpdater([weights], config)
    for step in range(steps):
        gradient = {"mlp.W_in": slope * (regularizing.given_to_loss(step)["mlp.W_in"] - at)}
        updater.update(step, [regularizing.gradient(step, gradient)])
        regularizing.after(step)
    return weights["mlp.W_in"]


SLOPE, AT = torch.tensor([1.0, 2.0, 0.5, 4.0]), torch.tensor([1.0, -0.5, 0.02, 0.001])


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_l2_rests_where_the_gradient_is_minus_lambda_w(optimizer: str):
    strength = 0.2
    config = replace(PLAIN_SGD, optimizer=optimizer, lr=0.01, regularizers=Regularizers(l2=strength))
    rest = descended(config, SLOPE.double(), AT.double(), 4000)
    near = {"sgd": 1e-6, "adam": 1e-3}[optimizer]  # where Adam's steps, as large as ever, come to turn about the rest
    torch.testing.assert_close(rest, SLOPE.double() * AT.double() / (SLOPE.double() + strength), rtol=0, atol=near)


def test_l2_of_plain_sgd_is_decoupled_decay():
    """w − lr(g + λw) = (1 − lr·λ)w − lr·g; with momentum it is not."""
    for momentum, same in ((0.0, True), (0.9, False)):
        penalized = replace(PLAIN_SGD, momentum=momentum, regularizers=Regularizers(l2=0.3))
        weight = torch.full_like(AT.double(), 0.3)
        velocity = torch.zeros_like(weight)
        for _ in range(20):
            velocity = momentum * velocity + SLOPE.double() * (weight - AT.double())
            weight = (1 - 0.1 * 0.3) * weight - 0.1 * velocity
        found = descended(penalized, SLOPE.double(), AT.double(), 20)
        assert torch.allclose(found, weight, rtol=1e-12) == same


def test_the_proximal_form_rests_at_the_soft_threshold_with_exact_zeros():
    """Of ½h(w − a)² the rest of ISTA is S_{λ/h}(a)."""
    strength = 0.1
    found = descended(replace(PLAIN_SGD, regularizers=Regularizers(l1=strength)), SLOPE, AT, 2000)
    threshold = strength / SLOPE
    torch.testing.assert_close(found, AT.sign() * (AT.abs() - threshold).clamp(min=0), rtol=1e-5, atol=1e-6)
    assert (found == 0).tolist() == [False, False, True, True]


def test_the_subgradient_never_rests_at_zero_but_stays_within_a_step_of_it():
    strength, lr = 0.1, 0.1
    config = replace(PLAIN_SGD, regularizers=Regularizers(l1=strength, l1_form="subgradient"))
    at = AT[2:3]
    weights = [descended(config, SLOPE[2:3], at, steps) for steps in range(500, 520)]
    assert all(0 < abs(weight.item()) <= lr * strength * (1 + SLOPE[2].item() * 0.3) for weight in weights)
    zero = Regularizing(config, {"mlp.W_in": torch.zeros(1)}).gradient(0, {"mlp.W_in": torch.zeros(1)})
    assert zero["mlp.W_in"].item() == 0  # sign(0) = 0


def test_dropout_of_a_linear_regression_is_ridge():
    """E_M ‖y − X(w ∘ M/(1 − q))‖² = ‖y − Xw‖² + q/(1 − q) Σ_j (XᵀX)_jj w_j²: over all masks, exactly."""
    drawing = torch.Generator().manual_seed(0)
    X, y, w = (torch.randn(*shape, generator=drawing, dtype=torch.float64) for shape in ((6, 4), (6,), (4,)))
    q, mean = 0.3, 0.0
    for mask in itertools.product((0.0, 1.0), repeat=4):
        kept = torch.tensor(mask, dtype=torch.float64)
        chance = (1 - q) ** kept.sum() * q ** (4 - kept.sum())
        mean += chance * (y - X @ (w * kept / (1 - q))).square().sum()
    ridge = (y - X @ w).square().sum() + q / (1 - q) * ((X.T @ X).diagonal() * w.square()).sum()
    torch.testing.assert_close(mean, ridge)
    # And that is what the neurons of a step go through: kept with chance 1 − q, and 1/(1 − q) as large.
    dropping = Regularizing(replace(PLAIN_SGD, regularizers=Regularizers(dropout=q)), {}).dropping(0)
    assert dropping is not None
    dropped = dropping(torch.ones(400, 400))
    values, counts = dropped.unique(return_counts=True)
    torch.testing.assert_close(values, torch.tensor([0, 1 / (1 - q)]))
    assert abs(counts[1].item() / dropped.numel() - (1 - q)) < 5 * math.sqrt(q * (1 - q) / dropped.numel())


def test_weight_noise_adds_half_the_trace_of_the_hessian():
    """E L(w + σξ) = L(w) + ½σ² tr H of a quadratic, and the mean gradient is that at w."""
    sigma, n = 0.5, 40_000
    config = replace(PLAIN_SGD, regularizers=Regularizers(weight_noise=sigma))
    weights = {"mlp.W_in": torch.full((n, 4), 0.3)}
    moved = Regularizing(config, weights).given_to_loss(3)["mlp.W_in"]
    losses = 0.5 * (SLOPE * (moved - AT).square()).sum(1)
    exact = 0.5 * (SLOPE * (0.3 - AT).square()).sum() + 0.5 * sigma**2 * SLOPE.sum()
    assert abs(losses.mean() - exact) < 5 * losses.std() / math.sqrt(n)
    gradient = SLOPE * (moved - AT)
    assert ((gradient.mean(0) - SLOPE * (0.3 - AT)).abs() < 5 * gradient.std(0) / math.sqrt(n)).all()


def test_gradient_noise_leaves_the_stationary_variance_of_sgd():
    """On ½hw²: lr·σ²/(h(2 − lr·h))."""
    sigma, lr, h, n = 0.4, 0.1, 2.0, 20_000
    config = replace(PLAIN_SGD, lr=lr, regularizers=Regularizers(gradient_noise=sigma))
    found = descended(config, torch.full((n,), h), torch.zeros(n), 60)
    exact = lr * sigma**2 / (h * (2 - lr * h))
    assert abs(found.var().item() / exact - 1) < 5 * math.sqrt(2 / n)


@pytest.mark.parametrize("kind", ["global", "tensors"])
def test_held_norms_are_constant_for_the_whole_run(kind: str):
    found = list(train(experiment(30, regularizers=Regularizers(norm=kind), weight_decay=1.0)))
    for name in found[0].weights if kind == "tensors" else ():
        norms = torch.stack([snapshot.weights[name].double().norm() for snapshot in found])
        assert (norms - norms[0]).abs().max() <= 1e-6 * norms[0]
    norms = torch.tensor([snapshot.metrics["weight_norm"] for snapshot in found])
    assert (norms / norms[0] - 1).abs().max() < 1e-6
    assert found[-1].metrics["train_loss"] < found[0].metrics["train_loss"]


def test_every_weight_of_every_model_is_of_one_group():
    models = [
        DEEP,
        replace(DEEP, tied=True),
        ModelConfig(family="mlp", n_layers=3, biases=True, embedding="untied"),
        ModelConfig(family="mlp", embedding="tied"),
    ]
    for model in models:
        groups = {name: group_of(name) for name in weight_shapes(model, 11)}
        assert {"embedding", "mlp"} <= set(groups.values()) <= {"embedding", "attention", "mlp", "unembedding"}
    norms = {"ln1.w": "attention", "ln2.b": "mlp"}
    assert all(group_of(f"blocks.3.{name}") == group for name, group in norms.items())


@pytest.mark.parametrize("optimizer", ["adamw", "adam", "sgd", "rmsprop", "muon"])
def test_a_group_decays_by_its_factor_and_the_others_as_before(optimizer: str):
    """Where the gradient is 0, decoupled decay alone shrinks weights; an L2 term moves what has a decay, and nothing
    else."""
    config = TrainingConfig(
        optimizer=optimizer, lr=0.1, warmup=0, weight_decay=2.0, momentum=0.0, decay=DecayFactors(0.5, 0, 1, 0)
    )
    weights = initial_weights(SMALL, 11)
    before = {name: weight.clone() for name, weight in weights.items()}
    WeightUpdater([weights], config).update(0, [{name: torch.zeros_like(one) for name, one in weights.items()}])
    for name, weight in weights.items():
        factor = {"embedding": 0.5, "attention": 0.0, "mlp": 1.0, "unembedding": 0.0}[group_of(name)]
        if config.decays_apart:
            torch.testing.assert_close(weight, before[name] * (1 - 0.1 * 2 * factor))
        else:
            assert (weight != before[name]).any() == (factor > 0 and before[name].any())


def test_factors_of_one_are_weight_decay_as_it_is():
    one = list(train(experiment(weight_decay=1.0)))[-1]
    split = list(train(experiment(weight_decay=2.0, decay=DecayFactors(0.5, 0.5, 0.5, 0.5))))[-1]
    assert all(torch.equal(one.weights[name], split.weights[name]) for name in one.weights)


# ---- as a part of training -------------------------------------------------------------------------------------------


def same(one: Snapshot, other: Snapshot) -> bool:
    pairs = [(one.weights, other.weights), (one.state, other.state)]
    equal = all(a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a) for a, b in pairs)
    return equal and one.metrics == other.metrics


@pytest.mark.parametrize("model", [SMALL, DEEP, ModelConfig(family="mlp", d_mlp=12, n_layers=2)])
@pytest.mark.parametrize("kind", EACH)
def test_a_resumed_training_is_the_same_to_the_last_bit(kind: str, model: ModelConfig):
    whole = experiment(model=model, regularizers=EACH[kind])
    found = list(train(whole))
    middle = next(snapshot for snapshot in found if snapshot.step == 4)
    rest = list(train(whole, resume=middle))
    assert len(rest) == 4
    assert all(same(one, other) for one, other in zip(found[-4:], rest, strict=True))


@pytest.mark.parametrize("kind", EACH)
def test_side_by_side_is_as_alone_and_threads_do_not_matter(kind: str):
    some = [experiment(4, regularizers=EACH[kind], seed=seed) for seed in (0, 1)]
    moments = [moment for moment in together(some) if moment is not None]
    before = torch.get_num_threads()
    for place, one in enumerate(some):
        for threads in (1, 3):
            torch.set_num_threads(threads)
            alone = list(train(one))
            torch.set_num_threads(before)
            assert all(same(moment[place], snapshot) for moment, snapshot in zip(moments, alone, strict=True))
    if EACH[kind].is_noisy or EACH[kind].gradient_noise:  # full batches, so that a seed draws the noise alone
        assert not same(moments[-1][0], moments[-1][1])


@pytest.mark.parametrize("kind", ["dropout", "weight noise"])
def test_the_logged_loss_is_that_of_the_network_without_noise(kind: str):
    noisy, clean = (next(iter(train(experiment(2, regularizers=of)))) for of in (EACH[kind], Regularizers()))
    for name in ("train_loss", "train_accuracy", "test_loss", "weight_norm"):
        assert noisy.metrics[name] == pytest.approx(clean.metrics[name], rel=1e-6), name
    assert noisy.metrics["train_loss_max"] != clean.metrics["train_loss_max"]  # of what the update was made from


def test_noise_is_another_at_every_step_and_for_every_purpose():
    drawn = [
        torch.rand(3, generator=generator_of(seed, step, purpose)).tolist()
        for seed in (0, 1)
        for step in (0, 1, 2**20, 2**29)
        for purpose in ("weights", "gradient", "neurons")
    ]
    assert len({tuple(one) for one in drawn}) == len(drawn) == 24


def test_norms_that_are_held_are_those_of_the_first_weights_of_all():
    """Weights that are given to start with have norms that no experiment knows; they are remembered."""
    whole = experiment(regularizers=Regularizers(norm="global"))
    start = {name: 3 * weight for name, weight in initial_weights(SMALL, 11).items()}
    found = list(train(whole, start))
    assert found[-1].metrics["weight_norm"] == pytest.approx(found[0].metrics["weight_norm"], rel=1e-6)
    with pytest.raises(InputError, match=r"the state lacks the norm 'held\|all'"):
        next(train(whole, resume=replace(found[0], state={})))
    with pytest.raises(InputError, match=r"the state has the norm 'held\|all'"):
        next(train(experiment(), resume=found[4]))


# ---- what cannot be --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"l2": -1}, "training.regularizers.l2 must be at least 0, got -1"),
        ({"dropout": 1}, "training.regularizers.dropout must be less than 1, got 1"),
        ({"l1_form": "subgradient"}, "l1-form does nothing where training.regularizers.l1 is 0"),
    ],
)
def test_what_cannot_be_is_refused(fields: dict[str, Any], expected: str):
    with pytest.raises(InputError, match=expected):
        Regularizers(**fields)
    with pytest.raises(
        InputError, match=r"training.regularizers.norm: input should be 'free', 'global' or 'tensors', got 'globl'"
    ):
        section_from_dict("training", {"regularizers": {"norm": "globl"}})


def test_what_says_the_same_twice_or_nothing_is_refused():
    with pytest.raises(InputError, match=r"is an L2 term of the gradient, as training.regularizers.l2 is"):
        TrainingConfig(optimizer="adam", regularizers=Regularizers(l2=0.1))
    with pytest.raises(InputError, match=r"training.decay multiplies training.weight-decay, which is 0"):
        TrainingConfig(weight_decay=0.0, decay=DecayFactors(mlp=0))
    with pytest.raises(InputError, match=r"training.regularizers is computed on the cpu, and the device is cuda"):
        check_regularizable(TrainingConfig(regularizers=Regularizers(dropout=0.1)), "cuda")
    with pytest.raises(InputError, match=r"training.decay is computed on the cpu"):
        check_regularizable(TrainingConfig(decay=DecayFactors(mlp=0)), "cuda")


def test_what_decay_did_cannot_be_told_where_there_is_another_force():
    assert TrainingConfig(weight_decay=0, regularizers=Regularizers(dropout=0.1)).decay_coefficients(0, 1) == (0, 0)
    for of in (Regularizers(l2=0.1), Regularizers(l1=0.1), Regularizers(norm="tensors")):
        assert TrainingConfig(weight_decay=0, regularizers=of).decay_coefficients(0, 1) is None
    assert TrainingConfig(decay=DecayFactors(mlp=0.5)).decay_coefficients(0, 1) is None


def test_hashes_of_experiments_without_them_stand():
    assert "regularizers" not in experiment().to_dict()["training"]
    assert experiment().hash != experiment(regularizers=EACH["dropout"]).hash
