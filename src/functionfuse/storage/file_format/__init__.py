"""The format of result files: frames, checksums, signatures, pickle streams."""
