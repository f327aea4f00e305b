"""CoAP over a serial line: an endpoint at each end of a UART, a USB serial port or a pty, without IP. On a board:

    import coap, machine, serial_line

    uart = machine.UART(1, 115200, timeout=0, rxbuf=1024)
    endpoint = coap.Endpoint(sock=serial_line.Transport(uart), datagram_len=512)

and on a computer, with pyserial:

    port = serial.Serial("/dev/ttyUSB0", 115200, timeout=0)
    endpoint = coap.Endpoint(sock=serial_line.Transport(port), datagram_len=512)
    endpoint.get("coap://192.0.2.1/sensors/temp", remote=serial_line.PEER)  # the host in the URI does not matter

A datagram is a frame of SLIP (RFC 1055) with a CRC-32 behind it: CoAP has no checksum of its own. A damaged frame is
dropped, as a network loses a datagram. Console output on the same line is dropped likewise.
"""

from binascii import crc32

PEER = 1  # the other end of the line: there is but one

_END = b"\xc0"
_ESCAPED = ((b"\xdb", b"\xdb\xdd"), (_END, b"\xdb\xdc"))
_CRC_LEN = 4
_READ_LEN = 256


class Transport:
    """What an Endpoint takes as `sock`: datagrams over `stream`.

    stream  read(n) returns up to n bytes that are there, none or None if there are none, and does not wait; write(data)
            takes all of it
    """

    def __init__(self, stream):
        self.stream = stream
        self.unread = b""  # what was read and is not handed over yet; may be several frames: so there is no fileno

    def sendto(self, data, peer):
        """Write a datagram; there is only one `peer`."""
        frame = bytes(data) + crc32(data).to_bytes(_CRC_LEN, "big")
        for plain, escaped in _ESCAPED:
            frame = frame.replace(plain, escaped)
        self.stream.write(_END + frame + _END)  # the first one ends what noise has begun

    def recvfrom(self, n):
        """The next undamaged datagram, of `n` bytes at most, and PEER; None if there is none."""
        while True:
            frame, end, rest = self.unread.partition(_END)
            if end:
                self.unread = rest
                for plain, escaped in reversed(_ESCAPED):
                    frame = frame.replace(escaped, plain)
                data = frame[:-_CRC_LEN]
                if data and crc32(data).to_bytes(_CRC_LEN, "big") == frame[-_CRC_LEN:]:
                    return data[:n], PEER
            else:
                piece = self.stream.read(_READ_LEN)
                if not piece:
                    return None
                # a frame has twice as many bytes at most, if all are escaped; what is longer is noise
                self.unread = (frame if len(frame) <= 2 * (n + _CRC_LEN) else b"") + piece
