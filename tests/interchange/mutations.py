"""Sound checkpoints of every kind that is read, with what may lie beside them, and ways to damage their bytes."""

import argparse
import io
import json
import os
import random
import re
import shutil
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import safetensors.torch
import torch

from interp.experiment import Task
from interp.interchange import describe_sources
from interp.models import Weights
from interp.testing import circuit_checkpoint, circuit_neurons

P = 5
ARCHIVES = (".pt", ".bin", ".ckpt", ".npz")
TEXTS = (".json", ".yaml", ".toml", ".csv", ".tsv", ".jsonl")
ODD_WORDS = (
    "NaN",
    "1e999",
    "-1",
    "1000000000000000000",
    "9" * 5000,
    "null",
    "true",
    "[]",
    "{}",
    "\x00",
    "\x1b[31m",
    "0.5",
)
CONFIGURATION = {"prime": P, "operation": "add", "model": {"act_fn": "relu", "n_heads": 1}, "seed": 1}
PAIRS = list(range(0, P * P, 2))


class Executed:
    """Unpickled, it would make a folder, which is looked for at the end."""

    def __reduce__(self) -> tuple:
        return os.mkdir, ("executed",)


@dataclass
class Layout:
    """Files; what to import of them (their folder, or a file), and with which options; whether it is for `curves`."""

    kind: str
    files: dict[str, bytes]
    source: str = "."
    options: dict[str, Any] = field(default_factory=dict)
    curves: bool = False

    @property
    def is_refused(self) -> bool:
        """Whether it is refused as it is: it would run code, or is a bare pickle."""
        return self.kind.endswith(("with code", "before torch 1.6"))


def network() -> Weights:
    """A network of one circuit that answers every pair modulo 5: what is read right of it is proved."""
    planted = circuit_checkpoint(Task(P), circuit_neurons([1, 2], per_frequency=8))
    return {name: weight.float().contiguous() for name, weight in planted.weights.items()}


def saved(content: Any, **options: Any) -> bytes:
    """What torch.save writes."""
    file = io.BytesIO()
    torch.save(content, file, **options)
    return file.getvalue()


def packed(arrays: Any, save: Any = np.savez) -> bytes:
    """What numpy's savez writes."""
    file = io.BytesIO()
    save(file, **arrays)
    return file.getvalue()


def array(values: Any) -> bytes:
    """What numpy's save writes."""
    file = io.BytesIO()
    np.save(file, values)
    return file.getvalue()


def layouts() -> list[Layout]:
    """Sound checkpoints and curves of every kind that is read, and some that would run code."""
    return [*_files(), *_folders(), *_options(), *_curves()]


def _files() -> list[Layout]:
    weights = network()
    arrays = {name: tensor.numpy() for name, tensor in weights.items()}
    lightning = {
        "state_dict": {f"model.{name}": tensor for name, tensor in weights.items()},
        "global_step": 7,
        "pytorch-lightning_version": "2",
        "hyper_parameters": {"p": P},
    }
    kept = {"model": weights, "args": argparse.Namespace(p=P), "best": np.float64(1), "x": np.ones(3)}
    contents = {
        "safetensors": ("w.safetensors", safetensors.torch.save(weights, {"step": "3"})),
        "pt": ("w.pt", saved(weights)),
        "pt, with more": ("w.pt", saved({"model": weights, "epoch": 3, "train_acc": 1.0})),
        "pt, a series": ("w.pt", saved({"state_dicts": [weights, weights], "epochs": [1, 2]})),
        "pt, of Lightning": ("w.ckpt", saved(lightning)),
        "pt, with settings": ("w.pt", saved(kept)),
        "pt, before torch 1.6": ("w.pt", saved(weights, _use_new_zipfile_serialization=False)),
        "pt, with code": ("w.pt", saved({"model": weights, "extra": Executed()})),
        "npz": ("w.npz", packed(arrays)),
        "npz, packed": ("w.npz", packed({**arrays, "step": 3, "train_acc": 1.0}, np.savez_compressed)),
        "npz, a series": (
            "w.npz",
            packed({name: np.stack([a, a]) for name, a in arrays.items()} | {"steps": np.array([1, 2])}),
        ),
        "npz, with code": ("w.npz", packed({**arrays, "extra": np.array([Executed()], dtype=object)})),
    }
    return [Layout(kind, {name: content}, name) for kind, (name, content) in contents.items()]


