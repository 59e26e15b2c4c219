"""Networks that our models cannot hold are told from those that they can."""

import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch.testing import assert_close

import interp
from interp.errors import InputError
from interp.experiment import Mlp, ModelConfig, Norm
from interp.interchange import import_run
from interp.interchange.importing.challengers import Way, beside, run_as, ways
from interp.interchange.importing.search import Judge
from interp.interchange.layouts.fitting import Fitted
from interp.models import Weights, initial_weights, logits

P = 7
PAIRS = torch.cartesian_prod(torch.arange(P), torch.arange(P))
SMALL = ModelConfig(d_model=32, n_heads=2, d_mlp=64)
MODELS = {
    "plain": SMALL,
    "norms": replace(SMALL, norm=Norm(kind="layer"), biases=True, n_layers=2),
    "post-norm": replace(SMALL, norm=Norm(kind="rms", order="post"), mlp=Mlp(gated=True), activation="silu"),
    "mlp": ModelConfig(family="mlp", d_mlp=24),
    "embedded mlp": ModelConfig(family="mlp", d_mlp=24, embedding="untied", d_model=16, biases=True),
    "deep mlp": ModelConfig(family="mlp", n_layers=3, d_mlp=24, inputs="concatenated", biases=True),
}


@cache
def trained(way: Way, model: ModelConfig) -> Weights:
    """Weights that answer all pairs when they are run in that way."""
    weights = {name: weight.requires_grad_() for name, weight in initial_weights(model, P).items()}
    optimizer = torch.optim.Adam(weights.values(), 1e-2)
    labels = PAIRS.sum(1) % P
    for _ in range(800):
        optimizer.zero_grad()
        said = run_as(way, weights, model, PAIRS)
        loss = torch.nn.functional.cross_entropy(said, labels)
        loss.backward()
        optimizer.step()
        if loss < 3e-4:
            break
    assert (said.argmax(1) == labels).all()
    return {name: weight.detach() for name, weight in weights.items()}


@pytest.mark.parametrize("name", MODELS)
def test_without_a_twist_it_is_the_network_itself(name: str) -> None:
    model = MODELS[name]
    weights = {name: weight.double() for name, weight in initial_weights(model, P).items()}
    expected = logits(weights, model, PAIRS)
    assert_close(run_as(Way("as it is"), weights, model, PAIRS), expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", MODELS)
def test_every_way_is_another_network(name: str) -> None:
    model = MODELS[name]
    generator = torch.Generator().manual_seed(1)
    weights = {
        name: weight.double() + 0.3 * torch.randn(weight.shape, generator=generator).double()
        for name, weight in initial_weights(model, P).items()
    }
    expected = logits(weights, model, PAIRS)
    for way in ways(model):
        assert not torch.allclose(run_as(way, weights, model, PAIRS), expected, atol=1e-3), way.words


TWISTS = {
    "parallel": (Way("side by side", parallel=True), SMALL),
    "mean": (Way("the mean", pooled="mean"), replace(SMALL, prompt="ab", causal=False)),
    "sigmoid": (Way("sigmoid", activation="sigmoid"), SMALL),
    "residual": (Way("residual", added_inputs=True), MODELS["embedded mlp"]),
    "residual within": (Way("residual", added_hidden=True), MODELS["deep mlp"]),
    "turned": (Way("turned", turned_hidden=True), MODELS["deep mlp"]),
}


@pytest.mark.parametrize("name", TWISTS)
def test_the_way_that_a_network_was_trained_is_better(name: str) -> None:
    way, model = TWISTS[name]
    fitted, judge = Fitted(trained(way, model), model, P, ()), Judge(("add",))
    found = beside(judge, fitted, judge.judge(fitted, every=True))
    better = [one for one in found if one.verdict == "better"]
    best = max(better, key=lambda one: (one.outcome.accuracy, -one.outcome.loss))
    twist = (
        ("parallel", "pooled", "added_inputs", "added_hidden", "turned_hidden")
        if way.activation is None
        else ("activation",)
    )
    assert all(getattr(best.way, field) == getattr(way, field) for field in twist)
    assert best.outcome.accuracy == 1


@pytest.mark.parametrize("name", ["plain", "mlp", "embedded mlp", "deep mlp"])
def test_no_way_is_better_than_that_of_a_network_of_ours(name: str) -> None:
    model = MODELS[name]
    fitted, judge = Fitted(trained(Way("as it is"), model), model, P, ()), Judge(("add",))
    assert not [
        one.way.words for one in beside(judge, fitted, judge.judge(fitted, every=True)) if one.verdict == "better"
    ]


def test_the_reference_run_is_one_of_ours() -> None:
    run = interp.open_run(interp.reference_path())
    for step in (700, 3000):
        fitted, judge = Fitted(run[step].weights, run.model, 43, ()), Judge(("add",))
        found = beside(judge, fitted, judge.judge(fitted, every=True))
        assert not [one.way.words for one in found if one.verdict == "better"], step


def test_a_network_in_parallel_is_refused(tmp_path: Path) -> None:
    way, model = TWISTS["parallel"]
    save_file(trained(way, model), tmp_path / "net.safetensors")
    with pytest.raises(InputError, match="the import cannot be verified"):
        import_run(tmp_path / "net.safetensors", tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            {"activation": "sigmoid"},
            "config.json says activation 'sigmoid', which our models lack; where you have its code",
        ),
        ({"model": {"act_fn": "nn.LeakyReLU(0.1)"}}, "config.json says act_fn 'nn.LeakyReLU.0.1.'"),
        ({"use_parallel_residual": True}, "config.json says use_parallel_residual True"),
        ({"partial_rotary_factor": 0.25}, "config.json says partial_rotary_factor 0.25"),
        ({"attn_logit_softcapping": 50.0}, "config.json says attn_logit_softcapping 50.0"),
        ({"model_type": "gptj"}, "config.json says model_type 'gptj' .attention and MLP side by side."),
    ],
)
def test_a_configuration_that_speaks_of_what_we_lack_is_heard(content: dict, said: str, tmp_path: Path) -> None:
    save_file(interp.open_run(interp.reference_path()).last.weights, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=said):
        import_run(tmp_path / "model.safetensors", tmp_path / "run")


@pytest.mark.parametrize(
    "content", [{"use_parallel_residual": False, "alibi": False}, {"act_fn": "relu", "attn_logit_softcapping": None}]
)
def test_what_it_says_not_to_have_is_no_obstacle(content: dict, tmp_path: Path) -> None:
    save_file(interp.open_run(interp.reference_path()).last.weights, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(content))
    assert import_run(tmp_path / "model.safetensors", tmp_path / "run").info["imported"]["proof"]["verified"]
