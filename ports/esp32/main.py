"""Starts the sensor server when the board boots: this file goes to its root folder as it is, not compiled."""

import sys

OLDEST = (1, 23)  # README.md says why

version = tuple(sys.implementation.version[:2])
if version < OLDEST:
    print("MicroPython %d.%d is too old, take %d.%d or newer: https://micropython.org/download/" % (version + OLDEST))
else:
    import gc

    # Often, so that what importing keeps lies close together: in a heap full of holes no datagram finds room
    gc.threshold(gc.mem_free() // 16)

    import machine

    import board
    import sensor_server

    gc.threshold(gc.mem_free() // 4)  # less often from now on: it takes time of each request
    sensor_server.start(board.Board(), machine.reset)
