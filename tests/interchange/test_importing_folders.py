"""Folders as people have them: one folder per step, files of trainers beside weights, several runs, links, weights in
two formats or in parts."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

import interp
from interp.cli import main
from interp.errors import InputError
from interp.interchange.importing.folders import MOST_FILES
from interp.interchange.importing.sources import Source, find_sources, without_diverged_end
from interp.models import Weights
from interp.runs import open_run
from tests.interchange.archives import network, save


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)


def found(folder: str = "run") -> list[Source]:
    return find_sources([Path(folder)])


def steps(folder: str = "run") -> list[int | None]:
    return [source.step for source in found(folder)]


def notes(folder: str = "run") -> list[str]:
    return [note for source in found(folder) for note in source.notes]


OPTIMIZER = {"state": {0: {"step": torch.tensor(3.0), "exp_avg": torch.ones(4, 4)}}, "param_groups": [{"lr": 1e-3}]}


class TrainingArguments:
    """As a trainer pickles its own."""


TRAINER: dict[str, Callable[[], Any]] = {
    "optimizer.pt": lambda: OPTIMIZER,
    "scheduler.pt": lambda: {"last_epoch": 1000, "_last_lr": [0.0]},
    "rng_state.pth": lambda: {"python": random.Random(0).getstate(), "cpu": torch.ByteTensor(16)},
    "training_args.bin": TrainingArguments,
    "scaler.pt": lambda: {"scale": 65536.0, "growth_factor": 2.0},
}


@pytest.mark.parametrize(
    "names",
    [
        ["checkpoint-1000/model.safetensors", "checkpoint-2000/model.safetensors", "checkpoint-3000/model.safetensors"],
        ["step_1000/pytorch_model.bin", "step_2000/pytorch_model.bin", "step_3000/pytorch_model.bin"],
        ["checkpoints/1000/w.pt", "checkpoints/2000/w.pt", "checkpoints/3000/w.pt"],
        ["A/ckpts/step1000.pt", "A/ckpts/step2000.pt", "A/ckpts/step3000.pt"],
        ["global_step1000/mp_rank_00_model_states.pt", "global_step2000/m.pt", "global_step3000/m.pt"],
    ],
)
def test_folders_of_steps(names: list[str]):
    for seed, name in enumerate(names):
        save(f"run/{name}", network(seed))
    assert steps() == [1000, 2000, 3000]
    assert notes() == []
    assert all(
        torch.equal(source.load()["embed.W_E"], network(seed)["embed.W_E"]) for seed, source in enumerate(found())
    )


def test_what_a_trainer_writes_is_passed_over_for_what_it_holds_and_said_once():
    for step in (1000, 2000):
        save(f"run/checkpoint-{step}/model.safetensors", network(step))
        for name, content in TRAINER.items():
            save(f"run/checkpoint-{step}/{name}", content())
        Path(f"run/checkpoint-{step}/random_states_0.pkl").write_bytes(b"\x80\x02N.")
        Path(f"run/checkpoint-{step}/trainer_state.json").write_text("{}")
    assert steps() == [1000, 2000]
    assert sorted(notes()) == [
        "'checkpoint-*/optimizer.pt' (2 of them) were passed over: it holds the state of an optimizer, and no network",
        *(
            f"'checkpoint-*/{name}' (2 of them) were passed over: it holds no floating-point tensors, and so no network"
            for name in ("rng_state.pth", "scaler.pt", "scheduler.pt", "training_args.bin")
        ),
    ]


def test_other_files_in_a_plain_folder():
    save("run/1.pt", network(1))
    save("run/2.pt", network(2))
    for name, content in {"optimizer.pt": OPTIMIZER, "splits.pt": torch.arange(20), "curves.pt": {"a": [1.0]}}.items():
        save(f"run/{name}", content)
    save("run/train_indices.safetensors", {"train_indices": torch.arange(9)})
    Path("run/train.bin").write_bytes(bytes(range(200)))
    assert steps() == [1, 2]
    assert len(notes()) == 5
    assert "'train.bin' was passed over: it begins like no file of weights" in notes()
    # A network that cannot be read is an error all the same.
    Path("run/3.pt").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(InputError, match=r"3.pt is damaged: .* Where it is no checkpoint, name the files that are"):
        found()


def test_the_step_that_the_trainer_wrote():
    for name, step in {"a": 500, "b": 700}.items():
        save(f"run/checkpoints/{name}_{step}x/model.safetensors", network(step))
    with pytest.raises(InputError, match=r"run holds 2 runs: run/checkpoints/a_500x, run/checkpoints/b_700x; name one"):
        found()
    Path("run/checkpoints/a_500x/trainer_state.json").write_text(json.dumps({"global_step": 500}))
    assert steps("run/checkpoints/a_500x") == [500]


@pytest.mark.parametrize(
    "names",
    [
        ["A/final.pt", "B/final.pt"],
        ["seed_0/checkpoint-1/w.pt", "seed_1/checkpoint-1/w.pt"],
        ["1/final.pt", "2/final.pt"],
        ["exp_1/model.pt", "exp_2/model.pt"],
        ["version_0/checkpoints/epoch=1-step=10.ckpt", "version_1/checkpoints/epoch=1-step=10.ckpt"],
    ],
)
def test_several_runs_are_named(names: list[str]):
    for seed, name in enumerate(names):
        save(f"runs/{name}", network(seed))
    runs = ", ".join(f"runs/{name.split('/')[0]}" for name in names)
    with pytest.raises(InputError, match=f"runs holds 2 runs: {runs}; name one of them, each is imported by itself"):
        found("runs")
    assert len(found("runs/" + names[0].split("/")[0])) == 1


def test_a_lone_run_in_a_folder_of_runs():
    save("runs/A/final.pt", network(0))
    assert steps("runs") == [-1]


def test_two_kinds_of_one_step_name_the_choice():
    for step in (1, 2):
        save(f"run/step_{step}/model.pt", network(step))
        save(f"run/step_{step}/ema.pt", network(step + 10))
    with pytest.raises(
        InputError, match=r"would both be step 1; give .* those of one kind: run/step_\*/ema.pt or run/step_\*/model.pt"
    ):
        found()
    named = sorted(Path().glob("run/step_*/model.pt"))
    assert [source.step for source in find_sources(named)] == [1, 2]


def test_the_last_network_above_its_series():
    for step in (1000, 2000):
        save(f"run/checkpoint-{step}/model.safetensors", network(step))
    save("run/model.safetensors", network(2000))
    assert steps() == [1000, 2000]
    assert notes() == [
        "'model.safetensors' was passed over: it is the same network as 'checkpoint-2000/model.safetensors'"
    ]
    save("run/model.safetensors", network(5))
    assert notes() == ["'model.safetensors' was passed over: nothing tells which step it is of"]
    save("run/final.safetensors", network(6))
    Path("run/model.safetensors").unlink()
    assert steps() == [1000, 2000, 2001]


def test_best_and_final_that_are_one_of_the_numbered():
    for step in (10, 20):
        save(f"run/{step}.pt", network(step))
    save("run/final.pt", network(20))
    save("run/best.pt", network(10))
    assert steps() == [10, 20]
    assert notes() == [
        "'best.pt' was passed over: it is the same network as '10.pt'",
        "'final.pt' was passed over: it is the same network as '20.pt'",
    ]
    save("run/best.pt", network(3))
    save("run/final.pt", network(4))
    assert steps() == [10, 20, 21]
    assert notes() == ["'best.pt' was passed over: nothing tells which step it is of"]


def test_the_last_of_lightning_that_tells_its_step_inside():
    for step in (10, 20):
        content = {"state_dict": network(step), "global_step": step, "pytorch-lightning_version": "2.4.0"}
        save(f"run/checkpoints/epoch=1-step={step}.ckpt", content)
        save("run/checkpoints/last.ckpt", content)
    assert steps() == [10, 20]
    assert notes() == ["'checkpoints/last.ckpt' was passed over: it is the same network as 'epoch=1-step=20.ckpt'"]


def test_two_formats_of_one_network():
    save("run/model.safetensors", network(1))
    save("run/pytorch_model.bin", network(1))
    [source] = found()
    assert source.path.name == "model.safetensors"
    assert notes() == ["'pytorch_model.bin' was passed over: it is the same network as 'model.safetensors'"]
    save("run/pytorch_model.bin", network(2))
    with pytest.raises(InputError, match=r"no step is known for 'model.safetensors', 'pytorch_model.bin'"):
        found()


def test_links_lead_nowhere_else(tmp_path: Path):
    save("elsewhere/3.pt", network(3))
    save("run/1.pt", network(1))
    Path("run/2.pt").symlink_to(tmp_path / "elsewhere/3.pt")
    Path("run/latest.pt").symlink_to("1.pt")
    Path("run/more").symlink_to(tmp_path / "elsewhere")
    Path("run/up").symlink_to("..")
    assert steps() == [1]
    assert sorted(notes()) == [
        "'2.pt' was passed over: it is a link that leads out of the folder",
        "'latest.pt' was passed over: it is a link to '1.pt'",
        "'more' was passed over: it is a link that leads out of the folder",
        "'up' was passed over: it is a link that leads out of the folder",
    ]


def test_a_snapshot_in_the_cache_of_the_hub_is_links_to_its_blobs():
    save("models--a--b/blobs/1234", network(1))
    Path("models--a--b/snapshots/abcd").mkdir(parents=True)
    Path("models--a--b/snapshots/abcd/step_7.pt").symlink_to("../../blobs/1234")
    assert steps("models--a--b/snapshots/abcd") == [7]


def test_a_folder_of_far_too_many_files(monkeypatch: pytest.MonkeyPatch):
    assert MOST_FILES >= 10_000
    monkeypatch.setattr("interp.interchange.importing.folders.MOST_FILES", 3)
    for step in range(4):
        save(f"run/{step}.pt", network(step))
    with pytest.raises(InputError, match="run has more than 3 files; name the folder of the checkpoints in it"):
        found()


def test_deeper_than_three_folders_is_not_looked():
    save("run/a/b/c/d/1.pt", network(1))
    with pytest.raises(InputError, match=r"run: there are no files of weights .* in it, nor in its folders"):
        found()
    assert steps("run/a") == [1]


def test_a_folder_of_another_program_says_what_it_has():
    Path("run").mkdir()
    Path("run/flax_model.msgpack").write_bytes(b"\x81")
    with pytest.raises(InputError, match=r"no files of weights .*; its .msgpack is a Flax checkpoint .*np.savez"):
        found()
    Path("orbax/d").mkdir(parents=True)
    Path("orbax/_CHECKPOINT_METADATA").write_text("{}")
    with pytest.raises(InputError, match=r"orbax is a checkpoint of orbax \(JAX\), .* restore it there"):
        found("orbax")
    Path("dcp.pt").mkdir()
    for name in (".metadata", "__0_0.distcp"):
        Path("dcp.pt", name).write_bytes(b"")
    with pytest.raises(InputError, match=r"dcp.pt is a distributed checkpoint, .* dcp_to_torch"):
        found("dcp.pt")


def test_what_another_program_keeps_beside_weights_is_passed_over():
    save("run/checkpoint-1/model.safetensors", network(1))
    Path("run/checkpoint-1/optimizer_0").mkdir()
    for name in (".metadata", "__0_0.distcp"):
        Path("run/checkpoint-1/optimizer_0", name).write_bytes(b"")
    assert steps() == [1]
    assert notes() == ["'checkpoint-1/optimizer_0' was passed over: it is a checkpoint of another program"]


# ---- in parts --------------------------------------------------------------------------------------------------------


def in_parts(folder: str, weights: Weights, *, ending: str = "safetensors", index: bool = True) -> None:
    names = list(weights)
    parts = {1: names[:4], 2: names[4:]}
    places = {}
    for number, part in parts.items():
        file = f"model-{number:05d}-of-00002.{ending}"
        save(f"{folder}/{file}", {name: weights[name] for name in part})
        places |= dict.fromkeys(part, file)
    if index:
        Path(folder, f"model.{ending}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))


@pytest.mark.parametrize("ending", ["safetensors", "bin"])
@pytest.mark.parametrize("index", [True, False])
def test_parts_are_read_as_one(ending: str, index: bool):
    for step in (100, 200):
        in_parts(f"run/checkpoint-{step}", network(step), ending=ending, index=index)
    assert steps() == [100, 200]
    for source in found():
        assert source.step is not None
        assert all(torch.equal(source.load()[name], tensor) for name, tensor in network(source.step).items())


def test_parts_that_are_missing_or_elsewhere():
    in_parts("run", network(1))
    Path("run/model-00002-of-00002.safetensors").rename("other.safetensors")
    with pytest.raises(
        InputError, match=r"index.json names 'model-00002-of-00002.safetensors', which is not beside it"
    ):
        found()
    Path("run/model.safetensors.index.json").unlink()
    with pytest.raises(
        InputError, match=r"is one of 2 parts of model.safetensors, and model-00002-.* is not beside it"
    ):
        found()
    Path("run/part.safetensors").symlink_to(Path("other.safetensors").resolve())
    index = {"weight_map": {"embed.W_E": "part.safetensors"}}
    Path("run/model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(InputError, match=r"names 'part.safetensors', which is not beside it"):
        find_sources([Path("run/model.safetensors.index.json")])
    index = {"weight_map": {"embed.W_E": "../other.safetensors"}}
    Path("run/model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(InputError, match=r"points out of its folder, to '../other.safetensors'"):
        found()


# ---- tied, averaged, wrapped, diverged -------------------------------------------------------------------------------


def test_weights_that_are_stored_once_under_two_names_are_handed_on():
    module = torch.nn.Module()
    module.embed, module.head = torch.nn.Embedding(5, 4), torch.nn.Linear(4, 5, bias=False)
    module.head.weight = module.embed.weight
    safetensors.torch.save_model(module, "tied.safetensors")
    [source] = find_sources([Path("tied.safetensors")])
    aliases = source.beside["aliases"]
    assert {*aliases, *source.shapes} == {"embed.weight", "head.weight"}
    assert set(aliases.values()) == set(source.shapes)


def test_what_wrappers_put_into_names_is_left_out():
    save("compiled.pt", {f"_orig_mod.{name}": tensor for name, tensor in network(1).items()})
    [source] = find_sources([Path("compiled.pt")])
    assert source.shapes.keys() == network(1).keys() == source.load().keys()
    assert source.notes == ("'_orig_mod.' in the names of tensors was left out",)
    save("compiled.safetensors", {f"_orig_mod.{name}": tensor for name, tensor in network(1).items()})
    assert find_sources([Path("compiled.safetensors")])[0].load().keys() == network(1).keys()


def test_a_mean_of_the_weights_beside_the_weights_is_left_out():
    both = {f"ema_model.{name}": tensor for name, tensor in network(2).items()}
    both |= {f"online_model.{name}": tensor for name, tensor in network(1).items()}
    save("both.pt", {**both, "step": torch.tensor(7), "initted": torch.tensor(True)})
    [source] = find_sources([Path("both.pt")])
    assert torch.equal(source.load()["online_model.embed.W_E"], network(1)["embed.W_E"])
    assert len(source.shapes) == len(network(1))
    assert source.notes == (
        "'ema_model', a mean of the weights over steps, was left out: the weights themselves were taken",
    )
    averaged = {f"module.{name}": tensor for name, tensor in network(1).items()}
    save("mean.pt", {"n_averaged": torch.tensor(9), **averaged})
    assert find_sources([Path("mean.pt")])[0].load().keys() == averaged.keys()


def test_a_diverged_end_is_left_out_and_one_in_the_middle_is_named():
    for step in range(1, 6):
        save(f"run/{step}.pt", network(step) if step < 4 else {k: v * torch.nan for k, v in network(step).items()})
    kept = without_diverged_end(found())
    assert [source.step for source in kept] == [1, 2, 3]
    assert kept[-1].notes == ("the last 2 checkpoints, from step 4 on, hold NaN (training diverged) and were left out",)
    save("run/5.pt", network(5))
    kept = without_diverged_end(found())
    assert [source.step for source in kept] == [1, 2, 3, 4, 5]
    with pytest.raises(
        InputError, match=r"4.pt: embed.W_E holds NaN or infinity, .* leave this checkpoint out: move it"
    ):
        kept[3].load()
    for step in (1, 2, 3, 5):
        Path(f"run/{step}.pt").unlink()
    save("run/5.pt", {k: v * torch.nan for k, v in network(5).items()})
    with pytest.raises(InputError, match="every checkpoint holds NaN or infinity; training diverged at once"):
        without_diverged_end(found())


def test_a_trainers_folder_imports_whole_and_says_what_was_left_out(capsys: pytest.CaptureFixture):
    reference = interp.open_run(interp.reference_path())
    for step in (1000, 2000, 3000):
        weights = {
            name: weight * (torch.nan if step == 3000 else 1) for name, weight in reference[step].weights.items()
        }
        save(f"out/checkpoint-{step}/model.safetensors", weights)
        save(f"out/checkpoint-{step}/optimizer.pt", OPTIMIZER)
    assert main(["import", "out", "--out", "run"]) == 0
    said = capsys.readouterr().out
    assert "'checkpoint-*/optimizer.pt' (3 of them) were passed over: it holds the state of an optimizer" in said
    assert "the last checkpoint, from step 3,000 on, holds NaN (training diverged) and was left out" in said
    assert "verified at step 2000" in said
    run = open_run("run")
    assert run.steps == [1000, 2000]
    assert run.info["imported"]["files"] == ["checkpoint-1000/model.safetensors", "checkpoint-2000/model.safetensors"]
    assert main(["import", "out", "--dry-run"]) == 0
    assert "'checkpoint-*/optimizer.pt' (3 of them)" in capsys.readouterr().out


def test_the_means_of_an_optimizer_are_no_network():
    moments = {"exp_avg": torch.ones(4, 4), "exp_avg_sq": torch.ones(4, 4)}
    save("optimizer.pt", {"state": {"W_E": moments, "W_U": moments}, "param_groups": [{"lr": 1e-3}]})
    with pytest.raises(InputError, match=r"no state dict .* holds the state of an optimizer: it has 'state'"):
        find_sources([Path("optimizer.pt")])
    save("run/optimizer.pt", {"state": {0: moments, 1: moments}, "param_groups": [{"lr": 1e-3}]})
    save("run/step_3.pt", network(0))
    assert steps() == [3]
