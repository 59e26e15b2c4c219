"""Arrays, archives and pickles that are built to fill the memory or to run forever."""

import io
import json
import struct
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from tests.interchange.archives import saved
from tests.interchange.hostile_places import ARRAYS, CURVES, NAMES, PT, WEIGHTS, Case, array, packed, placed, sparse


def header(entries: dict[str, Any]) -> bytes:
    text = json.dumps(entries).encode()
    return struct.pack("<Q", len(text)) + text


def npy_header(text: str) -> bytes:
    body = text.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(body)) + body


def claims(shape: str, kind: str = "<i8") -> bytes:
    return npy_header(f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}") + bytes(64)


def zipped(files: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return out.getvalue()


def bomb(megabytes: int, name: str = "train_indices.npy") -> bytes:
    """An archive of some kilobytes that unpacks to zeros."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive, archive.open(name, "w", force_zip64=True) as file:
        file.write(claims(f"({megabytes * 131072},)")[:-64])
        for _ in range(megabytes):
            file.write(bytes(2**20))
    return out.getvalue()


def overlapping(n: int = 300, megabytes: int = 20) -> bytes:
    """An archive whose n entries are all the same packed bytes (Fifield's bomb, in its simple form)."""
    content = claims(f"({megabytes * 131072},)")[:-64] + bytes(megabytes * 2**20)
    whole = zipped({"a.npy": content})
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        entry = archive.infolist()[0]
        body, directory = whole[: archive.start_dir], b""
    for number in range(n):
        name = f"{number:05d}.npy".encode()
        directory += (
            struct.pack(
                "<4s4B4HL2L5H2L",
                b"PK\x01\x02",
                20,
                3,
                20,
                0,
                0,
                8,
                0,
                0,
                entry.CRC,
                entry.compress_size,
                entry.file_size,
                len(name),
                0,
                0,
                0,
                0,
                0,
                0,
            )
            + name
        )
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, n, n, len(directory), len(body), 0)
    return body + directory + end


def shared_lists(levels: int = 3, width: int = 1000) -> list:
    """Lists of lists that are one another: a kilobyte of pickle, and as an array 8 GB."""
    found: list = [0] * width
    for _ in range(levels - 1):
        found = [found] * width
    return found


def shared_sections(levels: int = 4, width: int = 300) -> dict:
    """Sections of a configuration that are one another: 300⁴ of them."""
    found: dict = {"p": 5}
    for _ in range(levels):
        found = {f"a{n}_model": found for n in range(width)}
    return found


ONE = torch.zeros(1, dtype=torch.int64)
STRIDE_0 = torch.zeros(1).expand(2**15, 2**16)  # claims 8.6 GB


def many_views() -> dict[str, torch.Tensor]:
    whole = torch.zeros(4_000_000)
    return {f"W{n}": whole[n:].view(-1)[:3_999_000].view(3999, 1000) for n in range(900)}


def tensors() -> Iterator[tuple[str, str, Callable[[], bytes]]]:
    """Place, what is hostile, and the content."""
    for place in ("--split s.npy", "beside: train_indices.npy", "steps.npy", "weights d/2.npy in a folder"):
        yield place, "claims 2^60 numbers", lambda: claims(f"({2**60},)")
        yield place, "claims 2^60 by 2^60", lambda: claims(f"({2**60}, {2**60})")
        yield place, "claims 2^20 axes of 0", lambda: claims(f"({', '.join(['0'] * 10_000)})")
        yield place, "a negative axis", lambda: claims("(-1,)")
        yield place, "objects", lambda: claims("(1,)", "|O")
        yield (
            place,
            "a structured type",
            lambda: npy_header("{'descr': [('a', '<i8')], 'fortran_order': False, 'shape': (2,), }") + bytes(16),
        )
        yield place, "text of 2^30 letters", lambda: claims("(1,)", f"<U{2**30 - 1}")
        yield place, "of no width", lambda: claims(f"({2**40},)", "|S0")
        yield place, "a header nested deep", lambda: npy_header("(" * 60_000)
        yield (
            place,
            "a header of 9^9^9^9",
            lambda: npy_header("{'descr': '<i8', 'fortran_order': False, 'shape': (9**9**9**9,), }"),
        )
        yield place, "a long header", lambda: b"\x93NUMPY\x02\x00" + struct.pack("<L", 2**31) + b"{" + b" " * 1_000_000
        yield place, "times", lambda: claims("(4,)", "<M8[s]")
        yield place, "infinite", lambda: array(np.array([np.inf, np.nan]))
        yield place, "of 10^18", lambda: array(np.array([10**18, 2]))
        yield place, "unsigned of 2^64", lambda: array(np.array([2**64 - 1, 2], dtype=np.uint64))
        yield place, "a version to come", lambda: b"\x93NUMPY\x09\x00" + bytes(100)
    for place in ("--split s.npz", "weights w.npz", "curves c.npz", "weights d/2.npz in a folder"):
        yield place, "unpacks to 2 GB", lambda: bomb(2000)
        yield place, "unpacks to 1.2 GB of steps", lambda: bomb(1200, "step.npy")
        yield place, "overlapping entries", overlapping
        yield (
            place,
            "claims 2^60 numbers",
            lambda: zipped({"train_indices.npy": claims(f"({2**60},)"), "step.npy": claims("(4,)")}),
        )
        yield place, "100,000 entries", lambda: zipped({f"{n}.npy": b"" for n in range(100_000)}, zipfile.ZIP_STORED)
        yield (
            place,
            "climbing names",
            lambda: zipped({"../../up.npy": array(np.eye(3)), "/etc/passwd.npy": array(np.eye(3))}),
        )
        yield (
            place,
            "its header lies about its size",
            lambda: _lying(packed(train_indices=np.arange(9), step=3, **ARRAYS)),
        )
        yield place, "a bomb behind a small header", _unannounced
    for place in (
        "weights w.safetensors",
        "--split s.safetensors",
        "beside: train_indices.safetensors",
        "a part",
        "weights d/2.safetensors in a folder",
    ):
        yield place, "a header of 100 MB", lambda: struct.pack("<Q", 100_000_000) + b'{"' + b"x" * 99_999_990 + b'":1}'
        yield place, "a header of 95 MB of entries", _many_entries
        yield place, "a header nested deep", lambda: struct.pack("<Q", len(deep := b'{"a":' * 100_000)) + deep
        yield (
            place,
            "2^60 numbers of no bytes",
            lambda: header({"train_indices": {"dtype": "I64", "shape": [0, 2**60], "data_offsets": [0, 0]}}),
        )
        yield (
            place,
            "a million tensors of nothing",
            lambda: header({f"t{n}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for n in range(300_000)}),
        )
        yield place, "a length of 2^63", lambda: struct.pack("<Q", 2**63) + b"{"
        for what, name in NAMES.items():
            yield (
                place,
                f"a name that is {what}",
                lambda name=name: header({name: {"dtype": "I64", "shape": [1], "data_offsets": [0, 8]}}) + bytes(8),
            )
        yield (
            place,
            "metadata of 50 MB",
            lambda: (
                header(
                    {
                        "__metadata__": {"train_indices": "1" * 50_000_000},
                        "train_indices": {"dtype": "I64", "shape": [1], "data_offsets": [0, 8]},
                    }
                )
                + bytes(8)
            ),
        )
    for name, make in pickled().items():
        for place in ("weights w.pt", "weights d/2.pt in a folder"):
            yield place, name, make


def _many_entries() -> bytes:
    entry = b'"t%07d":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}'
    text = b"{" + b",".join(entry % n for n in range(1_600_000)) + b"}"
    return struct.pack("<Q", len(text)) + text


def _lying(content: bytes) -> bytes:
    """The sizes in the directory of an archive set to 2^32 − 2."""
    found = bytearray(content)
    at = found.find(b"PK\x01\x02")
    found[at + 20 : at + 28] = struct.pack("<2L", 2**32 - 2, 2**32 - 2)
    return bytes(found)


def _unannounced() -> bytes:
    """An array of four numbers, with a gigabyte of zeros behind them in its entry."""
    out = io.BytesIO()
    with (
        zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("train_indices.npy", "w", force_zip64=True) as file,
    ):
        file.write(array(np.arange(4)))
        for _ in range(1000):
            file.write(bytes(2**20))
    return out.getvalue()


def quietly(make: Callable[[], Any]) -> Any:
    """Some kinds of tensors announce with a warning that they will change."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return make()


def pickled() -> dict[str, Callable[[], bytes]]:
    """Files of torch.save."""
    backwards = torch.zeros(8)
    made: dict[str, Callable[[], Any]] = {
        "a weight that claims 8.6 GB": lambda: {**WEIGHTS, "embed.W_E": STRIDE_0},
        "train_indices that claim 8 TB": lambda: {"model": WEIGHTS, "train_indices": ONE.expand(10**12)},
        "train_indices in a list, 8.6 GB": lambda: {"model": WEIGHTS, "train_indices": [ONE.expand(2**30)]},
        "train_indices in a tuple, 8.6 GB": lambda: {"model": WEIGHTS, "train_indices": (ONE.expand(2**30),)},
        "train in a list in a split, 8.6 GB": lambda: {
            "model": WEIGHTS,
            "split": {"train": [[1, 2], ONE.expand(2**30)]},
        },
        "train_indices, lists of lists again and again": lambda: {"model": WEIGHTS, "train_indices": shared_lists()},
        "a split, lists of lists again and again": lambda: {"model": WEIGHTS, "split": {"train": shared_lists()}},
        "a mask of 8.6 GB": lambda: {"model": WEIGHTS, "train_mask": torch.zeros(1, dtype=torch.bool).expand(2**33)},
        "train_data of shared triples": lambda: {"model": WEIGHTS, "train_data": [(1, 2, 5)] * 1_000_000},
        "epochs that claim 8 TB": lambda: {"state_dicts": [WEIGHTS, WEIGHTS], "epochs": ONE.expand(10**12)},
        "losses that claim 8 TB": lambda: {
            "state_dicts": [WEIGHTS] * 2,
            "epochs": [1, 2],
            "train_losses": torch.zeros(1).expand(10**12),
        },
        "losses, lists of lists": lambda: {
            "model": WEIGHTS,
            "train_losses": shared_lists(),
            "config": {"p": shared_lists()},
        },
        "steps of 10^18": lambda: {"state_dicts": [WEIGHTS] * 2, "epochs": [10**18, 10**18 + 1]},
        "steps that are infinite": lambda: {"state_dicts": [WEIGHTS] * 2, "epochs": [float("inf"), float("nan")]},
        "a step of 2^62": lambda: {"model": WEIGHTS, "step": 2**62, "epoch": 2**62},
        "meta": lambda: {**WEIGHTS, "embed.W_E": torch.empty(2**16, 2**17, device="meta")},
        "sparse": lambda: {
            **WEIGHTS,
            "embed.W_E": torch.sparse_coo_tensor(torch.zeros(2, 1, dtype=torch.int64), torch.ones(1), (2**20, 2**20)),
        },
        "sparse beside": lambda: {
            "model": WEIGHTS,
            "train_indices": torch.sparse_coo_tensor(
                torch.zeros(2, 1, dtype=torch.int64), torch.ones(1), (2**20, 2**20)
            ),
        },
        "quantized": lambda: {**WEIGHTS, "embed.W_E": torch.quantize_per_tensor(torch.eye(4), 0.1, 0, torch.qint8)},
        "nested": lambda: {**WEIGHTS, "embed.W_E": torch.nested.nested_tensor([torch.eye(2), torch.eye(3)])},
        "many views of 16 MB, 14 GB": many_views,
        "many views beside": lambda: {"model": WEIGHTS, "train_indices": list(many_views().values())},
        "a list of 300 checkpoints, one network": lambda: {
            "state_dicts": [dict(WEIGHTS) for _ in range(300)],
            "epochs": list(range(300)),
        },
        "a million times one network": lambda: {"state_dicts": [WEIGHTS] * 1_000_000},
        "sections of sections again and again": lambda: {"model": WEIGHTS, "config": shared_sections()},
        "60,000 tensors": lambda: {f"t{n}": backwards for n in range(60_000)},
        **{
            f"a name that is {what}": lambda name=name: {**WEIGHTS, name: torch.ones(2, 2)}
            for what, name in NAMES.items()
            if what != "half a letter"
        },
        **{
            f"a key beside that is {what}": lambda name=name: {"model": WEIGHTS, name: torch.ones(2, 2)}
            for what, name in NAMES.items()
            if what != "half a letter"
        },
    }
    bytes_of: dict[str, Callable[[], bytes]] = {
        name: lambda make=make: saved(quietly(make)) for name, make in made.items()
    }
    return bytes_of | {
        "strides that go backwards": lambda: _restrided(b"\xff\xff\xff\xff\xff\xff\xff\xff"),
        "strides of 2^31": lambda: _restrided(b"\xff\xff\xff\x7f"),
        "torch before 1.6": _legacy,
        "a pickle of 20 GB": lambda: b"\x80\x02" + b"(" * 5_000_000,
        "packed entries": lambda: _repacked(PT),
        "overlapping entries": overlapping,
        "100,000 entries": lambda: zipped(
            {"a/data.pkl": b"", **{f"a/data/{n}": b"" for n in range(99_000)}}, zipfile.ZIP_STORED
        ),
    }


def _restrided(with_bytes: bytes) -> bytes:
    """A sound file, the strides in its program set to something else: BININT1 n becomes LONG1 or BININT."""
    new = b"\x8a" + bytes([len(with_bytes)]) + with_bytes if len(with_bytes) == 8 else b"J" + with_bytes
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(PT)) as old, zipfile.ZipFile(out, "w") as fresh:
        for entry in old.infolist():
            content = old.read(entry)
            if entry.filename.endswith("data.pkl"):
                # of the first matrix: (sizes)(strides), each K n K m \x86 (and a memo)
                at = content.find(b"\x86", content.find(b"K\x04\x86") + 3)
                content = content[: at - 4] + new + content[at - 2 :]
            fresh.writestr(entry.filename, content)
    return out.getvalue()


def _legacy() -> bytes:
    file = io.BytesIO()
    torch.save(WEIGHTS, file, _use_new_zipfile_serialization=False)
    return file.getvalue()


def _repacked(content: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(content)) as old:
        return zipped({entry.filename: old.read(entry) for entry in old.infolist()})


# ---- files that claim gigabytes and begin rightly --------------------------------------------------------------------


def claiming_gigabytes() -> Iterator[Case]:
    entry = {"dtype": "F32", "shape": [2**16, 2**16], "data_offsets": [0, 2**34]}
    start = header({"embed.W_E": entry, "unembed.W_U": {**entry, "data_offsets": [2**34, 2**35]}})
    sizes = {"weights w.safetensors": "", "weights d/2.safetensors in a folder": "", "a part": ""}
    for place in (*sizes, "--split s.safetensors", "beside: train_indices.safetensors"):
        yield placed(place, lambda path: sparse(path, start, len(start) + 2**35), "a header before 34 GB of nothing")
        small = header({"train_indices": {"dtype": "I64", "shape": [2**28], "data_offsets": [0, 2**31]}})
        yield placed(place, lambda path, small=small: sparse(path, small, len(small) + 2**31), "before 2 GB of nothing")
    big = header(
        {
            name: {"dtype": "F32", "shape": [2**14, 2**14], "data_offsets": [n * 2**30, (n + 1) * 2**30]}
            for n, name in enumerate(WEIGHTS)
        }
    )
    yield placed(
        "weights w.safetensors",
        lambda path: sparse(path, big, len(big) + len(WEIGHTS) * 2**30),
        "all weights of 1 GB of nothing",
    )
    for place in ("--split s.npy", "beside: train_indices.npy", "steps.npy", "weights d/2.npy in a folder"):
        for size in (2**28, 2**31):
            content = claims(f"({size},)")[:-64]
            yield placed(
                place,
                lambda path, content=content, size=size: sparse(path, content, len(content) + 8 * size),
                f"{size * 8 / 1e9:.0f} GB of nothing",
            )
    yield placed("curves c.csv", lambda path: sparse(path, CURVES, 2**30), "one line of 1 GB")
    yield placed("weights w.pt", lambda path: sparse(path, PT), "20 GB behind an archive")
    yield placed("weights w.npz", lambda path: sparse(path, packed(**ARRAYS)), "20 GB behind an archive")
    yield placed("weights w.pt", lambda path: sparse(path, b"\x80\x02}"), "20 GB of pickle")
    yield placed("weights w.pt", lambda path: sparse(path, b"{"), "20 GB of JSON")
