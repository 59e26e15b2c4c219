"""A reader of tensors that trusts nothing a safetensors header says."""

import json
import struct
import tracemalloc
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from interp.errors import InputError
from interp.machine import read_foreign_tensors, read_tensors, tensor_bytes

DEEP = b"[" * 100_000  # deeper than Python's stack


def by_hand(header: object, data: bytes = b"", length: int | None = None) -> bytes:
    """A safetensors file as its README describes it; `length` pads the header with spaces, or lies about it."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    length = len(text) if length is None else length
    return struct.pack("<Q", length) + text.ljust(min(length, 10_000)) + data


def header_of(entry: object, name: str = "x") -> dict[str, object]:
    return {"__metadata__": {"interp": "{}"}, name: entry}


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


@pytest.mark.parametrize("length", [128, 0x0280, 0x0480, 0x0580])
def test_a_header_whose_length_begins_like_a_pickle_is_none(length: int, tmp_path: Path) -> None:
    # As bytes: 80 00, 80 02, 80 04, 80 05; the last three are how pickles of protocol 2, 4 and 5 begin.
    header = header_of({"dtype": "F32", "shape": [1], "data_offsets": [0, 4]})
    (tmp_path / "file").write_bytes(by_hand(header, bytes(4), length))
    assert read_tensors(tmp_path / "file")[0]["x"].tolist() == [0.0]


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_is_called_one(zipped: bool, tmp_path: Path) -> None:
    torch.save({"x": torch.zeros(3)}, tmp_path / "file", _use_new_zipfile_serialization=zipped)
    for read in (read_tensors, read_foreign_tensors):
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


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_file_is_refused_by_name_and_costs_no_more_memory_than_its_size(
    content: bytes, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match=str(tmp_path / "file")) as caught:
            read_tensors(tmp_path / "file")
        # A megabyte of Python's own: the error, its traceback.
        assert tracemalloc.get_traced_memory()[1] < 1_000_000 + 8 * len(content)
    finally:
        tracemalloc.stop()
    assert "\n" not in str(caught.value)
