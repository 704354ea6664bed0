"""Observers of runs: a report and a progress bar."""
