"""The wheel, and environments of a user with it, without a package index."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import sysconfig
import venv
from importlib.metadata import Distribution, distribution
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["installed_wheel", "wheel"]

ROOT: Final = Path(__file__).parents[2]
_NAME: Final = re.compile(r"[\w.-]+")


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, as a release would build it."""
    folder = tmp_path_factory.mktemp("wheel")
    options = ["--quiet", "--no-index", "--no-deps", "--no-build-isolation"]
    _pip("wheel", *options, "--wheel-dir", str(folder), str(ROOT))
    (found,) = folder.glob("*.whl")
    return found


@pytest.fixture(scope="session")
def installed_wheel(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment that has the wheel and what it requires, and nothing else."""
    folder = tmp_path_factory.mktemp("user") / "venv"
    venv.create(folder, symlinks=True)
    purelib = sysconfig.get_path("purelib", "venv", {"base": str(folder)})
    for required in _requirements("functionfuse"):
        _copy(required, Path(purelib))
    python = folder / "bin" / "python"
    _pip("--python", str(python), "install", "--quiet", "--no-index", "--no-deps", str(wheel))
    return python


def _pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    subprocess.run(command, check=True)  # noqa: S603


def _requirements(name: str) -> Iterator[Distribution]:
    """The requirements of a distribution without extras, and their requirements."""
    for requirement in distribution(name).requires or ():
        found = _NAME.match(requirement)
        if found and "extra ==" not in requirement and "python_version" not in requirement:
            yield distribution(found[0])
            yield from _requirements(found[0])


def _copy(package: Distribution, folder: Path) -> None:
    for file in package.files or ():
        if not file.parts[0].startswith(".."):  # scripts
            target = folder / file
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(str(file.locate()), target)
