"""Parts → Dask tasks, progress, claim. The only module that uses Dask; it does not know what a task does.

settings    which cluster is meant
host        what this process may use of its machine
mapping     a function applied to many tasks
preflight   whether workers can do the work
cluster     workers, from the start of a cluster to its end
claim       one run per output
"""

from neardup.run.claim import Claim, claimed
from neardup.run.cluster import Workers, workers
from neardup.run.mapping import Mapper
from neardup.run.settings import cluster_from_file

__all__ = ["Claim", "Mapper", "Workers", "claimed", "cluster_from_file", "workers"]
