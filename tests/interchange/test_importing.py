"""Whole imports: every layout into a run, the proof and its refusals, steps, splits, and a run written whole or not at
all."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch

import interp
from interp.cli import main
from interp.errors import InputError
from interp.experiment import ModelConfig, Task
from interp.interchange import import_run
from interp.interchange.layouts.matching import written
from interp.interchange.layouts.tables import LAYOUTS
from interp.models import Weights, initial_weights
from interp.runs import Checkpoint, open_run
from interp.testing import circuit_checkpoint, circuit_neurons

P = 7


def planted(family: str = "transformer", p: int = P, operation: str = "add", **options) -> Checkpoint:
    """A network that answers every pair."""
    neurons = circuit_neurons([1, 2, 3], per_frequency=16, circuit="clock")
    planted = circuit_checkpoint(Task(p, operation), neurons, family=family, strength=0.2, **options)
    return Checkpoint(
        0, {name: weight.float() for name, weight in planted.weights.items()}, planted.task, planted.model
    )


def foreign(layout: str, checkpoint: Checkpoint) -> dict[str, torch.Tensor]:
    model = checkpoint.model
    heads = {"n_heads": model.n_heads, "d_head": model.head_size} if model.family == "transformer" else {}
    return written(LAYOUTS[layout], checkpoint.weights, {"n_layers": 1, **heads})


@pytest.fixture(scope="module")
def transformer() -> Checkpoint:
    return planted()


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)


def same(run: interp.Run, weights: Weights) -> bool:
    return all(torch.equal(run.at(-1).weights[name], weight) for name, weight in weights.items())


@pytest.mark.parametrize("layout", [name for name, layout in LAYOUTS.items() if layout.family == "transformer"])
def test_every_layout_of_a_transformer(layout: str, transformer: Checkpoint):
    tensors = foreign(layout, transformer)
    torch.save(tensors, "theirs.pt")
    safetensors.torch.save_file(tensors, "theirs.safetensors")
    for source in ("theirs.pt", "theirs.safetensors"):
        run = import_run(source, "run", overwrite=True)
        assert run.info["imported"]["layout"] == layout
        assert run.steps == [-1]
        assert run.task == Task(P, split="unknown")
        assert same(run, transformer.weights)
        assert run.info["imported"]["proof"]["verified"]
        assert run.info["imported"]["proof"]["operation"] == "add, inferred from the answers"


@pytest.mark.parametrize("inputs", ["sum", "concatenated"])
@pytest.mark.parametrize("layout", [name for name, layout in LAYOUTS.items() if layout.family == "mlp"])
def test_every_layout_of_one_hidden_layer(layout: str, inputs: str):
    model = ModelConfig(family="mlp", d_mlp=48, inputs=inputs)
    weights = _mlp(inputs)
    checkpoint = Checkpoint(0, weights, Task(P), model)
    assert checkpoint.accuracy("all") == 1
    safetensors.torch.save_file(foreign(layout, checkpoint), "theirs.safetensors")
    run = import_run("theirs.safetensors", "run", split="python-shuffle:0", train_fraction=0.5)
    assert run.task.p == P
    assert run.model == model
    assert same(run, weights)


def _mlp(inputs: str) -> Weights:
    """cos and sin of a and b at 16 angles and three frequencies: a pizza for a sum, and so for both side by side."""
    angle = torch.arange(16, dtype=torch.float64) * 2 * torch.pi / 16
    turns = 2 * torch.pi * torch.arange(P, dtype=torch.float64)[:, None] / P
    into = torch.cat([torch.cos(k * turns - angle) for k in (1, 2, 3)], 1)
    out = torch.cat([torch.cos(k * turns - 2 * angle) for k in (1, 2, 3)], 1).T
    return {
        "mlp.W_in": (into if inputs == "sum" else torch.cat([into, into])).float(),
        "mlp.W_out": (10 * out).float().contiguous(),
    }


def test_a_fourier_basis_stored_beside_is_named_and_dropped():
    from interp.mathematics.fourier import basis

    weights = foreign("mlp-input-last", Checkpoint(0, _mlp("sum"), Task(P), ModelConfig(family="mlp", d_mlp=48)))
    tensors = {f"mlp.{name}": weight for name, weight in weights.items()}
    torch.save(tensors | {"fourier_basis": torch.as_tensor(basis(P)).float(), "freqs": torch.arange(4)}, "net.pt")
    notes = import_run("net.pt", "run").info["imported"]["notes"]
    assert "'fourier_basis' was left out: an orthogonal basis" in notes
    assert "'freqs' was left out: int64, so no weight" in notes


def test_the_class_of_the_equals_sign_is_cut(transformer: Checkpoint):
    tensors = foreign("nanda", transformer)
    W_U = tensors["unembed.W_U"]
    tensors["unembed.W_U"] = torch.cat([W_U, torch.full((len(W_U), 1), 0.1)], 1)
    tensors["blocks.0.attn.mask"] = torch.ones(3, 3).tril()
    torch.save({"epoch": 400, "model": tensors}, "final.pth")
    run = import_run("final.pth", "run")
    assert run.steps == [400]
    assert same(run, transformer.weights)
    assert "the last output, the class '=', was cut" in run.info["imported"]["notes"]
    assert run.info["imported"]["taken"] == "model"


def test_zhong_with_their_configuration_beside_the_weights(adds_without_equals):
    model, weights = adds_without_equals(P, 0.3)
    torch.save(written(LAYOUTS["nanda"], weights, {"n_layers": 1, "n_heads": 1, "d_head": 6}), "model_abc.pt")
    with pytest.raises(InputError, match=r"attention rate .* give --model.attention-rate, 1 for plain attention"):
        import_run("model_abc.pt", "run")
    Path("config_abc.json").write_text(
        json.dumps(
            {
                "funcs": "lambda x: (x[0]+x[1])%7",
                "C": 7,
                "attn_coeff": 0.3,
                "attention_dir": "casual",
                "act_fn": "ReLU",
                "frac": 0.8,
                "runid": 1,
            }
        )
    )
    run = import_run("model_abc.pt", "run")
    assert run.model == model
    assert run.task == Task(7, train_fraction=0.8, split="unknown")
    assert same(run, weights)
    assert run.info["imported"]["proof"]["accuracy"] == 1


@pytest.mark.parametrize("operation", ["add", "subtract", "multiply", "divide"])
def test_the_operation_is_inferred(operation: str):
    checkpoint = planted(operation=operation)
    torch.save(checkpoint.weights, "net.pt")
    if operation in ("multiply", "divide"):
        assert checkpoint.accuracy("all") > 0.7  # 0 is no unit, and has no place in the circuit
    run = import_run("net.pt", "run")
    assert run.task.operation == operation
    assert set(run.info["imported"]["proof"]["tried"]) == {
        "add",
        "subtract",
        "multiply",
        "divide",
        "x2+y2",
        "x2+xy+y2",
        "x2+xy+y2+x",
        "x3+xy",
        "x3+xy2+y",
    }


# ---- proof -----------------------------------------------------------------------------------------------------------


def test_a_network_that_answers_nothing_is_refused(transformer: Checkpoint):
    torch.save(initial_weights(transformer.model, P), "net.pt")
    with pytest.raises(InputError, match=r"cannot be told from its answers \(.*\); give --task.operation"):
        import_run("net.pt", "run")
    with pytest.raises(
        InputError, match=r"cannot be verified: it answers .* and chance is 14.3%; the likely causes: orientation"
    ):
        import_run("net.pt", "run", task={"operation": "add"})
    assert not Path("run").exists()
    run = import_run("net.pt", "run", task={"operation": "add"}, accept_unverified=True)
    assert not run.info["imported"]["proof"]["verified"]


@pytest.mark.parametrize(("factor", "agrees"), [(1.0, True), (1.2, True), (0.5, False), (2.0, False)])
def test_the_stored_loss_is_compared(factor: float, agrees: bool, transformer: Checkpoint):
    weights = transformer.weights | {"unembed.W_U": transformer.weights["unembed.W_U"] / 20}
    task = Task(P, split=tuple(range(0, 49, 2)))
    loss = Checkpoint(0, weights, task, transformer.model).loss("test")
    assert loss > 1e-3
    stored = {
        "model_state_dict": weights,
        "epoch": 10,
        "test_loss": factor * loss,
        "train_indices": list(range(0, 49, 2)),
    }
    torch.save(stored, "net.pt")
    if agrees:
        run = import_run("net.pt", "run")
        assert run.task == task
        (claim,) = run.info["imported"]["proof"]["claims"]
        assert claim["agrees"]
        assert claim["found"] == pytest.approx(loss)
    else:
        with pytest.raises(InputError, match="its source says test_loss"):
            import_run("net.pt", "run")


def test_a_transposed_matrix_is_noticed(transformer: Checkpoint):
    """The same shapes, the wrong way round: only running it shows."""
    weights = dict(foreign("nanda", transformer))
    weights["blocks.0.attn.W_O"] = weights["blocks.0.attn.W_O"].flip(0)
    torch.save(weights, "net.pt")
    with pytest.raises(InputError, match="cannot be verified"):
        import_run("net.pt", "run", task={"operation": "add"})


def test_what_is_given_must_agree_with_the_tensors(transformer: Checkpoint):
    torch.save(transformer.weights, "net.pt")
    with pytest.raises(
        InputError, match=r"W_E has 8 tokens, expected 12 for p = 11 and the prompt 'ab='; is --task.p right"
    ):
        import_run("net.pt", "run", task={"p": 11})
    with pytest.raises(InputError, match=r"W_pos has 3 positions, and --model.prompt 'a\+b=' has 4"):
        import_run("net.pt", "run", model={"prompt": "a+b="})


def test_numbers_that_are_none_are_refused(transformer: Checkpoint):
    broken = dict(transformer.weights)
    broken["unembed.W_U"] = broken["unembed.W_U"] * torch.inf
    torch.save(broken, "net.pt")
    with pytest.raises(InputError, match=r"net.pt: unembed.W_U holds NaN or infinity"):
        import_run("net.pt", "run")


# ---- the run ---------------------------------------------------------------------------------------------------------


def test_of_a_folder_of_checkpoints_each_is_read_once(monkeypatch: pytest.MonkeyPatch):
    model = ModelConfig(d_model=32, n_heads=2, d_mlp=64)
    weights = initial_weights(model, 23)
    tensors = written(LAYOUTS["nanda"], weights, {"n_layers": 1, "n_heads": 2, "d_head": 16})
    Path("theirs").mkdir()
    for step in range(100):
        torch.save(tensors, f"theirs/{step * 100}.pth")
    real, read = torch.load, []
    monkeypatch.setattr(torch, "load", lambda path, **named: read.append(Path(path).stem) or real(path, **named))
    run = import_run("theirs", "run", task={"operation": "add"}, accept_unverified=True)
    assert sorted(map(int, read)) == run.steps == list(range(0, 10_000, 100))
    assert same(run, weights)


def test_a_bad_file_among_many_leaves_nothing_behind(transformer: Checkpoint):
    for step in range(4):
        torch.save(transformer.weights, f"{step}.pt")
    other = replace(transformer.model, d_mlp=transformer.model.d_mlp + 1)
    torch.save(initial_weights(other, P), "2.pt")
    before = sorted(Path().iterdir())
    with pytest.raises(InputError, match=r"2.pt has other sizes than the others"):
        import_run(".", "run")
    broken = dict(transformer.weights)
    broken["embed.W_E"] = broken["embed.W_E"] * torch.nan
    torch.save(broken, "2.pt")
    with pytest.raises(InputError, match=r"2.pt: embed.W_E holds NaN"):
        import_run(".", "run")
    assert sorted(Path().iterdir()) == before


def test_an_existing_run_is_replaced_only_on_request(transformer: Checkpoint):
    torch.save(transformer.weights, "net_5.pt")
    first = import_run("net_5.pt", "run")
    with pytest.raises(InputError, match="run already exists; choose another --out, or give --overwrite"):
        import_run("net_5.pt", "run")
    assert import_run("net_5.pt", "run", overwrite=True).hash == first.hash
    Path("folder").mkdir()
    Path("folder/thesis.txt").touch()
    with pytest.raises(InputError, match="folder is not a run, so it is not overwritten"):
        import_run("net_5.pt", "folder", overwrite=True)


def test_every_command_reads_an_imported_run(transformer: Checkpoint, capsys: pytest.CaptureFixture[str]):
    torch.save(foreign("nanda", transformer), "net.pt")
    assert main(["import", "net.pt", "--out", "run"]) == 0
    out = capsys.readouterr().out
    assert "proof        verified at step -1: accuracy 1" in out
    assert "split unknown" in out
    for command in ("info", "verify", "report", "explain"):
        assert main([command, "run"]) == 0, capsys.readouterr().err
    capsys.readouterr()
    assert main(["analyze", "run", "learning_curves", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["learning_curves"]["final_test_loss"] is None
    assert open_run("run").experiment is None


def test_a_dry_run_says_what_is_there_and_makes_a_mapping_file(
    transformer: Checkpoint, capsys: pytest.CaptureFixture[str]
):
    strange = {name.replace("W_E", "table"): weight for name, weight in transformer.weights.items()}
    torch.save(strange, "net.pt")
    assert main(["import", "net.pt", "--dry-run", "--write-mapping", "mapping.toml"]) == 0
    out = capsys.readouterr().out
    assert f"'embed.table' [8, {transformer.model.d_model}]: embed.W_E" in out
    assert "proved: accuracy 1, loss " in out
    assert Path("mapping.toml").read_text() in out
    assert main(["import", "net.pt", "--dry-run", "--mapping", "mapping.toml"]) == 0
    assert f"'embed.table' [8, {transformer.model.d_model}]: embed.W_E" in capsys.readouterr().out
    assert same(import_run("net.pt", "run", mapping="mapping.toml"), transformer.weights)
    assert sorted(path.name for path in Path().iterdir()) == ["mapping.toml", "net.pt", "run"]


def test_a_dry_run_of_what_fits_nothing_says_why_and_fails(capsys: pytest.CaptureFixture[str]):
    lstm = {"lstm.weight_ih_l0": torch.randn(24, 6), "lstm.weight_hh_l0": torch.randn(24, 6)}
    torch.save({"embed.weight": torch.randn(8, 6), **lstm, "fc.weight": torch.randn(7, 6)}, "net.pt")
    assert main(["import", "net.pt", "--dry-run"]) == 2
    out = capsys.readouterr().out
    assert "nothing fits: net.pt" in out
    assert "a recurrent layer ('lstm.weight_ih_l0')" in out
    with pytest.raises(InputError, match=r"in no layout that is known: it holds a recurrent layer"):
        import_run("net.pt", "run")


def test_nothing_to_import():
    with pytest.raises(InputError, match="there is nothing to import"):
        import_run([], "run")
    with pytest.raises(InputError, match="there is no file or folder nowhere"):
        import_run("nowhere", "run")
    with pytest.raises(InputError, match="there are no files of weights"):
        import_run(".", "run")
    assert main(["import", "nowhere"]) == 2
