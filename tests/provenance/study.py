"""A small study, built with edits: what nodes are called, what they compute, and a log of what ran."""

from __future__ import annotations

from typing import Any

from functionfuse import workflow
from functionfuse.backends.builtin.localback import LocalWorkflow

#: The names of functions that ran, with their arguments, in this order.
calls: list[str] = []


def ran(name: str, *args: Any) -> None:
    """Note that a function runs."""
    calls.append(f"{name}{args}")


@workflow
def load(count: int, start: int = 0) -> list[int]:
    """Data."""
    ran("load", count, start)
    return list(range(start, start + count))


@workflow
def parts(data: list[int]) -> dict[str, Any]:
    """A result with items."""
    ran("parts")
    return {"even": data[::2], "odd": data[1::2]}


@workflow
def fit(data: Any, C: float = 1.0, seed: int | None = None) -> float:  # noqa: N803 - as in papers
    """A model."""
    ran("fit", C)
    return float(sum(data)) * C + (seed or 0)


@workflow
def train(data: Any, C: float = 1.0) -> float:  # noqa: N803 - the same
    """Another model."""
    ran("train", C)
    return -float(sum(data)) * C


@workflow
def describe_type(value: Any) -> list[int]:
    """Data that depends on the type of a value."""
    return [len(type(value).__name__)]


@workflow
def sign(data: list[int]) -> int:
    """The same value for much data."""
    ran("sign")
    return 1 if sum(data) >= 0 else -1


@workflow
def table(rows: Any, **options: Any) -> list[Any]:
    """What all rows give, with the options in their order."""
    ran("table")
    return [repr(rows), repr(options)]


@workflow
def subtract(left: Any, right: Any) -> Any:
    """Not symmetric."""
    ran("subtract")
    return left - right


@workflow
class Model:
    """An instance with calls."""

    def __init__(self, scale: float = 1.0) -> None:
        """Begin."""
        ran("Model", scale)
        self.scale = scale
        self.seen: list[float] = []

    def see(self, value: float) -> int:
        """Change the instance."""
        ran("see", value)
        self.seen.append(value * self.scale)
        return len(self.seen)

    def total(self) -> float:
        """Read the instance."""
        ran("total")
        return sum(self.seen)


# ---- graphs ----


def sweep(
    *costs: float, count: int = 5, func: Any = fit, container: Any = list, **options: Any
) -> Any:
    """Data, a fit for each cost, and a table of the fits."""
    data = load(count).set_name("data")
    rows = [func(data, C=cost).set_name(f"fit-{at}") for at, cost in enumerate(costs)]
    return table(container(rows), **options).set_name("table")


def item_of(key: str) -> Any:
    """A fit of one item of a result."""
    return fit(parts(load(6).set_name("data")).set_name("parts")[key]).set_name("fit")


def model(scale: float, *values: float) -> Any:
    """An instance, some calls, and a last one."""
    made: Any = Model(scale)
    made.set_name("model")
    for at, value in enumerate(values):
        made.see(value).set_name(f"see-{at}")
    return made.total().set_name("total")


def difference(*names: str) -> Any:
    """A difference of two results, in an order."""
    made = {"a": fit(load(3).set_name("data-a")).set_name("a")}
    made["b"] = fit(load(5).set_name("data-b")).set_name("b")
    return subtract(*[made[name] for name in names]).set_name("difference")


def named(first: str, second: str) -> Any:
    """Two targets under these names."""
    return fit(load(3).set_name("d"), C=2).set_name(first), train(load(3), C=3).set_name(second)


def signs(count: int) -> Any:
    """A result that is the same for much data, and one that depends on it."""
    return fit([sign(load(count).set_name("data")).set_name("sign")], C=2).set_name("fit")


def study_workflow(nodes: Any, path: Any, **options: Any) -> LocalWorkflow:
    """A workflow of nodes, with a storage; nothing is noted as having run."""
    nodes = nodes if isinstance(nodes, tuple) else (nodes,)
    made = LocalWorkflow(*nodes, workflow_name="study")
    if path is not None:
        options.setdefault("ignore", ["study.calls"])
        made.set_storage(path, **options)
    calls.clear()
    return made


def reasons(made: LocalWorkflow) -> dict[str, str]:
    """The action and the reason of each node that is stale or unknown, by name."""
    return {
        node.name: f"{node.action.value}, {node.reason}"
        for node in made.plan()
        if node.reason.startswith(("stale", "unknown"))
    }
