"""Thousands of damaged checkpoint files, each of which must end in sound tensors or in one clear line, soon, in little
memory.

    .venv/bin/python tests/mutate_checkpoints.py --files 5000

Every file is imported for real. A file that takes more than ten seconds, a traceback, a run that is left behind
half-written, or memory beyond what the sound files take ends the script with an assertion that names the seed.
"""

import argparse
import io
import random
import resource
import shutil
import tempfile
import time
from pathlib import Path

import safetensors.torch
import torch

from interp.errors import InputError
from interp.experiment import ModelConfig
from interp.interchange import import_run
from interp.models import initial_weights
from interp.runs import open_run

SECONDS, MEGABYTES = 10, 200


def originals() -> list[bytes]:
    """Sound files of every kind that is read."""
    weights = initial_weights(ModelConfig(d_model=4, n_heads=2, d_mlp=3), 5)
    found = [safetensors.torch.save(weights, {"step": "3"})]
    for content in (
        weights,
        {"model": weights, "epoch": 3, "train_loss": 0.5},
        {"state_dicts": [weights, weights], "epochs": [1, 2]},
    ):
        file = io.BytesIO()
        torch.save(content, file)
        found.append(file.getvalue())
    return found


def mutated(original: bytes, chance: random.Random) -> bytes:
    """One to eight bytes or stretches set, cut, inserted, repeated or swapped, half of them near the file's
    descriptions of itself."""
    content = bytearray(original)
    for _ in range(chance.randint(1, 8)):
        at = chance.randrange(min(len(content), 700) if chance.random() < 0.5 else len(content)) if content else 0
        length = chance.choice((1, 2, 4, 8, 64))
        how = chance.choice(("set", "flip", "cut", "insert", "repeat", "large"))
        if how == "set":
            content[at : at + length] = chance.randbytes(length)
        elif how == "flip" and content:
            content[at] ^= 1 << chance.randrange(8)
        elif how == "cut":
            del content[at : at + length]
        elif how == "insert":
            content[at:at] = chance.randbytes(length)
        elif how == "repeat":
            content[at:at] = content[at : at + length]
        else:
            content[at : at + 4] = b"\xff\xff\xff\x7f"
    return bytes(content)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--files", type=int, default=500, help="how many (default: 500)")
    parser.add_argument("--seed", type=int, default=0, help="of the mutations (default: 0)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    chance, sound, refused, slowest = random.Random(options.seed), 0, 0, 0.0
    with tempfile.TemporaryDirectory() as temporary:
        file, run = Path(temporary) / "file.pt", Path(temporary) / "run"
        for content in originals():
            file.write_bytes(content)
            import_run(file, run, task={"operation": "add"}, accept_unverified=True, overwrite=True)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        began = time.monotonic()
        for number in range(options.files):
            shutil.rmtree(run, ignore_errors=True)
            file.write_bytes(mutated(chance.choice(originals()), chance))
            start, complaint = time.monotonic(), ""
            try:
                import_run(file, run, task={"operation": "add"}, accept_unverified=True)
                open_run(run)
                sound += 1
            except InputError as error:
                complaint = str(error)
                refused += 1
            assert "\n" not in complaint, f"file {number} of seed {options.seed}: {complaint}"
            assert run.exists() == (not complaint), f"file {number} of seed {options.seed} left a run behind"
            slowest = max(slowest, time.monotonic() - start)
            assert slowest < SECONDS, f"file {number} of seed {options.seed} took {slowest:.1f} s"
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        assert grown < MEGABYTES, f"memory grew by {grown:.0f} MB"
        left = [path.name for path in Path(temporary).iterdir() if path.name not in ("file.pt", "run")]
        assert not left, f"left behind: {left}"
    seconds = time.monotonic() - began
    print(f"{options.files} damaged files in {seconds:.0f} s: {refused} refused, {sound} read")
    print(f"slowest {slowest:.2f} s, memory +{grown:.0f} MB")


if __name__ == "__main__":
    main()
