"""Thousands of damaged imports, each of which must end in the network that was meant, or in one clear line, soon.

    .venv/bin/python -m tests.mutate_checkpoints --files 10000

Sound networks that are proved, in every kind of file and folder that is read, with what lies beside them and what
options name, and curves. One to three files are damaged; each is imported for real, and what is read is held against
what the sound ones give. Where the damaged files have sums (the CRC-32 of zip archives: `.pt`, `.npz`), weights,
steps, task and split must be the same to the last bit. safetensors, `.npy` and text have none, and no reader can know a
flipped bit in them, nor in an archive whose sums somebody made anew: there the weights must be those that another
reader (the library of the format) finds in the damaged file, and a network that answers wrongly is not proved. These
are counted apart.

A traceback, a run left behind half-written, something that was executed, more than a line, ten seconds of work, a
hang, or a network that is another one and not said to be ends the script with an assertion that names the number and
the seed.
"""

import argparse
import contextlib
import faulthandler
import io
import os
import random
import resource
import shutil
import tempfile
import time
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch

from interp.errors import InputError
from interp.interchange import curves, import_run
from interp.runs import Run
from tests.interchange.mutations import ARCHIVES, Layout, damaged, layouts, written

SECONDS, HANGS, MEGABYTES = 10, 300, 400  # of the processor; of the clock
ENDS = ("refused", "the same", "told to be unproved", "other, and no sum could tell")
Found = dict[str, Any]


def read(layout: Layout, place: Path) -> Found:
    """What an import, or `curves`, gives of a layout, to be compared."""
    if layout.curves:
        told = curves(place / layout.source)
        return {"curves": told.numbers, "verified": True}
    given: dict[str, Any] = {
        name: f"file:{place / value.removeprefix('file:')}" if name == "split" else place / value
        for name, value in layout.options.items()
    }
    task = {} if "configuration" in given else {"operation": "add"}
    return of_run(import_run(place / layout.source, "run", task=task, accept_unverified=True, **given))


def of_run(run: Run) -> Found:
    """Weights of every step to the last bit, and what they are of."""
    return {
        "weights": {step: {n: w.numpy().tobytes() for n, w in run[step].weights.items()} for step in run.steps},
        "task": (
            run.task.p,
            run.task.operation,
            tuple(run.task.train_indices.tolist()) if run.task.split_known else None,
        ),
        "model": run.model,
        "verified": run.info["imported"]["proof"]["verified"],
    }


def numbers(files: dict[str, bytes]) -> list[bytes]:
    """Every tensor that the libraries of the formats find in files, its numbers as float32 in their order."""
    found: list[Any] = []
    for name, content in files.items():
        with contextlib.suppress(Exception):  # whatever the library makes of a damaged file
            if name.endswith(".safetensors"):
                found += [tensor.float().numpy() for tensor in safetensors.torch.load(content).values()]
            elif name.endswith(".npy"):
                found += _rows(np.load(io.BytesIO(content), allow_pickle=False))
            elif name.endswith(".npz"):
                with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
                    found += [row for one in arrays for row in _rows(arrays[one])]
            elif name.endswith(ARCHIVES):
                with zipfile.ZipFile(io.BytesIO(content)) as archive:
                    entries = [name for name in archive.namelist() if "/data/" in name]
                    found += [np.frombuffer(archive.read(name), np.float32) for name in entries if "ser" not in name]
                with torch.serialization.safe_globals([argparse.Namespace]):
                    found += _tensors(torch.load(io.BytesIO(content), weights_only=True))
    return [np.sort(np.asarray(values, dtype=np.float32).ravel()).tobytes() for values in found]


def _rows(values: np.ndarray) -> list[np.ndarray]:
    """An array, which is one tensor or a series of one."""
    return [values, *(values if values.ndim else [])]


def _tensors(content: Any) -> list[np.ndarray]:
    if isinstance(content, torch.Tensor):
        return [content.float().numpy()]
    inside = content.values() if isinstance(content, dict) else content if isinstance(content, list | tuple) else ()
    return [tensor for one in inside for tensor in _tensors(one)]


