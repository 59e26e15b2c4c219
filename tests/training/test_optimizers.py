"""The optimizers against their update rules, written out by hand in numpy."""

from typing import get_args

import numpy as np
import pytest
import pytorch_optimizer
import torch
from numpy.testing import assert_allclose
from torch.testing import assert_close

from interp.errors import InputError
from interp.experiment import ModelConfig, TrainingConfig
from interp.experiment.training import Optimizer
from interp.models import Weights, initial_weights
from interp.training import WeightUpdater
from interp.training.optimizers import BUFFERS, RULES

STEPS = 30


def problem(dtype: torch.dtype = torch.float64) -> tuple[Weights, list[Weights]]:
    """Two weights and a gradient for each step."""
    generator = torch.Generator().manual_seed(0)
    shapes = {"matrix": (3, 4), "bias": (5,)}
    draws = [
        {name: torch.randn(shape, generator=generator).to(dtype) for name, shape in shapes.items()}
        for _ in range(STEPS + 1)
    ]
    return draws[0], draws[1:]


def by_hand(start: np.ndarray, gradients: list[np.ndarray], c: TrainingConfig) -> np.ndarray:
    """The published rules: AdamW (Loshchilov & Hutter), Adam with L2 (Kingma & Ba), SGD with momentum and RMSProp as
    torch defines them, and Muon (Jordan et al.) of a matrix, by its singular values, beside AdamW of a vector."""
    w, first, second, velocity = start.copy(), np.zeros_like(start), np.zeros_like(start), np.zeros_like(start)
    for step, given in enumerate(gradients):
        lr = c.lr if c.warmup == 0 else c.lr * min((step + 1) / c.warmup, 1)
        if c.optimizer in ("adamw", "muon"):
            w, gradient = w * (1 - lr * c.weight_decay), given
        else:
            gradient = given + c.weight_decay * w
        if c.optimizer == "sgd":
            velocity = c.momentum * velocity + gradient
            w = w - lr * velocity
        elif c.optimizer == "rmsprop":
            second = c.betas[1] * second + (1 - c.betas[1]) * gradient**2
            w = w - lr * gradient / (np.sqrt(second) + c.eps)
        elif c.optimizer == "muon" and w.ndim == 2:
            velocity = c.momentum * velocity + (1 - c.momentum) * gradient
            left, values, right = np.linalg.svd(
                c.momentum * velocity + (1 - c.momentum) * gradient, full_matrices=False
            )
            values /= np.sqrt((values**2).sum())
            for _ in range(5):
                values = 3.4445 * values - 4.7750 * values**3 + 2.0315 * values**5
            w = w - lr * 0.2 * np.sqrt(max(w.shape)) * (left * values) @ right
        else:
            t = step + 1
            first = c.betas[0] * first + (1 - c.betas[0]) * gradient
            second = c.betas[1] * second + (1 - c.betas[1]) * gradient**2
            w = w - lr * (first / (1 - c.betas[0] ** t)) / (np.sqrt(second / (1 - c.betas[1] ** t)) + c.eps)
    return w


@pytest.mark.parametrize("warmup", [0, 1, 10])
@pytest.mark.parametrize(
    "fields",
    [
        {"optimizer": "adamw"},
        {"optimizer": "adamw", "weight_decay": 0.0, "betas": (0.5, 0.6), "eps": 0.1},
        {"optimizer": "adam", "weight_decay": 0.3},
        {"optimizer": "sgd", "weight_decay": 0.3, "momentum": 0.9},
        {"optimizer": "sgd", "weight_decay": 0.0, "momentum": 0.0},
        {"optimizer": "rmsprop", "weight_decay": 0.3, "betas": (0.5, 0.9)},
        {"optimizer": "muon", "momentum": 0.95},
        {"optimizer": "muon", "weight_decay": 0.0, "momentum": 0.0, "betas": (0.5, 0.6), "eps": 0.1},
    ],
)
def test_updates_are_those_of_the_written_rule(fields: dict[str, object], warmup: int) -> None:
    config = TrainingConfig(lr=0.05, warmup=warmup, **fields)
    start, gradients = problem()
    weights = {name: weight.clone() for name, weight in start.items()}
    updater = WeightUpdater([weights], config)
    for step, gradient in enumerate(gradients):
        updater.update(step, [gradient])
    for name, weight in weights.items():
        expected = by_hand(start[name].numpy(), [gradient[name].numpy() for gradient in gradients], config)
        assert_allclose(weight.numpy(), expected, rtol=0, atol=1e-12)


