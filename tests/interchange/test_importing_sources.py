"""Where state dicts lie, which step they are of, and what configurations say in their authors' words."""

import json
from pathlib import Path

import pytest
import safetensors.torch
import torch

from interp.errors import InputError
from interp.experiment import ModelConfig
from interp.interchange.importing.configuration import configuration_of, from_keys
from interp.interchange.importing.sources import Claim, find_sources
from interp.models import initial_weights

WEIGHTS = initial_weights(ModelConfig(d_model=4, n_heads=2, d_mlp=3), 5)


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)


def network(seed: int) -> dict[str, torch.Tensor]:
    return initial_weights(ModelConfig(d_model=4, n_heads=2, d_mlp=3, seed=seed), 5)


def steps_of(*names: str) -> list[int | None]:
    for seed, name in enumerate(names):
        torch.save(network(seed), name)
    return [source.step for source in find_sources([Path()])]


@pytest.mark.parametrize(
    ("names", "steps"),
    [
        (["1000.pth", "20.pth"], [20, 1000]),
        (["checkpoint_e010000.pt", "checkpoint_e000100.pt"], [100, 10_000]),
        (["step_5.pt", "model-epoch=7.pt"], [5, 7]),
        (["init.pth", "100.pth", "final.pth"], [0, 100, 101]),
        (["model_2k4ohj6bhd.pt"], [-1]),
        (["final.pt"], [-1]),
        (["ckpt_30.pt"], [30]),
    ],
)
def test_steps_from_names(names: list[str], steps: list[int]):
    assert steps_of(*names) == steps


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a.pt", "b.pt"], "no step is known for 'a.pt', 'b.pt'; give --steps"),
        (["1.pt", "other.pt"], "no step is known for 'other.pt'"),
        (
            ["step_1.pt", "epoch_1.pt"],
            r"would both be step 1; give --steps, or name fewer files, those of one kind: epoch_\*.pt or step_\*.pt",
        ),
        (["final.pt", "last.pt"], "no step is known for"),
    ],
)
def test_steps_that_cannot_be_told(names: list[str], expected: str):
    with pytest.raises(InputError, match=expected):
        steps_of(*names)


@pytest.mark.parametrize("name", ["model_state", "state", "theirs"])
def test_the_only_state_dict_of_a_file_is_taken_whatever_its_name(name: str):
    torch.save({"epoch": 30, "val_acc": 1.0, "optimizer": {"lr": 1e-3}, name: WEIGHTS}, "saved.pt")
    [source] = find_sources([Path("saved.pt")])
    assert (source.taken, source.step) == (name, 30)
    assert source.where == f"saved.pt ({name})"
    assert source.shapes == {key: tuple(weight.shape) for key, weight in WEIGHTS.items()}
    assert source.claims == (Claim("val_acc", "test", "accuracy", 1.0),)


def test_of_several_the_one_with_a_telling_name_is_taken_and_without_one_they_are_named():
    torch.save({"ema": WEIGHTS, "model": WEIGHTS}, "saved.pt")
    assert [source.taken for source in find_sources([Path("saved.pt")])] == ["model"]
    torch.save({"ema": WEIGHTS, "live": WEIGHTS}, "saved.pt")
    with pytest.raises(InputError, match=r"saved.pt has 2 state dicts, 'ema', 'live', and none has a name that tells"):
        find_sources([Path("saved.pt")])


@pytest.mark.parametrize("name", ["step_5.pt", "step_5.safetensors"])
def test_a_pointer_of_git_lfs_is_told_from_damage(name: str):
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 679160\n"
    Path(name).write_text(pointer)
    with pytest.raises(InputError, match=r"is a Git LFS pointer \(679,160 bytes are elsewhere\): .* git lfs pull"):
        find_sources([Path(name)])
    Path(name).write_text(pointer.replace("679160", "9" * 400))
    with pytest.raises(InputError, match=r"is a Git LFS pointer \(the weights are elsewhere\)"):
        find_sources([Path(name)])


def test_a_list_without_steps_names_its_entries():
    torch.save([WEIGHTS, WEIGHTS], "list.pt")
    with pytest.raises(
        InputError, match=r"no step is known for 'list.pt checkpoints\[0\]', 'list.pt checkpoints\[1\]'; give --steps"
    ):
        find_sources([Path("list.pt")])


def test_updates_come_before_epochs():
    torch.save({"state_dict": WEIGHTS, "epoch": 12, "global_step": 3000}, "net.ckpt")
    assert find_sources([Path("net.ckpt")])[0].step == 3000


def test_tensors_that_share_memory_many_times_over_are_refused():
    """One megabyte under a hundred names would be a hundred megabytes of weights."""
    large = torch.zeros(512, 512)
    torch.save({f"blocks.{layer}.mlp.W_in": large for layer in range(100)}, "net.pt")
    (source,) = find_sources([Path("net.pt")])
    with pytest.raises(
        InputError,
        match=r"its tensors claim 104,857,600 bytes and share 1,048,576; is the file meant to fill the memory",
    ):
        source.load()


