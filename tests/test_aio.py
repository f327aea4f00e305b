"""The endpoint in asyncio: requests, cancellation, serving; over transports of the test and real sockets."""

import asyncio

import check
import coap
import coap_aio
import fake
from loopback import bound_endpoint

# For what nobody answers: gives up after 60 to 90 ms. What is answered has the RFC's time: a computer may pause.
QUICK = coap.Tuning(ack_timeout_ms=20, max_retransmit=1)
PATIENCE_S = 30
SERVER = "192.0.2.1"
URI = "coap://192.0.2.1/t"


class Pair:
    """Two transports; what one sends, the other receives. `lost` are datagrams that do not arrive, by count."""

    def __init__(self):
        self.inbox = []
        self.sent = []
        self.lost = 0
        self.other = None
        self.address = None

    def sendto(self, data, peer):
        self.sent.append(bytes(data))
        if self.lost:
            self.lost -= 1
        elif peer == self.other.address:
            self.other.inbox.append((bytes(data), self.address))
        return len(data)

    def recvfrom(self, n):
        return self.inbox.pop(0) if self.inbox else None


def pair():
    """(client, server): two Aio, whose endpoints are joined."""
    ends = Pair(), Pair()
    ends[0].other, ends[1].other = ends[1], ends[0]
    made = []
    for end, name in zip(ends, ("192.0.2.9", SERVER)):
        endpoint = coap.Endpoint(sock=end)
        end.address = endpoint.resolve(name)
        made.append(coap_aio.Aio(endpoint))
    return made


def serve_text(aio, text="hello"):
    """Give `aio` a resource `t` that answers `text`; returns it."""
    resource = aio.endpoint.resource("t", ct=coap.TEXT)
    resource.get(lambda request, response: text)
    return resource


def both(function):
    """Run `await function(client, server)` while the server serves `t`; returns its result."""

    async def main():
        client, server = pair()
        serve_text(server)
        serving = asyncio.create_task(server.serve())
        try:
            return await asyncio.wait_for(function(client, server), PATIENCE_S)
        finally:
            serving.cancel()
            await asyncio.sleep(0)

    return asyncio.run(main())


async def failure(awaited):
    """The exception that awaiting raised, or None."""
    try:
        await awaited
    except asyncio.CancelledError as error:
        return error
    except Exception as error:
        return error


async def in_turn(aio, uri, count):
    """The codes of `count` requests, one after the other."""
    codes = []
    for _ in range(count):
        codes.append((await aio.get(uri)).code)
    return codes


async def types(tasks):
    """The types of what the tasks return."""
    found = []
    for task in tasks:
        found.append(type(await task))
    return found


async def until(is_true):
    """Let the other tasks have their turn until `is_true()`."""
    while not is_true():
        await asyncio.sleep(0.005)


async def turns(n=3):
    """Let the other tasks have their turn."""
    for _ in range(n):
        await asyncio.sleep(0)


# ---- requests ----


def test_get_when_the_server_answers_then_the_response():
    """RFC 7252 section 5: a request awaited"""

    async def main(client, server):
        response = await client.get(URI)
        return response.code, bytes(response.payload), response.opt.content_format

    check.eq(both(main), (coap.CONTENT, b"hello", coap.TEXT))


def test_methods_when_awaited_then_their_code_payload_and_options():
    """RFC 7252 section 5.8, RFC 8132: get put post delete fetch patch ipatch"""

    async def main(client, server):
        seen = []

        def note(request, response):
            seen.append((request.code, request.mtype, bytes(request.payload), request.opt.accept))

        server.endpoint.resource("all")(note)
        uri = "coap://192.0.2.1/all"
        codes = [
            (await client.get(uri, accept=60)).code,
            (await client.put(uri, "a")).code,
            (await client.post(uri, b"b", mtype=coap.NON)).code,
            (await client.delete(uri)).code,
            (await client.fetch(uri, "c")).code,
            (await client.patch(uri, "d")).code,
            (await client.ipatch(uri, "e")).code,
            (await client.get("coap://192.0.2.1/none")).code,
        ]
        return seen, codes

    seen, codes = both(main)
    expected = [
        (1, 0, b"", 60), (3, 0, b"a", None), (2, 1, b"b", None), (4, 0, b"", None), (5, 0, b"c", None),
        (6, 0, b"d", None), (7, 0, b"e", None),
    ]  # fmt: skip
    check.eq(seen, expected)
    changed = [coap.CHANGED] * 2
    check.eq(codes, [coap.CONTENT, coap.CHANGED, coap.CREATED, coap.DELETED, coap.CONTENT] + changed + [132])


def test_get_when_a_datagram_is_lost_then_it_is_retransmitted():
    """RFC 7252 section 4.2: the timer runs beside the reader"""

    async def main(client, server):
        client.endpoint.socket.lost = 1
        patient = coap.Tuning(ack_timeout_ms=20, max_retransmit=8)
        response = await client.get(URI, transport_tuning=patient)
        return bytes(response.payload), len(client.endpoint.socket.sent) >= 2

    check.eq(both(main), (b"hello", True))


