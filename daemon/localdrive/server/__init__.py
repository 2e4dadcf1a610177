"""The running server, and what every request passes."""
