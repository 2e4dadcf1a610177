"""The process: it starts, does its rounds, steers its workers and stops in order."""
