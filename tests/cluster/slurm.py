"""A SLURM cluster of two nodes on this one host: munge, a controller and two node daemons, all in one folder.

Nothing of it outlives `Cluster.stop`, and nothing is started where a cluster is configured already.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil

# Where the executor plugin's jobs look: it strips every SLURM_* variable, SLURM_CONF too.
CONFIGURATION = Path("/etc/slurm")
NODES = ("node1", "node2")
_DAEMONS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scancel", "scontrol", "sinfo")
_WAIT = 60.0
_TEMPLATE = Path(__file__).with_name("slurm.conf")


def why_not() -> str | None:
    """Why no cluster can be started here, in words; None where one can."""
    missing = [name for name in _DAEMONS if not shutil.which(name, path=_path())]
    if missing:
        return f"{missing[0]} is not installed (on Debian: slurm-wlm, slurm-wlm-basic-plugins and munge)"
    if os.geteuid() != 0:
        return "the daemons of a cluster need root"
    if (CONFIGURATION / "slurm.conf").exists():
        return f"{CONFIGURATION}/slurm.conf is there: the machine belongs to a cluster, or these tests were killed"
    return None


def _path() -> str:
    return f"{os.environ['PATH']}:/usr/sbin:/sbin"


class Cluster:
    """The cluster: partition `normal` on both nodes, `gpu` on the first, whose two GPUs are made up.

    Args:
        folder: an empty folder for its configuration, state and logs.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}
        self._made: list[Path] = []

    def start(self) -> None:
        """Writes the configuration and starts all daemons; returns when both nodes are idle."""
        self._configure()
        for node in NODES:
            (self.folder / f"spool-{node}").mkdir()
        (self.folder / "state").mkdir()
        key = self.folder / "munge.key"
        key.write_bytes(secrets.token_bytes(1024))
        key.chmod(0o400)
        names = {"key-file": "key", "socket": "socket", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
        options = [f"--{option}={self.folder}/munge.{name}" for option, name in names.items()]
        self._start("munged", ["munged", "--foreground", "--force", *options])
        wait_for(lambda: (self.folder / "munge.socket").exists(), "munge")
        self._start("slurmctld", ["slurmctld", "-D", "-c"])
        for node in NODES:
            self.start_node(node)
        wait_for(lambda: all(self.node_state(node).startswith("idle") for node in NODES), "both nodes")

    def _configure(self) -> None:
        host = socket.gethostname().split(".")[0]
        first, second, controller = _free_ports(3)
        content = {
            "slurm.conf": _TEMPLATE.read_text().format(
                host=host, folder=self.folder, nodes=NODES, ports=(first, second), controller_port=controller
            ),
            # Without File the node drains, without Flags the jobs are not told which device is theirs.
            "gres.conf": f"NodeName={NODES[0]} Name=gpu File={self.folder}/gpu[0-1] Flags=nvidia_gpu_env\n",
        }
        for number in range(2):
            os.mknod(self.folder / f"gpu{number}", 0o20666, os.makedev(1, 3))
        if not CONFIGURATION.exists():
            CONFIGURATION.mkdir()
            self._made.append(CONFIGURATION)
        for name, text in content.items():
            (self.folder / name).write_text(text)
            (CONFIGURATION / name).symlink_to(self.folder / name)
            self._made.append(CONFIGURATION / name)

    def _start(self, name: str, command: list[str]) -> None:
        with (self.folder / f"{name}.out").open("ab") as said:
            self._daemons[name] = subprocess.Popen(
                command, stdout=said, stderr=said, stdin=subprocess.DEVNULL, env={**os.environ, "PATH": _path()}
            )

    def start_node(self, node: str) -> None:
        """Starts the daemon of a node."""
        self._start(node, ["slurmd", "-D", "-N", node])

    def break_node(self, node: str) -> None:
        """A node goes down: its daemon and all jobs on it are killed, and the controller is told at once."""
        daemon = self._daemons.pop(node)
        family = psutil.Process(daemon.pid).children(recursive=True)
        daemon.kill()
        daemon.wait()
        _kill(family)
        self.ask("scontrol", "update", f"nodename={node}", "state=down", "reason=test")

    def mend_node(self, node: str) -> None:
        """The node comes back."""
        self.start_node(node)
        self.ask("scontrol", "update", f"nodename={node}", "state=resume")
        wait_for(lambda: self.node_state(node).startswith(("idle", "mix", "alloc")), node)

    def ask(self, *command: str) -> str:
        """What a SLURM command prints."""
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=_WAIT).stdout.strip()

    def node_state(self, node: str) -> str:
        """The state of a node, such as "idle"; "" while the controller does not answer."""
        asked = subprocess.run(
            ["sinfo", "--noheader", "--nodes", node, "--format", "%T"], capture_output=True, text=True, check=False
        )
        return asked.stdout.split()[0] if asked.returncode == 0 and asked.stdout else ""

    def jobs(self, *states: str) -> list[dict[str, str]]:
        """All that the controller says of jobs in some states (of all jobs: none named), in the order of their ids.

        Keys are those of `scontrol show job`: JobId, JobState, Partition, NodeList, Comment (names the rule), Restarts,
        and TresPerJob where a GPU was asked for.
        """
        told = self.ask("scontrol", "--oneliner", "show", "job")
        listed = [dict(re.findall(r"(\S+?)=(\S*)", line)) for line in told.splitlines() if line.startswith("JobId=")]
        return [job for job in listed if not states or job["JobState"] in states]

    def cancel(self) -> None:
        """Cancels what is queued and waits until nothing runs."""
        ids = [job["JobId"] for job in self.jobs("RUNNING", "PENDING")]
        if ids:
            self.ask("scancel", *ids)
        wait_for(lambda: not self.jobs("RUNNING", "PENDING", "COMPLETING"), "an empty queue")

    def stop(self) -> None:
        """Ends all jobs and daemons and removes what was made outside of the folder, whatever state things are in."""
        try:
            if self._daemons.get("slurmctld"):
                self.cancel()
        except (subprocess.SubprocessError, AssertionError):
            pass  # the families of the daemons are killed below
        finally:
            for name in [*NODES, "slurmctld", "munged"]:
                self._end(name)
            for path in reversed(self._made):
                path.rmdir() if path.is_dir() else path.unlink(missing_ok=True)
            self._made.clear()

    def _end(self, name: str) -> None:
        daemon = self._daemons.pop(name, None)
        if not daemon:
            return
        family = psutil.Process(daemon.pid).children(recursive=True) if daemon.poll() is None else []
        daemon.terminate()
        try:
            daemon.wait(timeout=10)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()
        _kill(family)


def _kill(processes: list[psutil.Process]) -> None:
    for process in processes:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def wait_for(true: Callable[[], object], what: str, seconds: float = _WAIT) -> None:
    """Waits until something is so.

    Raises:
        AssertionError: it is not so after all these seconds.
    """
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"waited {seconds:.0f} s for {what}"
        time.sleep(0.2)
