"""The only module that suspends and resumes parts of the work, so that the log tells of each change once."""

from __future__ import annotations

from loguru import logger

from daemon.rules.errors import Kind, Refused, Scope, Transient, Trouble
from daemon.steps.context import Context


def suspend(context: Context, trouble: Trouble) -> None:
    """Suspend the scope of the error, or delay its next probe if it is suspended already."""
    if context.breakers.suspend(trouble, context.clock.now()):
        logger.error("{} suspended: {}. {}", trouble.scope.value.capitalize(), trouble.what, trouble.remedy)


def suspend_loop(context: Context, trouble: Trouble) -> None:
    """Suspend what a trouble concerns that a loop met: a loop serves every item, so it is the service at least."""
    if trouble.scope in (Scope.ITEM, Scope.FOLDER):
        kind = Transient if trouble.kind is Kind.TRANSIENT else Refused
        trouble = kind(
            trouble.code,
            trouble.what,
            remedy=trouble.remedy,
            scope=Scope.SERVICE,
            retry_after_s=trouble.retry_after_s,
        )
    suspend(context, trouble)


def resume(context: Context, scope: Scope) -> None:
    """Resume a scope in which something has just succeeded."""
    if context.breakers.restore(scope):
        logger.info("{} resumed", scope.value.capitalize())


def suspend_folder(context: Context, source_folder_id: str, trouble: Transient) -> None:
    """Suspend the deliveries into one output folder that takes nothing more.

    Args:
        source_folder_id: the source folder that the output folder mirrors.
    """
    if context.breakers.folders.suspend(source_folder_id, trouble, context.clock.now()):
        logger.error(
            "Folder suspended: nothing is delivered into the output folder of {}: {}. {}",
            source_folder_id,
            trouble.what,
            trouble.remedy,
        )


def resume_folder(context: Context, source_folder_id: str) -> None:
    """Resume the deliveries into an output folder that has just taken a new item."""
    if context.breakers.folders.restore(source_folder_id):
        logger.info("Folder resumed: the output folder of {} takes deliveries again", source_folder_id)