def test_warm_up_rises_from_one_part_to_the_whole() -> None:
    """With SGD and a gradient of one, each update is its learning rate."""
    weights = {"w": torch.zeros(1, dtype=torch.float64)}
    updater = WeightUpdater(
        [weights], TrainingConfig(optimizer="sgd", lr=0.5, momentum=0.0, weight_decay=0.0, warmup=4)
    )
    positions = [0.0]
    for step in range(6):
        updater.update(step, [{"w": torch.ones(1, dtype=torch.float64)}])
        positions.append(weights["w"].item())
    assert_allclose(-np.diff(positions), np.array([1, 2, 3, 4, 4, 4]) * 0.5 / 4, rtol=1e-12)


def test_adamw_without_gradient_decays_by_lr_times_weight_decay() -> None:
    weights = {"w": torch.ones(1, dtype=torch.float64)}
    updater = WeightUpdater([weights], TrainingConfig(lr=0.1, weight_decay=0.5, warmup=0))
    for step in range(10):
        updater.update(step, [{"w": torch.zeros(1, dtype=torch.float64)}])
    assert weights["w"].item() == pytest.approx(0.95**10, rel=1e-12)


@pytest.mark.parametrize("optimizer", RULES)
def test_a_gradient_may_lie_in_memory_as_it_likes(optimizer: str) -> None:
    """Automatic differentiation gives transposed gradients; torch's fused updates would take their entries in the wrong
    order."""
    gradient = torch.arange(12.0).reshape(4, 3).T
    results = []
    for given in (gradient, gradient.contiguous()):
        weights = {"w": torch.zeros(3, 4)}
        updater = WeightUpdater([weights], TrainingConfig(optimizer=optimizer, warmup=0, betas=(0.0, 0.0), eps=1.0))
        updater.update(0, [{"w": given}])
        results.append(weights["w"])
    assert not gradient.is_contiguous()
    assert results[0].abs().max() > 0
    assert torch.equal(results[0], results[1])


def test_every_name_has_an_optimizer() -> None:
    assert set(RULES) == set(BUFFERS) == set(get_args(Optimizer))


@pytest.mark.parametrize("optimizer", RULES)
def test_a_restored_optimizer_goes_on_bit_for_bit(optimizer: str) -> None:
    config = TrainingConfig(optimizer=optimizer, lr=0.05)
    weights, gradients = problem(torch.float32)
    updater = WeightUpdater([weights], config)
    for step, gradient in enumerate(gradients[:12]):
        updater.update(step, [gradient])
    resumed = {name: weight.clone() for name, weight in weights.items()}
    state = updater.state()
    second = WeightUpdater([resumed], config)
    second.restore([state])
    remembered = {name: value.clone() for name, value in state.items()}
    for step, gradient in enumerate(gradients[12:], start=12):
        updater.update(step, [gradient])
        second.update(step, [gradient])
    for name, weight in weights.items():
        assert torch.equal(weight, resumed[name])
    for name, value in state.items():  # what was handed over is a copy, on both ways
        assert torch.equal(value, remembered[name])


