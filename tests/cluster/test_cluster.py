"""The small study on a cluster of two nodes: what lands, and what is done about everything that can go wrong there.

Every test drives a real controller and real node daemons through the users' profile; only the GPUs are made up.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from wolfe.verification import verify

from .conftest import PART, RESULTS, Head, command
from .slurm import Cluster

TABLE = RESULTS / "tables" / "one_hot.csv"
SHARDS_OF_PART = 8


def test_everything_lands_and_is_what_one_machine_makes(local: Path, cluster: Cluster, tmp_path: Path) -> None:
    with Head(tmp_path, "--set-resources", "train:gpu=1") as head:
        assert head.wait() == 0, head.text
    found = verify(tmp_path / RESULTS)
    assert not found.wrong
    assert (tmp_path / RESULTS / "report.html").is_file()
    pd.testing.assert_frame_equal(without_times(tmp_path / TABLE), without_times(local / TABLE))
    assert pieces(tmp_path) == pieces(local)
    jobs = {job["Comment"].removeprefix("rule_").partition("_wildcards")[0]: job for job in cluster.jobs("COMPLETED")}
    assert set(jobs) == {
        *("dataset", "train", "targets", "attack_part", "attack_one_hot", "experiment"),
        *("table", "figure", "chart", "report"),
    }
    assert {job["Account"] for job in jobs.values()} == {"wolfe"}
    asked = {name: (job["Partition"], job.get("TresPerJob")) for name, job in jobs.items()}
    assert asked.pop("train") == ("gpu", "gres:gpu:1")
    assert set(asked.values()) == {("normal", None)}


def test_a_study_for_gpus_asks_for_one_and_says_where_there_is_none(cluster: Cluster, tmp_path: Path) -> None:
    weights = str(RESULTS / "models" / "vgg" / "weights.safetensors")
    with Head(tmp_path, weights, "--retries", "0", "--config", 'limits={"device": "cuda"}') as head:
        assert head.wait() != 0, head.text
    (job,) = [job for job in of_this_run(cluster, tmp_path) if job["JobState"] == "FAILED"]
    assert (job["Partition"], job.get("TresPerJob")) == ("gpu", "gres:gpu:1")
    log = (tmp_path / RESULTS / "logs" / "train" / "vgg.log").read_text()
    assert "device is cuda, but torch finds no CUDA device here" in log
    assert "Traceback" not in log


def without_times(table: Path) -> pd.DataFrame:
    rows = pd.read_csv(table)
    return rows.drop(columns=[name for name in rows.columns if "seconds" in name])


def pieces(folder: Path) -> dict[str, bytes]:
    """The attacked images of every finished shard by its key and name; keys hold all that results depend on."""
    store = folder / RESULTS / "store"
    return {str(file.relative_to(store)): file.read_bytes() for file in store.glob("*/shard-*/adversarials*")}


def finished(folder: Path) -> dict[str, int]:
    """When each shard was finished."""
    return {str(file): file.stat().st_mtime_ns for file in (folder / RESULTS / "store").glob("*/shard-*/manifest.json")}


def assert_part_is_that_of_one_machine(folder: Path, local: Path) -> None:
    made, expected = pieces(folder), pieces(local)
    assert len(made) == SHARDS_OF_PART
    assert made == {name: expected[name] for name in made}


def of_this_run(cluster: Cluster, folder: Path) -> list[dict[str, str]]:
    return [job for job in cluster.jobs() if job["WorkDir"] == str(folder)]


def running_in_the_middle(head: Head, cluster: Cluster, folder: Path) -> dict[str, str]:
    """The job of a run that has finished some shards and works on the next."""
    head.meet(lambda: finished(folder), "the first shard")
    (job,) = [job for job in of_this_run(cluster, folder) if job["JobState"] == "RUNNING"]
    return job


def test_a_job_killed_for_memory_passes_with_more_of_it(attack: Path, local: Path, cluster: Cluster) -> None:
    # Less than torch and the network take; twice as much is enough.
    limits = 'limits={"resources": {"attack": {"mem_mb": 700, "runtime": 5}}}'
    with Head(attack, PART, "--config", limits) as head:
        assert head.wait() == 0, head.text
    first, second = of_this_run(cluster, attack)
    assert first["JobState"] in ("FAILED", "OUT_OF_MEMORY")
    assert "exceeded memory limit" in head.text
    assert (first["MinMemoryNode"], second["MinMemoryNode"]) == ("700M", "1400M")
    assert second["JobState"] == "COMPLETED"
    assert_part_is_that_of_one_machine(attack, local)


def test_a_cancelled_job_is_submitted_again_and_goes_on(attack: Path, local: Path, cluster: Cluster) -> None:
    with Head(attack, PART) as head:
        job = running_in_the_middle(head, cluster, attack)
        before = finished(attack)
        cluster.ask("scancel", job["JobId"])
        assert head.wait() == 0, head.text
    assert [job["JobState"] for job in of_this_run(cluster, attack)] == ["CANCELLED", "COMPLETED"]
    assert before.items() <= finished(attack).items(), "what was finished is not repeated"
    assert_part_is_that_of_one_machine(attack, local)


def test_a_head_that_was_killed_starts_again_and_repeats_nothing(attack: Path, local: Path, cluster: Cluster) -> None:
    with Head(attack, PART) as head:
        job = running_in_the_middle(head, cluster, attack)
        head.kill()
    assert cluster.jobs("RUNNING")[0]["JobId"] == job["JobId"], "jobs outlive their head"
    cluster.cancel()
    before = finished(attack)
    unlocked = subprocess.run(command(attack, "--unlock"), cwd=attack, capture_output=True, text=True, check=False)
    assert unlocked.returncode == 0, unlocked.stderr
    with Head(attack, PART) as head:
        assert head.wait() == 0, head.text
    assert before, "something was finished"
    assert before.items() <= finished(attack).items()
    assert "dataset" not in head.text, "stages that were finished are not planned"
    assert_part_is_that_of_one_machine(attack, local)


def test_a_node_that_goes_down_loses_no_work(attack: Path, local: Path, cluster: Cluster) -> None:
    with Head(attack, PART) as head:
        job = running_in_the_middle(head, cluster, attack)
        node, before = job["NodeList"], finished(attack)
        cluster.break_node(node)
        try:
            # SLURM queues the job again by itself, but lets it wait for two minutes.
            head.meet(lambda: cluster.jobs("PENDING"), "the job to be queued again")
            cluster.ask("scontrol", "update", f"JobId={job['JobId']}", "StartTime=now")
            assert head.wait() == 0, head.text
            last = of_this_run(cluster, attack)[-1]
            assert (last["JobState"], last["Restarts"]) == ("COMPLETED", "1")
            assert last["NodeList"] != node
        finally:
            cluster.mend_node(node)
    assert before.items() <= finished(attack).items()
    assert_part_is_that_of_one_machine(attack, local)


@pytest.fixture
def small_disk(attack: Path) -> Iterator[Path]:
    """The folder of finished shards on a disk of its own, which holds next to nothing."""
    store = attack / RESULTS / "store"
    store.mkdir(parents=True)
    mounting = ["mount", "-t", "tmpfs", "-o", "size=32k", "tmpfs", str(store)]
    mounted = subprocess.run(mounting, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"no disk of its own can be had here: {mounted.stderr.strip()}")
    try:
        yield store
    finally:
        subprocess.run(["umount", "--lazy", str(store)], check=True)


def test_a_full_disk_is_named_and_more_room_is_all_that_it_takes(
    small_disk: Path, attack: Path, local: Path, cluster: Cluster
) -> None:
    with Head(attack, PART, "--retries", "0") as head:
        assert head.wait() != 0, head.text
    log = (attack / RESULTS / "logs" / "attack" / "one_hot" / "1_of_2.log").read_text()
    assert "No space left on device" in log
    assert not (attack / PART).exists()
    before = finished(attack)
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    with Head(attack, PART) as head:
        assert head.wait() == 0, head.text
    assert before.items() <= finished(attack).items()
    assert_part_is_that_of_one_machine(attack, local)
