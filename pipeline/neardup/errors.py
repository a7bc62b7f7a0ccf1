"""The error tree. Each line says what happens next.

    NeardupError               raised on purpose; its text is one sentence: what, which value, the way out
    ├── UsageError             stop before any work, exit code 2 (a spec, option or path that cannot be meant)
    │   └── ConfigError        the same, found in a configuration
    ├── RunError               stop the run, exit code 1 (the output or the cluster failed; finished parts stay)
    │   ├── ClaimError         another run holds the output
    │   ├── RefusedError       the store of the output refuses it for good (a UsageError where nothing was started yet)
    │   └── OutputError        the output takes nothing more (a full disk): other tasks need not be tried
    └── MediaError             becomes a row of MEDIA; the run goes on
        ├── TransientError     error_class transient: I/O that may pass, or credentials; worth another try
        ├── MissingError       error_class permanent: the object is gone, or refused for good
        ├── UndecodableError   error_class permanent: the bytes are not the media they claim to be
        ├── PolicyError        error_class policy: over a limit (pixels, bytes, duration)
        └── PoisonError        error_class poison: it killed, hung or exhausted its decoder or hasher

Anything else that is raised is a bug. Foreign exceptions are translated where their library is owned.
"""

from typing import ClassVar, Literal

ErrorClass = Literal["transient", "permanent", "policy", "poison"]


class NeardupError(Exception):
    """Every error that neardup raises on purpose."""


class UsageError(NeardupError, ValueError):
    """What the user asked for cannot be meant; nothing was started."""


class ConfigError(UsageError):
    """A configuration holds a key or value that cannot be meant."""


class RunError(NeardupError):
    """The run cannot go on; finished parts stay and the next run takes them over."""


class ClaimError(RunError):
    """Another run is writing the same output."""


class RefusedError(RunError):
    """The store of an output refuses what is asked of it, and will go on doing so."""


class OutputError(RunError):
    """The output takes nothing more, so that every other task would fail in the same way."""


class MediaError(NeardupError):
    """One item failed; it becomes a row with `error_class`."""

    error_class: ClassVar[ErrorClass] = "permanent"


class TransientError(MediaError, OSError):
    """Reading failed in a way that may pass."""

    error_class = "transient"


class MissingError(MediaError, FileNotFoundError):
    """The object does not exist or may not be read."""

    error_class = "permanent"


class UndecodableError(MediaError, ValueError):
    """The bytes cannot be decoded."""

    error_class = "permanent"


class PolicyError(MediaError, ValueError):
    """The item is over a limit, found before the work was done."""

    error_class = "policy"


class PoisonError(MediaError):
    """The item killed, hung or exhausted the process that worked on it."""

    error_class = "poison"
