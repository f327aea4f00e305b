# ruff: noqa: F821  include and module are given by MicroPython's build
"""Freezes the sensor server and all of lib/ into a firmware; README.md has the command.

main.py is not frozen: a firmware that always starts it could only be stopped by flashing another.
"""

import os

include("$(PORT_DIR)/boards/manifest.py")

for name in sorted(os.listdir("../../lib")):
    if name.endswith(".py"):
        module(name, base_path="../../lib", opt=3)
module("sensor_server.py", base_path="..", opt=3)
module("oscore_setup.py", base_path="..", opt=3)
module("coaps_setup.py", base_path="..", opt=3)
module("board.py", opt=3)
