"""Undocumented parts of Ray: the installed version has them, and what happens in a version that lacks one.

No test starts Ray.
"""

from __future__ import annotations

from typing import Any

import pytest

ray = pytest.importorskip("ray")

from functionfuse.backends.builtin.rayback import _compat, remote_args  # noqa: E402 - needs Ray
from functionfuse.errors import OptionError  # noqa: E402 - as above


@pytest.mark.parametrize("lacks", [[], ["ray_option_utils"]])
def test_options_are_checked_with_and_without_tables(
    monkeypatch: pytest.MonkeyPatch, lacks: list[str]
) -> None:
    """Ray itself refuses an unknown option and a wrong value, for tasks and for actors."""
    assert {"num_cpus"} < {*(_compat.option_names("task") or ())}
    for name in lacks:
        monkeypatch.setattr(_compat, name, None)
        assert _compat.option_names("task") is None
    monkeypatch.setattr(remote_args, "_allowed", remote_args._allowed.__wrapped__)  # noqa: SLF001 - a cache
    remote_args.check_task({"num_cpus": 2, "max_retries": 1})
    remote_args.check_actor({"num_cpus": 2}, "node")
    for wrong in ({"num_cpuss": 2}, {"num_cpus": -1}):
        with pytest.raises(OptionError):
            remote_args.check_task(wrong)
        with pytest.raises(OptionError):
            remote_args.check_actor(wrong, "node")


@pytest.mark.parametrize("lacks", ["", "_remote"])
@pytest.mark.parametrize("options", [{"num_cpus": 1}, {"runtime_env": {}}])
def test_a_task_is_started_one_way_or_the_other(lacks: str, options: dict[str, Any]) -> None:
    """Directly, or by way of `options` for a `runtime_env` and in a version without the direct way."""
    assert hasattr(ray.remote_function.RemoteFunction, "_remote")

    class Task:
        def options(self, **options: Any) -> Any:
            self.given = options
            return self

        def remote(self, *args: Any) -> Any:
            return "options", self.given, args

        def _remote(self, args: Any, **options: Any) -> Any:
            return "direct", options, args

    if lacks:
        delattr(Task, lacks)
    way = "options" if lacks or "runtime_env" in options else "direct"
    assert (way, options, (1, 2)) == _compat.start_task(Task(), options, (1, 2))


def test_the_cause_of_an_error() -> None:
    """The exception of the worker; Ray's own error in a version without the attribute."""
    cause = ValueError("user's")
    assert cause is _compat.cause_of(ray.exceptions.RayTaskError("function", "traceback", cause))
    other: Any = RuntimeError("Ray's")
    assert other is _compat.cause_of(other)


def test_references_have_a_reducer() -> None:
    """The table to which Ray adds those of its references when it starts."""
    assert ray.cloudpickle.CloudPickler.dispatch is _compat.REFERENCE_REDUCERS


def test_the_address_of_the_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    """The class of contexts has it; without it, it is empty, as no address is."""
    assert hasattr(ray.runtime_context.RuntimeContext, "gcs_address")
    monkeypatch.setattr(ray, "get_runtime_context", object)
    assert not _compat.cluster_address()
