/*
 * A library of regular expressions, as the tables regexp and pcre use one. Runs in
 * jailmap-agent-pattern. One file for each; it may use memory only, and must never say that a
 * pattern does not match when it does not know.
 */
#ifndef JAILMAP_SERVER_AGENT_PATTERN_ENGINE_H
#define JAILMAP_SERVER_AGENT_PATTERN_ENGINE_H

#include "policy/table_type.h"
#include "server/agent/pattern/result.h"

enum match { MATCH_NO, MATCH_YES, MATCH_FAILS };

/* A key, and which bytes are in it: a pattern that needs others cannot match. */
struct subject {
    struct slice key;
    uint64_t bytes[4]; /* a bit for each */
};

/* A letter behind a pattern, and the options that it turns round. */
struct engine_letter {
    char letter;
    uint32_t options; /* 0: it is taken, and means nothing */
};

struct engine {
    enum table_type type;
    bool seconds;       /* rules may have a second expression */
    bool restarts;      /* a match may be left by siglongjmp(3), if clear() follows */
    uint32_t initially; /* options of a pattern without letters */
    const struct engine_letter *letters; /* up to one that is NUL */

    /* What matches need for themselves, for patterns of at most so many groups. NULL: no memory. */
    void *(*start)(unsigned groups);
    void (*stop)(void *scratch);
    /* Forgets what a match that was left has done. NULL unless restarts. */
    void (*clear)(void *scratch);
    /* groups: the places of groups will be asked for. NULL, and why. */
    void *(*compile)(struct slice pattern, uint32_t options, bool groups, char *why, size_t len);
    void (*discard)(void *compiled);
    unsigned (*groups)(const void *compiled);
    /* On MATCH_YES, where groups 1 to `groups` are, unless spans is NULL. On MATCH_FAILS, why. */
    enum match (*match)(void *scratch, const void *compiled, const struct subject *subject,
                        struct span *spans, unsigned groups, const char **why);
};

extern const struct engine engine_regexp;
extern const struct engine engine_pcre;

#endif
