"""Some of the damages of tests/flip_bits.py, which does the same ten thousand times: no answer is another without a
word."""

from collections import Counter
from pathlib import Path

import pytest

from tests import flip_bits

DAMAGES = range(40)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> flip_bits.Sound:
    place = tmp_path_factory.mktemp("sound")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        return flip_bits.sound_runs(place, seed=5)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_no_damage_changes_an_answer_without_a_word(sound: flip_bits.Sound) -> None:
    found = Counter()
    for number in DAMAGES:
        damage, outcome, why = sound.hit(number)
        assert outcome in flip_bits.FINE, f"{damage}: {why}"
        found[outcome] += 1
    assert found["refused"] > len(DAMAGES) / 2


def test_a_reader_that_believes_everything_is_caught(sound: flip_bits.Sound, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the lines nothing but their number is looked at."""

    def credulous() -> int:
        return len((flip_bits.RUN / "metrics.jsonl").read_bytes())

    monkeypatch.setattr(flip_bits, "READERS", {"credulous": credulous})
    files = sound.runs["finished"]
    flip_bits.put(files)
    answers = {"credulous": flip_bits.answer(credulous)}
    cut = flip_bits.Damage(0, "finished", "metrics.jsonl", "a byte more", files["metrics.jsonl"] + b" ")
    other = flip_bits.Damage(0, "finished", "run.json", "a byte more", files["run.json"] + b" ")
    assert flip_bits.outcome(other, answers, files)[0] == "equal"
    assert flip_bits.outcome(cut, answers, files)[0] == "earlier"  # its lines are the same
    line = flip_bits.Damage(0, "finished", "metrics.jsonl", "a line less", files["metrics.jsonl"].split(b"\n", 1)[1])
    assert flip_bits.outcome(line, answers, files) == ("SILENT", "credulous")


def test_every_damage_is_one_and_can_be_repeated(sound: flip_bits.Sound) -> None:
    for number in DAMAGES:
        damage = flip_bits.damage(number, sound.seed, sound.runs)
        assert damage.content != sound.runs[damage.kind][damage.name]
        assert damage == flip_bits.damage(number, sound.seed, sound.runs)
