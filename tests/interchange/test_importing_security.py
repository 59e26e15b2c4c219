"""Hostile and damaged files: nothing in them is ever executed, and each ends in one clear line, soon, with nothing
written."""

import io
import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from interp.errors import InputError
from interp.experiment import ModelConfig
from interp.interchange import describe_sources, import_run
from interp.interchange.importing.configuration import configuration_of
from interp.interchange.importing.pickles import load_pickled
from interp.interchange.importing.sources import find_sources
from interp.models import Weights, initial_weights

MODEL = ModelConfig(d_model=4, n_heads=2, d_mlp=3)
HERE = Path()


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)


def sound() -> Weights:
    return initial_weights(MODEL, 5)


def saved(content: Any) -> bytes:
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


def rezipped(
    content: bytes, change: Callable[[str, bytes], bytes], compression: int = zipfile.ZIP_STORED, extra: str = ""
) -> bytes:
    """The archive again, every entry changed."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(out, "w", compression) as new:
        for entry in old.infolist():
            new.writestr(entry.filename, change(entry.filename, old.read(entry)))
        if extra:
            new.writestr(extra, b"x")
    return out.getvalue()


class Malicious:
    """Unpickled, it would make a file."""

    def __reduce__(self) -> tuple:
        return os.mkdir, ("executed",)


def refused(match: str) -> None:
    """Importing hostile.pt is refused, and nothing is executed or written."""
    before = sorted(HERE.iterdir())
    for attempt in (
        lambda: import_run("hostile.pt", "run", accept_unverified=True),
        lambda: describe_sources("hostile.pt"),
    ):
        with pytest.raises(InputError, match=match) as caught:
            attempt()
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 1000
    assert sorted(HERE.iterdir()) == before


@pytest.mark.parametrize(
    "content",
    [
        Malicious(),
        {"model": Malicious()},
        {"model": sound(), "epoch": Malicious()},
        sound() | {"extra": Malicious()},
        {"a": [1, {"b": (2, Malicious())}]},
        [sound(), Malicious()],
        {Malicious: 1},
    ],
    ids=["alone", "in a dictionary", "beside", "among tensors", "deep", "in a list", "a class"],
)
@pytest.mark.parametrize("bare", [False, True], ids=["torch.save", "pickle"])
def test_code_in_a_pickle_is_named_and_never_executed(content: Any, bare: bool):
    Path("hostile.pt").write_bytes(pickle.dumps(content) if bare else saved(content))
    refused(
        r"would run '(posix.mkdir|.*Malicious|torch.storage._load_from_bytes)', which is not .*; nothing of it "
        r"was executed"
    )


@pytest.mark.parametrize("protocol", range(6))
def test_every_protocol_names_the_code(protocol: int):
    program = pickle.dumps({"model": Malicious()}, protocol=protocol)
    Path("hostile.pt").write_bytes(
        rezipped(saved(sound()), lambda name, old: program if name.endswith("data.pkl") else old)
    )
    refused("would run 'posix.mkdir'")


def quietly(make: Callable[[], Any]) -> Any:
    """Some kinds of tensors announce with a warning that they will change."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return make()


HUGE = torch.zeros(1).expand(10**6, 10**6)
TENSORS: dict[str, tuple[Callable[[], torch.Tensor], str]] = {
    "sparse": (lambda: torch.eye(4).to_sparse(), "holds a sparse tensor"),
    "quantized": (
        lambda: torch.quantize_per_tensor(torch.eye(4), 0.1, 0, torch.qint8),
        "holds a quantized tensor|would run",
    ),
    "nested": (
        lambda: torch.nested.nested_tensor([torch.eye(2), torch.eye(3)]),
        "holds a nested tensor|would run|cannot be loaded",
    ),
    "meta": (lambda: torch.empty(4, 4, device="meta"), "holds a tensor without numbers"),
    "complex": (lambda: torch.eye(6, 4, dtype=torch.complex64), "tensor 'embed.W_E' is complex"),
    "huge and aliased": (lambda: HUGE, r"claims 1,000,000,000,000 numbers, and fewer are stored|no layout"),
    "NaN": (lambda: torch.full((6, 4), torch.nan), "embed.W_E holds NaN or infinity"),
    "too large for float32": (
        lambda: torch.full((6, 4), 1e300, dtype=torch.float64),
        "embed.W_E holds NaN or infinity",
    ),
    "whole numbers": (
        lambda: torch.ones(6, 4, dtype=torch.int64),
        "tensor 'embed.W_E' is of type torch.int64; weights are floating",
    ),
    "of eight bits": (lambda: torch.ones(6, 4).to(torch.float8_e4m3fn), "holds numbers of type torch.float8_e4m3fn"),
    "no number": (lambda: torch.zeros(0, 4), "no layout .* it is empty"),
    "a scalar": (lambda: torch.tensor(1.0), "no layout"),
}


@pytest.mark.parametrize("kind", TENSORS)
def test_tensors_that_are_no_weights(kind: str):
    make, expected = TENSORS[kind]
    Path("hostile.pt").write_bytes(quietly(lambda: saved(sound() | {"embed.W_E": make()})))
    with pytest.raises(InputError, match=expected) as caught:
        import_run("hostile.pt", "run", task={"operation": "add"}, accept_unverified=True)
    assert "\n" not in str(caught.value)
    assert not Path("run").exists()


def test_a_number_type_that_holds_no_more_than_float32_is_exact():
    weights = {name: weight.half() for name, weight in sound().items()}
    torch.save(weights, "half.pt")
    run = import_run("half.pt", "run", task={"operation": "add"}, accept_unverified=True)
    assert all(torch.equal(run.at(-1).weights[name], weight.float()) for name, weight in weights.items())


