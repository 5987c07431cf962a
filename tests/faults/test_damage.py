"""Truncated and bit-flipped files of every format between stages: refused by name, and made again on request."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from wolfe.verification import differing_tables, verify

from .conftest import Undisturbed
from .stages import RESULTS, Server, stages

ROW = "attacks/net/flip_bits_1_any/jma-step_size_0.5-max_iterations_40"
FLIPS = 3
# A file, the stage that reads it, and the one that makes it.
SHORT = [
    ("data/scenes/arrow/test/data-00000-of-00001.arrow", "targets", "dataset"),
    ("data/scenes/card.json", "targets", "dataset"),
    ("models/net/weights.safetensors", "attack-run", "train"),
    (f"{ROW}/records.parquet", "table", "attack-run"),
]
FILES = [
    *(pytest.param(*file, marks=pytest.mark.short) for file in SHORT),
    ("data/scenes/arrow/train/data-00000-of-00001.arrow", "train", "dataset"),
    ("data/scenes/arrow/test/state.json", "targets", "dataset"),
    ("models/net/weights.safetensors", "targets", "train"),
    ("models/net/classifier.json", "attack-run", "train"),
    ("targets/net/flip_bits_1_any.parquet", "attack-run", "targets"),
    (f"{ROW}/run.json", "table", "attack-run"),
    (f"{ROW}/adversarials.safetensors", "figure", "attack-run"),
]


def damages(content: bytes, seed: int) -> list[bytes]:
    """A file's content, cut off at some places, and with a bit flipped at others."""
    draws = random.Random(seed)
    cut = [b"", content[: len(content) // 2], content[:-4]]  # less can be a line break, without which JSON is whole
    return cut + [_flipped(content, draws.randrange(8 * len(content))) for _ in range(FLIPS)]


def _flipped(content: bytes, bit: int) -> bytes:
    flipped = bytearray(content)
    flipped[bit // 8] ^= 1 << bit % 8
    return bytes(flipped)


@pytest.mark.parametrize(("name", "reader", "maker"), FILES)
def test_damaged_file_is_refused_and_made_again(
    name: str, reader: str, maker: str, server: Server, undisturbed: Undisturbed, work: Path
) -> None:
    path, stage = work / RESULTS / name, stages()[reader]
    whole = path.read_bytes()
    stage.forget(work)
    for damaged in damages(whole, seed=len(name)):
        path.write_bytes(damaged)
        ended = server.run(work, stage.arguments)
        assert ended.code == 2, f"{len(damaged)} of {len(whole)} bytes: {ended.text}"
        (line,) = [line for line in ended.text.splitlines() if line.startswith("Error: ")]
        assert name in line or str(Path(name).parent) in line, line
        assert "Traceback" not in ended.text
        assert not [file for made in stage.made for file in (work / made).rglob("*") if file.is_file()]
    # On request: the stage that makes the file runs again, and all after it.
    names = list(stages())
    for again in names[names.index(maker) :]:
        ended = server.run(work, stages()[again].arguments)
        assert ended.code == 0, ended.text
    assert not verify(work / RESULTS).wrong
    assert not differing_tables(work / RESULTS, undisturbed.folder / RESULTS)


@pytest.mark.parametrize("kind", ["records.parquet", "adversarials.safetensors", "trace.parquet", "manifest.json"])
def test_damaged_piece_of_the_store_is_made_again(
    kind: str, server: Server, undisturbed: Undisturbed, work: Path
) -> None:
    for seed, path in enumerate(sorted((work / RESULTS).glob(f"store/*/*/{kind}"))):
        content = path.read_bytes()
        path.write_bytes(damages(content, seed)[seed % (3 + FLIPS)])
    assert verify(work / RESULTS).wrong
    for again in list(stages())[list(stages()).index("attack-run") :]:
        ended = server.run(work, stages()[again].arguments)
        assert ended.code == 0, ended.text
    assert not verify(work / RESULTS).wrong
    assert not differing_tables(work / RESULTS, undisturbed.folder / RESULTS)


def test_every_damaged_result_is_found_by_verify(work: Path) -> None:
    results = work / RESULTS
    for seed, path in enumerate(sorted(file for file in results.rglob("*") if file.is_file())):
        whole = path.read_bytes()
        for damaged in damages(whole, seed)[1:4]:
            path.write_bytes(damaged)
            said = " ".join(verify(results).wrong)
            assert path.name in said or path.parent.name in said, path
        path.write_bytes(whole)
    assert not verify(results).wrong
