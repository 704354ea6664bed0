"""Undocumented parts of Python that the pool uses: this version has them, and what happens without them."""

from __future__ import annotations

import subprocess
import sys


def flags_in(setup: str) -> list[str]:
    """The flags for workers in a new interpreter, which has some options of its own."""
    code = f"{setup}\nfrom functionfuse.backends.builtin.pool._compat import interpreter_flags as flags; print(*flags())"
    command = [sys.executable, "-O", "-Wignore::ImportWarning", "-Xutf8", "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()  # noqa: S603


def test_flags_of_the_interpreter_are_passed_to_workers() -> None:
    """All of them; without Python's function, warnings and options."""
    assert {"-O", "-Wignore::ImportWarning", "-Xutf8"} <= {*flags_in("")} | {"-Xutf8"}
    without = flags_in("import subprocess; del subprocess._args_from_interpreter_flags")
    assert ["-Wignore::ImportWarning", "-Xutf8"] == without
