"""Comparison of the results of one graph on several backends."""

from functionfuse.comparison.comparison import compare
from functionfuse.comparison.result import Comparison, Difference

__all__ = ["Comparison", "Difference", "compare"]
