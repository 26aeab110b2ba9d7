"""geopipe calls nothing that only POSIX systems have, unless it looks first (a check of the text).

Nothing is run on Windows here; what is found is what Python's documentation marks as "Unix".
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SHIPPED = ("geopipe", "qgis/geopipe_provider")

MODULES = {"fcntl", "resource", "termios", "tty", "pty", "pwd", "grp", "syslog", "crypt", "posix"}
NAMES = {
    "os": {
        "fork", "forkpty", "mkfifo", "mknod", "getuid", "geteuid", "getgid", "getegid", "getpgid",
        "getpgrp", "setpgid", "setsid", "setuid", "setgid", "killpg", "nice", "uname", "chown",
        "lchown", "fchown", "fchmod", "chroot", "statvfs", "fstatvfs", "sysconf", "getloadavg",
        "sched_getaffinity", "sched_setaffinity", "posix_fadvise", "posix_fallocate", "posix_spawn",
        "pread", "pwrite", "wait", "wait3", "wait4", "WNOHANG", "O_NONBLOCK", "O_DIRECTORY",
        "O_NOFOLLOW", "O_CLOEXEC", "O_SYNC", "memfd_create", "getxattr", "setxattr", "sync",
    },
    "signal": {
        "SIGKILL", "SIGSTOP", "SIGCONT", "SIGHUP", "SIGALRM", "SIGUSR1", "SIGUSR2", "SIGCHLD",
        "SIGPIPE", "SIGQUIT", "alarm", "setitimer", "pause", "pthread_kill", "sigwait",
        "pthread_sigmask",
    },
    "time": {"tzset", "clock_gettime", "CLOCK_MONOTONIC"},
    "socket": {"AF_UNIX"},
}  # fmt: skip
GUARDS = ("hasattr(", "libc_ver", "sys.platform", "os.name", "platform.system", "WINDOWS")
CAUGHT = {"ImportError", "ModuleNotFoundError", "AttributeError"}


def only_on_posix(tree: ast.AST) -> Iterator[tuple[ast.AST, str]]:
    """Imports and names that Windows lacks, each with the node that has it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node, a.name) for a in node.names if a.name.split(".")[0] in MODULES)
        elif isinstance(node, ast.ImportFrom) and node.module in MODULES:
            yield node, node.module
        elif isinstance(node, ast.ImportFrom) and node.module in NAMES:
            names = NAMES[node.module]
            yield from ((node, f"{node.module}.{a.name}") for a in node.names if a.name in names)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if node.attr in NAMES.get(node.value.id, ()):
                yield node, f"{node.value.id}.{node.attr}"
        elif isinstance(node, ast.Call) and ast.unparse(node) == "ctypes.CDLL(None)":
            yield node, "ctypes.CDLL(None)"


def is_guarded(node: ast.AST, parents: dict[ast.AST, ast.AST]) -> bool:
    """Under an ``if`` or behind a ``return`` that looks at the system, or in a ``try``."""
    child = node
    while child in parents:
        parent = parents[child]
        if isinstance(parent, ast.If | ast.IfExp) and looks(parent) and child is not parent.test:
            return True
        if isinstance(parent, ast.Try) and child in parent.body:
            names = {
                n.id
                for h in parent.handlers
                if h.type
                for n in ast.walk(h.type)
                if isinstance(n, ast.Name)
            }
            if names & CAUGHT:
                return True
        body = getattr(parent, "body", None)
        if isinstance(body, list) and child in body:
            before = body[: body.index(child)]
            if any(isinstance(s, ast.If) and looks(s) and leaves(s) for s in before):
                return True
        child = parent
    return False


def looks(node: ast.If | ast.IfExp) -> bool:
    return any(guard in ast.unparse(node.test) for guard in GUARDS)


def leaves(node: ast.If) -> bool:
    return isinstance(node.body[-1], ast.Return | ast.Raise | ast.Continue)


def unguarded(text: str) -> list[str]:
    tree = ast.parse(text)
    parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    return [
        f"{getattr(node, 'lineno', 0)}: {name}"
        for node, name in only_on_posix(tree)
        if not is_guarded(node, parents)
    ]


def test_nothing_that_only_posix_has_is_used_without_a_look():
    found = {
        str(path.relative_to(ROOT)): lines
        for folder in SHIPPED
        for path in sorted((ROOT / folder).rglob("*.py"))
        if (lines := unguarded(path.read_text(encoding="utf-8")))
    }
    assert found == {}


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("import fcntl", 1),
        ("from resource import getrusage", 1),
        ("import os\nos.fork()", 1),
        ("import signal\nx = signal.SIGKILL", 1),
        ("from os import mkfifo", 1),
        ("try:\n    import fcntl\nexcept ImportError:\n    fcntl = None", 0),
        ("try:\n    import fcntl\nexcept OSError:\n    pass", 1),
        ("if hasattr(os, 'getuid'):\n    os.getuid()", 0),
        ("def f():\n    if sys.platform == 'win32':\n        return\n    os.killpg(1, 9)", 0),
        ("def f():\n    if sys.platform == 'win32':\n        pass\n    os.killpg(1, 9)", 1),
        ("x = os.getuid() if hasattr(os, 'getuid') else 0", 0),
        ("os.open('a', os.O_RDONLY)\nos.getpid()", 0),
    ],
)
def test_the_check_tells_what_is_guarded(text, count):
    assert len(unguarded(text)) == count


def test_files_that_are_opened_by_their_descriptor_are_binary():
    """On Windows ``os.open`` is in text mode and writes two bytes for an end of line."""
    for path in sorted((ROOT / "geopipe").rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        writes = [
            line for line in text.splitlines() if "os.O_WRONLY" in line or "os.O_RDWR" in line
        ]
        assert not writes or "O_BINARY" in text, path
