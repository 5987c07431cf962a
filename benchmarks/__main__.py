"""The command line: `python -m benchmarks [questions] [--quick] [--device cpu] [--out benchmarks/results]`."""

from __future__ import annotations

import argparse
import os
import sys
import time
import traceback
from importlib import import_module
from pathlib import Path

QUESTIONS = ("speed", "solver", "overhead", "distortion", "growth")
# Asked for by name only: it needs the published sets' files.
ON_REQUEST = ("full_size",)


def main(arguments: list[str] | None = None) -> int:
    """Answers the questions that are asked, one after the other, and works out the goals."""
    given = sys.argv[1:] if arguments is None else arguments
    parser = _parser()
    options = parser.parse_args(given)
    unknown = [name for name in options.questions if name not in (*QUESTIONS, *ON_REQUEST)]
    if unknown:
        parser.error(f"unknown question {unknown[0]!r}; there are {', '.join((*QUESTIONS, *ON_REQUEST))}")
    # Read by the libraries when they are imported; so nothing of theirs is imported above.
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(options.threads)
    import torch

    from benchmarks.answer import write
    from benchmarks.goals import write_goals
    from benchmarks.machine import facts, load
    from benchmarks.settings import Settings

    torch.set_num_threads(options.threads)
    if options.device == "cuda" and not torch.cuda.is_available():
        print("Error: --device cuda, but torch finds no CUDA device here", file=sys.stderr)
        return 2
    settings = Settings(
        device=options.device,
        threads=options.threads,
        quick=options.quick,
        out=options.out,
        work=options.work,
        images=options.images,
        command=" ".join(["python -m benchmarks", *given]),
    )
    failed: list[str] = []
    for name in options.questions or QUESTIONS:
        begin, before = time.perf_counter(), load()
        print(f"{name} ...", flush=True)
        try:
            answer = import_module(f"benchmarks.{name}").answer(settings)
            write(answer, facts(settings, before), settings.out)
        except Exception:  # one question's trouble is not the others'
            traceback.print_exc()
            failed.append(name)
            continue
        print(f"{name}: {time.perf_counter() - begin:.0f} s, {settings.out / name}.md", flush=True)
    print(write_goals(settings.out))
    if failed:
        print(f"Error: without an answer: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


_QUESTIONS_HELP = f"of {', '.join(QUESTIONS)}; all these if none; and {', '.join(ON_REQUEST)}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="What the attacks cost and achieve.")
    parser.add_argument("questions", nargs="*", metavar="question", help=_QUESTIONS_HELP)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    cores = os.cpu_count() or 1
    parser.add_argument(
        "--threads", type=int, default=cores, help=f"of every library (default: all cores, {cores} here)"
    )
    parser.add_argument("--quick", action="store_true", help="small sizes and few rounds")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"), help="folder of tables and plots")
    parser.add_argument("--work", type=Path, default=Path("results/benchmark"), help="folder of data and networks")
    parser.add_argument("--images", type=Path, help="folder of pictures or parquet files for the large networks")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
