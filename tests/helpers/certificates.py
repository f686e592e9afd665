"""Certificates for the tests, made when a test first needs them."""

import re
import shlex
import ssl
import subprocess
from pathlib import Path

import pytest

from helpers.blocks import ROOT


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for localhost, and its key."""
    folder = tmp_path_factory.mktemp("certificate")
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1"]
    files = ["-keyout", str(key), "-out", str(certificate)]
    command = ["openssl", "req", "-x509", "-days", "2", *curve, *names, *files]
    subprocess.run(command, check=True, capture_output=True)
    return certificate, key


@pytest.fixture
def server_context(certificate: tuple[Path, Path]) -> ssl.SSLContext:
    """A context for servers, with the certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    return context


@pytest.fixture
def client_context(certificate: tuple[Path, Path]) -> ssl.SSLContext:
    """A context for clients, which trusts the certificate."""
    return ssl.create_default_context(cafile=str(certificate[0]))


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the commands on the page about certificate authorities were run."""
    folder = tmp_path_factory.mktemp("authority")
    page = (ROOT / "docs" / "howto" / "own-certificate-authority.md").read_text("utf-8")
    [block] = re.findall(r"^```console\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    commands = [line.removeprefix("$ ") for line in block.splitlines()]
    script = "\n".join(["set -e", f"cd {shlex.quote(str(folder))}", *commands])
    subprocess.run(["sh", "-c", script], check=True, capture_output=True)
    return folder
