"""Files written whole or not at all, and a reader that trusts nothing a safetensors header says."""

import errno
import fcntl
import json
import os
import resource
import struct
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from interp.errors import InputError
from interp.machine import (
    built_beside,
    lock_folder,
    read_json,
    read_lines,
    read_stacked,
    read_tensors,
    remove_leftovers,
    tensor_bytes,
    write_atomically,
)
from interp.machine.files import move_into_place, temporary_beside

DEEP = b"[" * 100_000  # deeper than Python's stack


@contextmanager
def files_no_larger_than(size: int) -> Iterator[None]:
    """A disk that really fills up: the kernel cuts the write at `size` bytes and refuses the rest."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def refuse(code: int) -> Callable[..., None]:
    def refusing(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    return refusing


def by_hand(header: object, data: bytes = b"", length: int | None = None) -> bytes:
    """A safetensors file as its README describes it; `length` pads the header with spaces, or lies about it."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    length = len(text) if length is None else length
    return struct.pack("<Q", length) + text.ljust(min(length, 10_000)) + data


def header_of(entry: object, name: str = "x") -> dict[str, object]:
    return {"__metadata__": {"interp": "{}"}, name: entry}


# ---- writing ---------------------------------------------------------------------------------------------------------


def test_what_is_written_is_read_and_replaces_what_was_there(tmp_path: Path) -> None:
    for content in (b"first", b"", b"second, and longer"):
        write_atomically(tmp_path / "file", content)
        assert (tmp_path / "file").read_bytes() == content
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize(
    ("function", "code"), [("fsync", errno.ENOSPC), ("fsync", errno.EIO), ("rename", errno.EACCES)]
)
def test_a_refusal_at_any_point_leaves_the_old_file_and_nothing_else(
    function: str, code: int, tmp_path: Path, monkeypatch
) -> None:
    write_atomically(tmp_path / "file", b"old")
    monkeypatch.setattr(os, function, refuse(code))
    with pytest.raises(InputError, match=f"cannot write {tmp_path / 'file'}: {os.strerror(code)}"):
        write_atomically(tmp_path / "file", b"new")
    assert os.listdir(tmp_path) == ["file"]
    assert (tmp_path / "file").read_bytes() == b"old"


def test_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    with (
        files_no_larger_than(1000),
        pytest.raises(InputError, match=f"cannot write {tmp_path / 'file'}: File too large"),
    ):
        write_atomically(tmp_path / "file", bytes(1_000_000))
    assert os.listdir(tmp_path) == []


def test_a_file_where_the_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "folder").write_bytes(b"")
    with pytest.raises(InputError, match="Not a directory"):
        write_atomically(tmp_path / "folder" / "file", b"")
    with pytest.raises(InputError, match="Not a directory"):
        lock_folder(tmp_path / "folder")


def test_a_lock_on_a_folder_that_was_replaced_meanwhile_is_none(tmp_path: Path, monkeypatch) -> None:
    flock = fcntl.flock

    def replaced_first(lock: int, how: int) -> None:
        (tmp_path / ".lock").unlink()
        (tmp_path / ".lock").touch()
        flock(lock, how)

    monkeypatch.setattr(fcntl, "flock", replaced_first)
    with pytest.raises(InputError, match=f"{tmp_path} is being written by another process"):
        lock_folder(tmp_path)


def test_leftovers_of_the_living_stay_where_others_may_be_writing(tmp_path: Path) -> None:
    parent, own, dead = (
        tmp_path / f".a.{os.getppid()}.tmp",
        temporary_beside(tmp_path / "a"),
        tmp_path / f".a.{2**22 + 1}.tmp",
    )
    for path in (parent, own, dead, tmp_path / "a"):
        path.touch()
    remove_leftovers(tmp_path, of_the_dead_only=True)
    assert sorted(tmp_path.iterdir()) == sorted([parent, tmp_path / "a"])
    remove_leftovers(tmp_path)
    assert os.listdir(tmp_path) == ["a"]


