"""Programs that come to a Ray cluster from outside: through its server for clients, and with or without its token."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from server_processes import free_port, listens, running, until

ray = pytest.importorskip("ray")

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("ray_cluster")

_PROGRAM = """
import sys
import numpy
from functionfuse import workflow
from functionfuse.backends.builtin.rayback import RayWorkflow

@workflow
def square(x):
    return x * x

@workflow
def fail(x):
    raise KeyError(x)

@workflow
class Total:
    def __init__(self):
        self.total = 0

    def add(self, number):
        self.total += number
        return self.total

def made(*targets):
    args = {"address": sys.argv[1], "log_to_driver": False}
    return RayWorkflow(*targets, workflow_name="outside", ray_init_args=args)

total = Total()
array = workflow(numpy.ones)(200_000).set_name("array")
first, second, left, large = made(square(square(3)), total.add(2), total, square(array)).run()
print(first, second, left.total, large.sum(), large.flags.writeable)
try:
    made(fail(1)).run()
except KeyError as error:
    print(repr(error))
greedy = made(square(1).set_name("greedy"))
greedy.query().set_remote_args({"resources": {"unobtainium": 1}})
try:
    greedy.run()
except ValueError as error:
    print(str(error)[:27])
"""
_SAID = ["81 2 2 200000.0 True", "KeyError(1)", "node 'greedy' asks for CPU:"]


def program(address: str, **environment: str) -> subprocess.Popen[str]:
    """Start a program that runs graphs on the cluster at an address."""
    return subprocess.Popen(  # noqa: S603
        [sys.executable, "-c", _PROGRAM, address],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | environment,
    )


def said(process: subprocess.Popen[str]) -> tuple[list[str], str]:
    """The output of a program until it ended: lines, and errors."""
    with process:
        output, errors = process.communicate(timeout=120)
        return output.splitlines(), errors


@pytest.fixture
def client_port(tmp_path: Path) -> Iterator[int]:
    """The port of a server for Ray's clients, which `ray start` starts too."""
    port, cluster = free_port(), ray.get_runtime_context().gcs_address
    command = [sys.executable, "-m", "ray.util.client.server", "--mode", "specific-server"]
    command += ["--address", cluster, "--host", "127.0.0.1", "--port", str(port)]
    with running(command, tmp_path / "log") as process:
        until(lambda: listens(port), process)
        yield port


def test_ray_client(client_port: int) -> None:
    """Through `ray://`, functions, instances, large arrays, errors and checks of requests are as on the cluster."""
    lines, errors = said(program(f"ray://127.0.0.1:{client_port}"))

    assert _SAID == lines, errors


def test_token(tmp_path: Path) -> None:
    """With its token a cluster can be used; without it, or with another one, the error says what to set."""
    address, token = ray.get_runtime_context().gcs_address, os.environ["RAY_AUTH_TOKEN"]
    (tmp_path / "token").write_text(token)
    home = {"HOME": str(tmp_path), "RAY_AUTH_TOKEN": ""}  # where Ray would look for one
    programs = [
        program(
            address, **home, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN_PATH=str(tmp_path / "token")
        ),
        program(address, **home, RAY_AUTH_MODE="disabled"),
        program(address, **home | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "wrong" * 8}),
    ]

    (right, errors), *others = [said(each) for each in programs]

    assert _SAID == right, errors
    for lines, errors in others:
        assert [] == lines
        assert f"EngineError: the Ray cluster at {address!r} could not be used" in errors
        assert (
            "requires RAY_AUTH_MODE=token and either RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH"
            in errors
        )