def test_an_optimizer_that_has_not_moved_remembers_nothing() -> None:
    for optimizer in RULES:
        assert WeightUpdater([problem()[0]], TrainingConfig(optimizer=optimizer)).state() == {}
    weights, gradients = problem()
    updater = WeightUpdater([weights], TrainingConfig(optimizer="sgd", momentum=0.0))
    updater.update(0, gradients[:1])
    assert updater.state() == {}


@pytest.mark.parametrize(
    ("name", "value"),
    [("elsewhere|exp_avg", torch.zeros(3, 4)), ("matrix|exp_avg", torch.zeros(4, 3)), ("matrix", torch.zeros(12))],
)
def test_a_state_of_other_weights_is_refused(name: str, value: torch.Tensor) -> None:
    with pytest.raises(
        InputError, match=rf"optimizer state '{name.replace('|', '.')}' .* does not belong to these weights"
    ):
        WeightUpdater([problem()[0]], TrainingConfig()).restore([{name: value}])


def test_a_state_of_some_of_the_weights_is_refused() -> None:
    weights, gradients = problem()
    updater = WeightUpdater([weights], TrainingConfig())
    updater.update(0, gradients[:1])
    state = updater.state()
    del state["bias|exp_avg_sq"]
    with pytest.raises(InputError, match=r"optimizer state has no 'bias\|exp_avg_sq'"):
        WeightUpdater([weights], TrainingConfig()).restore([state])


def test_updates_are_those_of_torchs_own_optimizers_bit_for_bit() -> None:
    classes = {
        "adamw": torch.optim.AdamW,
        "adam": torch.optim.Adam,
        "sgd": torch.optim.SGD,
        "rmsprop": torch.optim.RMSprop,
    }
    for optimizer, kind in classes.items():
        config = TrainingConfig(optimizer=optimizer, lr=0.05, warmup=0)
        weights, gradients = problem(torch.float32)
        theirs = {name: weight.clone() for name, weight in weights.items()}
        options = {
            "sgd": {"momentum": config.momentum, "fused": True},
            "rmsprop": {"alpha": config.betas[1], "eps": config.eps},
        }.get(optimizer, {"betas": config.betas, "eps": config.eps, "fused": True})
        reference = kind(theirs.values(), config.lr, weight_decay=config.weight_decay, **options)
        updater = WeightUpdater([weights], config)
        for step, gradient in enumerate(gradients):
            updater.update(step, [gradient])
            for name, weight in theirs.items():
                weight.grad = gradient[name]
            reference.step()
        assert all(torch.equal(weights[name], theirs[name]) for name in weights)


def test_the_first_step_of_rmsprop_is_that_of_a_sign() -> None:
    """lr/√(1 − α)·sign g, here 10 lr: its mean of squares begins at 0, and nothing corrects that."""
    weights, gradients = problem()
    start = {name: weight.clone() for name, weight in weights.items()}
    config = TrainingConfig(optimizer="rmsprop", lr=0.01, betas=(0.9, 0.99), weight_decay=0.0, warmup=0, eps=1e-12)
    WeightUpdater([weights], config).update(0, gradients[:1])
    for name, weight in weights.items():
        assert_close(weight - start[name], -0.1 * gradients[0][name].sign(), rtol=0, atol=1e-9)


# ---- Muon ------------------------------------------------------------------------------------------------------------


def of_a_network() -> tuple[Weights, list[Weights]]:
    """The weights of a transformer with biases, and gradients drawn at random."""
    model = ModelConfig(d_model=16, n_heads=2, d_mlp=24, biases=True)
    weights, generator = initial_weights(model, 7), torch.Generator().manual_seed(1)
    return weights, [
        {name: torch.randn(weight.shape, generator=generator) for name, weight in weights.items()} for _ in range(5)
    ]


def advanced(weights: Weights, gradients: list[Weights], **fields: object) -> Weights:
    """The weights after an update by each of the gradients."""
    own = {name: weight.clone() for name, weight in weights.items()}
    updater = WeightUpdater([own], TrainingConfig(**({"lr": 0.05, "warmup": 0} | fields)))
    for step, gradient in enumerate(gradients):
        updater.update(step, [gradient])
    return own


