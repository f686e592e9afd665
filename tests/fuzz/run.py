"""Fuzz the package with atheris, guided by the coverage of its Python code: `run.py TARGET --runs 1000000`.

Inputs that reach new code are added to `--corpus`. An input that a target fails on, or that takes more than a second,
is written to the current folder as `crash-*` or `timeout-*`; `run.py TARGET FILE` runs it again. Both builds run if the
installed one is compiled.
"""

import argparse
import importlib
import io
import logging
import os
import shlex
import sys
import tempfile
from contextlib import redirect_stderr
from pathlib import Path

import atheris

FUZZ = Path(__file__).parent
sys.path.insert(0, str(FUZZ.parent))

logging.disable()
with (
    redirect_stderr(io.StringIO()),  # it names each module
    atheris.instrument_imports(include=["streamws", "streamws_pure"], enable_loader_override=False),
):
    targets = importlib.import_module("fuzz.targets")


INNER = "--of-libfuzzer"


def run(target: str, *options: str) -> None:
    """Run libFuzzer with its own options, and end the process."""
    # To minimize, libFuzzer starts itself again, by a shell.
    again = shlex.join([sys.executable, __file__, target, INNER])
    atheris.Setup([again, *options], targets.TARGETS[target])
    atheris.Fuzz()


def main() -> int:
    if sys.argv[2:3] == [INNER]:
        run(sys.argv[1], *sys.argv[3:])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", choices=[*targets.TARGETS])
    parser.add_argument("inputs", nargs="*", help="run these inputs instead")
    parser.add_argument("--runs", type=int, default=-1, help="the number of inputs (default: no limit)")
    parser.add_argument("--seconds", type=int, default=0, help="the longest time (default: no limit)")
    parser.add_argument("--seed", type=int, default=0, help="the seed of the random numbers")
    parser.add_argument("--max-length", type=int, default=1024, help="the longest input, in bytes")
    parser.add_argument(
        "--corpus",
        help="a folder that new inputs are added to (default: a temporary one); those of tests/fuzz/corpus run too",
    )
    parser.add_argument(
        "--minimize",
        action="store_true",
        help="add to --corpus those of the inputs, or folders, that reach new code, and end",
    )
    parser.add_argument("--quiet", action="store_true", help="show only the result")
    arguments = parser.parse_intermixed_args()
    with tempfile.TemporaryDirectory() as folder:
        words = Path(folder, "words")
        words.write_text("\n".join(["# libFuzzer's dictionary", *map(quoted, targets.WORDS[arguments.target])]))
        corpus = Path(arguments.corpus or Path(folder, "corpus"))
        corpus.mkdir(parents=True, exist_ok=True)
        kept = FUZZ / "corpus" / arguments.target
        options = [
            f"-runs={arguments.runs}",
            f"-max_total_time={arguments.seconds}",
            f"-seed={arguments.seed}",
            f"-max_len={arguments.max_length}",
            f"-dict={words}",
            "-timeout=1",
            "-print_final_stats=1",
            f"-verbosity={int(not arguments.quiet)}",
        ]
        options += ["-merge=1"] if arguments.minimize else []
        if arguments.minimize:
            places = [str(corpus), *arguments.inputs]
        else:
            places = arguments.inputs or [str(corpus), *([str(kept)] if kept.is_dir() else [])]
        child = os.fork()  # libFuzzer ends the process
        if child == 0:
            run(arguments.target, *options, *places)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def quoted(word: str | bytes) -> str:
    """Return a word in the form of libFuzzer's dictionaries."""
    return '"' + "".join(f"\\x{byte:02x}" for byte in (word.encode() if isinstance(word, str) else word)) + '"'


if __name__ == "__main__":
    sys.exit(main())
