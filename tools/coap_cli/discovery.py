"""coap discover: the links of a host or of a group, as a table or a line for each."""

import sys

import coap
import coap_links

from . import exits
from .connection import base_uri
from .exits import Failure
from .output import note, put_line
from .readable import printable
from .requests import GROUP_S, ask, ask_group
from .trace import host_text

MORE = 8  # in Block2: not the last
COLUMNS = ("rt", "if", "ct", "title", "obs")


def split_filters(filters):
    """A dict of the user's NAME=VALUE; raises Failure."""
    for text in filters:
        if "=" not in text.strip("="):
            raise Failure(exits.WRONG_USE, f"a filter is NAME=VALUE, as rt=temperature, not {text}")
    return dict([text.split("=", 1) for text in filters])


def question(host, wanted):
    """The request for the links of a host or group that pass the filters (RFC 6690 section 4.1)."""
    queries = [f"{name}={wanted[name]}" for name in wanted]
    return coap.Message(coap.GET, uri=host, uri_path=(".well-known", "core"), uri_query=queries)


def links_in(response, wanted):
    """The links in a response; raises Failure, coap.FormatError."""
    base = base_uri(response)
    if exits.by_code(response.code) != exits.DONE:
        raise Failure(exits.by_code(response.code), f"{base} answers {coap.code_text(response.code)}")
    return coap_links.find(coap_links.parse(response.payload, base), **wanted)


def find_host(endpoint, host, wanted, timeout_s):
    """The links of one host; raises Failure, coap.FormatError."""
    return links_in(ask(endpoint, question(host, wanted), timeout_s), wanted)


def find_group(endpoint, host, wanted, timeout_s):
    """The links of all hosts of a group that answer in time; raises Failure if none has any."""
    request = question(host, wanted)
    request.remote = endpoint.resolve(request.remote)
    if not coap.is_multicast(request.remote):
        raise Failure(exits.WRONG_USE, f"{host} is no group; leave --multicast out, or the host: all are asked then")
    links = []
    for response in ask_group(endpoint, request, timeout_s):
        try:
            if (response.opt.block2 or 0) & MORE:  # who wants the rest asks the host itself (RFC 7959 section 2.8)
                links += find_host(endpoint, base_uri(response), wanted, timeout_s or GROUP_S)
            else:
                links += links_in(response, wanted)
        except (Failure, coap.Error) as error:
            note(f"{host_text(response.remote)} is left out: {error}")
    if not links:
        raise Failure(exits.TIMEOUT, "nobody with such links answered in time")
    return links


def cells(link):
    """The columns of a link: its URI, and the values of its attributes."""
    shown = [link.uri]
    for name in COLUMNS:
        values = link.attributes.get(name)
        shown.append("" if values is None else " ".join(values) or "yes")
    return [printable(cell).replace("\n", " ").replace("\t", " ") for cell in shown]


def show_links(links):
    """Write the links, sorted by host, to standard output; a count to stderr."""
    rows = [cells(link) for link in sorted(links, key=lambda link: link.base)]
    if sys.stdout.isatty():
        show_table(rows)
    else:
        for row in rows:
            put_line("\t".join(row))
    hosts = len({link.base for link in links})
    note(f"{len(rows)} link{'' if len(rows) == 1 else 's'}" + (f" of {hosts} hosts" if hosts > 1 else ""))


def show_table(rows):
    """Print a table."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    shown = [i for i in range(len(COLUMNS) + 1) if i < 4 or any([row[i] for row in rows])]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for i in shown:
        table.add_column(("URI", *COLUMNS)[i], overflow="fold")
    for row in rows:
        table.add_row(*[Text(row[i]) for i in shown])  # Text: what a host sent is no markup
    Console().print(table)
