"""The facade: a workflow whose nodes are tasks of a Dask cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self, overload

from functionfuse.backends.base import Query, ResultT, Workflow
from functionfuse.backends.builtin.daskback.cluster import Connection
from functionfuse.backends.builtin.daskback.engine import DaskEngine
from functionfuse.backends.builtin.daskback.resources import check_options

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import NotRequired, TypedDict, Unpack

    from distributed import Client

    from functionfuse._execution.run_spec import RunSpec
    from functionfuse._graph.placeholder import Placeholder

    class _Options(TypedDict):
        """What the constructor takes besides the targets, for type checkers."""

        workflow_name: str
        client: NotRequired[Client | None]
        address: NotRequired[str | None]
        cluster_kwargs: NotRequired[Mapping[str, Any] | None]
        read_only: NotRequired[bool]


__all__ = ["DaskQuery", "DaskWorkflow"]


class DaskQuery(Query):
    """The nodes that a pattern matched, to be given options of Dask tasks."""

    def set_submit_args(self, options: Mapping[str, Any]) -> Self:
        """Give nodes the options that `Client.submit` takes.

        Args:
            options: `resources`, `retries`, `priority`, `workers`, `allow_other_workers`, `fifo_timeout`.

        Raises:
            OptionError: The installed Dask does not know an option, or the value cannot be.
        """
        check_options(options)
        self._options.set("submit", self.names, dict(options))
        return self


class DaskWorkflow(Workflow[DaskQuery, ResultT]):
    """Runs a graph on a Dask cluster, each node as a task of the node's name."""

    _query = DaskQuery
    _option = "submit"

    @overload
    def __init__(
        self: DaskWorkflow[ResultT], node: Placeholder[ResultT], /, **options: Unpack[_Options]
    ) -> None: ...
    @overload
    def __init__(
        self: DaskWorkflow[list[Any]], *nodes: Any, **options: Unpack[_Options]
    ) -> None: ...
    def __init__(
        self,
        *nodes: Any,
        workflow_name: str,
        client: Client | None = None,
        address: str | None = None,
        cluster_kwargs: Mapping[str, Any] | None = None,
        read_only: bool = False,
    ) -> None:
        """Make a workflow of everything that some nodes need.

        Args:
            nodes: The targets: nodes, items of nodes, instances of decorated classes.
            workflow_name: The name under which results are stored.
            client: An existing client, which stays open.
            address: Where a scheduler is: `"tcp://10.0.0.1:8786"`.
            cluster_kwargs: The arguments of the `LocalCluster` that each run starts and closes
                if there is neither a client nor an address. By default it uses all cores, one node a process,
                listens on the loopback interface and has no dashboard.
            read_only: Nodes take arrays and frames read-only: writing to one is an error.

        Raises:
            NotANodeError: A target is something else.
            DuplicateNameError: Two nodes have one name.
            OptionError: More than one of these was given, or the client is asynchronous.
        """
        super().__init__(*nodes, workflow_name=workflow_name, read_only=read_only)
        self._connection = Connection(client, address, dict(cluster_kwargs or {}))

    def _run(self, spec: RunSpec) -> Any:
        engine = DaskEngine(self._connection, spec.graph)
        return engine.drive(lambda: self._execute(spec, engine))
