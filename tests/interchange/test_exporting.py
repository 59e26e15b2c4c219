"""Exports: TransformerLens loads what is written for it, arrays are the run's, and the Hub is given the folder that it
expects."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import ClassVar

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.testing import assert_close

from interp import Recorder
from interp.cli import main
from interp.errors import InputError
from interp.experiment import Experiment, ModelConfig, Norm, Task, TrainingConfig
from interp.interchange import export_run, import_run, push
from interp.models import initial_weights
from interp.models.forward import forward
from interp.runs import Run, RunWriter
from interp.sweeps import run_experiment

P = 7


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)
    model = ModelConfig(d_model=8, n_heads=2, d_mlp=12)
    with RunWriter.create("run", Task(P), model) as writer:
        for step in (0, 10, 20):
            weights = initial_weights(ModelConfig(d_model=8, n_heads=2, d_mlp=12, seed=step), P)
            writer.append(step, weights, {"train_loss": float(step), "test_loss": float("nan")})
    return writer.run


def loaded_module(path: Path) -> ModuleType:
    specification = importlib.util.spec_from_file_location("load_checkpoint", path)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_transformer_lens_loads_what_is_written_for_it(run: Run):
    theirs = loaded_module(export_run(run, "transformer-lens", "out") / "load_checkpoint.py")
    assert theirs.checkpoint_labels() == ([0, 10, 20], "step")
    pairs = torch.cartesian_prod(torch.arange(P), torch.arange(P))
    tokens = torch.cat([pairs, torch.full((len(pairs), 1), P)], 1)
    assert torch.equal(theirs.all_prompts(), tokens)
    assert theirs.answer_at() == -1
    for bridge, step in (
        (theirs.load(), 20),
        (theirs.load(checkpoint_index=-2), 10),
        (theirs.load(checkpoint_value=0), 0),
    ):
        with torch.no_grad():
            assert_close(
                bridge(tokens)[:, -1], forward(run[step].weights, run.model, pairs).logits, rtol=1e-5, atol=1e-5
            )
    with pytest.raises(ValueError, match=r"there is no checkpoint of step 11; there are \[0, 10, 20\]"):
        theirs.load(checkpoint_value=11)


@pytest.mark.parametrize(
    "fields",
    [
        {"norm": Norm(kind="layer"), "biases": True, "prompt": "^a+b=", "tied": True, "vocabularies": "two"},
        {"norm": Norm(kind="rms"), "prompt": "^ab=", "answer_at": 2, "activation": "gelu-tanh"},
    ],
)
def test_every_architecture_is_written_for_it(fields: dict, tmp_path: Path):
    model = ModelConfig(d_model=8, n_heads=2, d_mlp=12, **fields)
    with RunWriter.create(tmp_path / "other", Task(P), model) as writer:
        writer.append(0, initial_weights(model, P))
    other = writer.run
    theirs = loaded_module(export_run(other, "transformer-lens", tmp_path / "out") / "load_checkpoint.py")
    with torch.no_grad():
        said = theirs.load()(theirs.all_prompts())[:, theirs.answer_at()]
    assert_close(said, other.last.logits.flatten(0, 1), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("to", ["transformer-lens", "huggingface"])
def test_what_is_exported_can_be_imported_again(to: str, run: Run):
    out = export_run(run, to, "out", figures=())
    again = import_run(out / "checkpoints", "again", task={"operation": "add"}, split="none", accept_unverified=True)
    assert again.steps == run.steps
    for one, other in zip(run, again, strict=True):
        assert all(torch.equal(other.weights[name], weight) for name, weight in one.weights.items())


@pytest.fixture(
    scope="module",
    params=[
        {"norm": Norm(kind="layer"), "biases": True, "prompt": "a+b="},
        {"norm": Norm(kind="rms"), "tied": True, "activation": "gelu"},
        {"n_layers": 2, "biases": True, "vocabularies": "two"},
    ],
    ids=["norms and biases", "tied", "two layers"],
)
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of each architecture, trained for a moment on all pairs but a few."""
    model = ModelConfig(d_model=16, n_heads=2, d_mlp=32, **request.param)
    task = Task(P, "subtract", train_pairs=P * P - 12)
    training = TrainingConfig(steps=200, lr=1e-2, weight_decay=0.0, checkpoint_every=100)
    return run_experiment(Experiment(task, model, training), tmp_path_factory.mktemp("trained") / "run")


@pytest.mark.parametrize("to", ["transformer-lens", "huggingface", "numpy"])
def test_every_architecture_comes_back_with_its_split(trained: Run, to: str, tmp_path: Path):
    """Every way out leads back to the same answers and pairs."""
    out = export_run(trained, to, tmp_path / "out", figures=())
    again = import_run(out, tmp_path / "again")
    assert again.steps == trained.steps
    assert again.task.train_indices.tolist() == trained.task.train_indices.tolist()
    assert_close(again.last.logits, trained.last.logits, rtol=0, atol=1e-4)


