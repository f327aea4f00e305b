"""What the measurements have to reach: rows of ratios and bytes, each with its limits and the verdict.

A speed is a ratio of two figures of one round, so that a slow or busy computer does not count; a row's value is
the median over the rounds. Bytes of heap do not vary: their row is the figure itself.
"""

import collections
import statistics

KB = 1024

OSCORE = "oscore MicroPython"

# over: the figures divided, names as in {"server ours": {"cpu_us": 17.0}}; below is None for a figure by itself
# sign: "<=" or ">="; must, aim: the limits, None where there is none
Row = collections.namedtuple("Row", "what over below sign must aim", defaults=("", None, None))

SPEED = (
    # server
    Row("server CPU per GET / bare echo", "server ours.cpu_us", "server echo.cpu_us", "<=", 3.2, 2.5),
    Row("... CPython", "server ours CPython.cpu_us", "server echo CPython.cpu_us"),
    Row("... echo that polls / bare echo", "server echo with poll.cpu_us", "server echo.cpu_us"),
    Row("... libcoap / bare echo", "server libcoap.cpu_us", "server echo.cpu_us"),
    Row("server rps, 16 outstanding / libcoap", "server ours.rps_w16", "server libcoap.rps_w16", ">=", 0.65, 1.0),
    Row("server rps, 16 outstanding / aiocoap", "server ours.rps_w16", "server aiocoap.rps_w16", ">=", 15, 25),
    Row("server rps, 16 outstanding / node-coap", "server ours.rps_w16", "server node-coap.rps_w16", ">=", 5, 8),
    Row("server rps, 16 outstanding / CoAPthon3", "server ours.rps_w16", "server CoAPthon3.rps_w16"),
    Row("server rps on CPython / aiocoap", "server ours CPython.rps_w16", "server aiocoap.rps_w16", ">=", 10, 18),
    Row("latency, 1 outstanding / bare echo", "server ours.latency_us", "server echo.latency_us", "<=", 1.25, 1.1),
    # what the cost of a request could grow with
    Row("CPU per GET, 2 MB, quarters / 256 KB", "server 2 MB quarters.cpu_us", "server 256 KB.cpu_us", "<=", 1.2, 1.1),
    Row("... 2 MB, collected when it is full / 256 KB", "server ours 2 MB.cpu_us", "server 256 KB.cpu_us"),
    Row("CPU per GET, 1,000 resources / 1", "server 1000 resources.cpu_us", "server ours 2 MB.cpu_us", "<=", 1.05, 1.0),
    Row("CPU per GET, 64 observers / 0", "server 64 observers.cpu_us", "server 0 observers.cpu_us", "<=", 1.05, 1.0),
    Row("CPU per GET, 16 exchanges of its own / 0", "server 16 open exchanges.cpu_us", "server 256 KB.cpu_us"),
    Row("... 16 / 1", "server 16 open exchanges.cpu_us", "server 1 open exchange.cpu_us"),
    Row("CPU per GET, coap_observe attached / not", "server 0 observers.cpu_us", "server 256 KB.cpu_us"),
    # codec
    Row("index into a kept message / aiocoap's decode", "codec ours.index", "codec aiocoap.index", ">=", 6, 8),
    Row("write from a kept message / aiocoap's build", "codec ours.write", "codec aiocoap.write", ">=", 7, 10),
    Row("decode and read five fields / aiocoap", "codec ours.decode", "codec aiocoap.decode", ">=", 2, 3),
    Row("construct with options, encode / aiocoap", "codec ours.build", "codec aiocoap.build", ">=", 1.5, 2),
    Row("index on CPython / aiocoap's decode", "codec ours CPython.index", "codec aiocoap.index", ">=", 8, 10),
    Row("write on CPython / aiocoap's build", "codec ours CPython.write", "codec aiocoap.write", ">=", 5, 7),
    Row("decode and read on CPython / aiocoap", "codec ours CPython.decode", "codec aiocoap.decode"),
    Row("construct, encode on CPython / aiocoap", "codec ours CPython.build", "codec aiocoap.build"),
    Row("index / CoAPthon3's decode", "codec ours.index", "codec CoAPthon3.index"),
    Row("index / coap-packet's parse on Node.js", "codec ours.index", "codec coap-packet.index"),
    Row("write / coap-packet's generate on Node.js", "codec ours.write", "codec coap-packet.write"),
    # client
    Row("client rps / aiocoap's client", "client ours.rps", "client aiocoap.rps", ">=", 4, 8),
    Row("... on CPython / aiocoap's client", "client ours CPython.rps", "client aiocoap.rps"),
    Row("... server on another processor", "client ours, 2 processors.rps", "client aiocoap, 2 processors.rps"),
    Row("CPU per request, aiocoap's client / client", "client aiocoap.cpu_us", "client ours.cpu_us"),
    # blocks, OSCORE, coaps
    Row("1 MB up (Block1) / aiocoap's client", "blocks client ours.up_mb_s", "blocks client aiocoap.up_mb_s"),
    Row("1 MB down (Block2) / aiocoap's client", "blocks client ours.down_mb_s", "blocks client aiocoap.down_mb_s"),
    Row("1 MB up to our server / libcoap's", "blocks server ours.up_mb_s", "blocks server libcoap.up_mb_s"),
    Row("1 MB down from our server / libcoap's", "blocks server ours.down_mb_s", "blocks server libcoap.down_mb_s"),
    Row("OSCORE, server, protected / plain", f"{OSCORE} protected.server_us", f"{OSCORE} plain.server_us"),
    Row("OSCORE, client, protected / plain", f"{OSCORE} protected.client_us", f"{OSCORE} plain.client_us"),
    Row("coaps, CPU of the server / coap", "coaps protected.server_cpu_us", "coaps plain.server_cpu_us"),
    Row("coaps, CPU of the client / coap", "coaps protected.cpu_us", "coaps plain.cpu_us"),
)
# Bytes of heap on 32 bits, as on a board
ALLOCATED = (
    Row("allocated per server exchange beyond recvfrom", "memory 32 bits.server", None, "<=", 0, 0),
    Row("... beside 1,000 other resources", "memory 32 bits.server_1000_resources", None, "<=", 0, 0),
    Row("... beside 64 observers", "memory 32 bits.server_64_observers", None, "<=", 0, 0),
    Row("... beside 16 exchanges of its own", "memory 32 bits.server_16_open", None, "<=", 0, 0),
    Row("... per index of a message", "memory 32 bits.index", None, "<=", 0, 0),
    Row("... per write into a kept buffer", "memory 32 bits.write", None, "<=", 0, 0),
    Row("... per idle tick", "memory 32 bits.tick", None, "<=", 0, 0),
    Row("... per retransmission", "memory 32 bits.retransmission", None, "<=", 0, 0),
    Row("... per duplicate answered", "memory 32 bits.duplicate", None, "<=", 0, 0),
    Row("... per client exchange, prepared message", "memory 32 bits.client_prepared", None, "<=", 600, 300),
    Row("... per client exchange, from a URI", "memory 32 bits.client_uri", None, "<=", 1536, 1024),
)


