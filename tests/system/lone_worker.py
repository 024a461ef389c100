"""A real jailmap-worker, and this process in the place of all that it speaks to: monitor, agents and
clients. So a test decides what is said to it, and in which order.

Used inside tests/system/run. It starts the worker behind its filter, as whoever runs this, and
speaks privsep/messages.h over socket pairs.
"""

import os
import select
import socket
import struct

import harness
import protocol
from waiting import LIMIT, Hung

FOUND, NOT_FOUND, ANSWER_RETRY, ANSWER_CONFIG = 1, 2, 3, 4
IMAGE, LINK, BOTH, WORKER = 1, 2, 3, 4
INLINE = 8  # of enum table_type
FOLDS_MUL, UNAUTH = 4, 8
FIXED, PATTERN = 0x10, 0x20
NO_REGSUB, NO_UNAUTH, FOLD_FIX, FOLD_MUL = 0x800, 0x2000, 0x4000, 0x8000

MESSAGES = {"SERVE": 1, "CLIENT": 2, "TABLE": 3, "TABLE_ERROR": 4, "OPEN": 5, "CLOSED": 6}
MESSAGES.update({"EVENT": 7, "QUERY": 15, "ANSWER": 16, "TABLE_KIND": 18, "COUNTERS": 40})
MESSAGES.update({"RECALL": 60, "LOAD": 8, "LOADED": 9})
NAMES = {number: name for name, number in MESSAGES.items()}
ANY_KEY = (0, b"\xff" * 32)
SLOTS, SLOT, PAGE = 8, 8 * 120, 8 * 8
COUNTED = ("hits", "misses", "errors", "cached", "refused")


def message(name, layout, *fields, tail=b""):
    return struct.pack("=II" + layout, MESSAGES[name], 0, *fields) + tail


def receive(end, what):
    """One message as (name, body); Hung if none comes."""
    if not select.select([end], [], [], LIMIT)[0]:
        raise Hung(f"waited in vain for {what}")
    data = end.recv(1 << 20)
    if not data:
        raise AssertionError(f"closed instead of {what}")
    return NAMES.get(struct.unpack_from("=I", data)[0]), data[8:]


class Agent:
    """The agents' end of one link."""

    def __init__(self, end):
        self.end = end

    def query(self):
        """(id, flags, key) of the next query."""
        name, body = receive(self.end, "a query")
        assert name == "QUERY", name
        number, flags, _ = struct.unpack_from("=QII", body)
        return number, flags, body[16:]

    def answer(self, number, status=FOUND, value=b""):
        self.end.send(message("ANSWER", "QII", number, status, 0, tail=value))

    def idle(self):
        return not select.select([self.end], [], [], 0)[0]

    def close(self):
        self.end.close()


class Client(protocol.Client):
    """A client whose connection is there already."""

    def __init__(self, connection):  # pylint: disable=super-init-not-called
        connection.settimeout(LIMIT)
        self.socket = connection
        self.buffer = bytearray()

    def begin(self, table, key, flags=0):
        self.send(protocol.o_lookup(table, key, flags))

    def end(self):
        return self.answer(self.receive())

    @staticmethod
    def answer(reply):
        parts = reply.split(b"\0")
        return int(parts[1]), parts[3]


def start(title, program, **options):
    """(process, our end of its bridge) of a program that is born as the monitor's children are."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    number = theirs.fileno()
    script = f'exec -a "$1" "$0" 3<&{number} {number}<&-'
    process = harness.start(
        ["/bin/bash", "-c", script, program, title], pass_fds=(number,), **options
    )
    theirs.close()
    return process, ours


def image(program, table):
    """Descriptor of the image of an inline: table, which is the caller's."""
    made = os.memfd_create("image")
    process, bridge = start("jailmap-loader: inline:", program)
    with bridge:
        load = message("LOAD", "2I I32s", INLINE, 0xFFFFFFFF, *ANY_KEY)
        socket.send_fds(bridge, [load + table.partition(":")[2].encode()], [made])
        assert receive(bridge, "LOADED")[0] == "LOADED"
        process.wait(LIMIT)
    return made


class LoneWorker:
    """The worker, and the monitor's end of its bridge."""

    def __init__(self, program, answer_timeout=60, max_pending=1 << 26):
        self.process, self.bridge = start("jailmap-worker: alone", program)
        self.clients = 0
        self.refs = {}
        self.bridge.send(
            message("SERVE", "Q6I", max_pending, 1 << 24, 60, answer_timeout, 0, SLOTS, 0)
        )
        self.page = os.memfd_create("page")
        os.ftruncate(self.page, PAGE + (SLOTS + 1) * SLOT)
        self.tell("COUNTERS", "II", SLOTS, 0, descriptor=self.page)

    def tell(self, name, layout, *fields, descriptor=None):
        data = message(name, layout, *fields)
        if descriptor is None:
            self.bridge.send(data)
        else:
            socket.send_fds(self.bridge, [data], [descriptor])

    def client(self):
        ours, theirs = socket.socketpair()
        self.tell("CLIENT", "II", self.clients, 0, descriptor=theirs.fileno())
        self.clients += 1
        theirs.close()
        return Client(ours)

    def asked(self):
        """The name of the table that the worker asks for now."""
        name, body = receive(self.bridge, "OPEN")
        while name in ("EVENT", "CLOSED"):
            name, body = receive(self.bridge, "OPEN")
        assert name == "OPEN", name
        table = body[8:].decode()
        self.refs[table] = struct.unpack_from("=I", body)[0]
        return table

    @staticmethod
    def use(timeout=30, queue=0, ttl=0, negative=0, size=1 << 20):
        return timeout, queue, ttl, negative, size

    def image(self, table, descriptor, answered_by=IMAGE, index=0, **use):
        """Grants a table that the image answers, or whatever else there is."""
        fields = (self.refs[table], IMAGE, FIXED, 0, answered_by, *ANY_KEY, *self.use(**use), index)
        self.tell("TABLE", "5II32s5III", *fields, 0, descriptor=descriptor)

    def link(self, table, flags=PATTERN, features=0, index=0, answered_by=LINK, **use):
        """Grants a table that agents answer; returns their end of its link."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        theirs.setblocking(False)
        uses = (answered_by, *ANY_KEY, *self.use(**use), index)
        fields = (self.refs[table], LINK, flags, features, *uses)
        self.tell("TABLE", "5II32s5III", *fields, 0, descriptor=theirs.fileno())
        theirs.close()
        return Agent(ours)

    def kind(self, table, answered_by=WORKER, flags=PATTERN, features=0, index=0, **use):
        fields = (self.refs[table], flags, features, answered_by, *ANY_KEY, *self.use(**use), index)
        self.tell("TABLE_KIND", "4II32s5II", *fields)

    def refuse(self, table, status=protocol.DENY, index=0):
        self.tell("TABLE_ERROR", "4I", self.refs[table], status, 0, index)

    def recall(self, table):
        self.tell("RECALL", "I", self.refs[table])

    def counts(self, index):
        """What it has counted of the table of that index."""
        numbers = os.pread(self.page, 8 * len(COUNTED), PAGE + index * SLOT)
        return dict(zip(COUNTED, struct.unpack(f"={len(COUNTED)}Q", numbers)))

    def alive(self):
        return self.process.poll() is None

    def close(self):
        """It ends with its monitor, and not before."""
        ended = self.process.poll()
        self.bridge.close()
        os.close(self.page)
        self.process.wait(LIMIT)
        assert ended is None, f"the worker has ended with {ended}"
