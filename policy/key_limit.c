/*
 * Limits of keys: see key_limit.h. Runs in the monitor on what the configuration says, and in the
 * loader, the worker and the agents on keys of anybody. It may touch its arguments only, and must
 * never let a byte pass that the class does not name.
 */
#include "policy/key_limit.h"

#include <stdio.h>
#include <string.h>

#define EXPECTED "a character class like \"a-z0-9._-\" is expected"

const struct key_limit key_limit_none = {0, {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
                                             0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
                                             0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
                                             0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}};

/* A character of the class, and whether it stood there bare, so that `-` may mean a range. */
struct unit {
    unsigned char byte;
    bool bare;
};

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Reads the character at *at and goes behind it. False at an escape that is none. */
static bool cut_unit(const char **at, struct unit *unit, char *why, size_t len)
{
    const char *c = *at;
    int high, low;

    *unit = (struct unit){(unsigned char)c[0], true};
    *at += 1;
    if (c[0] != '\\')
        return true;
    *unit = (struct unit){(unsigned char)c[1], false};
    *at += 1;
    if (c[1] == '\\' || c[1] == '-')
        return true;
    if (c[1] == 'x' && (high = hex_digit(c[2])) >= 0 && (low = hex_digit(c[3])) >= 0) {
        unit->byte = (unsigned char)(high << 4 | low);
        *at += 2;
        return true;
    }
    snprintf(why, len, "has \"%.4s\" in it; of escapes, \\xHH, \\\\ and \\- are expected", c);
    return false;
}

/* Keys and requests come folded or not: what one case may have, the other may. */
static void allow(uint8_t allowed[32], unsigned first, unsigned last)
{
    for (unsigned byte = first; byte <= last; byte++) {
        unsigned other = byte;

        if ((byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z'))
            other ^= 0x20;
        allowed[byte / 8] |= (uint8_t)(1u << byte % 8);
        allowed[other / 8] |= (uint8_t)(1u << other % 8);
    }
}

bool key_limit_parse(const char *class, uint8_t allowed[32], char *why, size_t len)
{
    const char *at = class;

    memset(allowed, 0, 32);
    if (class[0] == '\0') {
        snprintf(why, len, "names no character, so that there would be no key; " EXPECTED);
        return false;
    }
    while (*at != '\0') {
        const char *start = at;
        struct unit first, last;

        if (!cut_unit(&at, &first, why, len))
            return false;
        last = first;
        if (first.bare && first.byte == '-' && start != class && at[0] != '\0') {
            snprintf(why, len,
                     "has a - in it that belongs to no range; write it first, last or as \\-");
            return false;
        }
        if (at[0] == '-' && at[1] != '\0') { /* else it is the last, and itself */
            at++;
            if (!cut_unit(&at, &last, why, len))
                return false;
        }
        if (last.byte < first.byte) {
            snprintf(why, len,
                     "has the range \"%.*s\", which goes backwards; \"%c-%c\" is expected",
                     (int)(at - start), start, last.byte, first.byte);
            return false;
        }
        allow(allowed, first.byte, last.byte);
    }
    return true;
}

bool key_limit_passes(const struct key_limit *limit, struct slice key)
{
    if (limit->max != 0 && key.len > limit->max)
        return false;
    for (size_t i = 0; i < key.len; i++) {
        unsigned char byte = (unsigned char)key.ptr[i];

        if ((limit->allowed[byte / 8] & 1u << byte % 8) == 0)
            return false;
    }
    return true;
}
