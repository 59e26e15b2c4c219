"""What lies beside weights: configurations in their authors' words, training pairs, seeds; in the folder or above."""

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

import interp
from interp.cli import main
from interp.errors import InputError
from interp.experiment import ModelConfig
from interp.interchange import import_run
from interp.interchange.importing.beside import read_configuration
from interp.interchange.importing.configuration import configuration_of, from_keys, raw_configuration, seeds_in
from interp.interchange.importing.sources import find_sources
from interp.interchange.importing.splits import split_of
from interp.models import initial_weights
from interp.runs import open_run

WEIGHTS = initial_weights(ModelConfig(d_model=4, n_heads=2, d_mlp=3), 5)
P = 7


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def run_folder() -> tuple[Path, list[int]]:
    """A folder of a run as a training script leaves it: configuration and split above the checkpoints."""
    reference = interp.open_run(interp.reference_path())
    folder = Path("RUN")
    (folder / "checkpoints").mkdir(parents=True)
    for step in (1000, 2000, 3000):
        torch.save(reference[step].weights, folder / f"checkpoints/checkpoint_epoch_{step:05d}.pt")
    known = {"prime": 43, "training_fraction": 0.45, "act_fn": "relu", "n_heads": 4, "data_seed": 598}
    (folder / "config.json").write_text(json.dumps(known))
    indices = reference.task.train_indices.tolist()
    (folder / "metadata.json").write_text(json.dumps({"train_indices": indices, "checkpoint_epochs": [1000]}))
    return folder, indices


@pytest.mark.parametrize("named", ["RUN", "RUN/checkpoints"])
def test_a_run_folder_imports_whole(named: str, run_folder: tuple[Path, list[int]], capsys: pytest.CaptureFixture):
    assert main(["import", named, "--out", "run"]) == 0
    run = open_run("run")
    assert run.steps == [1000, 2000, 3000]
    assert run.task.train_indices.tolist() == run_folder[1]
    said = capsys.readouterr().out
    assert "split the file metadata.json" in said
    assert 'config.json says: p 43, train_fraction 0.45, activation "relu", n_heads 4' in said
    assert find_sources([Path(named)])[-1].beside["seeds"] == {"data_seed": 598}


def test_the_metadata_can_be_named_as_the_split(run_folder: tuple[Path, list[int]]):
    way = "file:RUN/metadata.json"
    run = import_run("RUN/checkpoints/checkpoint_epoch_03000.pt", "run", split=way)
    assert run.task.train_indices.tolist() == run_folder[1]
    (run_folder[0] / "checkpoints/config.json").write_text("[1]")
    with pytest.raises(InputError, match=r"config.json is no configuration: it holds a list, expected an object"):
        import_run("RUN", "other")


FLAT = [0, 3, 17, 48]
PAIRS = [list(divmod(index, P)) for index in FLAT]


@pytest.mark.parametrize(
    "content",
    [
        FLAT,
        PAIRS,
        {"train_indices": FLAT, "test_indices": [1, 2]},
        {"train_pairs": PAIRS},
        {"p": P, "split": {"train": FLAT, "test": [1]}},
        {"data": {"train_idx": FLAT}},
        {"train": [{"a": a, "b": b, "label": (a + b) % P} for a, b in PAIRS]},
        {"train_mask": [index in FLAT for index in range(P * P)]},
        {"train_mask": [[P * a + b in FLAT for b in range(P)] for a in range(P)]},
    ],
)
def test_training_pairs_as_people_store_them(content: Any):
    Path("pairs.json").write_text(json.dumps(content))
    assert split_of("file:pairs.json", P, None) == (tuple(FLAT), "the file pairs.json")


