"""The faults, by what is harmed; importing this registers them all."""

# In the order they are carried out.
from cases import processes, streams, models, network, clock, core, cluster  # isort: skip

__all__ = ["processes", "streams", "models", "network", "clock", "core", "cluster"]
