"""Change detection: compare a value with an earlier copy, by their pickles, then by their parts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from functionfuse._kernel.value_copies import have_equal_pickles

if TYPE_CHECKING:
    from functionfuse.comparison.equality import Mismatch

__all__ = ["change_of"]


def change_of(before: Any, after: Any, path: str) -> Mismatch | None:
    """The first difference between an earlier copy of a value and the value; None if it was not changed.

    Equal pickles show that nothing was changed, also of objects that compute lazily and do not pickle the result.
    Different pickles do not show a change: reading a frame may rearrange its blocks.
    """
    if before is after or have_equal_pickles(before, after):
        return None
    # imported late: only changes require it
    from functionfuse.comparison.equality import Equality, Mismatch, short_repr

    try:
        if not hasattr(type(before), "identical"):  # arrays with coordinates compare themselves
            return Equality().mismatch(before, after, path) or _order_change(before, after, path)
        if before.identical(after):
            return None
    except Exception:  # noqa: BLE001, S110 - classes that cannot be compared have different pickles
        pass
    return Mismatch(path, short_repr(before), short_repr(after))


def _order_change(before: Any, after: Any, path: str) -> Mismatch | None:
    """The change of a dict's order, which iteration shows."""
    from functionfuse.comparison.equality import Mismatch, short_repr

    if not isinstance(before, dict) or [*before] == [*after]:
        return None
    return Mismatch(f"{path}.keys()", short_repr([*before]), short_repr([*after]))
