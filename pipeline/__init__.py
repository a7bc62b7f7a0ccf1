"""neardup: find near-duplicate images and videos in corpora from a folder to a data lake."""

from importlib.metadata import version

__version__ = version("neardup")
