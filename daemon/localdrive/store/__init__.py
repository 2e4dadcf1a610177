"""The index of items, the files on disk, and the operations on them."""
