/*
 * Reading jailmapd.conf(5). Runs in the monitor at start, with privilege, on a file that only root
 * can write, and in `jailmapd -n`. It may ask the name service for users and groups; it must never
 * start anything, and never accept what it does not understand.
 */
#include <confuse.h>
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#include "policy/config_text.h"
#include "policy/policy.h"
#include "privsep/bridge.h"
#include "proto/proxymap.h"

#define PENDING_BASE (UINT64_C(128) << 20) /* max-pending, and 16 of the longest requests */

/* Where an allow section names a table; kept because its line is known only while it is parsed. */
struct mention {
    const cfg_t *section;
    unsigned index;
    int line;
    char *value;
};

/* libconfuse's call-backs carry no context, and one file is read at a time. */
static struct {
    const char *path;
    char *why;
    size_t len;
    int runtime_line, libexec_line;
    char *text;
    int lines;
    const cfg_opt_t **given; /* options that have been set */
    size_t ngiven;
    struct mention *mentions;
    size_t nmentions;
} reading;

/* Keeps the first complaint: what follows is mostly its consequence. It is one line, whatever a
 * value holds that it quotes. Returns -1. */
__attribute__((format(printf, 2, 3))) static int complain(int line, const char *format, ...)
{
    char text[2048];
    va_list ap;
    int n;

    if (reading.why[0] != '\0')
        return -1;
    if (line > reading.lines) /* libconfuse, at the end: the last newline begins no line */
        line = reading.lines;
    n = snprintf(reading.why, reading.len, "%s:%d: ", reading.path, line);
    va_start(ap, format);
    vsnprintf(text, sizeof text, format, ap);
    va_end(ap);
    if (n >= 0 && (size_t)n < reading.len)
        policy_printable((struct slice){text, strlen(text)}, reading.why + n,
                         reading.len - (size_t)n);
    return -1;
}

static void confuse_error(cfg_t *cfg, const char *format, va_list ap)
{
    char text[512];

    vsnprintf(text, sizeof text, format, ap);
    complain(cfg->line, "%s", text);
}

/* ---- checks of one value, while its line is known ---- */

static int check_path(int line, const char *what, const char *path)
{
    for (const char *at = path; *at != '\0'; at++)
        if ((unsigned char)*at < 0x20 || *at == 0x7f)
            return complain(line, "%s has a control character in its path", what);
    if (path[0] != '/')
        return complain(line, "%s \"%s\" is a relative path; an absolute one is expected", what,
                        path);
    for (const char *at = path; at != NULL; at = strchr(at + 1, '/')) {
        size_t len = strcspn(at + 1, "/");

        if (len == 0 || (len == 1 && at[1] == '.') || (len == 2 && memcmp(at + 1, "..", 2) == 0))
            return complain(line, "%s \"%s\" has an empty, . or .. component", what, path);
    }
    return 0;
}

/* libconfuse lets the last of two win; an administrator should hear of it. */
static int once(cfg_t *cfg, const cfg_opt_t *opt)
{
    const cfg_opt_t **grown;

    for (size_t i = 0; i < reading.ngiven; i++)
        if (reading.given[i] == opt)
            return complain(cfg->line, "%s is given twice", opt->name);
    grown = realloc(reading.given, (reading.ngiven + 1) * sizeof *grown);
    if (grown == NULL)
        return complain(cfg->line, "out of memory");
    reading.given = grown;
    grown[reading.ngiven++] = opt;
    return 0;
}

static int check_path_value(cfg_t *cfg, cfg_opt_t *opt)
{
    if (once(cfg, opt) != 0)
        return -1;
    if (strcmp(cfg_opt_name(opt), "runtime-dir") == 0)
        reading.runtime_line = cfg->line;
    else
        reading.libexec_line = cfg->line;
    return check_path(cfg->line, cfg_opt_name(opt), cfg_opt_getnstr(opt, 0));
}

