"""Errors meant for people. Each carries the exit code that a scheduler acts on (README, Exit codes)."""

from typing import Any


class RecsysError(Exception):
    """Something the user or operator can act on: one readable message, never a stack trace."""

    exit_code = 1

    def __init__(self, message: str = "", report: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.report: dict[str, Any] = report or {}
        """Figures of the job that were computed despite the error, for its last line."""


class UsageError(RecsysError):
    """The command line, a configuration file or a dataset file is wrong."""

    exit_code = 2


class QualityError(RecsysError):
    """The data is readable but too bad to publish."""

    exit_code = 3


class InputError(RecsysError):
    """An input is missing, empty or unreadable."""

    exit_code = 4


class ConflictError(RecsysError):
    """Another run committed to the same table first."""

    exit_code = 5


class RetryError(RecsysError):
    """A transient fault (disk full, store unreachable): the same command may succeed later."""

    exit_code = 75


class Terminated(BaseException):
    """SIGTERM: the cluster takes the machine back. A BaseException, so that no handler of errors swallows it."""

    exit_code = 143
