"""A project of one module whose code is edited, with a storage."""

from __future__ import annotations

import contextlib
import importlib
import sys
import textwrap
from typing import TYPE_CHECKING, Any

from functionfuse.backends.builtin.localback import LocalWorkflow
from functionfuse.plan import Action

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SOURCE = """
    from functionfuse import workflow

    FACTOR = 2
    log = []

    def scale(x):
        y = x * FACTOR
        return y

    def clean(rows):
        return [row for row in rows if row]

    class Unit:
        name = "s"

    @workflow
    def load(count):
        log.append("load")
        return list(range(count))

    @workflow
    def fit(data, C=1):
        log.append("fit")
        return scale(sum(data)) * C

    @workflow
    def table(rows):
        log.append("table")
        return [Unit.name, *clean(rows)]
"""
HELPER = ("y = x * FACTOR", "y = x * FACTOR + 1")
OWN = ("return scale(sum(data)) * C", "return scale(sum(data)) * C + 1")
CLASS = ('name = "s"', 'name = "ms"')
LAST_HELPER = ("if row]", "if row > 100]")
SCALE = "helper proj.scale changed (1 line)"


class Project:
    """A project with one module, a storage, and edits."""

    def __init__(self, folder: Path) -> None:
        """Begin with nothing stored."""
        self.folder = folder
        self.source = textwrap.dedent(SOURCE)
        self.edits = 0

    @classmethod
    def stored_in(cls, folder: Path) -> Project:
        """A project with the results of a run."""
        made = cls(folder)
        with made.workflow() as workflow:
            workflow.run()
        return made

    def edit(self, *edits: tuple[str, str]) -> None:
        """Replace texts in the module."""
        for old, new in edits:
            assert old in self.source
            self.source = self.source.replace(old, new)
        self.edits += 1

    def overwrite(self, edit: tuple[str, str]) -> None:
        """Replace a text in the file of the module that is imported."""
        file = self.folder / f"version {self.edits}" / "proj.py"
        file.write_text(self.source.replace(*edit))

    @contextlib.contextmanager
    def workflow(self, *costs: int, stored: bool = True, **options: Any) -> Iterator[Any]:
        """A workflow of the module as it is now; its `ran` lists what ran."""
        folder = self.folder / f"version {self.edits}"
        folder.mkdir(exist_ok=True)
        (folder / "proj.py").write_text(self.source)
        sys.path.insert(0, str(folder))
        sys.modules.pop("proj", None)
        importlib.invalidate_caches()
        try:
            proj: Any = importlib.import_module("proj")
            data = proj.load(5).set_name("data")
            rows = [
                proj.fit(data, C=cost).set_name(f"fit-{at}")
                for at, cost in enumerate(costs or (1, 2))
            ]
            made: Any = LocalWorkflow(proj.table(rows).set_name("table"), workflow_name="study")
            if stored:
                options.setdefault("ignore", ["proj.log"])
                made.set_storage(self.folder / "storage", **options)
            made.ran = proj.log
            yield made
        finally:
            sys.path.remove(str(folder))
            sys.modules.pop("proj", None)

    def fresh(self, *costs: int) -> Any:
        """The result of a run without storage."""
        with self.workflow(*costs, stored=False) as made:
            return made.run()


def reasons(made: Any) -> dict[str, str]:
    """The reasons for nodes that are stale or unknown, without those that nothing needs."""
    return {
        node.name: f"{node.action.value}, {node.reason}"
        for node in made.plan()
        if node.reason.startswith(("stale", "unknown")) and node.action is not Action.SKIP
    }
