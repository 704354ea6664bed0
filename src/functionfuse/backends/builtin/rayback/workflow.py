"""`RayWorkflow`: runs a graph on Ray, each node as a task or as a call of an actor."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, Self, overload

import ray

from functionfuse._common.ray_resources import unsatisfied_request
from functionfuse._common.validation import validate_names
from functionfuse._execution.interruption import SignalScope
from functionfuse._graph.nodes import Kind
from functionfuse.backends.base import Query, ResultT, Workflow
from functionfuse.backends.builtin.rayback.cluster import check_init_args, connect
from functionfuse.backends.builtin.rayback.engine import RayEngine
from functionfuse.backends.builtin.rayback.remote_args import check_actor, check_task
from functionfuse.errors import OptionError
from functionfuse.options import select
from functionfuse.plan import Action

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from typing import NotRequired, TypedDict, Unpack

    from functionfuse._execution.run_spec import OnError, RunSpec
    from functionfuse._graph.graph import Graph, GraphNode
    from functionfuse._graph.placeholder import Placeholder
    from functionfuse.options import Options

    class _Options(TypedDict):
        """Keyword parameters of the constructor, for type checkers."""

        workflow_name: str
        ray_init_args: NotRequired[Mapping[str, Any] | None]
        actors: NotRequired[bool]
        read_only: NotRequired[bool]


__all__ = ["RayQuery", "RayWorkflow"]


class RayQuery(Query):
    """Nodes that a pattern matches, and methods that set their options of Ray tasks and actors."""

    def __init__(  # noqa: D107
        self, names: Sequence[str], options: Options, in_actors: Collection[str]
    ) -> None:
        super().__init__(names, options)
        self._in_actors = in_actors

    def set_remote_args(self, options: Mapping[str, Any]) -> Self:
        """Set options of Ray tasks for the nodes, and of Ray actors for instances.

        Raises:
            OptionError: The installed Ray does not have an option, or refuses its value.
        """
        tasks = [name for name in self.names if name not in self._in_actors]
        actors = [name for name in self.names if name in self._in_actors]
        if tasks or not actors:
            check_task(options)
        if actors:
            check_actor(options, actors[0])
        self._options.set("remote", self.names, dict(options))
        return self


class RayWorkflow(Workflow[RayQuery, ResultT]):
    """Runs a graph on Ray, each node as a task of the node's name."""

    _query = RayQuery
    _option = "remote"

    @overload
    def __init__(
        self: RayWorkflow[ResultT], node: Placeholder[ResultT], /, **options: Unpack[_Options]
    ) -> None: ...
    @overload
    def __init__(
        self: RayWorkflow[list[Any]], *nodes: Any, **options: Unpack[_Options]
    ) -> None: ...
    def __init__(
        self,
        *nodes: Any,
        workflow_name: str,
        ray_init_args: Mapping[str, Any] | None = None,
        actors: bool = True,
        read_only: bool = False,
    ) -> None:
        """Create a workflow of targets and their transitive dependencies.

        Args:
            nodes: The targets: nodes, items of nodes, instances of decorated classes.
            workflow_name: The name under which results are stored and runs are shown.
            ray_init_args: Arguments of `ray.init`, if Ray is not initialised when the workflow runs.
            actors: Keep each instance of a decorated class in an actor.
                If False, instances are passed from task to task: without a process for each, but slower for large ones.
            read_only: Nodes take Ray's read-only arrays, which saves copies: writing to one is an error.
                If False, a node may write to its arguments, as on every engine.

        Raises:
            NotANodeError: A target is another object.
            DuplicateNameError: Two nodes have one name.
            OptionError: `ray.init` does not have an option.
        """
        super().__init__(*nodes, workflow_name=workflow_name, read_only=read_only)
        self._init_args = dict(ray_init_args or {})
        check_init_args(self._init_args)
        self._actors = actors

    def query(self, pattern: str | None = None) -> RayQuery:
        """Select the nodes whose full names match a regular expression, to set their options.

        Raises:
            OptionError: The pattern is not a regular expression.
        """
        names = select(self._graph, pattern, stacklevel=2)
        in_actors = {node.name for node in self._graph if self._in_actor(node)}
        return RayQuery(names, self._options, in_actors)

    @overload
    def run(
        self,
        return_results: Literal[True] = True,  # noqa: FBT002 - a published name
        max_pending_tasks: int = 0,
        *,
        on_error: OnError = "raise",
        check_mutation: bool | None = None,
    ) -> ResultT: ...
    @overload
    def run(
        self,
        return_results: bool,  # noqa: FBT001 - a published name
        max_pending_tasks: int = 0,
        *,
        on_error: OnError = "raise",
        check_mutation: bool | None = None,
    ) -> ResultT | None: ...
    def run(
        self,
        return_results: bool = True,  # noqa: FBT001, FBT002 - a published name
        max_pending_tasks: int = 0,
        *,
        on_error: OnError = "raise",
        check_mutation: bool | None = None,
    ) -> ResultT | None:
        """Compute the targets.

        Args:
            return_results: Return the values of the targets; if False, they are only stored.
            max_pending_tasks: The maximum number of submitted nodes, method calls included; 0 for no limit.
            on_error: After the first failure, `"raise"` starts no more nodes and waits for running ones;
                `"continue"` runs all nodes that do not depend on the failed node first.
            check_mutation: True fails a node that changes a value of another node in place.
                None does so if the environment has `FUNCTIONFUSE_DEBUG=1`.

        Returns:
            The value of the target; for several targets a list, in their order.

        Raises:
            OptionError: No storage is set for the results, or no machine of the cluster has the resources of a node.
            EngineError: The cluster cannot be reached, or a worker died.
            MutationError: A node changed a value of another node in place.
            BaseException: The first exception of a node, unwrapped, with a note that names the node.
            SystemExit: SIGTERM or SIGHUP arrived in the main thread, and you have not set a handler for it.
        """
        validate_names([on_error], ("raise", "continue"), "value of on_error")
        if type(max_pending_tasks) is not int or max_pending_tasks < 0:
            message = f"max_pending_tasks is a number of nodes, or 0 for no limit, not {max_pending_tasks!r}"
            raise OptionError(message)
        if not return_results and self._results is None:
            message = (
                "run(return_results=False) leaves results in the storage: call set_storage first"
            )
            raise OptionError(message)
        spec = replace(
            self._checked_spec(on_error, check_mutation=check_mutation),
            max_in_flight=max_pending_tasks,
            fetch_targets=return_results,
        )
        with SignalScope():
            values: ResultT = self._run(spec)
        return values if return_results else None

    def _run(self, spec: RunSpec) -> Any:
        self._check_methods()
        connect(self._init_args)
        self._check_requests(spec)
        engine = RayEngine(spec.graph, actors=self._actors, read_only=self.read_only)
        with SignalScope():  # again: `ray.init` may have set a handler of its own
            return engine.drive(lambda: self._execute(spec, engine))

    def _in_actor(self, node: GraphNode) -> bool:
        return self._actors and node.kind is not Kind.FUNCTION

    def _may_fuse(self, name: str) -> bool:
        """Tell whether a node can be in a group: nodes in actors cannot."""
        return not self._in_actor(self._graph.nodes[name])

    # ---- checks before anything is submitted ----

    def _check_methods(self) -> None:
        """Check that no method has other options than its instance: it runs in the actor of the instance."""
        given = self._options.of("remote")
        for name in given:
            node = self._graph.nodes[name]
            instance = _constructor(self._graph, node)
            if self._in_actor(node) and given[name] != given.get(instance):
                message = (
                    f"node {name!r} was given remote args that {instance!r} was not: a call of a method runs "
                    f"in the actor of its instance. Set them on {instance!r}, or use RayWorkflow(..., actors=False)"
                )
                raise OptionError(message)

    def _check_requests(self, spec: RunSpec) -> None:
        """Check that a machine of the cluster has the resources of each node to compute: Ray would wait without end."""
        known: dict[tuple[int, bool], str | None] = {}
        lacking: dict[str, str] = {}
        for node in spec.graph:
            options, actor = spec.options.get(node.name, _NOTHING), self._in_actor(node)
            if actor and node.kind is Kind.METHOD:
                continue
            key = id(options), actor
            if key not in known:
                known[key] = unsatisfied_request(ray.nodes(), options, actor=actor)
            if known[key]:
                lacking[node.name] = known[key] or ""
        computed = spec.plan().actions if lacking else {}
        for name, request in lacking.items():
            if computed[name] in {Action.COMPUTE, Action.MAYBE}:
                message = f"node {name!r} asks for {request}"
                raise OptionError(message)


_NOTHING: Mapping[str, Any] = {}


def _constructor(graph: Graph, node: GraphNode) -> str:
    """The name of the node that constructs the instance of a method call; a function's own name."""
    while node.state is not None:
        node = graph.nodes[node.state.node]
    return node.name
