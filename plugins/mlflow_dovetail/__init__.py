"""Dovetail: every run says which code, data, configuration and machine made it."""

__version__ = "0.1.0"

__all__ = ["__version__"]
