"""Which kinds of instruction ran: a histogram over A64 opcode words, and what a given board could not have executed.

Instructions of architecture extensions are told by their bits, as the Arm Architecture Reference Manual (DDI 0487, C4
"A64 instruction set encoding") lays them out: a disassembler that does not know an extension would hide it. The rest is
told by mnemonic and registers.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

from export.benchmark.devices import Device
from tools.arm64.programs import BenchmarkToolError, EmulationError

# Class: (mask, value) pairs of opcode words.
_EXTENSIONS: Final[Mapping[str, tuple[tuple[int, int], ...]]] = {
    "dotprod": (
        (0x9FE0FC00, 0x0E809400),  # SDOT, UDOT (vector)
        (0x9FC0F400, 0x0F80E000),  # SDOT, UDOT (by element)
    ),
    "i8mm": (
        (0xFFE0FC00, 0x4E80A400),  # SMMLA
        (0xFFE0FC00, 0x6E80A400),  # UMMLA
        (0xFFE0FC00, 0x4E80AC00),  # USMMLA
        (0xBFE0FC00, 0x0E809C00),  # USDOT (vector)
        (0xBF40F400, 0x0F00F000),  # SUDOT, USDOT (by element)
    ),
    "rcpc": (
        (0x3FFFFC00, 0x38BFC000),  # LDAPR; before "lse", whose pattern covers it
    ),
    "lse": (
        (0x3F200C00, 0x38200000),  # LDADD, LDCLR, LDEOR, LDSET, LDSMAX.. and SWP
        (0x3FA07C00, 0x08A07C00),  # CAS
        (0xBFA07C00, 0x08207C00),  # CASP
    ),
    "crypto": (
        (0xFFFFCC00, 0x4E284800),  # AESE, AESD, AESMC, AESIMC
        (0xFFE08C00, 0x5E000000),  # SHA1 and SHA256, three registers
        (0xFFFFCC00, 0x5E280800),  # SHA1 and SHA256, two registers
        (0xBFE0FC00, 0x0EE0E000),  # PMULL of 64 bits; that of 8 bits is in every ARMv8
    ),
    "sha3": (
        (0xFF000000, 0xCE000000),  # SHA512, SHA3, SM3, SM4
    ),
    "fp16": (
        (0x9F60C400, 0x0E400400),  # vectors of half precision, three the same
    ),
    "sve": (
        (0x1E000000, 0x04000000),  # the whole group 0b0010
    ),
    "sme": (
        (0x9E000000, 0x80000000),  # the whole group 0b0000 with the top bit set
    ),
}  # fmt: skip
# The flags of /proc/cpuinfo that a board must carry, all of them, to execute a class.
_NEEDS: Final[Mapping[str, tuple[str, ...]]] = {
    "dotprod": ("asimddp",),
    "i8mm": ("i8mm",),
    "rcpc": ("lrcpc",),
    "lse": ("atomics",),
    "crypto": ("aes", "pmull", "sha1", "sha2"),
    "sha3": ("sha3", "sha512"),
    "fp16": ("asimdhp",),
    "sve": ("sve",),
    "sme": ("sme",),
}
CLASSES: Final = (
    *_EXTENSIONS, "neon_int_mac", "float_mac", "neon_other", "vector_load", "vector_store", "load", "store", "prefetch",
    "branch", "scalar", "undecoded",
)  # fmt: skip

_VECTOR: Final = re.compile(r"\bv\d+\.")
_SIMD: Final = re.compile(r"\b(v\d+\.|[bhsdq]\d+\b)")
_FIRST_SIMD: Final = re.compile(r"\{?\s*(v\d+\.|[bhsdq]\d+\b)")
_INT_MAC: Final = re.compile(r"([su]ml[as]l2?|[su]mull2?|ml[as]|mul|pmull?2?|sqdml[as]l2?|sqdmull2?|sqr?dmulh)$")
_FLOAT_MAC: Final = re.compile(r"(fml[as]|fmulx?|fn?m(add|sub)|fnmul)$")
_BRANCH: Final = re.compile(r"(b(\.\w+)?|bl|br|blr|ret|cbn?z|tbn?z)$")


@dataclass(frozen=True, slots=True)
class Histogram:
    """How many instructions of each class were executed.

    Attributes
    ----------
    counts
        Class (all of `CLASSES`, zeros too) to executions.
    mnemonics
        Mnemonic to executions, most frequent first.
    """

    counts: Mapping[str, int]
    mnemonics: Mapping[str, int]

    @property
    def total(self) -> int:
        """Instructions in all."""
        return sum(self.counts.values())

    def share(self, name: str) -> float:
        """Return the part of all instructions that a class makes up, 0 to 1."""
        return self.counts[name] / self.total if self.total else 0.0


@dataclass(frozen=True, slots=True)
class WindowCount:
    """What the plugin wrote: executions by opcode word, and the instructions of other threads."""

    words: Mapping[int, int]
    instructions: int
    foreign: int


def read_window(path: Path) -> WindowCount:
    """Read the plugin's file and check it against its own total.

    Raises
    ------
    EmulationError
        It is absent or cut short: the window did not end.
    """
    text = path.read_text(encoding="ascii") if path.is_file() else ""
    lines = text.splitlines()
    if len(lines) < 2 or not lines[-1].startswith("total ") or not lines[-2].startswith("foreign "):
        raise EmulationError(
            f"the counting plugin wrote {len(lines)} lines and no total, expected the counts of a window"
        )
    words: Counter[int] = Counter()
    for line in lines[:-2]:
        _, count, code = line.split()
        for start in range(0, len(code), 8):
            words[int(code[start : start + 8], 16)] += int(count)
    total, foreign = int(lines[-1].split()[1]), int(lines[-2].split()[1])
    if words.total() != total:
        raise EmulationError(f"the counts sum to {words.total():,}, expected the plugin's own total {total:,}")
    return WindowCount(MappingProxyType(dict(words)), total, foreign)


def histogram(words: Mapping[int, int]) -> Histogram:
    """Return the histogram of opcode words and their executions."""
    counts: Counter[str] = Counter(dict.fromkeys(CLASSES, 0))
    mnemonics: Counter[str] = Counter()
    for word, (mnemonic, operands) in disassemble(words).items():
        counts[classify(word, mnemonic, operands)] += words[word]
        mnemonics[mnemonic or f".inst 0x{word:08x}"] += words[word]
    return Histogram(MappingProxyType(dict(counts)), MappingProxyType(dict(mnemonics.most_common())))


def disassemble(words: Iterable[int]) -> dict[int, tuple[str, str]]:
    """Return mnemonic and operands of each word; both are empty for a word that the disassembler does not know."""
    try:
        import capstone
    except ImportError as error:
        raise BenchmarkToolError(
            "found no Python package capstone, expected it for the opcode histogram",
            advice="Run: pip install capstone",
        ) from error
    engine = capstone.Cs(capstone.CS_ARCH_ARM64, capstone.CS_MODE_LITTLE_ENDIAN)
    found = {}
    for word in words:
        decoded = next(engine.disasm_lite(word.to_bytes(4, "little"), 0, 1), None)
        found[word] = ("", "") if decoded is None else (decoded[2], decoded[3])
    return found


def extension_of(word: int) -> str | None:
    """Return the architecture extension that an opcode word belongs to, or None for ARMv8.0 as every board has it."""
    for name, patterns in _EXTENSIONS.items():
        if any(word & mask == value for mask, value in patterns):
            return name
    return None


def classify(word: int, mnemonic: str, operands: str) -> str:
    """Return the class of an instruction: one of `CLASSES`."""
    extension = extension_of(word)
    if extension is not None:
        return extension
    if not mnemonic:
        return "undecoded"
    if mnemonic.startswith("prf"):
        return "prefetch"
    if _BRANCH.match(mnemonic):
        return "branch"
    if mnemonic.startswith(("ld", "st")):
        kind = "load" if mnemonic.startswith("ld") else "store"
        return f"vector_{kind}" if _FIRST_SIMD.match(operands) else kind
    return _arithmetic(mnemonic, operands)


def _arithmetic(mnemonic: str, operands: str) -> str:
    if not _SIMD.search(operands):
        return "scalar"
    if _FLOAT_MAC.match(mnemonic):
        return "float_mac"
    if _VECTOR.search(operands) and _INT_MAC.match(mnemonic):
        return "neon_int_mac"
    return "neon_other"


def forbidden_on(device: Device, counted: Histogram) -> dict[str, int]:
    """Return the classes that ran and that the board has no circuit for: there, each would end the process (SIGILL).

    An emulated core is no proof of their absence: QEMU's cortex-a72 has the AES, SHA and PMULL instructions that the
    chip of a Raspberry Pi 4 lacks.
    """
    flags = set(device.features.split())
    lacking = [name for name, needs in _NEEDS.items() if not flags.issuperset(needs)]
    return {name: counted.counts[name] for name in lacking if counted.counts[name]}
