"""Run benchmarks, each in a process of its own, and make one table of all.

Run all with `make bench`, some with `python benchmarks/run.py local stored`.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from measuring import arguments, report
from table import about, text

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Mapping

HERE: Final = Path(__file__).parent
NAMES: Final = (
    *("imports", "local", "million", "stored", "provenance", "storage"),
    *("local_workers", "engines", "prefect_flows", "memory"),
)
LONG: Final = {"memory"}  # run only by name, or by --long
README: Final = HERE / "README.md"
BEGIN: Final = "<!-- the last table -->\n"
END: Final = "<!-- end of the last table -->\n"


def rows_of(name: str, given: Namespace, folder: Path) -> list[Mapping[str, Any]] | None:
    """Run one benchmark; None if it fails, which it has said then."""
    file = folder / f"{name}.json"
    command = [sys.executable, str(HERE / f"{name}.py"), "--json", str(file)]
    command += ["--repeats", str(given.repeats), "--scale", str(given.scale)]
    command += ["--folder", given.folder] if given.folder else []
    command += ["--long"] if given.long else []
    done = subprocess.run(command, stdout=subprocess.DEVNULL, check=False)  # noqa: S603
    if done.returncode:
        return None
    rows: list[Mapping[str, Any]] = json.loads(file.read_text(encoding="utf-8"))["rows"]
    return rows


def write_readme(found: Mapping[str, Any]) -> None:
    """Put the table where the last one stands."""
    page = README.read_text(encoding="utf-8")
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    table = f"{about(found['machine'])}\n\n{text(found['rows'])}\n"
    README.write_text(f"{before}{BEGIN}\n{table}\n{END}{after}", encoding="utf-8")


def chosen(given: Namespace) -> list[str]:
    """What to run, in the order of this file's list."""
    if given.names:
        return [name for name in NAMES if name in given.names]
    return [name for name in NAMES if given.long or name not in LONG]


def main() -> int:
    """Run the chosen benchmarks; the exit status shows whether one failed."""
    parser = arguments(__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help=", ".join(NAMES))
    parser.add_argument("--write-readme", action="store_true", help="keep the table in README.md")
    given = parser.parse_args()
    if unknown := set(given.names) - set(NAMES):
        parser.error(f"no benchmark is called {', '.join(sorted(unknown))}")
    rows, failed = [], []
    with tempfile.TemporaryDirectory() as folder:
        for name in chosen(given):
            found = rows_of(name, given, Path(folder))
            rows += found or []
            failed += [name] if found is None else []
    kept = report(rows, given.json)
    if given.write_readme:
        write_readme(kept)
    if failed:
        print(f"failed: {', '.join(failed)}; run them alone to see why", file=sys.stderr)
    return len(failed)


if __name__ == "__main__":
    sys.exit(main())
