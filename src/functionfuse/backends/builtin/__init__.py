"""Backends of the library itself."""
