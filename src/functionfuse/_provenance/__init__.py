"""Provenance of results: fingerprints, digests of code and values, staleness of stored results."""
