"""Print the pairs and groups of an output: `python samples/show.py demo-out`."""

import sys
from pathlib import Path

import pandas as pd

output = Path(sys.argv[1])
pd.set_option("display.width", 160, "display.max_colwidth", 60, "display.max_rows", 100)


def table(name: str) -> pd.DataFrame:
    """One table of the output, its uris shortened to names below samples/."""
    rows = pd.read_parquet(output / name)
    for column in ("uri", "uri_a", "uri_b", "kept_uri", "group"):
        if column in rows:
            rows[column] = rows[column].str.replace(r"^.*/samples/", "", regex=True)
    return rows


media = table("media")
print("\nnot decoded\n", media[media.error.notna()][["uri", "error_class", "error"]].to_string(index=False))
print("\npairs\n", table("pairs").sort_values("distance")[["uri_a", "uri_b", "distance"]].to_string(index=False))
print(
    "\ngroups\n",
    table("groups")[["kept_uri", "uri", "keep", "reason"]].sort_values(["kept_uri", "uri"]).to_string(index=False),
)
