"""The words and the rules of the program; no I/O."""
