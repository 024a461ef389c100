/*
 * Reading jailmapd.conf(5). Runs in the monitor at start, with privilege, on files that only root
 * can write, in `jailmapd -n`, and in the tool. It may ask the name service for users and groups;
 * it must never start anything, and never accept what it does not understand.
 */
#include "policy/config.h"

#include <dirent.h>
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#include "policy/config_table.h"
#include "policy/members.h"
#include "policy/words.h"
#include "privsep/bridge.h"

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

#define PENDING_BASE (UINT64_C(128) << 20) /* max-pending, and 16 of the longest requests */
#define SIZE_MOST    ((size_t)16 << 20)    /* of one file */
/* Far beyond what anybody writes; but what a reader reports must not keep the monitor busy. */
#define SECTIONS_MOST  65536u              /* of one kind */
#define MENTIONS_MOST  (1u << 20)          /* of tables and listeners in allow sections */
#define WORK_MOST      (UINT64_C(1) << 31) /* comparisons of these with tables, or each other */
#define FRAGMENTS_MOST 4096
#define LOAD_MEMORY    4096 /* MB */
#define AGENT_MEMORY   1024 /* of one that holds no data: of patterns, no library has a bound */
#define OPTIONS_MOST   32   /* of one section */
#define FOUND_MAX      80

/* Where an allow section names a table, or a listener; that may be declared later. */
struct mention {
    size_t allow;
    struct policy_place spot;
    bool is_listen;
    char *name;
};

/* Where each option of a section was given; column 0: it was not. */
struct given {
    struct policy_place at[OPTIONS_MOST];
};

struct reading {
    struct words words;
    struct policy *policy;
    const struct policy_files *files; /* NULL: a canonical text, which names nobody and no file */
    unsigned opened;                  /* of these, directories included */
    const char *fragment;             /* the name of the file that is read; NULL: the main one */
    struct given global;
    struct mention *mentions;
    size_t nmentions;
    char *why;
    size_t len;
};

/* Keeps the first complaint, as one line, whatever it quotes. Returns false. */
__attribute__((format(printf, 3, 4))) static bool complain(struct reading *r,
                                                           const struct policy_place *spot,
                                                           const char *format, ...)
{
    char text[2048];
    va_list ap;
    int n;

    if (r->why[0] != '\0')
        return false;
    if (spot->line == 0)
        n = snprintf(r->why, r->len, "%s: ", spot->file);
    else
        n = snprintf(r->why, r->len, "%s:%d:%d: ", spot->file, spot->line, spot->column);
    va_start(ap, format);
    vsnprintf(text, sizeof text, format, ap);
    va_end(ap);
    if (n >= 0 && (size_t)n < r->len)
        policy_printable((struct slice){text, strlen(text)}, r->why + n, r->len - (size_t)n);
    return false;
}

static bool out_of_memory(struct reading *r)
{
    return complain(r, &r->words.here, "out of memory");
}

/* The token in hand is not what should be there. */
static bool unexpected(struct reading *r, const char *expected)
{
    char found[FOUND_MAX];

    return complain(r, &r->words.spot, "%s stands here; %s is expected",
                    words_found(&r->words, found, sizeof found), expected);
}

static bool next(struct reading *r)
{
    return words_next(&r->words) || complain(r, &r->words.spot, "%s", r->words.complaint);
}

static bool is_text(const struct reading *r)
{
    return r->words.token == TOKEN_WORD || r->words.token == TOKEN_STRING;
}

/* ---- unknown names ---- */

/* How many letters must be changed, added or left out to make b of a; 9: too many to mean it. */
static unsigned distance(const char *a, const char *b)
{
    unsigned row[40], n = (unsigned)strlen(b);

    if (strlen(a) >= COUNT(row) || n >= COUNT(row))
        return 9;
    for (unsigned j = 0; j <= n; j++)
        row[j] = j;
    for (unsigned i = 1; a[i - 1] != '\0'; i++) {
        unsigned corner = row[0];

        row[0] = i;
        for (unsigned j = 1; j <= n; j++) {
            unsigned best = corner + (a[i - 1] != b[j - 1]);

            corner = row[j];
            best = row[j] + 1 < best ? row[j] + 1 : best;
            row[j] = row[j - 1] + 1 < best ? row[j - 1] + 1 : best;
        }
    }
    return row[n];
}

static const struct config_section *const sections[] = {&config_listen, &config_table,
                                                        &config_allow, &config_limit};

static const struct config_section *find_section(const char *name)
{
    for (size_t i = 0; i < COUNT(sections); i++)
        if (strcmp(name, sections[i]->name) == 0)
            return sections[i];
    return NULL;
}

/* Says which names there are, or which one was meant. */
static bool unknown_name(struct reading *r, const struct config_section *section)
{
    char names[512] = "", found[FOUND_MAX];
    const char *meant = NULL;
    unsigned best = 3;
    size_t used = 0, n = section->noptions + (section == &config_global ? COUNT(sections) + 1 : 0);

    for (size_t i = 0; i < n; i++) {
        const char *name = i < section->noptions ? section->options[i].name
                           : i < section->noptions + COUNT(sections)
                               ? sections[i - section->noptions]->name
                               : "include";
        unsigned d = distance(r->words.text, name);

        if (d < best && d < strlen(name)) {
            best = d;
            meant = name;
        }
        if (used < sizeof names)
            used += (size_t)snprintf(names + used, sizeof names - used, "%s%s",
                                     i == 0       ? ""
                                     : i + 1 == n ? " or "
                                                  : ", ",
                                     name);
    }
    words_found(&r->words, found, sizeof found);
    if (meant != NULL)
        return complain(r, &r->words.spot, "%s is not known here; did you mean \"%s\"?", found,
                        meant);
    return complain(r, &r->words.spot, "%s is not known here; %s is expected", found, names);
}

/* ---- values ---- */

