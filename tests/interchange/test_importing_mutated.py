"""Sound files and folders with bytes set, cut, inserted and repeated: each ends in sound tensors or in one clear line.

tests/mutate_checkpoints.py does the same thousands of times, with whole imports."""

import io
import json
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
from hypothesis import given, settings
from hypothesis import strategies as st

from interp.errors import InputError
from interp.interchange.importing.configuration import configuration_of
from interp.interchange.importing.pickles import load_pickled
from interp.interchange.importing.sources import find_sources
from tests.interchange.archives import rezipped, saved, sound
from tests.interchange.mutations import Layout, damaged, layouts, written
from tests.mutate_checkpoints import judged, read


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)


def formats() -> list[bytes]:
    weights = sound()
    return [
        saved(weights),
        saved({"model": weights, "epoch": 3, "train_loss": 0.5}),
        safetensors.torch.save(weights, {"step": "3"}),
        packed({name: weight.numpy() for name, weight in weights.items()}),
    ]


def packed(arrays: dict[str, Any]) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def array(values: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, values)
    return file.getvalue()


def folders() -> list[dict[str, bytes]]:
    """Checkpoints of several files: arrays of a series, parts with their index, a folder of a run."""
    weights = sound()
    names = list(weights)
    places = {name: f"model-0000{1 + (place > 3)}-of-00002.safetensors" for place, name in enumerate(names)}
    return [
        {f"{name}.npy": array(np.stack([weight.numpy()] * 2)) for name, weight in weights.items()}
        | {"steps.npy": array(np.array([1, 2])), "train_indices.npy": array(np.arange(9))},
        {
            file: safetensors.torch.save({name: weights[name] for name in names if places[name] == file})
            for file in places.values()
        }
        | {"model.safetensors.index.json": json.dumps({"weight_map": places}).encode()},
        {
            "checkpoint-1/model.safetensors": safetensors.torch.save(weights),
            "checkpoint-1/optimizer.pt": saved({"state": {}, "param_groups": []}),
            "config.json": b'{"p": 5, "model": {"n_heads": 2}}',
            "metadata.json": b'{"train_indices": [0, 3, 4]}',
        },
    ]


ORIGINALS = formats()
FOLDERS = folders()
LAYOUTS = layouts()
FEW = 3 * len(LAYOUTS)
WAYS = ("set", "cut", "insert", "repeat")
CHANGES = st.lists(st.tuples(st.integers(0, 2**20), st.integers(0, 255), st.sampled_from(WAYS)), min_size=1, max_size=6)


def mutated(original: bytes, changes: list[tuple[int, int, str]]) -> bytes:
    content = bytearray(original)
    for place, value, how in changes:
        at = place % max(len(content), 1)
        if how == "set" and content:
            content[at] = value
        elif how == "cut":
            del content[at : at + 1 + value]
        elif how == "insert":
            content[at:at] = bytes([value]) * (1 + value % 9)
        else:
            content[at:at] = content[at : at + value]
    return bytes(content)


def clear_end(content: bytes, path: Path) -> None:
    """Reading a file ends in sound tensors or in one clear line."""
    path.write_bytes(content)
    clear_end_of(path)


def clear_end_of(path: Path) -> None:
    complaint = ""
    try:
        for source in find_sources([path]):
            source.load()
            configuration_of(source)
    except InputError as error:
        complaint = str(error)
    assert "\n" not in complaint
    assert len(complaint) < 2000


@settings(max_examples=300, deadline=60_000)
@given(original=st.sampled_from(range(len(ORIGINALS))), changes=CHANGES)
def test_mutated_files_end_in_one_clear_line(
    tmp_path_factory: pytest.TempPathFactory, original: int, changes: list[tuple[int, int, str]]
):
    clear_end(mutated(ORIGINALS[original], changes), tmp_path_factory.getbasetemp() / "mutated.pt")


@settings(max_examples=200, deadline=60_000)
@given(original=st.sampled_from(range(len(FOLDERS))), hit=st.integers(0, 20), changes=CHANGES)
def test_mutated_folders_end_in_one_clear_line(
    tmp_path_factory: pytest.TempPathFactory, original: int, hit: int, changes: list[tuple[int, int, str]]
):
    """One file of the folder is changed: weights, an index, a configuration, a split."""
    folder = tmp_path_factory.getbasetemp() / f"mutated-{original}"
    layout = FOLDERS[original]
    for place, (name, content) in enumerate(layout.items()):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(mutated(content, changes) if place == hit % len(layout) else content)
    clear_end_of(folder)


@settings(max_examples=200, deadline=60_000)
@given(place=st.integers(0, 200), value=st.integers(0, 255))
def test_mutated_headers_of_arrays_end_in_one_clear_line(
    tmp_path_factory: pytest.TempPathFactory, place: int, value: int
):
    """The arrays alone are changed, inside an archive that is whole."""

    def change(_: str, old: bytes) -> bytes:
        at = place % len(old)
        return old[:at] + bytes([value]) + old[at + 1 :]

    clear_end(rezipped(ORIGINALS[3], change), tmp_path_factory.getbasetemp() / "headers.npz")


@settings(max_examples=100, deadline=60_000)
@given(place=st.integers(0, 10_000), value=st.integers(0, 255))
def test_mutated_programs_end_in_one_clear_line(tmp_path_factory: pytest.TempPathFactory, place: int, value: int):
    """The pickle alone is changed, inside an archive that is whole."""

    def change(name: str, old: bytes) -> bytes:
        if not name.endswith("data.pkl"):
            return old
        at = place % len(old)
        return old[:at] + bytes([value]) + old[at + 1 :]

    clear_end(rezipped(ORIGINALS[1], change), tmp_path_factory.getbasetemp() / "program.pt")


def test_the_sound_files_are_read():
    for number, content in enumerate(ORIGINALS):
        Path(f"{number}.bin").write_bytes(content)
        (source,) = find_sources([Path(f"{number}.bin")])
        assert source.load().keys() == sound().keys()
    for number, layout in enumerate(FOLDERS):
        for name, content in layout.items():
            path = Path(f"folder-{number}", name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        assert all(source.load().keys() == sound().keys() for source in find_sources([Path(f"folder-{number}")]))
    assert load_pickled(Path("1.bin"))["epoch"] == 3


def test_damaged_imports_end_in_what_was_meant_or_in_one_clear_line(tmp_path: Path):
    """Whole imports of every kind: where archives have sums nothing else is read; elsewhere what the formats' own
    libraries read."""
    place, ends = tmp_path / "place", set()
    for number in range(FEW):
        layout = LAYOUTS[number % len(LAYOUTS)]
        changed, sealed = damaged(layout.files, random.Random(number))
        written({**layout.files, **changed}, place)
        found, complaint = read_or_refused(layout, place)
        assert complaint.isprintable()
        assert len(complaint) < 3000
        assert layout.curves or Path("run").exists() == (not complaint)
        shutil.rmtree("run", ignore_errors=True)
        ends.add("refused" if complaint else "read")
        if found is not None:
            written(layout.files, place)
            sound_files = {name: content for name, content in layout.files.items() if name not in changed}
            ends.add(judged(read(layout, place), found, changed, sound_files, sealed))
            shutil.rmtree("run", ignore_errors=True)
    assert not Path("executed").exists()
    assert {"refused", "read", "the same"} <= ends


def read_or_refused(layout: Layout, place: Path) -> tuple[Any, str]:
    """What is read, or why nothing is."""
    try:
        return read(layout, place), ""
    except InputError as error:
        return None, str(error)
