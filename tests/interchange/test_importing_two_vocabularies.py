"""Networks in which b is token p + b, read from other people's layouts and written into them."""

import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch.testing import assert_close

from interp.experiment import ModelConfig, Task
from interp.interchange import export_run, import_run
from interp.interchange.layouts.matching import written
from interp.interchange.layouts.tables import LAYOUTS
from interp.models import Weights, initial_weights
from interp.models.forward import forward
from interp.runs import RunWriter
from interp.testing import circuit_neurons, circuit_weights

P = 7


def zhong(model: ModelConfig, weights: Weights) -> Weights:
    """In the authors' layout, with an output for every token, as their code has it."""
    theirs = written(LAYOUTS["nanda"], weights, {"n_layers": 1, "n_heads": model.n_heads, "d_head": model.head_size})
    W_U = theirs["unembed.W_U"]
    return theirs | {"unembed.W_U": torch.cat([W_U, torch.full((len(W_U), len(weights["embed.W_E"]) - P), -0.1)], 1)}


CONFIGURATION = {
    "funcs": "lambda x: (x[0]+x[1])%7",
    "C": P,
    "attn_coeff": 0.3,
    "act_fn": "ReLU",
    "eqn_sign": False,
    "diff_vocab": True,
}


def test_an_import_from_zhong_and_the_way_back(
    adds_without_equals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    one, weights = adds_without_equals(P, 0.3)
    model, weights = replace(one, vocabularies="two"), dict(weights)
    # Where token b is b + 1 to the circuit, class c is c + 1.
    weights["embed.W_E"] = torch.cat([weights["embed.W_E"], weights["embed.W_E"].roll(-1, 0)])
    weights["unembed.W_U"] = weights["unembed.W_U"].roll(-1, 1)
    torch.save(zhong(model, weights), "model_abc.pt")
    Path("config_abc.json").write_text(json.dumps(CONFIGURATION))
    run = import_run("model_abc.pt", "run")
    assert run.model == model
    assert run.info["imported"]["proof"]["accuracy"] == 1
    assert "the last 7 outputs, for the tokens of b and '=', were cut" in run.info["imported"]["notes"]
    for name, weight in run.last.weights.items():
        assert torch.equal(weight, weights[name])
    export_run(run, "huggingface", "hub", figures=())
    again = import_run("hub/model.safetensors", "again", model={"attention_rate": 0.3})
    assert again.model.vocabularies == "two"
    assert torch.equal(again.last.weights["embed.W_E"], weights["embed.W_E"])


def test_an_import_of_our_own_layout_is_told_by_its_sizes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    neurons = circuit_neurons([1, 2], per_frequency=16, circuit="clock")
    model = ModelConfig(d_model=24, n_heads=2, d_head=8, d_mlp=len(neurons), vocabularies="two")
    weights = circuit_weights(Task(13, "subtract"), model, neurons)
    save_file({name: weight.float() for name, weight in weights.items()}, "net.safetensors")
    run = import_run("net.safetensors", "run")
    assert run.task.operation == "subtract"
    assert run.model == model
    assert run.key_frequencies == [1, 2]


def test_what_is_exported_says_how_b_is_a_token(tmp_path: Path) -> None:
    model = ModelConfig(d_model=8, n_heads=2, d_mlp=12, vocabularies="two")
    with RunWriter.create(tmp_path / "run", Task(P), model) as writer:
        writer.append(0, initial_weights(model, P))
    out = export_run(writer.run, "transformer-lens", tmp_path / "out")
    specification = importlib.util.spec_from_file_location("load_checkpoint", out / "load_checkpoint.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    pairs = torch.cartesian_prod(torch.arange(P), torch.arange(P))
    tokens = torch.cat([pairs + torch.tensor([0, P]), torch.full((len(pairs), 1), 2 * P)], 1)
    assert torch.equal(module.all_prompts(), tokens)
    with torch.no_grad():
        assert_close(
            module.load()(tokens)[:, -1], forward(writer.run.last.weights, model, pairs).logits, rtol=1e-5, atol=1e-5
        )
