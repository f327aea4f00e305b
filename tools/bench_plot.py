"""Draws the measurements: servers, codecs, and how the cost of a request grows, as one SVG."""

from bench_process import BenchError

SERVERS = (
    ("bare echo", "server echo"),
    ("this, MicroPython", "server ours"),
    ("this, CPython", "server ours CPython"),
    ("libcoap, C", "server libcoap"),
    ("node-coap, Node.js", "server node-coap"),
    ("aiocoap, CPython", "server aiocoap"),
    ("CoAPthon3, CPython", "server CoAPthon3"),
)
CODECS = (
    ("this, MicroPython", "codec ours"),
    ("this, CPython", "codec ours CPython"),
    ("coap-packet, Node.js", "codec coap-packet"),
    ("aiocoap, CPython", "codec aiocoap"),
    ("CoAPthon3, CPython", "codec CoAPthon3"),
)
GROWTH = (
    (1, "server ours 2 MB"),
    (10, "server 10 resources"),
    (100, "server 100 resources"),
    (1000, "server 1000 resources"),
)
OURS, OTHERS = "#1f77b4", "#b0b0b0"


def bars(axes, pairs, medians, field, title):
    """Draws a bar with its number for each group that was measured."""
    found = [(label, medians[group][field]) for label, group in pairs if field in medians.get(group, {})]
    labels = [label for label, _ in reversed(found)]
    lengths = [length for _, length in reversed(found)]
    colours = [OURS if label.startswith("this") else OTHERS for label in labels]
    drawn = axes.barh(labels, lengths, color=colours)
    axes.bar_label(drawn, fmt=lambda length: f"{length:,.3g}" if length < 100 else f"{length:,.0f}", padding=3)
    axes.set_xlim(right=max(lengths) * 1.2)
    axes.set_xticks([])
    axes.set_title(title, loc="left")
    axes.spines[["top", "right", "bottom"]].set_visible(False)


def growth(axes, medians):
    """Draws the CPU time of a GET by the number of resources."""
    points = [(count, medians[group]["cpu_us"]) for count, group in GROWTH if group in medians]
    axes.plot(*zip(*points), marker="o", color=OURS)
    axes.set_xscale("log")
    axes.set_ylim(0, max(cpu_us for _, cpu_us in points) * 1.5)
    axes.set_xticks([count for count, _ in points], [f"{count:,}" for count, _ in points])
    axes.minorticks_off()
    axes.set_xlabel("resources")
    axes.set_title("CPU per GET, microseconds (2 MB heap)", loc="left")
    axes.spines[["top", "right"]].set_visible(False)


def draw(medians, path):
    """Writes the SVG. medians: {group: {name: median}}. Raises BenchError without matplotlib."""
    try:
        import matplotlib
    except ImportError:
        raise BenchError("matplotlib is missing: make venv") from None
    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "coap"  # the same figures make the same file
    matplotlib.rcParams["svg.fonttype"] = "none"  # text stays text: a quarter of the bytes
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(3, 2, figsize=(12, 10.5), layout="constrained")
    bars(axes[0][0], SERVERS, medians, "rps_w16", "GET per second, 16 outstanding")
    bars(axes[0][1], SERVERS, medians, "cpu_us", "CPU of the server per GET, microseconds")
    bars(axes[1][0], CODECS, medians, "index", "messages decoded per second of CPU")
    bars(axes[1][1], CODECS, medians, "write", "messages encoded per second of CPU")
    bars(axes[2][0], SERVERS, medians, "latency_us", "median latency, microseconds, 1 outstanding")
    growth(axes[2][1], medians)
    figure.savefig(path, metadata={"Date": None})
