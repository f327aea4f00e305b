"""Files over CoAP: serves the files of one directory, takes uploads, deletes: logs down, firmware up.

    import coap, coap_block, file_server

    endpoint = coap.Endpoint(port=5683)
    blocks = coap_block.attach(endpoint)
    file_server.build(endpoint, blocks, "/data")
    while True:
        endpoint.process()

or, on a computer, `micropython ports/file_server.py DIRECTORY [PORT]`, with lib/ in MICROPYPATH; python does as well.

    GET     /files          the list of the files, as links with their sizes (RFC 6690)
    GET     /files/<name>   a file, in blocks, of any size; its ETag is made of its size, time and changes here
    PUT     /files/<name>   stores one: a part of it is never seen, the old file stays until the new one is whole
    DELETE  /files/<name>   removes one

There are no directories below. A name is one that cannot leave the directory: without separators of any system, NUL
and control characters, and not hidden, that is beginning with a dot. Symbolic links are not followed where the
firmware can tell them, by os.readlink; MicroPython cannot, so make none. Who reaches the port can read, and unless
`read_only` write; give it the network that it deserves.
"""

import os
import sys

import coap

_TEMPORARY = ".upload"  # what is on its way: hidden, so no name of a client
_SIZE = 6  # in what os.stat returns
_MTIME = 8  # in seconds, on FAT in two, and on a board without clock the same after each start
_CHANGES = 64  # counters of changes, one for many names: they take no more however many come and go


def is_name(name):
    """Whether `name` is that of a file in the directory itself, on every system."""
    if not name or name[0] == "." or len(name.encode()) > 64:
        return False
    for character in name:
        if character in '/\\:*?"<>|' or ord(character) < 32 or ord(character) == 127:
            return False
    return name[-1] not in ". "  # which FAT drops


def _is_link(path):
    """Whether `path` is a symbolic link, as far as this system can tell."""
    if not hasattr(os, "readlink"):
        return False
    try:
        os.readlink(path)
    except OSError:
        return False
    return True


def _stat(path):
    """What os.stat says of the file `path`; None if there is none, or it is anything else."""
    try:
        stat = os.stat(path)
    except (OSError, ValueError):  # ValueError: CPython cannot encode the name
        return None
    return stat if stat[0] & 0xF000 == 0x8000 and not _is_link(path) else None


def _is_free(path):
    """Whether an upload may become `path`: there is a file, or nothing."""
    try:
        os.stat(path)
    except OSError:
        return not _is_link(path)  # it may lead to nothing
    return _stat(path) is not None


def _slot(path):
    """Which counter of changes is that of the file `path`."""
    return sum(path.encode()) % _CHANGES


def _names(root):
    """The names in the directory `root`, a sorted list; those that are not UTF-8 are nobody's here."""
    names = []
    for raw in os.listdir(root.encode() or b"/"):  # as bytes: one that is not UTF-8 would end the list
        try:
            names.append(raw.decode())
        except UnicodeError:
            pass
    return sorted(names)


class _FileSource:
    """A file that is read by offset; open only while a block is read."""

    def __init__(self, path, stat, changes):
        self.path = path
        self.size = stat[_SIZE]
        mtime_s = int(stat[_MTIME]) & 0xFFFFFFFF
        self.etag = (self.size & 0xFFFFFF).to_bytes(3, "big") + mtime_s.to_bytes(4, "big") + bytes((changes,))

    def readinto_at(self, buffer, offset):
        with open(self.path, "rb") as file:
            file.seek(offset)
            return file.readinto(buffer)


class _Upload:
    """A sink: a hidden file, which becomes `path` when it is whole."""

    def __init__(self, path, hidden_path, limit_len):
        self.path = path
        self.hidden_path = hidden_path
        self.limit_len = limit_len
        self.file = open(hidden_path, "wb")

    def write_at(self, offset, data):
        self.file.seek(offset)
        self.file.write(data)

    def abort(self):
        """Nothing is left of it."""
        try:
            self.file.close()
        except OSError:  # no room for its last bytes
            pass
        try:
            os.remove(self.hidden_path)
        except OSError:  # it was finished
            pass

    def finish(self):
        """Put it in the place of the old file."""
        self.file.close()
        getattr(os, "replace", os.rename)(self.hidden_path, self.path)  # MicroPython's rename replaces, on FAT, too


