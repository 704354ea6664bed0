"""Wrong calls: each line names the errors that the type checkers find there, and there are no others."""

from __future__ import annotations

from pipeline import Model, Planned, Settings, add, describe, fetch

from functionfuse.backends.builtin.daskback import DaskWorkflow
from functionfuse.backends.builtin.localback import LocalWorkflow

add("1")  # mypy: arg-type, pyright: reportArgumentType
add()  # mypy: call-arg, pyright: reportCallIssue
add(1, 2, 3)  # mypy: call-arg, pyright: reportCallIssue
add(1, c=2)  # mypy: call-arg, pyright: reportCallIssue
add.__wrapped__("1")  # mypy: arg-type, pyright: reportArgumentType
describe([1], "t")  # mypy: call-arg, pyright: reportCallIssue
fetch(1)  # mypy: arg-type, pyright: reportArgumentType
add(1).set_name(3)  # mypy: arg-type, pyright: reportArgumentType
Model("3")  # mypy: arg-type, pyright: reportArgumentType
Model(3).set_name(3)  # mypy: arg-type, pyright: reportArgumentType
Settings()  # mypy: call-arg, pyright: reportCallIssue
Planned("3")  # mypy: arg-type, pyright: reportArgumentType
NODE = add(1)
LocalWorkflow(NODE)  # mypy: call-overload, pyright: reportCallIssue
LocalWorkflow(NODE, workflow_name="w", works=2)  # mypy: call-overload, pyright: reportCallIssue
DaskWorkflow(NODE, address="here")  # mypy: call-overload, pyright: reportCallIssue
FLOW = LocalWorkflow(NODE, workflow_name="w")
FLOW.run(on_error="contineu")  # mypy: arg-type, pyright: reportArgumentType
TEXT: str = FLOW.run()  # mypy: assignment, pyright: reportAssignmentType
