"""How long it takes until anything happens: `import interp` and `interp --help`, each in a process of its own.

python -m benchmarks.starting [--repeats 10]
"""

import argparse
import subprocess
import sys
from collections.abc import Iterator

from benchmarks.table import Row, seconds

CLOCKED = "import time; began = time.perf_counter(); import {}; print(time.perf_counter() - began)"


def importing(module: str, repeats: int) -> float:
    """The least seconds of an import, without the start of Python."""
    command = [sys.executable, "-c", CLOCKED.format(module)]
    return min(
        float(subprocess.run(command, check=True, capture_output=True, text=True).stdout) for _ in range(repeats)
    )


def helping(repeats: int) -> float:
    """The least seconds of `interp --help`, with the start of Python."""
    command = [sys.executable, "-c", "import interp.cli; interp.cli.main(['--help'])"]
    return min(seconds(lambda: subprocess.run(command, check=True, capture_output=True)) for _ in range(repeats))


def rows(options: argparse.Namespace) -> Iterator[Row]:
    """For the table of all benchmarks."""
    torch = importing("torch", min(options.repeats, 3))
    yield Row(
        "`import interp`", f"{importing('interp', options.repeats):.3f} s", f"`import torch` {torch:.1f} s", "≤ 0.15 s"
    )
    python = min(
        seconds(lambda: subprocess.run([sys.executable, "-c", ""], check=True)) for _ in range(options.repeats)
    )
    yield Row("`interp --help`", f"{helping(options.repeats):.2f} s", f"`python -c ''` {python:.2f} s", "≤ 0.35 s")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Those of this benchmark."""
    parser.add_argument("--repeats", type=int, default=10, help="of each start; the least counts (default: 10)")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add_options(parser)
    for row in rows(parser.parse_args()):
        print(f"{row.what:<20} {row.ours:>10}   {row.beside}   goal: {row.goal}")


if __name__ == "__main__":
    main()
