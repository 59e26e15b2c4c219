"""Thousands of damaged checkpoints, files and folders of them, each of which must end in sound tensors or in one clear
line, soon, in little memory.

    .venv/bin/python tests/mutate_checkpoints.py --files 10000

Every one is imported for real; of a folder, one to three files are damaged: weights, index, configuration, split. One
that takes more than ten seconds, a traceback, a run that is left behind half-written, something that was executed, or
memory beyond what the sound files take ends the script with an assertion that names the seed.
"""

import argparse
import contextlib
import io
import json
import os
import random
import resource
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch

from interp.errors import InputError
from interp.experiment import ModelConfig
from interp.interchange import import_run
from interp.models import initial_weights
from interp.runs import open_run

SECONDS, MEGABYTES = 10, 200
Layout = dict[str, bytes]  # files of a folder; of a lone file, that file


class Executed:
    """Unpickled, it would make a folder, which is looked for at the end."""

    def __reduce__(self) -> tuple:
        return os.mkdir, ("executed",)


def saved(content: Any) -> bytes:
    """What torch.save writes."""
    file = io.BytesIO()
    torch.save(content, file)
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


def originals() -> list[Layout]:
    """Sound checkpoints of every kind that is read, and some that would run code."""
    weights = initial_weights(ModelConfig(d_model=4, n_heads=2, d_mlp=3), 5)
    arrays = {name: tensor.numpy() for name, tensor in weights.items()}
    safe = safetensors.torch.save(weights, {"step": "3"})
    names = list(weights)
    parts = {"model-00001-of-00002.safetensors": names[:4], "model-00002-of-00002.safetensors": names[4:]}
    index = {"metadata": {}, "weight_map": {name: file for file, some in parts.items() for name in some}}
    optimizer = saved({"state": {0: {"exp_avg": torch.ones(4, 4)}}, "param_groups": [{"lr": 1e-3}]})
    known = json.dumps({"prime": 5, "model": {"act_fn": "relu", "n_heads": 2}, "seed": 1}).encode()
    split = json.dumps({"train_indices": list(range(0, 25, 2)), "p": 5}).encode()
    lightning = {
        "state_dict": {f"model.{name}": tensor for name, tensor in weights.items()},
        "global_step": 7,
        "pytorch-lightning_version": "2",
        "hyper_parameters": {"p": 5},
    }
    return [
        {"file.safetensors": safe},
        *({"file.pt": saved(content)} for content in (weights, {"model": weights, "epoch": 3, "train_loss": 0.5})),
        {"file.pt": saved({"state_dicts": [weights, weights], "epochs": [1, 2]})},
        {"file.ckpt": saved(lightning)},
        {"file.pt": saved({"model": weights, "args": argparse.Namespace(p=5), "loss": np.float64(1), "x": np.ones(3)})},
        {"file.npz": packed(arrays)},
        {"file.npz": packed({**arrays, "step": 3, "train_loss": 0.5}, np.savez_compressed)},
        {"file.npz": packed({**arrays, "extra": np.array([Executed()], dtype=object)})},
        {"file.npz": packed({name: np.stack([a, a]) for name, a in arrays.items()} | {"steps": np.array([1, 2])})},
        {f"{name}.npy": array(values) for name, values in arrays.items()},
        {f"{name}.npy": array(np.stack([a, a])) for name, a in arrays.items()}
        | {"steps.npy": array(np.array([1, 2])), "train_indices.npy": array(np.arange(9))},
        {file: safetensors.torch.save({name: weights[name] for name in some}) for file, some in parts.items()}
        | {"model.safetensors.index.json": json.dumps(index).encode()},
        {
            "checkpoint-1/model.safetensors": safe,
            "checkpoint-2/model.safetensors": safetensors.torch.save(weights),
            "checkpoint-2/optimizer.pt": optimizer,
            "checkpoint-2/trainer_state.json": b'{"global_step": 2}',
            "config.json": known,
            "metadata.json": split,
        },
        {
            "checkpoints/1.pt": saved(weights),
            "checkpoints/2.pt": saved(weights),
            "split.json": split,
            "args.json": known,
        },
        {
            "1.pt": saved(weights),
            "training_args.bin": saved(Executed()),
            "hparams.yaml": b"p: 5\nmodel:\n  n_heads: 2\n",
        },
        {"file.pt": saved({"model": weights, "extra": Executed()})},
    ]


def written(layout: Layout, place: Path) -> Path:
    """The files of a layout, and what to import of them: the file, or their folder."""
    shutil.rmtree(place, ignore_errors=True)
    for name, content in layout.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(content)
    [first, *others] = layout
    return place if others else place / first


def damaged(layout: Layout, chance: random.Random) -> Layout:
    """One to three of its files mutated."""
    hit = chance.sample(sorted(layout), min(len(layout), chance.randint(1, 3)))
    return {name: mutated(content, chance) if name in hit else content for name, content in layout.items()}


def mutated(original: bytes, chance: random.Random) -> bytes:
    """One to eight bytes or stretches set, cut, inserted, repeated or swapped, half of them near the file's
    descriptions of itself."""
    content = bytearray(original)
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


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--files", type=int, default=500, help="how many (default: 500)")
    parser.add_argument("--seed", type=int, default=0, help="of the mutations (default: 0)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    chance, sound, refused, slowest = random.Random(options.seed), 0, 0, 0.0
    kinds = originals()
    with tempfile.TemporaryDirectory() as temporary:
        os.chdir(temporary)
        place, run = Path("place"), Path("run")
        for layout in kinds:
            with contextlib.suppress(InputError):
                import_run(
                    written(layout, place), run, task={"operation": "add"}, accept_unverified=True, overwrite=True
                )
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        began = time.monotonic()
        for number in range(options.files):
            shutil.rmtree(run, ignore_errors=True)
            source = written(damaged(chance.choice(kinds), chance), place)
            start, complaint, named = time.monotonic(), "", f"number {number} of seed {options.seed}"
            try:
                import_run(source, run, task={"operation": "add"}, accept_unverified=True)
                open_run(run)
                sound += 1
            except InputError as error:
                complaint = str(error)
                refused += 1
            assert complaint.isprintable(), f"{named}: {complaint!r}"
            assert len(complaint) < 3000, f"{named}: {complaint}"
            assert run.exists() == (not complaint), f"{named} left a run behind"
            assert not Path("executed").exists(), f"{named} was executed"
            slowest = max(slowest, time.monotonic() - start)
            assert slowest < SECONDS, f"{named} took {slowest:.1f} s"
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        assert grown < MEGABYTES, f"memory grew by {grown:.0f} MB"
        left = [path.name for path in Path().iterdir() if path not in (place, run)]
        assert not left, f"left behind: {left}"
        os.chdir("/")
    seconds = time.monotonic() - began
    print(
        f"{options.files} damaged checkpoints of {len(kinds)} kinds in {seconds:.0f} s: {refused} refused, {sound} read"
    )
    print(f"slowest {slowest:.2f} s, memory +{grown:.0f} MB")


if __name__ == "__main__":
    main()