def figure(figures, name):
    """Returns figures["server ours"]["cpu_us"] for "server ours.cpu_us", None when it was not measured."""
    group, _, field = name.rpartition(".")
    return figures.get(group, {}).get(field)


def memory(rounds):
    """Returns the rows of memory: what is frozen, and what is an estimate, depends on what `make size32` has built."""
    is_measured = any(figure(figures, "size.frozen") is not None for figures in rounds)
    estimate, how = ("", "") if is_measured else (", estimate", ": make size32")
    return (
        Row("kept after importing coap.mpy", "size.coap", None, "<=", 18 * KB, 16 * KB),
        Row("... coap, coap_observe and coap_block", "size.coap_observe_block", None, "<=", 26 * KB, 23 * KB),
        Row(f"... the same, frozen{how}", "size.frozen", None, "<=", 6 * KB, 5 * KB),
        Row(f"smallest heap serving sensor_server{estimate}", "size.serving", None, "<=", 56 * KB, 46 * KB),
        Row(f"smallest heap compiling coap.py{estimate}", "size.compiling", None, "<=", 130 * KB, 110 * KB),
        *ALLOCATED,
    )


def values(row, rounds):
    """Returns the row's value in each round that has its figures."""
    found = []
    for figures in rounds:
        over, below = figure(figures, row.over), figure(figures, row.below) if row.below else 1
        if over is not None and below is not None:
            found.append(over / below)
    return found


