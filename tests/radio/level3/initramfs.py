"""The first file system of the emulated machine: busybox, kernel modules in their order, and one script."""

from __future__ import annotations

import gzip
import lzma
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from tests.radio.level3.errors import MachineError

# In order of need: the file system that the host shares, the random numbers and ciphers of pairing, Bluetooth, and what
# bluetoothd's hashes ask for. (No module is loaded on demand later: the guest has no tree of them.)
MODULES: Final = (
    "virtio_pci", "virtio_rng", "9pnet_virtio", "9p", "overlay",
    "sha512_generic", "ctr", "drbg", "ecdh_generic", "cmac", "ecb", "aes_generic",
    "hci_vhci", "uhid", "algif_hash", "algif_skcipher",
)  # fmt: skip
_INIT: Final = Path(__file__).with_name("init.sh")
_FOLDERS: Final = ("bin", "dev", "proc", "sys", "modules", "mnt", "mnt/host", "mnt/out", "mnt/rw", "newroot")
_FOLDER_MODE: Final = 0o40755
_PROGRAM_MODE: Final = 0o100755
# "depends=a,b" among the zero-terminated strings of a module's .modinfo section.
_DEPENDS: Final = re.compile(rb"\0depends=([^\0]*)\0")


def kernel_of(root: Path) -> Path:
    """The one kernel image below an unpacked release."""
    images = sorted((root / "boot").glob("vmlinuz-*"))
    if len(images) != 1:
        raise MachineError(f"emulated machine: found {len(images)} kernels in {root / 'boot'}, expected 1")
    return images[0]


def kernel_release(root: Path) -> str:
    """As `uname -r` says it."""
    return kernel_of(root).name.removeprefix("vmlinuz-")


def build_initramfs(root: Path) -> bytes:
    """Compressed cpio archive for the kernel below `root`."""
    modules = list(_in_loading_order(root / "lib" / "modules" / kernel_release(root)))
    order = "".join(f"{name}.ko\n" for name, _ in modules)
    files = [
        ("init", _INIT.read_bytes()),
        ("bin/busybox", (root / "bin" / "busybox").read_bytes()),
        ("modules/order", order.encode()),
        *((f"modules/{name}.ko", content) for name, content in modules),
    ]
    return gzip.compress(_cpio(files), compresslevel=1, mtime=0)


def _in_loading_order(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Names and contents of the modules, each after what it depends on; what is built into the kernel is passed over."""
    found = {_name(path): path for path in folder.glob("kernel/**/*.ko*")}
    done: set[str] = set()

    def load(name: str) -> Iterator[tuple[str, bytes]]:
        if name in done or name not in found:
            return
        done.add(name)
        content = _content(found[name])
        match = _DEPENDS.search(content)
        for needed in filter(None, (match.group(1) if match else b"").decode().split(",")):
            if needed.replace("-", "_") not in found:
                raise MachineError(
                    f"kernel module {name}: found no module {needed}, expected it among the unpacked ones"
                )
            yield from load(needed.replace("-", "_"))
        yield name, content

    for name in MODULES:
        yield from load(name)


def _name(path: Path) -> str:
    return path.name.partition(".ko")[0].replace("-", "_")


def _content(path: Path) -> bytes:
    packed = path.read_bytes()
    return lzma.decompress(packed) if path.suffix == ".xz" else packed


def _cpio(files: Iterable[tuple[str, bytes]]) -> bytes:
    """The "newc" format: cpio(5), as the kernel's initramfs documentation describes it."""
    parts = [_entry(name, b"", _FOLDER_MODE) for name in _FOLDERS]
    parts += [_entry(name, content, _PROGRAM_MODE) for name, content in files]
    return b"".join([*parts, _entry("TRAILER!!!", b"", 0)])


def _entry(name: str, content: bytes, mode: int) -> bytes:
    path = name.encode() + b"\0"
    links, size = 1, len(content)
    numbers = (0, mode, 0, 0, links, 0, size, 0, 0, 0, 0, len(path), 0)
    header = b"070701" + "".join(f"{number:08X}" for number in numbers).encode()
    return _padded(header + path) + _padded(content)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
