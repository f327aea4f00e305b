"""The keys of sensor_server.py where COAPS is set; whatever is wrong is told in a sentence.

    import coaps_setup

    coaps_setup.transport(5684, "0.0.0.0", "coaps.json")    # at each start; sensor_server does that

The keys are in a file as coaps_example.json: for each client an identity of its own and a key of its own, a text of 16
to 48 characters that nobody can guess, which is given to the client as it stands there: openssl rand -hex 16.
"""

import json

from sensor_server import SetupError

_SESSIONS = 2  # each takes about 24 KB, of a handshake too: what fits on a Pico W or an ESP32 beside the rest
_HANDSHAKES = 2
_LEAST_LEN = 16  # of a key: who records a handshake can try short ones at leisure (RFC 4279 section 7.2)
_MOST_LEN = 48  # what mbedTLS takes
_FORM = 'write {"identity": "key"}, with a line for each client, as in coaps_example.json'


def _check(path, identity, key):
    """Raises SetupError unless this may be an entry of the file; never quotes the key."""
    if not 0 < len(identity.encode()) <= 128:
        raise SetupError("%s: an identity has 1 to 128 bytes, not %d" % (path, len(identity.encode())))
    if not isinstance(key, str):
        raise SetupError('%s: the key of "%s" is no text in quotation marks' % (path, identity))
    key_len = len(key.encode())
    if not _LEAST_LEN <= key_len <= _MOST_LEN:
        text = '%s: the key of "%s" has %d to %d characters, not %d; make one with openssl rand -hex 16'
        raise SetupError(text % (path, identity, _LEAST_LEN, _MOST_LEN, key_len))


def load(path):
    """The keys in the file `path`, {identity: key}, as text; raises SetupError."""
    try:
        with open(path) as file:
            keys = json.load(file)
        for name in keys if isinstance(keys, dict) else ():
            if not isinstance(name, str):  # MicroPython's json takes that
                raise ValueError
    except OSError:
        raise SetupError("COAPS is set, and %s is missing: fill in coaps_example.json, copy it as that" % path)
    except ValueError:  # UnicodeError is one
        raise SetupError("%s is not JSON: %s" % (path, _FORM))
    if not isinstance(keys, dict) or not keys:
        raise SetupError("%s has no keys: %s" % (path, _FORM))
    for identity in keys:
        _check(path, identity, keys[identity])
    return keys


def transport(port, host, path):
    """A transport of coaps on `port` of `host` for who has a key of the file `path`.

    Raises SetupError; OSError if the port is taken.
    """
    try:
        import coap_dtls
    except ImportError:
        raise SetupError("COAPS is set, and coap_dtls is missing: copy it to the board")
    keys = load(path)
    try:
        return coap_dtls.Transport(port, host, keys, sessions=_SESSIONS, handshakes=_HANDSHAKES)
    except ValueError as error:  # the firmware is too old
        raise SetupError("COAPS is set, and %s" % error)
