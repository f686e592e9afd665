"""Type checkers find mistakes in the use of the public interface.

Each mistake in `mistakes.py` has a `type: ignore` with its error codes; `mypy --strict` reports a comment that ignores
no error. These tests remove the comments, and mypy must then report exactly these errors.
"""

import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
IGNORE = re.compile(r"  # type: ignore\[([\w, -]+)\]$")
ERROR = re.compile(r":(\d+): error: .* \[([\w-]+)\]$")


def check(*paths: Path) -> list[str]:
    """Return what `mypy --strict` reports for the files."""
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file", str(ROOT / "pyproject.toml")]
    options = ["--no-pretty", "--no-error-summary", "--hide-error-context", *map(str, paths)]
    done = subprocess.run([*command, *options], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.stderr == ""
    return done.stdout.splitlines()


# One test, since two at a time would each fill an empty cache of mypy's.
def test_mypy_reports_each_mistake_and_agrees_with_each_asserted_type(tmp_path: Path) -> None:
    lines = (HERE / "mistakes.py").read_text().splitlines()
    expected = [
        (number, code)
        for number, line in enumerate(lines, 1)
        if (found := IGNORE.search(line))
        for code in found[1].split(", ")
    ]
    assert len(expected) > 50
    bare = tmp_path / "mistakes.py"
    bare.write_text("".join(IGNORE.sub("", line) + "\n" for line in lines))
    output = check(bare, HERE / "test_public_interface.py")
    # Not the whole path: mypy repeats what is in its cache, with the path of an earlier run.
    assert {Path(line.partition(":")[0]).name for line in output} == {bare.name}, "\n".join(output)
    errors = {(int(found[1]), found[2]) for line in output if (found := ERROR.search(line))}
    assert sorted(errors) == sorted(expected), "\n".join(output)


def test_mypy_confirms_every_asserted_type() -> None:
    names = ("public_interface", "messages", "topics", "centrifugo")
    assert check(*(HERE / f"test_{name}.py" for name in names)) == []
