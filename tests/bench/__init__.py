"""What the program costs and how fast it is, measured; see `python -m tests.bench --help`."""
