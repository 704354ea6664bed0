"""Hypothesis strategies for random graphs, as programs that run in plain Python and as workflows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from hypothesis import strategies as st

from functionfuse.testing.programs import Argument, Call, Program, Shape, Use

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["edited_graphs", "graphs"]


@dataclass(frozen=True)
class _Pick:
    """Reference to an earlier result in a draft, resolved when the earlier calls are known."""

    number: int  # also the value if there are no earlier results
    among: Literal["numbers", "wholes"]


@dataclass(frozen=True)
class _Draft:
    """A call whose arguments have picks instead of uses."""

    kind: Literal["function", "make", "method"]
    args: list[Argument]
    named: dict[str, Argument]
    scale: Argument | None
    has_name: bool
    made: int  # picks the instance of a method


class _Writer:
    """Builds a program from drafts, and tracks the structure of the results."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.numbers: list[Use] = []  # results that are numbers
        self.wholes: list[Use] = []  # all others
        self.lengths: dict[int, int] = {}  # entries of each instance so far

    def write(self, draft: _Draft) -> None:
        """Add a call; without an instance, a method becomes a function."""
        if draft.kind == "make":
            self._make(draft)
        elif draft.kind == "method" and self.lengths:
            self._method(draft, [*self.lengths][draft.made % len(self.lengths)])
        else:
            self._function(draft)

    def use(self, pick: int) -> Use:
        """One of the results so far."""
        every = [*self.numbers, *self.wholes]
        return every[pick % len(every)]

    def _function(self, draft: _Draft) -> None:
        args, named = self._arguments(draft)
        number = self._add(Call(args, named, name=self._name(draft)))
        self.wholes += [
            Use(number),
            Use(number, ("parts",)),
            Use(number, ("parts", slice(1, None))),
        ]
        count = len(args) + 2 * len([key for key, _ in named if key != "scale"])
        self.numbers.append(Use(number, ("total",)))
        self.numbers += [Use(number, ("parts", part)) for part in range(count)]

    def _make(self, draft: _Draft) -> None:
        args, _ = self._arguments(draft)
        number = self._add(Call(args, makes=True, name=self._name(draft)))
        self.lengths[number] = len(args)
        self.wholes.append(Use(number, whole_object=True))

    def _method(self, draft: _Draft, made: int) -> None:
        args, named = self._arguments(draft)
        number = self._add(Call(args, named, works_on=made, name=self._name(draft)))
        self.lengths[made] += 1
        self.wholes += [Use(number), Use(number, (slice(None, None, -1),))]
        self.numbers += [Use(number, (part,)) for part in range(self.lengths[made])]

    def _add(self, call: Call) -> int:
        self.calls.append(call)
        return len(self.calls) - 1

    def _name(self, draft: _Draft) -> str | None:
        return f"call {len(self.calls)}" if draft.has_name else None

    def _arguments(
        self, draft: _Draft
    ) -> tuple[tuple[Argument, ...], tuple[tuple[str, Argument], ...]]:
        named = draft.named | ({"scale": draft.scale} if draft.scale else {})
        return (
            tuple(map(self._chosen, draft.args)),
            tuple((key, self._chosen(argument)) for key, argument in named.items()),
        )

    def _chosen(self, argument: Argument) -> Argument:
        """Replace the picks in an argument by uses."""
        return Argument(argument.shape, tuple(map(self._chosen_part, argument.parts)))

    def _chosen_part(self, part: Any) -> Any:
        if isinstance(part, Argument):
            return self._chosen(part)
        if not isinstance(part, _Pick):
            return part
        there = self.numbers if part.among == "numbers" else self.wholes
        return there[part.number % len(there)] if there else part.number


def _value(part: int | _Pick) -> Argument:
    return Argument("value", (part,))


def _container(shape: Shape) -> Callable[[list[Argument]], Argument]:
    return lambda parts: Argument(shape, tuple(parts))


def _containers(parts: st.SearchStrategy[Argument]) -> st.SearchStrategy[Argument]:
    shapes: list[Shape] = ["list", "tuple", "dict", "box"]
    return st.one_of([st.lists(parts, max_size=3).map(_container(shape)) for shape in shapes])


# Strategies that do not depend on a program are created once: hypothesis validates each new one, which
# takes longer than drawing from it, and longer than most engines take to run the program.
_MANY: Final = 60  # about the number of results in a program
_picks: Final = st.integers(0, _MANY)
_number: Final = (st.integers(0, 9) | st.builds(_Pick, _picks, st.just("numbers"))).map(_value)
_anything: Final = _number | st.builds(_Pick, _picks, st.just("wholes")).map(_value)
_numbers: Final = st.lists(_number, max_size=3).map(_container("set"))
_argument: Final = st.recursive(_anything | _numbers, _containers, max_leaves=5)
_draft: Final = st.builds(
    _Draft,
    kind=st.sampled_from(["function", "make", "method", "method"]),
    args=st.lists(_argument, max_size=3),
    named=st.dictionaries(st.sampled_from(["left", "right"]), _argument),
    scale=st.none() | _number,
    has_name=st.booleans(),
    made=_picks,
)


def graphs(max_calls: int = 8) -> st.SearchStrategy[Program]:
    """Random programs: items, containers, keywords, diamonds, instances and their methods.

    Args:
        max_calls: The largest number of calls.
    """
    # lengths with equal frequency: lists of any length are mostly short
    drafts = st.one_of([st.lists(_draft, min_size=n, max_size=n) for n in range(1, max_calls + 1)])
    return st.builds(_program, drafts, st.lists(_picks, min_size=1, max_size=4))


def _program(drafts: list[_Draft], targets: list[int]) -> Program:
    writer = _Writer()
    for draft in drafts:
        writer.write(draft)
    return Program(tuple(writer.calls), tuple(map(writer.use, targets)))


_edit: Final = st.tuples(
    st.sampled_from(["replace", "insert", "remove", "swap", "nothing"]), _picks, _draft
)


def edited_graphs(max_calls: int = 8, edits: int = 3) -> st.SearchStrategy[list[Program]]:
    """Random programs, each but the first an edit of the one before: a call is replaced, added, removed or moved.

    Args:
        max_calls: The largest number of calls of the first program.
        edits: The number of edits.
    """
    drafts = st.lists(_draft, min_size=1, max_size=max_calls)
    targets = st.lists(_picks, min_size=1, max_size=3)
    return st.builds(
        _edited_programs,
        drafts,
        st.lists(_edit, min_size=edits, max_size=edits),
        st.lists(targets, min_size=1, max_size=2),
    )


def _edited_programs(
    drafts: list[_Draft], edits: list[tuple[str, int, _Draft]], targets: list[list[int]]
) -> list[Program]:
    programs = [_program(drafts, targets[0])]
    for number, (kind, pick, draft) in enumerate(edits):
        drafts = _edited(drafts, kind, pick % len(drafts), draft)
        programs.append(_program(drafts, targets[number % len(targets)]))
    return programs


def _edited(drafts: list[_Draft], kind: str, at: int, draft: _Draft) -> list[_Draft]:
    before, after = drafts[:at], drafts[at + 1 :]
    if kind == "remove" and len(drafts) > 1:
        return [*before, *after]
    if kind == "swap" and after:
        return [*before, after[0], drafts[at], *after[1:]]
    if kind == "insert":
        return [*before, draft, drafts[at], *after]
    return [*before, draft, *after] if kind == "replace" else drafts
