"""One reader under atheris: `python -m tests.fuzz.coverage_guided <reader> <inputs> <seed> <folder for failures>`."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from random import Random

import atheris

with atheris.instrument_imports(include=["wolfe", "yaml", "PIL"]):
    from tests.fuzz.harness import SECONDS, check
    from tests.fuzz.readers import Reader, all_readers


def main(name: str, inputs: str, seed: str, kept: str) -> None:
    """Runs a reader; the process ends with status 0 when all inputs were tried."""
    with tempfile.TemporaryDirectory() as folder:
        reader = next(one for one in all_readers(Path(folder) / "readers") if one.name == name)
        corpus = Path(folder) / "corpus"
        corpus.mkdir()
        for number, content in enumerate(reader.valid):
            (corpus / str(number)).write_bytes(content)
        options = [
            f"-runs={inputs}",
            f"-seed={seed}",
            f"-timeout={int(SECONDS)}",
            "-rss_limit_mb=8192",
            "-max_len=1000000",
        ]
        _run(reader, Path(kept), [sys.argv[0], *options, str(corpus)])


def _run(reader: Reader, kept: Path, arguments: list[str]) -> None:
    def change(content: bytes, most: int, seed: int) -> bytes:
        """Half of the inputs as hypothesis makes them, half by libFuzzer."""
        if seed % 2:
            try:
                return reader.change(Random(seed), content)[:most]
            except Exception:  # the structure of a damaged file cannot be changed
                return bytes(atheris.Mutate(content, most))
        return bytes(atheris.Mutate(content, most))

    atheris.Setup(arguments, lambda content: check(reader, content, kept), custom_mutator=change)
    atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:])
