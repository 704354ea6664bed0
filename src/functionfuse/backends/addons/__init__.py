"""Backends over other workflow systems."""
