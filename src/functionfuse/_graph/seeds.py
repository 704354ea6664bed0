"""Placeholders of a node's seed, `SEED`, and of its random generator, `RNG`, among arguments and default values.

They are captured as containers without parts. A run replaces the function that builds such a container
by one that knows the seed of the node.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final, NoReturn, cast

from functionfuse._graph.nodes import Container
from functionfuse._graph.placeholder import Placeholder
from functionfuse.errors import SeedError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.random import Generator

    from functionfuse._graph.signature import Signature

__all__ = ["RNG", "SEED", "SeedPlaceholder", "SeedSource", "rebind_placeholders"]


class SeedSource:
    """Builds the value of a placeholder for one call: the seed, or a new generator."""

    __slots__ = ("is_default", "modulus", "name", "seed")

    def __init__(
        self,
        name: str,
        modulus: int | None = None,
        seed: int | None = None,
        *,
        is_default: bool = False,
    ) -> None:
        self.name, self.modulus, self.seed = name, modulus, seed
        self.is_default = is_default  # the function's, not an argument of the caller

    def __call__(self, _: Sequence[Any]) -> Any:
        if self.seed is None:  # a run has checked that its nodes have seeds
            message = f"{self} has no value, since the node has no seed"
            raise SeedError(message)
        if self.name == "RNG":
            return _new_generator(self.seed)
        return self.seed if self.modulus is None else self.seed % self.modulus

    def __eq__(self, other: object) -> bool:
        return type(other) is SeedSource and self.__reduce__() == other.__reduce__()

    def __hash__(self) -> int:
        return hash((self.name, self.modulus, self.seed))

    def with_seed(self, seed: int | None) -> SeedSource:
        """Return the source of the same placeholder in a node with this seed."""
        return SeedSource(self.name, self.modulus, seed)

    def __str__(self) -> str:
        return self.name if self.modulus is None else f"{self.name} % {self.modulus}"

    def __reduce__(self) -> tuple[Any, ...]:
        return SeedSource, (self.name, self.modulus, self.seed)


def _new_generator(seed: int) -> Generator:
    try:
        from numpy.random import default_rng
    except ImportError as error:
        message = "RNG is a numpy.random.Generator, and numpy is not installed: install it, or take seed=SEED"
        raise SeedError(message) from error
    return default_rng(seed)


class SeedPlaceholder(Placeholder[Any]):
    """`SEED` or `RNG` in the user's program; operations that need its value raise."""

    __slots__ = ("_captured",)

    #: Whether a call of this process has captured one: otherwise no graph has to be searched.
    captured: ClassVar[bool] = False

    def __init__(self, source: SeedSource) -> None:
        # always the same container, so that a call that takes it twice gets one generator
        self._captured = Container(source, ())

    @property
    def source(self) -> SeedSource:
        """What builds the value."""
        return cast("SeedSource", self._captured.build)

    def _current(self) -> Container:
        SeedPlaceholder.captured = True
        return self._captured

    def as_default(self) -> SeedPlaceholder:
        """Return the placeholder as the default value of a parameter."""
        source = self.source
        return type(self)(SeedSource(source.name, source.modulus, is_default=True))

    def __mod__(self, modulus: int) -> SeedPlaceholder:
        """Return a placeholder of the seed modulo a number, for libraries that take shorter seeds."""
        if type(modulus) is not int or modulus < 1 or self is not SEED:
            self._refuse("arithmetic with")
        return SeedPlaceholder(SeedSource("SEED", modulus))

    def _refuse(self, what: str) -> NoReturn:
        message = f"{what} {self._explanation()}"
        raise SeedError(message)

    def _explanation(self) -> str:
        name = self.source.name
        parameter = name.lower()
        return (
            f"{self!r}, which has a value only as an argument of a node in a workflow with set_seed(): "
            f"write it as the default of a parameter, `def fit(..., {parameter}={name})`, and use {parameter!r}; "
            f"to call the function without a workflow, pass a value, `fit.__wrapped__(..., {parameter}=...)`"
        )

    def __repr__(self) -> str:
        return str(self.source)

    def __reduce__(self) -> Any:
        if self.source.modulus is None:
            return self.source.name  # the global of this module
        return SeedPlaceholder.__mod__, (SEED, self.source.modulus)


class _GeneratorPlaceholder(SeedPlaceholder):
    __slots__ = ()

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> NoReturn:
            if name.startswith("_"):
                raise AttributeError(name)
            message = f"{name!r} of {self._explanation()}"
            raise AttributeError(message)


#: The seed of the node, as an argument or the default value of a parameter: an int of 128 bits.
SEED: Final[int] = cast("int", SeedPlaceholder(SeedSource("SEED")))
#: A new generator with the seed of the node, `numpy.random.default_rng(seed)`.
RNG: Final[Any] = _GeneratorPlaceholder(SeedSource("RNG"))  # Any: numpy may be missing


# ---- replaced functions ----


def rebind_placeholders(
    args: tuple[Any, ...], kwargs: Mapping[str, Any], old: Signature, new: Signature
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments of a call for another function, without the old function's placeholders, with the new one's.

    A placeholder that is the default of the old function is not the caller's argument.
    """
    defaults = _placeholders(new)
    if not (SeedPlaceholder.captured or defaults):
        return args, dict(kwargs)
    bound = old.bind(*args, **kwargs)
    for name, value in list(bound.arguments.items()):
        if type(value) is Container and type(value.build) is SeedSource and value.build.is_default:
            del bound.arguments[name]
    args, kwargs = bound.args, bound.kwargs
    new.check(args, dict(kwargs))
    bound = new.bind(*args, **kwargs)
    for name, placeholder in defaults.items():
        bound.arguments.setdefault(name, placeholder.as_default()._current())
    return bound.args, bound.kwargs


def _placeholders(signature: Signature) -> dict[str, SeedPlaceholder]:
    parameters = signature.parameters
    return {p.name: p.default for p in parameters if isinstance(p.default, SeedPlaceholder)}
