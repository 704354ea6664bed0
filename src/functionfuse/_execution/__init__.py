"""Runs: what is submitted when, and what happens to results and failures."""
