"""The places that an import reads from, and what can stand there in place of a plain file: pipes, devices, holes,
links, and folders without an end."""

import io
import json
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors.torch

from interp.experiment import ModelConfig
from interp.models import initial_weights
from tests.interchange.archives import saved

HUGE = 20 * 2**30  # bytes, of a file that has none of them

NAMES = {
    "NUL": "a\0b",
    "climbs": "../../up",
    "absolute": "/etc/passwd",
    "half a letter": "\ud800",
    "escapes": "\x1b[31mred\x07\r\n",
    "long": "x" * 100_000,
}
WEIGHTS = initial_weights(ModelConfig(d_model=4, n_heads=2, d_mlp=3), 5)
ARRAYS = {name: weight.numpy() for name, weight in WEIGHTS.items()}
GIVEN = ("--out", "run", "--task.operation", "add", "--accept-unverified")


class Case(NamedTuple):
    """What is hostile, what makes it in the present folder, the arguments of `interp`, and the file to be named."""

    name: str
    make: Callable[[], object]
    arguments: tuple[str, ...]
    file: str


# ---- what stands in the place of a file ------------------------------------------------------------------------------


def sparse(path: Path, start: bytes = b"", size: int = HUGE) -> None:
    """A file that claims gigabytes and has none."""
    path.write_bytes(start)
    os.truncate(path, size)


def a_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as opened:
        opened.bind(str(path))


ODD: dict[str, Callable[[Path], object]] = {
    "FIFO": os.mkfifo,
    "/dev/zero": lambda path: path.symlink_to("/dev/zero"),
    "/dev/tty": lambda path: path.symlink_to("/dev/tty"),
    "20 GB": sparse,
    "socket": a_socket,
    "folder": Path.mkdir,
    "link to itself": lambda path: path.symlink_to(path.name),
    "dead link": lambda path: path.symlink_to("nowhere"),
    "link out": lambda path: path.symlink_to("/etc/passwd"),
}


# ---- the places ------------------------------------------------------------------------------------------------------


def array(values: Any) -> bytes:
    """What numpy's save writes."""
    file = io.BytesIO()
    np.save(file, values)
    return file.getvalue()


def packed(**arrays: Any) -> bytes:
    """What numpy's savez writes."""
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


SAFE = safetensors.torch.save(WEIGHTS)
PT = saved(WEIGHTS)
INDEX = json.dumps({"weight_map": dict.fromkeys(WEIGHTS, "model-00001-of-00001.safetensors")}).encode()
CURVES = b"step,train_accuracy,test_accuracy\n" + b"".join(b"%d,1,%f\n" % (n, n / 100) for n in range(100))
PAIRS = b"[0, 1, 2, 7]"
MODULE = "import torch\ndef build():\n    return torch.nn.Linear(2, 2)\n"

# A place: the file that is hostile, the others, and the arguments.
Place = tuple[str, dict[str, bytes], tuple[str, ...]]
LONE = {"w.safetensors": SAFE}
PLACES: dict[str, Place] = {
    **{
        f"weights {name}": (name, {}, ("import", name, *GIVEN))
        for name in ("w.pt", "w.safetensors", "w.npz", "w.npy", "w.ckpt", "w.bin", "w.tar", "w")
    },
    **{
        f"weights {name} in a folder": (name, {"d/1.pt": PT}, ("import", "d", *GIVEN))
        for name in ("d/2.pt", "d/2.safetensors", "d/2.npz", "d/2.npy", "d/x.bin", "d/x.tar", "d/optimizer.pt")
    },
    "a part": (
        "d/model-00001-of-00001.safetensors",
        {"d/model.safetensors.index.json": INDEX},
        ("import", "d", *GIVEN),
    ),
    "an index": (
        "d/model.safetensors.index.json",
        {"d/model-00001-of-00001.safetensors": SAFE},
        ("import", "d/model.safetensors.index.json", *GIVEN),
    ),
    "an index in a folder": (
        "d/model.safetensors.index.json",
        {"d/model-00001-of-00001.safetensors": SAFE},
        ("import", "d", *GIVEN),
    ),
    "steps.npy": (
        "d/steps.npy",
        {f"d/{n}.npy": array(np.stack([a, a])) for n, a in ARRAYS.items()},
        ("import", "d", *GIVEN),
    ),
    "metrics.jsonl beside arrays": (
        "d/metrics.jsonl",
        {f"d/{n}.npy": array(np.stack([a, a])) for n, a in ARRAYS.items()} | {"d/steps.npy": array(np.array([1, 2]))},
        ("import", "d", *GIVEN),
    ),
    "trainer_state.json": ("d/trainer_state.json", {"d/model.safetensors": SAFE}, ("import", "d", *GIVEN)),
    **{
        f"beside: {name}": (f"d/{name}", {"d/w.safetensors": SAFE}, ("import", "d/w.safetensors", *GIVEN))
        for name in ("config.json", "config.yaml", "w.json", "config_w.json", "train_indices.json", "split.json")
    }
    | {
        f"beside: {name}": (f"d/{name}", {"d/w.safetensors": SAFE}, ("import", "d/w.safetensors", *GIVEN))
        for name in ("train_indices.npy", "train_indices.safetensors", "metadata.json", "hparams.yaml")
    },
    **{
        f"--config {name}": (name, LONE, ("import", "w.safetensors", "--config", name, *GIVEN))
        for name in ("c.json", "c.yaml", "c.toml", "c")
    },
    "--mapping": ("m.toml", LONE, ("import", "w.safetensors", "--mapping", "m.toml", *GIVEN)),
    **{
        f"--split {name}": (name, LONE, ("import", "w.safetensors", "--split", f"file:{name}", *GIVEN))
        for name in ("s.json", "s.npy", "s.npz", "s.safetensors", "s")
    },
    "--module": ("m.py", LONE, ("import", "w.safetensors", "--module", "m.py:build", "--task.p", "5", *GIVEN)),
    **{f"curves {name}": (name, {}, ("curves", name)) for name in ("c.csv", "c.tsv", "c.json", "c.jsonl", "c.npz")},
}


