"""Fields that come later, and configurations within configurations: the mechanism, on a configuration of the test."""

from dataclasses import dataclass, field
from typing import Literal

import pytest
import tyro

from interp import InputError
from interp.experiment import hash_of, recorded, recorded_section, section_from_dict, section_to_dict


@dataclass(frozen=True)
class Filter:
    """A group of fields that belong together."""

    kind: Literal["none", "ema"] = "none"
    strength: float = 2.0
    window: int = field(default=100, metadata={"later": True})


@dataclass(frozen=True)
class Before:
    """A configuration as it was first written."""

    lr: float = 0.01
    betas: tuple[float, float] = (0.9, 1)


@dataclass(frozen=True)
class After(Before):
    """The same with a field and a group that came later."""

    loss: Literal["cross-entropy", "squared-error"] = field(default="cross-entropy", metadata={"later": True})
    filter: Filter = field(default=Filter(), metadata={"later": True})


@pytest.fixture(autouse=True)
def section(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(recorded.SECTIONS, "planted", After)


def test_what_came_later_is_not_recorded_at_its_default() -> None:
    assert recorded_section(After()) == recorded_section(Before()) == {"lr": 0.01, "betas": [0.9, 1.0]}
    assert hash_of(recorded_section(After(lr=0.01))) == hash_of(recorded_section(Before()))
    assert recorded_section(After(loss="squared-error"))["loss"] == "squared-error"


def test_a_group_is_recorded_as_a_whole_but_for_what_came_later_within() -> None:
    assert recorded_section(After(filter=Filter("ema", 3)))["filter"] == {"kind": "ema", "strength": 3.0}
    assert recorded_section(After(filter=Filter(window=7)))["filter"] == {"kind": "none", "strength": 2.0, "window": 7}
    assert section_to_dict(After())["filter"] == {"kind": "none", "strength": 2.0, "window": 100}


def test_what_was_recorded_is_read_again() -> None:
    for config in (After(), After(filter=Filter("ema", 3)), After(loss="squared-error", filter=Filter(window=7))):
        assert section_from_dict("planted", recorded_section(config)) == config
        assert section_from_dict("planted", section_to_dict(config)) == config


def test_a_part_of_a_group_leaves_the_rest_as_the_base_has_it() -> None:
    base = After(filter=Filter("ema", 3.0, 50))
    changed = section_from_dict("planted", {"filter": {"strength": 1.5}}, base)
    assert changed == After(filter=Filter("ema", 1.5, 50))


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"filter": {"knid": "ema"}}, r"field in \[planted\.filter\] 'knid'; did you mean 'kind'"),
        ({"filter": {"kind": "em"}}, r"planted\.filter\.kind: .*got 'em'"),
        ({"filter": {"strength": "2"}}, r"planted\.filter\.strength"),
        ({"filter": 3}, r"planted\.filter must be a table of fields, got 3"),
    ],
)
def test_what_cannot_be_is_named_by_its_path(values: dict, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        section_from_dict("planted", values)


def test_the_command_line_nests_by_itself() -> None:
    assert tyro.cli(After, args=["--filter.kind", "ema", "--filter.window", "3"]) == After(
        filter=Filter("ema", window=3)
    )