static bool check_path(struct reading *r, const struct policy_place *spot, const char *what,
                       const char *path)
{
    for (const char *at = path; *at != '\0'; at++)
        if ((unsigned char)*at < 0x20 || *at == 0x7f)
            return complain(r, spot, "%s has a control character in its path", what);
    if (path[0] != '/')
        return complain(r, spot, "%s \"%s\" is a relative path; an absolute one is expected", what,
                        path);
    for (const char *at = path; at != NULL; at = strchr(at + 1, '/')) {
        size_t len = strcspn(at + 1, "/");

        if (len == 0 || (len == 1 && at[1] == '.') || (len == 2 && memcmp(at + 1, "..", 2) == 0))
            return complain(
                r, spot,
                "%s \"%s\" has an empty, . or .. component; the path without it is expected", what,
                path);
    }
    return true;
}

/* The last number means "no id" to the kernel. */
static bool parse_id(const char *text, char end, const char **rest, unsigned *id)
{
    unsigned long long value;
    char *stop;

    if (text[0] < '0' || text[0] > '9')
        return false;
    errno = 0;
    value = strtoull(text, &stop, 10);
    *id = (unsigned)value;
    *rest = stop + (*stop != '\0');
    return *stop == end && errno == 0 && value < (uid_t)-1;
}

static bool find_user(struct reading *r, const struct policy_place *spot, const char *name,
                      uid_t *uid)
{
    struct passwd *pw;
    const char *rest;

    if (parse_id(name, '\0', &rest, uid))
        return true;
    pw = r->files != NULL ? getpwnam(name) : NULL;
    if (pw == NULL)
        return complain(
            r, spot,
            "unknown user \"%s\"; the name of a user of this system, or a number, is expected",
            name);
    *uid = pw->pw_uid;
    return true;
}

static bool find_group(struct reading *r, const struct policy_place *spot, const char *name,
                       gid_t *gid)
{
    struct group *gr;
    const char *rest;

    if (parse_id(name, '\0', &rest, gid))
        return true;
    gr = r->files != NULL ? getgrnam(name) : NULL;
    if (gr == NULL)
        return complain(
            r, spot,
            "unknown group \"%s\"; the name of a group of this system, or a number, is expected",
            name);
    *gid = gr->gr_gid;
    return true;
}

/* The user that the children run as: a name, or UID:GID. */
static bool find_child(struct reading *r, const struct policy_place *spot, const char *name)
{
    struct policy *policy = r->policy;
    struct passwd *pw;
    const char *rest;

    if (!parse_id(name, ':', &rest, &policy->uid) || !parse_id(rest, '\0', &rest, &policy->gid)) {
        pw = r->files != NULL ? getpwnam(name) : NULL;
        if (pw == NULL && spot->line == 0)
            return complain(
                r, spot,
                "unknown user \"%s\", which is the default of user; that one, made as the "
                "README shows, or another user = \"NAME\" is expected",
                name);
        if (pw == NULL)
            return complain(
                r, spot,
                "unknown user \"%s\"; the name of a user of this system, or UID:GID, is expected",
                name);
        policy->uid = pw->pw_uid;
        policy->gid = pw->pw_gid;
    }
    if (policy->uid == 0 || policy->gid == 0)
        return complain(r, spot,
                        "user \"%s\" has uid or gid 0; an unprivileged user of its own is expected",
                        name);
    free(policy->user);
    policy->user = strdup(name);
    return policy->user != NULL || out_of_memory(r);
}

static bool take_number(struct reading *r, const struct config_option *o, long *value)
{
    const char *text = r->words.text;
    char *end;

    errno = 0;
    *value = strtol(text, &end, 10);
    if (end == text || *end != '\0' || text[strcspn(text, " \t+")] != '\0')
        return complain(r, &r->words.spot, "%s = \"%s\" is not a number; %s is expected", o->name,
                        text, o->expected);
    if (errno != 0 || *value < o->low || *value > o->high)
        return complain(r, &r->words.spot, "%s = %s is out of range; %s is expected", o->name, text,
                        o->expected);
    return true;
}

/* As text: 400 and 0400 are not the same number, and only one of them is meant. */
static bool take_mode(struct reading *r, mode_t *mode)
{
    const char *text = r->words.text;
    size_t len = r->words.len;

    if (text[0] != '0' || len > 5 || strspn(text, "01234567") != len ||
        strtol(text, NULL, 8) > 0777)
        return complain(
            r, &r->words.spot,
            "mode = %s is out of range; an octal number from 0000 to 0777, with its leading "
            "zero, is expected",
            text);
    *mode = (mode_t)strtol(text, NULL, 8);
    return true;
}

static bool take_choice(struct reading *r, const struct config_option *o, unsigned *choice)
{
    for (unsigned i = 0; i < COUNT(o->words) && o->words[i] != NULL; i++)
        if (strcmp(r->words.text, o->words[i]) == 0) {
            *choice = i;
            return true;
        }
    return complain(r, &r->words.spot, "%s = \"%s\" is not known; %s is expected", o->name,
                    r->words.text, o->expected);
}

static bool take_path(struct reading *r, const struct config_option *o, char **path)
{
    if (!check_path(r, &r->words.spot, o->name, r->words.text))
        return false;
    free(*path);
    *path = strdup(r->words.text);
    return *path != NULL || out_of_memory(r);
}

static bool take_word(struct reading *r, const struct config_option *o, bool *second)
{
    unsigned choice = 0;

    if (!take_choice(r, o, &choice))
        return false;
    if (o->words[1] != NULL)
        *second = choice == 1;
    return true;
}

static bool grow(struct reading *r, void *array, size_t n, size_t size)
{
    void *grown;

    if (n >= SECTIONS_MOST)
        return complain(r, &r->words.spot,
                        "more than %u sections of a kind, or words in one; fewer "
                        "are expected",
                        SECTIONS_MOST);
    grown = realloc(*(void **)array, (n + 1) * size);
    if (grown == NULL)
        return out_of_memory(r);
    *(void **)array = grown;
    memset((char *)grown + n * size, 0, size);
    return true;
}

static bool mention(struct reading *r, bool is_listen)
{
    struct mention *grown;

    if (r->nmentions >= MENTIONS_MOST)
        return complain(r, &r->words.spot,
                        "more than %u names in allow sections; fewer are expected", MENTIONS_MOST);
    grown = realloc(r->mentions, (r->nmentions + 1) * sizeof *grown);
    if (grown == NULL)
        return out_of_memory(r);
    r->mentions = grown;
    grown[r->nmentions] =
        (struct mention){r->policy->nallows - 1, r->words.spot, is_listen, strdup(r->words.text)};
    return grown[r->nmentions++].name != NULL || out_of_memory(r);
}

