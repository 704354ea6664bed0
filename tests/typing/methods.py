"""Types that mypy knows with the plugin: methods of decorated classes have their parameters and results."""

from __future__ import annotations

from typing import assert_type

from pipeline import Model, Planned, Settings

from functionfuse._graph.instances import Instance
from functionfuse._graph.nodes import Node
from functionfuse.backends.builtin.localback import LocalWorkflow

assert_type(Model(3).set_name("m"), Instance[Model])
assert_type(Settings(3).set_name("s"), Instance[Settings])
assert_type(Model(3).fit([1]), Node[float])
assert_type(Settings(3).doubled(), Node[int])
assert_type(Planned(3).grown(by=2).set_name("grown"), Node[int])
assert_type(LocalWorkflow(Model(3).fit([1]), workflow_name="w").run(), float)
Model(3).fit("data")  # mypy: arg-type
Model(3).fat([1])  # mypy: misc
