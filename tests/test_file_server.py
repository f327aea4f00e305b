"""ports/file_server.py: files down and up in blocks, and names that try to leave the directory."""

import os
import sys

import check
import coap
import coap_block
import fake
from loopback import bound_endpoint

_HERE = globals().get("__file__", "").rpartition("/")[0] or "."
ROOT = "files_of_test"  # in the current directory
OUTSIDE = "outside_of_test"
BODY = bytes([i * 7 % 251 for i in range(3000)])
MORE = 8


def file_server():
    """The module under test; a board may not have it."""
    if _HERE + "/../ports" not in sys.path:
        sys.path.append(_HERE + "/../ports")
    try:
        import file_server as module
    except ImportError:
        raise check.Skip("file_server.py is not on this board") from None
    return module


def remove(path):
    """Remove a file or directory, if it is there."""
    try:
        os.remove(path)
    except OSError:
        try:
            os.rmdir(path)
        except OSError:
            pass


def write(path, data):
    with open(path, "wb") as file:
        file.write(data)


def read(path):
    with open(path, "rb") as file:
        return file.read()


class Files:
    """In a `with`: a directory with a file, a file beside it, an engine that serves the directory."""

    def __init__(self, **limits):
        self.limits = limits
        self.mid = 0

    def __enter__(self):
        module = file_server()
        self.clean()
        os.mkdir(ROOT)
        write(ROOT + "/log.txt", BODY)
        write(OUTSIDE, b"secret")
        self.engine = fake.engine()
        self.blocks = coap_block.attach(self.engine, unverified_len=None)
        module.build(self.engine, self.blocks, ROOT, **self.limits)
        return self

    def __exit__(self, *_):
        self.engine = None
        self.clean()

    def clean(self):
        try:
            names = os.listdir(ROOT.encode())  # one is not UTF-8
        except OSError:
            names = ()
        for name in names:
            remove(ROOT.encode() + b"/" + name)
        remove(ROOT)
        remove(OUTSIDE)

    def ask(self, code, name, payload=b"", now_ms=0, **options):
        """The reply to a request for /files/`name`, or for the `path` given."""
        self.mid += 1
        options.setdefault("uri_path", ("files", name))
        return fake.ask(self.engine, fake.packet(code, self.mid, payload=payload, **options), now_ms)

    def put(self, name, body, szx=6):
        """The reply to the last block of an upload, or to the first that is refused."""
        size = 16 << szx
        for num in range(max(1, -(-len(body) // size))):
            more = len(body) > (num + 1) * size
            piece = body[num * size : num * size + size]
            reply = self.ask(coap.PUT, name, piece, block1=num << 4 | (MORE if more else 0) | szx)
            if reply.code != coap.CONTINUE:
                break
        return reply

    def get(self, name, szx=6):
        """The file, fetched block by block."""
        body = b""
        num = 0
        while True:
            reply = self.ask(coap.GET, name, block2=num << 4 | szx)
            check.eq(reply.code, coap.CONTENT)
            body += reply.payload
            if not reply.opt.block2 & MORE:
                return body
            num += 1


def test_file_when_fetched_then_comes_in_blocks():
    """Down: with size and ETag."""
    with Files() as files:
        reply = files.ask(coap.GET, "log.txt")
        check.eq((reply.opt.size2, reply.opt.block2, len(reply.opt.etag)), (3000, MORE | 6, 8))
        check.eq(files.get("log.txt"), BODY)
        check.eq(files.get("log.txt", 0), BODY)
        write(ROOT + "/log.txt", BODY[:2000])
        assert files.ask(coap.GET, "log.txt", block2=16 | 6).opt.etag != reply.opt.etag
        check.eq(files.ask(coap.GET, "none.txt").code, coap.NOT_FOUND)


class Clockless:
    """`os` where all files are of the same time."""

    def __getattr__(self, name):
        return getattr(os, name)

    def stat(self, path):
        return tuple(os.stat(path))[:8] + (0, 0)


def test_file_when_replaced_within_a_second_then_its_etag_is_another():
    """RFC 7959 2.4: blocks of two contents are not put together; time has seconds, on FAT two, on some boards none."""
    with Files() as files:
        module = file_server()
        module.os = Clockless()
        try:
            tags = {bytes(files.ask(coap.GET, "log.txt").opt.etag)}
            for body in (bytes(3000), bytes(2000), BODY):
                check.eq(files.put("log.txt", body).code, coap.CHANGED)
                tags.add(bytes(files.ask(coap.GET, "log.txt").opt.etag))
            files.ask(coap.DELETE, "log.txt")
            check.eq(files.put("log.txt", BODY).code, coap.CREATED)
            tags.add(bytes(files.ask(coap.GET, "log.txt").opt.etag))
        finally:
            module.os = os
        check.eq(len(tags), 5)


def test_file_when_put_then_is_stored():
    """Up: 2.01 for a new one, 2.04 for another content, an empty one, one datagram."""
    with Files() as files:
        check.eq(files.put("new.bin", BODY, 2).code, coap.CREATED)
        check.eq(read(ROOT + "/new.bin"), BODY)
        check.eq(files.put("new.bin", BODY[:100]).code, coap.CHANGED)
        check.eq(read(ROOT + "/new.bin"), BODY[:100])
        check.eq(files.ask(coap.PUT, "empty").code, coap.CREATED)
        check.eq(files.get("empty"), b"")
        check.eq(files.ask(coap.PUT, "one datagram", b"x").code, coap.CREATED)
        check.eq(sorted(os.listdir(ROOT)), ["empty", "log.txt", "new.bin", "one datagram"])


def test_file_when_its_upload_is_not_finished_then_is_the_old_one():
    """Nothing half is seen, nothing is left over."""
    with Files() as files:
        check.eq(files.ask(coap.PUT, "log.txt", bytes(1024), block1=MORE | 6).code, coap.CONTINUE)
        check.eq(files.get("log.txt"), BODY)
        check.eq(len(os.listdir(ROOT)), 2)
        check.eq(b".upload" in files.ask(coap.GET, "", uri_path=("files",)).payload, False)
        fake.due(files.engine, 60000)
        check.eq((os.listdir(ROOT), files.get("log.txt") == BODY), (["log.txt"], True))


def test_upload_when_the_device_was_reset_then_is_cleared_away():
    """build removes what is left."""
    with Files():
        write(ROOT + "/.upload7", b"part")
        again = fake.engine()
        file_server().build(again, coap_block.attach(again), ROOT)
        check.eq(os.listdir(ROOT), ["log.txt"])


def test_directory_when_it_has_hidden_files_of_others_then_they_stay():
    """build removes nothing but what it wrote."""
    with Files():
        write(ROOT + "/.upload.conf", b"mine")
        write(ROOT + "/.uploads", b"mine")
        os.mkdir(ROOT + "/.upload7")
        again = fake.engine()
        file_server().build(again, coap_block.attach(again), ROOT)
        check.eq(sorted(os.listdir(ROOT)), [".upload.conf", ".upload7", ".uploads", "log.txt"])


class Breaking:
    """`os` whose files cannot be renamed."""

    def __getattr__(self, name):
        return getattr(os, name)

    def rename(self, old, new):
        raise OSError(5)

    replace = rename


def test_upload_when_it_cannot_take_its_place_then_the_old_file_stays():
    """A rename that fails, as of a full or worn file system."""
    with Files() as files:
        module = file_server()
        module.os = Breaking()
        try:
            check.eq(files.put("log.txt", bytes(2000)).code, coap.INTERNAL_SERVER_ERROR)
        finally:
            module.os = os
        check.eq((os.listdir(ROOT), files.get("log.txt") == BODY), (["log.txt"], True))


class Full:
    """A file for whose last bytes there is no room."""

    def __init__(self, path, mode):
        self.file = open(path, mode)
        self.seek = self.file.seek
        self.write = self.file.write

    def close(self):
        self.file.close()
        raise OSError(28)


def test_upload_when_it_cannot_be_closed_then_nothing_is_left_of_it():
    """Littlefs and CPython write the last bytes at close()."""
    with Files() as files:
        module = file_server()
        module.open = lambda path, mode: Full(path, mode) if mode == "wb" else open(path, mode)
        try:
            check.eq(files.put("log.txt", bytes(2000)).code, coap.INTERNAL_SERVER_ERROR)
            check.eq(files.ask(coap.PUT, "new.bin", bytes(1024), block1=MORE | 6).code, coap.CONTINUE)
            fake.due(files.engine, 60000)
        finally:
            del module.open
        check.eq((os.listdir(ROOT), files.get("log.txt") == BODY), (["log.txt"], True))


def test_upload_when_too_long_then_4_13():
    """Size1 says how long it may be."""
    with Files(limit_len=1500) as files:
        reply = files.put("big", BODY)
        check.eq((reply.code, reply.opt.size1), (coap.REQUEST_ENTITY_TOO_LARGE, 1500))
        check.eq(os.listdir(ROOT), ["log.txt"])


def test_file_when_deleted_then_is_gone():
    """2.02 (RFC 7252 section 5.8.4)."""
    with Files() as files:
        check.eq(files.ask(coap.DELETE, "log.txt").code, coap.DELETED)
        check.eq((files.ask(coap.DELETE, "log.txt").code, os.listdir(ROOT)), (coap.NOT_FOUND, []))


def test_list_when_asked_for_then_has_links_with_sizes():
    """RFC 6690; hidden files are not listed, names are quoted."""
    with Files() as files:
        write(ROOT + "/a b", b"1")
        write(ROOT + "/.hidden", b"1")
        reply = files.ask(coap.GET, "", uri_path=("files",))
        check.eq(reply.payload, b"</files/a%20b>;sz=1,</files/log.txt>;sz=3000")
        check.eq(reply.opt.content_format, coap.LINKS)
        reply = files.ask(coap.GET, "", uri_path=(".well-known", "core"))
        check.eq(reply.payload, b'</files>;ct=40;rt="files"')


def test_list_when_a_name_is_not_utf_8_then_has_the_others():
    """A name of another system: no URI can say it; an upload that was not finished goes all the same."""
    with Files() as files:
        try:
            write(ROOT.encode() + b"/caf\xe9.txt", b"x")
        except (OSError, ValueError):
            raise check.Skip("this file system has no such names") from None
        write(ROOT + "/.upload7", b"half")
        files.engine = fake.engine()
        file_server().build(files.engine, coap_block.attach(files.engine), ROOT)
        check.eq(sorted(os.listdir(ROOT.encode())), [b"caf\xe9.txt", b"log.txt"])
        check.eq(files.ask(coap.GET, "", uri_path=("files",)).payload, b"</files/log.txt>;sz=3000")
        check.eq(files.ask(coap.GET, "log.txt", block2=0).code, coap.CONTENT)


def test_directory_when_read_only_then_takes_nothing():
    """read_only leaves GET."""
    with Files(read_only=True) as files:
        check.eq(files.ask(coap.PUT, "x", b"1").code, coap.METHOD_NOT_ALLOWED)
        check.eq(files.ask(coap.DELETE, "log.txt").code, coap.METHOD_NOT_ALLOWED)
        check.eq(files.get("log.txt"), BODY)


def test_directory_when_it_is_not_there_then_value_error():
    """The caller's fault."""
    module = file_server()
    engine = fake.engine()
    check.raises(ValueError, module.build, engine, coap_block.attach(engine), "no such directory", contains="no such")


def test_command_line_when_it_is_wrong_then_exit_code_1():
    """A port above 65535 would be another one: sockets take it modulo 65536."""
    for words in ([], ["."] * 3, [".", "x"], [".", "-1"], [".", "0"], [".", "70000"]):
        check.eq(file_server().main(words), 1, words)


def test_server_when_its_port_is_taken_then_exit_code_1():
    """RFC 768: one socket has a port."""
    other, port = bound_endpoint()
    with other:
        check.eq(file_server().main([".", str(port)]), 1)


def test_server_when_it_is_interrupted_then_exit_code_0():
    """Ctrl-C is how it is stopped."""

    def interrupt(endpoint):
        endpoint.close()
        raise KeyboardInterrupt

    free, port = bound_endpoint()
    free.close()
    process = coap.Endpoint.process
    coap.Endpoint.process = interrupt
    try:
        check.eq(file_server().main([".", str(port)]), 0)
    finally:
        coap.Endpoint.process = process


def test_directory_when_it_is_inside_then_is_not_served():
    """Only files are."""
    with Files() as files:
        os.mkdir(ROOT + "/sub")
        check.eq(files.ask(coap.GET, "sub").code, coap.NOT_FOUND)
        check.eq(files.ask(coap.PUT, "sub", b"x").code, coap.FORBIDDEN)
        check.eq(files.ask(coap.DELETE, "sub").code, coap.NOT_FOUND)
        check.eq(files.ask(coap.GET, "", uri_path=("files",)).payload, b"</files/log.txt>;sz=3000")
        check.eq(sorted(os.listdir(ROOT)), ["log.txt", "sub"])


def test_name_when_some_system_would_change_it_then_is_refused():
    """FAT drops dots and spaces at the end: another file would be meant."""
    with Files() as files:
        for name in ("log.txt.", "log.txt ", "log.txt. .", "x?", "x:y", "x\n", "x\x7f", "x" * 65):
            check.eq(files.ask(coap.PUT, name, b"x").code, coap.FORBIDDEN, repr(name))
            check.eq(files.ask(coap.GET, name).code, coap.NOT_FOUND, repr(name))
        check.eq(os.listdir(ROOT), ["log.txt"])


# ---- names that try to leave ----

_PIECES = (
    "..", ".", "...", "../", "..\\", "/", "\\", "//", "\\\\", "\0", "..\0", "/..", "\\..", "./", ".\\", "..//",
    "....//", "....\\\\", "..;/", "..%2f", "%2e%2e%2f", "%2e%2e/", "..%5c", "%252e%252e%252f", "..%c0%af", "..%u2215",
    "\u2025/", "\uff0e\uff0e/", "..\u2215", "..\u2044", "..\uff0f", "..\u29f5", "C:", "C:\\", "C:/", "file:///",
    "\\\\?\\C:\\", "\\\\.\\", "~/", "~root/", "$HOME/", "\t../", "\n../", "\r../", " ../", "../\0", "\x7f../",
)  # fmt: skip
_TARGETS = ("", "outside_of_test", "etc/passwd", "boot.py", "files_of_test/../outside_of_test")
_MORE_NAMES = (
    "", " ", ".", "..", ". .", ".. ", ". ", ".ssh", ".upload1", ".upload", "a/../../outside_of_test", "a\\..\\x",
    "log.txt/../../outside_of_test", "log.txt\0", "log.txt\0.png", "log.txt/", "log.txt\\", "log.txt.", "log.txt ",
    "/log.txt", "x" * 65, "x" * 255, "\u00e4" * 100, "CON:", "log.txt:stream", "log.txt::$DATA", "a|b", "<a>", "a*",
    "a?", "../" * 20 + "etc/passwd", "..\\" * 20 + "boot.ini", "/proc/self/environ", "/dev/null", "/dev/zero", "nul:",
)  # fmt: skip


def names():
    """The corpus: every piece before every target, repeated, and single names."""
    corpus = list(_MORE_NAMES)
    for piece in _PIECES:
        for target in _TARGETS:
            corpus.append(piece + target)
    return corpus


class Watched:
    """In a `with`: all that the module does with files goes through here and is noted."""

    def __init__(self, module):
        self.module = module
        self.paths = []

    def __enter__(self):
        module = self.module
        self.open = module.open if hasattr(module, "open") else open
        module.open = self.open_file
        self.os = module.os
        module.os = self
        return self

    def __exit__(self, *_):
        self.module.os = self.os
        self.module.open = self.open

    def open_file(self, path, mode):
        self.paths.append(path)
        return self.open(path, mode)

    def listdir(self, path):
        return self.os.listdir(path)

    def stat(self, path):
        self.paths.append(path)
        return self.os.stat(path)

    def remove(self, path):
        self.paths.append(path)
        return self.os.remove(path)

    def rename(self, old, new):
        self.paths += [old, new]
        return self.os.rename(old, new)


def is_inside(path):
    """Whether `path` is a plain name in the directory: nothing that any system takes for a way out."""
    name = path[len(ROOT) + 1 :]
    if path[: len(ROOT) + 1] != ROOT + "/" or name in ("", ".", ".."):
        return False
    return all([mark not in name for mark in ("/", "\\", "\0", ":")])


def test_names_when_they_try_to_leave_then_do_not():
    """Path traversal: over 200 names, GET, PUT and DELETE: 0 accesses outside, nothing outside changed."""
    module = file_server()
    corpus = names()
    assert len(corpus) >= 200, len(corpus)
    before = sorted(os.listdir("."))
    with Files() as files:
        with Watched(module) as watched:
            for name in corpus:
                for code in (coap.GET, coap.PUT, coap.DELETE):
                    for mode in ({}, {"block1": 2} if code == coap.PUT else {"block2": 2}):
                        path = ("files", name)
                        if len(name.encode()) > 255:
                            path = ("files", name[:100])
                        reply = files.ask(code, name, b"x" if code == coap.PUT else b"", uri_path=path, **mode)
                        check_reply(code, name, reply)
        outside = [path for path in watched.paths if not is_inside(path)]
        check.eq(outside, [])
        check.eq(read(OUTSIDE), b"secret")
        check.eq(files.get("log.txt"), BODY)
        check.eq(sorted(set(os.listdir(".")) - {ROOT, OUTSIDE}), sorted(set(before) - {ROOT, OUTSIDE}))


def check_reply(code, name, reply):
    """What a way out is answered with; a name that is none may be served."""
    if any([mark in name for mark in ("/", "\\", "\0", ":")]) or name[:1] in ("", "."):
        expected = coap.FORBIDDEN if code == coap.PUT else coap.NOT_FOUND
        check.eq(reply.code, expected, "%d %r" % (code, name))
    assert reply.payload != b"secret", name


def test_paths_when_they_have_more_segments_then_are_not_served():
    """The name is the one segment behind files."""
    with Files() as files:
        for path in (
            ("files", "..", "outside_of_test"),
            ("files", "", "log.txt"),
            ("files", ".", "log.txt"),
            ("files", "x", "log.txt"),
            ("..", "outside_of_test"),
            ("files", ".."),
        ):
            for code in (coap.GET, coap.PUT, coap.DELETE):
                reply = files.ask(code, "", b"x", uri_path=path)
                assert reply.code in (coap.NOT_FOUND, coap.FORBIDDEN), (path, reply)
        check.eq(read(OUTSIDE), b"secret")


def test_name_when_it_is_not_utf_8_then_is_refused():
    """RFC 7252 section 5.10.1: 4.02; MicroPython cannot tell and finds no file."""
    with Files() as files:
        for code in (coap.GET, coap.PUT, coap.DELETE):
            datagram = b"\x40" + bytes((code,)) + b"\x12" + bytes((code,)) + b"\xb5files\x03\xff\xfe/"
            reply = fake.ask(files.engine, datagram)
            assert reply.code in (coap.BAD_OPTION, coap.NOT_FOUND, coap.FORBIDDEN), reply