static int parse_id(const char *text, unsigned long *id)
{
    char *end;

    if (text[0] < '0' || text[0] > '9')
        return -1;
    errno = 0;
    *id = strtoul(text, &end, 10);
    /* The last number means "no id" to the kernel. */
    return *end == '\0' && errno == 0 && *id < (uid_t)-1 ? 0 : -1;
}

static int find_user(int line, const char *name, uid_t *uid, gid_t *gid)
{
    unsigned long id;
    struct passwd *pw;

    if (gid == NULL && parse_id(name, &id) == 0) {
        *uid = (uid_t)id;
        return 0;
    }
    pw = getpwnam(name);
    if (pw == NULL)
        return complain(line, "unknown user \"%s\"", name);
    *uid = pw->pw_uid;
    if (gid != NULL)
        *gid = pw->pw_gid;
    return 0;
}

static int find_group(int line, const char *name, gid_t *gid)
{
    unsigned long id;
    struct group *gr;

    if (parse_id(name, &id) == 0) {
        *gid = (gid_t)id;
        return 0;
    }
    gr = getgrnam(name);
    if (gr == NULL)
        return complain(line, "unknown group \"%s\"", name);
    *gid = gr->gr_gid;
    return 0;
}

/* The user that the children run as. */
static int find_child_user(int line, const char *name, uid_t *uid, gid_t *gid)
{
    if (find_user(line, name, uid, gid) != 0)
        return -1;
    if (*uid == 0 || *gid == 0)
        return complain(line,
                        "user \"%s\" has uid or gid 0; an unprivileged user of its own is expected",
                        name);
    return 0;
}

static int check_user_value(cfg_t *cfg, cfg_opt_t *opt)
{
    uid_t uid = 0;
    gid_t gid = 0;

    if (once(cfg, opt) != 0)
        return -1;
    return find_child_user(cfg->line, cfg_opt_getnstr(opt, 0), &uid, &gid);
}

static int check_owner_value(cfg_t *cfg, cfg_opt_t *opt)
{
    uid_t uid;

    if (once(cfg, opt) != 0)
        return -1;
    return find_user(cfg->line, cfg_opt_getnstr(opt, 0), &uid, NULL);
}

static int check_group_value(cfg_t *cfg, cfg_opt_t *opt)
{
    gid_t gid;

    if (once(cfg, opt) != 0)
        return -1;
    return find_group(cfg->line, cfg_opt_getnstr(opt, 0), &gid);
}

static int check_word(cfg_t *cfg, cfg_opt_t *opt, const char *const *words)
{
    const char *value = cfg_opt_getnstr(opt, 0);
    char expected[128] = "";
    size_t used = 0;

    if (once(cfg, opt) != 0)
        return -1;
    for (const char *const *w = words; *w != NULL; w++) {
        if (strcmp(value, *w) == 0)
            return 0;
        used += (size_t)snprintf(expected + used, sizeof expected - used, "%s%s",
                                 w != words ? " or " : "", *w);
    }
    return complain(cfg->line, "%s = \"%s\" is not known; %s is expected", cfg_opt_name(opt), value,
                    expected);
}

static int check_protocol_value(cfg_t *cfg, cfg_opt_t *opt)
{
    return check_word(cfg, opt, (const char *const[]){"proxymap", NULL});
}

static int check_reveal_value(cfg_t *cfg, cfg_opt_t *opt)
{
    const char *why;
    const struct table_type_info *type = table_type_of(cfg_title(cfg), &why);

    if (check_word(cfg, opt, (const char *const[]){"all", "existence", NULL}) != 0)
        return -1;
    if (type != NULL && type->type == TYPE_STATIC &&
        strcmp(cfg_opt_getnstr(opt, 0), "existence") == 0)
        return complain(cfg->line, "reveal = existence hides nothing of a static table: "
                                   "its name is its value");
    return 0;
}

static int check_symlinks_value(cfg_t *cfg, cfg_opt_t *opt)
{
    return check_word(cfg, opt, (const char *const[]){"refuse", "follow", NULL});
}

static int check_sandbox_value(cfg_t *cfg, cfg_opt_t *opt)
{
    return check_word(cfg, opt, (const char *const[]){"available", "strict", NULL});
}

