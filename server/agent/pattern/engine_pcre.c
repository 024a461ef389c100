/*
 * pcre tables: Perl-compatible regular expressions, by PCRE2. Runs in jailmap-agent-pattern.
 * Patterns are interpreted: nothing may become code while the agent runs, and PCRE2's compiler for
 * that is never called. A match has limits of steps, depth and memory, which a pattern may lower
 * and not raise; time is limited by the agent. What matching needs is taken from one mapping, and
 * never from malloc(3), so that a match can be left in the middle.
 */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "server/agent/pattern/engine.h"

#include <pcre2.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#define STEPS_MAX   5000000u
#define HEAP_MAX    (64u * 1024) /* KiB */
#define REGION      ((size_t)HEAP_MAX * 1024 * 3)
#define REGION_KEPT (1024u * 1024) /* bytes that may stay in use between two matches */

static const struct engine_letter letters[] = {{'i', PCRE2_CASELESS},
                                               {'s', PCRE2_DOTALL},
                                               {'m', PCRE2_MULTILINE},
                                               {'x', PCRE2_EXTENDED},
                                               {'A', PCRE2_ANCHORED},
                                               {'E', PCRE2_DOLLAR_ENDONLY},
                                               {'U', PCRE2_UNGREEDY},
                                               {'X', 0},
                                               {'\0', 0}};

struct scratch {
    unsigned groups;
    char *region;
    size_t used; /* of the region, by what follows and by the match */
    pcre2_match_context *limits;
    pcre2_match_data *data;
};

/* What a key must have for a pattern to match, as PCRE2 tells. Sets hold both cases of a letter,
 * because it does not tell whether case counts. */
struct pattern {
    pcre2_code *code;
    uint32_t groups;
    uint32_t shortest; /* bytes */
    bool at_start;     /* the first byte of a match is the first of the key */
    bool has_first, has_last;
    uint64_t first[4]; /* bytes that a match may begin with */
    uint64_t last[4];  /* one of these is in a match */
};

/* ---- memory of matches ---- */

static void *region_take(PCRE2_SIZE size, void *of)
{
    struct scratch *s = of;
    size_t rounded = (size + 63) & ~(size_t)63;
    char *taken = s->region + s->used;

    if (size > REGION || rounded > REGION - s->used)
        return NULL;
    s->used += rounded;
    return taken;
}

/* All of it is given back at once, in begin_anew(). */
static void region_give(void *part, void *of)
{
    (void)part;
    (void)of;
}

