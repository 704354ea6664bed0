"""`DaskWorkflow`: runs a graph on a Dask cluster, each node as a task."""

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
        """Keyword parameters of the constructor, for type checkers."""

        workflow_name: str
        client: NotRequired[Client | None]
        address: NotRequired[str | None]
        cluster_kwargs: NotRequired[Mapping[str, Any] | None]
        read_only: NotRequired[bool]


__all__ = ["DaskQuery", "DaskWorkflow"]


class DaskQuery(Query):
    """Nodes that a pattern matches, and methods that set their options of Dask tasks."""

    def set_submit_args(self, options: Mapping[str, Any]) -> Self:
        """Set options of `Client.submit` for the nodes.

        Args:
            options: `resources`, `retries`, `priority`, `workers`, `allow_other_workers`, `fifo_timeout`.

        Raises:
            OptionError: The installed Dask does not have an option, or a value is invalid.
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
        """Create a workflow of targets and their transitive dependencies.

        Args:
            nodes: The targets: nodes, items of nodes, instances of decorated classes.
            workflow_name: The name under which results are stored.
            client: An existing client, which stays open.
            address: The address of a scheduler: `"tcp://10.0.0.1:8786"`.
            cluster_kwargs: The arguments of the `LocalCluster` that each run starts and closes
                if there is neither a client nor an address. By default it uses all cores, one node a process,
                listens on the loopback interface and has no dashboard.
            read_only: Nodes take arrays and frames read-only: writing to one is an error.

        Raises:
            NotANodeError: A target is another object.
            DuplicateNameError: Two nodes have one name.
            OptionError: More than one of client, address and cluster_kwargs is given, or the client is asynchronous.
        """
        super().__init__(*nodes, workflow_name=workflow_name, read_only=read_only)
        self._connection = Connection(client, address, dict(cluster_kwargs or {}))

    def _run(self, spec: RunSpec) -> Any:
        engine = DaskEngine(self._connection, spec.graph)
        return engine.drive(lambda: self._execute(spec, engine))