@pytest.mark.parametrize("to", ["huggingface", "numpy"])
@pytest.mark.parametrize("model", [ModelConfig(d_model=8, n_heads=2, d_mlp=12), ModelConfig(family="mlp", d_mlp=12)])
def test_a_network_that_knows_nothing_comes_back(model: ModelConfig, to: str, tmp_path: Path):
    """What is proved is that it is read as it was exported, not that it answers well."""
    with RunWriter.create(tmp_path / "untrained", Task(P), model) as writer:
        writer.append(0, initial_weights(model, P))
    out = export_run(writer.run, to, tmp_path / "out", figures=())
    again = import_run(out, tmp_path / "again")
    assert again.info["imported"]["proof"]["verified"]
    assert torch.equal(again.last.logits, writer.run.last.logits)
    content = json.loads((out / "config.json").read_text())
    content["model"]["activation"] = "gelu"
    (out / "config.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match="its source says logits as at export 16, and it has"):
        import_run(out, tmp_path / "as another")


def test_arrays_are_those_of_the_run(run: Run):
    out = export_run(run, "numpy", "out")
    assert np.load(out / "steps.npy").tolist() == [0, 10, 20]
    assert np.load(out / "train_indices.npy").tolist() == run.task.train_indices.tolist()
    for name in run.last.weights:
        np.testing.assert_array_equal(np.load(out / f"{name}.npy"), run.trajectory(name).numpy())
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert rows[1] == {"step": 10, "train_loss": 10.0, "test_loss": None}


def test_the_folder_for_the_hub(run: Run):
    out = export_run(run, "huggingface", "out", figures=("weight_norms",))
    names = sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())
    steps = [f"checkpoints/step_{step:09d}.safetensors" for step in (0, 10, 20)]
    assert names == [
        "README.md",
        *steps,
        "config.json",
        "figures/weight_norms.png",
        "metrics.jsonl",
        "model.safetensors",
        "train_indices.json",
    ]
    card = (out / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: interp\ntags:\n- grokking\n")
    assert "![weight norms](figures/weight_norms.png)" in card
    assert str(Path.cwd()) not in card
    assert all(
        torch.equal(weight, run.last.weights[name]) for name, weight in load_file(out / "model.safetensors").items()
    )
    assert json.loads((out / "config.json").read_text())["checkpoint_labels"] == [[0, 10, 20], "step"]
    assert (out / "figures/weight_norms.png").read_bytes()[:4] == b"\x89PNG"


def test_what_shapes_cannot_tell_comes_back_from_the_configuration(
    adds_without_equals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    model, weights = adds_without_equals(P, 0.3)
    with RunWriter.create("zhong", Task(P), model) as writer:
        writer.append(5, weights)
    out = export_run(writer.run, "huggingface", "hub", figures=())
    again = import_run(out / "model.safetensors", "again", split="none")
    assert again.model == model
    assert again.last.accuracy("all") == 1
    (out / "config.json").write_text(json.dumps({"model_type": "interp", "model": {"attention_rate": 2}}))
    with pytest.raises(InputError, match=r"model.attention-rate must be at most 1, got 2"):
        import_run(out / "model.safetensors", "third")


class Hub:
    """Stands in for the client: remembers what it is asked."""

    asked: ClassVar[list[tuple]] = []

    def create_repo(self, repository: str, *, repo_type: str, exist_ok: bool) -> str:
        Hub.asked.append(("create", repository, repo_type, exist_ok))
        return f"https://hub/{repository}"

    def upload_folder(self, *, repo_id: str, folder_path: str, commit_message: str) -> None:
        if repo_id == "nobody/refused":
            raise ConnectionError("403 Forbidden\nlong story")
        Hub.asked.append(("upload", repo_id, sorted(path.name for path in Path(folder_path).iterdir())))


def test_pushing_makes_the_repository_and_uploads_the_folder(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr("huggingface_hub.HfApi", Hub)
    monkeypatch.setattr("interp.interchange.exporting.CARD_FIGURES", ())
    Hub.asked.clear()
    assert main(["export", "run", "--to", "huggingface", "--push", "me/grokked"]) == 0
    assert capsys.readouterr().out == "run-huggingface\nhttps://hub/me/grokked\n"
    files = ["README.md", "checkpoints", "config.json", "metrics.jsonl", "model.safetensors", "train_indices.json"]
    assert Hub.asked == [("create", "me/grokked", "model", True), ("upload", "me/grokked", files)]
    with pytest.raises(InputError, match=r"run-huggingface was not pushed to nobody/refused: 403 Forbidden$"):
        push(Path("run-huggingface"), "nobody/refused")


def test_what_cannot_be_exported_leaves_nothing(run: Run, capsys: pytest.CaptureFixture[str]):
    assert main(["export", "run", "--to", "numpy", "--push", "a/b"]) == 2
    assert capsys.readouterr().err == "interp: --push goes with --to huggingface\n"
    with pytest.raises(InputError, match="run already exists; choose another --out"):
        export_run(run, "numpy", "run")
    model = ModelConfig(family="mlp", d_mlp=12)
    with RunWriter.create("mlp", Task(P), model) as writer:
        writer.append(0, initial_weights(model, P))
    before = sorted(Path().iterdir())
    with pytest.raises(InputError, match=r"TransformerLens cannot express model.family 'mlp'"):
        export_run(writer.run, "transformer-lens", "out")
    assert sorted(Path().iterdir()) == before
    with pytest.raises(InputError, match="unknown --to 'numpi'; did you mean 'numpy'"):
        export_run(run, "numpi", "out")


def test_the_configuration_of_a_module_has_no_fields_of_our_networks(tmp_path: Path):
    net = nn.Sequential(nn.Embedding(7, 8), nn.Flatten(), nn.Linear(16, 7))
    with Recorder(tmp_path / "mine", Task(7), net) as recorder:
        recorder.save(0)
    folder = export_run(recorder.run, "numpy", tmp_path / "arrays")
    assert sorted(json.loads((folder / "config.json").read_text())["model"]) == ["family", "module"]
