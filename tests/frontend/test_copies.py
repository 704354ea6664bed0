"""Copies of nodes are the nodes."""

from __future__ import annotations

import copy
import dataclasses
import gc
import os
import pickle
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import cloudpickle
import pytest
from example_nodes import Accumulator, Options, add, run, same

from functionfuse.backends.builtin.localback import LocalWorkflow

if TYPE_CHECKING:
    from collections.abc import Callable

COPIES: dict[str, Callable[[Any], Any]] = {
    "copy": lambda config: {"node": copy.copy(config["node"])},
    "deepcopy": copy.deepcopy,
    "asdict": lambda config: {"node": dataclasses.asdict(Options(config["node"]))["rate"]},
    "replace": lambda config: {"node": dataclasses.replace(Options(config["node"])).rate},
    "pickle": lambda config: pickle.loads(pickle.dumps(config)),
    "cloudpickle": lambda config: cloudpickle.loads(cloudpickle.dumps(config)),
}


@pytest.mark.parametrize("duplicate", COPIES.values(), ids=COPIES)
def test_a_copy_of_a_node_is_the_node(duplicate: Callable[[Any], Any]) -> None:
    """A copied config holds the same node: it runs once, and its name is not used twice."""
    config: dict[str, Any] = {"node": add(1).set_name("first")}
    copied = duplicate(config)
    assert config["node"] is copied["node"]
    workflow = LocalWorkflow(same([config["node"], copied["node"]]), workflow_name="copies")
    assert ["first", "same_0000"] == workflow.find_nodes()
    assert [2, 2] == workflow.run()


@pytest.mark.parametrize("duplicate", COPIES.values(), ids=COPIES)
def test_a_copy_of_an_item_refers_to_the_node(duplicate: Callable[[Any], Any]) -> None:
    """An item of a copied config is an item of the same node."""
    node = same([[5]])
    copied = duplicate({"node": node[0][0]})["node"]
    assert (node, (0, 0)) == (copied.node, copied.path)
    assert [5, 5] == run(copied, node[0][0])


def test_a_copy_of_an_instance_is_the_instance() -> None:
    """Calls on a copied instance continue those on the original."""
    accumulator: Any = Accumulator(1)
    copied = copy.deepcopy({"a": accumulator})["a"]
    assert [3, 6] == run(accumulator.add(2), copied.add(3))


def test_a_pickle_of_a_node_that_is_gone_is_a_new_node() -> None:
    """A node that was collected can be unpickled, and is one node however often that is done."""
    pickled = pickle.dumps(same([add(1)]).set_name("gone"))
    gc.collect()
    first, second = pickle.loads(pickled), pickle.loads(pickled)
    assert first is second
    assert ("gone", [2]) == (first.name, run(first))


def test_a_pickle_of_a_node_works_in_another_process() -> None:
    """There, all pickles of one node are one node, and pickled again it is the first one here."""
    node = add(1).set_name("first")
    code = (
        "import pickle, sys; first, second = map(pickle.loads, pickle.load(sys.stdin.buffer)); "
        "assert first is second; sys.stdout.buffer.write(pickle.dumps(first))"
    )
    given = pickle.dumps([cloudpickle.dumps(node), cloudpickle.dumps(node)])
    search_path = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", code],
        input=given,
        env=search_path,
        capture_output=True,
        check=True,
        timeout=60,
    )
    assert node is pickle.loads(done.stdout)
