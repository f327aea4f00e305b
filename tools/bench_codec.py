"""Measures codecs: messages per second of CPU time, over the corpus of tools/bench/representative.py."""

import runpy
import statistics

from bench_process import PROGRAMS, cpython, json_of, micropython, node

TURNS = 3


def datagrams():
    """Returns the corpus, each datagram as hexadecimal text."""
    corpus = runpy.run_path(str(PROGRAMS / "representative.py"))["DATAGRAMS"]
    return [datagram.hex() for datagram in corpus]


def measure(programs):
    """Runs all programs in TURNS turns; returns {group: median of its turns}. programs: {group: command}."""
    turns = [{group: json_of(command) for group, command in programs.items()} for _ in range(TURNS)]
    return {
        group: {name: statistics.median(turn[group][name] for turn in turns) for name in turns[0][group]}
        for group in programs
    }


def main_programs():
    """Returns the programs that the main ratios need."""
    return {
        "codec ours": micropython("codec.py", 2000),
        "codec aiocoap": cpython("codec_aiocoap.py", 300),
        "codec ours CPython": cpython("codec.py", 2000),
    }


def measure_main():
    """Returns {group: messages per second} of what the main ratios need."""
    return measure(main_programs())


def measure_all():
    """Returns {group: messages per second} of every codec."""
    others = {
        "codec CoAPthon3": cpython("codec_coapthon.py", 300),
        "codec coap-packet": node("codec_node.js", 10000, *datagrams()),
    }
    return measure(main_programs() | others)
