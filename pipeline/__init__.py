"""neardup: find near-duplicate images and videos in corpora from a folder to a data lake."""

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.stages.matching import match

__all__ = ["__version__", "match"]
__version__ = version("neardup")


def __getattr__(name: str) -> Any:
    if name == "match":  # what it imports takes a second, which other users need not spend
        from pipeline.stages.matching import match

        return match
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
