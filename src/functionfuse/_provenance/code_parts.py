"""Parts of code: a function, class or global value of the project, with its text and what it refers to."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["Part", "RenderedPart", "render_parts"]


class Part:
    """A function, class or global value: its own text, and the names in it with what they refer to."""

    __slots__ = (
        "_links",
        "file",
        "is_foreign",
        "name",
        "notes",
        "packages",
        "text",
        "unknown",
        "value",
    )

    def __init__(self, name: str, value: Any = None) -> None:
        self.name = name
        self.text = ""
        #: Held, so that its id is not used again.
        self.value = value
        #: The file of its module.
        self.file: str | None = None
        #: It is a root that is not of the project.
        self.is_foreign = False
        self.packages: set[str] = set()
        self.unknown: list[str] = []
        self.notes: list[str] = []
        self._links: dict[tuple[str, str | int], Part | str] = {}

    def link(self, name: str, target: Part | str) -> None:
        """Say what a name refers to: a part of the project, or words that say it all."""
        self._links[name, target if isinstance(target, str) else id(target)] = target

    @property
    def links(self) -> list[tuple[str, Part | str]]:
        """Each name with what it refers to."""
        return [(name, target) for (name, _), target in self._links.items()]


class RenderedPart(NamedTuple):
    """A part with its label among the parts that a function reaches."""

    label: str
    name_in_module: str  # its label without the module
    text: str
    part: Part


def render_parts(roots: Iterable[Part], name_in_module: Callable[[str], str]) -> list[RenderedPart]:
    """Return all parts that can be reached, in the order of their first use.

    A part's text names the parts that it refers to, so that the set of texts describes the whole.
    Parts of one name are numbered: two lambdas of a module, or a closure that was made twice.
    Texts name parts without their modules, so that they are the same after code was moved.
    """
    labels, names = _Labels(), _Labels()
    order: list[Part] = []
    waiting = deque(roots)
    while waiting:
        part = waiting.popleft()
        if id(part) in labels.of:
            continue
        labels.add(part, part.name)
        names.add(part, name_in_module(part.name))
        order.append(part)
        waiting.extend(target for _, target in part.links if isinstance(target, Part))
    return [
        RenderedPart(labels.of[id(part)], names.of[id(part)], _rendered(part, names.of), part)
        for part in order
    ]


class _Labels:
    """Names of parts, each for one of them."""

    def __init__(self) -> None:
        self.of: dict[int, str] = {}  # by the id of the part
        self._counts: dict[str, int] = {}

    def add(self, part: Part, name: str) -> None:
        """Give a part its name, or its name and a number."""
        count = self._counts[name] = self._counts.get(name, 0) + 1
        self.of[id(part)] = name if count == 1 else f"{name}#{count}"


def _rendered(part: Part, labels: dict[int, str]) -> str:
    lines = [
        f"# {name}: {target if isinstance(target, str) else labels[id(target)]}"
        for name, target in part.links
    ]
    return "\n".join([part.text, *lines] if part.text else lines)
