"""Exception and warning hierarchy.

A message says what is wrong, where in the user's file, and what to do::

    FunctionFuseError
    ├── GraphError (ValueError)
    │   ├── DuplicateNameError         two nodes of a graph have the same name
    │   └── NotANodeError (TypeError)  a target that is not a node
    ├── OptionError (ValueError)       an invalid option, pattern or plugin
    ├── SeedError (ValueError)         a node without a seed, or with numbers that would differ from run to run
    ├── MissingExtraError (ImportError)
    ├── StorageError
    │   ├── ResultNotFound (FileNotFoundError)
    │   ├── CorruptResult              the checksum does not match
    │   ├── UntrustedResult            not signed with the key, or has types that are not allowed
    │   └── StaleResultError           a stale result, and you asked for an error
    ├── EngineError                    the engine failed, not the user's function
    ├── MutationError                  a node changed a value that others have, too
    └── DifferentResults (AssertionError)  results of backends differ, see `functionfuse.compare`

    FunctionFuseWarning (UserWarning)
    ├── NoMatchWarning                 a pattern that matches no node
    ├── DamagedResultWarning           a damaged stored result is computed again
    ├── IgnoredProvenanceWarning       an accepted fingerprint or a source text that cannot be used
    ├── ExposedKeyWarning              a key file that other users can read or write
    ├── StaleResultWarning             stale results are loaded, or were recomputed for want of a name
    └── MutationWarning                a value was changed that several nodes take

An exception that a user's function raises reaches the caller with its own type.
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
    "IgnoredProvenanceWarning",
    "MissingExtraError",
    "MutationError",
    "MutationWarning",
    "NoMatchWarning",
    "NotANodeError",
    "OptionError",
    "ResultNotFound",
    "SeedError",
    "StaleResultError",
    "StaleResultWarning",
    "StorageError",
    "UntrustedResult",
]


class FunctionFuseError(Exception):
    """Base class of all exceptions of this library."""


class GraphError(FunctionFuseError, ValueError):
    """The nodes do not form a graph that can be run."""


class DuplicateNameError(GraphError):
    """Two different nodes have the same name, under which both would store their results."""


class NotANodeError(GraphError, TypeError):
    """A value is not a node where a node is required."""


class OptionError(FunctionFuseError, ValueError):
    """An option, a pattern or a plugin is invalid."""


class SeedError(FunctionFuseError, ValueError):
    """A node takes `SEED` or `RNG` and has no seed, or draws from a random generator that several threads share."""


class MissingExtraError(FunctionFuseError, ImportError):
    """A backend's library is not installed."""


class StorageError(FunctionFuseError):
    """A result could not be saved, read or removed."""


class ResultNotFound(StorageError, FileNotFoundError):
    """No result is stored under this name."""


class CorruptResult(StorageError):
    """The stored bytes differ from those that were written."""

    #: Workflow and node of the damaged result; None where the reader does not know them.
    workflow: str | None = None
    node: str | None = None
    #: The cause, without advice.
    problem: str = ""


class UntrustedResult(StorageError):
    """A stored result was not unpickled: its signature is missing or wrong, or it needs types that are not allowed."""


class StaleResultError(StorageError):
    """A stored result that a run needs is stale, and `on_stale` is "error"."""


class EngineError(FunctionFuseError):
    """The engine failed to run a node; the node's function did not raise."""


class MutationError(FunctionFuseError):
    """A node changed an argument in place that other nodes, the storage or the caller have, too."""


class DifferentResults(FunctionFuseError, AssertionError):
    """A node has different results on different backends."""


class FunctionFuseWarning(UserWarning):
    """Base class of all warnings of this library."""


class NoMatchWarning(FunctionFuseWarning):
    """A pattern matches no node name."""


class DamagedResultWarning(FunctionFuseWarning):
    """A stored result cannot be read and is computed again."""


class IgnoredProvenanceWarning(FunctionFuseWarning):
    """The accepted fingerprint of a result, or the text of its code, is damaged or not signed with the key."""


class StaleResultWarning(FunctionFuseWarning):
    """Stored results are loaded although they are stale, or unnamed nodes are computed again since numbers shifted."""


class ExposedKeyWarning(FunctionFuseWarning):
    """Other users can read or write the file of a signing key."""


class MutationWarning(FunctionFuseWarning):
    """A value that several nodes take, or that several calls captured, was changed in place."""