def test_muon_is_of_hidden_matrices_and_adamw_of_all_else() -> None:
    weights, gradients = of_a_network()
    by_muon, by_adamw = (advanced(weights, gradients, optimizer=name) for name in ("muon", "adamw"))
    hidden = {f"blocks.0.{part}" for part in ("attn.W_Q", "attn.W_K", "attn.W_V", "attn.W_O", "mlp.W_in", "mlp.W_out")}
    assert {name for name in weights if not torch.equal(by_muon[name], by_adamw[name])} == hidden
    updater = WeightUpdater([weights], TrainingConfig(optimizer="muon"))
    updater.update(0, gradients[:1])
    averaged = {name.partition("|")[0] for name in updater.state() if name.endswith("|momentum_buffer")}
    assert averaged == hidden
    assert len(updater.state()) == len(hidden) + 3 * (len(weights) - len(hidden))


def test_heads_are_matrices_one_by_one() -> None:
    weights, gradients = of_a_network()
    whole = advanced(weights, gradients, optimizer="muon")
    for name in ("blocks.0.attn.W_Q", "blocks.0.attn.W_O"):
        for head in range(2):
            alone = advanced(
                {"W": weights[name][head]}, [{"W": gradient[name][head]} for gradient in gradients], optimizer="muon"
            )
            assert_close(whole[name][head], alone["W"], rtol=0, atol=1e-6)


def test_a_network_without_anything_for_adamw() -> None:
    weights = {"mlp.W_in": torch.ones(3, 4), "mlp.W_out": torch.eye(4, 3)}
    updater = WeightUpdater([weights], TrainingConfig(optimizer="muon"))
    updater.update(0, [{name: weight.clone() for name, weight in weights.items()}])
    assert list(updater.state()) == ["mlp.W_in|momentum_buffer", "mlp.W_out|momentum_buffer"]


