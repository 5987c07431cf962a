"""Snakemake's command line, except that it asks for the state of its jobs every two seconds.

The executor plugin waits ten seconds longer after each question that finds nothing finished. That spares a cluster and
would be most of the time that these tests take.
"""

from snakemake.cli import main
from snakemake_executor_plugin_slurm import Executor

Executor.next_seconds_between_status_checks = property(lambda self: 2, lambda self, value: None)

if __name__ == "__main__":
    main()
