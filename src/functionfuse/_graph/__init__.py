"""Nodes, and the graphs that workflows build of them."""
