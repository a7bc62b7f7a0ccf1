"""Parts → Dask tasks, progress, claim. The only module that uses Dask; it does not know what a task does."""

from pipeline.run.claim import Claim, claimed
from pipeline.run.cluster import Mapper, Workers, cluster_from_file, workers

__all__ = ["Claim", "Mapper", "Workers", "claimed", "cluster_from_file", "workers"]
