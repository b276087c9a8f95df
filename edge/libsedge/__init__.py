"""libsedge on the board: bundles, preprocessing, classification, streams, journal."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("libsedge")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0+unknown"

__all__ = ["__version__"]
