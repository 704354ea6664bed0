"""What running a node means, on every engine: the part of the library that workers import."""
