"""2,000 mutated copies of real hash, btree, cdb and lmdb files are put into service.

Berkeley DB and LMDB crash on damaged files, or never end. What is under test is what comes of that:
nothing for anybody else, and for the table itself its last good image, or what the file says if it
can still be read. Every mutation follows from a seed, which is printed with what went wrong; the
good files are the same each time, but for the number by which Berkeley DB tells files apart.
"""

import os
import random
import re
import struct
import subprocess

import proc
from harness import PATH, Workspace, workspace
from protocol import OK, NOKEY, RETRY
from reloading import PLAIN, ReloadCase, batch
from waiting import LIMIT, wait_for

SEED = 20261122
EACH = 500  # mutations of each kind of file
VICTIMS = 8  # tables of each kind, mutated side by side
SUFFIX = {"hash": ".db", "btree": ".db", "cdb": ".cdb", "lmdb": ".lmdb"}
PAGE = 4096
REFUSED = "refused"
# Some long values, so that Berkeley DB and LMDB have overflow pages too.
ENTRIES = {f"key{n}": f"value{n}" + "-" * (6000 if n % 50 == 7 else 0) for n in range(250)}
ASKED = [f"key{n}" for n in (*range(0, 250, 9), 7, 57)] + ["absent"]


def _flip(chance, data):
    """one to eight bits flipped anywhere"""
    for _ in range(chance.choice((1, 1, 2, 8))):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def _flip_head(chance, data):
    """a bit flipped in the first 512 bytes"""
    data[chance.randrange(min(512, len(data)))] ^= 1 << chance.randrange(8)


def _flip_page_head(chance, data):
    """a bit flipped in the head of a page"""
    at = chance.randrange(0, len(data), PAGE) + chance.randrange(48)
    data[min(at, len(data) - 1)] ^= 1 << chance.randrange(8)


def _swap(chance, data):
    """two blocks swapped"""
    size = chance.choice((64, 512, PAGE))
    one, two = (chance.randrange(0, max(1, len(data) - size), size) for _ in range(2))
    data[one : one + size], data[two : two + size] = (
        data[two : two + size],
        data[one : one + size],
    )


def _copy(chance, data):
    """a page over another"""
    one, two = (chance.randrange(0, max(1, len(data) - PAGE), PAGE) for _ in range(2))
    data[one : one + PAGE] = data[two : two + PAGE]


def _cut(chance, data):
    """cut anywhere"""
    del data[chance.randrange(len(data)) :]


def _cut_page(chance, data):
    """cut where a page ends"""
    del data[chance.randrange(0, len(data), PAGE) :]


def _head(chance, data):
    """16 bytes of the first 256 overwritten"""
    at = chance.randrange(0, 256, 16)
    data[at : at + 16] = chance.choice((bytes(16), b"\xff" * 16, chance.randbytes(16)))


def _length(chance, data):
    """a number of two or four bytes overwritten by one that no length should be"""
    form = chance.choice(("<H", "<I"))
    size = struct.calcsize(form)
    at = chance.randrange(0, len(data) - size, size)
    value = chance.choice((0, 1, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, len(data), len(data) + 1))
    struct.pack_into(form, data, at, value & (256**size - 1))


def _blank(chance, data):
    """a block overwritten by zeros, ones or noise"""
    size = chance.choice((64, 512, PAGE))
    at = chance.randrange(0, max(1, len(data) - size), 64)
    data[at : at + size] = chance.choice((bytes(size), b"\xff" * size, chance.randbytes(size)))


MUTATIONS = (
    _flip,
    _flip_head,
    _flip_page_head,
    _swap,
    _copy,
    _cut,
    _cut_page,
    _head,
    _length,
    _blank,
)


def mutation(kind, number, good):
    """Mutation `number` of a file: (what it is, bytes). The same for the same SEED."""
    chance = random.Random(f"{SEED} {kind} {number}")
    change = MUTATIONS[number % len(MUTATIONS)]
    data = bytearray(good)
    while data == good:
        change(chance, data)
    return f"seed {SEED}, {kind} number {number}: {change.__doc__}", bytes(data)


