"""Numbers in words."""

import pytest

from interp.figures import as_size


@pytest.mark.parametrize(
    ("n_bytes", "expected"),
    [
        (0, "0 bytes"),
        (1, "1 byte"),
        (2_710, "2.7 kB"),
        (2_710_000, "2.7 MB"),
        (46 * 10**10, "460.0 GB"),
        (46 * 10**12, "46.0 TB"),
    ],
)
def test_a_size_is_told_in_the_unit_that_fits(n_bytes: int, expected: str):
    assert as_size(n_bytes) == expected


def test_any_size_can_be_told():
    """A slip of the finger asks for more steps than a float holds."""
    assert as_size(10**400).endswith(" YB")