@pytest.mark.parametrize("row", [lambda a, b: [a, b, P], lambda a, b: [a, P, b], lambda a, b: [a, b, (a + b) % P]])
def test_rows_with_tokens_or_answers(row: Any):
    indices = tuple(range(0, P * P, 2))
    rows = [row(*divmod(index, P)) for index in indices]
    Path("pairs.json").write_text(json.dumps({"train_data": rows}))
    assert split_of("file:pairs.json", P, None)[0] == indices
    np.savez("pairs.npz", train_data=np.array(rows), losses=np.ones(4))
    assert split_of("file:pairs.npz", P, None)[0] == indices


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"a": 1}, r"pairs.json holds an object with 'a'; expected a list, or one called 'train_indices'"),
        ({"train": [0.5, 0.1]}, "pairs.json holds an object with 'train'"),
        ({"train": [[1, 2], [3]]}, "pairs.json holds rows of different lengths"),
        ({"train": [{"q": 1}]}, "pairs.json holds objects with q, expected pairs"),
        ({"train_indices": [0, 50]}, "holds 0 to 50, expected indices"),
    ],
)
def test_what_is_no_list_of_pairs(content: Any, expected: str):
    Path("pairs.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=expected):
        split_of("file:pairs.json", P, None)


@pytest.mark.parametrize("place", ["net", "net/checkpoints", "net/checkpoints/step_5", "net/best_model"])
@pytest.mark.parametrize(
    "name", ["train_indices.json", "train_idx.npy", "split.json", "split.safetensors", "metadata.json"]
)
def test_training_pairs_beside_or_above(place: str, name: str):
    Path(place).mkdir(parents=True)
    torch.save(WEIGHTS, f"{place}/w.pt")
    assert "train_indices" not in find_sources([Path(place, "w.pt")])[0].beside
    if name.endswith(".npy"):
        np.save(f"net/{name}", np.array([0, 3]))
    elif name.endswith(".safetensors"):
        safetensors.torch.save_file({"train_indices": torch.tensor([0, 3])}, f"net/{name}")
    else:
        Path("net", name).write_text(json.dumps([0, 3] if name.startswith("train") else {"train": [0, 3]}))
    [source] = find_sources([Path(place, "w.pt")])
    assert source.beside["train_indices"].tolist() == [0, 3]
    assert source.beside["train_indices_from"] == name


def test_what_is_further_off_is_somebody_elses():
    Path("mine/net").mkdir(parents=True)
    torch.save(WEIGHTS, "mine/net/w.pt")
    Path("mine/metadata.json").write_text(json.dumps({"train_indices": [1], "p": 5}))
    [source] = find_sources([Path("mine/net")])
    assert configuration_of(source) == ({}, {}, "")
    assert "train_indices" not in source.beside


# ---- configurations --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "task", "model"),
    [
        ({"P": 97, "operator": "+"}, {"p": 97, "operation": "add"}, {}),
        (
            {"model": {"n_heads": 4, "d_ff": 512, "dim": 128}, "task": {"prime": 97, "op": "x/y_mod_97"}, "seed": 0},
            {"p": 97, "operation": "divide"},
            {"n_heads": 4, "d_mlp": 512, "d_model": 128},
        ),
        ({"data": {"train_pct": 30}, "task": "modular_addition"}, {"train_fraction": 0.3, "operation": "add"}, {}),
        ({"p": {"value": 113, "desc": None}, "lr": {"value": 0.001}}, {"p": 113}, {}),
        ({"hidden_dim": 200}, {}, {"d_mlp": 200}),
        ({"hidden_size": 200, "embed_dim": 10}, {}, {"d_model": 10, "d_mlp": 200}),
        ({"hidden_size": 200, "num_attention_heads": 4}, {}, {"n_heads": 4, "d_model": 200}),
        ({"hidden_dim": 200, "num_heads": 4}, {}, {"n_heads": 4}),
        (
            {"tie_word_embeddings": True, "norm_first": False, "layer_norm_eps": 1e-6},
            {},
            {"tied": True, "norm": {"order": "post", "epsilon": 1e-6}},
        ),
        ({"normalization_type": "LN", "eps": 1e-5}, {}, {"norm": {"kind": "layer", "epsilon": 1e-5}}),
        ({"normalization_type": None, "eps": 1e-5}, {}, {"norm": {"kind": "none"}}),
        ({"normalization_type": "RMSPre"}, {}, {"norm": {"kind": "rms", "learned": False}}),
        ({"use_ln": False, "eps": 1e-8, "optimizer": {"layer_norm_eps": 1.0}}, {}, {"norm": {"kind": "none"}}),
        ({"activation": "nn.ReLU", "norm": "rmsnorm", "pre_norm": True}, {}, {
            "activation": "relu", "norm": {"kind": "rms", "order": "pre"},
        }),
        ({"p": 7, "model": {"p": 5, "model": {"model": {"model": {"model": {"d_head": 3}}}}}}, {"p": 7}, {}),
    ],
)  # fmt: skip
def test_words_in_the_wild(content: dict, task: dict, model: dict):
    assert from_keys(content) == (task, model)


