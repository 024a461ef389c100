/*
 * A table of regular expressions: the rules of regexp_table(5) and pcre_table(5), with if and
 * endif. Runs in jailmap-agent-pattern. Parsing and finding touch memory only. A rule that is wrong
 * is left out; a rule of which it is not known whether it matches fails the key, and must never be
 * passed over, since what comes behind it, or "not found", might be the wrong answer.
 */
#ifndef JAILMAP_SERVER_AGENT_PATTERN_EXPR_H
#define JAILMAP_SERVER_AGENT_PATTERN_EXPR_H

#include "server/agent/pattern/engine.h"
#include "server/agent/pattern/rules.h"

struct expr_table;

/* Takes all of rules, which must stay until expr_free(). NULL: out of memory. */
struct expr_table *expr_parse(const struct engine *engine, struct rules *rules);
void expr_free(struct expr_table *table);
size_t expr_count(const struct expr_table *table);

enum expr_found { EXPR_NOT_FOUND, EXPR_FOUND, EXPR_FAILS };

/*
 * The first rule that matches the key. regsub: rules whose result has parts of the key exist. On
 * EXPR_FOUND *value is good until the next call; on EXPR_FAILS it is the reason, with the rule's
 * place. limit: bytes of a result.
 */
enum expr_found expr_find(struct expr_table *table, struct slice key, bool regsub, size_t limit,
                          struct slice *value);

/* After expr_find() was left by siglongjmp(3), which it may be only if the engine restarts. */
void expr_clear(struct expr_table *table);
/* Where the rule stands that was looked at last, also when expr_find() was left. */
const char *expr_at(const struct expr_table *table, struct rule_place *place);

#endif
