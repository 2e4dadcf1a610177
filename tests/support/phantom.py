"""The phantom of the product, as tests use it: small, fast, the same bytes every time."""

from daemon.cli.phantom import Phantom, hounsfield, slice_of, uid, write_series

__all__ = ["Phantom", "hounsfield", "slice_of", "uid", "write_series"]
