# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Rewrites the header of an MLIR bytecode file.

usage: bytecode_header.py IN OUT [--producer TEXT] [--moe-version N]
                          [--print]

--producer replaces the name of the tool that wrote the file by one of the same
length (cut or padded), so that no padding has to move; --moe-version replaces
the version of the dialect `moe`, by N, or by the file's own plus N where it is
written +N (one byte: up to 127); --print writes what the file said to the
standard output.
"""

import argparse
from pathlib import Path
from typing import Dict, List, Optional, Tuple

MAGIC = b"ML\xefR"
STRING_SECTION, DIALECT_SECTION, DIALECT_VERSIONS = 0, 1, 7


class Reader:
    """A place in the bytes of a file."""

    def __init__(self, data: bytearray, at: int = 0):
        self.data, self.at = data, at

    def byte(self) -> int:
        self.at += 1
        return self.data[self.at - 1]

    def varint(self) -> int:
        """An integer whose first byte counts, in trailing zeros, the others."""
        first = self.byte()
        if first & 1:
            return first >> 1
        if first == 0:
            self.at += 8
            return int.from_bytes(self.data[self.at - 8 : self.at], "little")
        more = (first & -first).bit_length() - 1
        self.at += more
        raw = bytes([first]) + self.data[self.at - more : self.at]
        return int.from_bytes(raw, "little") >> (more + 1)

    def section(self) -> Tuple[int, int, int]:
        """The kind of the next section, and where its contents start and end."""
        kind = self.byte()
        length = self.varint()
        if kind & 0x80:
            alignment = self.varint()
            self.at += -self.at % alignment
        start = self.at
        self.at += length
        return kind & 0x7F, start, self.at


class Header:
    """The producer and the dialects' versions of a bytecode file."""

    def __init__(self, data: bytearray):
        if data[:4] != MAGIC:
            raise SystemExit("not MLIR bytecode")
        self.data = data
        reader = Reader(data, 4)
        self.format = reader.varint()
        self.producer_at = reader.at
        self.producer_end = data.index(0, reader.at)
        reader.at = self.producer_end + 1
        sections: Dict[int, Tuple[int, int]] = {}
        while reader.at < len(data):
            kind, start, end = reader.section()
            sections[kind] = (start, end)
        strings = self._strings(*sections[STRING_SECTION])
        self.version_at: Dict[str, int] = {}
        reader = Reader(data, sections[DIALECT_SECTION][0])
        for _ in range(reader.varint()):
            name = reader.varint()
            if name & 1:
                kind, start, _end = reader.section()
                assert kind == DIALECT_VERSIONS
                self.version_at[strings[name >> 1]] = start

    def _strings(self, start: int, end: int) -> List[str]:
        """The table of strings; lengths come last to first, with the NUL."""
        reader = Reader(self.data, start)
        lengths = [reader.varint() for _ in range(reader.varint())]
        strings, at = [], reader.at
        for length in reversed(lengths):
            strings.append(self.data[at : at + length - 1].decode())
            at += length
        assert at == end
        return strings

    def set_producer(self, text: str) -> None:
        length = self.producer_end - self.producer_at
        raw = text.encode()[:length].ljust(length, b"-")
        self.data[self.producer_at : self.producer_end] = raw

    def get_version(self, dialect: str) -> int:
        return Reader(self.data, self.version_at[dialect]).varint()

    def set_version(self, dialect: str, version: int) -> None:
        assert max(version, self.get_version(dialect)) < 128, "one byte each"
        self.data[self.version_at[dialect]] = version << 1 | 1

    def describe(self) -> str:
        producer = self.data[self.producer_at : self.producer_end].decode()
        versions = ", ".join(
            f"{name} {self.get_version(name)}"
            for name in sorted(self.version_at)
        )
        return f"producer {producer}; versions: {versions}"


def main(arguments: Optional[List[str]] = None) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--producer")
    parser.add_argument("--moe-version")
    parser.add_argument("--print", action="store_true")
    options = parser.parse_args(arguments)
    header = Header(bytearray(options.source.read_bytes()))
    if options.print:
        print(header.describe())
    if options.producer is not None:
        header.set_producer(options.producer)
    if options.moe_version is not None:
        relative = options.moe_version.startswith("+")
        base = header.get_version("moe") if relative else 0
        header.set_version("moe", base + int(options.moe_version))
    options.target.write_bytes(header.data)


if __name__ == "__main__":
    main()