/* Every whole number of the grammar, with its bounds. */
static const struct range {
    const char *section; /* NULL: outside of all */
    const char *name;
    long low, high;
    const char *expected;
} ranges[] = {
    {NULL, "loaders", 1, 64, "1 to 64"},
    {"listen", "mode", 0, 0777, "0000 to 0777"},
    {"listen", "backlog", 1, 65535, "1 to 65535"},
    {"listen", "max-request", 4096, 1 << 30, "4096 to 1073741824 bytes"},
    {"listen", "request-timeout", 1, 86400, "1 to 86400 seconds"},
    {"listen", "answer-timeout", 1, 86400, "1 to 86400 seconds"},
    {"listen", "workers", 1, 64, "1 to 64"},
    {"listen", "clients-per-worker", 1, 4096, "1 to 4096"},
    {"listen", "max-use", 1, 1000000000, "1 to 1000000000"},
    {"listen", "max-pending", 4, 1 << 20, "4 to 1048576 MB"},
    {"table", "load-time", 1, 86400, "1 to 86400 seconds"},
    {"table", "load-memory", 16, 1 << 20, "16 to 1048576 MB"},
    {"table", "image-size", 1, 4095, "1 to 4095 MB"},
};

static int check_number_value(cfg_t *cfg, cfg_opt_t *opt)
{
    long value = cfg_opt_getnint(opt, 0);

    if (once(cfg, opt) != 0)
        return -1;
    for (size_t i = 0; i < sizeof ranges / sizeof ranges[0]; i++)
        if (strcmp(ranges[i].name, cfg_opt_name(opt)) == 0 &&
            (value < ranges[i].low || value > ranges[i].high))
            return complain(cfg->line, "%s = %ld is out of range; %s is expected", ranges[i].name,
                            value, ranges[i].expected);
    return 0;
}

static int check_listen(cfg_t *cfg, cfg_opt_t *opt)
{
    const char *path = cfg_title(cfg_opt_getnsec(opt, cfg_opt_size(opt) - 1));

    if (check_path(cfg->line, "listen", path) != 0)
        return -1;
    if (strlen(path) >= sizeof((struct sockaddr_un *)NULL)->sun_path)
        return complain(cfg->line, "listen \"%s\" is longer than the %zu bytes of a socket's name",
                        path, sizeof((struct sockaddr_un *)NULL)->sun_path - 1);
    return 0;
}

static int check_table(cfg_t *cfg, cfg_opt_t *opt)
{
    const char *name = cfg_title(cfg_opt_getnsec(opt, cfg_opt_size(opt) - 1)), *why;
    const struct table_type_info *type = table_type_of(name, &why);

    if (strncmp(name, "proxy:", 6) == 0)
        return complain(cfg->line,
                        "table \"%s\": leave out proxy:, clients' requests are matched "
                        "without it",
                        name);
    if (strlen(name) > BRIDGE_NAME_MAX)
        return complain(cfg->line, "table name longer than %d bytes", BRIDGE_NAME_MAX);
    if (type == NULL)
        return complain(cfg->line, "table \"%s\": %s", name, why);
    if (type->argument && name[strlen(type->prefix)] == '\0')
        return complain(cfg->line,
                        "table \"%s\": the content of the table is expected behind the "
                        "colon",
                        name);
    if (type->suffix != NULL) {
        char what[256];

        snprintf(what, sizeof what, "the path in table \"%.200s\":", name);
        return check_path(cfg->line, what, name + strlen(type->prefix));
    }
    return 0;
}