def reaches(value, sign, limit):
    """Returns whether a value is on the right side of a limit; to be 1.0 it must be so as it is printed."""
    value = round(value, 2)
    return value <= limit if sign == "<=" else value >= limit


def verdict(row, value):
    """Returns in words how a value stands to what its row asks for; "" when that is nothing."""
    if row.must is None:
        return ""
    if reaches(value, row.sign, row.aim):
        return "within, aim reached"
    if reaches(value, row.sign, row.must):
        return "within"
    missed = f"{abs(value - row.must):,.2f}".removesuffix(".00")
    return f"OVER by {missed}" if row.sign == "<=" else f"SHORT by {missed}"


def judge(rounds, rows):
    """Returns a dict for each row: what, median, least, most, n, sign, must, aim, verdict; n is 0 if not measured."""
    judged = []
    for row in rows:
        found = values(row, rounds)
        entry = {"what": row.what, "n": len(found), "sign": row.sign, "must": row.must, "aim": row.aim}
        if found:
            entry |= {"median": statistics.median(found), "least": min(found), "most": max(found)}
        judged.append(entry | {"verdict": verdict(row, entry["median"]) if found else "not measured"})
    return judged


def misses(judged):
    """Returns the entries that miss what they must reach."""
    return [entry for entry in judged if entry["verdict"].startswith(("OVER", "SHORT"))]


def limit(sign, value):
    """Returns a limit as text, as in "<= 3.2"."""
    return "" if value is None else f"{sign} {value:g}"


def summary(judged):
    """Returns a sentence that counts the rows with limits, and names those that are not met."""
    bound = [entry for entry in judged if entry["must"] is not None and entry["n"]]
    missed = misses(bound)
    aims = sum(entry["verdict"].endswith("aim reached") for entry in bound)
    sentence = f"{len(bound) - len(missed)} of {len(bound)} rows are met, {aims} of them reach the aim"
    unmeasured = [entry["what"] for entry in judged if entry["must"] is not None and not entry["n"]]
    sentence += f"; not measured: {', '.join(unmeasured)}" if unmeasured else ""
    return sentence + (f"; not met: {', '.join([entry['what'] for entry in missed])}" if missed else "")


def print_ratios(judged):
    """Prints the table of ratios."""
    columns = "%-46s %8s   %-18s %9s %9s  %s"
    print(columns % ("ratio", "median", "least .. most", "must", "aim", ""))
    for entry in judged:
        limits = limit(entry["sign"], entry["must"]), limit(entry["sign"], entry["aim"])
        median = "%.2f" % entry["median"] if entry["n"] else "-"
        spread = "%.2f .. %.2f" % (entry["least"], entry["most"]) if entry["n"] else ""
        print(columns % (entry["what"], median, spread, *limits, entry["verdict"]))


def print_bytes(judged):
    """Prints the table of bytes."""
    columns = "%-46s %9s %9s %9s  %s"
    print(columns % ("bytes of heap, 32 bits", "measured", "must", "aim", ""))
    for entry in judged:
        measured = "%.0f" % entry["median"] if entry["n"] else "-"
        print(columns % (entry["what"], measured, entry["must"], entry["aim"], entry["verdict"]))
