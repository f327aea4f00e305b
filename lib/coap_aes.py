"""AES-128 encryption in plain Python (FIPS 197): slow, and NOT constant-time.

coap_oscore uses it only where neither `cryptolib` (MicroPython) nor the package `cryptography` (CPython) is there.
Its time depends on the key and the data, so who can measure it closely may learn the key: install `cryptography`.
"""


def _times_two(b):
    """`b` times x in the field of AES."""
    return (b << 1 ^ (0x1B if b & 0x80 else 0)) & 0xFF


def _make_sbox():
    """The substitution table: the inverse in the field, then the affine transformation (section 5.1.1)."""
    sbox = bytearray(256)
    sbox[0] = 0x63
    p = q = 1
    while True:
        p ^= _times_two(p)  # times 3
        q ^= q << 1  # divided by 3
        q ^= q << 2
        q ^= q << 4
        q &= 0xFF
        if q & 0x80:
            q ^= 0x09
        rotated = q | q << 8
        sbox[p] = (q ^ rotated >> 7 ^ rotated >> 6 ^ rotated >> 5 ^ rotated >> 4 ^ 0x63) & 0xFF
        if p == 1:
            return bytes(sbox)


_SBOX = _make_sbox()


def _expand(key):
    """The 176 bytes of the round keys (section 5.2)."""
    words = bytearray(key)
    constant = 1
    while len(words) < 176:
        word = words[-4:]
        if len(words) % 16 == 0:
            word = bytearray((_SBOX[word[1]] ^ constant, _SBOX[word[2]], _SBOX[word[3]], _SBOX[word[0]]))
            constant = _times_two(constant)
        for k in range(4):
            words.append(words[-16] ^ word[k])
    return words


def _mix(state, at):
    """Mix the column of four bytes at `at` (section 5.1.3)."""
    a, b, c, d = state[at : at + 4]
    every = a ^ b ^ c ^ d
    state[at] = a ^ every ^ _times_two(a ^ b)
    state[at + 1] = b ^ every ^ _times_two(b ^ c)
    state[at + 2] = c ^ every ^ _times_two(c ^ d)
    state[at + 3] = d ^ every ^ _times_two(d ^ a)


def _encrypt_block(words, block):
    """The 16 bytes `block`, encrypted with the round keys `words`."""
    state = bytearray([block[k] ^ words[k] for k in range(16)])
    for at in range(16, 176, 16):
        state = bytearray([_SBOX[state[5 * k & 15]] for k in range(16)])  # substitute bytes, shift rows
        if at < 160:
            for column in range(0, 16, 4):
                _mix(state, column)
        for k in range(16):
            state[k] ^= words[at + k]
    return state


class aes:
    """What coap_oscore needs of MicroPython's `cryptolib.aes`: aes(key, mode, iv), mode 1 ECB or 2 CBC.

    key: 16 bytes; iv: 16 bytes, for CBC.
    """

    def __init__(self, key, mode, iv=None):
        self.words = _expand(key)
        self.chained = iv if mode == 2 else None

    def encrypt(self, data, out):
        """Encrypt `data`, a multiple of 16 bytes, into the bytearray `out`, which may be the same."""
        for at in range(0, len(data), 16):
            block = data[at : at + 16]
            if self.chained is not None:
                block = [block[k] ^ self.chained[k] for k in range(16)]
            out[at : at + 16] = block = _encrypt_block(self.words, block)
            if self.chained is not None:
                self.chained = block