def test_only_the_leftovers_of_one_name(tmp_path: Path) -> None:
    """Folders too; and a name is a name, not a pattern."""
    for name in ("a", "[ab]"):
        (tmp_path / f".{name}.{2**22 + 1}.tmp" / "steps").mkdir(parents=True)
    remove_leftovers(tmp_path, of="[ab]", of_the_dead_only=True)
    assert os.listdir(tmp_path) == [f".a.{2**22 + 1}.tmp"]


def test_a_folder_that_cannot_be_put_in_place_brings_the_old_one_back(tmp_path: Path, monkeypatch) -> None:
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "content").write_text(name)
    rename = os.rename
    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", lambda a, b: refuse(errno.EIO)() if Path(a).name == "new" else rename(a, b))
        with pytest.raises(OSError, match="Input/output"):
            move_into_place(tmp_path / "new", tmp_path / "old")
    assert (tmp_path / "old" / "content").read_text() == "old"
    move_into_place(tmp_path / "new", tmp_path / "old")
    assert (tmp_path / "old" / "content").read_text() == "new"
    assert os.listdir(tmp_path) == ["old"]


def failing_in_the_folder(fresh: Path) -> None:
    (fresh / "content").write_text("half")
    write_atomically(fresh / "none" / "content", b"new")


@pytest.mark.parametrize(
    ("trouble", "expected"),
    [
        (failing_in_the_folder, "cannot write {}/none/content: No such file or directory"),
        (lambda fresh: (fresh / "none" / "content").write_text("new"), "cannot write {}: No such file or directory"),
    ],
)
def test_what_is_built_beside_is_there_whole_or_not_at_all(trouble: Callable, expected: str, tmp_path: Path) -> None:
    place = tmp_path / "place"
    for before, content in ((None, "first"), ("first", "second")):
        with pytest.raises(InputError) as caught, built_beside(place) as fresh:
            trouble(fresh)
        assert str(caught.value) == expected.format(place)
        assert os.listdir(tmp_path) == ([] if before is None else ["place"])
        assert before is None or (place / "content").read_text() == before
        with built_beside(place) as fresh:
            (fresh / "content").write_text(content)
        assert (place / "content").read_text() == content
        assert os.listdir(tmp_path) == ["place"]


# ---- safetensors -----------------------------------------------------------------------------------------------------


def test_tensors_of_every_type_and_shape_come_back(tmp_path: Path) -> None:
    tensors = {
        "matrix": torch.randn(3, 4, generator=torch.Generator().manual_seed(0)),
        "transposed": torch.arange(6.0, dtype=torch.float64).reshape(2, 3).T,
        "number": torch.tensor(7),
        "empty": torch.empty(0, dtype=torch.int64),
        "half": torch.ones(2, dtype=torch.bfloat16),
        "mask": torch.tensor([True, False]),
    }
    tensors["shared"] = tensors["matrix"]  # tied weights
    tensors["slice"] = tensors["matrix"][1:]
    (tmp_path / "file").write_bytes(tensor_bytes(tensors, {"step": "1", "ä": None}))
    read, header = read_tensors(tmp_path / "file")
    assert header == {"step": "1", "ä": None}
    assert read.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert_close(read[name], tensor, rtol=0, atol=0)


def test_equal_tensors_give_equal_bytes_in_whatever_order_they_come() -> None:
    tensors = {f"tensor {i}": torch.full((i + 1,), float(i)) for i in range(12)}
    header = {f"key {i}": i for i in range(12)}
    forwards = {tensor_bytes(tensors, header) for _ in range(20)}
    backwards = tensor_bytes(dict(reversed(tensors.items())), dict(reversed(header.items())))
    assert forwards == {backwards}


def test_a_file_written_by_hand_after_the_specification_is_read(tmp_path: Path) -> None:
    header = header_of({"dtype": "F32", "shape": [2, 1], "data_offsets": [0, 8]})
    (tmp_path / "file").write_bytes(by_hand(header, struct.pack("<2f", 1.5, -2.0)))
    assert_close(read_tensors(tmp_path / "file")[0]["x"], torch.tensor([[1.5], [-2.0]]), rtol=0, atol=0)
    stacked, _ = read_stacked([tmp_path / "file"] * 3, "x", (2, 1))
    assert_close(stacked, torch.tensor([[1.5], [-2.0]]).expand(3, 2, 1), rtol=0, atol=0)