def test_get_when_nobody_answers_then_timeout():
    """RFC 7252 section 4.2: given up after the last retransmission, or after timeout_ms"""

    async def main(client, server):
        begin_ms = coap.ticks_ms()
        given_up = await failure(client.get("coap://192.0.2.77/t", transport_tuning=QUICK))
        given_up_ms = coap.ticks_diff(coap.ticks_ms(), begin_ms)
        late = await failure(client.get("coap://192.0.2.77/t", timeout_ms=10))
        return type(given_up), given_up_ms, type(late), len(client.endpoint.socket.sent)

    given_up, given_up_ms, late, sent = both(main)
    check.eq((given_up, late), (coap.Timeout, coap.Timeout))
    assert 2 <= sent <= 3, sent  # after a pause of the computer nothing is repeated that is given up
    assert 55 <= given_up_ms < 10000, given_up_ms


def test_get_when_the_peer_resets_then_reset():
    """RFC 7252 section 4.2: a Reset ends the request"""

    async def main(client, server):
        sent = client.endpoint.socket.sent
        waiting = asyncio.create_task(failure(client.get("coap://192.0.2.77/t")))
        await turns()
        reset = fake.empty(coap.RST, sent[0][2] << 8 | sent[0][3])
        client.endpoint.socket.inbox.append((reset, client.endpoint.resolve("192.0.2.77")))
        return type(await waiting)

    check.eq(both(main), coap.Reset)


def test_get_when_the_response_has_an_unknown_critical_option_then_rejected():
    """RFC 7252 section 5.4.1"""

    async def main(client, server):
        def strange(request, response):
            response.add_option(9001, b"x")

        server.endpoint.resource("strange").get(strange)
        return type(await failure(client.get("coap://192.0.2.1/strange")))

    check.eq(both(main), coap.Rejected)


def test_get_when_the_name_is_not_known_then_oserror_and_nothing_left():
    """RFC 7252 section 6.2: a name that does not resolve"""

    async def main(client, server):
        def fail(remote):
            raise OSError("no such name")

        client.endpoint.resolve = fail
        error = await failure(client.get("coap://nowhere.invalid/t"))
        return isinstance(error, OSError), client._users, client._readers

    check.eq(both(main), (True, 0, []))


def test_get_when_the_arguments_are_wrong_then_value_error():
    """The caller's mistakes"""

    async def main(client, server):
        kinds = [
            type(await failure(client.get("no uri"))),
            type(await failure(client.get("coap://192.0.2.1/t", nonsense=1))),
            type(await failure(client.get("coap://224.0.1.187/t", mtype=coap.CON))),
        ]
        return kinds, (await client.get(URI)).code

    check.eq(both(main), ([ValueError, TypeError, ValueError], coap.CONTENT))


def test_get_when_no_response_is_wanted_then_none():
    """RFC 7967: no_response=26"""

    async def main(client, server):
        return await client.get(URI, no_response=26), await client.put(URI, "x", no_response=26, mtype=coap.NON)

    check.eq(both(main), (None, None))


def test_gather_when_more_requests_than_the_tables_hold_then_all_are_answered():
    """RFC 7252 section 4.7: what does not fit waits for room"""

    async def main(client, server):
        responses = await asyncio.gather(*[client.get(URI) for _ in range(20)])
        return [bytes(response.payload) for response in responses], client._users

    check.eq(both(main), ([b"hello"] * 20, 0))


def test_gather_when_one_peer_is_silent_then_the_others_are_not_held_up():
    """RFC 7252 section 4.7: several peers at once"""

    async def main(client, server):
        silent = asyncio.create_task(failure(client.get("coap://192.0.2.77/t", timeout_ms=60000)))
        await turns()
        client.endpoint.socket.lost = 0
        answered = await in_turn(client, URI, 3)
        silent.cancel()
        return answered, type(await silent)

    check.eq(both(main), ([coap.CONTENT] * 3, asyncio.CancelledError))


def test_exchange_when_a_ping_or_a_group_then_its_record():
    """RFC 7252 sections 4.3 and 8.1: messages that are no single request"""

    async def main(client, server):
        ping = await client.exchange(coap.Message(0, mtype=coap.CON), SERVER)
        group = await client.exchange(coap.Message(coap.GET, uri="coap://224.0.1.187/t"), timeout_ms=20)
        return ping.error, ping.response_type, group.responses, group.error

    check.eq(both(main), (coap.Reset, coap.RST, (), coap.Timeout))


def test_get_when_a_hook_raises_as_it_is_sent_then_it_goes_with_it():
    """The application's mistake ends the call, and nothing is sent or repeated for it any more"""

    async def main(client, server):
        client.endpoint.send(coap.Message(coap.GET, uri=URI, mtype=coap.NON, no_response=26))
        client.endpoint.on_end = lambda record: {}["mistake"]
        error = await failure(client.get("coap://192.0.2.77/t"))
        client.endpoint.on_end = None
        return type(error), client.endpoint._open, client.endpoint._queue, client._users

    check.eq(both(main), (KeyError, [], [], 0))


def test_put_when_on_end_finds_no_room_then_it_is_sent_once():
    """on_end sends, and the queue is full: that is the application's, the request goes nowhere twice"""

    async def main(client, server):
        def fail(record):
            client.endpoint.on_end = None
            raise coap.Full("of the application")

        client.endpoint.send(coap.Message(coap.GET, uri=URI, mtype=coap.NON, no_response=26))
        client.endpoint.on_end = fail
        error = await failure(client.put("coap://192.0.2.77/t", "x", transport_tuning=QUICK))
        sent = [datagram for datagram in client.endpoint.socket.sent if datagram[1] == coap.PUT]
        return type(error), len({datagram[2:4] for datagram in sent}) <= 1, client.endpoint._open, client._users

    check.eq(both(main), (coap.Full, True, [], 0))