static bool mention_listen(struct reading *r)
{
    return mention(r, true);
}

static bool mention_table(struct reading *r)
{
    struct policy_allow *a = &r->policy->allows[r->policy->nallows - 1];

    if (!mention(r, false) || !grow(r, &a->words, a->nwords, sizeof *a->words))
        return false;
    a->words[a->nwords] = strdup(r->words.text);
    return a->words[a->nwords++] != NULL || out_of_memory(r);
}

static bool take_field(struct reading *r)
{
    struct policy_table *t = &r->policy->tables[r->policy->ntables - 1];
    uint32_t field = table_type_field(t->type, r->words.text);
    char fields[128];

    table_type_fields(t->type, fields, sizeof fields);
    if (field == 0)
        return complain(r, &r->words.spot, "reveal: \"%s\" is no field of %s; %s is expected",
                        r->words.text, t->name, fields);
    if (t->reveal & field)
        return complain(r, &r->words.spot, "reveal names the field %s twice; once is expected",
                        r->words.text);
    t->reveal |= field;
    return true;
}

/* { value, value, ... }: take() is called for each. */
static bool take_list(struct reading *r, const struct config_option *o,
                      bool (*take)(struct reading *r))
{
    char expected[128];

    if (!words_is(&r->words, '{')) {
        snprintf(expected, sizeof expected, "a list in braces, %s = {\"...\", \"...\"},", o->name);
        return unexpected(r, expected);
    }
    if (!next(r))
        return false;
    while (!words_is(&r->words, '}')) {
        if (!is_text(r))
            return unexpected(r, "a value, or the } that ends the list,");
        if (!take(r) || !next(r))
            return false;
        if (words_is(&r->words, ',')) {
            if (!next(r))
                return false;
        } else if (!words_is(&r->words, '}')) {
            return unexpected(r, ", or }");
        }
    }
    return true;
}

static bool take_listens(struct reading *r, const struct config_option *o)
{
    struct policy_place spot = r->words.spot;
    size_t before = r->nmentions;

    if (!take_list(r, o, mention_listen))
        return false;
    return r->nmentions > before ||
           complain(r, &spot, "listen names no socket; leave it out if every one is meant");
}

/* all, existence, or a list of fields. */
static bool take_reveal(struct reading *r, const struct config_option *o)
{
    struct policy_table *t = &r->policy->tables[r->policy->ntables - 1];
    const char *text = r->words.text, *or_list = "";
    struct policy_place spot = r->words.spot;
    char fields[128];

    if (t->type->fields != NULL)
        or_list = ", or a list of fields, {name, gid},";
    t->reveal = is_text(r) && strcmp(text, "all") == 0 ? REVEAL_ALL : REVEAL_EXISTENCE;
    if (is_text(r))
        return t->reveal == REVEAL_ALL || strcmp(text, "existence") == 0 ||
               complain(r, &spot, "reveal = \"%s\" is not known; all or existence%s is expected",
                        text, or_list);
    if (t->type->fields == NULL && words_is(&r->words, '{'))
        return complain(r, &spot,
                        "reveal has a list of fields, and the entries of a table of type %.*s have "
                        "none; all or existence is expected",
                        (int)strlen(t->type->prefix) - 1, t->type->prefix);
    if (!take_list(r, o, take_field))
        return false;
    return t->reveal != REVEAL_EXISTENCE ||
           complain(r, &spot, "reveal names no field; existence, or some of %s, is expected",
                    table_type_fields(t->type, fields, sizeof fields));
}

/* One entry of environ. Its loader gets all of them in one message, each with a NUL behind it. */
static bool take_entry(struct reading *r)
{
    struct policy_table *t = &r->policy->tables[r->policy->ntables - 1];
    const char *entry = r->words.text, *equals = strchr(entry, '=');

    if (equals == NULL || equals == entry)
        return complain(r, &r->words.spot,
                        "set: \"%.200s\" is no entry; \"NAME=VALUE\" is expected", entry);
    /* What reports a policy must not keep the monitor busy; it has been asked before. */
    for (size_t i = 0; r->files != NULL && i < t->nset; i++)
        if (strncmp(t->set[i], entry, (size_t)(equals - entry) + 1) == 0)
            return complain(r, &r->words.spot, "set names %.*s twice; once is expected",
                            (int)(equals - entry), entry);
    t->set_bytes += r->words.len + 1;
    if (t->set_bytes > BRIDGE_NAME_MAX)
        return complain(r, &r->words.spot,
                        "set is longer than %d bytes, one more than its length for each entry; "
                        "fewer or shorter ones are expected",
                        BRIDGE_NAME_MAX);
    if (!grow(r, &t->set, t->nset, sizeof *t->set))
        return false;
    t->set[t->nset] = strdup(entry);
    return t->set[t->nset++] != NULL || out_of_memory(r);
}

static bool take_keys(struct reading *r, uint8_t *allowed)
{
    char why[256];

    return key_limit_parse(r->words.text, allowed, why, sizeof why) ||
           complain(r, &r->words.spot, "keys = \"%.200s\" %s", r->words.text, why);
}

/* The value in hand, for the option of a section whose struct is at base. */
static bool take_value(struct reading *r, const struct config_option *o, void *base)
{
    const struct policy_place *spot = &r->words.spot;
    void *place = (char *)base + o->offset;
    long number = 0;

    if (o->value == VALUE_TABLES)
        return take_list(r, o, mention_table);
    if (o->value == VALUE_LISTENS)
        return take_listens(r, o);
    if (o->value == VALUE_REVEAL)
        return take_reveal(r, o);
    if (o->value == VALUE_SET)
        return take_list(r, o, take_entry);
    if (!is_text(r))
        return unexpected(r, "a value");
    switch (o->value) {
    case VALUE_NUMBER:
    case VALUE_MEGABYTES:
        if (!take_number(r, o, &number))
            return false;
        if (o->value == VALUE_NUMBER)
            *(unsigned *)place = (unsigned)number;
        else
            *(uint64_t *)place = (uint64_t)number << 20;
        return true;
    case VALUE_MODE:
        return take_mode(r, place);
    case VALUE_WORD:
        return take_word(r, o, place);
    case VALUE_CHOICE:
        return take_choice(r, o, place);
    case VALUE_USER:
        return find_user(r, spot, r->words.text, place);
    case VALUE_GROUP:
        return find_group(r, spot, r->words.text, place);
    case VALUE_CHILD:
        return find_child(r, spot, r->words.text);
    case VALUE_KEYS:
        return take_keys(r, place);
    default:
        return take_path(r, o, place);
    }
}

