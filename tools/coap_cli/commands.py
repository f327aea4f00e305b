"""The commands: each reads its arguments, opens an endpoint and hands over to the file that does the work."""

import functools
import os
import sys

import click

import coap

from . import arguments, exits
from .connection import GROUPS, connected
from .output import Output, note
from .requests import build, perform

SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


@click.group(context_settings=SETTINGS, epilog=exits.TABLE)
@click.version_option(coap.VERSION, prog_name="coap")
def commands():
    """CoAP on the command line.

    The payload goes to standard output, everything else to stderr. In a terminal CBOR, JSON and link format are
    shown readable and bytes as a dump; into a pipe or a file they go as they came. coap:// may be left out of a URI.

    --oscore FILE protects all but ping end to end: FILE has the keys as lib/coap_oscore_keys.py shows, and beside it,
    under its name with .seq, are kept the sequence numbers. Whoever copies FILE copies these, too.
    """


command = functools.partial(commands.command, epilog="Exit codes: see coap --help.")


def end(exit_code):
    """End the command."""
    raise click.exceptions.Exit(exit_code)


def send(method, uri, timeout_s, output, connection, **request):
    """Send one request and show the response."""
    with connected(uri, **connection) as endpoint:
        end(perform(endpoint, build(method, uri, **request), timeout_s, output))


def request_command(method, name, sentence, takes_payload):
    """Make the command that sends requests of a method."""
    options = [arguments.uri, arguments.request, arguments.output, arguments.timeout, arguments.connection]
    if takes_payload:
        options.insert(1, arguments.payload)

    @command(name, help=sentence)
    @arguments.several(*options)
    def run(uri, path, is_raw, is_pretty, is_verbose, is_ipv6, interface, oscore_path, timeout_s, **request):
        connection = {"is_verbose": is_verbose, "is_ipv6": is_ipv6, "interface": interface, "oscore_path": oscore_path}
        send(method, uri, timeout_s, Output(path, is_raw, is_pretty), connection, **request)


request_command(coap.GET, "get", "Get a resource.", False)
request_command(coap.PUT, "put", "Put a payload: set or create a resource.", True)
request_command(coap.POST, "post", "Post a payload: have a resource process it.", True)
request_command(coap.DELETE, "delete", "Delete a resource.", False)
request_command(coap.FETCH, "fetch", "Fetch a part of a resource, which the payload describes (RFC 8132).", True)


@command()
@arguments.uri
@click.option("-c", "--count", type=click.IntRange(1), default=3, show_default=True, help="How many.")
@click.option("-i", "--interval", "interval_s", type=arguments.Seconds(), default=1.0, help="Between two, default 1 s.")
@click.option("-t", "--timeout", "timeout_s", type=arguments.Seconds(), default=5.0, help="Of each, default 5 s.")
@arguments.plain_connection
def ping(uri, count, interval_s, timeout_s, **connection):
    """Ask whether a host is there: an empty message, which it answers with a Reset."""
    from .ping import ping as run

    with connected(uri, **connection) as endpoint:
        end(run(endpoint, uri, count, interval_s, timeout_s))


@command()
@arguments.uri
@click.option("-A", "--accept", type=arguments.ContentFormat(), help="Ask for this Content-Format: number or name.")
@click.option("-N", "--non", is_flag=True, help="Register non-confirmable.")
@click.option("-n", "--count", type=click.IntRange(1), help="End after so many values.")
@click.option("--for", "duration_s", type=arguments.Seconds(), help="End after so many seconds.")
@click.option("--plot", "is_plot", is_flag=True, help="Draw the values live in the terminal.")
@arguments.rendering
@arguments.connection
def observe(uri, accept, non, count, duration_s, is_plot, is_raw, is_pretty, **connection):
    """Observe a resource: print its value, and each change until Ctrl-C (RFC 7641).

    A value is a line, CBOR and JSON readable, in a pipe too; with --raw its bytes as they came.
    """
    from .observation import observe as run

    mtype = coap.NON if non else None
    with connected(uri, **connection) as endpoint:
        end(run(endpoint, uri, count, duration_s, is_plot, is_raw, accept=accept, mtype=mtype))


@command()
@arguments.uri
@click.argument("file", required=False)
@click.option("-C", "--continue", "is_continued", is_flag=True, help="Go on behind what FILE has already.")
@click.option("--etag", type=arguments.HexBytes(), default=b"", help="... if it is still the same on the server.")
@arguments.timeout
@arguments.connection
def download(uri, file, is_continued, etag, timeout_s, **connection):
    """Download a resource of any size in blocks (RFC 7959).

    FILE is where it goes: default the last segment of the path, - is standard output.
    """
    from .transfer import download as run

    with connected(uri, **connection) as endpoint:
        end(run(endpoint, uri, file, is_continued, etag, timeout_s, connection["is_verbose"]))


@command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False))
@arguments.uri
@click.option("--post", "is_post", is_flag=True, help="By POST; default: PUT.")
@click.option("-f", "--content-format", type=arguments.ContentFormat(), help="Content-Format: number or name.")
@arguments.output
@arguments.timeout
@arguments.connection
def upload(file, uri, is_post, content_format, path, is_raw, is_pretty, timeout_s, **connection):
    """Upload a file of any size in blocks (RFC 7959)."""
    from .transfer import upload as run

    request = build(coap.POST if is_post else coap.PUT, uri, content_format=content_format)
    with connected(uri, **connection) as endpoint:
        output = Output(path, is_raw, is_pretty)
        end(run(endpoint, request, file, timeout_s, output, connection["is_verbose"]))


@command()
@click.argument("host", required=False, type=arguments.Uri())
@click.argument("filters", nargs=-1, metavar="[NAME=VALUE]...")
@click.option("-m", "--multicast", "is_group", is_flag=True, help="Ask all hosts; HOST may be a group, default all.")
@arguments.timeout
@arguments.connection
def discover(host, filters, is_group, timeout_s, is_ipv6, **connection):
    """List what a host has, or what all hosts of the network have (RFC 6690).

    NAME=VALUE are attributes that it is to have, as in rt=temperature or if=sensor; a value may end in *.
    In a terminal it is a table; in a pipe a line for each link: URI, rt, if, ct, title, obs, between tabs.
    """
    from .discovery import find_group, find_host, show_links, split_filters

    if host and "=" in host:  # a filter, and no host
        host, filters = None, (host.removeprefix("coap://"), *filters)
    if not host and not is_group:
        raise click.UsageError("give a host, or --multicast")
    host = host or "coap://" + GROUPS[is_ipv6]
    wanted = split_filters(filters)
    with connected(host, is_ipv6=is_ipv6, **connection) as endpoint:
        find = find_group if is_group else find_host
        show_links(find(endpoint, host, wanted, timeout_s))


def leave_quietly():
    """The reader of standard output has gone: keep Python from complaining when it flushes."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return exits.PIPE_CLOSED


def main(words=None):
    """Run the command line, `words` or those of the shell; returns the exit code."""
    if sys.stdout is None:  # closed by >&-
        sys.stdout = open(os.devnull, "w")
    try:
        return commands(words, prog_name="coap", standalone_mode=False) or exits.DONE
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return exits.WRONG_USE
    except (click.Abort, KeyboardInterrupt):
        note("interrupted")
        return exits.INTERRUPTED
    except exits.PipeClosed:
        return leave_quietly()
    except Exception as error:
        failure = exits.failure(error)
        if failure is None:
            raise
        note(failure.sentence)
        return failure.exit_code
