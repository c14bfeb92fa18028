"""Opcode words of the Arm Architecture Reference Manual, told apart; and what each board lacks."""

from __future__ import annotations

import dataclasses

import pytest

from export.benchmark.devices import BOARDS, board
from tools.arm64.opcodes import CLASSES, classify, disassemble, extension_of, forbidden_on, histogram, read_window
from tools.arm64.programs import EmulationError

# Word, mnemonic, class.
KNOWN = (
    (0x4E829420, "sdot", "dotprod"),  # sdot v0.4s, v1.16b, v2.16b
    (0x2E829420, "udot", "dotprod"),  # udot v0.2s, v1.8b, v2.8b
    (0x4F82E020, "sdot", "dotprod"),  # sdot v0.4s, v1.16b, v2.4b[0]
    (0x6FA2E820, "udot", "dotprod"),  # udot v0.4s, v1.16b, v2.4b[3]
    (0x4E82A420, "smmla", "i8mm"),
    (0x6E82A420, "ummla", "i8mm"),
    (0x4E82AC20, "usmmla", "i8mm"),
    (0x4E829C20, "usdot", "i8mm"),
    (0x4F82F020, "usdot", "i8mm"),  # by element
    (0x4F02F020, "sudot", "i8mm"),
    (0xB8200041, "ldadd", "lse"),
    (0xF8E08041, "swpal", "lse"),
    (0x88A07C41, "cas", "lse"),
    (0xC8E0FC41, "casal", "lse"),
    (0x08207C82, "casp", "lse"),
    (0xB8BFC020, "ldapr", "rcpc"),
    (0x4E284820, "aese", "crypto"),
    (0x4E287820, "aesimc", "crypto"),
    (0x5E024020, "sha256h", "crypto"),
    (0x5E020020, "sha1c", "crypto"),
    (0x5E280820, "sha1h", "crypto"),
    (0x5E282820, "sha256su0", "crypto"),
    (0x0EE2E020, "pmull", "crypto"),  # pmull v0.1q, v1.1d, v2.1d
    (0x4EE2E020, "pmull2", "crypto"),
    (0x0E22E020, "pmull", "neon_int_mac"),  # pmull v0.8h, v1.8b, v2.8b: in every ARMv8
    (0xCE628020, "sha512h", "sha3"),
    (0x4E421420, "fadd", "fp16"),  # fadd v0.8h, v1.8h, v2.8h
    (0x04620020, "add", "sve"),  # add z0.h, z1.h, z2.h
    (0x0E628020, "smlal", "neon_int_mac"),
    (0x4E228020, "smlal2", "neon_int_mac"),
    (0x0E22C020, "smull", "neon_int_mac"),
    (0x4E606820, "sadalp", "neon_other"),
    (0x4E229C20, "mul", "neon_int_mac"),
    (0x4E229420, "mla", "neon_int_mac"),
    (0x4E22CC20, "fmla", "float_mac"),
    (0x1F020C20, "fmadd", "float_mac"),
    (0x1E220820, "fmul", "float_mac"),
    (0x4E22D420, "fadd", "neon_other"),
    (0x3DC00020, "ldr", "vector_load"),  # ldr q0, [x1]
    (0xAD400420, "ldp", "vector_load"),  # ldp q0, q1, [x1]
    (0x4C407020, "ld1", "vector_load"),
    (0x3D800020, "str", "vector_store"),
    (0x4C007020, "st1", "vector_store"),
    (0xF9400020, "ldr", "load"),
    (0xA9400420, "ldp", "load"),
    (0xC85FFC20, "ldaxr", "load"),
    (0xF9000020, "str", "store"),
    (0xF9800020, "prfm", "prefetch"),
    (0x54000040, "b.eq", "branch"),
    (0xD65F03C0, "ret", "branch"),
    (0x97FFFFFF, "bl", "branch"),
    (0xB4000040, "cbz", "branch"),
    (0x37000040, "tbnz", "branch"),
    (0x8B020020, "add", "scalar"),
    (0x9B027C20, "mul", "scalar"),
    (0xD503201F, "nop", "scalar"),
    (0xD4000001, "svc", "scalar"),
)


