"""Steps in the names of files, numbers there that are something else, and steps that the files tell themselves."""

import tarfile
from pathlib import Path

import pytest

from interp.errors import InputError
from interp.interchange.importing.sources import find_sources
from interp.interchange.importing.steps import step_in_name
from tests.interchange.archives import network, save


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)


def steps(folder: str = "run") -> list[int | None]:
    return [source.step for source in find_sources([Path(folder)])]


def notes(folder: str = "run") -> list[str]:
    return [note for source in find_sources([Path(folder)]) for note in source.notes]


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("1000.pth", 1000),
        ("checkpoint_e010000.pt", 10_000),
        ("step000300.safetensors", 300),
        ("checkpoint_epoch_20.pt", 20),
        ("epoch=7-step=3000.ckpt", 3000),
        ("epoch=7-val_loss=0.12.ckpt", 7),
        ("step_1000_seed_0.pt", 1000),
        ("epoch_100_20240501.pt", 100),
        ("mod_113_epoch_50.pt", 50),
        ("model_0.pt", 0),
        ("e100.pt", 100),
        ("init.pth", 0),
        ("model_seed_0.pt", None),
        ("grok_p_43.pt", None),
        ("model_v2.pt", None),
        ("run_3.pt", None),
        ("lr_0.001.pt", None),
        ("model_frac_0.3.pt", None),
        ("model-final-20240501.pt", None),
        ("model_2k4ohj6bhd.pt", None),
        ("checkpoint.pt", None),
    ],
)
def test_the_step_in_a_name(name: str, step: int | None):
    assert step_in_name(Path(name)) == step


@pytest.mark.parametrize(("name", "step"), [("epoch_010.tar", 10), ("epoch_5.pth.tar", 5), ("1000.pth.tar", 1000)])
def test_the_step_in_the_name_of_a_tar(name: str, step: int):
    assert step_in_name(Path(name)) == step


def test_checkpoints_that_are_called_tar_are_told_from_archives():
    """As PyTorch's tutorial calls them: a folder of them is one of checkpoints, and an archive beside them is not."""
    for epoch in (0, 10, 20):
        save(f"run/epoch_{epoch:03d}.tar", {"model_state_dict": network(epoch)})
    with tarfile.open("run/data.tar", "w") as archive:
        archive.add("run/epoch_000.tar")
    assert steps() == [0, 10, 20]
    with pytest.raises(InputError, match=r"data.tar is a tar archive, which is not read here; unpack it: tar -xf"):
        find_sources([Path("run/data.tar")])


def test_updates_that_are_told_inside_come_before_the_epoch_in_a_name():
    for epoch in (1, 10):
        save(f"run/epoch_{epoch:03d}.pt", {"model": network(epoch), "epoch": epoch, "step": 100 * epoch})
        save(f"epochs/epoch_{epoch:03d}.pt", {"model": network(epoch), "epoch": epoch})
        save(f"within/epoch_{epoch:03d}.pt", {"model": network(epoch), "epoch": epoch, "step": 0})
        save(f"steps/step_{epoch:03d}.pt", {"model": network(epoch), "step": 100 * epoch})
    assert (steps("run"), notes("run")) == ([100, 1000], [])
    assert steps("epochs") == steps("within") == [1, 10]
    [note, again] = notes("epochs")
    assert (
        note
        == again
        == "steps are the epochs in the names of files, as no number of updates is told; --steps gives others"
    )
    assert (steps("steps"), notes("steps")) == ([1, 10], [])
