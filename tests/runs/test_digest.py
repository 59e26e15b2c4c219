"""The digest of a set of tensors, computed by hand from a file as checkpoints/README.md says."""

import hashlib
import json
import re
from pathlib import Path

import pytest
import torch

from interp.experiment import ModelConfig, Task
from interp.runs import RunWriter, open_run, step_name, weights_digest
from interp.runs.format import split_arrays, split_digest

SPECIFICATION = (Path(__file__).parents[2] / "checkpoints" / "README.md").read_text(encoding="utf-8")
# PyTorch's types, by their names in the header of a file.
TYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


def by_hand(content: bytes) -> str:
    """From the bytes of a file alone."""
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start])
    digest = hashlib.sha256()
    for name in sorted(header.keys() - {"__metadata__"}, key=str.encode):
        kind, (begin, end) = header[name]["dtype"], header[name]["data_offsets"]
        written = kind if kind in ("F32", "I64") else str(TYPES[kind])
        digest.update(f"{name} {written} {header[name]['shape']}\n".encode() + content[start + begin : start + end])
    return digest.hexdigest()[:16]


@pytest.mark.parametrize("kind", TYPES)
def test_the_digest_of_a_state_is_the_one_that_is_specified(kind: str, tmp_path: Path) -> None:
    tensor = torch.tensor([[0, 1, 1], [1, 0, 0]]).to(TYPES[kind])
    with RunWriter.create(tmp_path / "run", Task(7), ModelConfig(d_mlp=4)) as writer:
        writer.write_state("mine.safetensors", 10, {"b": tensor, "a": torch.ones(2), "none": tensor[:0]})
    content = (tmp_path / "run" / "state" / "mine.safetensors").read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    assert json.loads(header["__metadata__"]["interp"])["tensors"] == by_hand(content)
    paragraph = re.search(r"\*\*The digest\*\*.*?\n\n", SPECIFICATION, re.DOTALL)[0]
    assert f"`{kind if kind in ('F32', 'I64') else TYPES[kind]}`" in paragraph


def test_the_digest_of_weights_and_of_the_split(run: Path) -> None:
    sound = open_run(run)
    assert by_hand((run / "split.safetensors").read_bytes()) == sound.info["split_digest"]
    assert by_hand((run / "steps" / step_name(10)).read_bytes()) == sound.digests[10]


@pytest.mark.parametrize("validation_fraction", [0.0, 0.5])
def test_the_digest_of_a_split_is_the_same_without_torch(validation_fraction: float):
    arrays = split_arrays(Task(7, train_fraction=0.4, validation_fraction=validation_fraction))
    tensors = {name: torch.from_numpy(values) for name, values in arrays.items()}
    assert split_digest(arrays) == weights_digest(tensors)
    assert len(arrays) == 2 + (validation_fraction > 0)