def _folders() -> list[Layout]:
    weights = network()
    safe, names = safetensors.torch.save(weights), list(weights)
    arrays = {name: tensor.numpy() for name, tensor in weights.items()}
    series = {f"{name}.npy": array(np.stack([a, a])) for name, a in arrays.items()}
    known, split = json.dumps(CONFIGURATION).encode(), json.dumps({"train_indices": PAIRS, "p": P}).encode()
    optimizer = saved({"state": {0: {"exp_avg": torch.ones(4, 4)}}, "param_groups": [{"lr": 1e-3}]})

    def parts(ending: str, save: Any) -> dict[str, bytes]:
        of = {f"m-00001-of-00002.{ending}": names[:4], f"m-00002-of-00002.{ending}": names[4:]}
        index = {"metadata": {}, "weight_map": {name: file for file, some in of.items() for name in some}}
        files = {file: save({name: weights[name] for name in some}) for file, some in of.items()}
        return files | {f"m.{ending}.index.json": json.dumps(index).encode()}

    return [
        Layout("arrays", {f"{name}.npy": array(a) for name, a in arrays.items()}),
        Layout(
            "arrays, a series",
            series
            | {"steps.npy": array(np.array([1, 2])), "train_indices.npy": array(np.array(PAIRS))}
            | {"metrics.jsonl": b'{"step": 1, "train_accuracy": 1.0}\n{"step": 2, "train_accuracy": 1.0}\n'},
        ),
        Layout("safetensors, in parts", parts("safetensors", safetensors.torch.save)),
        Layout("bin, in parts", parts("bin", saved)),
        Layout(
            "a trainer's folder",
            {
                "checkpoint-1/model.safetensors": safe,
                "checkpoint-2/model.safetensors": safe,
                "checkpoint-2/optimizer.pt": optimizer,
                "checkpoint-2/trainer_state.json": b'{"global_step": 2}',
                "config.json": known,
                "metadata.json": split,
            },
        ),
        Layout(
            "a trainer's last",
            {
                "model.safetensors": safe,
                "trainer_state.json": b'{"global_step": 2}',
                "train_indices.json": b"[0, 3, 4]",
            },
        ),
        Layout(
            "a folder of steps",
            {
                "checkpoints/1.pt": saved(weights),
                "checkpoints/2.pt": saved(weights),
                "split.json": split,
                "args.json": known,
            },
        ),
        Layout(
            "a folder with YAML",
            {
                "1.pt": saved(weights),
                "training_args.bin": saved(Executed()),
                "hparams.yaml": b"p: 5\nmodel:\n  n_heads: 1\n  act_fn: relu\n",
            },
        ),
    ]