static const struct config_option *find_option(const struct config_section *section,
                                               const char *name)
{
    for (size_t i = 0; i < section->noptions; i++)
        if (strcmp(name, section->options[i].name) == 0)
            return &section->options[i];
    return NULL;
}

/* An option that means nothing would let its writer believe that it does. */
static bool check_meant(struct reading *r, const struct config_option *o,
                        const struct policy_place *spot)
{
    const struct policy_table *t = &r->policy->tables[r->policy->ntables - 1];
    const char *why = config_unmeant(o, t);

    return why == NULL ||
           complain(r, spot, "%s means nothing for a table of type %.*s, %s; leave it out", o->name,
                    (int)strlen(t->type->prefix) - 1, t->type->prefix, why);
}

/* name = value. The name is in hand; what follows the value will be. */
static bool read_option(struct reading *r, const struct config_section *section, void *base,
                        struct given *given)
{
    const struct config_option *o = find_option(section, r->words.text);
    char expected[64];
    struct policy_place *first;

    if (o == NULL)
        return unknown_name(r, section);
    first = &given->at[o - section->options];
    if (first->column != 0)
        return complain(r, &r->words.spot, "%s is given twice; the first is in %s:%d", o->name,
                        first->file, first->line);
    *first = r->words.spot;
    if (section == &config_table && !check_meant(r, o, first))
        return false;
    if (!next(r))
        return false;
    snprintf(expected, sizeof expected, "= behind %s", o->name);
    if (is_text(r) && find_section(o->name) != NULL)
        return complain(r, first, "%s begins inside the %s section; } is expected before it",
                        o->name, section->name);
    if (!words_is(&r->words, '='))
        return unexpected(r, expected);
    return next(r) && take_value(r, o, base) && next(r);
}

/* Where the option of that name was given, or the section itself. */
static const struct policy_place *spot_of(const struct config_section *section,
                                          const struct given *given, const char *name,
                                          const struct policy_place *title)
{
    for (size_t i = 0; i < section->noptions; i++)
        if (strcmp(section->options[i].name, name) == 0 && given->at[i].column != 0)
            return &given->at[i];
    return title;
}

/* ---- sections ---- */

static bool duplicate(struct reading *r, const char *section, const struct policy_place *first)
{
    return complain(r, &r->words.spot, "duplicate %s \"%.200s\"; the first is in %s:%d", section,
                    r->words.text, first->file, first->line);
}

static bool begin_listen(struct reading *r)
{
    struct policy *policy = r->policy;
    const char *path = r->words.text;
    struct policy_listen *l;

    if (!check_path(r, &r->words.spot, "listen", path))
        return false;
    if (strlen(path) >= sizeof((struct sockaddr_un *)NULL)->sun_path)
        return complain(r, &r->words.spot,
                        "listen \"%s\" is longer than the %zu bytes of a socket's name; a "
                        "shorter path is expected",
                        path, sizeof((struct sockaddr_un *)NULL)->sun_path - 1);
    for (size_t i = 0; i < policy->nlistens; i++)
        if (strcmp(policy->listens[i].path, path) == 0)
            return duplicate(r, "listen", &policy->listens[i].place);
    if (!grow(r, &policy->listens, policy->nlistens, sizeof *l))
        return false;
    l = &policy->listens[policy->nlistens++];
    *l = (struct policy_listen){.path = strdup(path),
                                .place = r->words.spot,
                                .mode = 0666,
                                .backlog = 128,
                                .max_request = 4 << 20,
                                .request_timeout = 10,
                                .answer_timeout = 60,
                                .workers = 2,
                                .clients_per_worker = 256,
                                .max_use = 100000,
                                .greeting = true};
    return l->path != NULL || out_of_memory(r);
}

/* A limit under which one client alone, with the longest request, would be closed is a mistake. */
static bool end_listen(struct reading *r, const struct given *given,
                       const struct policy_place *title)
{
    struct policy_listen *l = &r->policy->listens[r->policy->nlistens - 1];

    if (l->max_pending == 0)
        l->max_pending = PENDING_BASE + UINT64_C(16) * l->max_request;
    if (l->max_pending >= UINT64_C(4) * l->max_request)
        return true;
    return complain(
        r, spot_of(&config_listen, given, "max-pending", title),
        "max-pending = %llu is less than 4 times max-request; at least %llu is expected",
        (unsigned long long)l->max_pending >> 20,
        ((unsigned long long)l->max_request * 4 + (1 << 20) - 1) >> 20);
}

/* Is what stands behind the type a path? */
static bool is_path(const struct table_type_info *type, const char *name)
{
    return type->suffix != NULL && (!type->braced || name[strlen(type->prefix)] != '{');
}

static bool check_table_name(struct reading *r, const char *name,
                             const struct table_type_info **type)
{
    const struct policy_place *spot = &r->words.spot;
    const char *why;

    *type = table_type_of(name, &why);
    if (strncmp(name, "proxy:", 6) == 0)
        return complain(r, spot,
                        "table \"%s\": leave out proxy:, clients' requests are matched without it",
                        name);
    if (r->words.len > BRIDGE_NAME_MAX)
        return complain(r, spot, "table name longer than %d bytes", BRIDGE_NAME_MAX);
    if (*type == NULL)
        return complain(r, spot, "table \"%s\": %s", name, why);
    why = config_table_name(*type, name + strlen((*type)->prefix));
    if (why != NULL)
        return complain(r, spot, "table \"%s\": %s", name, why);
    if (is_path(*type, name)) {
        char what[256];

        snprintf(what, sizeof what, "the path in table \"%.200s\":", name);
        return check_path(r, spot, what, name + strlen((*type)->prefix));
    }
    return true;
}