static bool map_region(struct scratch *s)
{
    void *at = mmap(NULL, REGION, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    s->region = at != MAP_FAILED ? at : NULL;
    return s->region != NULL;
}

/* With pages that hold nothing, if many have been used. False: no memory, and s->data is NULL. */
static bool begin_anew(struct scratch *s)
{
    pcre2_general_context *memory;

    if (s->used > REGION_KEPT && s->region != NULL) {
        munmap(s->region, REGION);
        s->region = NULL;
    }
    s->used = 0;
    s->data = NULL;
    if (s->region == NULL && !map_region(s))
        return false;
    memory = pcre2_general_context_create(region_take, region_give, s);
    s->limits = memory != NULL ? pcre2_match_context_create(memory) : NULL;
    if (s->limits == NULL)
        return false;
    pcre2_set_match_limit(s->limits, STEPS_MAX);
    pcre2_set_depth_limit(s->limits, STEPS_MAX);
    pcre2_set_heap_limit(s->limits, HEAP_MAX);
    s->data = pcre2_match_data_create(s->groups + 1, memory);
    return s->data != NULL;
}

static void clear(void *scratch)
{
    begin_anew(scratch);
}

static void stop(void *scratch)
{
    struct scratch *s = scratch;

    if (s->region != NULL)
        munmap(s->region, REGION);
    free(s);
}

static void *start(unsigned groups)
{
    struct scratch *s = calloc(1, sizeof *s);

    if (s == NULL)
        return NULL;
    s->groups = groups;
    if (begin_anew(s))
        return s;
    stop(s);
    return NULL;
}

/* ---- patterns ---- */

static void set_add(uint64_t set[4], unsigned char c)
{
    set[c / 64] |= UINT64_C(1) << c % 64;
}

static void set_add_both_cases(uint64_t set[4], uint32_t unit)
{
    unsigned char c = (unsigned char)unit;
    bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');

    set_add(set, c);
    if (letter)
        set_add(set, c ^ 0x20u);
}

static bool set_meets(const uint64_t a[4], const uint64_t b[4])
{
    return ((a[0] & b[0]) | (a[1] & b[1]) | (a[2] & b[2]) | (a[3] & b[3])) != 0;
}

static uint32_t number_of(const struct pattern *p, uint32_t what)
{
    uint32_t number = 0;

    pcre2_pattern_info(p->code, what, &number);
    return number;
}

/*
 * These are the facts by which pcre2_match() itself decides where to begin, and whether to. Nothing
 * is taken from patterns that tell it not to, nor from those in which a byte is not a character.
 */
static void learn_needs(struct pattern *p)
{
    const uint8_t *bitmap = NULL;
    uint32_t options = number_of(p, PCRE2_INFO_ALLOPTIONS);

    if (options & (PCRE2_UTF | PCRE2_UCP | PCRE2_NO_START_OPTIMIZE))
        return;
    p->at_start = (options & PCRE2_ANCHORED) != 0;
    p->shortest = number_of(p, PCRE2_INFO_MINLENGTH);
    p->has_last = number_of(p, PCRE2_INFO_LASTCODETYPE) == 1;
    if (p->has_last)
        set_add_both_cases(p->last, number_of(p, PCRE2_INFO_LASTCODEUNIT));
    if (number_of(p, PCRE2_INFO_FIRSTCODETYPE) == 1) {
        p->has_first = true;
        set_add_both_cases(p->first, number_of(p, PCRE2_INFO_FIRSTCODEUNIT));
        return;
    }
    pcre2_pattern_info(p->code, PCRE2_INFO_FIRSTBITMAP, &bitmap);
    p->has_first = bitmap != NULL;
    for (unsigned c = 0; bitmap != NULL && c < 256; c++)
        if (bitmap[c / 8] >> c % 8 & 1)
            set_add(p->first, (unsigned char)c);
}

/* False: it does not match, and that is sure. */
static bool may_match(const struct pattern *p, const struct subject *subject)
{
    if (subject->key.len < p->shortest)
        return false;
    if (p->has_last && !set_meets(p->last, subject->bytes))
        return false;
    if (!p->has_first)
        return true;
    if (p->at_start && subject->key.len > 0) {
        unsigned char c = (unsigned char)subject->key.ptr[0];

        return (p->first[c / 64] >> c % 64 & 1) != 0;
    }
    return set_meets(p->first, subject->bytes);
}

static void *compile(struct slice pattern, uint32_t options, bool groups, char *why, size_t len)
{
    struct pattern *p = calloc(1, sizeof *p);
    char reason[160] = "out of memory";
    PCRE2_SIZE at = 0;
    int rc = 0;

    (void)groups;
    if (p != NULL)
        p->code = pcre2_compile((PCRE2_SPTR)pattern.ptr, pattern.len, options, &rc, &at, NULL);
    if (p == NULL || p->code == NULL) {
        if (p != NULL)
            pcre2_get_error_message(rc, (PCRE2_UCHAR *)reason, sizeof reason);
        free(p);
        snprintf(why, len, "%s at character %zu of the pattern; expected one as in pcrepattern(3)",
                 reason, at + 1);
        return NULL;
    }
    p->groups = number_of(p, PCRE2_INFO_CAPTURECOUNT);
    learn_needs(p);
    return p;
}

static void discard(void *compiled)
{
    struct pattern *p = compiled;

    pcre2_code_free(p->code);
    free(p);
}

static unsigned groups_of(const void *compiled)
{
    const struct pattern *p = compiled;

    return p->groups;
}

static void copy_places(pcre2_match_data *data, struct span *spans, unsigned groups)
{
    const PCRE2_SIZE *places = pcre2_get_ovector_pointer(data);

    for (size_t i = 0; i <= groups; i++)
        spans[i] = places[2 * i] == PCRE2_UNSET ? (struct span){1, 0}
                                                : (struct span){places[2 * i], places[2 * i + 1]};
}

static const char *words_of(int rc)
{
    switch (rc) {
    case PCRE2_ERROR_MATCHLIMIT:
    case PCRE2_ERROR_DEPTHLIMIT:
        return "this key takes more steps than a match may have";
    case PCRE2_ERROR_HEAPLIMIT:
    case PCRE2_ERROR_NOMEMORY:
        return "this key takes more memory than a match may have";
    case PCRE2_ERROR_RECURSELOOP:
        return "the pattern calls itself for ever";
    default:
        return "the pattern library reports an error of its own";
    }
}

static enum match match(void *scratch, const void *compiled, const struct subject *subject,
                        struct span *spans, unsigned groups, const char **why)
{
    const struct pattern *p = compiled;
    struct scratch *s = scratch;
    struct slice key = subject->key;
    int rc;

    if (!may_match(p, subject))
        return MATCH_NO;
    if (s->data == NULL && !begin_anew(s)) {
        *why = "out of memory";
        return MATCH_FAILS;
    }
    rc = pcre2_match(p->code, (PCRE2_SPTR)(key.len > 0 ? key.ptr : ""), key.len, 0, 0, s->data,
                     s->limits);
    if (rc >= 0 && spans != NULL && groups <= s->groups)
        copy_places(s->data, spans, groups);
    if (s->used > REGION_KEPT)
        begin_anew(s);
    if (rc >= 0)
        return MATCH_YES;
    /* What is not UTF-8 is in no set of UTF-8 strings, which is what a pattern with (*UTF) means.
     */
    if (rc == PCRE2_ERROR_NOMATCH || (rc <= PCRE2_ERROR_UTF8_ERR1 && rc >= PCRE2_ERROR_UTF8_ERR21))
        return MATCH_NO;
    *why = words_of(rc);
    return MATCH_FAILS;
}

const struct engine engine_pcre = {.type = TYPE_PCRE,
                                   .restarts = true,
                                   .initially = PCRE2_CASELESS | PCRE2_DOTALL,
                                   .letters = letters,
                                   .start = start,
                                   .stop = stop,
                                   .clear = clear,
                                   .compile = compile,
                                   .discard = discard,
                                   .groups = groups_of,
                                   .match = match};
