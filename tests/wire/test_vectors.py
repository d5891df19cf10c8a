"""The wire format is frozen: each encoding must be the recorded one, byte for byte."""

import json

from tests.vectors.make import PATH, vectors


def test_encodings_are_the_recorded_ones() -> None:
    recorded = json.loads(PATH.read_text())
    assert vectors() == recorded, "a format has changed: see tests/vectors/make.py"
