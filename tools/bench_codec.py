"""Measures codecs: messages per second of CPU time, over the corpus of tools/bench/representative.py."""

import runpy

from bench_process import PROGRAMS, cpython, json_of, micropython, node


def datagrams():
    """Returns the corpus, each datagram as hexadecimal text."""
    corpus = runpy.run_path(str(PROGRAMS / "representative.py"))["DATAGRAMS"]
    return [datagram.hex() for datagram in corpus]


def measure(programs):
    """Runs all programs; returns {group: messages per second}. programs: {group: command}."""
    return {group: json_of(command) for group, command in programs.items()}


def main_programs():
    """Returns the programs that the main ratios need; each figure takes about a tenth of a second or two."""
    return {
        "codec ours": micropython("codec.py", 5000),
        "codec aiocoap": cpython("codec_aiocoap.py", 1000),
        "codec ours CPython": cpython("codec.py", 5000),
    }


def measure_main():
    """Returns {group: messages per second} of what the main ratios need."""
    return measure(main_programs())


def measure_all():
    """Returns {group: messages per second} of every codec."""
    others = {
        "codec CoAPthon3": cpython("codec_coapthon.py", 1000),
        "codec coap-packet": node("codec_node.js", 20000, *datagrams()),
    }
    return measure(main_programs() | others)