def test_ping_when_the_peer_answers_then_how_long_it_took():
    """RFC 7252 section 4.3; as Endpoint.ping"""

    async def main(client, server):
        took_ms = await client.ping(SERVER)
        silent = await failure(client.ping("192.0.2.77", timeout_ms=20))
        return 0 <= took_ms < 20000, type(silent), client._users

    check.eq(both(main), (True, coap.Timeout, 0))


# ---- cancellation ----


def test_get_when_the_task_is_cancelled_then_its_record_is_and_others_go_on():
    """A cancelled task takes its request with it"""

    async def main(client, server):
        ended = []
        client.endpoint.on_end = ended.append
        silent = "coap://192.0.2.77/t"
        first = asyncio.create_task(client.get(silent, timeout_ms=60000, transport_tuning=coap.Tuning()))
        await turns()
        other = asyncio.create_task(client.get(URI))
        await turns(1)
        first.cancel()
        error = await failure(first)
        response = await other
        client.endpoint.next_event_ms()
        assert client.endpoint.next_event_reason != "retransmit"
        return type(error), ended[0].error, ended[0].is_done(), response.code, client._users

    check.eq(both(main), (asyncio.CancelledError, None, True, coap.CONTENT, 0))


def test_get_when_it_is_cancelled_before_it_began_or_waiting_for_room_then_nothing_is_left():
    """Cancellation at every stage"""

    async def main(client, server):
        tasks = [asyncio.create_task(client.get("coap://192.0.2.77/t")) for _ in range(20)]
        tasks[3].cancel()
        await turns()
        for task in tasks:
            task.cancel()
        for task in tasks:
            await failure(task)
        response = await client.get(URI)
        return response.code, client._users, client._readers, client._timer

    check.eq(both(main), (coap.CONTENT, 0, [], None))


def test_get_when_there_will_never_be_room_then_it_raises_instead_of_waiting():
    """coap_oscore.Exhausted, a coap.Full: its numbers are used up, or its store cannot be written"""

    class Exhausted(coap.Full):
        pass

    class Spent:
        rank = 10
        understood = 0

        def wrap(self, record, message):
            raise Exhausted

    async def main(client, server):
        client.endpoint.attach(Spent())
        error = await failure(asyncio.wait_for(client.get(URI), 10))
        return type(error) is Exhausted, client._users

    check.eq(both(main), (True, 0))


def test_get_when_all_tasks_are_cancelled_then_one_of_cleaning_up_still_ends():
    """asyncio.run cancels all tasks at the end of a loop on CPython; one of them asks once more"""
    client, server, uri = loopback()

    async def watch():
        try:
            await client.get(uri, timeout_ms=200)
        finally:
            await client.put(uri, "off", timeout_ms=400)

    async def main():
        tasks = [asyncio.create_task(failure(watch())), asyncio.create_task(client.serve())]
        await turns(5)
        others = ()
        if hasattr(asyncio, "all_tasks"):
            others = asyncio.all_tasks() - set(tasks) - {asyncio.current_task()}
        for task in [tasks[0]] + list(others) + [tasks[1]]:
            task.cancel()
        return type(await asyncio.wait_for(tasks[0], 5))

    check.eq(asyncio.run(main()), coap.Timeout)
    client.close()
    server.close()


def test_get_when_a_hook_raises_for_another_then_who_has_its_response_is_told_at_once():
    """on_end of a later request raises in the turn in which the response came"""
    client, server, uri = loopback()
    serve_text(server)

    def fail(record):
        if record.message.code == coap.PUT:
            raise KeyError("mistake")

    async def main():
        first = asyncio.create_task(client.get(uri, mtype=coap.NON))
        await turns()
        server.wake()  # the response lies in the client's socket
        client.endpoint.on_end = fail
        error = await failure(client.put("coap://127.0.0.1/", "x", mtype=coap.NON, no_response=26))
        return type(error), (await asyncio.wait_for(first, 5)).code

    check.eq(asyncio.run(main()), (KeyError, coap.CONTENT))
    client.close()
    server.close()


def test_wait_for_when_it_is_late_then_the_request_is_cancelled():
    """asyncio.wait_for around a request"""

    async def main(client, server):
        error = await failure(asyncio.wait_for(client.get("coap://192.0.2.77/t", transport_tuning=coap.Tuning()), 0.03))
        return type(error), client._users

    check.eq(both(main), (asyncio.TimeoutError, 0))


def test_wait_for_when_on_end_sends_then_nothing_is_left():
    """what is called at the end of a cancelled request may send"""

    async def main(client, server):
        def report(record):
            if record.message.code == coap.GET:
                client.send(coap.Message(coap.GET, uri=URI, mtype=coap.NON, no_response=26))

        client.endpoint.on_end = report
        error = await failure(asyncio.wait_for(client.get("coap://192.0.2.77/t", transport_tuning=coap.Tuning()), 0.03))
        client.endpoint.on_end = None
        return type(error), client._users, (await client.get(URI)).payload

    check.eq(both(main), (asyncio.TimeoutError, 0, b"hello"))


