"""The build with sanitizers (`make system-sanitized`), and that nothing of it is in any other.
"""

import glob
import os
import unittest

import harness
from harness import workspace

# What is in a program that has sanitizers, and in one that has the rules for them in its filter.
RUNTIME, RULES = b"__asan_", b"sanitizer: memory"


class SanitizersTest(unittest.TestCase):
    def test_only_there(self):
        """A normal program has no sanitizer and no rule for one in its filter; where there are
        sanitizers, every program has both."""
        there = harness.sanitized()
        helpers = glob.glob(os.path.join(workspace().libexec, "*"))
        self.assertGreaterEqual(len(helpers), 5)
        for path in (workspace().jailmapd, workspace().jailmap, *helpers):
            with open(path, "rb") as file:
                program = file.read()
            self.assertEqual(RUNTIME in program, there, path)
            if os.path.basename(path) == "jailmap-import":
                continue  # a tool of its caller, without a filter
            self.assertIn(b"the end", program, "texts of rules can be found")
            self.assertEqual(RULES in program, there, path)
