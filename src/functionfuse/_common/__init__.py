"""Helpers that know nothing of graphs, runs or storages."""
