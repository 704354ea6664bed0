"""Execution of graphs: scheduler, fast path, task groups, recovery and reference counts."""
