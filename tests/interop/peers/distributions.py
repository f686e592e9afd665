"""The source distributions of installed packages, which hold their tests and examples."""

import subprocess
import sys
import tarfile
from importlib.metadata import version
from pathlib import Path

import pytest


def unpacked(package: str, folder: Path, config: pytest.Config) -> Path:
    """Unpack the sources of the installed version of a package; pip downloads them once.

    :param folder: an empty folder.
    :returns: the folder with the sources.
    """
    assert config.cache is not None
    cache = config.cache.mkdir("distributions")
    archive = cache / f"{package}-{version(package)}.tar.gz"
    if not archive.exists():
        options = ["--quiet", "--no-deps", "--no-binary", package, "--dest", str(cache)]
        command = [sys.executable, "-m", "pip", "download", *options, f"{package}=={version(package)}"]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        assert archive.exists(), ended.stdout + ended.stderr
    with tarfile.open(archive) as opened:
        opened.extractall(folder, filter="data")
    return folder / archive.name.removesuffix(".tar.gz")