@pytest.mark.parametrize("length", [128, 0x0280, 0x0480, 0x0580])
def test_a_header_whose_length_begins_like_a_pickle_is_none(length: int, tmp_path: Path) -> None:
    # As bytes: 80 00, 80 02, 80 04, 80 05; the last three are how pickles of protocol 2, 4 and 5 begin.
    header = header_of({"dtype": "F32", "shape": [1], "data_offsets": [0, 4]})
    (tmp_path / "file").write_bytes(by_hand(header, bytes(4), length))
    assert read_tensors(tmp_path / "file")[0]["x"].tolist() == [0.0]


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_is_called_one(zipped: bool, tmp_path: Path) -> None:
    torch.save({"x": torch.zeros(3)}, tmp_path / "file", _use_new_zipfile_serialization=zipped)
    for read in (read_tensors, lambda path: read_stacked([path], "x", (3,))):
        with pytest.raises(InputError, match=f"{tmp_path / 'file'} is a pickle"):
            read(tmp_path / "file")


ENTRY = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
HOSTILE = {
    "empty file": b"",
    "eight bytes": bytes(8),
    "no brace": by_hand(b"[]", bytes(4)),
    "length beyond the file": by_hand(header_of(ENTRY), bytes(4), 2**40),
    "length of 2^64 − 1": by_hand(header_of(ENTRY), bytes(4), 2**64 - 1),
    "length into the data": by_hand(header_of(ENTRY), bytes(4), len(json.dumps(header_of(ENTRY))) + 3)[:-3],
    "no UTF-8": by_hand(b'{"\xff": 1}'),
    "no JSON": by_hand(b"{x}"),
    "too deep": by_hand(b'{"x":' + DEEP, length=len(DEEP) + 5),
    "entry is a number": by_hand(header_of(3)),
    "entry is null": by_hand(header_of(None)),
    "no type": by_hand(header_of({"shape": [1], "data_offsets": [0, 4]}), bytes(4)),
    "unknown type": by_hand(header_of(ENTRY | {"dtype": "F31"}), bytes(4)),
    "type nobody computes with": by_hand(
        header_of({"dtype": "F8_E4M3", "shape": [4], "data_offsets": [0, 4]}), bytes(4)
    ),
    "type is a list": by_hand(header_of(ENTRY | {"dtype": []}), bytes(4)),
    "shape is a number": by_hand(header_of(ENTRY | {"shape": 1}), bytes(4)),
    "negative shape": by_hand(header_of(ENTRY | {"shape": [-1, -1]}), bytes(4)),
    "fractional shape": by_hand(header_of(ENTRY | {"shape": [1.0]}), bytes(4)),
    "boolean shape": by_hand(header_of(ENTRY | {"shape": [True]}), bytes(4)),
    "shape of text": by_hand(header_of(ENTRY | {"shape": ["1"]}), bytes(4)),
    "huge shape": by_hand(header_of(ENTRY | {"shape": [2**38]}), bytes(4)),
    "huge shape and offsets": by_hand(
        header_of({"dtype": "F32", "shape": [2**37], "data_offsets": [0, 2**39]}), bytes(4)
    ),
    "huge empty shape": by_hand(header_of({"dtype": "F32", "shape": [2**39, 2**39, 0], "data_offsets": [0, 0]})),
    "huge and empty": by_hand(header_of({"dtype": "F32", "shape": [2**62, 0], "data_offsets": [0, 0]})),
    "a name of two lines": by_hand(header_of(ENTRY | {"data_offsets": [4, 8]}, "x\ny"), bytes(8)),
    "too many dimensions": by_hand(header_of(ENTRY | {"shape": [1] * 100}), bytes(4)),
    "offsets out of range": by_hand(header_of(ENTRY | {"data_offsets": [4, 8]}), bytes(4)),
    "negative offsets": by_hand(header_of(ENTRY | {"data_offsets": [-4, 0]}), bytes(4)),
    "offsets backwards": by_hand(header_of(ENTRY | {"data_offsets": [4, 0]}), bytes(4)),
    "one offset": by_hand(header_of(ENTRY | {"data_offsets": [4]}), bytes(4)),
    "overlap": by_hand(header_of(ENTRY) | {"y": ENTRY}, bytes(4)),
    "gap": by_hand(header_of(ENTRY) | {"y": ENTRY | {"data_offsets": [8, 12]}}, bytes(12)),
    "bytes left over": by_hand(header_of(ENTRY), bytes(5)),
    "truncated": by_hand(header_of(ENTRY), bytes(3)),
    "no metadata": by_hand({"x": ENTRY}, bytes(4)),
    "metadata of others": by_hand({"__metadata__": {"format": "pt"}, "x": ENTRY}, bytes(4)),
    "metadata is a list": by_hand({"__metadata__": [], "x": ENTRY}, bytes(4)),
    "metadata no object": by_hand({"__metadata__": {"interp": "[]"}, "x": ENTRY}, bytes(4)),
    "metadata no text": by_hand({"__metadata__": {"interp": {}}, "x": ENTRY}, bytes(4)),
}


