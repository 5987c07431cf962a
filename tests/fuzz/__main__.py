"""`python -m tests.fuzz`: damages valid files of every kind in many ways and reads them; see docs/security.md."""

from __future__ import annotations

import argparse
import faulthandler
import importlib.util
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.fuzz.harness import SECONDS, CrashError, check_valid, fuzz
from tests.fuzz.readers import Reader, all_readers

# More than a reader of a small file needs on top of what the libraries have reserved.
_MEMORY = 4 << 30
_KEPT = Path("results") / "fuzz"


def main() -> int:
    """Runs all readers, or some, and counts."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=6_000, help="inputs of a reader with a share of 1")
    parser.add_argument("--guided", type=int, default=1_000, help="inputs of a reader that atheris adds")
    parser.add_argument("--seed", type=int, default=20)
    parser.add_argument("readers", nargs="*", help="only these")
    options = parser.parse_args()
    _limit_memory()
    with tempfile.TemporaryDirectory() as folder:
        readers = [one for one in all_readers(Path(folder)) if not options.readers or one.name in options.readers]
        inputs = sum(_by_hypothesis(reader, options.inputs, options.seed) for reader in readers)
        guided = _by_atheris(readers, options.guided, options.seed)
    print(f"{inputs + guided} inputs ({inputs} by hypothesis, {guided} by atheris), no crash and no hang")
    return 0


def _limit_memory() -> None:
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + _MEMORY, resource.RLIM_INFINITY))


def _by_hypothesis(reader: Reader, inputs: int, seed: int) -> int:
    check_valid(reader, _KEPT)
    begin = time.perf_counter()
    # What hangs outside of Python is ended with a traceback.
    faulthandler.dump_traceback_later(max(600.0, inputs * SECONDS / 10), exit=True)
    try:
        tried, read = fuzz(reader, max(1, int(inputs * reader.share)), seed, _KEPT)
    except CrashError as error:
        raise SystemExit(str(error)) from None
    faulthandler.cancel_dump_traceback_later()
    print(f"{reader.name}: {tried} inputs, {read} of them read, {time.perf_counter() - begin:.0f} s", flush=True)
    return tried


def _by_atheris(readers: list[Reader], inputs: int, seed: int) -> int:
    """Inputs led by the coverage of the package; atheris ends its process, so each reader has its own."""
    if inputs < 1:
        return 0
    if importlib.util.find_spec("atheris") is None:
        print("atheris is not installed here: its part is left out")
        return 0
    counted = 0
    for reader in readers:
        runs = max(1, int(inputs * reader.share))
        command = [sys.executable, "-m", "tests.fuzz.coverage_guided", reader.name, str(runs), str(seed), str(_KEPT)]
        begin = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            print(done.stderr[-5_000:], file=sys.stderr)
            raise SystemExit(f"{reader.name}: atheris found an input, see {_KEPT}")
        print(f"{reader.name}: {runs} inputs by atheris, {time.perf_counter() - begin:.0f} s", flush=True)
        counted += runs
    return counted


if __name__ == "__main__":
    sys.exit(main())
