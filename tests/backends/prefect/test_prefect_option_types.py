"""Validation of Prefect's options: every option is accepted, wrong names, values and types are refused."""

from __future__ import annotations

import inspect
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pytest
from prefect_cases import TRANSACTION_HOOKS, double
from prefect_helpers import make

from functionfuse import workflow
from functionfuse.errors import OptionError

prefect = pytest.importorskip("prefect")

if TYPE_CHECKING:
    from collections.abc import Callable

    from prefect.client.orchestration import SyncPrefectClient


def nothing(*_: Any) -> None:
    """A hook."""


#: A valid value of each option of `@task`.
TASK: Final[dict[str, Any]] = {
    "asset_deps": ["s3://bucket/table"],
    "cache_expiration": timedelta(days=1),
    "cache_key_fn": lambda context, _: str(context.task_run.id),
    "cache_policy": None,
    "cache_result_in_memory": True,
    "description": "Doubles.",
    "log_prints": True,
    "name": "another",
    "on_commit": [nothing],
    "on_completion": [nothing],
    "on_failure": [nothing],
    "on_rollback": [nothing],
    "on_running": [nothing],
    "persist_result": True,
    "refresh_cache": True,
    "result_serializer": "json",
    "result_storage": "local-file-system/options-results",
    "result_storage_key": "options-key",
    "retries": 2,
    "retry_condition_fn": lambda *_: True,
    "retry_delay_seconds": [1, 2.5],
    "retry_jitter_factor": 0.5,
    "tags": {"one", "two"},
    "task_run_name": "run-{value}",
    "timeout_seconds": 60,
    "version": "7",
    "viz_return_value": 3,
}
#: A valid value of each option of `@flow`.
FLOW: Final[dict[str, Any]] = {
    "cache_result_in_memory": False,
    "description": "Doubles.",
    "flow_run_name": "the run",
    "log_prints": True,
    "name": "options-every",
    "on_cancellation": [nothing],
    "on_completion": [nothing],
    "on_crashed": [nothing],
    "on_failure": [nothing],
    "on_running": [nothing],
    "persist_result": True,
    "result_serializer": "pickle",
    "result_storage": "local-file-system/options-results",
    "retries": 2,
    "retry_delay_seconds": 1.5,
    "task_runner": prefect.task_runners.ThreadPoolTaskRunner(max_workers=2),
    "timeout_seconds": 60,
    "validate_parameters": True,
    "version": "7",
}
#: What Prefect refuses when it is set.
REFUSED_TASK: Final[dict[str, Any]] = {
    "asset_deps": [""],
    "on_commit": [1],
    "on_completion": [1],
    "on_failure": 1,
    "on_rollback": 1,
    "on_running": ["hook"],
    "result_storage": 3,
    "retry_condition_fn": 3,
    "retry_delay_seconds": "soon",
    "retry_jitter_factor": -1,
    "tags": 3,
    "task_run_name": 3,
    "timeout_seconds": "soon",
}
#: What Prefect takes when it is set, against its own types, and fails or goes wrong with later.
WRONG_TYPES_TASK: Final[dict[str, Any]] = {
    "cache_expiration": 60,
    "cache_result_in_memory": "no",
    "description": 3,
    "log_prints": "yes",
    "name": 3,
    "persist_result": "no",
    "refresh_cache": "no",
    "result_storage_key": 3,
    "retries": "x",
    "version": 3,
}
WRONG_TYPES_FLOW: Final[dict[str, Any]] = {
    "cache_result_in_memory": "no",
    "log_prints": "yes",
    "persist_result": "no",
    "validate_parameters": "no",
}
REFUSED_FLOW: Final[dict[str, Any]] = {
    "flow_run_name": 3,
    "name": "a/b",
    "on_cancellation": [1],
    "on_completion": 1,
    "on_crashed": ["hook"],
    "on_failure": [None],
    "on_running": 1,
    "result_storage": 3,
    "timeout_seconds": "soon",
}


def options_of(decorator: Callable[..., Any]) -> set[str]:
    """The options that the installed Prefect has."""
    parameters = inspect.signature(decorator).parameters.values()
    return {parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY}


