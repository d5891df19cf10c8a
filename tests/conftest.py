"""Fixtures that every test may use."""

from pathlib import Path

import pytest
from hypothesis import settings

# How long an example takes is the machine's affair: no deadlines.
settings.register_profile("lockstep", deadline=None)
settings.load_profile("lockstep")

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--rewrite`: text scripts take the trace that they give now; review the difference."""
    parser.addoption("--rewrite", action="store_true", help="rewrite expected traces of text scripts")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of recorded facts beside the checkout; tests that need it are marked `real_data`."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"no recorded data at {SHARED_DATA}: this test reads facts that are kept beside the checkout")
    return SHARED_DATA
