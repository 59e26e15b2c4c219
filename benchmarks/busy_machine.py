"""What busy neighbors cost: all analyses of the packaged run, alone, beside one busy process, and beside three.

python -m benchmarks.busy_machine

Two cores shared by four processes give each half of one at best, so beside three neighbors 4 times is fair on a machine
of two cores.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks.table import Row, seconds
from interp import reference_path

PROGRAM = "import sys; from interp.cli import main; sys.exit(main(sys.argv[1:]))"
NEIGHBORS = (0, 1, 3)


@contextmanager
def busy_neighbor() -> Iterator[None]:
    """A process that does nothing but keep a core busy."""
    neighbor = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        neighbor.kill()
        neighbor.wait()


def analyzing(run: Path, neighbors: int) -> float:
    """The seconds that all analyses of a run take, from the start of Python, beside so many busy processes."""
    with tempfile.TemporaryDirectory() as temporary, ExitStack() as beside:
        fresh = Path(temporary) / "run"
        shutil.copytree(run, fresh, ignore=shutil.ignore_patterns("results"))
        for _ in range(neighbors):
            beside.enter_context(busy_neighbor())
        return seconds(
            lambda: subprocess.run(
                [sys.executable, "-c", PROGRAM, "analyze", str(fresh), "all"], check=True, capture_output=True
            )
        )


def rows(options: argparse.Namespace) -> Iterator[Row]:
    """For the table of all benchmarks."""
    alone, beside_one, beside_three = (analyzing(options.run, neighbors) for neighbors in NEIGHBORS)
    yield Row(
        "`interp analyze`, beside a busy process",
        f"{beside_one / alone:.1f}×",
        f"alone {alone:.1f} s; beside three {beside_three / alone:.1f}×",
        "≤ 2×, beside three ≤ 4×",
    )


def add_options(parser: argparse.ArgumentParser) -> None:
    """Those of this benchmark."""
    parser.add_argument("--run", type=Path, default=reference_path(), help="whose analyses (default: the packaged run)")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add_options(parser)
    for row in rows(parser.parse_args()):
        print(f"{row.what}  {row.ours}  {row.beside}  goal: {row.goal}")


if __name__ == "__main__":
    main()