def written(files: dict[str, bytes]) -> None:
    for name, content in files.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(content)


def placed(place: str, make: Callable[[Path], object], what: str) -> Case:
    """Something hostile in a place."""
    name, others, arguments = PLACES[place]

    def build() -> None:
        written(others)
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        make(Path(name))

    # Of two networks in a folder the other may be named, which is unlike it.
    return Case(f"{place}: {what}", build, arguments, "d/" if place.endswith("in a folder") else Path(name).name)


def odd_files() -> Iterator[Case]:
    """Everything that is no plain file, and one that claims 20 GB, in every place."""
    for place in PLACES:
        for what, make in ODD.items():
            yield placed(place, make, what)


# ---- folders ---------------------------------------------------------------------------------------------------------


def folders() -> Iterator[Case]:
    def case(name: str, make: Callable[[], object], file: str = "d") -> Case:
        return Case(f"folder: {name}", make, ("import", "d", *GIVEN), file)

    def link_loop() -> None:
        written({"d/1.pt": PT})
        for name in ("a", "b", "c"):
            Path("d", name).symlink_to(".", target_is_directory=True)
        Path("d/e").mkdir()
        Path("d/e/up").symlink_to("..", target_is_directory=True)

    def out_of_it() -> None:
        written({"d/1.pt": PT, "elsewhere/2.pt": PT, "elsewhere/config.json": b'{"p": 7}'})
        Path("d/2.pt").symlink_to("../elsewhere/2.pt")
        Path("d/more").symlink_to("../elsewhere", target_is_directory=True)
        Path("d/config.json").symlink_to("../elsewhere/config.json")
        Path("d/root").symlink_to("/", target_is_directory=True)

    def many(n: int, ending: str) -> None:
        written({"d/1.pt": PT})
        for number in range(n):
            Path(f"d/x{number}{ending}").touch()

    def deep() -> None:
        here = os.getcwd()
        written({"d/1.pt": PT})
        os.chdir("d")
        for _ in range(2000):
            os.mkdir("x")
            os.chdir("x")
        Path("w.pt").write_bytes(PT)
        os.chdir(here)

    def wide() -> None:
        for number in range(300):
            written({f"d/{number}/model.pt": PT})

    def names() -> None:
        written({"d/1.pt": PT})
        for name in (
            b"\xff\xfe.pt",
            b"a\nb.pt",
            b"\x1b[31m.pt",
            b"x" * 250 + b".pt",
            "２.pt".encode(),
            "²³.pt".encode(),
        ):
            with open(b"d/" + name, "wb") as file:
                file.write(PT)

    yield case("links that go round", link_loop)
    yield case("links out of it", out_of_it)
    yield case("100,000 files", lambda: many(100_000, ".txt"))
    yield case("19,000 empty weights", lambda: many(19_000, ".pt"))
    yield case("2,000 deep", deep)
    yield case("300 folders", wide)
    yield case("names that are no text", names)
    yield case(
        "100,000 steps in one index",
        lambda: written(
            {
                "d/model.safetensors.index.json": json.dumps(
                    {"weight_map": {f"t{n}": f"m{n}.safetensors" for n in range(100_000)}}
                ).encode()
            }
        ),
    )
    for what, name in NAMES.items():
        yield case(
            f"an index that names a file that is {what}",
            lambda name=name: written(
                {
                    "d/model.safetensors.index.json": json.dumps(
                        {"weight_map": {"a": name, name: "b.safetensors"}}
                    ).encode(),
                    "d/b.safetensors": SAFE,
                }
            ),
        )
    yield Case("folder: none", lambda: None, ("import", "d" * 300, *GIVEN), "d")
    yield Case("folder: /proc/self", lambda: None, ("import", "/proc/self", *GIVEN), "/proc/self")
    yield Case("folder: /dev", lambda: None, ("import", "/dev", *GIVEN), "/dev")
    yield Case("a file of /proc", lambda: None, ("import", "/proc/kcore", *GIVEN), "kcore")
    yield Case(
        "--config of /proc",
        lambda: written(LONE),
        ("import", "w.safetensors", "--config", "/proc/kmsg", *GIVEN),
        "kmsg",
    )