def room(ask):
    """Whether `await ask(client, tasks, uri)`, after tasks[5] of 9 to a silent peer was cancelled, is in time.

    tasks[0] has been sent, and is repeated after 60 s only; the others are queued, and the queue is full.
    """
    client, server, uri = loopback()
    observable(server)
    hole, silent_port = bound_endpoint()

    async def main():
        serving = asyncio.create_task(server.serve())
        tuning = coap.Tuning(ack_timeout_ms=60000)
        silent = "coap://127.0.0.1:%d/t" % silent_port
        tasks = [asyncio.create_task(failure(client.get(silent, transport_tuning=tuning))) for _ in range(9)]
        await turns()
        result = await failure(asyncio.wait_for(ask(client, tasks, uri), 10))
        for task in tasks + [serving]:
            task.cancel()
        await turns()
        return result, client._users, client.endpoint._open, client.endpoint._queue

    found = asyncio.run(main())
    for endpoint in (client, server, hole):
        endpoint.close()
    return found


def test_get_when_another_to_its_peer_is_cancelled_then_it_goes_at_once():
    """RFC 7252 section 4.7: NSTART is free then"""

    async def ask(client, tasks, uri):
        tasks[0].cancel()
        while len(client.endpoint._queue) == 8:
            await asyncio.sleep(0.005)

    check.eq(room(ask), (None, 0, [], []))


def test_get_when_another_in_a_full_queue_is_cancelled_then_it_has_its_place_at_once():
    """What waits for room is told of it"""

    async def ask(client, tasks, uri):
        asking = asyncio.create_task(client.get(uri))
        await turns()
        tasks[5].cancel()
        await asking

    check.eq(room(ask), (None, 0, [], []))


def test_observe_when_the_queue_is_full_then_it_waits_for_room():
    """As a request does; a cancel() meanwhile ends the wait, and nothing is begun"""

    async def ask(client, tasks, uri):
        observing, ended = client.observe(uri), client.observe(uri)
        waiting = [asyncio.create_task(failure(each.__anext__())) for each in (observing, ended)]
        await turns()
        ended.cancel()
        tasks[5].cancel()
        check.eq([type(await waiting[0]), type(await waiting[1])], [type(None), StopAsyncIteration])
        check.eq(len(client.endpoint.observing.observations), 1)
        observing.cancel()

    check.eq(room(ask), (None, 0, [], []))


def test_serve_when_it_is_cancelled_then_the_endpoint_can_be_used_again():
    """A cancelled serve() leaves nothing behind"""

    async def main():
        client, server = pair()
        serve_text(server)
        results = []
        for _ in range(3):
            serving = asyncio.create_task(server.serve())
            results.append((await client.get(URI)).code)
            serving.cancel()
            await failure(serving)
            error = await failure(client.get(URI, transport_tuning=QUICK))
            results.append((server._users, len(server._readers), type(error)))
            server.endpoint.socket.inbox.clear()
        return results

    check.eq(asyncio.run(main()), [coap.CONTENT, (0, 0, coap.Timeout)] * 3)


# ---- serving ----


def test_serve_when_requests_are_awaited_then_it_serves_meanwhile():
    """A server is a client at once; two endpoints ask each other"""

    async def main(client, server):
        serve_text(client, "from the client")
        asking = asyncio.create_task(server.get("coap://192.0.2.9/t"))
        here = await client.get(URI)
        there = await client_serves(client, asking)
        return bytes(here.payload), bytes(there.payload)

    async def client_serves(client, asking):
        serving = asyncio.create_task(client.serve())
        response = await asking
        serving.cancel()
        return response

    check.eq(both(main), (b"hello", b"from the client"))


def test_serve_when_a_handler_promises_then_a_task_answers():
    """RFC 7252 section 5.2.2: LATER with a coroutine"""

    async def main(client, server):
        async def answer(later):
            await asyncio.sleep(0.03)
            later.payload = "late"
            server.send(later)

        def slow(request, response):
            asyncio.create_task(answer(response.copy()))
            return coap.LATER

        server.endpoint.resource("slow").get(slow)
        responses = await asyncio.gather(client.get("coap://192.0.2.1/slow"), client.get(URI))
        return [(response.mtype, bytes(response.payload)) for response in responses]

    check.eq(both(main), [(coap.CON, b"late"), (coap.ACK, b"hello")])


def test_send_when_called_in_a_handler_then_it_goes_after_it():
    """send() is allowed in handlers"""

    async def main(client, server):
        def relay(request, response):
            server.send(coap.Message(coap.PUT, uri="coap://192.0.2.9/seen", payload="x", mtype=coap.NON))

        seen = []
        client.endpoint.resource("seen").put(lambda request, response: seen.append(bytes(request.payload)))
        server.endpoint.resource("relay").get(relay)
        code = (await client.get("coap://192.0.2.1/relay")).code
        while not seen:
            await client.get(URI)
        return code, seen

    check.eq(both(main), (coap.CONTENT, [b"x"]))