class FileServer:
    """The directory `root` and what is done in it; see build."""

    def __init__(self, root, limit_len):
        self.root = root.rstrip("/")
        self.limit_len = limit_len
        self.uploads = 0
        self.changes = bytearray(_CHANGES)  # of the files with the same _slot
        try:
            names = _names(self.root)
        except OSError:
            raise ValueError("there is no directory " + root) from None
        for name in names:
            is_ours = name.startswith(_TEMPORARY) and name[len(_TEMPORARY) :].isdigit()
            if is_ours and _stat(self.root + "/" + name):  # of an upload that a reset ended
                os.remove(self.root + "/" + name)

    def path_of(self, request):
        """The path of the file that the request names, or None."""
        name = request.opt.uri_path[-1]
        return self.root + "/" + name if is_name(name) else None

    def room(self):
        """How long an upload may be."""
        if not hasattr(os, "statvfs"):
            return self.limit_len
        stat = os.statvfs(self.root or "/")
        return min(self.limit_len, stat[1] * stat[4])  # f_frsize, f_bavail

    def links(self, request, response):
        """Handler of GET /files."""
        links = []
        for name in _names(self.root):
            stat = _stat(self.root + "/" + name) if is_name(name) else None
            if stat:
                links.append("<%s>;sz=%d" % (coap.Message(uri_path=("files", name), remote="h").get_request_uri()[8:],
                                             stat[_SIZE]))  # fmt: skip
        return ",".join(links)

    def read(self, request, response):
        """Handler of GET /files/<name>."""
        path = self.path_of(request)
        stat = _stat(path) if path else None
        return _FileSource(path, stat, self.changes[_slot(path)]) if stat else coap.NOT_FOUND

    def open_upload(self, request):
        """The sink of what is put to /files/<name>, or a code."""
        try:
            path = self.path_of(request)
        except coap.FormatError:
            return coap.BAD_OPTION
        if path is None or not _is_free(path) or request.code != coap.PUT:
            return coap.FORBIDDEN
        self.uploads += 1
        return _Upload(path, "%s/%s%d" % (self.root, _TEMPORARY, self.uploads), self.room())

    def write(self, request, response):
        """Handler of PUT /files/<name>."""
        upload = request.payload
        is_new = _stat(upload.path) is None
        upload.finish()
        self.count_change(upload.path)
        return coap.CREATED if is_new else coap.CHANGED

    def delete(self, request, response):
        """Handler of DELETE /files/<name>."""
        path = self.path_of(request)
        if path is None or not _stat(path):
            return coap.NOT_FOUND
        os.remove(path)
        self.count_change(path)
        return None

    def count_change(self, path):
        """Give the file another ETag than it had before, though size and time may be the same."""
        self.changes[_slot(path)] = (self.changes[_slot(path)] + 1) & 255


def build(endpoint, blocks, root, limit_len=1 << 20, read_only=False):
    """Register /files on `endpoint` (coap.Endpoint), with `blocks` (coap_block.attach) attached to it.

    root       the directory; limit_len  the longest upload in bytes, less if the disk has less
    Raises ValueError if there is no such directory.
    """
    server = FileServer(root, limit_len)
    endpoint.resource("files", ct=coap.LINKS, rt="files").get(server.links)
    file = endpoint.resource("files/<name>", ct=coap.OCTETS)
    file.get(server.read)
    if not read_only:
        file.put(server.write)
        file.delete(server.delete)
        blocks.sink(file)(server.open_upload)


def main(words):
    """Serve what the command line names until Ctrl-C; returns the exit code."""
    import coap_block

    port = words[1] if len(words) == 2 else "5683"
    if len(words) not in (1, 2) or not 0 < coap._number(port) < 65536:
        print("usage: file_server.py DIRECTORY [PORT], with a port from 1 to 65535")
        return 1
    try:
        endpoint = coap.Endpoint(int(port))
        endpoint.log = print
        build(endpoint, coap_block.attach(endpoint), words[0])
    except ValueError as problem:
        print(problem)
        return 1
    except OSError as problem:
        print("cannot serve port %s (%s): stop what uses it, or give another port" % (port, problem))
        return 1
    print("serving %s at coap://0.0.0.0:%s/files" % (words[0], port))
    try:
        while True:
            endpoint.process()
    except KeyboardInterrupt:
        print("stopped")
        return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
