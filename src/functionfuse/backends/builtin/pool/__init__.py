"""Engines that run nodes side by side on this machine: in threads, or in processes."""