def test_steps_that_are_given():
    for name in ("b10.pt", "b9.pt"):
        torch.save(WEIGHTS, name)
    assert [(source.path.name, source.step) for source in find_sources([Path()], [3, 7])] == [
        ("b9.pt", 3),
        ("b10.pt", 7),
    ]
    with pytest.raises(InputError, match=r"--steps gives 1 steps for 2 checkpoints, in this order: 'b9.pt', 'b10.pt'"):
        find_sources([Path()], [3])


@pytest.mark.parametrize("key", ["model", "state_dict", "model_state_dict", "net"])
def test_a_state_dict_in_a_dictionary(key: str):
    torch.save(
        {key: WEIGHTS, "epoch": 7, "optimizer": {"state": {}}, "train_loss": torch.tensor(0.5), "test_acc": 99.0},
        "net.pt",
    )
    (source,) = find_sources([Path("net.pt")])
    assert (source.taken, source.step) == (key, 7)
    assert set(source.claims) == {
        Claim("train_loss", "train", "loss", 0.5),
        Claim("test_acc", "test", "accuracy", 99.0),
    }
    assert all(torch.equal(tensor, WEIGHTS[name]) for name, tensor in source.load().items())


def test_lists_of_state_dicts():
    losses = [1.0 / (epoch + 1) for epoch in range(201)]
    torch.save(
        {"checkpoints": [WEIGHTS] * 3, "checkpoint_epochs": [0, 100, 200], "train_losses": losses, "model": WEIGHTS},
        "demo.pt",
    )
    found = find_sources([Path("demo.pt")])
    assert [(source.taken, source.step) for source in found] == [
        ("checkpoints[0]", 0),
        ("checkpoints[1]", 100),
        ("checkpoints[2]", 200),
    ]
    assert found[1].claims == (Claim("train_losses", "train", "loss", losses[100]),)
    torch.save({20: WEIGHTS, 10: WEIGHTS}, "by_step.pt")
    assert [source.step for source in find_sources([Path("by_step.pt")])] == [10, 20]
    torch.save([WEIGHTS, WEIGHTS], "bare.pt")
    assert [source.step for source in find_sources([Path("bare.pt")], [1, 2])] == [1, 2]


def test_the_step_in_the_metadata_of_safetensors():
    safetensors.torch.save_file(WEIGHTS, "net.safetensors", {"step": "77"})
    assert find_sources([Path("net.safetensors")])[0].step == 77


# ---- configurations --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "task", "model"),
    [
        ({"p": 113, "fn_name": "add", "act_type": "ReLU"}, {"p": 113, "operation": "add"}, {"activation": "relu"}),
        ({"funcs": "lambda x: (x[0]+x[1])%59"}, {"operation": "add"}, {}),
        ({"funcs": "lambda x: (x[0]-x[1])%59"}, {"operation": "subtract"}, {}),
        ({"func": "lambda x, y: x*y % p"}, {"operation": "multiply"}, {}),
        ({"funcs": "__import__('os').mkdir('executed')"}, {}, {}),
        ({"p": 0.5, "frac": 7, "n_heads": "four"}, {}, {}),
        (
            {"attn_coeff": 0.5, "attention_dir": "casual", "eqn_sign": True},
            {},
            {"attention_rate": 0.5, "causal": False, "prompt": "ab="},
        ),
        ({"eqn_sign": False, "diff_vocab": True}, {}, {"prompt": "ab", "vocabularies": "two"}),
        ({"diff_vocab": False}, {}, {"vocabularies": "one"}),
        ({"attention_dir": "bidirectional", "frac_train": 0.3}, {"train_fraction": 0.3}, {"causal": False}),
    ],
)
def test_what_a_configuration_says(content: dict, task: dict, model: dict):
    assert from_keys(content) == (task, model)
    assert not Path("executed").exists()


@pytest.mark.parametrize("name", ["config.json", "config_abc.json", "model_abc.json"])
def test_a_configuration_beside_the_weights(name: str):
    torch.save(WEIGHTS, "model_abc.pt")
    Path(name).write_text(json.dumps({"p": 5}))
    (source,) = find_sources([Path("model_abc.pt")])
    assert configuration_of(source) == ({"p": 5}, {}, name)


def test_our_own_toml_and_files_that_are_none():
    torch.save(WEIGHTS, "net.pt")
    (source,) = find_sources([Path("net.pt")])
    Path("ours.toml").write_text("[task]\np = 5\n[model]\nattention-rate = 0.5\n")
    assert configuration_of(source, Path("ours.toml")) == ({"p": 5}, {"attention_rate": 0.5}, "ours.toml")
    Path("bad.json").write_text("[1]")
    with pytest.raises(InputError, match=r"bad.json is no configuration: it holds a list"):
        configuration_of(source, Path("bad.json"))
    torch.save({"model": WEIGHTS, "config": {"p": 5, "act_fn": "gelu"}}, "inside.pt")
    (source,) = find_sources([Path("inside.pt")])
    assert configuration_of(source) == ({"p": 5}, {"activation": "gelu"}, "the file of weights")