/* Called for each value, again at the end of the list, and for a list that replaces this one. */
static int note_mention(cfg_t *cfg, cfg_opt_t *opt)
{
    struct mention *m = NULL, *grown;
    unsigned index = cfg_opt_size(opt) - 1;
    char *value;

    if (cfg_opt_size(opt) == 0)
        return 0;
    for (size_t i = 0; m == NULL && i < reading.nmentions; i++)
        if (reading.mentions[i].section == cfg && reading.mentions[i].index == index)
            m = &reading.mentions[i];
    if (m != NULL && strcmp(m->value, cfg_opt_getnstr(opt, index)) == 0)
        return 0;
    value = strdup(cfg_opt_getnstr(opt, index));
    grown = m != NULL ? reading.mentions
                      : realloc(reading.mentions, (reading.nmentions + 1) * sizeof *grown);
    if (grown != NULL)
        reading.mentions = grown;
    if (grown == NULL || value == NULL) {
        free(value);
        return complain(cfg->line, "out of memory");
    }
    if (m == NULL)
        m = &grown[reading.nmentions++];
    else
        free(m->value);
    *m = (struct mention){cfg, index, cfg->line, value};
    return 0;
}

/* ---- from the parsed file to the policy ---- */

static int mention_line(const cfg_t *section, unsigned index)
{
    for (size_t i = 0; i < reading.nmentions; i++)
        if (reading.mentions[i].section == section && reading.mentions[i].index == index)
            return reading.mentions[i].line;
    return section->line;
}

static char *copy(const char *text)
{
    char *c = strdup(text);

    if (c == NULL)
        complain(0, "out of memory");
    return c;
}

/* A limit under which one client alone, with the longest request, would be closed is a mistake. */
static int take_pending(struct policy_listen *l, cfg_t *sec)
{
    uint64_t given = (uint64_t)cfg_getint(sec, "max-pending") << 20;

    l->max_pending = given != 0 ? given : PENDING_BASE + UINT64_C(16) * l->max_request;
    if (l->max_pending < UINT64_C(4) * l->max_request)
        return complain(sec->line,
                        "max-pending = %llu is less than 4 times max-request; at least %llu is "
                        "expected",
                        (unsigned long long)given >> 20,
                        ((unsigned long long)l->max_request * 4 + (1 << 20) - 1) >> 20);
    return 0;
}

static int take_listen(struct policy_listen *l, cfg_t *sec)
{
    l->line = sec->line;
    l->path = copy(cfg_title(sec));
    l->mode = (mode_t)cfg_getint(sec, "mode");
    l->backlog = (int)cfg_getint(sec, "backlog");
    l->max_request = (unsigned)cfg_getint(sec, "max-request");
    l->request_timeout = (unsigned)cfg_getint(sec, "request-timeout");
    l->answer_timeout = (unsigned)cfg_getint(sec, "answer-timeout");
    l->workers = (unsigned)cfg_getint(sec, "workers");
    l->clients_per_worker = (unsigned)cfg_getint(sec, "clients-per-worker");
    l->max_use = (unsigned)cfg_getint(sec, "max-use");
    if (take_pending(l, sec) != 0 || l->path == NULL ||
        find_user(sec->line, cfg_getstr(sec, "owner"), &l->uid, NULL) != 0)
        return -1;
    return find_group(sec->line, cfg_getstr(sec, "group"), &l->gid);
}

/* Where the table's source is. */
static int take_path(struct policy_table *t, int line)
{
    const char *before = t->type->path, *behind = "";

    if (t->type->suffix != NULL) {
        before = t->name + strlen(t->type->prefix);
        behind = t->type->suffix;
    }
    if (before != NULL && asprintf(&t->path, "%s%s", before, behind) < 0) {
        t->path = NULL;
        return complain(line, "out of memory");
    }
    return 0;
}

static int take_table(struct policy_table *t, cfg_t *sec)
{
    const char *why, *name = cfg_title(sec);

    t->line = sec->line;
    t->type = table_type_of(name, &why);
    t->name = copy(name);
    t->existence = strcmp(cfg_getstr(sec, "reveal"), "existence") == 0;
    t->symlinks = strcmp(cfg_getstr(sec, "symlinks"), "follow") == 0;
    t->owner = POLICY_NO_OWNER;
    t->load_time = (unsigned)cfg_getint(sec, "load-time");
    t->load_memory = (unsigned)cfg_getint(sec, "load-memory");
    t->image_size = (unsigned)cfg_getint(sec, "image-size");
    if (t->type == NULL || t->name == NULL || take_path(t, sec->line) != 0)
        return -1;
    if (cfg_size(sec, "owner") > 0 && cfg_getstr(sec, "owner") != NULL)
        return find_user(sec->line, cfg_getstr(sec, "owner"), &t->owner, NULL);
    return 0;
}

