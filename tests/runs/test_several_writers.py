"""Several processes write one name at once: tests/two_writers.py, a few rounds of it."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_one_wins_and_nobody_reads_a_torn_file() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.two_writers", "--rounds", "2"],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "reads of a result" in done.stdout
