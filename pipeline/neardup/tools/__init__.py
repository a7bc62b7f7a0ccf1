"""What one does with hashes: find duplicates, ask a matching service; the names are those of the reference."""

from neardup.tools.deduplication import deduplicate, deduplicate_hashes, flatten
from neardup.tools.matching import SaferMatcher

__all__ = ["SaferMatcher", "deduplicate", "deduplicate_hashes", "flatten"]