/* Where the table's source is. */
static bool set_source(struct reading *r, struct policy_table *t)
{
    const char *before = t->type->path, *behind = "";

    if (is_path(t->type, t->name)) {
        before = t->name + strlen(t->type->prefix);
        behind = t->type->suffix;
    }
    if (before != NULL && asprintf(&t->path, "%s%s", before, behind) < 0) {
        t->path = NULL;
        return out_of_memory(r);
    }
    return true;
}

static bool begin_table(struct reading *r)
{
    struct policy *policy = r->policy;
    const struct table_type_info *type;
    struct policy_table *t;

    if (!check_table_name(r, r->words.text, &type) || type == NULL)
        return false;
    for (size_t i = 0; i < policy->ntables; i++)
        if (strcmp(policy->tables[i].name, r->words.text) == 0)
            return duplicate(r, "table", &policy->tables[i].place);
    if (!grow(r, &policy->tables, policy->ntables, sizeof *t))
        return false;
    t = &policy->tables[policy->ntables++];
    *t = (struct policy_table){
        .name = strdup(r->words.text),
        .place = r->words.spot,
        .type = type,
        .reveal = REVEAL_ALL,
        .limit = key_limit_none,
        .owner = POLICY_NO_OWNER,
        .load_time = 120,
        .load_memory = type->by == TABLE_BY_AGENT && !type->database ? AGENT_MEMORY : LOAD_MEMORY};
    if (type->by & TABLE_BY_AGENT) {
        t->processes = 4;
        t->timeout = 10;
        t->queue = 1000;
        t->cache_size = 4;
    }
    return t->name != NULL ? set_source(r, t) : out_of_memory(r);
}

static bool end_table(struct reading *r, const struct given *given,
                      const struct policy_place *title)
{
    const struct policy_table *t = &r->policy->tables[r->policy->ntables - 1];

    if (t->type->database && t->database == NULL)
        return complain(r, title,
                        "table \"%s\" names no database; database = \"/PATH\", the same as dbpath "
                        "in %s, is expected",
                        t->name, t->path);
    if (t->reveal != REVEAL_EXISTENCE || t->type->type != TYPE_STATIC)
        return true;
    return complain(
        r, spot_of(&config_table, given, "reveal", title),
        "reveal = existence hides nothing of a static table: its name is its value; leave it out");
}

/* Whom the title speaks of. In a canonical text the number stands before it. */
static bool find_who(struct reading *r, struct policy_allow *a)
{
    const struct policy_place *spot = &r->words.spot;

    if (strcmp(a->title, "*") == 0) {
        a->who = WHO_ANYONE;
        return true;
    }
    if (a->title[0] == '@') {
        a->who = WHO_GROUP;
        a->gid = r->words.id;
        return r->files == NULL || find_group(r, spot, a->title + 1, &a->gid);
    }
    a->uid = r->words.id;
    return r->files == NULL || find_user(r, spot, a->title, &a->uid);
}

static bool begin_allow(struct reading *r)
{
    struct policy *policy = r->policy;
    struct policy_allow *a;

    if (!grow(r, &policy->allows, policy->nallows, sizeof *a))
        return false;
    a = &policy->allows[policy->nallows++];
    *a = (struct policy_allow){.title = strdup(r->words.text), .place = r->words.spot};
    return a->title != NULL ? find_who(r, a) : out_of_memory(r);
}

/* Does the section name that listener, or, for NULL, any? */
static bool names_listen(const struct reading *r, size_t allow, const char *path)
{
    for (size_t i = 0; i < r->nmentions; i++)
        if (r->mentions[i].allow == allow && r->mentions[i].is_listen &&
            (path == NULL || strcmp(r->mentions[i].name, path) == 0))
            return true;
    return false;
}

/* Is there a listener of which both sections speak? */
static bool meet(const struct reading *r, size_t one, size_t other)
{
    if (!names_listen(r, one, NULL) || !names_listen(r, other, NULL))
        return true;
    for (size_t i = 0; i < r->nmentions; i++)
        if (r->mentions[i].allow == one && r->mentions[i].is_listen &&
            names_listen(r, other, r->mentions[i].name))
            return true;
    return false;
}

/* Sections that speak of the same client add up, but two of one name are a mistake; one that must
 * have been found before a canonical text is written. */
static bool end_allow(struct reading *r, const struct policy_place *title)
{
    const struct policy *policy = r->policy;
    size_t last = policy->nallows - 1;
    const struct policy_allow *a = &policy->allows[last], *other = policy->allows;

    for (size_t i = 0; r->files != NULL && i < last; i++, other++) {
        if (other->who != a->who || other->uid != a->uid || other->gid != a->gid ||
            !meet(r, last, i))
            continue;
        if (strcmp(other->title, a->title) == 0)
            return complain(r, title, "duplicate allow \"%.200s\"; the first is in %s:%d", a->title,
                            other->place.file, other->place.line);
        return complain(r, title,
                        "allow \"%s\" and allow \"%s\" in %s:%d are the same %s %u; one section "
                        "for both is expected",
                        a->title, other->title, other->place.file, other->place.line,
                        a->who == WHO_GROUP ? "gid" : "uid",
                        a->who == WHO_GROUP ? (unsigned)a->gid : (unsigned)a->uid);
    }
    return true;
}

static bool begin_limit(struct reading *r)
{
    struct policy *policy = r->policy;
    const char *title = r->words.text;
    struct policy_limit *l;

    if (title[0] == '@')
        return complain(r, &r->words.spot,
                        "limit \"%s\" names a group; a user, or * for each user, is expected",
                        title);
    if (!grow(r, &policy->limits, policy->nlimits, sizeof *l))
        return false;
    l = &policy->limits[policy->nlimits++];
    *l = (struct policy_limit){
        .title = strdup(title), .anyone = strcmp(title, "*") == 0, .place = r->words.spot};
    if (l->title == NULL)
        return out_of_memory(r);
    l->uid = l->anyone ? 0 : r->words.id;
    return l->anyone || r->files == NULL || find_user(r, &r->words.spot, title, &l->uid);
}

