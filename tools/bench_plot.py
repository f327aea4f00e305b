"""Draws the measurements: servers, codecs, clients, and how the cost of a request grows, as one SVG."""

from bench_process import BenchError

SERVERS = (
    ("this, MicroPython", "server ours"),
    ("this, CPython", "server ours CPython"),
    ("libcoap, C", "server libcoap"),
    ("node-coap, Node.js", "server node-coap"),
    ("aiocoap, CPython", "server aiocoap"),
    ("CoAPthon3, CPython", "server CoAPthon3"),
)
ECHO = ("bare echo, MicroPython", "server echo")
CODECS = (
    ("this, MicroPython", "codec ours"),
    ("this, CPython", "codec ours CPython"),
    ("coap-packet, Node.js", "codec coap-packet"),
    ("aiocoap, CPython", "codec aiocoap"),
    ("CoAPthon3, CPython", "codec CoAPthon3"),
)
CLIENTS = (
    ("this, MicroPython", "client ours"),
    ("this, CPython", "client ours CPython"),
    ("aiocoap, CPython", "client aiocoap"),
)
# What there is beside the request: its name, then how many of it there are in which group; the first is 1.0
GROWTH = (
    (
        "resources",
        (1, "server ours 2 MB"),
        (10, "server 10 resources"),
        (100, "server 100 resources"),
        (1000, "server 1000 resources"),
    ),
    (
        "observers",
        (0, "server 0 observers"),
        (1, "server 1 observer"),
        (8, "server 8 observers"),
        (64, "server 64 observers"),
    ),
    (
        "open exchanges",
        (0, "server 256 KB"),
        (1, "server 1 open exchange"),
        (4, "server 4 open exchanges"),
        (16, "server 16 open exchanges"),
    ),
)
OURS, OTHERS = "#1f77b4", "#b0b0b0"
SETTINGS = {
    "svg.hashsalt": "coap",  # the same figures make the same file
    "svg.fonttype": "none",  # text stays text: a quarter of the bytes
    "font.size": 9,
}


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
    """Draws the CPU time of a GET beside more and more of other things, as a multiple of that beside none."""
    for (label, *groups), marker in zip(GROWTH, "os^"):
        points = [(count, medians[group]["cpu_us"]) for count, group in groups if group in medians]
        if points:
            counts, took_us = zip(*points)
            axes.plot(counts, [one_us / took_us[0] for one_us in took_us], marker=marker, label=label)
    axes.set_xscale("symlog", linthresh=1)
    axes.set_xlim(left=-0.2)
    axes.set_xticks([0, 1, 10, 100, 1000], ["0", "1", "10", "100", "1,000"])
    axes.minorticks_off()
    axes.set_ylim(0, 2)
    axes.legend(frameon=False)
    axes.set_xlabel("how many there are")
    axes.set_title("server: CPU per GET beside others", loc="left")
    axes.spines[["top", "right"]].set_visible(False)


def draw(medians, path, caption):
    """Writes the SVG. medians: {group: {name: median}}. Raises BenchError without matplotlib."""
    try:
        import matplotlib
    except ImportError:
        raise BenchError("matplotlib is missing: make venv") from None
    matplotlib.use("svg")
    matplotlib.rcParams |= SETTINGS
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(3, 2, figsize=(10, 8), layout="constrained")
    bars(axes[0][0], SERVERS, medians, "rps_w16", "server: GET per second, 16 outstanding")
    bars(axes[0][1], (ECHO, *SERVERS), medians, "cpu_us", "server: CPU per GET, microseconds")
    bars(axes[1][0], CODECS, medians, "index", "messages decoded per second of CPU")
    bars(axes[1][1], CODECS, medians, "write", "messages encoded per second of CPU")
    bars(axes[2][0], CLIENTS, medians, "rps", "client: GET per second, one after the other")
    growth(axes[2][1], medians)
    figure.supxlabel(caption, fontsize="small", color="#606060")
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
