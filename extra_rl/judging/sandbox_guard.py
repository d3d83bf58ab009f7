"""The process around a sandboxed program: it takes away what it can, starts the program, and kills all that it started.

usage: python -I -S -B sandbox_guard.py FD REPORT

FD is a file with one JSON object (`sandbox.run_python`). The line of JSON that the guard writes to the descriptor
REPORT says what was taken away. It runs only the standard library.

- namespaces (Linux): no network, own process ids (the kernel kills every process of the program when its first one
  ends, and it sees no others), a file system that can only be read, with a small, empty folder in memory for it;
- as root, another user without privileges, so that the limit on processes counts;
- limits on CPU time, memory, file size, open files and processes.

Source: our decision; see the manual pages unshare(2), mount_setattr(2), user_namespaces(7), capabilities(7).
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

sys.path.insert(0, str(Path(__file__).parent))
from descendants import become_reaper, die_with_parent, kill_descendants  # type: ignore[import-not-found]

del sys.path[0]

NEWNS, NEWIPC, NEWUSER, NEWPID, NEWNET = 0x00020000, 0x08000000, 0x10000000, 0x20000000, 0x40000000
MS_REC, MS_PRIVATE, MS_NOSUID, MS_NODEV, MS_NOEXEC = 0x4000, 1 << 18, 2, 4, 8
MOUNT_SETATTR, AT_FDCWD, AT_RECURSIVE, RDONLY = 442, -100, 0x8000, 1
PR_SET_KEEPCAPS, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, PR_SET_NO_NEW_PRIVS = 8, 47, 2, 38
CAP_READ_SEARCH, CAPABILITY_VERSION = 2, 0x20080522
OTHER_USER = 1_000_000_000
"""As root the program runs as this user plus the guard's process id, so that sandboxes do not count each other."""

libc = ctypes.CDLL(None, use_errno=True)


def main(question: dict[str, Any], report: int) -> int:
    """Run the program and return its exit code, 128 + N after signal N."""
    # Without own process ids nobody else kills the program when this process ends, so it does that itself.
    signal.signal(signal.SIGTERM, lambda *_: (kill_descendants(), os._exit(128 + signal.SIGTERM)))
    become_reaper()
    die_with_parent(question["parent"], signal.SIGTERM)
    root, user = os.geteuid() == 0, OTHER_USER + os.getpid()
    separate = _unshare(root)
    init = os.fork()  # the first process in the new process ids
    if init == 0:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        die_with_parent(0 if separate else os.getppid())
        become_reaper()
        _init(question, report, user if root else 0, separate=separate)
    os.close(report)
    code = os.waitstatus_to_exitcode(os.waitpid(init, 0)[1])
    kill_descendants()
    return code if code >= 0 else 128 - code


def _unshare(root: bool) -> bool:
    """Enter new namespaces; return whether that is possible. Without privileges a new user namespace allows it."""
    uid, gid = os.geteuid(), os.getegid()
    kinds = NEWNS | NEWIPC | NEWPID | NEWNET
    if root and libc.unshare(kinds) == 0:
        return True
    if libc.unshare(kinds | NEWUSER) != 0:
        return False
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
    Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")
    return True


def _init(question: dict[str, Any], report: int, user: int, *, separate: bool) -> NoReturn:
    """Start the program and end with its exit code; in new process ids, the kernel then kills everything else.

    user: as whom the program runs; 0: as the user of this process.
    """
    folder = question["folder"]
    read_only = separate and _read_only(folder, question["file_mb"])
    hidden = read_only and libc.mount(b"proc", b"/proc", b"proc", MS_NOSUID | MS_NODEV | MS_NOEXEC | RDONLY, None) == 0
    os.chdir("/")
    name = Path(folder, "program.py")
    name.write_text(question["source"])
    name.chmod(0o444)
    other = user != 0 and _become_other(user, folder)
    took = {"network": separate, "files": read_only, "hidden": hidden, "processes": os.geteuid() != 0}
    os.write(report, json.dumps(took).encode() + b"\n")
    os.close(report)
    if question["need_network_cut"] and not separate:
        os._exit(126)
    program = os.fork()
    if program == 0:
        _limit(question, count_others=not (separate or other))
        os.chdir(folder)
        environment = {"PATH": "/usr/bin:/bin", "HOME": folder, "TMPDIR": folder, "LC_ALL": "C.UTF-8"}
        os.execve(sys.executable, [sys.executable, "-I", "-B", str(name)], environment | {"OMP_NUM_THREADS": "1"})
    code = os.waitstatus_to_exitcode(os.waitpid(program, 0)[1])
    if not separate:
        kill_descendants()
    os._exit(code if code >= 0 else 128 - code)


def _read_only(folder: str, megabytes: int) -> bool:
    """Make all file systems readable only, and put an empty one in memory at `folder`. Return whether that worked."""
    if libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None) != 0:
        return False
    attributes = (ctypes.c_uint64 * 4)(RDONLY, 0, 0, 0)
    if libc.syscall(MOUNT_SETATTR, AT_FDCWD, b"/", AT_RECURSIVE, ctypes.byref(attributes), ctypes.sizeof(attributes)):
        return False
    options = f"size={megabytes}m,nr_inodes=1000,mode=777".encode()
    return bool(libc.mount(b"tmpfs", folder.encode(), b"tmpfs", MS_NOSUID | MS_NODEV, options) == 0)


def _become_other(user: int, folder: str) -> bool:
    """Give up root for a user that owns nothing, where that user can run Python. Return whether that worked.

    If the interpreter's folders are closed to other users, the program keeps the right to read files, and no other.
    """
    paths = [sys.executable, os.path.realpath(sys.executable), os.__file__]
    closed = any(not _open_to_others(Path(path)) for path in paths)
    try:
        os.chown(folder, user, user)
        libc.prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0)
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
    except OSError:
        return False
    kept = 1 << CAP_READ_SEARCH if closed else 0
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION, 0)
    data = (ctypes.c_uint32 * 6)(kept, kept, kept, 0, 0, 0)
    libc.capset(ctypes.byref(header), ctypes.byref(data))
    if closed:
        libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_READ_SEARCH, 0, 0)
    return True


def _open_to_others(path: Path) -> bool:
    folders = all(folder.stat().st_mode & 0o001 for folder in path.parents)
    return folders and bool(path.stat().st_mode & 0o004)


def _limit(question: dict[str, Any], *, count_others: bool) -> None:
    """Set the limits of this process, which all processes of the program inherit.

    count_others: the limit on processes counts all processes of this user, so it is raised by those that there are.
    """
    os.setsid()
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    others = 0
    if count_others:
        with suppress(OSError):
            others = sum(
                len(os.listdir(f"/proc/{name}/task"))
                for name in os.listdir("/proc")
                if name.isdigit() and os.path.isdir(f"/proc/{name}") and os.stat(f"/proc/{name}").st_uid == os.getuid()
            )
    limits = {
        resource.RLIMIT_CPU: question["cpu_s"],
        resource.RLIMIT_AS: question["memory_mb"] * 2**20,
        resource.RLIMIT_FSIZE: question["file_mb"] * 2**20,
        resource.RLIMIT_NOFILE: 64,
        resource.RLIMIT_NPROC: question["processes"] + others,
        resource.RLIMIT_CORE: 0,
    }
    for limit, value in limits.items():
        _, hard = resource.getrlimit(limit)
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(limit, (value, value))
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # Python ignores it, and the program would inherit that
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)


if __name__ == "__main__":
    with os.fdopen(int(sys.argv[1])) as pipe:
        asked = json.load(pipe)
    sys.exit(main(asked, int(sys.argv[2])))