@pytest.mark.parametrize(("word", "mnemonic", "expected"), KNOWN, ids=[f"{w:08x}-{m}" for w, m, _ in KNOWN])
def test_a_known_opcode_word_has_its_class(word, mnemonic, expected):
    found, operands = disassemble([word])[word]
    # The disassembler is a second opinion on what each bit pattern means, where it knows the extension.
    assert found in (mnemonic, "")
    assert classify(word, found, operands) == expected


@pytest.mark.parametrize(("word", "expected"), [(w, c) for w, _, c in KNOWN], ids=[f"{w:08x}" for w, _, _ in KNOWN])
def test_only_words_of_an_extension_match_its_pattern(word, expected):
    extensions = ("dotprod", "i8mm", "lse", "rcpc", "crypto", "sha3", "fp16", "sve", "sme")
    assert extension_of(word) == (expected if expected in extensions else None)


def test_the_disassembler_agrees_on_dot_products_of_every_register():
    """Each combination of registers and lanes: the pattern must not depend on them."""
    words = [0x4E809400 | rm << 16 | rn << 5 | rd for rm in (0, 7, 31) for rn in (0, 15, 31) for rd in (0, 31)]
    assert {mnemonic for mnemonic, _ in disassemble(words).values()} == {"sdot"}
    assert {extension_of(word) for word in words} == {"dotprod"}


def test_a_histogram_counts_executions_and_names_every_class():
    counted = histogram({0x4E829420: 3, 0x0E628020: 4, 0xD503201F: 1})
    assert counted.total == 8
    assert (counted.counts["dotprod"], counted.counts["neon_int_mac"], counted.counts["scalar"]) == (3, 4, 1)
    assert set(counted.counts) == set(CLASSES)
    assert counted.share("neon_int_mac") == 0.5
    assert list(counted.mnemonics) == ["smlal", "sdot", "nop"]


def test_an_unknown_word_is_counted_as_undecoded():
    assert histogram({0xFFFFFFFF: 2}).counts["undecoded"] == 2


EVERYTHING = histogram({word: 1 for word, _, _ in KNOWN})
V80_ONLY = {"dotprod", "i8mm", "lse", "rcpc", "crypto", "sha3", "fp16", "sve"}


@pytest.mark.parametrize("name", ["pi4", "zero2w"])
def test_bcm2711_and_rp3a0_lack_dot_products_lse_and_crypto(name):
    assert set(forbidden_on(board(name), EVERYTHING)) == V80_ONLY


def test_bcm2712_has_dot_products_lse_and_crypto_but_no_i8mm():
    assert set(forbidden_on(board("pi5"), EVERYTHING)) == {"i8mm", "sha3", "sve"}


@pytest.mark.parametrize("name", BOARDS)
def test_plain_armv8_code_is_forbidden_nowhere(name):
    plain = histogram({word: 1 for word, _, kind in KNOWN if kind not in V80_ONLY})
    assert forbidden_on(board(name), plain) == {}


def test_a_board_without_pmull_lacks_the_crypto_class():
    half = dataclasses.replace(board("pi5"), features=board("pi5").features.replace(" pmull", ""))
    assert "crypto" in forbidden_on(half, EVERYTHING)


def test_a_window_file_is_read_and_summed(tmp_path):
    path = tmp_path / "window.txt"
    path.write_text("401000 3 d503201fd65f03c0\n402000 2 d503201f\nforeign 0\ntotal 8\n", encoding="ascii")
    window = read_window(path)
    assert (window.instructions, window.foreign) == (8, 0)
    assert window.words == {0xD503201F: 5, 0xD65F03C0: 3}


@pytest.mark.parametrize(
    "text",
    ["", "401000 3 d503201f\n", "401000 3 d503201f\nforeign 0\ntotal 4\n"],
    ids=["absent", "cut short", "wrong sum"],
)
def test_a_window_file_that_is_not_whole_is_refused(tmp_path, text):
    path = tmp_path / "window.txt"
    path.write_text(text, encoding="ascii")
    with pytest.raises(EmulationError, match="expected"):
        read_window(path)
