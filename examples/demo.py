"""What `make demo` shows: the page of the README, and a comparison of classifiers on two backends.

Run it with `python examples/demo.py [folder]`; results go to `build/demo` unless told.
"""

from __future__ import annotations

import os
import re
import runpy
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

EXAMPLES = Path(__file__).resolve().parent
README = EXAMPLES.parent / "README.md"
WORKFLOW = "classifiers"


def prepare(folder: Path) -> None:
    """Make the folder, and let Prefect keep all that it writes in there; before Prefect is imported."""
    folder.mkdir(parents=True, exist_ok=True)
    os.environ["PREFECT_HOME"] = str(folder.resolve() / "prefect")
    os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"] = "false"
    os.environ["PREFECT_LOGGING_LEVEL"] = "WARNING"


def say(text: str = "") -> None:
    """Print at once, so that whoever waits sees where it is."""
    print(text, flush=True)


def page(folder: Path) -> None:
    """Run the first page of the README, word for word."""
    block = re.search(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert block
    file = folder / "page.py"
    file.write_text(block[1], encoding="utf-8")
    say("1. The page of the README, on Prefect\n")
    say("".join(f"    {line}".rstrip() + "\n" for line in block[1].splitlines()))
    if "PREFECT_API_URL" not in os.environ:
        say("   Prefect's own temporary server takes some ten seconds to start, once.")
    result = runpy.run_path(str(file))
    say(f"   c = {result['c']}\n")


def classifiers(folder: Path) -> None:
    """Run one file of plain functions in this process, on Prefect, and on Prefect once more."""
    import classifiers as scientist

    from functionfuse.backends.addons.prefectback import PrefectWorkflow
    from functionfuse.backends.builtin.localback import LocalWorkflow
    from functionfuse.storage import storage_factory

    def run(kind: type[Any], storage: Any = None) -> str:
        workflow = kind(*scientist.comparison(str(figure)), workflow_name=WORKFLOW)
        workflow.set_storage(storage)
        workflow.always_run("figure")  # a file is drawn in every run
        table, _ = workflow.run()
        report = workflow.report
        report.to_html(folder / "report.html")
        say(f"   {kind.__name__:16} {report.summary().partition(': ')[2]}")
        return str(table)

    figure, results = folder / "figure.png", folder / "results"
    storage = storage_factory({"kind": "file", "options": {"path": str(results)}})
    storage.remove_workflow(WORKFLOW)  # of an earlier demo
    say("2. examples/classifiers.py: four methods on three data sets\n")
    tables = [
        run(LocalWorkflow),
        run(PrefectWorkflow, storage),
        run(PrefectWorkflow, storage),
    ]
    same = "the same table each time" if len({*tables}) == 1 else "DIFFERENT TABLES"
    say("   The last run found what the one before had stored: it read what the targets need,")
    say(f"   left out the rest, and drew the figure again. They gave {same}:\n")
    say("".join(f"   {line}\n" for line in tables[0].splitlines()))
    say("   A result can be read at any later time:")
    accuracy = storage.read_task(WORKFLOW, "digits-svm-score")
    say(f'   storage.read_task("{WORKFLOW}", "digits-svm-score") -> {accuracy:.4f}\n')


def where(folder: Path) -> Iterator[str]:
    """Tell where everything lies."""
    yield "3. What there is to look at\n"
    yield f"   results     {folder / 'results' / WORKFLOW}, a file for each node"
    yield f"   figure      {folder / 'figure.png'}"
    yield f"   last run    {folder / 'report.html'}"
    yield "   the runs in the Prefect UI, at http://127.0.0.1:4200:"
    yield f"     PREFECT_HOME={folder / 'prefect'} .venv/bin/prefect server start"
    yield "   a run that you watch: start a server so, and in another terminal"
    yield "     PREFECT_API_URL=http://127.0.0.1:4200/api make demo"


def main(folder: Path) -> None:
    """Do all of it."""
    prepare(folder)
    page(folder)
    classifiers(folder)
    for line in where(folder):
        say(line)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "build/demo"))
