"""Engines that run units concurrently on this machine: in threads, or in worker processes."""
