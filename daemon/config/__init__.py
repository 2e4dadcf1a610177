"""config.toml and the environment become frozen settings."""

from daemon.config.reading import ConfigError, Problem, load
from daemon.config.settings import Settings
from daemon.config.values import FolderRef

__all__ = ["ConfigError", "FolderRef", "Problem", "Settings", "load"]
