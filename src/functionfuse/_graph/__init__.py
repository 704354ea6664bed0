"""Graph model: decorators, nodes, and the graphs that workflows build from them."""