def test_aliased_weights_are_separated():
    weights = sound()
    weights["blocks.0.attn.W_K"] = weights["blocks.0.attn.W_Q"]
    torch.save(weights, "tied.pt")
    run = import_run("tied.pt", "run", task={"operation": "add"}, accept_unverified=True)
    assert torch.equal(run.at(-1).weights["blocks.0.attn.W_K"], weights["blocks.0.attn.W_Q"])


@pytest.mark.parametrize("name", ["train_indices", "train_idx", "epochs", "train_loss"])
def test_what_lies_beside_weights_is_no_larger_than_it_is_stored(name: str):
    """One whole number that claims to be a million million: listed, or sorted, it would take forever."""
    huge = torch.zeros(1, dtype=torch.int64).expand(10**12)
    torch.save({"state_dicts": [sound(), sound()], name: huge}, "hostile.pt")
    with pytest.raises(InputError, match=r"beside it 0 entries|no step is known"):
        find_sources([Path("hostile.pt")])
    torch.save({"model": sound(), name: huge}, "hostile.pt")
    [source] = find_sources([Path("hostile.pt")])
    assert name not in source.beside
    torch.save({"model": sound(), "split": {name: huge}}, "hostile.pt")
    if name.startswith("train_i"):
        with pytest.raises(InputError, match=r"claims 1,000,000,000,000 numbers"):
            find_sources([Path("hostile.pt")])


# ---- archives --------------------------------------------------------------------------------------------------------


def test_a_zip_bomb_is_refused_before_it_is_opened():
    bomb = rezipped(
        saved(sound()), lambda name, old: bytes(50_000_000) if name.endswith("data/0") else old, zipfile.ZIP_DEFLATED
    )
    assert len(bomb) < 1_000_000
    Path("hostile.pt").write_bytes(bomb)
    refused("is compressed, which torch.save never does: it may be built to fill the memory")


@pytest.mark.parametrize("name", ["../../escape/data.pkl", "/etc/data.pkl"])
def test_paths_in_an_archive_lead_nowhere(name: str):
    Path("hostile.pt").write_bytes(rezipped(saved(sound()), lambda _, old: old, extra=name))
    refused("2 entries data.pkl, expected 1")


def test_names_of_tensors_are_no_paths():
    torch.save(sound() | {"../../../evil": torch.ones(2)}, "hostile.pt")
    refused_or_named = r"tensor '\.\./\.\./\.\./evil' \[2\], which is not known to be of no use"
    with pytest.raises(InputError, match=refused_or_named):
        import_run("hostile.pt", "run", task={"operation": "add"})


def test_numbers_that_are_not_in_the_archive():
    Path("hostile.pt").write_bytes(
        rezipped(saved(sound()), lambda name, old: old[:4] if name.endswith("data/0") else old)
    )
    with pytest.raises(InputError, match=r"hostile.pt"):
        import_run("hostile.pt", "run", task={"operation": "add"}, accept_unverified=True)
    assert not Path("run").exists()


def test_tuples_within_tuples_do_not_run_forever():
    nested: tuple = ()
    for _ in range(60):
        nested = (nested, nested)
    Path("hostile.pt").write_bytes(
        rezipped(saved(sound()), lambda name, old: bomb_program() if name.endswith("data.pkl") else old)
    )
    refused("holds tuples within tuples, again and again: it may be built to run forever")


def bomb_program() -> bytes:
    """A dictionary whose key is a tuple of itself, sixty deep: written by hand, as writing it from the tuple would take
    forever."""
    program = b"\x80\x02})q\x00"
    for place in range(60):
        program += b"h" + bytes([place]) + b"h" + bytes([place]) + b"\x86q" + bytes([place + 1])
    return program + b"K\x01s."


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "is empty: it has 0 bytes; was it cut off"),
        (b"PK\x03\x04", "is damaged"),
        (b"\x80\x02", "is damaged: its pickle cannot be read"),
        (b"\x80\x02N.", "is a bare pickle, or of torch before 1.6"),
        (b"plain text", "is damaged: neither a file of torch.save nor a safetensors file"),
        (
            rezipped(saved([]), lambda name, old: b"" if name.endswith("data.pkl") else old),
            "is damaged: its pickle cannot be read",
        ),
        (saved("text"), "holds a str, expected a state dict"),
        (saved({}), "has no state dict where one is looked for .* it has nothing"),
        (saved({"optimizer": {"lr": 1}}), "has no state dict .* it has 'optimizer'"),
        (saved(torch.eye(2)), "holds a Tensor, expected a state dict"),
        (
            saved({"state_dicts": [sound(), sound()], "epochs": [1, 2, 3]}),
            "has 2 state dicts, and 'epochs' beside it 3 entries",
        ),
        (saved({"state_dicts": [sound(), sound()], "epochs": [1, 1]}), "would both be step 1"),
        (saved({"model": sound(), "epoch": 10**9 - 1} | {"state_dicts": []}), "cannot be verified|which operation"),
    ],
    # Contents hold the second they were made in: no name for a test.
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_files_that_are_something_else(content: bytes, expected: str):
    Path("hostile.pt").write_bytes(content)
    with pytest.raises(InputError, match=f"hostile.pt.*{expected}|{expected}"):
        import_run("hostile.pt", "run")
    assert not Path("run").exists()


def test_no_device_or_pipe_is_opened():
    os.mkfifo("pipe.pt")
    with pytest.raises(InputError, match=r"pipe.pt is no file"):
        find_sources([Path("pipe.pt")])
    with pytest.raises(InputError, match="there are no files of weights"):
        find_sources([Path()])


# ---- mutated files ---------------------------------------------------------------------------------------------------


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
