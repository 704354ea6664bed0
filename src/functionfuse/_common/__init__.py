"""Helpers without dependencies on graphs, runs or storages."""
