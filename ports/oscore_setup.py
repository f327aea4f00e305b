"""Keys and sequence numbers for sensor_server.py where OSCORE is set; whatever is wrong is told in a sentence.

    import oscore_setup

    oscore_setup.new_keys()                          # once, with keys that were never used
    oscore_setup.protect(endpoint, "oscore.json")    # at each start; sensor_server does that

The keys are in a file as oscore_example.json; coap_oscore_keys.py explains it. The numbers are kept in two files beside
it, oscore.seq0 and oscore.seq1, which must not be removed, copied or put back while the keys are in use.
"""

import sys

import sensor_server
from sensor_server import SetupError


def _load(path):
    """The security contexts in the file `path`; raises SetupError."""
    try:
        import coap_oscore_keys

        contexts = coap_oscore_keys.load(path)
        del sys.modules["coap_oscore_keys"]  # its memory is free again
        return contexts
    except ImportError:
        raise SetupError("OSCORE is set, and coap_oscore or coap_oscore_keys is missing: copy them to the board")
    except OSError:
        raise SetupError("OSCORE is set, and %s is missing: fill in oscore_example.json, copy it as that" % path)
    except ValueError as error:  # it names the line
        raise SetupError(str(error))


def _store(path):
    """The store of the sequence numbers that belongs to the keys in the file `path`, and its name."""
    import coap_oscore

    name = path.rpartition(".")[0] + ".seq"
    return coap_oscore.FileStore(name), name


def new_keys(path=None):
    """Begin the sequence numbers for keys that were never used: once, as `make deploy NEW_KEYS=1` does.

    path: a file of keys in the place of sensor_server.OSCORE. With keys that were used before, numbers would come
    twice, and what they protected could be read. Numbers that are there go on. Raises SetupError.
    """
    path = path or sensor_server.OSCORE
    if not path:
        raise SetupError("OSCORE in sensor_server.py is not set")
    _load(path)
    store, name = _store(path)
    if store.numbers() != [None, None]:
        print(name, "is there already and goes on")
        return
    import coap_oscore_keys

    try:
        coap_oscore_keys.create(store)
    except OSError as error:
        raise SetupError("%s cannot be written (%s): is the file system full?" % (name, error))
    print(name, "begins")


def protect(endpoint, path):
    """Have `endpoint` answer only what is protected with keys of the file `path`, as text; raises SetupError."""
    contexts = _load(path)
    store, name = _store(path)
    if store.numbers() == [None, None]:
        text = "%s is missing: if the keys in %s were never used, and only then, %s"
        raise SetupError(text % (name, path, "begin it: make deploy NEW_KEYS=1, or main.py new-keys on unix"))
    import coap_oscore

    for context in contexts:
        context.server = None  # requests are answered here, and none are sent
    try:
        oscore = coap_oscore.attach(endpoint, contexts, store, secure=True)
        if oscore.sequence.limit is None:
            oscore.sequence.reserve()  # what cannot be stored is told now, not by the first request
    except ValueError as error:
        raise SetupError("%s: %s" % (path, error))
    except OSError as error:
        raise SetupError("%s cannot be written (%s): is the file system full?" % (name, error))
