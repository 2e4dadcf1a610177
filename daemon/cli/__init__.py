"""What the commands are made of beside `cli.py`: how they reach the daemon, what their answers read like."""
