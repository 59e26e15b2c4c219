"""What the benchmarks have in common: rows of one table, the machine they were measured on, and the place in the README
for them."""

import platform
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import torch

BEGIN, END = "<!-- benchmarks: begin -->", "<!-- benchmarks: end -->"


class Row(NamedTuple):
    """One thing measured: ours, beside what others do, and what was wanted."""

    what: str
    ours: str
    beside: str
    goal: str


def machine() -> str:
    """What the numbers were measured on."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        cpu = next(
            (line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")), cpu
        )
    return f"{cpu}, {torch.get_num_threads()} threads, torch {torch.__version__}, Python {platform.python_version()}"


def gemm_peak(size: int = 2048, repeats: int = 5) -> float:
    """The GFLOP/s of a large float32 product, best of several: what this machine can do at this moment."""
    a, b, out = torch.randn(size, size), torch.randn(size, size), torch.empty(size, size)
    return 2 * size**3 / 1e9 / min(seconds(lambda: torch.mm(a, b, out=out)) for _ in range(repeats))


def seconds(act: Callable[[], object]) -> float:
    """How long it takes."""
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


def markdown(rows: Iterable[Row], title: str) -> str:
    """A table for the README."""
    lines = [title, "", "| what | ours | beside it | goal |", "| --- | --- | --- | --- |"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def check_place(path: Path) -> None:
    """Ends the program unless the file has the two marker comments, once."""
    text = path.read_text()
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise SystemExit(f"{path} has no place for the table: the lines {BEGIN} and {END}")


def put_between_markers(path: Path, table: str) -> None:
    """Replace what stands between the two marker comments of a file."""
    before, rest = path.read_text().split(BEGIN)
    path.write_text(f"{before}{BEGIN}\n{table}\n{END}{rest.split(END)[1]}")