def _options() -> list[Layout]:
    weights = network()
    lone = {"w.pt": saved(weights)}
    pairs = {
        "s.json": json.dumps([[n // P, n % P] for n in PAIRS]).encode(),
        "s.npy": array(np.array(PAIRS)),
        "s.npz": packed({"train_indices": np.array(PAIRS)}),
        "s.safetensors": safetensors.torch.save({"train_indices": torch.tensor(PAIRS)}),
    }
    configurations = {
        "c.json": json.dumps(CONFIGURATION).encode(),
        "c.yaml": b"p: 5\noperation: add\nmodel: {n_heads: 1, act_fn: relu}\n",
        "c.toml": b'[task]\np = 5\noperation = "add"\n[model]\nn-heads = 1\n',
    }
    with TemporaryDirectory() as folder:
        written(lone, Path(folder))
        mapping = describe_sources(f"{folder}/w.pt", task={"p": P, "operation": "add"}).mapping.encode()
    return [
        Layout("--mapping", lone | {"m.toml": mapping}, "w.pt", {"mapping": "m.toml"}),
        *(Layout(f"--split {n}", lone | {n: c}, "w.pt", {"split": f"file:{n}"}) for n, c in pairs.items()),
        *(Layout(f"--config {n}", lone | {n: c}, "w.pt", {"configuration": n}) for n, c in configurations.items()),
    ]


def _curves() -> list[Layout]:
    steps = list(range(0, 3000, 10))
    columns = {
        "step": steps,
        "train_acc": [0.01] * 10 + [1.0] * 290,
        "test_acc": [round(min(1.0, 0.01 + 0.001 * max(0, step - 900)), 4) for step in steps],
    }
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    lines = [",".join(columns), *(",".join(map(str, row.values())) for row in rows)]
    contents = {
        "c.csv": "\n".join(lines).encode() + b"\n",
        "c.tsv": "\n".join(lines).replace(",", "\t").encode() + b"\n",
        "c.json": json.dumps(columns).encode(),
        "trainer_state.json": json.dumps({"log_history": rows}).encode(),
        "c.jsonl": "".join(json.dumps(row) + "\n" for row in rows).encode(),
        "c.npz": packed({name: np.array(values) for name, values in columns.items()}),
    }
    return [Layout(f"curves {name}", {name: content}, name, curves=True) for name, content in contents.items()]


def written(files: dict[str, bytes], place: Path) -> None:
    """The files, and nothing else, in a folder."""
    shutil.rmtree(place, ignore_errors=True)
    for name, content in files.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(content)


def damaged(files: dict[str, bytes], chance: random.Random) -> tuple[dict[str, bytes], set[str]]:
    """The one to three of the files that were mutated, and which of them are archives whose sums are right again: an
    adversary writes these, no failing disk."""
    hit = chance.sample(sorted(files), min(len(files), chance.choice((1, 1, 2, 3))))
    changed, sealed = {}, set()
    for name in hit:
        if name.endswith(ARCHIVES) and zipfile.is_zipfile(io.BytesIO(files[name])) and chance.random() < 0.4:
            changed[name] = resealed(files[name], chance)
            sealed.add(name)
        elif name.endswith(TEXTS) and chance.random() < 0.6:
            changed[name] = reworded(files[name], chance)
        else:
            changed[name] = mutated(files[name], chance)
    return changed, sealed


def resealed(original: bytes, chance: random.Random) -> bytes:
    """An archive with one of its entries mutated, most often what describes the others, and every sum right."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(original)) as old, zipfile.ZipFile(out, "w") as new:
        names = old.namelist()
        programs = [name for name in names if name.endswith("data.pkl")]
        hit = programs[0] if programs and chance.random() < 0.7 else chance.choice(names)
        for entry in old.infolist():
            content = old.read(entry)
            new.writestr(entry.filename, mutated(content, chance) if entry.filename == hit else content)
    return out.getvalue()


def reworded(original: bytes, chance: random.Random) -> bytes:
    """A text with one to four of its letters or digits turned into others, or a word of it into something odd."""
    text = original.decode()
    if chance.random() < 0.3:
        words = re.findall(r"[\w.]+", text)
        return text.replace(chance.choice(words), chance.choice(ODD_WORDS), 1).encode()
    letters = list(text)
    for _ in range(chance.choice((1, 1, 2, 4))):
        letters[chance.randrange(len(letters))] = chance.choice('0123456789-.eE,:[]{}" \naIN')
    return "".join(letters).encode()


def mutated(original: bytes, chance: random.Random) -> bytes:
    """One bit flipped; or one to eight bytes or stretches set, cut, inserted, repeated or swapped, half of them near
    the file's descriptions of itself."""
    content = bytearray(original)
    if content and chance.random() < 0.3:
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        return bytes(content)
    # Half of them keep every offset, or hardly anything would be read beyond a file's first description of itself.
    ways = ("set", "flip", "large") if chance.random() < 0.5 else ("set", "flip", "cut", "insert", "repeat", "large")
    for _ in range(chance.choice((1, 1, 2, 8))):
        at = chance.randrange(min(len(content), 700) if chance.random() < 0.5 else len(content)) if content else 0
        length = chance.choice((1, 2, 4, 8, 64))
        how = chance.choice(ways)
        if how == "set":
            content[at : at + length] = chance.randbytes(length)
        elif how == "flip" and content:
            content[at] ^= 1 << chance.randrange(8)
        elif how == "cut":
            del content[at : at + length]
        elif how == "insert":
            content[at:at] = chance.randbytes(length)
        elif how == "repeat":
            content[at:at] = content[at : at + length]
        else:
            content[at : at + 4] = b"\xff\xff\xff\x7f"
    return bytes(content)
