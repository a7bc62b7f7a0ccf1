"""neardup: find near-duplicate images and videos in corpora from a folder to a data lake.

Nothing is imported here: a module of the standard library that a file of the working folder hides would come from
there, before `python -m neardup` can leave that folder out.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from neardup.stages.matching import match

__all__ = ["__version__", "match"]
__version__: str


def __getattr__(name: str) -> object:
    if name == "match":  # what it imports takes a second, which other users need not spend
        from neardup.stages.matching import match

        return match
    if name == "__version__":
        from importlib.metadata import version

        return version("neardup")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
