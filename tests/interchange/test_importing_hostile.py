"""What is no plain file, or claims more than it has, ends in one line that names it, in every place that is read from.

tests/hostile_imports.py does it with many more, in a process each, and measures time and memory."""

import os
import struct
import zipfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest
import torch

from interp.cli import main
from interp.errors import InputError
from interp.interchange import import_run
from interp.interchange.importing import series
from interp.interchange.importing.contents import read_file
from interp.interchange.importing.pickles import load_pickled
from interp.interchange.importing.sources import find_sources
from interp.interchange.importing.training_pairs import check_count
from interp.interchange.plain_files import check_plain, read_toml
from tests.interchange.archives import rezipped, saved, sound
from tests.interchange.hostile_places import LONE, ODD, PLACES, packed, placed, written
from tests.interchange.hostile_tensors import claims, shared_sections

# Those of which the file is named, and not found beside others.
NAMED = [place for place in PLACES if place.startswith(("--", "curves", "weights w", "a part"))]


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def soon(within: Callable[[float, BaseException], AbstractContextManager[None]]) -> Iterator[None]:
    """What hangs is an error."""
    with within(120, TimeoutError("it hangs")):
        yield


@pytest.mark.parametrize("place", NAMED)
def test_what_is_no_plain_file_is_refused_unopened(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    for number, (what, make) in enumerate(ODD.items()):
        (tmp_path / str(number)).mkdir()
        monkeypatch.chdir(tmp_path / str(number))
        case = placed(place, make, what)
        case.make()
        assert main(case.arguments) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1
        assert case.file in said
        assert not Path("run").exists()


@pytest.mark.parametrize("what", ["FIFO", "link to itself", "link out"])
def test_what_lies_beside_and_is_no_plain_file_is_said_and_not_read(what: str, tmp_path: Path):
    written({"d/w.safetensors": LONE["w.safetensors"]})
    for name in ("config.json", "hparams.yaml", "train_indices.npy", "split.json", "trainer_state.json"):
        ODD[what](Path("d", name))
    [source] = find_sources([Path("d/w.safetensors")])
    said = [note.partition(" beside")[0] for note in source.notes]
    assert said == [
        "'config.json'",
        "'hparams.yaml'",
        "'train_indices.npy'",
        "'split.json'",
        "'trainer_state.json'",
    ]


def test_a_damaged_configuration_beside_is_mended_by_another():
    """As the refusal of it says; and damaged training pairs by --split."""
    written(LONE | {"config.json": b"{", "train_indices.json": b"[[", "mine.json": b'{"p": 5}'})
    with pytest.raises(InputError, match=r"config.json is damaged: .*; give another one: --config FILE"):
        import_run("w.safetensors", "run", task={"operation": "add"}, accept_unverified=True)
    with pytest.raises(InputError, match=r"train_indices.json is damaged: .*; give another one: --split file:FILE"):
        import_run("w.safetensors", "run", task={"operation": "add"}, accept_unverified=True, configuration="mine.json")
    run = import_run(
        "w.safetensors",
        "run",
        task={"operation": "add"},
        accept_unverified=True,
        configuration="mine.json",
        split="none",
    )
    notes = [note for note in run.info["imported"]["notes"] if note.startswith("not read")]
    assert [note.split()[2].rpartition("/")[2] for note in notes] == ["train_indices.json", "config.json"]


def test_a_file_that_vanishes_meanwhile_is_named(monkeypatch: pytest.MonkeyPatch):
    written({f"d/{step}.pt": saved(sound()) for step in (1, 2)})

    def vanished(path: Path) -> list:
        Path("d/2.pt").unlink(missing_ok=True)
        return read_file(path)

    monkeypatch.setattr(series, "read_file", vanished)
    with pytest.raises(InputError, match=r"cannot read d/2.pt: No such file"):
        find_sources([Path("d")])


def test_a_folder_that_may_not_be_read_is_named(tmp_path: Path):
    written({"d/1.pt": saved(sound()), "d/locked/2.pt": saved(sound())})
    Path("d/locked").chmod(0)
    tmp_path.chmod(0o755)
    before = os.geteuid()
    if before == 0:  # whom nothing is locked for
        os.seteuid(65534)
    try:
        with pytest.raises(InputError, match=r"cannot read d/locked: Permission denied"):
            find_sources([Path("d")])
    finally:
        os.seteuid(before)
        Path("d/locked").chmod(0o755)


# ---- sums, and lengths -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["w.pt", "w.npz"])
def test_a_flipped_bit_of_a_weight_is_told_by_the_archives_sum(name: str):
    weights = sound()
    if name == "w.pt":
        torch.save(weights, name)
    else:
        Path(name).write_bytes(packed(**{tensor: weight.numpy() for tensor, weight in weights.items()}))
    content = bytearray(Path(name).read_bytes())
    at = content.find(weights["embed.W_E"].numpy().tobytes())
    content[at + 5] ^= 4
    Path(name).write_bytes(content)
    with pytest.raises(InputError, match=rf"{name} is damaged: Bad CRC-32"):
        import_run(name, "run", task={"operation": "add"}, accept_unverified=True)
    assert not Path("run").exists()


def test_an_archive_without_sums_is_refused():
    """Whether it is damaged nobody could know."""
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(sound(), "w.pt")
    finally:
        torch.serialization.set_crc32_options(True)
    with pytest.raises(InputError, match=r"w.pt is damaged: Bad CRC-32"):
        load_pickled(Path("w.pt"))


def test_a_tensor_is_as_long_as_what_is_stored_of_it():
    """Of two tensors whose entries are exchanged in the program, the longer would go on into the entry that follows."""
    weights = {"a": torch.ones(6, 4), "b": torch.ones(2, 2)}
    content = saved(weights)

    def exchanged(name: str, old: bytes) -> bytes:
        if not name.endswith("data.pkl"):
            return old
        first, second = b"X\x01\x00\x00\x000", b"X\x01\x00\x00\x001"
        assert old.count(first) == old.count(second) == 1
        return old.replace(first, b"\0" * 6).replace(second, first).replace(b"\0" * 6, second)

    Path("w.pt").write_bytes(rezipped(content, exchanged))
    with pytest.raises(
        InputError, match=r"w.pt is damaged: a tensor claims \d+ bytes of its entry '[01]', and \d+ are"
    ):
        load_pickled(Path("w.pt"))


@pytest.mark.parametrize(
    ("beside", "expected"),
    [
        ({"train_indices": [torch.zeros(1, dtype=torch.int64).expand(2**30)]}, "claims 1,073,741,824 numbers"),
        ({"train_indices": [[[0] * 1000] * 1000] * 1000}, "claims 1,000,000,000 numbers"),
        ({"train_data": [[[[[1]]]]]}, "lists within lists"),
        ({"split": {"train": [[1, 2], torch.zeros(1).expand(2**30)]}}, "claims 1,073,741,826 numbers"),
    ],
    ids=["a number a million times", "lists that are one another", "deep", "in a section"],
)
def test_training_pairs_are_counted_before_an_array_is_made_of_them(beside: dict, expected: str):
    torch.save({"model": sound(), **beside}, "w.pt")
    with pytest.raises(InputError, match=rf"w\.pt.*{expected}"):
        find_sources([Path("w.pt")])


def test_all_pairs_of_the_largest_modulus_are_not_too_many():
    check_count("x", np.broadcast_to(np.int64(0), (4096**2, 2)))


def test_sections_that_are_one_another_are_read_once():
    torch.save({"model": sound(), "config": shared_sections()}, "w.pt")
    run = import_run("w.pt", "run", task={"operation": "add"}, accept_unverified=True)
    assert run.task.p == 5


def test_a_file_that_is_mostly_holes_is_damaged():
    with Path("w.bin").open("wb") as file:
        file.write(b"x" * 4096)
        file.truncate(2**30)
    with pytest.raises(InputError, match=r"w.bin is damaged: it claims 1,073,741,824 bytes, and no more than \d"):
        check_plain(Path("w.bin"))
    Path("dense.bin").write_bytes(b"x" * 100_000)
    check_plain(Path("dense.bin"))


@pytest.mark.parametrize(
    ("steps", "expected"),
    [([1.5, 2.0], "holds 1.5 as a step"), ([10**18, 2], "holds 1000000000000000000 as a step"), ([1.0, 2.0], None)],
)
def test_steps_beside_arrays_are_whole_and_no_more_than_there_can_be(steps: list, expected: str | None):
    Path("d").mkdir()
    for name, weight in sound().items():
        np.save(f"d/{name}.npy", np.stack([weight.numpy()] * 2))
    np.save("d/steps.npy", np.array(steps))
    if expected is None:
        assert [source.step for source in find_sources([Path("d")])] == [1, 2]
    else:
        with pytest.raises(InputError, match=rf"d/steps.npy {expected}, expected whole numbers up to"):
            find_sources([Path("d")])


def test_arrays_of_which_one_is_no_plain_file_are_refused():
    """Without it they could be another network."""
    Path("d").mkdir()
    for name, weight in sound().items():
        np.save(f"d/{name}.npy", weight.numpy())
    Path("elsewhere.npy").write_bytes(Path("d/embed.W_E.npy").read_bytes())
    Path("d/extra.npy").symlink_to("../elsewhere.npy")
    with pytest.raises(InputError, match=r"d is arrays, one for each tensor, and 'extra.npy' is no plain file of that"):
        find_sources([Path("d")])


def _long_header() -> bytes:
    return struct.pack("<Q", 11_000_000) + b'{"' + b" " * 11_000_000


CONTENTS: dict[str, tuple[str, Callable[[], bytes], str]] = {
    "YAML nested deep": ("--config c.yaml", lambda: b"[" * 100_000, "it nests deeper than 50"),
    "TOML with a long key": ("--config c.toml", lambda: b"a" + b".a" * 90_000 + b" = 1", "a key of more than 50 parts"),
    "TOML nested deep": ("--mapping", lambda: b"a = " + b"[" * 90_000, "is not valid TOML: maximum recursion"),
    "TOML with a long number": ("--mapping", lambda: b"a = " + b"9" * 9000, "is not valid TOML: Exceeds the limit"),
    "JSON of 17 MB": (
        "--split s.json",
        lambda: b"[" + b"[]," * 5_700_000 + b"[]]",
        "at most 16,000,000 are read of any",
    ),
    "an array that claims 2^60": ("--split s.npy", lambda: claims(f"({2**60},)"), "its shape .* makes no sense"),
    "a long header": ("--split s.safetensors", _long_header, "has a header of 11,000,000 bytes"),
    "a long header of weights": ("weights w.safetensors", _long_header, "has a header of 11,000,000 bytes"),
    "a long line of JSON": ("curves c.jsonl", lambda: b"[" * 1_100_000, "1,100,000 letters in line 1"),
    "wide and short rows": (
        "curves c.csv",
        lambda: b",".join(b"c%d" % n for n in range(2000)) + b"\n" + b"1\n" * 6000,
        "2,000 columns and more than 5,001 rows",
    ),
}


@pytest.mark.parametrize("kind", CONTENTS)
def test_contents_that_would_take_forever(kind: str, capsys: pytest.CaptureFixture, recwarn: pytest.WarningsRecorder):
    place, make, expected = CONTENTS[kind]
    case = placed(place, lambda path: path.write_bytes(make()), kind)
    case.make()
    assert main(case.arguments) == 2
    with pytest.raises(InputError, match=expected):
        raise InputError(capsys.readouterr().err)


def test_the_keys_of_a_mapping_are_not_long():
    name = "blocks.0.attn.W_Q"
    Path("m.toml").write_text(
        f'[tensors]\n"{name}" = {{ to = "{name}", pattern = "a b -> b a" }}\nx.y.z = [0.5, 0.25]\n'
    )
    assert read_toml(Path("m.toml"), "any mapping")["tensors"][name]["to"] == name


def test_an_array_with_more_behind_it_is_damaged():
    with zipfile.ZipFile("w.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, weight in sound().items():
            with archive.open(f"{name}.npy", "w") as file:
                np.save(file, weight.numpy())
                file.write(bytes(100_000 if name == "embed.W_E" else 0))
    with pytest.raises(InputError, match=r"w.npz is damaged: 'embed.W_E' has more in it than its array"):
        import_run("w.npz", "run", task={"operation": "add"}, accept_unverified=True)
