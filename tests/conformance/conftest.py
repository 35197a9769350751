"""What the tests of the suite share: its command line, run in this process."""

from __future__ import annotations

import pytest

from gradconform.conformance.cli import main


@pytest.fixture
def command_line(capfd):
    """Return what runs a command: its exit code, output and errors."""

    def run(*words):
        with pytest.raises(SystemExit) as left:
            main([str(word) for word in words])
        told = capfd.readouterr()
        return left.value.code, told.out, told.err

    return run