def judged(meant: Found, found: Found, changed: dict[str, bytes], sound: dict[str, bytes], sealed: set[str]) -> str:
    """How an import of damaged files that was read ended. Raises AssertionError for another network that is not said to
    be."""
    if all(found.get(name) == meant[name] for name in meant):
        return ENDS[1]
    if "weights" in meant:
        # Whatever else was damaged: a weight is what the files say, to a reader that is not ours.
        tensors_meant = next(iter(meant["weights"].values()))
        known = set(numbers({**sound, **changed})) | {order(weight) for weight in tensors_meant.values()}
        for tensors in found["weights"].values():
            strange = [name for name in tensors if name in tensors_meant and order(tensors[name]) not in known]
            assert not strange, f"in no file: {strange}"
    if not found["verified"]:
        return ENDS[2]
    summed = [name for name in changed if name.endswith(ARCHIVES) and name not in sealed]
    assert len(summed) < len(changed), f"silently another: {sorted(changed)}"
    return ENDS[3]


def order(weight: bytes) -> bytes:
    return np.sort(np.frombuffer(weight, np.float32)).tobytes()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--files", type=int, default=500, help="how many (default: 500)")
    parser.add_argument("--seed", type=int, default=0, help="of the mutations (default: 0)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    kinds = layouts()
    ends = {layout.kind: Counter[str]() for layout in kinds}
    with tempfile.TemporaryDirectory() as temporary:
        os.chdir(temporary)
        place, run, meant, slowest = Path("place"), Path("run"), {}, 0.0
        for layout in kinds:
            written(layout.files, place)
            try:
                meant[layout.kind] = read(layout, place)
                assert meant[layout.kind]["verified"], f"{layout.kind} is not proved"
            except InputError as error:
                if not layout.is_refused:
                    raise AssertionError(f"{layout.kind}: {error}") from None
                meant[layout.kind] = {}
            shutil.rmtree(run, ignore_errors=True)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        began = time.monotonic()
        for number in range(options.files):
            named = f"number {number} of seed {options.seed}"
            chance = random.Random(f"{options.seed} {number}")
            layout = chance.choice(kinds)
            changed, sealed = damaged(layout.files, chance)
            written({**layout.files, **changed}, place)
            start, complaint, end = time.process_time(), "", ENDS[0]
            faulthandler.dump_traceback_later(HANGS, exit=True)
            try:
                found = read(layout, place)
                sound = {name: content for name, content in layout.files.items() if name not in changed}
                end = judged(meant[layout.kind], found, changed, sound, sealed)
            except InputError as error:
                complaint = str(error)
            except BaseException as error:
                print(f"{named}, {layout.kind}, {sorted(changed)}: {type(error).__name__}: {error}")
                raise
            faulthandler.cancel_dump_traceback_later()
            ends[layout.kind][end] += 1
            assert complaint.isprintable(), f"{named}: {complaint!r}"
            assert len(complaint) < 3000, f"{named}: {complaint}"
            assert layout.curves or run.exists() == (not complaint), f"{named} left a run behind"
            assert not Path("executed").exists(), f"{named} was executed"
            took = time.process_time() - start
            assert took < SECONDS, f"{named} took {took:.1f} s"
            slowest = max(slowest, took)
            shutil.rmtree(run, ignore_errors=True)
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        assert grown < MEGABYTES, f"memory grew by {grown:.0f} MB"
        left = [path.name for path in Path().iterdir() if path.name not in ("place", "run")]
        assert not left, f"left behind: {left}"
        os.chdir("/")
    for kind, counts in ends.items():
        print(f"{kind:<24} " + ", ".join(f"{counts[end]} {end}" for end in ENDS if counts[end]))
    total = sum(ends.values(), Counter())
    print(
        f"{options.files} damaged imports of {len(kinds)} kinds: " + ", ".join(f"{total[end]:,} {end}" for end in ENDS)
    )
    took = time.monotonic() - began
    print(f"no traceback, none silently another; slowest {slowest:.1f} s, memory +{grown:.0f} MB, {took:.0f} s")


if __name__ == "__main__":
    main()