/* One section for each user, under whatever name, so that what holds can be read in one place. */
static bool end_limit(struct reading *r, const struct policy_place *title)
{
    const struct policy *policy = r->policy;
    const struct policy_limit *last = &policy->limits[policy->nlimits - 1];

    for (const struct policy_limit *l = policy->limits; r->files != NULL && l < last; l++) {
        if (l->anyone != last->anyone || l->uid != last->uid)
            continue;
        if (strcmp(l->title, last->title) == 0)
            return complain(r, title, "duplicate limit \"%.200s\"; the first is in %s:%d",
                            last->title, l->place.file, l->place.line);
        return complain(r, title,
                        "limit \"%s\" and limit \"%s\" in %s:%d are the same uid %u; one section "
                        "for both is expected",
                        last->title, l->title, l->place.file, l->place.line, (unsigned)l->uid);
    }
    return true;
}

static void *section_base(struct policy *policy, const struct config_section *section)
{
    return section == &config_listen  ? (void *)&policy->listens[policy->nlistens - 1]
           : section == &config_table ? (void *)&policy->tables[policy->ntables - 1]
           : section == &config_limit ? (void *)&policy->limits[policy->nlimits - 1]
                                      : (void *)&policy->allows[policy->nallows - 1];
}

static bool begin_section(struct reading *r, const struct config_section *section)
{
    return section == &config_listen  ? begin_listen(r)
           : section == &config_table ? begin_table(r)
           : section == &config_limit ? begin_limit(r)
                                      : begin_allow(r);
}

static bool end_section(struct reading *r, const struct config_section *section,
                        const struct given *given, const struct policy_place *title)
{
    return section == &config_listen  ? end_listen(r, given, title)
           : section == &config_table ? end_table(r, given, title)
           : section == &config_limit ? end_limit(r, title)
                                      : end_allow(r, title);
}

/* What stands between the braces; the } that ends it is in hand. */
static bool read_options(struct reading *r, const struct config_section *section,
                         const struct policy_place *title)
{
    struct given given = {0};

    while (!words_is(&r->words, '}')) {
        if (r->words.token == TOKEN_END)
            return complain(
                r, &r->words.spot,
                "the file ends inside the %s section that begins in line %d; } is expected",
                section->name, title->line);
        if (r->words.token == TOKEN_WORD && find_section(r->words.text) != NULL &&
            find_option(section, r->words.text) == NULL)
            return complain(
                r, &r->words.spot,
                "%s begins inside the %s section that begins in line %d; } is expected before it",
                r->words.text, section->name, title->line);
        if (!is_text(r))
            return unexpected(r, "name = value, or }");
        if (!read_option(r, section, section_base(r->policy, section), &given))
            return false;
    }
    return end_section(r, section, &given, title);
}

/* section "title" { name = value ... }. Its name is in hand; what follows it will be. */
static bool read_section(struct reading *r, const struct config_section *section)
{
    char expected[96];
    struct policy_place title;

    if (!next(r))
        return false;
    snprintf(expected, sizeof expected, "%s, in quotes, behind %s", section->title, section->name);
    if (!is_text(r))
        return unexpected(r, expected);
    title = r->words.spot;
    if (!begin_section(r, section) || !next(r))
        return false;
    snprintf(expected, sizeof expected, "{ behind the title of the %s section", section->name);
    if (!words_is(&r->words, '{'))
        return unexpected(r, expected);
    return next(r) && read_options(r, section, &title) && next(r);
}

/* ---- files ---- */

static bool read_include(struct reading *r);

static bool read_statements(struct reading *r)
{
    while (r->words.token != TOKEN_END) {
        const struct config_section *section =
            r->words.token == TOKEN_WORD ? find_section(r->words.text) : NULL;
        bool good;

        if (words_is(&r->words, '}'))
            return complain(r, &r->words.spot, "} stands here and ends no section; leave it out");
        if (!is_text(r))
            return unexpected(r, "name = value, or a section,");
        if (section != NULL)
            good = read_section(r, section);
        else if (strcmp(r->words.text, "include") == 0)
            good = read_include(r);
        else
            good = read_option(r, &config_global, r->policy, &r->global);
        if (!good)
            return false;
    }
    return true;
}

static char *keep_file(void *context, const char *file)
{
    struct policy *policy = context;
    char **grown;

    if (policy->nfiles > 0 && strcmp(policy->files[policy->nfiles - 1], file) == 0)
        return policy->files[policy->nfiles - 1];
    grown = realloc(policy->files, (policy->nfiles + 1) * sizeof *grown);
    if (grown == NULL)
        return NULL;
    policy->files = grown;
    grown[policy->nfiles] = strdup(file);
    return grown[policy->nfiles] != NULL ? grown[policy->nfiles++] : NULL;
}

static bool read_text(struct reading *r, const char *text, size_t size, const char *file)
{
    words_begin(&r->words, text, size, file);
    return next(r) && read_statements(r);
}

/* All of an open file, NULL with errno; the caller frees it. */
static char *slurp(int fd, size_t *size)
{
    char *text = NULL, buf[4096];
    FILE *whole = open_memstream(&text, size);
    bool good = whole != NULL;
    ssize_t n;

    while (good && (n = read(fd, buf, sizeof buf)) != 0) {
        good = n > 0 && fwrite(buf, 1, (size_t)n, whole) == (size_t)n;
        if (good && ftell(whole) > (long)SIZE_MOST) {
            errno = EFBIG;
            good = false;
        }
    }
    if (whole != NULL && fclose(whole) != 0)
        good = false;
    if (!good) {
        free(text);
        text = NULL;
    }
    return text;
}

/* Opens one of its files or directories. -1 with the reason: there are as many as a reload, too,
 * would take. */
static int open_named(struct reading *r, const char *name, char *why, size_t len)
{
    if (r->opened == CONFIG_FILES_MAX) {
        snprintf(why, len, "a configuration has at most %d files", CONFIG_FILES_MAX);
        return -1;
    }
    r->opened++;
    return r->files->open(r->files->context, name, why, len);
}

/* The file of that name, whose name for messages is shown. from: what names it. */
static bool read_file(struct reading *r, const char *name, const char *shown,
                      const struct policy_place *from)
{
    char why[1024] = "";
    size_t size = 0;
    int fd = open_named(r, name, why, sizeof why);
    char *text = fd >= 0 ? slurp(fd, &size) : NULL, *file = keep_file(r->policy, shown);
    bool good = false;

    if (file == NULL)
        out_of_memory(r);
    else if (text != NULL)
        good = read_text(r, text, size, file);
    else
        complain(r, from, "%s%snot read: %s", from->line > 0 ? shown : "",
                 from->line > 0 ? " is " : "", fd < 0 ? why : strerror(errno));
    if (fd >= 0)
        close(fd);
    free(text);
    return good;
}

