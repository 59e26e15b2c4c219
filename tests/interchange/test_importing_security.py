"""Hostile and damaged files: nothing in them is ever executed, and each ends in one clear line, soon, with nothing
written."""

import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from interp.errors import InputError
from interp.interchange import describe_sources, import_run
from interp.interchange.importing.sources import find_sources
from tests.interchange.archives import rezipped, saved, sound

HERE = Path()


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)


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