def test_serve_when_the_endpoint_is_closed_then_everything_ends():
    """close() ends serve() and every request"""

    async def main():
        client, server = pair()
        serving = asyncio.create_task(client.serve())
        asking = [asyncio.create_task(failure(client.get("coap://192.0.2.77/t"))) for _ in range(14)]
        await turns()
        client.close()
        kinds = await types(asking)
        ended = await failure(serving)
        after = await failure(client.get(URI)), await failure(client.serve())
        return kinds, ended, [type(error) for error in after], client._users

    check.eq(asyncio.run(main()), ([coap.Closed] * 14, None, [coap.Closed] * 2, 0))


def test_serve_when_a_hook_raises_then_what_is_awaited_raises_it():
    """The application's own mistakes are seen, and hang nothing"""

    async def main():
        client, server = pair()

        def fail(*_):
            raise KeyError("mistake")

        client.endpoint.on_end = fail
        serving = asyncio.create_task(failure(client.serve()))
        asking = asyncio.create_task(failure(client.get("coap://192.0.2.77/t", timeout_ms=20)))
        kinds = await types((serving, asking))
        client.endpoint.on_end = None
        serve_text(server)
        serving = asyncio.create_task(server.serve())
        code = (await client.get(URI)).code
        serving.cancel()
        await turns()
        return kinds, code

    check.eq(asyncio.run(main()), ([KeyError, KeyError], coap.CONTENT))


def test_get_when_a_request_comes_to_an_endpoint_without_resources_then_not_found():
    """RFC 7252 section 5.8: a client is no server"""

    async def main(client, server):
        silent = asyncio.create_task(failure(client.get("coap://192.0.2.77/t")))
        code = (await server.get("coap://192.0.2.9/t")).code
        silent.cancel()
        await silent
        return code

    check.eq(both(main), coap.NOT_FOUND)


def test_run_when_there_is_a_second_loop_then_the_same_aio_serves_it():
    """Nothing is kept of a loop that has ended"""
    client, server = pair()
    serve_text(server)

    async def main():
        serving = asyncio.create_task(server.serve())
        response = await client.get(URI)
        serving.cancel()
        await failure(serving)
        return response.code

    check.eq([asyncio.run(main()) for _ in range(3)], [coap.CONTENT] * 3)


def abandoned(client, server):
    """Leave an iteration by `break`, without cancel(), as a loop ends; returns the iteration."""
    observable(server)

    async def main():
        serving = asyncio.create_task(server.serve())
        observing = client.observe(URI)
        async for _ in observing:
            break
        serving.cancel()
        await turns()
        return observing

    return asyncio.run(main())


def test_run_when_the_loop_before_left_an_iteration_then_another_is_served():
    """After Ctrl-C at a board's prompt, and asyncio.new_event_loop(): who waited in the old loop never leaves"""
    client, server = pair()
    observing = abandoned(client, server)
    if hasattr(asyncio, "core"):
        asyncio.new_event_loop()

    async def main():
        serving = asyncio.create_task(server.serve())
        asking = asyncio.create_task(client.get(URI))
        await turns(1)
        observing.cancel()  # of the loop that has ended: nobody of this one
        users = client._users
        response = await asyncio.wait_for(asking, 5)
        serving.cancel()
        await turns()
        return users, response.code, client._users

    check.eq(asyncio.run(main()), (1, coap.CONTENT, 0))
    client.close()


def test_cancel_when_the_loop_has_ended_then_the_server_is_told():
    """An iteration that was left by `break`, ended outside of asyncio"""
    client, server = pair()
    abandoned(client, server).cancel()
    check.eq((client._users, client.endpoint.socket.sent[-1][1]), (0, coap.GET))
    client.close()
    server.close()


def test_get_when_the_endpoint_itself_was_closed_then_closed():
    """Endpoint.close in the place of that of the Aio"""
    client, server, uri = loopback()
    client.endpoint.close()

    async def main():
        errors = [await failure(client.get(uri)), await failure(client.serve())]
        return [type(error) for error in errors], client._users

    check.eq(asyncio.run(main()), ([coap.Closed] * 2, 0))
    server.close()


def test_get_when_log_raised_after_the_last_user_had_left_then_the_next_is_served():
    """A handler that cancels the only iteration, and fails; that is said where the loop says such things"""

    async def main(client, server, texts):
        observing = client.observe(URI)

        def stop(request, response):
            observing.cancel()
            client.endpoint.log = fail
            raise ValueError

        def fail(text, value):
            told.append(text)
            raise KeyError("mistake")

        told = []
        loop = asyncio.get_event_loop()
        loop.set_exception_handler(lambda loop, context: None)
        client.endpoint.resource("stop").put(stop)
        await observing.__anext__()
        asking = asyncio.create_task(failure(server.put("coap://192.0.2.9/stop", transport_tuning=QUICK)))
        await until(lambda: told)
        client.endpoint.log = None
        code = (await client.get(URI)).code
        await asking
        return code, client._users

    check.eq(observed(main), (coap.CONTENT, 0))


# ---- real sockets ----


class Counting:
    """An endpoint whose calls of process are counted."""

    def __init__(self, endpoint):
        self.process = endpoint.process
        self.count = 0
        endpoint.process = self

    def __call__(self, timeout_ms):
        self.count += 1
        return self.process(timeout_ms)


def loopback():
    """(client, server, URI of its `t`) on sockets of this host."""
    server, port = bound_endpoint()
    return coap_aio.Aio(coap.Endpoint()), coap_aio.Aio(server), "coap://127.0.0.1:%d/t" % port


