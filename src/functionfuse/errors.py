"""What can go wrong, as one tree.

Every message says what happened, where in the user's file, and what to do::

    FunctionFuseError
    ├── GraphError (ValueError)
    │   ├── DuplicateNameError         two nodes of a graph have one name
    │   └── NotANodeError (TypeError)  a target that is no node
    ├── OptionError (ValueError)       an option, pattern or plugin that is not understood
    ├── MissingExtraError (ImportError)
    ├── StorageError
    │   ├── ResultNotFound (FileNotFoundError)
    │   ├── CorruptResult              the bytes are not those that were written
    │   └── UntrustedResult            not signed as it must be, or made of what is not allowed
    ├── EngineError                    the engine failed, not the user's function
    └── DifferentResults (AssertionError)  backends do not agree, see `functionfuse.compare`

    FunctionFuseWarning (UserWarning)
    ├── NoMatchWarning                 a pattern that matches no node
    ├── DamagedResultWarning           a stored result that is computed anew
    └── ExposedKeyWarning              a key file that other users can read or write

An exception that a user's function raises is none of these: it reaches the caller with its own type.
"""

__all__ = [
    "CorruptResult",
    "DamagedResultWarning",
    "DifferentResults",
    "DuplicateNameError",
    "EngineError",
    "ExposedKeyWarning",
    "FunctionFuseError",
    "FunctionFuseWarning",
    "GraphError",
    "MissingExtraError",
    "NoMatchWarning",
    "NotANodeError",
    "OptionError",
    "ResultNotFound",
    "StorageError",
    "UntrustedResult",
]


class FunctionFuseError(Exception):
    """Everything that this library raises by itself."""


class GraphError(FunctionFuseError, ValueError):
    """The nodes do not form a graph that can be run."""


class DuplicateNameError(GraphError):
    """Two different nodes have one name, so their results could not be told apart."""


class NotANodeError(GraphError, TypeError):
    """Something else stands where a node was expected."""


class OptionError(FunctionFuseError, ValueError):
    """An option, a pattern or a plugin that its consumer does not understand."""


class MissingExtraError(FunctionFuseError, ImportError):
    """A backend's library is not installed."""


class StorageError(FunctionFuseError):
    """A result could not be saved, read or removed."""


class ResultNotFound(StorageError, FileNotFoundError):
    """No result is stored under this name."""


class CorruptResult(StorageError):
    """The stored bytes are not those that were written."""

    #: The workflow and the node whose stored result is damaged; None where the reader does not know them.
    workflow: str | None = None
    node: str | None = None
    #: What is wrong with it, without advice.
    problem: str = ""


class UntrustedResult(StorageError):
    """A stored result was not unpickled: its signature is not right, or it needs what is not allowed."""


class EngineError(FunctionFuseError):
    """The engine failed to run a node; the node's function did not raise."""


class DifferentResults(FunctionFuseError, AssertionError):
    """A node has different results on different backends."""


class FunctionFuseWarning(UserWarning):
    """Every warning of this library."""


class NoMatchWarning(FunctionFuseWarning):
    """A pattern matches no node's name."""


class DamagedResultWarning(FunctionFuseWarning):
    """A stored result cannot be read and is computed anew."""


class ExposedKeyWarning(FunctionFuseWarning):
    """Other users can read or write the file of a signing key."""
