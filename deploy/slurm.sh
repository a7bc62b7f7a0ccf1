#!/bin/sh
# sbatch deploy/slurm.sh: one node; for more, neardup dedup … --cluster configs/cluster-slurm.yaml on a login node
#SBATCH --job-name=neardup
#SBATCH --nodes=1
#SBATCH --cpus-per-task=16
#SBATCH --mem=48G
#SBATCH --time=08:00:00
#SBATCH --signal=B:TERM@120
# exec, so that SLURM's signal reaches neardup itself and the run ends by itself, to go on in the next job
exec neardup dedup /shared/photos -o /shared/neardup
