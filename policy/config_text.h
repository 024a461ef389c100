/*
 * What libconfuse does not do before it parses. It takes a comment in some places for a value, and
 * counts its lines more than once; it takes the end of the file for the end of a section, of a
 * string or of a comment, and so a file that was cut short for a good one; it cuts words at NUL
 * bytes. Runs in the monitor at start and in `jailmapd -n`. Pure; must never change a line's
 * number.
 */
#ifndef JAILMAP_POLICY_CONFIG_TEXT_H
#define JAILMAP_POLICY_CONFIG_TEXT_H

#include <stddef.h>

/*
 * Turns the comments in text[0..len) into blanks. Returns 0, or -1 with a constant text in *why for
 * what is open at the end, or cannot be in a configuration, and its line in *line.
 */
int config_text(char *text, size_t len, int *line, const char **why);

#endif