class Victim:
    """One table: its good file, and what is in its place now."""

    def __init__(self, case, kind, number):
        self.kind, self.path = kind, case.path(f"{kind}{number}")
        self.file = self.path + SUFFIX[kind]
        self.name = case.table(
            f"{kind}{number}", "".join(f"{key} {value}\n" for key, value in ENTRIES.items()), kind
        )
        with open(self.file, "rb") as file:
            self.good = file.read()
        self.todo = list(range(number, EACH, VICTIMS))
        self.what = None  # the mutation in place

    def put(self, data):
        """Puts a content into the place of the file in one step."""
        with open(self.path + ".new", "wb") as file:
            file.write(data)
        os.rename(self.path + ".new", self.file)


def cdb_says(path):
    """says() of a cdb file, which postmap does not list: the records lie between the 2,048 bytes of
    pointers and the first hash table."""
    with open(path, "rb") as file:
        data = file.read()
    found, at = {}, 2048
    while at < struct.unpack_from("<I", data)[0]:
        key_len, value_len = struct.unpack_from("<II", data, at)
        key, value = data[at + 8 :][:key_len], data[at + 8 + key_len :][:value_len]
        found.setdefault(key.removesuffix(b"\0"), set()).add(re.split(b"[\\0\n]", value)[0])
        at += 8 + key_len + value_len
    return found


def ask_postmap(victim, *options):
    """What the real postmap prints about the file that is in place; None when it fails."""
    try:
        done = subprocess.run(
            [
                "/usr/sbin/postmap",
                "-c",
                workspace().map_config,
                *options,
                f"{victim.kind}:{victim.path}",
            ],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=LIMIT,
            env={"PATH": PATH},
            cwd="/",
            check=False,
        )
    except subprocess.TimeoutExpired:
        return None
    return done.stdout if done.returncode == 0 else None


def asked_directly(victim, key):
    """The value of one key in the file that is in place, or None."""
    found = ask_postmap(victim, "-q", key)
    return None if found is None else found.split(b"\n")[0]


def says(victim):
    """{key: set of values} of a mutated file that jailmap could load, as postmap reads it from the
    first entry to the last; None when postmap cannot."""
    if victim.kind == "cdb":
        try:
            return cdb_says(victim.file)
        except struct.error:
            return None
    listed = ask_postmap(victim, "-s")
    if listed is None:
        return None
    found = {}
    for line in listed.split(b"\n"):
        key, _, value = line.partition(b"\t")
        found.setdefault(key, set()).add(value)
    return found


def short(what):
    """Enough of an answer to see what is wrong with it."""
    text = repr(what)
    return text if len(text) < 120 else f"{text[:50]}...{text[-50:]} ({len(text)} characters)"


GOOD = {key.encode(): {value.encode()} for key, value in ENTRIES.items()}