static bool find_table(const struct policy *policy, struct slice name, size_t *index)
{
    for (*index = 0; *index < policy->ntables; (*index)++)
        if (slice_is(name, policy->tables[*index].name))
            return true;
    return false;
}

static int take_allow(struct policy *policy, struct policy_allow *a, cfg_t *sec)
{
    a->title = copy(cfg_title(sec));
    a->tables = calloc(policy->ntables + 1, sizeof *a->tables);
    if (a->title == NULL || a->tables == NULL)
        return -1;
    for (unsigned i = 0; i < cfg_size(sec, "tables"); i++) {
        const char *name = cfg_getnstr(sec, "tables", i);
        size_t index;

        if (strcmp(name, "*") == 0) {
            a->all = true;
            memset(a->tables, 1, policy->ntables * sizeof *a->tables);
        } else if (find_table(policy, (struct slice){name, strlen(name)}, &index)) {
            a->tables[index] = true;
        } else {
            return complain(mention_line(sec, i),
                            "allow \"%s\" names table \"%s\", which is not declared; "
                            "table \"%s\" { } is expected",
                            a->title, name, name);
        }
    }
    if (find_user(sec->line, a->title, &a->uid, NULL) != 0)
        return -1;
    for (struct policy_allow *other = policy->allows; other < a; other++)
        if (other->uid == a->uid)
            return complain(sec->line, "allow \"%s\" and allow \"%s\" are the same uid %u",
                            other->title, a->title, (unsigned)a->uid);
    return 0;
}

static int take_sections(struct policy *policy, cfg_t *cfg)
{
    policy->nlistens = cfg_size(cfg, "listen");
    policy->ntables = cfg_size(cfg, "table");
    policy->listens = calloc(policy->nlistens + 1, sizeof *policy->listens);
    policy->tables = calloc(policy->ntables + 1, sizeof *policy->tables);
    policy->allows = calloc(cfg_size(cfg, "allow") + 1, sizeof *policy->allows);
    if (policy->listens == NULL || policy->tables == NULL || policy->allows == NULL)
        return complain(cfg->line, "out of memory");
    for (unsigned i = 0; i < policy->nlistens; i++)
        if (take_listen(&policy->listens[i], cfg_getnsec(cfg, "listen", i)) != 0)
            return -1;
    for (unsigned i = 0; i < policy->ntables; i++)
        if (take_table(&policy->tables[i], cfg_getnsec(cfg, "table", i)) != 0)
            return -1;
    for (; policy->nallows < cfg_size(cfg, "allow"); policy->nallows++)
        if (take_allow(policy, &policy->allows[policy->nallows],
                       cfg_getnsec(cfg, "allow", (unsigned)policy->nallows)) != 0) {
            policy->nallows++; /* what it holds is freed with the others */
            return -1;
        }
    if (policy->nlistens == 0)
        return complain(cfg->line, "no listen section: there would be nothing to do");
    return 0;
}

static int take_policy(struct policy *policy, cfg_t *cfg)
{
    policy->runtime_line = reading.runtime_line;
    policy->libexec_line = reading.libexec_line;
    policy->loaders = (unsigned)cfg_getint(cfg, "loaders");
    policy->strict = strcmp(cfg_getstr(cfg, "sandbox"), "strict") == 0;
    policy->user = copy(cfg_getstr(cfg, "user"));
    policy->runtime_dir = copy(cfg_getstr(cfg, "runtime-dir"));
    policy->libexec_dir = copy(cfg_getstr(cfg, "libexec-dir"));
    if (policy->user == NULL || policy->runtime_dir == NULL || policy->libexec_dir == NULL)
        return -1;
    /* Again, for a default that no check has seen. */
    if (find_child_user(cfg->line, policy->user, &policy->uid, &policy->gid) != 0)
        return -1;
    return take_sections(policy, cfg);
}

