"""Check what the packages of streamws hold: `packages.py FOLDER`, with one sdist and one compiled wheel."""

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def tracked(*patterns: str) -> set[str]:
    """Return the files of the repository that match, or all of them."""
    listed = subprocess.run(["git", "ls-files", *patterns], cwd=ROOT, check=True, capture_output=True, text=True)
    return set(listed.stdout.split())


def check(what: str, wrong: set[str]) -> None:
    if wrong:
        sys.exit(f"{what}: {', '.join(sorted(wrong))}")


def check_sdist(path: Path) -> None:
    with tarfile.open(path) as archive:
        held = {member.name.partition("/")[2] for member in archive if member.isfile()}
    wanted = tracked("streamws", "tests", "typings", "docs", ":(glob)*.md", "LICENSE", "pyproject.toml", "setup.py")
    check("missing from the sdist", wanted - held)
    made = {name for name in held if name in ("PKG-INFO", "setup.cfg") or ".egg-info/" in name}
    check("should not be in the sdist", held - tracked() - made)


def check_wheel(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        held = {name for name in archive.namelist() if not name.partition("/")[0].endswith(".dist-info")}
    sources = tracked("streamws")
    # A compiled module has a .pxd or a .pyx beside its .py.
    compiled = {name.rpartition(".")[0] for name in sources if name.endswith((".pxd", ".pyx"))}
    extensions = {name for name in held if name.endswith(".so")}
    check("not compiled", compiled - {name.partition(".")[0] for name in extensions})
    wanted = {name for name in sources if not name.endswith((".pyx", ".pxd", ".h"))}
    check("missing from the wheel", wanted - held)
    check("should not be in the wheel", held - wanted - extensions)


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    (sdist,) = folder.glob("*.tar.gz")
    (wheel,) = folder.glob("*.whl")
    check_sdist(sdist)
    check_wheel(wheel)
    print(f"{sdist.name} and {wheel.name} hold what they should")
