# SPDX-License-Identifier: Apache-2.0
"""Guests of a few instructions: an ELF file with a PVH entry around given machine code.

It begins in 32-bit protected mode, flat, at 0x100000, without paging and stack. The pieces below
can be put one behind another.
"""
import struct

BASE = 0x100000

# Vector registers and their exceptions: CR4.OSFXSR, OSXMMEXCPT.
SSE_ON = bytes.fromhex("0f20e0 0d00060000 0f22e0")
FOREVER = bytes.fromhex("ebfe")


def say(text):
    """mov dx, 0x3f8; then mov al, c; out dx, al for each character."""
    return bytes.fromhex("66baf803") + b"".join(bytes([0xB0, c, 0xEE]) for c in text.encode())


def set_register(eax):
    """mov eax, VALUE"""
    return b"\xb8" + struct.pack("<I", eax)


def power_off():
    """ACPI: sleep type 5, enabled, to port 0x600; then halted for good."""
    return bytes.fromhex("66ba0006 b034 ee f4 ebfd")


def unless_equal(ebx, otherwise):
    """cmp ebx, VALUE; je over what is run otherwise."""
    return b"\x81\xfb" + struct.pack("<I", ebx) + b"\x0f\x84" + struct.pack("<I", len(otherwise)) \
        + otherwise


def elf(code):
    """The file's bytes."""
    note = struct.pack("<III4sI", 4, 4, 18, b"Xen", BASE)
    at_note, at_code = 0x100, 0x1000
    header = b"\x7fELF\2\1\1" + bytes(9) + struct.pack(
        "<HHIQQQIHHHHHH", 2, 62, 1, BASE, 64, 0, 0, 64, 56, 2, 0, 0, 0)
    programs = struct.pack("<IIQQQQQQ", 4, 4, at_note, 0, 0, len(note), len(note), 4) + \
        struct.pack("<IIQQQQQQ", 1, 7, at_code, BASE, BASE, len(code), len(code), 4096)
    out = (header + programs).ljust(at_note, b"\0") + note
    return out.ljust(at_code, b"\0") + code
