"""The running server, and the checks that every request passes."""
