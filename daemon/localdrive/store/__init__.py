"""The index: items, and what may be done with them."""
