"""Fewer samples in a bootstrap: the verdicts here do not hang on the third digit."""

import pytest

from interp.studies import statistics


@pytest.fixture(autouse=True)
def few_samples(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(statistics, "DRAWS", 100)
