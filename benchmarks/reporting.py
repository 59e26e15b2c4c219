"""How long the report of a run takes, once its analyses are there: of the packaged run, in a process of its own.

python -m benchmarks.reporting
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.table import Row, seconds
from interp import reference_path


def rows(options: argparse.Namespace) -> Iterator[Row]:
    """For the table of all benchmarks."""
    with tempfile.TemporaryDirectory() as temporary:
        run = Path(temporary) / "run"
        shutil.copytree(options.run, run)
        program = "import sys; from interp.cli import main; sys.exit(main(sys.argv[1:]))"
        command = [sys.executable, "-c", program, "report", str(run), "-o", str(run / "report.html")]

        def report() -> None:
            subprocess.run(command, check=True, capture_output=True)

        with_analyses, alone = seconds(report), seconds(report)
        size = (run / "report.html").stat().st_size
        n_checkpoints = len(list((run / "steps").iterdir()))
    what = f"`interp report`, {n_checkpoints} checkpoints"
    yield Row(what, f"{alone:.1f} s", f"with the analyses {with_analyses:.1f} s; {size / 1e6:.1f} MB", "")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Those of this benchmark."""
    parser.add_argument("--run", type=Path, default=reference_path(), help="whose report (default: the packaged run)")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add_options(parser)
    for row in rows(parser.parse_args()):
        print(f"{row.what}  {row.ours}  {row.beside}")


if __name__ == "__main__":
    main()