def read_one_stacked(path: Path, shape: tuple[int, ...]) -> None:
    read_stacked([path], "x", shape)


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_file_is_refused_by_name_and_costs_no_more_memory_than_its_size(
    content: bytes, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(content)
    for read in (
        read_tensors,
        *(partial(read_one_stacked, shape=shape) for shape in [(1,), (2**37,), (2**38,), (2**39, 2**39, 0)]),
    ):
        tracemalloc.start()
        try:
            with pytest.raises(InputError, match=str(tmp_path / "file")) as caught:
                read(tmp_path / "file")
            # A megabyte of Python's own: the error, its traceback.
            assert tracemalloc.get_traced_memory()[1] < 1_000_000 + 8 * len(content)
        finally:
            tracemalloc.stop()
        assert "\n" not in str(caught.value)


def test_a_stack_names_the_file_that_differs_with_what_it_has_and_what_was_expected(tmp_path: Path) -> None:
    for name, tensor in {"a": torch.zeros(2, 3), "b": torch.zeros(3, 2), "c": torch.zeros(2, 3).double()}.items():
        (tmp_path / name).write_bytes(tensor_bytes({"x": tensor}, {}))
    for name, seen in {"b": r"F32 \[3, 2\]", "c": r"F64 \[2, 3\]"}.items():
        with pytest.raises(InputError, match=rf"{tmp_path / name}: tensor 'x' is {seen}, expected F32 \[2, 3\]"):
            read_stacked([tmp_path / "a", tmp_path / name], "x", (2, 3))
    with pytest.raises(InputError, match=f"{tmp_path / 'a'} has no tensor 'y'; it has x"):
        read_stacked([tmp_path / "a"], "y", (2, 3))
    with pytest.raises(InputError, match=f"cannot read {tmp_path / 'd'}: No such file"):
        read_stacked([tmp_path / "a", tmp_path / "d"], "x", (2, 3))


# ---- JSON ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff", DEEP, b"1" * 5000], ids=["empty", "open", "no UTF-8", "too deep", "long number"]
)
def test_damaged_json_is_refused_by_name(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(InputError, match=f"{tmp_path / 'file'} is damaged"):
        read_json(tmp_path / "file")
    (tmp_path / "file").write_bytes(b"{}\n" + content + b"\n")
    with pytest.raises(InputError, match=f"{tmp_path / 'file'} is damaged at line 2"):
        read_lines(tmp_path / "file")


def test_an_unfinished_last_line_is_left_out(tmp_path: Path) -> None:
    for unfinished in ("", '{"step"', '{"step": 2}'):
        (tmp_path / "file").write_text('{"step": 1}\n' + unfinished)
        assert read_lines(tmp_path / "file") == [{"step": 1}]


@pytest.mark.parametrize("read", [read_json, read_lines, read_tensors])
def test_what_the_system_refuses_to_read_is_named(read: Callable, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"cannot read {tmp_path}: Is a directory"):
        read(tmp_path)
    with pytest.raises(InputError, match=f"cannot read {tmp_path / 'none'}: No such file"):
        read(tmp_path / "none")