static void set_checks(cfg_t *cfg)
{
    cfg_set_validate_func(cfg, "user", check_user_value);
    cfg_set_validate_func(cfg, "runtime-dir", check_path_value);
    cfg_set_validate_func(cfg, "libexec-dir", check_path_value);
    cfg_set_validate_func(cfg, "sandbox", check_sandbox_value);
    cfg_set_validate_func(cfg, "listen", check_listen);
    cfg_set_validate_func(cfg, "listen|protocol", check_protocol_value);
    cfg_set_validate_func(cfg, "listen|owner", check_owner_value);
    cfg_set_validate_func(cfg, "listen|group", check_group_value);
    for (size_t i = 0; i < sizeof ranges / sizeof ranges[0]; i++) {
        char name[64];

        snprintf(name, sizeof name, "%s%s%s", ranges[i].section != NULL ? ranges[i].section : "",
                 ranges[i].section != NULL ? "|" : "", ranges[i].name);
        cfg_set_validate_func(cfg, name, check_number_value);
    }
    cfg_set_validate_func(cfg, "table", check_table);
    cfg_set_validate_func(cfg, "table|reveal", check_reveal_value);
    cfg_set_validate_func(cfg, "table|owner", check_owner_value);
    cfg_set_validate_func(cfg, "table|symlinks", check_symlinks_value);
    cfg_set_validate_func(cfg, "allow|tables", note_mention);
}

/* The file's text as libconfuse can read it, as a stream; NULL with a message. */
static FILE *prepare(FILE *fp)
{
    size_t size = 0, n;
    FILE *whole = open_memstream(&reading.text, &size);
    char buf[4096];
    const char *why;
    int line;

    while (whole != NULL && (n = fread(buf, 1, sizeof buf, fp)) > 0)
        fwrite(buf, 1, n, whole);
    if (whole == NULL || ferror(fp) || fclose(whole) != 0) {
        complain(0, "cannot be read: %s", strerror(errno));
        return NULL;
    }
    reading.lines = 1;
    for (size_t i = 0; i + 1 < size; i++)
        reading.lines += reading.text[i] == '\n';
    if (config_text(reading.text, size, &line, &why) != 0) {
        complain(line, "%s", why);
        return NULL;
    }
    /* fmemopen() takes no empty buffer: /dev/null is as good. */
    return size == 0 ? fopen("/dev/null", "r") : fmemopen(reading.text, size, "r");
}

/* Where libconfuse is: it counts the lines of a section in that section until it is over. */
static int line_now(cfg_t *cfg)
{
    static const char *const sections[] = {"listen", "table", "allow"};
    int line = cfg->line;

    for (size_t i = 0; i < sizeof sections / sizeof sections[0]; i++) {
        unsigned n = cfg_size(cfg, sections[i]);
        const cfg_t *last = n > 0 ? cfg_getnsec(cfg, sections[i], n - 1) : NULL;

        if (last != NULL && last->line > line)
            line = last->line;
    }
    return line;
}

static bool parse(cfg_t *cfg, FILE *fp)
{
    if (cfg_parse_fp(cfg, fp) == CFG_SUCCESS)
        return true;
    /* Not the first complaint but where libconfuse has no words: for the name "". */
    complain(line_now(cfg), "an option without a name; `name = value` or a section is expected");
    return false;
}

/* As text: 400 and 0400 are not the same number, and only one of them is meant. */
static int parse_mode(cfg_t *cfg, cfg_opt_t *opt, const char *value, void *result)
{
    size_t len = strlen(value);

    (void)opt;
    if (value[0] != '0' || len > 5 || strspn(value, "01234567") != len ||
        strtol(value, NULL, 8) > 0777)
        return complain(cfg->line,
                        "mode = %s is out of range; an octal number from 0000 to 0777, with its "
                        "leading zero, is expected",
                        value);
    *(long *)result = strtol(value, NULL, 8);
    return 0;
}

