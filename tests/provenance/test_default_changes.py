"""Changed defaults of functions: the reason of a plan names them."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING

import pytest

from functionfuse.backends.builtin.localback import LocalWorkflow

if TYPE_CHECKING:
    from pathlib import Path

BOTH = (
    "default C of defaults.fit changed: 1 -> 2; default power of defaults.fit changed: 'a' -> 'b'"
)


@pytest.mark.parametrize(
    ("before", "after", "reason"),
    [
        ("x, C=1", "x, C=3", "default C of defaults.fit changed: 1 -> 3"),
        ("x, *, C=1", "x, *, C=None", "default C of defaults.fit changed: 1 -> None"),
        ("x, C=1, power='a'", "x, C=2, power='b'", BOTH),
        (
            "x, C={1: 'x'}",
            "x, C={1: '{}'}",
            "default C of defaults.fit changed: {1: 'x'} -> {1: '{}'}",
        ),
        ("x, C=VALUE", "x, C=VALUE + 1", "default C of defaults.fit changed: 5 -> 6"),
        ("x, C='%s'" % ("a" * 60), "x, C=1", "default C of defaults.fit changed"),
        ("x, C=1", "x, C=1, D=2", "function defaults.fit changed (2 lines)"),
        ("x, C=1, D=2", "x, D=2, C=1", "function defaults.fit changed (3 lines)"),
    ],
)
def test_a_reason_names_changed_defaults(
    before: str, after: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only if nothing else of the function differs."""
    text = "from functionfuse import workflow\nVALUE = 5\n@workflow\ndef fit({}):\n    return x\n"
    for folder, parameters in (("one", before), ("two", after)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "defaults.py").write_text(text.replace("{}", parameters))
        monkeypatch.delitem(sys.modules, "defaults", raising=False)
        with monkeypatch.context() as patch:
            patch.syspath_prepend(tmp_path / folder)
            fit = importlib.import_module("defaults").fit
        made = LocalWorkflow(fit(1).set_name("fit"), workflow_name="defaults")
        made.set_storage(tmp_path / "storage")
        if folder == "two":
            assert f"stale code, loaded: {reason}" == made.plan()["fit"].reason
        else:
            made.run()
