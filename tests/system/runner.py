"""Runs tests and tells of each in one line: what tests/system/run and tests/sandbox/run share.

Runs as root. Finds the tests in the test_*.py of one folder, picks those that are asked for, and ends
with everything that harness.py started ended and removed, also after Ctrl-C. What it prints about
tests that fail it also adds to the file that FAILED names in the environment, if there is such.
"""

import fnmatch
import os
import signal
import sys
import unittest

import harness


def collect(folder):
    """(name, test case) of every test in test_*.py, in order of file and of definition."""
    found = []
    for file in sorted(name for name in os.listdir(folder) if fnmatch.fnmatch(name, "test_*.py")):
        module = __import__(file.removesuffix(".py"))
        for case in vars(module).values():
            if (
                isinstance(case, type)
                and issubclass(case, unittest.TestCase)
                and case.__module__ == module.__name__
            ):
                # With those of bases, such as tests that two kinds of servers have in common.
                every = dict.fromkeys(name for base in case.__mro__[::-1] for name in vars(base))
                for method in [name for name in every if name.startswith("test_")]:
                    name = (
                        module.__name__.removeprefix("test_") + "." + method.removeprefix("test_")
                    )
                    found.append((name, case(method)))
    return found


def chosen(tests, patterns, program):
    """The tests that at least one pattern names; ends the run when a pattern names none."""
    if not patterns:
        return tests
    picked = set()
    for pattern in patterns:
        pattern = pattern.removeprefix("test_").removesuffix(".py")
        hits = {
            name
            for name, _ in tests
            if fnmatch.fnmatchcase(name, pattern) or name.startswith(pattern + ".")
        }
        if not hits:
            print(f"{program}: no test is called {pattern}; -l lists them", file=sys.stderr)
            sys.exit(64)
        picked |= hits
    return [(name, test) for name, test in tests if name in picked]


def explain(test):
    """What a test proves, and, when it tells, what came of it."""
    proves = " ".join((test._testMethodDoc or "").split())
    outcome = getattr(test, "outcome", None)
    return f"{proves} [{outcome}]" if outcome else proves


class Lines(unittest.TestResult):
    """Prints one line for each test, and below a failed one what went wrong."""

    def __init__(self, names):
        super().__init__()
        self.names = names
        self.counts = {"passed": 0, "failed": 0, "skipped": 0}
        self.problems = []
        self.reason = None
        self.excused = 0
        self.build = ""

    def startTest(self, test):
        super().startTest(test)
        self.problems, self.reason = [], None

    def addError(self, test, err):
        self.problems.append(self._exc_info_to_string(err, test))
        if not hasattr(test, "_testMethodName"):
            self.report("FAIL", str(test), "could not be prepared", "failed")

    addFailure = addError

    def addSubTest(self, test, subtest, err):
        if err is not None:
            self.problems.append(
                f"{subtest._subDescription()}\n{self._exc_info_to_string(err, test)}"
            )

    def addSkip(self, test, reason):
        self.reason = reason
        self.excused += reason.startswith((harness.NOT_SANITIZED, harness.NOT_HERE))

    def stopTest(self, test):
        self.problems += harness.sanitizer_reports()
        proves = explain(test)
        name = self.names[test.id()]
        if self.problems:
            self.report("FAIL", name, proves, "failed")
        elif self.reason is not None:
            self.report("skip", name, f"{proves} ({self.reason})", "skipped")
        else:
            self.report("ok", name, proves, "passed")
        super().stopTest(test)

    def look_again(self):
        """What daemons that several tests shared have left behind."""
        self.problems = list(harness.sanitizer_reports())
        if self.problems:
            self.report("FAIL", "the end of the last daemons", "no sanitizer reports", "failed")

    def report(self, word, name, text, count):
        self.counts[count] += 1
        self.build = "with sanitizers: " if harness.sanitized() else ""
        lines = [f"{word} {self.build}{name}: {text}"]
        logs = list(harness.new_log_lines())
        if self.problems:
            self.problems += [f"{path} has:\n" + "\n".join(found) for path, found in logs]
        for problem in self.problems:
            lines += [f"    | {line}" for line in problem.rstrip().splitlines()]
        self.problems = []
        print("\n".join(lines), flush=True)
        if word == "FAIL" and "FAILED" in os.environ:
            with open(os.environ["FAILED"], "a", encoding="utf-8") as file:
                print("\n".join(lines), file=file)


def main(folder, program, usage):
    """Runs what the command line asks for of the tests in a folder; returns the exit status."""
    arguments = sys.argv[1:]
    tests = collect(folder)
    if arguments[:1] in (["-h"], ["--help"]):
        print(usage.strip())
        return 0
    if arguments[:1] == ["-l"]:
        for name, test in chosen(tests, arguments[1:], program):
            print(f"{name}: {explain(test)}")
        return 0
    if any(argument.startswith("-") for argument in arguments):
        print(usage.strip(), file=sys.stderr)
        return 64
    tests = chosen(tests, arguments, program)
    # Progress is visible from the first second: building can take the longest.
    print(f"# {len(tests)} tests; building and installing into a private directory", flush=True)
    stopped = None
    result = Lines({test.id(): name for name, test in tests})
    try:
        harness.workspace()
        unittest.TestSuite(test for _, test in tests).run(result)
        result.look_again()
    except KeyboardInterrupt as reason:
        stopped = str(reason) or "SIGINT"
    finally:
        if harness._workspace is not None:
            harness._workspace.close()
    counts = result.counts
    if stopped:
        print(f"# stopped by {stopped}; everything started was ended and removed", flush=True)
    line = f"{result.build}{counts['passed']} passed, {counts['failed']} failed"
    print(line + (f", {counts['skipped']} skipped" if counts["skipped"] else ""), flush=True)
    if stopped:
        return 128 + getattr(signal, stopped, signal.SIGINT)
    good = counts["passed"] and not counts["failed"] and counts["skipped"] == result.excused
    return 0 if good else 1
