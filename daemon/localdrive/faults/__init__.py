"""Scripted faults: which request gets which fault, and what the fault does."""
