"""Counts words over TCP."""

from .server import Server, count

__all__ = ["Server", "count"]
