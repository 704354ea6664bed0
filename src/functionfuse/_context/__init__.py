"""Caller context: logging, warnings, context variables and settings of the caller, the same around each node."""