def test_seeds_are_handed_on():
    assert seeds_in({"seed": 3, "model": {"init_seed": 1}, "data": {"split_seed": True}}) == {"seed": 3, "init_seed": 1}


def test_yaml_beside_the_weights_is_read_and_runs_nothing(monkeypatch: pytest.MonkeyPatch):
    Path("version_0/checkpoints").mkdir(parents=True)
    torch.save(WEIGHTS, "version_0/checkpoints/epoch=3-step=70.ckpt")
    Path("version_0/hparams.yaml").write_text("p: 5\nmodel:\n  n_heads: 2\n")
    [source] = find_sources([Path("version_0")])
    assert source.step == 70
    assert configuration_of(source) == ({"p": 5}, {"n_heads": 2}, "hparams.yaml")
    hostile = "!!python/object/apply:os.mkdir ['executed']\n"
    Path("version_0/hparams.yaml").write_text(hostile)
    assert configuration_of(source) == ({}, {}, "")
    [note] = find_sources([Path("version_0")])[0].notes
    assert note.startswith("not read: hparams.yaml is no plain YAML: could not determine a constructor for the tag")
    monkeypatch.setitem(sys.modules, "yaml", None)
    [note] = find_sources([Path("version_0")])[0].notes
    assert note == "not read: hparams.yaml is YAML, which needs PyYAML: pip install pyyaml, or save it as JSON"
    monkeypatch.delitem(sys.modules, "yaml")
    Path("given.yaml").write_text(hostile)
    with pytest.raises(InputError, match=r"given.yaml is no plain YAML: could not determine a constructor"):
        configuration_of(source, Path("given.yaml"))
    assert not Path("executed").exists()


@pytest.mark.parametrize("repeated", ["<<: [{}]", "list: [{}]"])
def test_yaml_that_repeats_itself_without_end_is_refused_at_once(repeated: str):
    torch.save(WEIGHTS, "net.pt")
    lines = ["a0: &a0 {p: 5}"]
    for level in range(1, 12):
        inner = repeated.format(", ".join([f"*a{level - 1}"] * 9))
        lines.append(f"a{level}: &a{level} {{{inner}}}")
    Path("config.yaml").write_text("\n".join(lines))
    began = time.process_time()  # whatever else the machine is doing
    [note] = find_sources([Path("net.pt")])[0].notes
    assert note.startswith("not read: config.yaml is no plain YAML: it repeats what repeats itself")
    assert time.process_time() - began < 20
    Path("config.yaml").write_text("base: &base {p: 5}\ntask: {<<: *base, x: 1}\nbetas: &id001 [1, 2]\nmore: *id001\n")
    assert read_configuration(Path("config.yaml"))["task"] == {"p": 5, "x": 1}


def test_a_configuration_that_is_no_file_of_its_own(tmp_path: Path):
    Path("net").mkdir()
    torch.save(WEIGHTS, "net/w.pt")
    Path("elsewhere.json").write_text(json.dumps({"p": 5}))
    Path("net/config.json").symlink_to(tmp_path / "elsewhere.json")
    assert configuration_of(find_sources([Path("net")])[0]) == ({}, {}, "")
    Path("net/config.json").unlink()
    Path("net/config.json").write_bytes(b"version https://git-lfs")
    with pytest.raises(InputError, match=r"net/config.json is damaged: .*; give another one: --config FILE"):
        configuration_of(find_sources([Path("net")])[0])


def test_a_configuration_as_its_author_wrote_it():
    torch.save({"model": WEIGHTS, "args": {"width": 3}}, "w.pt")
    [source] = find_sources([Path("w.pt")])
    assert raw_configuration(source) == {"width": 3}
    Path("config.json").write_text(json.dumps({"theirs": 1}))
    assert raw_configuration(source) == {"theirs": 1}
    Path("given.toml").write_text("of_theirs = 2\n")
    assert raw_configuration(source, Path("given.toml")) == {"of_theirs": 2}
    Path("given.json").write_text("[1]")
    assert raw_configuration(source, Path("given.json")) is None


def test_a_modulus_of_thousands_of_digits_is_not_printed():
    torch.save(WEIGHTS, "net.pt")
    Path("config.json").write_text(json.dumps({"p": 10**4000}))
    [source] = find_sources([Path("net.pt")])
    assert configuration_of(source)[0] == {}
    with pytest.raises(InputError, match=r"task.p must be at most .*, got an integer of 13,288 bits") as caught:
        interp.Task(10**4000)
    assert len(str(caught.value)) < 100
