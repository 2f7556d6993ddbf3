"""A stand-in for a container: the process of a service, shut in as the Compose file says.

``python tests/container.py SPEC -- COMMAND …`` is started by :func:`arguments` in namespaces of its
own (user and mount). It gets a root file system that is read-only as a whole, in which only the
service's volumes and tmpfs can be written, at the paths that the service names; then it becomes
user 10001 without any capability and can gain none. Programs and libraries are those of this
machine. It shares the network, so that several services need ports of their own.

Needs no engine and no root, but a kernel that lets users make namespaces.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from compose import REPOSITORY, Mount

#: Where the image has the code, and what its relative paths start from.
WORKDIR = "/opt/em-gate"
USER = 10001
#: What containers have of their own; everything else at the top comes from this machine.
_OWN = {"checkpoints", "dev", "etc", "opt", "proc", "run", "sys", "tmp", "var"}
_KERNEL = ("dev", "proc")
_ETC = ("ld.so.cache", "ld.so.conf", "ld.so.conf.d", "localtime", "nsswitch.conf", "ssl")
_HOSTS = "127.0.0.1 localhost postgres valkey api\n"

_MS_NOSUID, _MS_NODEV, _MS_NOEXEC = 2, 4, 8
_MS_BIND, _MS_REC = 4096, 16384
_MNT_DETACH = 2
_AT_RECURSIVE = 0x8000
_ATTR_RDONLY = 1
_SYS_MOUNT_SETATTR, _SYS_PIVOT_ROOT = 442, 155


def available() -> bool:
    """Whether this machine lets us make such containers."""
    if sys.platform != "linux" or os.uname().machine != "x86_64" or not shutil.which("unshare"):
        return False
    tried = subprocess.run([*_UNSHARE, "true"], capture_output=True, check=False)
    return tried.returncode == 0


_UNSHARE = ("unshare", "--user", "--map-root-user", "--mount", "--propagation", "private")


def arguments(mounts: Iterable[Mount], command: Sequence[str], scratch: Path) -> list[str]:
    """What to start for a command in a container.

    Args:
        mounts: with the directories of this machine in the place of named volumes.
        command: as the service has it; ``python`` and ``emgate`` are those of this test.
        scratch: an empty directory, on which the root file system of the container is mounted.
    """
    spec = json.dumps({"root": str(scratch), "mounts": [vars(mount) for mount in mounts]})
    return [*_UNSHARE, sys.executable, __file__, spec, *command]


def environment(service: Mapping[str, str]) -> dict[str, str]:
    """What the image and the service set, and nothing of the environment of this test."""
    return {
        "PATH": f"{sys.prefix}/bin:/usr/local/bin:/usr/bin:/bin",
        # The code of this checkout, wherever the environment has it from.
        "PYTHONPATH": WORKDIR,
        "PYTHONDONTWRITEBYTECODE": "1",
        "HOME": "/var/cache/em-gate",
        "LANG": "C.UTF-8",
        **service,
    }


def _enter(spec: Mapping[str, Any], command: Sequence[str]) -> None:
    root = Path(spec["root"])
    mounts = [Mount(**fields) for fields in spec["mounts"]]
    _mount("tmpfs", root, "tmpfs", 0, "mode=755,size=16m")
    for entry in Path("/").iterdir():
        if entry.name not in _OWN:
            _adopt(entry, root / entry.name)
    for name in _KERNEL:
        (root / name).mkdir()
    _write_etc(root / "etc")
    _adopt(REPOSITORY, root / WORKDIR.lstrip("/"))
    # What else the programs are made of, where it lies in a directory that the container has of
    # its own.
    places = {Path(sys.prefix), Path(sys.base_prefix), REPOSITORY}
    hidden = [place for place in places if place.parts[1] in _OWN]
    for mount in (*mounts, *(Mount(str(place)) for place in hidden)):
        _make_place(mount, root)
    _make_read_only(root)
    for name in _KERNEL:
        _mount(f"/{name}", root / name, "", _MS_BIND | _MS_REC)
    for mount in mounts:
        _put(mount, root)
    for place in hidden:
        target = root / str(place).lstrip("/")
        # A tmpfs of the service may have covered the place that was made before.
        target.mkdir(parents=True, exist_ok=True)
        _mount(str(place), target, "", _MS_BIND | _MS_REC)
        _make_read_only(target)
    _change_root(root)
    os.chdir(WORKDIR)
    # A user who is not root loses all capabilities with the next program.
    become = ("unshare", "--user", f"--map-user={USER}", f"--map-group={USER}")
    os.execvp(become[0], [*become, "setpriv", "--no-new-privs", *command])


def _adopt(source: Path, target: Path) -> None:
    if source.is_symlink():
        target.symlink_to(source.readlink())
    elif source.is_dir():
        target.mkdir(parents=True)
        _mount(str(source), target, "", _MS_BIND | _MS_REC)


def _write_etc(etc: Path) -> None:
    etc.mkdir()
    for name in _ETC:
        source = Path("/etc", name)
        if source.is_dir():
            shutil.copytree(source, etc / name, symlinks=True)
        elif source.exists():
            shutil.copy(source, etc / name)
    (etc / "hosts").write_text(_HOSTS)
    (etc / "passwd").write_text(f"gate:x:{USER}:{USER}::/var/cache/em-gate:/bin/sh\n")
    (etc / "group").write_text(f"gate:x:{USER}:\n")


def _make_place(mount: Mount, root: Path) -> None:
    place = root / mount.target.lstrip("/")
    if mount.source and Path(mount.source).is_file():
        place.parent.mkdir(parents=True, exist_ok=True)
        place.touch()
    else:
        place.mkdir(parents=True, exist_ok=True)


def _put(mount: Mount, root: Path) -> None:
    place = root / mount.target.lstrip("/")
    if mount.source:
        _mount(mount.source, place, "", _MS_BIND)
        if mount.read_only:
            _make_read_only(place)
        return
    # As an engine mounts a tmpfs: no programs unless exec is said, never set-user-id or devices.
    wanted = [o for o in mount.options.split(",") if o and o.split("=")[0] not in {"uid", "gid"}]
    flags = _MS_NOSUID | _MS_NODEV | (0 if "exec" in wanted else _MS_NOEXEC)
    data = ",".join(["mode=1777", *(option for option in wanted if option != "exec")])
    _mount("tmpfs", place, "tmpfs", flags, data)


_libc = ctypes.CDLL(None, use_errno=True)


def _mount(source: str, target: Path, kind: str, flags: int, data: str = "") -> None:
    done = _libc.mount(
        source.encode(), str(target).encode(), kind.encode(), ctypes.c_ulong(flags), data.encode()
    )
    _require(done, f"mount {source} on {target} ({data})")


def _make_read_only(place: Path) -> None:
    attributes = (ctypes.c_uint64 * 4)(_ATTR_RDONLY, 0, 0, 0)
    done = _libc.syscall(
        _SYS_MOUNT_SETATTR, -100, str(place).encode(), _AT_RECURSIVE, attributes, 32
    )
    _require(done, f"make {place} read-only")


def _change_root(root: Path) -> None:
    os.chdir(root)
    _require(_libc.syscall(_SYS_PIVOT_ROOT, b".", b"."), "pivot_root")
    _require(_libc.umount2(b".", _MNT_DETACH), "detach the old root")


def _require(done: int, what: str) -> None:
    if done != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


if __name__ == "__main__":
    _enter(json.loads(sys.argv[1]), sys.argv[2:])
