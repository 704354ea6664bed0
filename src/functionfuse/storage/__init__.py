"""Results that outlive a run."""

from functionfuse.storage.storage_factory import storage_factory

__all__ = ["storage_factory"]
