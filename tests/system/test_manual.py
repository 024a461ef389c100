"""The manual and the grammar: what the one knows, the other explains.

Reads files of the source tree alone; starts nothing.
"""

import os
import re
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def source(*path):
    with open(os.path.join(ROOT, *path), encoding="utf-8") as file:
        return file.read()


def words():
    """(section, option) of the whole grammar; sections with an empty option."""
    text = source("policy", "config_options.c")
    found = []
    for section, body in re.findall(
        r"struct config_option (\w+)\[\] = \{(.*?)\n\};", text, re.DOTALL
    ):
        found += [(section, name) for name in re.findall(r'^    \{"([a-z-]+)",', body, re.MULTILINE)]
    found += [(name, "") for name in re.findall(r'config_\w+ = \{"(\w+)"', text)]
    return found + [("include", "")]


class ManualTest(unittest.TestCase):
    """jailmapd.conf(5)."""

    def test_words(self):
        """Every option and section of the grammar has its entry in jailmapd.conf(5), an example
        there, and a place in a test of what it does or refuses."""
        manual = source("man5", "jailmapd.conf.5").replace("\\(dq", '"')
        examples = "\n".join(line for line in manual.splitlines() if not line.startswith(".It"))
        tests = "".join(
            source("tests", folder, name)
            for folder in ("unit", "system")
            for name in os.listdir(os.path.join(ROOT, "tests", folder))
            if name.endswith((".c", ".py")) and name != os.path.basename(__file__)
        )
        grammar = words()
        self.assertGreater(len(grammar), 20)
        for section, option in grammar:
            with self.subTest(section=section, option=option):
                if option:
                    self.assertRegex(manual, rf"(?m)^\.It Ic {option} No = ")
                    self.assertRegex(examples, rf"\b{option} = ")
                    self.assertRegex(tests, rf"\b{option} *= |\"{option}\": ")
                else:
                    self.assertRegex(examples, rf'(?m)^(\.Dl )?{section} "')
                    self.assertRegex(tests, rf'{section} \\?"')
