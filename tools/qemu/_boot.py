"""Frozen into the emulated board: mounts a file system that lies in RAM beside the heap, and stays over a reset."""

import sys

import uctypes
import vfs

BEGIN = 0x21000000  # the PSRAM of the MPS2
BLOCK_LEN = 4096
BLOCKS = 212  # 848 KB, as on a Pico W


class Flash:
    """The RAM as a block device."""

    def __init__(self):
        self.data = uctypes.bytearray_at(BEGIN, BLOCK_LEN * BLOCKS)

    def readblocks(self, block, buffer, offset=0):
        begin = block * BLOCK_LEN + offset
        buffer[:] = memoryview(self.data)[begin : begin + len(buffer)]

    def writeblocks(self, block, buffer, offset=0):
        begin = block * BLOCK_LEN + offset
        self.data[begin : begin + len(buffer)] = buffer

    def ioctl(self, request, argument):
        return {4: BLOCKS, 5: BLOCK_LEN}.get(request, 0)


flash = Flash()
try:
    vfs.mount(vfs.VfsLfs2(flash, progsize=256), "/")
except OSError:  # it is new
    vfs.VfsLfs2.mkfs(flash, progsize=256)
    vfs.mount(vfs.VfsLfs2(flash, progsize=256), "/")
sys.path.append("/lib")
