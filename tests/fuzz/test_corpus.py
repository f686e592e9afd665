"""Run every input of the corpus in every target: inputs that once failed, and inputs that reach all of the code."""

from pathlib import Path

import pytest

from fuzz.targets import TARGETS

CORPUS = Path(__file__).with_name("corpus")


@pytest.mark.parametrize("target", TARGETS)
def test_target_accepts_every_input_of_the_corpus(target: str) -> None:
    inputs = sorted(CORPUS.glob("*/*"))
    own = [path for path in inputs if path.parent.name == target]
    assert len(own) > 10
    for path in inputs:
        try:
            TARGETS[target](path.read_bytes())
        except Exception as error:
            error.add_note(f"input: {path}")
            raise


@pytest.mark.parametrize("target", TARGETS)
def test_target_accepts_no_input(target: str) -> None:
    TARGETS[target](b"")