class TestEveryOption:
    """Exactly the options of the installed Prefect are accepted."""

    def test_all_are_here(self) -> None:
        """Each option of the installed Prefect has been thought of: a new one needs a value above, and a thought."""
        assert options_of(prefect.task) | TRANSACTION_HOOKS == set(TASK)
        assert options_of(prefect.flow) == set(FLOW)

    @pytest.fixture(scope="class")
    @staticmethod
    def storage(module_server: SyncPrefectClient, tmp_path_factory: pytest.TempPathFactory) -> None:
        """The block that is the value of result_storage."""
        from prefect.filesystems import LocalFileSystem

        block = LocalFileSystem(basepath=str(tmp_path_factory.mktemp("results")))
        block.save("options-results", overwrite=True)

    @pytest.mark.usefixtures("storage")
    @pytest.mark.parametrize("option", sorted(options_of(prefect.task) | TRANSACTION_HOOKS))
    def test_task_option_is_accepted(self, option: str) -> None:
        """A run completes with it."""
        node = workflow(double)(20).set_name("node")
        ours = make(node, workflow_name="options-every-task")
        ours.query().set_task_args({option: TASK[option]})
        assert 40 == ours.run()

    @pytest.mark.usefixtures("storage")
    @pytest.mark.parametrize("option", sorted(options_of(prefect.flow)))
    def test_flow_option_is_accepted(self, option: str) -> None:
        """A run completes with it, and the flow has it."""
        ours = make(workflow(double)(20), workflow_name="options-every-flow")
        ours.set_prefect_flow_options({option: FLOW[option]})
        assert 40 == ours.run()
        by_hand = prefect.flow(**{"name": ours.flow.name, option: FLOW[option]})(double)
        attribute = {"validate_parameters": "should_validate_parameters"}.get(
            option, f"{option}_hooks" if option.startswith("on_") else option
        )
        assert getattr(by_hand, attribute) == getattr(ours.flow, attribute)

    @pytest.mark.parametrize("option", sorted(options_of(prefect.task) | TRANSACTION_HOOKS))
    def test_misspelt_task_option(self, option: str) -> None:
        """A misspelt option is an error where it is set, with the right name."""
        query = make(workflow(double)(20), workflow_name="options-misspelt").query()
        with pytest.raises(
            OptionError, match=f"unknown option .*'{option}x'; did you .*'{option}'"
        ):
            query.set_task_args({f"{option}x": TASK[option]})

    @pytest.mark.parametrize("option", sorted(options_of(prefect.flow)))
    def test_misspelt_flow_option(self, option: str) -> None:
        """A misspelt option is an error where it is set, with the right name."""
        ours = make(workflow(double)(20), workflow_name="options-misspelt")
        with pytest.raises(
            OptionError, match=f"unknown option .*'{option}x'; did you .*'{option}'"
        ):
            ours.set_prefect_flow_options({f"{option}x": FLOW[option]})

    @pytest.mark.parametrize("option", REFUSED_TASK)
    def test_refused_task_option(self, option: str) -> None:
        """An option that `@task` refuses is an error where it is set."""
        query = make(workflow(double)(20), workflow_name="options-refused").query()
        with pytest.raises(OptionError, match="Prefect rejects these options of a task: "):
            query.set_task_args({option: REFUSED_TASK[option]})

    @pytest.mark.parametrize("option", WRONG_TYPES_TASK)
    def test_task_option_of_a_wrong_type(self, option: str) -> None:
        """A wrong type is an error where the option is set, with the nodes, the option and the value."""
        value = WRONG_TYPES_TASK[option]
        query = make(workflow(double)(20).set_name("n"), workflow_name="options-types").query("n")
        message = rf"query\(\.\.\.\)\.set_task_args on 'n': '{option}' must be .*, not {value!r}"
        with pytest.raises(OptionError, match=message):
            query.set_task_args({option: value})

    @pytest.mark.parametrize("option", WRONG_TYPES_FLOW)
    def test_flow_option_of_a_wrong_type(self, option: str) -> None:
        """A wrong type is an error where the option is set, with the option and the value."""
        value = WRONG_TYPES_FLOW[option]
        ours = make(workflow(double)(20), workflow_name="options-types")
        message = f"set_prefect_flow_options: '{option}' must be .*, not {value!r}"
        with pytest.raises(OptionError, match=message):
            ours.set_prefect_flow_options({option: value})

    @pytest.mark.parametrize(
        "options",
        [
            {"retries": np.int64(2)},
            {"timeout_seconds": np.float32(2)},
            {"retry_jitter_factor": 1},
            {"retries": None, "log_prints": None},
        ],
    )
    def test_task_options_of_near_types(self, options: dict[str, Any]) -> None:
        """Numbers are numbers, of numpy as well; None is Prefect's default."""
        query = make(workflow(double)(20), workflow_name="options-types").query()
        assert query is query.set_task_args(options)

    @pytest.mark.parametrize("option", REFUSED_FLOW)
    def test_refused_flow_option(self, option: str) -> None:
        """An option that `@flow` refuses is an error where it is set."""
        ours = make(workflow(double)(20), workflow_name="options-refused")
        with pytest.raises(OptionError, match="Prefect rejects these options of a flow: "):
            ours.set_prefect_flow_options({option: REFUSED_FLOW[option]})
