"""Runs a program of this folder on MicroPython with its names numbered otherwise: layout.py PAD PROGRAM ARGUMENTS...

MicroPython caches where it found a name in a table by the name's number, modulo 128, and numbers names in the order in
which it meets them. Which of them collide is chance and changes the speed of a program by 15 % and more, without a
change in it. So what is measured is measured with several numberings: PAD names come before all others.
"""

import sys


class Names:
    """Holds attributes, whose names are numbered when they are set."""


def number_names(count):
    names = Names()
    for number in range(count):
        setattr(names, "pad%d" % number, None)


number_names(int(sys.argv[1]))
program = sys.argv[2]
del sys.argv[:2]
__import__(program)
