"""A lazily read value, its serializer, and nodes of the tests of damage in it."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from functionfuse import workflow
from functionfuse.errors import CorruptResult
from functionfuse.serializers import FOLDER_PROTOCOL
from functionfuse.serializers.checksummed_files import read_file, write_file
from functionfuse.testing.engine.suite import WORKFLOW

if TYPE_CHECKING:
    from collections.abc import MutableMapping, Sequence

    from functionfuse.testing.engine.suite import Journal


__all__ = [
    "Drafts",
    "Holder",
    "Reader",
    "TextSerializer",
    "always_damaged",
    "broken",
    "contents",
    "damage",
    "default_length",
    "graph_of",
    "handed_on",
    "length",
    "length_or_other_error",
    "plus_one",
    "text",
]


class Text:
    """A value that is lazy after it was stored."""

    def __init__(self, content: str) -> None:
        self.content = content

    def read(self) -> str:
        """The content."""
        return self.content


class StoredText:
    """A text whose file is read when the content is used."""

    def __init__(self, folder: Any, source: Sequence[str]) -> None:
        self.folder, self.source = folder, source

    def read(self) -> str:
        """Read the file."""
        try:
            return read_file(self.folder, *self.source).decode()
        except CorruptResult as error:
            raise self.folder.corrupt(str(error)) from error


class TextSerializer:
    """Serializer of texts into files."""

    serializer_class = (Text, StoredText)
    name = "TextSerializer"
    lazy = True

    @classmethod
    def pickle(cls, obj: Any, protocols: MutableMapping[str, Any]) -> tuple[str, Any]:
        """Write a file."""
        return cls.name, write_file(protocols[FOLDER_PROTOCOL], "txt", obj.read().encode())

    @classmethod
    def unpickle(cls, pid: Any, protocols: MutableMapping[str, Any]) -> StoredText:
        """A text that reads the file later."""
        return StoredText(protocols[FOLDER_PROTOCOL], pid)

    @classmethod
    def remove(cls, pid: Any, protocols: MutableMapping[str, Any]) -> None:
        """Remove the file."""
        protocols[FOLDER_PROTOCOL].remove(pid[0])


class CodedError(Exception):
    """An exception that loses its attributes when it is pickled."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{code}: {reason}")
        self.code, self.reason = code, reason

    def __reduce__(self) -> tuple[Any, ...]:
        return CodedError, (self.code, self.reason)


@workflow
def text(journal: Journal, content: str, *needs: Any) -> Text:
    """Make a text."""
    journal.write(content)
    return Text(content)


@workflow
def handed_on(journal: Journal, value: Any) -> Any:
    """Return a text without reading it."""
    journal.write("handed on")
    return value


@workflow
def length(journal: Journal, *values: Any) -> int:
    """Read texts."""
    journal.write("used")
    return sum(len(value.read()) for value in values)


@workflow
def plus_one(number: int) -> int:
    """Add one."""
    return number + 1


@workflow
def broken() -> None:
    """Raise."""
    message = "broken"
    raise KeyError(message)


@workflow
def default_length(value: Any) -> int:
    """Read a text, and suppress any exception."""
    try:
        return len(value.read())
    except CorruptResult:
        return -1


@workflow
def always_damaged(folder: str, value: Any) -> int:
    """Damage the stored text, then read it."""
    damage(folder, "cells")
    return len(value.read())


@workflow
def length_or_other_error(kind: str, value: Any) -> int:
    """Read a text, and wrap any exception."""
    try:
        return len(value.read())
    except CorruptResult as error:
        if kind == "from":
            message = "wrapped"
            raise ValueError(message) from error
        if kind == "from None":
            message = "wrapped"
            raise ValueError(message) from None
        if kind == "group":
            message = "wrapped"
            raise ExceptionGroup(message, [OSError(), error]) from None
        raise CodedError(7, "wrapped") from error


@workflow
class Reader:
    """Counts before it reads."""

    def __init__(self, journal: Journal) -> None:
        """Note that a reader was made."""
        self.journal, self.calls = journal, 0
        journal.write("made")

    def count(self) -> int:
        """Count."""
        self.calls += 1
        self.journal.write(f"call {self.calls}")
        return self.calls

    def read(self, value: Any) -> int:
        """Count, and read a text."""
        return self.count() * 100 + len(value.read())


@workflow
class Holder:
    """Holds a text."""

    def __init__(self, value: Any) -> None:
        """Keep a text unread."""
        self.value = value

    def length(self) -> int:
        """Read it."""
        return len(self.value.read())


def mixed(*contents: str) -> str:
    """A short text that depends on all of some others."""
    return hashlib.sha256("\n".join(contents).encode()).hexdigest()[:8]


@workflow
def mix(*values: Any) -> Text:
    """Read texts, and join them."""
    return Text(mixed(*[value.read() for value in values]))


@workflow
def contents(*values: Any) -> list[str]:
    """Read texts."""
    return [value.read() for value in values]


@workflow
def same(value: Any) -> Any:
    """Return a text without reading it."""
    return value


class PlainCollector:
    """Reads texts, the first one in its method."""

    def __init__(self, first: Any) -> None:
        self.first, self.content = first, "made"

    def add(self, value: Any) -> Text:
        """Add a text to the earlier ones."""
        self.content = mixed(self.content, self.first.read())
        self.content = mixed(self.content, value.read())
        return Text(self.content)


@workflow
class Collector(PlainCollector):
    """The class as a node."""


#: The kind of a node, which of those before it takes, whether it is stored.
Drafts = list[tuple[str, int, int, bool]]


def graph_of(drafts: Drafts, *, plain: bool) -> list[Any]:
    """The nodes of a random graph, or their values."""
    start = Text("start")
    made: list[Any] = [Text(mixed("start")) if plain else mix(start).set_name("start")]
    collectors: list[Any] = []
    for number, (kind, one, two, is_stored) in enumerate(drafts):
        first, second = made[one % len(made)], made[two % len(made)]
        if kind == "collector" or (kind == "add" and not collectors):
            new: Any = PlainCollector if plain else Collector
            collectors.append(new(first))
        if kind in {"add", "collector"}:
            node = collectors[one % len(collectors)].add(second)
        elif kind == "mix":
            node = Text(mixed(first.read(), second.read())) if plain else mix(first, second)
        else:
            node = first if plain else same(first)
        made.append(node if plain else node.set_name(f"{'' if is_stored else 'log '}{number}"))
    return made


def damage(folder: str, name: str) -> None:
    """Change all files that serializers wrote for a result."""
    for path in Path(folder, WORKFLOW, ".objects", name).rglob("*.txt"):
        path.write_bytes(b"damaged")
