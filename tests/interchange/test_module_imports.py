"""Imports through code that the person names: run because it was named, weights loaded strictly, the answers proved,
and the run opens without the code."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

import interp
from interp.cli import main
from interp.errors import InputError
from interp.interchange import describe_sources, import_run
from interp.runs import open_run

P = 7
CODE = '''
import torch
from dataclasses import dataclass
from torch import nn

from beside import depth


@dataclass
class Sizes:
    p: int = 7


class Net(nn.Module):
    """Its logits are a table, so that the truth is known."""

    def __init__(self, sizes):
        super().__init__()
        self.table = nn.Embedding(sizes.p**2, sizes.p + 1)
        self.act = nn.ReLU()
        self.p = sizes.p
        self.register_buffer("mask", torch.ones(2, 2))

    def forward(self, tokens):
        assert tokens.shape[1] == depth, "a b ="
        return self.table(self.act(tokens[:, 0] * self.p + tokens[:, 1])) * self.mask[0, 0]


def build():
    return Net(Sizes())


def of_config(config):
    return Net(Sizes(config["p"]))


def broken():
    return {}["weights"]


def quits():
    raise SystemExit("usage: train.py")


def nothing():
    pass


def two(a, b):
    pass


number = 5
'''


def table(operation=lambda a, b: a + b, strength: float = 5.0) -> torch.Tensor:
    pairs = torch.cartesian_prod(torch.arange(P), torch.arange(P))
    return strength * nn.functional.one_hot(operation(*pairs.T) % P, P + 1).float()


def saved(path: str, weights: torch.Tensor, prefix: str = "", **beside) -> None:
    state = {f"{prefix}table.weight": weights, f"{prefix}mask": torch.ones(2, 2)}
    torch.save({"model": state, **beside}, path)


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text(CODE)
    Path("beside.py").write_text("depth = 3\n")
    saved("net.pt", table())


def brought(name: str = "build", source: str = "net.pt", **known) -> interp.Run:
    given = {"module": f"net.py:{name}", "module_tokens": "a b =", "task": {"p": P}} | known
    return import_run(source, "run", **given, overwrite=True)


def test_the_run_opens_without_the_code():
    run = brought()
    proof = run.info["imported"]["proof"]
    assert proof["verified"]
    assert proof["accuracy"] == 1.0
    assert proof["operation"] == "add, inferred from the answers"
    assert run.info["imported"]["layout"] == "module net.py:build"
    notes = run.info["imported"]["notes"]
    assert any(note.startswith("the code of net.py (SHA-256 ") for note in notes)
    assert "of 8 classes the first 7 are kept, as residues" in notes
    assert "buffers are no weights, and are not kept: 'mask'" in notes
    Path("net.py").unlink()
    again = open_run("run")
    assert torch.equal(again.last.logits.flatten(0, 1), table()[:, :P])
    assert list(again.last.weights) == ["module.table.weight", "recorded.logits"]
    assert again.last.accuracy("all") == 1.0


def test_a_series_with_prefixes_and_a_configuration():
    Path("steps").mkdir()
    for step in (0, 100, 200):
        saved(f"steps/{step}.pt", table(strength=step / 50), prefix="module._orig_mod.", config={"p": P})
    run = brought("of_config", "steps", task={})
    assert run.steps == [0, 100, 200]
    assert [run[step].logits.max().item() for step in run.steps] == [0.0, 2.0, 4.0]


def test_what_the_source_says_is_compared():
    saved("net.pt", table(), test_accuracy=0.5)
    with pytest.raises(InputError, match=r"cannot be verified: its source says test_accuracy 0\.5, and the module has"):
        brought()
    assert not Path("run").exists()
    run = brought(accept_unverified=True)
    assert not run.info["imported"]["proof"]["verified"]


def test_a_module_that_answers_nothing_is_refused():
    saved("net.pt", torch.randn(P * P, P + 1, generator=torch.Generator().manual_seed(0)))
    with pytest.raises(InputError, match=r"cannot be told from the module's answers .* --module-tokens"):
        brought()
    with pytest.raises(InputError, match=r"the import cannot be verified: it answers .* and chance is 14\.3%"):
        brought(task={"p": P, "operation": "add"})
    assert not brought(task={"p": P, "operation": "add"}, accept_unverified=True).info["imported"]["proof"]["verified"]


def test_a_poor_one_is_proved_by_its_training_pairs_or_what_is_stored_alone():
    """A network that memorized 40 % of the pairs: asked in a wrong way it could look like that."""
    right = torch.zeros(P * P, dtype=torch.bool)
    right[torch.randperm(P * P, generator=torch.Generator().manual_seed(0))[:20]] = True
    saved("net.pt", torch.where(right[:, None], table(), table(lambda a, b: a + b + 1)))
    with pytest.raises(InputError, match=r"it answers 40\.8% .* too poor to show that it was asked as it should be"):
        brought(task={"p": P, "operation": "add"})
    Path("train.json").write_text(json.dumps(right.nonzero()[:, 0].tolist()))
    assert brought(task={"p": P, "operation": "add"}, split="file:train.json").info["imported"]["proof"]["verified"]
    saved("net.pt", torch.where(right[:, None], table(), table(lambda a, b: a + b + 1)), train_acc=1.0, test_acc=0.0)
    assert brought(task={"p": P, "operation": "add"}, split="file:train.json").info["imported"]["proof"]["verified"]


def test_where_the_end_answers_nothing_one_before_it_proves():
    Path("steps").mkdir()
    for step in range(4):
        saved(f"steps/{step}.pt", table() if step < 3 else torch.zeros(P * P, P + 1))
    run = brought(source="steps")
    assert run.info["imported"]["proof"]["step"] == 2
    assert run.steps == [0, 1, 2, 3]


def test_the_operation_is_what_the_answers_fit():
    saved("net.pt", table(lambda a, b: a * a + b * b))
    assert brought().task.operation == "x2+y2"


@pytest.mark.parametrize(
    ("named", "complaint"),
    [
        ("net.py", r"--module is FILE\.py:NAME, the file and the function in it"),
        ("nte.py:build", r"--module: there is no file 'nte\.py'"),
        ("net.py:biuld", r"net\.py has no function 'biuld'; did you mean 'build'\?"),
        ("net.py:number", r"number in net\.py is of type int, expected a function or a class"),
        ("net.py:nothing", r"nothing in net\.py gives a NoneType, expected a torch\.nn\.Module"),
        ("net.py:broken", r"broken in net\.py fails: KeyError: 'weights' \(interp\.import_run"),
        ("net.py:quits", r"quits in net\.py fails: SystemExit: usage: train\.py"),
        ("net.py:two", r"two in net\.py needs a, b; write a function without arguments"),
        ("net.py:of_config", r"needs 'config', which would be the configuration, and there is none"),
        ("bad.py:build", r"bad\.py fails when it is imported: NameError: name 'nn' is not defined"),
        ("syntax.py:build", r"syntax\.py fails when it is imported: SyntaxError"),
    ],
)
def test_code_that_does_not_work(named: str, complaint: str, capsys: pytest.CaptureFixture[str]):
    Path("bad.py").write_text("def build(): pass\nnn.Linear\n")
    Path("syntax.py").write_text("def build(:\n")
    with pytest.raises(InputError, match=complaint):
        import_run("net.pt", "run", module=named, task={"p": P})
    assert main(["import", "net.pt", "--module", named, "--task.p", "7", "--out", "run"]) == 2
    said = capsys.readouterr().err
    assert len(said.strip().splitlines()) == 1
    assert "Traceback" not in said
    assert not Path("run").exists()


@pytest.mark.parametrize(
    ("state", "complaint"),
    [
        ({"table.weight": table()}, r"no state dict of the module: it lacks 'mask'"),
        ({"table.weight": table(), "mask": torch.ones(2, 2), "x": torch.ones(3)}, r"it has 'x' beside"),
        ({"table.weight": table()[:5], "mask": torch.ones(2, 2)}, r"'table.weight' has shape \[5, 8\], and in the mod"),
    ],
)
def test_weights_of_another_module(state: dict, complaint: str):
    torch.save({"model": {**state, "extra": torch.ones(1)} if len(state) == 1 else state}, "net.pt")
    with pytest.raises(InputError, match=complaint):
        brought()


def test_what_says_how_tensors_are_read_has_no_place_beside_code():
    with pytest.raises(InputError, match="--layout says how tensors are read, and with --module their own code does"):
        brought(layout="nanda")
    with pytest.raises(InputError, match=r"no --module FILE\.py:NAME is given"):
        import_run("net.pt", "run", module_neurons="act")
    with pytest.raises(InputError, match=r"give --task\.p"):
        brought(task={})
    with pytest.raises(InputError, match=r"the module failed on its input .*AssertionError: a b ="):
        brought(module_tokens="a b")


def test_a_dry_run_lists_what_can_be_named():
    told = describe_sources("net.pt", module="net.py:build").text
    assert "  'act' ReLU" in told
    assert "  'table.weight' [49, 8]" in told
    assert not Path("run").exists()


def test_the_module_of_one_import_is_not_that_of_the_next():
    """Code is read anew, and its folder does not stay on the path."""
    import sys

    before = list(sys.path)
    brought()
    Path("net.py").write_text(CODE.replace('"a b ="', '"other"').replace("depth,", "4,"))
    with pytest.raises(InputError, match="other"):
        brought()
    assert sys.path == before


def test_the_command_imports_with_the_code_of_a_module(capsys: pytest.CaptureFixture[str]):
    told = ["--module", "net.py:build", "--module-tokens", "a b =", "--module-neurons", "table", "--task.p", "7"]
    assert main(["import", "net.pt", *told, "--out", "run"]) == 0
    assert "verified" in capsys.readouterr().out
    run = open_run("run")
    assert run.last.accuracy("all") == 1.0
    assert run.model.module.neurons == 8