struct policy *policy_read(FILE *fp, const char *path, char *why, size_t len)
{
    cfg_opt_t listen_opts[] = {
        CFG_STR("protocol", "proxymap", CFGF_NONE),
        CFG_STR("owner", "root", CFGF_NONE),
        CFG_STR("group", "root", CFGF_NONE),
        CFG_INT_CB("mode", 0666, CFGF_NONE, parse_mode),
        CFG_INT("backlog", 128, CFGF_NONE),
        CFG_INT("max-request", 4 << 20, CFGF_NONE),
        CFG_INT("request-timeout", 10, CFGF_NONE),
        CFG_INT("answer-timeout", 60, CFGF_NONE),
        CFG_INT("workers", 2, CFGF_NONE),
        CFG_INT("clients-per-worker", 256, CFGF_NONE),
        CFG_INT("max-use", 100000, CFGF_NONE),
        CFG_INT("max-pending", 0, CFGF_NONE),
        CFG_END(),
    };
    cfg_opt_t table_opts[] = {
        CFG_STR("reveal", "all", CFGF_NONE),
        CFG_STR("owner", NULL, CFGF_NODEFAULT),
        CFG_STR("symlinks", "refuse", CFGF_NONE),
        CFG_INT("load-time", 120, CFGF_NONE),
        CFG_INT("load-memory", 4096, CFGF_NONE),
        CFG_INT("image-size", 0, CFGF_NONE),
        CFG_END(),
    };
    cfg_opt_t allow_opts[] = {CFG_STR_LIST("tables", NULL, CFGF_NODEFAULT), CFG_END()};
    const cfg_flag_t many = CFGF_MULTI | CFGF_TITLE | CFGF_NO_TITLE_DUPES;
    cfg_opt_t opts[] = {
        CFG_STR("user", "_jailmap", CFGF_NONE),
        CFG_STR("runtime-dir", "/run/jailmap", CFGF_NONE),
        CFG_STR("libexec-dir", JAILMAP_LIBEXECDIR, CFGF_NONE),
        CFG_STR("sandbox", "available", CFGF_NONE),
        CFG_INT("loaders", 8, CFGF_NONE),
        CFG_SEC("listen", listen_opts, many),
        CFG_SEC("table", table_opts, many),
        CFG_SEC("allow", allow_opts, many),
        CFG_END(),
    };
    cfg_t *cfg = cfg_init(opts, CFGF_NONE);
    struct policy *policy = calloc(1, sizeof *policy);
    bool good = false;

    why[0] = '\0';
    reading.path = path;
    reading.why = why;
    reading.len = len;
    reading.runtime_line = reading.libexec_line = 0;
    fp = prepare(fp);
    if (cfg != NULL && policy != NULL && fp != NULL) {
        cfg_set_error_function(cfg, confuse_error);
        set_checks(cfg);
        cfg->filename = strdup(path);
        good = parse(cfg, fp) && why[0] == '\0' && take_policy(policy, cfg) == 0;
    }
    if (!good && why[0] == '\0')
        complain(0, "cannot be read: %s", errno != 0 ? strerror(errno) : "out of memory");
    cfg_free(cfg);
    if (fp != NULL)
        fclose(fp);
    free(reading.text);
    free(reading.given);
    for (size_t i = 0; i < reading.nmentions; i++)
        free(reading.mentions[i].value);
    free(reading.mentions);
    memset(&reading, 0, sizeof reading);
    if (good)
        return policy;
    policy_free(policy);
    return NULL;
}

void policy_free(struct policy *policy)
{
    if (policy == NULL)
        return;
    for (size_t i = 0; policy->listens != NULL && i < policy->nlistens; i++)
        free(policy->listens[i].path);
    for (size_t i = 0; policy->tables != NULL && i < policy->ntables; i++) {
        free(policy->tables[i].name);
        free(policy->tables[i].path);
    }
    for (size_t i = 0; policy->allows != NULL && i < policy->nallows; i++) {
        free(policy->allows[i].title);
        free(policy->allows[i].tables);
    }
    free(policy->listens);
    free(policy->tables);
    free(policy->allows);
    free(policy->user);
    free(policy->runtime_dir);
    free(policy->libexec_dir);
    free(policy);
}
