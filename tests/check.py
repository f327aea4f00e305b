"""Assertions for the portable tests, on CPython and MicroPython alike: eq, raises, no_alloc, Skip."""

try:
    from micropython import heap_lock, heap_unlock
except ImportError:  # CPython, where nobody counts allocations

    def heap_lock():
        pass

    heap_unlock = heap_lock


class Skip(Exception):
    """Raised by a test that cannot run here; the message names what is missing."""


def eq(actual, expected, what=""):
    """Raises AssertionError, starting with `what`, unless `actual == expected`."""
    if actual != expected:
        raise AssertionError("%s is %r, expected %r" % (what or "value", actual, expected))


def raises(exception_class, function, *args, contains="", **kw):
    """Calls function(*args, **kw) and returns the `exception_class` it raised.

    Raises AssertionError when it raised nothing, or when `contains` is not in the exception's text.
    """
    try:
        function(*args, **kw)
    except exception_class as error:
        if contains not in str(error):
            raise AssertionError("%r is not in %r" % (contains, str(error)))
        return error
    raise AssertionError("%s not raised" % exception_class.__name__)


def slices_allocate():
    """Returns whether each slice takes memory, as it does in MicroPython before 1.26."""
    buffer = bytearray(2)
    heap_lock()
    try:
        buffer[:1] = b"0"
    except MemoryError:
        return True
    finally:
        heap_unlock()
    return False


def no_alloc(function, *args):
    """Calls function(*args) twice, the second time with MicroPython's heap locked, and returns that result.

    The first call may allocate: it fills caches. Takes up to three arguments.
    Raises MemoryError when the second call allocates, and Skip where each slice does, see slices_allocate.
    """
    if slices_allocate():
        raise Skip("MicroPython 1.26, for until then each slice allocates")
    count = len(args)
    a, b, c = args + (None,) * (3 - count)
    function(*args)
    heap_lock()  # from here on no f(*args): it allocates
    try:
        if count == 0:
            return function()
        if count == 1:
            return function(a)
        if count == 2:
            return function(a, b)
        return function(a, b, c)
    finally:
        heap_unlock()
