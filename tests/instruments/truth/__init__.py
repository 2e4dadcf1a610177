"""Planted exams, whose right answer is known voxel by voxel, through the whole program; see `python -m tests.instruments.truth --help`."""