class MutationsTest(ReloadCase):
    """Damaged files of every sort."""

    def setUp(self):
        super().setUp()
        self.victims = [Victim(self, kind, number) for number in range(VICTIMS) for kind in SUFFIX]
        self.by_name = {victim.name: victim for victim in self.victims}
        self.healthy = self.table("healthy", "key fine\n")
        self.counts = {kind: {"refused": 0, "loaded": 0} for kind in SUFFIX}
        self.seen, self.why, self.wrong = {}, {}, []

    def answers(self, victim, *contents):
        """Asks for keys of a table; all answers must be of one of the contents, which is returned.
        Answers of none of them are kept, and the last content returned."""
        # says() ends at a line's end, which no good value has.
        answers = [
            (code, value.split(b"\n")[0]) for code, value in batch(self.client_, victim.name, ASKED)
        ]

        def matches(content, key, code, value):
            values = content.get(key.encode())
            return value in values if values and code == OK else code == NOKEY and not values

        for content in contents:
            if all(matches(content, key, *answer) for key, answer in zip(ASKED, answers)):
                return content
        for key, answer in zip(ASKED, answers):
            if not any(matches(content, key, *answer) for content in contents):
                # Where records are cut, listing a file and asking it for a key are two things.
                if len(contents) > 1 and asked_directly(victim, key) == answer[1]:
                    contents[0].setdefault(key.encode(), set()).add(answer[1])
                    return self.answers(victim, *contents)
                right = [content.get(key.encode()) for content in contents]
                self.wrong.append(f"{victim.what}: {key} is {short(answer)}, not {short(right)}")
                break
        else:
            self.wrong.append(f"{victim.what}: a mix of two contents")
        return contents[-1]

    def outcome(self, victim, content):
        """Whether what is in place is in service, which says `content` (None: postmap cannot read
        it), or refused after all: what was noticed may have been the good file, loaded twice before
        it was replaced. None: neither."""
        row = self.daemon.table_facts(victim.name)
        if row["state"] != "current":
            self.seen[victim.name] = row["state"], row["generation"]
            return REFUSED
        if content is None:
            return None
        before = len(self.wrong)
        return self.answers(victim, content, GOOD) is content or len(self.wrong) > before or None

    def after_each(self, victim):
        """Nobody else noticed."""
        self.assertIsNone(self.daemon.process.poll(), victim.what)
        self.assertEqual(len(proc.survivors(self.processes)), len(self.processes), victim.what)
        self.assertEqual(self.client_.lookup(self.healthy, "key", PLAIN), (OK, b"fine"))
        self.assertEqual(self.client_.lookup(self.healthy, "absent", PLAIN), (NOKEY, b""))

    def next(self, victim):
        """Puts the next mutation into place; False when there are no more."""
        if not victim.todo:
            return False
        victim.what, data = mutation(victim.kind, victim.todo.pop(0), victim.good)
        victim.put(data)
        return True

    def settled(self, victim, loaded):
        """The log says what came of what is in place: looks at the answers, and goes on with what
        comes next. False when that was the last."""
        if victim.what is None:  # The good file is back.
            self.assertTrue(loaded, f"the good file of {victim.name}: {self.why[victim.name]}")
            # Until the worker has it, answers are what they were, which has been looked at.
            wait_for(
                lambda: all(
                    answer == (OK, ENTRIES[key].encode()) if key in ENTRIES else answer[0] == NOKEY
                    for key, answer in zip(ASKED, batch(self.client_, victim.name, ASKED))
                ),
                f"the good file of {victim.name} to answer again",
            )
            return self.next(victim)
        outcome, content = REFUSED, says(victim) if loaded else None
        if loaded:
            outcome = content == GOOD or wait_for(
                lambda: self.outcome(victim, content),
                f"what the file says to be answered, or the file to be refused: {victim.what}",
            )
        if outcome == REFUSED:
            self.answers(victim, GOOD)
        self.counts[victim.kind]["refused" if outcome == REFUSED else "loaded"] += 1
        self.after_each(victim)
        victim.what = None
        victim.put(victim.good)
        return True

    def news(self):
        """(victim, loaded) of each one whose state in the status is another than at the last call.
        Each step changes it: a good file makes a generation, a bad one makes it stale. (A good one
        may make two, if it is looked at in between.)"""
        found = []
        for row in self.daemon.facts()["tables"]:
            name, state, generation, why = (
                row[key] for key in ("name", "state", "generation", "why")
            )
            victim = self.by_name.get(name)
            now = (state, generation)
            if victim is not None and victim.what is None and self.seen[name] is not None:
                if generation == self.seen[name][1]:
                    continue  # The good file is back when there is a new generation of it.
            if victim is not None and now != self.seen[name]:
                self.seen[name], self.why[name] = now, why
                found.append((victim, state == "current"))
        return found

    def test_mutated(self):
        """500 mutated copies each of real hash, btree, cdb and lmdb files come into the place of 32
        tables by rename, and after each the good one again: no process but loaders ends, a healthy
        table answers all the time on a connection that stays open, and the mutated one answers its
        last good values, or what its file says."""
        self.daemon = self.jailmapd(
            # A loader that goes round in circles fails the test; one that is given no time does not.
            [self.healthy, *[(victim.name, {"load-time": 3600}) for victim in self.victims]],
            socket_options={"workers": 1},
        )
        self.client_ = self.client(self.daemon)
        for table in (self.healthy, *self.by_name):
            self.loaded(self.daemon, table)
        for victim in self.victims:
            self.answers(victim, GOOD)
        roles = self.daemon.roles()
        kept = [pid for role in ("worker", "scribe", "agent") for pid in roles[role]]
        self.assertEqual(len(roles["worker"]), 1)
        self.processes = {pid: proc.stat_fields(pid)[2] for pid in (self.daemon.pid, *kept)}
        self.seen = dict.fromkeys(self.by_name)
        wait_for(
            lambda: not self.news() and set(self.seen.values()) == {("current", 1)},
            lambda: f"the status of all tables: {self.seen}",
        )
        running = {victim.name for victim in self.victims if self.next(victim)}
        while running:
            for victim, loaded in wait_for(
                self.news,
                lambda: f"the next load of {len(running)} tables: {self.waiting(running)}",
            ):
                if not self.settled(victim, loaded):
                    running.discard(victim.name)
        for victim in self.victims:
            self.answers(victim, GOOD)
        after = self.daemon.roles()
        self.assertEqual(
            [pid for role in ("worker", "scribe", "agent") for pid in after[role]], kept
        )
        if "VERBOSE" in os.environ:
            print(f"# mutated: {self.counts}", flush=True)
        self.assertEqual(self.wrong, [])
        for kind, count in self.counts.items():
            self.assertEqual(sum(count.values()), EACH, kind)
            # Both happened often, or nothing was tried.
            self.assertGreater(count["refused"], EACH // 10, kind)

    def waiting(self, running):
        return [(name, self.by_name[name].what) for name in sorted(running)][:4]


class HolesTest(ReloadCase):
    """Pages that were never written."""

    def test_holes(self):
        """Of hash and btree files, each page is zeros in one copy, as after a crash of the system:
        the copy is refused, or nothing of it is missing; no value is ever cut or gone."""
        text = "".join(f"{key} {value}\n" for key, value in ENTRIES.items())
        right = [(OK, value.encode()) for value in ENTRIES.values()]
        tables = {}
        for kind in ("hash", "btree"):
            self.table(kind, text, kind)
            with open(self.path(kind) + ".db", "rb") as file:
                whole = file.read()
            for page in range(len(whole) // PAGE):
                data = whole[: page * PAGE] + bytes(PAGE) + whole[(page + 1) * PAGE :]
                Workspace.write(self.directory, f"{kind}{page}.db", data)
                tables[f"{kind}:{self.path(kind)}{page}"] = f"{kind}, page {page}"
        daemon = self.jailmapd([(table, {"load-time": 3600}) for table in tables])
        client = self.client(daemon)
        wrong, refused = [], 0
        for table, what in tables.items():
            line = daemon.wait_log(rf'table "{table}" (loaded|failed): ')
            answers = batch(client, table, list(ENTRIES))
            if line.group(1) == "failed":
                refused += 1
                self.assertEqual(answers, [(RETRY, b"")] * len(answers), what)
                continue
            differ = [
                f"{key} is {short(answer)}"
                for key, answer, value in zip(ENTRIES, answers, right)
                if answer != value
            ]
            if differ:
                wrong.append(f"{what}: {len(differ)} answers are wrong, the first: {differ[0]}")
        self.maxDiff = None
        self.assertEqual(wrong, [], f"{refused} of {len(tables)} were refused")
        self.assertGreater(refused, len(tables) // 2)
