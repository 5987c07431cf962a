"""Large image sets, cut into parts that are attacked as jobs of their own.

A part is some of a run's shards. Its job leaves them in the store, and the run's own job, which would attack with all
shards, finds them there and puts them together: so the results are those of one job, and what is missing or damaged
by then is simply attacked again.
"""

from __future__ import annotations

from math import ceil

from wolfe.study.batches import Batch
from wolfe.study.plan import Study


def part_count(study: Study, batch: Batch) -> int:
    """How many jobs the images of a batch are divided among.

    Args:
        study: the resolved study; its limit `images_per_job` decides, rounded up to whole shards.
        batch: one of its batches.

    Returns:
        The number of parts; 1 where the batch's own job does all.
    """
    per_job, shard_size = study.limits["images_per_job"], study.limits["shard_size"]
    if per_job is None:
        return 1
    asked = study.targets[batch.model, batch.targets]["images"]
    images = max(row["images"] or asked for row in batch.rows)
    return ceil(ceil(images / shard_size) / ceil(per_job / shard_size))