def test_sockets_when_nothing_happens_then_nothing_is_polled():
    """No busy waiting: while nothing comes, process is not called"""
    client, server, uri = loopback()
    serve_text(server)
    counter = Counting(server.endpoint)

    async def main():
        serving = asyncio.create_task(server.serve())
        codes = await in_turn(client, uri, 20)
        busy = counter.count
        await asyncio.sleep(0.2)
        idle = counter.count - busy
        responses = await asyncio.gather(*[client.get(uri) for _ in range(20)])
        serving.cancel()
        await failure(serving)
        return codes + [response.code for response in responses], idle

    codes, idle = asyncio.run(main())
    check.eq(codes, [coap.CONTENT] * 40)
    assert idle <= 1, idle
    client.close()
    server.close()


def test_sockets_when_a_task_notifies_or_sends_then_it_goes_at_once():
    """Else the endpoint would sleep until its next event, which is 2 s away at least"""
    import coap_observe

    client, server, uri = loopback()
    silent, silent_port = bound_endpoint()
    coap_observe.attach(server.endpoint, interval_ms=1)
    texts = ["before"]
    server.endpoint.resource("t", obs=True).get(lambda request, response: texts[-1])
    server.endpoint.resource("seen").put(lambda request, response: texts.append(str(request.payload, "utf-8")))

    def tell(text):
        return client.send(coap.Message(coap.PUT, uri=uri[:-1] + "seen", payload=text, mtype=coap.NON, no_response=26))

    async def main():
        serving = asyncio.create_task(server.serve())
        with client.observe(uri) as states:
            await states.__anext__()
            await asyncio.sleep(0.05)  # both sleep now
            texts.append("after")
            server.notify("t")
            state = await asyncio.wait_for(states.__anext__(), 20)
            tell("sent")
            await asyncio.wait_for(until(lambda: texts[-1] == "sent"), 1.5)
            record = client.send(coap.Message(coap.GET), "127.0.0.1:%d" % silent_port)
            record.on_end = lambda record: tell("cancelled")
            record.cancel()
            await asyncio.wait_for(until(lambda: texts[-1] == "cancelled"), 1.5)
        serving.cancel()
        await failure(serving)
        return bytes(state.payload)

    check.eq(asyncio.run(main()), b"after")
    client.close()
    silent.close()
    server.close()


def test_sockets_when_another_is_registered_then_it_is_read_too():
    """One reader for each socket"""
    client, server, _ = loopback()
    serve_text(server)
    other, port = bound_endpoint()
    second = other.socket
    server.endpoint.register_socket(second)

    async def main():
        serving = asyncio.create_task(server.serve())
        await turns()
        datagram = fake.packet(coap.GET, port, uri_path=("t",))
        client.endpoint.socket.sendto(datagram, client.endpoint.resolve("127.0.0.1:%d" % port))
        counter = Counting(server.endpoint)
        await asyncio.sleep(0.05)
        serving.cancel()
        await failure(serving)
        return counter.count

    assert 1 <= asyncio.run(main()) <= 3
    client.close()
    server.close()


def test_sockets_when_one_is_replaced_while_it_serves_then_the_new_one_is_read():
    """join() makes a socket, and another when the group is joined again; an ESP32 replaces a deaf one"""
    client, server, uri = loopback()
    serve_text(server)

    async def main():
        serving = asyncio.create_task(server.serve())
        await turns()
        served = []
        for _ in range(2):
            other, port = bound_endpoint()
            sock = other.socket
            server.endpoint.register_socket(sock)
            server.wake()
            datagram = fake.packet(coap.GET, port, uri_path=("t",))
            client.endpoint.socket.sendto(datagram, client.endpoint.resolve("127.0.0.1:%d" % port))
            counter = Counting(server.endpoint)
            await asyncio.sleep(0.05)
            server.endpoint._forget(sock)
            served.append(counter.count >= 1)
        code = (await asyncio.wait_for(client.get(uri), 10)).code
        serving.cancel()
        await turns()
        return served, code, server._users

    check.eq(asyncio.run(main()), ([True, True], coap.CONTENT, 0))
    client.close()
    server.close()


def test_transport_when_it_is_registered_while_the_endpoint_serves_then_it_is_asked():
    """register_socket with what cannot be polled, beside a socket that is"""
    client, server, uri = loopback()
    serve_text(server)
    transport = Pair()

    async def main():
        serving = asyncio.create_task(server.serve())
        await turns()
        server.endpoint.register_socket(transport)
        server.wake()
        transport.inbox.append((fake.packet(coap.GET, 1, uri_path=("t",)), client.endpoint.resolve("127.0.0.1:9")))
        await asyncio.wait_for(until(lambda: not transport.inbox), 5)
        serving.cancel()
        await turns()

    asyncio.run(main())
    client.close()
    server.close()


def test_sockets_when_there_is_none_for_a_while_then_it_is_opened_again():
    """An ESP32 without network: nothing can be waited for but the next attempt"""
    client, server, uri = loopback()
    serve_text(server)

    async def main():
        serving = asyncio.create_task(server.serve())
        await turns()
        server.endpoint._forget(server.endpoint.socket)
        server.endpoint.socket = None
        server.wake()
        codes = [(await asyncio.wait_for(client.get(uri), 20)).code]
        serving.cancel()
        await turns()
        return codes

    check.eq(asyncio.run(main()), [coap.CONTENT])
    client.close()
    server.close()


