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


def long_mode():
    """What a guest begins with to have 64-bit code behind it, at CPL 0: the first 8 MiB are
    mapped where they are, by tables at 6 MiB, where its memory is still zero."""
    pml4, pdpt, pd = 0x600000, 0x601000, 0x602000
    entries = [(pml4, pdpt | 3), (pdpt, pd | 3)] + [(pd + 8 * k, k << 21 | 0x83) for k in range(4)]
    code = b"".join(b"\xc7\x05" + struct.pack("<II", at, v) for at, v in entries)
    code += set_register(pml4) + bytes.fromhex("0f22d8")             # mov cr3, eax
    code += bytes.fromhex("0f20e0 0d20060000 0f22e0")                # CR4: PAE, vector registers
    code += bytes.fromhex("b9800000c0 0f32 0d00010000 0f30")         # EFER: LME
    code += bytes.fromhex("0f20c0 0d02000080 0f22c0")                # CR0: PG, MP
    gdt = BASE + len(code) + 14 + 6
    code += b"\x0f\x01\x15" + struct.pack("<I", gdt - 6)             # lgdt
    code += b"\xea" + struct.pack("<IH", gdt + 16, 8)                # jmp 8:behind
    return code + struct.pack("<HIQQ", 15, gdt, 0, 0x00AF9B000000FFFF)
