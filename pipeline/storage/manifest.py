"""The manifest: which parts of an output are live."""

import json

from pipeline.errors import RefusedError, UsageError
from pipeline.storage.parts import read, write

MANIFEST = "manifest.json"


def read_manifest(root: str) -> dict[str, list[str]]:
    """The live parts of every table: table folder → part names. Empty before the first commit."""
    try:
        data = read(root, MANIFEST)
    except RefusedError as error:  # looked at before any work begins
        raise UsageError(f"the output cannot be used: {error}; choose another with --output") from error
    if data is None:
        return {}
    try:
        tables = json.loads(data)["tables"]
        return {str(table): [str(name) for name in names] for table, names in tables.items()}
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise UsageError(f"{root}/{MANIFEST} is damaged; restore it or start with a new output") from error


def commit_manifest(root: str, manifest: dict[str, list[str]]) -> None:
    """Make exactly these parts live, by one write."""
    tables = {table: sorted(names) for table, names in sorted(manifest.items()) if names}
    write(root, MANIFEST, json.dumps({"format": 1, "tables": tables}, indent=1).encode())