static int by_bytes(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static bool is_fragment(const char *name)
{
    size_t len = strlen(name);

    return name[0] != '.' && len > 5 && strcmp(name + len - 5, ".conf") == 0;
}

/* The names of a directory's fragments, in order; -1: errno. fd is closed. */
static int list(int fd, char ***names)
{
    DIR *dir = fdopendir(fd);
    struct dirent *entry;
    int n = 0;

    *names = NULL;
    if (dir == NULL) {
        close(fd);
        return -1;
    }
    while (n >= 0 && (entry = readdir(dir)) != NULL) {
        char **grown;

        if (!is_fragment(entry->d_name))
            continue;
        grown = realloc(*names, ((size_t)n + 1) * sizeof *grown);
        if (grown != NULL)
            *names = grown;
        if (n == FRAGMENTS_MOST || grown == NULL || (grown[n] = strdup(entry->d_name)) == NULL) {
            errno = n == FRAGMENTS_MOST ? E2BIG : ENOMEM;
            break;
        }
        n++;
    }
    if (entry != NULL) {
        while (n > 0)
            free((*names)[--n]);
        free(*names);
        n = -1;
    }
    closedir(dir);
    if (n > 0)
        qsort(*names, (size_t)n, sizeof **names, by_bytes);
    return n;
}

static bool read_fragment(struct reading *r, const char *dir, const char *base,
                          const struct policy_place *from)
{
    const char *main_file = r->policy->files[0], *slash = strrchr(main_file, '/');
    char *name = NULL, *shown = NULL;
    bool good = false;

    if (asprintf(&name, "%s/%s", dir, base) >= 0 &&
        asprintf(&shown, "%.*s%s", slash != NULL ? (int)(slash - main_file) + 1 : 0, main_file,
                 name) >= 0) {
        r->fragment = name;
        good = read_file(r, name, shown, from);
        r->fragment = NULL;
    } else {
        out_of_memory(r);
    }
    free(name);
    free(shown);
    return good;
}

/* Reads every fragment of a directory, and comes back to where it was named. */
static bool read_directory(struct reading *r, const char *dir, const struct policy_place *from)
{
    char why[1024] = "", **names = NULL;
    struct words main_words = r->words;
    int fd = open_named(r, dir, why, sizeof why), n = -1;
    bool good = true;

    if (fd >= 0 && (n = list(fd, &names)) < 0)
        snprintf(why, sizeof why, "%s",
                 errno == E2BIG ? "it holds more than 4096 fragments" : strerror(errno));
    if (n < 0)
        return complain(r, from, "include \"%s\": %s", dir, why);
    memset(&r->words, 0, sizeof r->words);
    for (int i = 0; i < n; i++) {
        good = good && read_fragment(r, dir, names[i], from);
        free(names[i]);
    }
    free(names);
    words_end(&r->words);
    r->words = main_words;
    return good;
}

/* include "DIR": a directory beside the main file, so that whoever reads for the monitor names no
 * path. */
static bool read_include(struct reading *r)
{
    struct policy_place from = r->words.spot;
    char *dir;
    bool good;

    if (!next(r))
        return false;
    if (!is_text(r))
        return unexpected(r, "the name of a directory, in quotes, behind include");
    if (r->fragment != NULL || r->files == NULL)
        return complain(r, &from,
                        "include in an included file; it is expected in the main file only");
    if (r->words.len == 0 || strchr(r->words.text, '/') != NULL || r->words.text[0] == '.')
        return complain(
            r, &r->words.spot,
            "include \"%s\" is not a plain name; that of a directory beside this file is expected",
            r->words.text);
    dir = strdup(r->words.text);
    if (dir == NULL)
        return out_of_memory(r);
    good = read_directory(r, dir, &from) && next(r);
    free(dir);
    return good;
}

/* ---- the whole ---- */

static bool approve_listen(struct reading *r, const struct mention *m)
{
    struct policy *policy = r->policy;
    struct policy_allow *a = &policy->allows[m->allow];

    if (a->listens == NULL)
        a->listens = calloc(policy->nlistens + 1, sizeof *a->listens);
    if (a->listens == NULL)
        return out_of_memory(r);
    for (size_t i = 0; i < policy->nlistens; i++)
        if (strcmp(policy->listens[i].path, m->name) == 0) {
            a->listens[i] = true;
            return true;
        }
    return complain(
        r, &m->spot,
        "allow \"%s\" names listen \"%s\", which is not declared; listen \"%s\" { } is expected",
        a->title, m->name, m->name);
}

/* The word is a table's name, "*", or "TYPE:*". The last two may name none. */
static bool approve_table(struct reading *r, const struct mention *m)
{
    struct policy *policy = r->policy;
    struct policy_allow *a = &policy->allows[m->allow];
    const char *colon = strchr(m->name, ':');
    size_t prefix = colon != NULL ? (size_t)(colon - m->name) + 1 : 0;
    bool is_type = colon != NULL && strcmp(colon, ":*") == 0;

    for (size_t i = 0; i < policy->ntables; i++)
        if (strcmp(policy->tables[i].name, m->name) == 0) {
            a->tables[i] = true;
            return true;
        }
    if (strcmp(m->name, "*") == 0 || (is_type && table_type_begins(m->name, prefix))) {
        for (size_t i = 0; i < policy->ntables; i++)
            a->tables[i] |= strncmp(policy->tables[i].name, m->name, prefix) == 0;
        return true;
    }
    if (is_type)
        return complain(r, &m->spot,
                        "allow \"%s\" names \"%s\", and there is no such type; TYPE:* with one of "
                        "these is expected: " TABLE_TYPES,
                        a->title, m->name);
    return complain(
        r, &m->spot,
        "allow \"%s\" names table \"%s\", which is not declared; table \"%s\" { } is expected",
        a->title, m->name, m->name);
}

/* Finds the table of that name and makes it the next member of t. */
static bool add_member(struct reading *r, struct policy_table *t, struct slice name)
{
    const struct policy *policy = r->policy;

    for (size_t i = 0; i < policy->ntables; i++) {
        if (!slice_is(name, policy->tables[i].name))
            continue;
        if (!grow(r, &t->members, t->nmembers, sizeof *t->members))
            return false;
        t->members[t->nmembers++] = i;
        return true;
    }
    return complain(r, &t->place,
                    "table \"%.200s\" has the member \"%.*s\", which is not declared; "
                    "table \"%.*s\" { } is expected",
                    t->name, (int)name.len, name.ptr, (int)name.len, name.ptr);
}

/* The members of all composites, which may be declared behind them. They hold no circles: a name
 * is longer than those of its members. */
static bool find_members(struct reading *r)
{
    struct policy *policy = r->policy;
    uint64_t count = 0;

    for (size_t i = 0; i < policy->ntables; i++) {
        struct policy_table *t = &policy->tables[i];
        struct members members;
        struct slice name = {t->name + strlen(t->type->prefix),
                             strlen(t->name) - strlen(t->type->prefix)};

        if (!t->type->members || members_begin(&members, MEMBERS_TABLES, name) != NULL)
            continue;
        while (members_next(&members, &name)) {
            if (++count * policy->ntables > WORK_MOST)
                return complain(r, &t->place, "too many members of tables; fewer are expected");
            if (!add_member(r, t, name))
                return false;
        }
    }
    return true;
}

static bool finish(struct reading *r)
{
    struct policy *policy = r->policy;
    struct policy_place nowhere = {policy->files[0], 0, 0};

    if ((uint64_t)(policy->nallows + r->nmentions) * (policy->ntables + policy->nlistens) >
            WORK_MOST ||
        (uint64_t)policy->nallows * policy->nallows * (policy->nlistens + 1) > WORK_MOST)
        return complain(r, &nowhere,
                        "too many allow sections and names in them for so many tables; "
                        "\"*\" or \"TYPE:*\" for many is expected");
    for (size_t i = 0; i < policy->nallows; i++) {
        policy->allows[i].tables = calloc(policy->ntables + 1, sizeof *policy->allows[i].tables);
        if (policy->allows[i].tables == NULL)
            return out_of_memory(r);
    }
    for (size_t i = 0; i < r->nmentions; i++)
        if (!(r->mentions[i].is_listen ? approve_listen : approve_table)(r, &r->mentions[i]))
            return false;
    if (!find_members(r))
        return false;
    policy->runtime_place = *spot_of(&config_global, &r->global, "runtime-dir", &nowhere);
    policy->libexec_place = *spot_of(&config_global, &r->global, "libexec-dir", &nowhere);
    if (policy->user == NULL && !find_child(r, &nowhere, "_jailmap"))
        return false;
    if (policy->runtime_dir == NULL)
        policy->runtime_dir = strdup("/run/jailmap");
    if (policy->libexec_dir == NULL)
        policy->libexec_dir = strdup(JAILMAP_LIBEXECDIR);
    if (policy->runtime_dir == NULL || policy->libexec_dir == NULL)
        return out_of_memory(r);
    if (policy->nlistens == 0)
        return complain(
            r, &r->words.spot,
            "no listen section: there would be nothing to do; listen \"SOCKET\" { } is expected");
    return true;
}

/* Reads with a policy that is empty yet; NULL, or what policy_read() returns. */
static struct policy *take(struct reading *r, bool (*read_all)(struct reading *r, const void *what),
                           const void *what)
{
    r->why[0] = '\0';
    r->policy = calloc(1, sizeof *r->policy);
    if (r->policy == NULL) {
        snprintf(r->why, r->len, "out of memory");
        return NULL;
    }
    r->policy->loaders = 8;
    r->policy->control_gid = POLICY_NO_GROUP;
    r->words.keep_file = keep_file;
    r->words.context = r->policy;
    if (!read_all(r, what) || !finish(r)) {
        policy_free(r->policy);
        r->policy = NULL;
    }
    words_end(&r->words);
    for (size_t i = 0; i < r->nmentions; i++)
        free(r->mentions[i].name);
    free(r->mentions);
    return r->policy;
}

static bool read_main_file(struct reading *r, const void *path)
{
    struct policy_place nowhere = {path, 0, 0};

    return read_file(r, "", path, &nowhere);
}

struct policy *policy_read(const struct policy_files *files, const char *path, char *why,
                           size_t len)
{
    struct reading r = {.files = files, .why = why, .len = len};

    return take(&r, read_main_file, path);
}

static bool read_canonical(struct reading *r, const void *what)
{
    const struct slice *text = what;
    char *file = keep_file(r->policy, "policy");

    r->words.canonical = true;
    return file != NULL ? read_text(r, text->ptr, text->len, file) : out_of_memory(r);
}

struct policy *policy_parse(const char *text, size_t size, char *why, size_t len)
{
    struct reading r = {.why = why, .len = len};

    return take(&r, read_canonical, &(struct slice){text, size});
}

void policy_free(struct policy *policy)
{
    if (policy == NULL)
        return;
    for (size_t i = 0; i < policy->nlistens; i++)
        free(policy->listens[i].path);
    for (size_t i = 0; i < policy->ntables; i++) {
        struct policy_table *t = &policy->tables[i];

        for (size_t j = 0; j < t->nset; j++)
            free(t->set[j]);
        free(t->set);
        free(t->members);
        free(t->database);
        free(t->name);
        free(t->path);
    }
    for (size_t i = 0; i < policy->nallows; i++) {
        free(policy->allows[i].title);
        free(policy->allows[i].listens);
        free(policy->allows[i].tables);
        for (size_t j = 0; j < policy->allows[i].nwords; j++)
            free(policy->allows[i].words[j]);
        free(policy->allows[i].words);
    }
    for (size_t i = 0; i < policy->nlimits; i++)
        free(policy->limits[i].title);
    for (size_t i = 0; i < policy->nfiles; i++)
        free(policy->files[i]);
    free(policy->limits);
    free(policy->listens);
    free(policy->tables);
    free(policy->allows);
    free(policy->files);
    free(policy->user);
    free(policy->runtime_dir);
    free(policy->libexec_dir);
    free(policy);
}
