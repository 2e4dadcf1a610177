"""What the program costs and how fast it is, measured; see `python -m tests.instruments.bench --help`."""
