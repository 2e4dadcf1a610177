"""Finds the changes that people make in the directory, and records them in the index."""
