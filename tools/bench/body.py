"""A body of 1 MB that is made while it is read, for CPython and MicroPython."""

from binascii import crc32

SIZE = 1 << 20
PIECE = bytes([i * 7 % 251 for i in range(4096)])
_PIECES = PIECE * 2


class Source:
    """Reads by offset, up to 4096 bytes."""

    size = SIZE
    etag = b"piece"

    def readinto_at(self, buffer, offset):
        start = offset % len(PIECE)
        count = min(len(buffer), SIZE - offset)
        buffer[:count] = _PIECES[start : start + count]
        return count


def crc():
    """The checksum of the whole."""
    found = 0
    for _ in range(SIZE // len(PIECE)):
        found = crc32(PIECE, found)
    return found
