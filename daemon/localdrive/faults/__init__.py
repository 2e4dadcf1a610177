"""Scripted misbehaviour."""
