"""A factor on all initial weights: what it does to the answers of a network, and to everything that knows of it."""

from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from interp.errors import InputError
from interp.experiment import Experiment, ModelConfig, Norm, Task, TrainingConfig
from interp.models import initial_weights, logits
from interp.training import groups, together, train

P = 7
MLP = ModelConfig(family="mlp", d_mlp=24, inputs="concatenated")
TRANSFORMER = ModelConfig(d_model=8, n_heads=2, d_mlp=12)
SCALES = (0.25, 0.5, 4.0)  # of weights in float32 exactly
PAIRS = torch.cartesian_prod(torch.arange(P), torch.arange(P))


def answers(model: ModelConfig) -> torch.Tensor:
    weights = {name: weight.double() for name, weight in initial_weights(model, P).items()}
    return logits(weights, model, PAIRS)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize(
    ("model", "degree"),
    [
        (MLP, 2),
        (replace(MLP, n_layers=3), 4),
        (replace(MLP, initialization="uniform"), 2),
        (replace(MLP, embedding="untied", d_model=8), 4),
        (replace(MLP, embedding="tied", d_model=8, inputs="sum"), 4),  # the embedding counts twice
        (replace(MLP, activation="square"), 3),  # (αx W_in)² (αW_out)
        (replace(MLP, activation="square", n_layers=2), 7),  # ((α²)·α)²·α
    ],
    ids=["one layer", "three layers", "uniform", "untied", "tied", "square", "two layers of squares"],
)
def test_answers_without_biases_grow_as_a_power_of_it(model: ModelConfig, degree: int, scale: float) -> None:
    """α^L of a ReLU network with L matrices."""
    scaled = answers(replace(model, initialization_scale=scale))
    assert_close(scaled, scale**degree * answers(model), rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize(
    "model",
    [replace(MLP, activation="tanh"), TRANSFORMER, replace(TRANSFORMER, norm=Norm(kind="layer"))],
    ids=["tanh", "softmax of attention", "norm layers"],
)
def test_other_networks_have_no_such_power(model: ModelConfig) -> None:
    """The control: of a power α^L, the ratio of answers at 4 and 1 would be that of 1 and 1/4."""
    quarter, one, four = (answers(replace(model, initialization_scale=scale)) for scale in (0.25, 1.0, 4.0))
    ratios = four.norm() / one.norm(), one.norm() / quarter.norm()
    assert abs(ratios[0] / ratios[1] - 1) > 0.05


@pytest.mark.parametrize("model", [MLP, TRANSFORMER, replace(TRANSFORMER, norm=Norm(kind="rms"), biases=True)])
def test_every_weight_is_multiplied_by_it(model: ModelConfig) -> None:
    plain, scaled = (initial_weights(one, P) for one in (model, replace(model, initialization_scale=0.3)))
    assert list(plain) == list(scaled)
    for name, weight in plain.items():
        assert torch.equal(scaled[name], 0.3 * weight)
    assert scaled.get("ln_final.w", torch.tensor(0.3)).unique().tolist() == [pytest.approx(0.3)]


def test_it_is_training_from_those_weights() -> None:
    training = TrainingConfig(steps=4, checkpoint_every=2)
    experiment = Experiment(Task(P), replace(TRANSFORMER, initialization_scale=0.5), training)
    halved = {name: 0.5 * weight for name, weight in initial_weights(TRANSFORMER, P).items()}
    for one, other in zip(train(experiment), train(Experiment(Task(P), TRANSFORMER, training), halved), strict=True):
        assert one.metrics == pytest.approx(other.metrics, rel=0, abs=0, nan_ok=True)


def test_networks_side_by_side_may_differ_in_it() -> None:
    experiments = [
        Experiment(
            Task(P), replace(TRANSFORMER, initialization_scale=scale), TrainingConfig(steps=2, checkpoint_every=1)
        )
        for scale in SCALES
    ]
    assert groups(experiments) == [[0, 1, 2]]
    for moment in filter(None, together(experiments)):
        for place, snapshot in moment.items():
            alone = next(one for one in train(experiments[place]) if one.step == snapshot.step)
            assert all(torch.equal(alone.weights[name], weight) for name, weight in snapshot.weights.items())


def test_at_one_an_experiment_is_what_it_was() -> None:
    assert Experiment().hash == Experiment(model=ModelConfig(initialization_scale=1)).hash == "909d76fd9682baa3"
    assert "initialization_scale" not in Experiment().to_dict()["model"]


@pytest.mark.parametrize(("scale", "said"), [(0.0, "greater than 0"), (-1.0, "greater than 0"), (1e6, "at most 1000")])
def test_what_is_no_factor_is_refused(scale: float, said: str) -> None:
    with pytest.raises(InputError, match=rf"model\.initialization-scale must be {said}, got"):
        ModelConfig(initialization_scale=scale)
