"""Folders that appear whole or not at all, in place of nothing that must not be replaced."""

import contextlib
import errno
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from interp.errors import InputError
from interp.machine import Folder, building, built_beside, write_atomically


def refuse(code: int) -> Callable[..., None]:
    def refusing(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    return refusing


@pytest.fixture(params=[True, False], ids=["exchanging", "renaming twice"])
def exchanges(request: pytest.FixtureRequest, monkeypatch) -> bool:
    """Whether the file system lets two names change places in one moment."""
    if not request.param:
        monkeypatch.setattr(building, "_exchange", lambda one, other: False)
    return request.param


def folder_with(path: Path, content: str) -> Path:
    path.mkdir()
    (path / "content").write_text(content)
    return path


@contextlib.contextmanager
def replacing(place: Path) -> Iterator[Folder]:
    """As a run is written: in place of nothing, or of the one that is locked meanwhile."""
    with contextlib.ExitStack() as held:
        old = held.enter_context(Folder(place)) if place.exists() else None
        if old is not None:
            old.lock()
        yield held.enter_context(built_beside(place, old))


def replace(place: Path, content: str) -> None:
    with replacing(place) as fresh:
        fresh.write("content", content.encode())


def test_what_is_replaced_is_replaced(exchanges: bool, tmp_path: Path) -> None:
    place = folder_with(tmp_path / "place", "old")
    replace(place, "new")
    assert (place / "content").read_text() == "new"
    assert os.listdir(tmp_path) == ["place"]


def test_a_folder_that_cannot_be_put_in_place_leaves_the_old_one(exchanges: bool, tmp_path: Path, monkeypatch) -> None:
    place = folder_with(tmp_path / "place", "old")
    with monkeypatch.context() as patch:
        patch.setattr(building, "_exchange", refuse(errno.EIO))
        if not exchanges:
            rename, fresh = os.rename, lambda: next(tmp_path.glob(".place.*.tmp"), None)
            patch.setattr(building, "_exchange", lambda one, other: False)
            patch.setattr(os, "rename", lambda a, b, **at: refuse(errno.EIO)() if a == fresh() else rename(a, b, **at))
        with pytest.raises(InputError, match=f"cannot write {place}: Input/output error"):
            replace(place, "new")
    assert (place / "content").read_text() == "old"
    assert os.listdir(tmp_path) == ["place"]


@pytest.mark.parametrize("of_a_replacement", [False, True])
def test_what_would_not_outlast_the_power_is_not_there(
    of_a_replacement: bool, exchanges: bool, tmp_path: Path, monkeypatch
) -> None:
    place = tmp_path / "place"
    if of_a_replacement:
        folder_with(place, "old")
    with monkeypatch.context() as patch:
        patch.setattr(Folder, "sync", refuse(errno.EIO))
        with pytest.raises(InputError, match="Input/output error"):
            replace(place, "new")
    assert os.listdir(tmp_path) == (["place"] if of_a_replacement else [])
    assert not of_a_replacement or (place / "content").read_text() == "old"


def test_only_one_of_two_makers_succeeds_and_its_folder_stays(tmp_path: Path) -> None:
    place = tmp_path / "place"
    with pytest.raises(InputError, match=f"{place} was made by another process meanwhile"), built_beside(place):
        replace(place, "quicker")
    assert (place / "content").read_text() == "quicker"
    assert os.listdir(tmp_path) == ["place"]


def test_of_many_makers_at_once_one_succeeds(tmp_path: Path) -> None:
    place, together = tmp_path / "place", threading.Barrier(8, timeout=900)
    made: list[str] = []
    refused: list[str] = []

    def make(number: int) -> None:
        try:
            with built_beside(place) as fresh:
                fresh.write("content", str(number).encode())
                together.wait()
            made.append(str(number))
        except InputError as error:
            refused.append(str(error))

    makers = [threading.Thread(target=make, args=(number,)) for number in range(8)]
    for maker in makers:
        maker.start()
    for maker in makers:
        maker.join()
    assert made == [(place / "content").read_text()]
    assert len(refused) == 7
    assert all("was made by another process meanwhile" in words for words in refused)
    assert os.listdir(tmp_path) == ["place"]


def test_what_came_in_place_of_the_folder_to_replace_stays(exchanges: bool, tmp_path: Path) -> None:
    place = folder_with(tmp_path / "place", "old")
    with Folder(place) as old:
        old.lock()

        def build() -> None:
            with built_beside(place, old):
                place.rename(tmp_path / "elsewhere")
                folder_with(place, "another's")

        with pytest.raises(InputError, match="no longer what was to be replaced"):
            build()
    assert (place / "content").read_text() == "another's"
    assert sorted(os.listdir(tmp_path)) == ["elsewhere", "place"]


def test_a_kill_between_two_renames_is_undone_by_the_next(tmp_path: Path) -> None:
    """Where the file system cannot exchange: the old folder is aside, and nothing is at its place."""
    folder_with(tmp_path / ".place.0123456789abcdef.old", "old")
    with pytest.raises(InputError, match="was made by another process meanwhile"), built_beside(tmp_path / "place"):
        pass
    assert (tmp_path / "place" / "content").read_text() == "old"
    assert os.listdir(tmp_path) == ["place"]


def test_what_is_built_is_locked_meanwhile_and_its_lock_can_stay(tmp_path: Path) -> None:
    for stays in (False, True):
        place = tmp_path / str(stays)
        with built_beside(place, stays_locked=stays) as fresh:
            with Folder(fresh.path) as other:
                assert other.is_locked()
            twin = fresh.twin()
        assert (place / ".lock").exists() == stays
        with Folder(place) as built:
            assert built.is_locked() == stays
            twin.close()
            assert not built.is_locked()


def failing_in_the_folder(fresh: Path) -> None:
    (fresh / "content").write_text("half")
    write_atomically(fresh / "none" / "content", b"new")


@pytest.mark.parametrize(
    ("trouble", "expected"),
    [
        (failing_in_the_folder, "cannot write {}/none/content: No such file or directory"),
        (lambda fresh: (fresh / "none" / "content").write_text("new"), "cannot write {}: No such file or directory"),
    ],
)
def test_what_is_built_beside_is_there_whole_or_not_at_all(trouble: Callable, expected: str, tmp_path: Path) -> None:
    place = tmp_path / "place"
    for before, content in ((None, "first"), ("first", "second")):
        with pytest.raises(InputError) as caught, built_beside(place) as fresh:
            trouble(fresh.path)
        assert str(caught.value) == expected.format(place)
        assert os.listdir(tmp_path) == ([] if before is None else ["place"])
        assert before is None or (place / "content").read_text() == before
        with replacing(place) as fresh:
            (fresh.path / "content").write_text(content)
        assert (place / "content").read_text() == content
        assert os.listdir(tmp_path) == ["place"]
