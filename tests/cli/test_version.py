"""`streamws --version`, which reports the installed build and codecs."""

import asyncio
import platform
import zlib
from importlib.metadata import version

import pytest

from helpers.programs import Program
from streamws import __version__, about
from streamws.cli import main as command


def shown(capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    """Return the values in the report, by label."""
    with pytest.raises(SystemExit) as ended:
        command.main(["--version"])
    assert not ended.value.code
    first, *lines = capsys.readouterr().out.splitlines()
    return {"streamws": first, **dict(line.strip().split("  ", 1) for line in lines)}


def test_version_shows_build_python_loop_and_codecs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "PLAIN", False)
    report = {name: text.strip() for name, text in shown(capsys).items()}
    assert report["streamws"] == f"streamws {__version__}, {about.BUILD}"
    assert report["Python"] == f"{platform.python_implementation()} {platform.python_version()}"
    assert report["loop of run()"] == f"uvloop {version('uvloop')}"
    assert report["compression"] == f"isal {version('isal')}, zlib_ng {version('zlib-ng')}"
    assert str(command.__file__).startswith(report["installed in"])
    assert "plain ways" not in report


def test_version_without_speed_extra_shows_asyncio_and_zlib(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "new_loop", asyncio.new_event_loop)
    monkeypatch.setattr(command, "codec", zlib)
    monkeypatch.setattr(command, "igzip", None)
    report = shown(capsys)
    assert report["loop of run()"].strip() == "asyncio"
    assert report["compression"].strip() == "zlib"


def test_version_shows_whether_plain_ways_are_used(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "PLAIN", True)
    assert shown(capsys)["plain ways"].strip() == "yes, STREAMWS_PLAIN is set"


async def test_command_accepts_version_option() -> None:
    async with Program("-m", "streamws", "--version") as program:
        assert await program.end() == 0
    assert program.stdout.startswith(f"streamws {__version__}, ")
    assert program.stderr == ""
