"""Results that outlive a run."""

from functionfuse.storage.factory import storage_factory

__all__ = ["storage_factory"]
