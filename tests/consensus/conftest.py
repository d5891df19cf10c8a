"""Consensus tests use signatures that cost a hash; one module turns the real ones on again."""

import pytest

from tests.support.consensus_keys import use_fake_signatures


@pytest.fixture(autouse=True)
def _signatures(monkeypatch: pytest.MonkeyPatch) -> None:
    use_fake_signatures(monkeypatch)