def test_sockets_when_serve_is_cancelled_and_started_again_then_it_is_read_again():
    """The loop watches a socket anew"""
    client, server, uri = loopback()
    serve_text(server)

    counter = Counting(server.endpoint)

    async def main():
        codes = []
        for _ in range(5):
            serving = asyncio.create_task(server.serve())
            codes.append((await client.get(uri)).code)
            serving.cancel()
        await turns()
        counter.count = 0
        await failure(client.get(uri, transport_tuning=QUICK))
        return codes

    check.eq((asyncio.run(main()), counter.count), ([coap.CONTENT] * 5, 0))
    client.close()
    server.close()


def test_sockets_when_nobody_answers_then_the_timer_is_set_to_the_earliest_event():
    """RFC 7252 section 4.2: retransmission and Timeout with a reader that is never woken, a later event before"""
    client, server, uri = loopback()
    serve_text(server)
    silent, port = bound_endpoint()

    async def main():
        serving = asyncio.create_task(server.serve())
        own = asyncio.create_task(client.serve())
        code = (await client.get(uri)).code  # its message ID is forgotten in minutes
        serving.cancel()
        await failure(serving)
        later = coap.Tuning(ack_timeout_ms=30000)
        slow = asyncio.create_task(failure(client.get("coap://127.0.0.1:%d/t" % port, transport_tuning=later)))
        await asyncio.sleep(0.01)
        message = coap.Message(coap.GET, uri=uri, transport_tuning=QUICK)
        record = await asyncio.wait_for(client.exchange(message), 25)
        slow.cancel()
        own.cancel()
        await failure(own)
        wait_ms = coap.ticks_diff(record.last_event_ms, record.transmitted_ms)
        return code, record.error, 20 <= wait_ms < 20000

    check.eq(asyncio.run(main()), (coap.CONTENT, coap.Timeout, True))
    client.close()
    server.close()
    silent.close()


# ---- observing ----


def observed(function):
    """Run `await function(client, server, texts)`; the server's `t` is observable and answers texts[-1]."""
    import coap_observe

    async def main():
        client, server = pair()
        texts = ["0"]
        coap_observe.attach(server.endpoint, interval_ms=1)
        resource = server.endpoint.resource("t", ct=coap.TEXT, obs=True)
        resource.get(lambda request, response: texts[-1])
        serving = asyncio.create_task(server.serve())
        try:
            return await asyncio.wait_for(function(client, server, texts), PATIENCE_S)
        finally:
            serving.cancel()
            await asyncio.sleep(0)

    return asyncio.run(main())


def test_observe_when_the_resource_changes_then_each_state_until_cancelled():
    """RFC 7641 section 1.1: async for; cancel() ends it and leaves nobody waiting."""

    async def main(client, server, texts):
        seen = []
        observing = client.observe(URI)
        async for message in observing:
            seen.append(bytes(message.payload))
            if len(seen) == 4:
                observing.cancel()
            texts.append(str(len(seen)))
            await asyncio.sleep(0.02)
            server.notify("t", confirmable=True)
        return seen, client._users

    check.eq(observed(main), ([b"0", b"1", b"2", b"3"], 0))


def test_observe_when_the_task_is_cancelled_then_the_server_is_told():
    """RFC 7641 section 3.6: a cancelled task leaves no observation"""

    async def main(client, server, texts):
        heard = []

        async def watch():
            async for message in client.observe(URI):
                heard.append(message)

        task = asyncio.create_task(watch())
        await until(lambda: heard)
        before = len(client.endpoint.observing.observations)
        task.cancel()
        error = await failure(task)
        await client.get(URI)
        return before, type(error), client._users, len(client.endpoint.observing.observations)

    check.eq(observed(main), (1, asyncio.CancelledError, 0, 0))


def test_observe_when_the_resource_is_not_observable_then_not_observed():
    """RFC 7641 section 3.1: the present state, then the end"""

    async def main(client, server):
        import coap_observe

        seen = []
        error = None
        try:
            async for message in client.observe(URI):
                seen.append(bytes(message.payload))
        except coap_observe.NotObserved as fault:
            error = fault
        return seen, error is None, client._users

    check.eq(both(main), ([b"hello"], False, 0))


def test_observe_when_left_by_break_return_or_an_exception_in_a_with_then_it_has_ended():
    """RFC 7641 section 3.6: `with` ends it however the loop is left"""

    async def first(client, is_mistaken):
        with client.observe(URI) as states:
            async for message in states:
                if is_mistaken:
                    raise ValueError
                return bytes(message.payload)

    async def main(client, server, texts):
        seen = [await first(client, False), client._users]
        error = await failure(first(client, True))
        users = client._users
        await client.get(URI)  # reads how the server has answered
        return seen, type(error), users, client.endpoint.observing.observations

    check.eq(observed(main), ([b"0", 0], ValueError, 0, []))


