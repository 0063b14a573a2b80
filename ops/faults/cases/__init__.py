"""The faults, by what is harmed; importing this registers them all."""

from cases import processes, streams

__all__ = ["processes", "streams"]
