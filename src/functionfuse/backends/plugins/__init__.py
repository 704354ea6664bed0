"""Plugins: functions that prepare the process in which a node runs."""

from functionfuse.backends.plugins.plugins import (
    InitializerPlugin,
    PluginCollection,
    RandomStatePlugin,
)
from functionfuse.options import Plugin

__all__ = ["InitializerPlugin", "Plugin", "PluginCollection", "RandomStatePlugin"]