def test_observe_when_a_task_falls_behind_then_the_latest_states():
    """RFC 7641 section 1.1: the newest state counts; what waits is bounded"""

    async def main(client, server, texts):
        observing = client.observe(URI)
        await observing.__anext__()
        sent = client.endpoint.socket.sent
        for n in range(1, 9):
            acknowledged = len(sent) + 1
            texts.append(str(n))
            server.notify("t", confirmable=True)
            await until(lambda acknowledged=acknowledged: len(sent) >= acknowledged)
        seen = []
        for _ in range(4):  # MicroPython has no await in a comprehension
            message = await observing.__anext__()
            seen.append(bytes(message.payload))
        observing.cancel()
        return seen

    check.eq(observed(main), [b"5", b"6", b"7", b"8"])


def test_observe_when_the_endpoint_is_closed_then_cancel_leaves():
    """RFC 7641 section 3.6: nobody can be told any more"""

    async def main(client, server, texts):
        observing = client.observe(URI)
        await observing.__anext__()
        client.close()
        observing.cancel()
        return client._users

    check.eq(observed(main), 0)


def stopped(client, server, uri, stop_uri):
    """What is left of an observation that a handler of `client` has cancelled, which `server` asks for."""

    async def main():
        observing = client.observe(uri)

        def stop(request, response):
            observing.cancel()

        client.endpoint.resource("stop").put(stop)

        heard = []

        async def watch():
            async for message in observing:
                heard.append(message)

        serving = asyncio.create_task(server.serve())
        watching = asyncio.create_task(watch())
        await until(lambda: heard)
        code = (await server.put(stop_uri, timeout_ms=20000)).code
        error = await failure(asyncio.wait_for(watching, 20))
        users = client._users
        again = await client.get(uri)  # it is one reader that waits for the socket
        serving.cancel()
        return code, error, users, again.code, client._readers

    return asyncio.run(main())


def observable(aio):
    """Have `aio` serve an observable `t`."""
    import coap_observe

    coap_observe.attach(aio.endpoint)
    aio.endpoint.resource("t", obs=True).get(lambda request, response: "hello")


def test_observe_when_a_handler_cancels_it_then_the_iteration_ends():
    """The server of the same endpoint ends what is its only user, in the turn of its own reader"""
    client, server = pair()
    observable(server)
    check.eq(stopped(client, server, URI, "coap://192.0.2.9/stop"), (coap.CHANGED, None, 0, coap.CONTENT, []))
    client, server, uri = loopback()
    client.close()
    endpoint, port = bound_endpoint()
    client = coap_aio.Aio(endpoint)
    observable(server)
    stop = "coap://127.0.0.1:%d/stop" % port
    check.eq(stopped(client, server, uri, stop), (coap.CHANGED, None, 0, coap.CONTENT, []))
    client.close()
    server.close()


def test_observe_when_a_hook_raises_as_it_begins_then_nothing_is_left():
    """`log` or on_end of the application, in the first turn"""

    async def main(client, server, texts):
        client.endpoint.send(coap.Message(coap.GET, uri=URI, mtype=coap.NON, no_response=26))
        client.endpoint.on_end = lambda record: {}["it has ended"]
        error = await failure(client.observe(URI).__anext__())
        client.endpoint.on_end = None
        return type(error), client._users

    check.eq(observed(main), (KeyError, 0))


def test_observe_when_it_is_cancelled_before_it_begins_then_it_does_not():
    """cancel() while the task that iterates has not had its turn"""

    async def main(client, server, texts):
        observing = client.observe(URI)
        watching = asyncio.create_task(failure(observing.__anext__()))
        observing.cancel()
        return type(await watching), client._users, client.endpoint.socket.sent

    check.eq(observed(main), (StopAsyncIteration, 0, []))


def test_observe_when_it_is_cancelled_with_states_unread_then_the_iteration_ends():
    """cancel() ends it, whatever came since"""

    async def main(client, server, texts):
        observing = client.observe(URI)
        await observing.__anext__()
        server.notify("t", confirmable=True)
        await until(lambda: observing.received)
        observing.cancel()
        return type(await failure(observing.__anext__()))

    check.eq(observed(main), StopAsyncIteration)


def test_cancel_when_a_task_of_the_loop_that_has_ended_waits_then_nothing_is_left():
    """Its task is told nothing any more: it is of another loop"""
    client, server = pair()
    observable(server)
    kept = []
    loop = asyncio.new_event_loop()

    async def main():
        kept.append(asyncio.create_task(server.serve()))
        observing = client.observe(URI)
        await observing.__anext__()
        kept.append(asyncio.create_task(failure(observing.__anext__())))
        await turns()
        return observing

    observing = loop.run_until_complete(main())
    if hasattr(asyncio, "core"):
        asyncio.new_event_loop()
    else:
        loop.close()
        loop.set_exception_handler(lambda loop, context: None)  # it says that tasks were pending
    observing.cancel()
    asyncio.run(turns())
    check.eq((client._users, client._timer, kept[1].done()), (0, None, False))
    client.close()
    server.close()


def test_close_when_the_loop_has_ended_with_an_iteration_open_then_the_socket_is_closed():
    """A loop left by `break`, without cancel()"""
    client, server, uri = loopback()
    observable(server)

    async def main():
        serving = asyncio.create_task(server.serve())
        await client.observe(uri).__anext__()
        serving.cancel()

    asyncio.run(main())
    client.close()
    check.eq((client.endpoint.is_closed, client._readers), (True, []))
    server.close()
