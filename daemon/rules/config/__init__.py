"""config.toml and the environment become frozen settings."""

from daemon.rules.config.reading import ConfigError, Problem, load
from daemon.rules.config.settings import Settings
from daemon.rules.config.values import FolderRef

__all__ = ["ConfigError", "FolderRef", "Problem", "Settings", "load"]
