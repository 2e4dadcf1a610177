"""loguru, for people and for machines: ids only, never names."""

from daemon.outside.log.setup import FILE_NAME, about, configure, shut_down, stderr_is_journal

__all__ = ["FILE_NAME", "about", "configure", "shut_down", "stderr_is_journal"]
