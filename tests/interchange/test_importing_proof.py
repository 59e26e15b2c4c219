"""What the proof can tell without a split, which cause it names, and what it does not begin."""

from pathlib import Path

import pytest
import torch

from interp.errors import InputError
from interp.experiment import ModelConfig, Task
from interp.interchange import import_run
from interp.interchange.layouts.matching import written
from interp.interchange.layouts.tables import LAYOUTS
from interp.models import Weights, initial_weights
from interp.runs import Checkpoint
from interp.testing import circuit_checkpoint, circuit_neurons

P = 7


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def network() -> Checkpoint:
    """It answers every pair, more surely the larger a and b are."""
    planted = circuit_checkpoint(Task(P), circuit_neurons([1, 2, 3], per_frequency=16, circuit="clock"), strength=0.2)
    weights = {name: weight.float() for name, weight in planted.weights.items()}
    weights["embed.W_E"] = weights["embed.W_E"] * torch.linspace(0.4, 1.6, P + 1)[:, None]
    return Checkpoint(0, weights, planted.task, planted.model)


def import_with(network: Checkpoint, **stored: float) -> dict:
    torch.save({"model": network.weights, "epoch": 3, **stored}, "net.pt")
    return import_run("net.pt", "run", overwrite=True).info["imported"]["proof"]


def test_without_a_split_what_no_split_has_is_refused(network: Checkpoint):
    mean, least, most = network.loss("all"), network.losses.min(), network.losses.max()
    assert 1e-3 < least < mean / 1.3
    assert mean < most / 1.3
    for impossible in ({"test_acc": 0.5}, {"train_loss": 2 * float(most)}, {"test_loss": float(least) / 2}):
        with pytest.raises(InputError, match=rf"its source says {next(iter(impossible))} .* whatever the split"):
            import_with(network, **impossible)
    # Both above the mean over all pairs, or both below: no two splits have that together.
    for impossible in (
        {"train_loss": 1.3 * mean, "test_loss": float(most)},
        {"train_loss": mean / 1.3, "test_loss": float(least)},
    ):
        with pytest.raises(InputError, match=r"its source says train_loss .* whatever the split"):
            import_with(network, **impossible)
    for possible in ({"test_acc": 100.0}, {"loss": mean}, {"train_loss": float(least), "test_loss": float(most)}):
        claims = import_with(network, **possible)["claims"]
        assert [claim["agrees"] for claim in claims] == [None] * len(possible)


def test_the_likely_cause_is_named(network: Checkpoint):
    torch.save(network.weights, "net.pt")
    with pytest.raises(
        InputError, match=r"the likely cause is --task.operation, as 100.0% of the answers are right for add;"
    ):
        import_run("net.pt", "run", task={"operation": "subtract"})
    with pytest.raises(InputError, match=r"a misread network would not answer so well: the likely cause is --split"):
        import_with(network, train_loss=1e3)
    torch.save(initial_weights(network.model, P), "net.pt")
    with pytest.raises(InputError, match=r"the likely causes: orientation of the matrices, a class for '='"):
        import_run("net.pt", "run", task={"operation": "add"})


@pytest.mark.parametrize("layout", ["mlp-input-first", "mlp-input-last"])
def test_where_shapes_are_square_behavior_decides(layout: str):
    """d_mlp = p: both orientations fit, and one of them answers."""
    weights = _square()
    torch.save(written(LAYOUTS[layout], weights, {"n_layers": 1}), "net.pt")
    run = import_run("net.pt", "run")
    assert run.info["imported"]["layout"] == layout
    assert all(torch.equal(run.last.weights[name], weight) for name, weight in weights.items())


def _square(p: int = 17) -> Weights:
    """As many neurons as residues: at their angles, cosine waves of one frequency, quadratic enough to add."""
    angle = 2 * torch.pi * torch.arange(p, dtype=torch.float64) / p
    into, out = torch.cos(angle[:, None] - angle), torch.cos(2 * angle[:, None] - angle)
    return {"mlp.W_in": into.float(), "mlp.W_out": (10 * out).float().contiguous()}


def test_more_pairs_than_the_machine_holds_are_not_begun():
    """A small file with a large p."""
    torch.save(initial_weights(ModelConfig(d_model=2, n_heads=1, d_mlp=2), 4000), "net.pt")
    with pytest.raises(
        InputError,
        match=r"p = 4000 and 2 neurons: the answers to all 16,000,000 pairs need more than 768.3 GB of memory",
    ):
        import_run("net.pt", "run")
