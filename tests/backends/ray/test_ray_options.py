"""Ray's options: resources, labels and runtime environments of nodes and instances."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from ray_nodes import Weights, assigned, noted, ones, ray_workflow, same, variable, without_actors

from functionfuse.errors import OptionError

ray = pytest.importorskip("ray")

from functionfuse.backends.builtin.rayback import RayWorkflow  # noqa: E402 - not without Ray

if TYPE_CHECKING:
    from functionfuse.storage.base import Storage
    from functionfuse.testing.engine.suite import Journal

pytestmark = pytest.mark.usefixtures("ray_cluster")


class TestRemoteArgs:
    """`query(pattern).set_remote_args`."""

    def test_resources(self) -> None:
        """A node gets the resources of its options."""
        made = ray_workflow(assigned().set_name("two"), assigned().set_name("none"))
        made.query("two").set_remote_args({"num_cpus": 2})
        made.query("none").set_remote_args({"num_cpus": 0})

        two, none = made.run()

        assert (2.0, None) == (two["CPU"], none.get("CPU"))

    def test_resources_of_an_instance(self) -> None:
        """The actor of an instance gets what the instance asks for."""
        weights: Any = Weights(0)
        made = ray_workflow(weights.set_name("weights").resources())
        made.query("weights").set_remote_args({"num_cpus": 1})

        assert 1.0 == made.run()["CPU"]

    def test_runtime_env(self) -> None:
        """A node runs in its own runtime environment, also a call on an instance."""
        made = ray_workflow(variable("FLAVOUR"))
        made.query().set_remote_args({"runtime_env": {"env_vars": {"FLAVOUR": "sweet"}}})

        assert "sweet" == made.run()

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"num_cpu": 1}, "unknown option of a Ray task: 'num_cpu'.*'num_cpus'"),
            ({"num_cpus": -1}, "Ray refuses.*negative"),
            ({"max_retries": "3"}, "Ray refuses.*max_retries"),
            ({"resources": {"CPU": 1}}, "Ray refuses.*num_cpus"),
            ({"num_returns": 3}, "'num_returns' cannot be set"),
            ({"max_restarts": 3}, "'max_restarts' cannot be set.*lack the changes"),
            ({"namespace": "x"}, "unknown option of a Ray task: 'namespace'"),
        ],
    )
    def test_wrong_options_are_refused(self, options: dict[str, Any], message: str) -> None:
        """An option that Ray does not have or refuses, or that would change the meaning of a run, is refused when it is set."""
        with pytest.raises(OptionError, match=message):
            ray_workflow(same(1)).query().set_remote_args(options)

    def test_options_of_instances(self) -> None:
        """An instance takes options of actors, and without actors those of tasks."""
        node = Weights(0).add(1)
        ray_workflow(node).query("Weights.*").set_remote_args({"namespace": "x"})

        with pytest.raises(OptionError, match=r"'Weights_0000' runs in one.*'max_retries'"):
            ray_workflow(node).query().set_remote_args({"max_retries": 1})
        without_actors(node, workflow_name="x").query().set_remote_args({"max_retries": 1})

    def test_methods_run_where_the_instance_is(self) -> None:
        """A method cannot ask for something else than its instance has."""
        node: Any = Weights(ones(1)).add(1)
        node.set_name("add")
        made = ray_workflow(node)
        made.query("add").set_remote_args({"num_cpus": 2})

        with pytest.raises(OptionError, match=r"'add' was given.*'Weights_0000'"):
            made.run()
        made.query("Weights.*").set_remote_args({"num_cpus": 2})
        assert 2 == made.run()

    @pytest.mark.parametrize(
        "request_", [{"num_cpus": 4}, {"resources": {"unobtainium": 1}}, {"num_gpus": 1}]
    )
    def test_requests_that_no_machine_can_meet(
        self, request_: dict[str, Any], journal: Journal
    ) -> None:
        """A request that no machine of the cluster can meet is an error before anything runs; Ray itself would wait."""
        made = ray_workflow(same(noted(journal, "first")).set_name("greedy"))
        made.query("greedy").set_remote_args(request_)

        with pytest.raises(OptionError, match=r"node 'greedy' asks for .*they have: CPU: 3"):
            made.run()
        assert [] == journal.lines()

    def test_labels_that_no_node_has(self) -> None:
        """The same holds for labels."""
        made = ray_workflow(same(1).set_name("x"))
        made.query().set_remote_args({"label_selector": {"zone": "in(north, south)"}})

        with pytest.raises(OptionError, match="node 'x' asks for CPU: 1 with labels"):
            made.run()
        made.query().set_remote_args({"label_selector": {"zone": "!north"}})
        assert 1 == made.run()

    def test_stored_nodes_ask_for_nothing(self, storage: Storage) -> None:
        """Loading a stored result does not request the resources of computing it."""
        made = ray_workflow(same(1).set_name("x"))
        made.set_storage(storage)
        made.run()
        made.query().set_remote_args({"num_gpus": 1})

        assert 1 == made.run()

    def test_init_args_are_checked(self) -> None:
        """An option that ray.init does not know is refused when the workflow is made."""
        with pytest.raises(OptionError, match=r"unknown option of ray.init: 'adress'.*'address'"):
            RayWorkflow(same(1), workflow_name="x", ray_init_args={"adress": "auto"})