@pytest.mark.parametrize("shape", [(12, 30), (30, 12), (9, 9)], ids=str)
def test_muon_is_torchs_own_but_for_bfloat16(shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """To rounding in float64 where torch is kept from bfloat16, and to that of bfloat16 where it is not."""
    generator = torch.Generator().manual_seed(0)
    start, *gradients = (torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(8))

    def by_torch() -> torch.Tensor:
        weight = start.clone()
        reference = torch.optim.Muon(
            [weight], 0.05, weight_decay=0.7, momentum=0.95, adjust_lr_fn="match_rms_adamw", nesterov=True
        )
        for gradient in gradients:
            weight.grad = gradient.clone()
            reference.step()
        return weight

    numbers = {"optimizer": "muon", "weight_decay": 0.7, "momentum": 0.95}
    found = advanced({"W": start}, [{"W": gradient} for gradient in gradients], **numbers)["W"]
    off = (by_torch() - found).norm() / (found - start).norm()
    assert 1e-4 < off < 0.03
    monkeypatch.setattr(torch.Tensor, "bfloat16", torch.Tensor.clone)
    assert_close(found, by_torch(), rtol=0, atol=1e-12)


def test_muon_is_that_of_another_library_to_bfloat16() -> None:
    weights, gradients = of_a_network()
    shapes = {"blocks.0.mlp.W_in": True, "blocks.0.mlp.W_out": True, "embed.W_E": False, "blocks.0.mlp.b_in": False}
    theirs = {name: weights[name].clone() for name in shapes}
    shared = {"lr": 0.05, "weight_decay": 0.7}
    reference = pytorch_optimizer.Muon(
        [
            {
                "params": [theirs[name] for name, hidden in shapes.items() if hidden],
                **({"use_muon": True, "momentum": 0.95, "use_adjusted_lr": True} | shared),
            },
            {
                "params": [theirs[name] for name, hidden in shapes.items() if not hidden],
                **({"use_muon": False, "betas": (0.8, 0.9), "eps": 1e-6} | shared),
            },
        ]
    )
    for gradient in gradients:
        for name, weight in theirs.items():
            weight.grad = gradient[name].clone()
        reference.step()
    found = advanced(weights, gradients, optimizer="muon", weight_decay=0.7, momentum=0.95, betas=(0.8, 0.9), eps=1e-6)
    for name, hidden in shapes.items():
        off = ((theirs[name] - found[name]).norm() / (found[name] - weights[name]).norm()).item()
        assert off < (0.03 if hidden else 1e-6), name


def test_an_update_by_muon_is_as_large_as_one_by_adamw() -> None:
    """To a factor: its root mean square is 0.2 times that of the singular values, which lie around 0.8, in units of lr.
    Of AdamW's first step every entry is lr, and of later ones a part of it."""
    weights, gradients = of_a_network()
    found = advanced(weights, gradients[:1], optimizer="muon", weight_decay=0.0)
    for name in ("blocks.0.mlp.W_in", "blocks.0.mlp.W_out", "blocks.0.attn.W_V"):
        step = (found[name] - weights[name]) / 0.05
        values = torch.linalg.svdvals(step) / (0.2 * max(step.shape[-2:]) ** 0.5)
        assert values.min() >= 0.65
        assert values.max() <= 1.25
        assert 0.12 < step.square().mean().sqrt() < 0.22


def test_decay_of_muon_is_decoupled_of_every_weight() -> None:
    """What an update with weight decay does beyond one without is −lr·wd·w, which `decay_coefficients` says of it."""
    weights, gradients = of_a_network()
    weights = {name: weight.double() for name, weight in weights.items()}
    gradients = [{name: gradient.double() for name, gradient in gradients[0].items()}]
    decayed, bare = (advanced(weights, gradients, optimizer="muon", weight_decay=wd) for wd in (0.7, 0.0))
    coefficients = TrainingConfig(optimizer="muon", lr=0.05, warmup=0, weight_decay=0.7).decay_coefficients(0, 1)
    assert coefficients == (pytest.approx(0.035, rel=1e-12), 0.0)
    for name, weight in weights.items():
        assert_close(decayed[name] - bare[name], -0.035 * weight, rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", ["blocks.0.mlp.W_in", "embed.W_E"])
def test_a_state_of_the_other_half_of_muon_is_refused(name: str) -> None:
    weights, gradients = of_a_network()
    updater = WeightUpdater([weights], TrainingConfig(optimizer="muon"))
    updater.update(0, gradients[:1])
    state = updater.state()
    wrong = "exp_avg" if name.endswith("W_in") else "momentum_buffer"
    with pytest.raises(InputError, match=rf"optimizer state '{name}.{wrong}' .* does not belong to these weights"):
        WeightUpdater([weights], TrainingConfig(optimizer="muon")).restore(
            [state | {f"{name}|{wrong}": torch.zeros_like(weights[name])}]
        )
    kept = {full: value for full, value in state.items() if not full.startswith(name)}
    with pytest.raises(InputError, match=rf"optimizer state has no '{name}"):
        WeightUpdater([weights], TrainingConfig(optimizer="muon")).restore([kept])


def test_the_bits_of_muon_do_not_depend_on_the_number_of_threads() -> None:
    """Of matrices as large as those whose products torch shares out among threads."""
    generator = torch.Generator().manual_seed(0)
    weights = {"mlp.W_in": torch.randn(128, 512, generator=generator)}
    gradient = {"mlp.W_in": torch.randn(128, 512, generator=generator)}
    alone = advanced(weights, [gradient], optimizer="muon")
    torch.set_num_threads(2)
    try:
        shared = advanced(weights, [gradient], optimizer="muon")
    finally:
        torch.set_num_threads(1)
    assert torch.equal(alone["mlp.W_in"], shared["mlp.W_in"])
