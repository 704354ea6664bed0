"""What importing costs: FunctionFuse over bare Python, its Prefect backend over Prefect; processes from start to end."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Final

from measuring import OURS, Options, Row, Target, available, in_turns, main, timed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MILLI: Final = 1e3
BARE: Final = "bare Python"


def process(code: str) -> Callable[[], float]:
    """Something that says how many milliseconds a process with this code takes."""
    return timed(lambda: subprocess.run([sys.executable, "-c", code], check=True), MILLI)  # noqa: S603


def measure(options: Options) -> Iterator[Row]:
    """All rows."""
    small = {OURS: process("import functionfuse"), BARE: process("pass")}
    taken = in_turns(small, 4 * options.repeats)
    yield Row.of("import", "functionfuse", "ms", taken, Target(30, BARE, "more"))
    if available("prefect"):
        backend = "functionfuse.backends.addons.prefectback"
        large = {OURS: process(f"import {backend}"), "prefect": process("import prefect")}
        taken = in_turns(large, options.repeats)
        yield Row.of("import", backend, "ms", taken, Target(1.1, "prefect", "ratio"))


if __name__ == "__main__":
    main(measure, __doc__)
