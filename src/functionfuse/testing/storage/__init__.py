"""The conformance suite of storages."""
