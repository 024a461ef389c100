/*
 * Fuzz target config: jailmapd.conf(5) as the monitor reads it. Run by tests/fuzz/run; makes memory
 * streams. Users and groups come from a name service of its own, as in the unit tests. Input: the
 * file. What is accepted must be whole and within its limits, and what is refused must be refused
 * with one line that an administrator can use. The input is also taken as the name of a table: in
 * the form in which the log shows it, it must be read back as the same name.
 */
#include "policy/policy.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/un.h>
#include <unistd.h>

#include "privsep/bridge.h"
#include "tests/fuzz/common.h"

#define FILE_NAME "/etc/jailmapd.conf"

struct passwd *getpwnam(const char *name)
{
    static const struct {
        const char *name;
        uid_t uid;
        gid_t gid;
    } users[] = {{"root", 0, 0}, {"_jailmap", 990, 991}, {"postfix", 105, 110}, {"toor", 0, 1000}};
    static struct passwd pw;

    errno = 0;
    for (size_t i = 0; i < COUNT(users); i++)
        if (strcmp(name, users[i].name) == 0) {
            pw = (struct passwd){.pw_uid = users[i].uid, .pw_gid = users[i].gid};
            return &pw;
        }
    return NULL;
}

struct group *getgrnam(const char *name)
{
    static struct group root = {.gr_gid = 0}, postfix = {.gr_gid = 110};

    errno = 0;
    return strcmp(name, "root") == 0 ? &root : strcmp(name, "postfix") == 0 ? &postfix : NULL;
}

struct configuration {
    const char *text;
    size_t len;
};

/* The main file, and an include of nothing. */
static int open_config(void *context, const char *name, char *why, size_t len)
{
    const struct configuration *in = context;
    int fd;

    if (name[0] != '\0') {
        snprintf(why, len, "there is no such file");
        return -1;
    }
    fd = memfd_create("jailmapd.conf", MFD_CLOEXEC);
    REQUIRE(fd >= 0 && write(fd, in->text, in->len) == (ssize_t)in->len &&
                lseek(fd, 0, SEEK_SET) == 0,
            "no file: %s", strerror(errno));
    return fd;
}

static struct policy *read_policy(const char *text, size_t len, char *why, size_t room)
{
    struct configuration in = {text, len};

    memset(why, 'x', room);
    return policy_read(&(struct policy_files){open_config, &in}, FILE_NAME, why, room);
}

/* ---- refused ---- */

/* One line that begins with the file and one of its lines, and then says something. */
static void check_reason(const char *why, const char *text, size_t len)
{
    const char begin[] = FILE_NAME ":";
    long lines = 1, line;
    char *end;

    for (size_t i = 0; i < len; i++)
        lines += text[i] == '\n';
    REQUIRE(strncmp(why, begin, strlen(begin)) == 0, "\"%s\"", why);
    line = strtol(why + strlen(begin), &end, 10);
    CHECK(line >= 1 && line <= lines, "line %ld of %ld: \"%s\"", line, lines, why);
    CHECK(*end == ':' && strtol(end + 1, &end, 10) >= 1, "no column: \"%s\"", why);
    CHECK(strncmp(end, ": ", 2) == 0 && end[2] != '\0', "\"%s\" says nothing", why);
    CHECK(strchr(why, '\n') == NULL, "\"%s\" is more than one line", why);
}

/* ---- accepted ---- */

static bool is_between(unsigned number, unsigned low, unsigned high)
{
    return number >= low && number <= high;
}

static void check_listen(const struct policy_listen *l)
{
    CHECK(l->path[0] == '/' && strlen(l->path) < sizeof((struct sockaddr_un *)NULL)->sun_path,
          "listens on \"%s\"", l->path);
    CHECK(l->mode <= 0777 && is_between((unsigned)l->backlog, 1, 65535), "mode or backlog");
    CHECK(is_between(l->max_request, 4096, 1u << 30) && is_between(l->request_timeout, 1, 86400) &&
              is_between(l->answer_timeout, 1, 86400) && is_between(l->workers, 1, 64) &&
              is_between(l->clients_per_worker, 1, 4096),
          "a limit of listen \"%s\"", l->path);
}

static bool has_path(const struct policy_table *t)
{
    return t->type->suffix != NULL && !(t->type->braced && strstr(t->name, ":{") != NULL &&
                                        strchr(t->name, ':') == strstr(t->name, ":{"));
}

static void check_answers(const struct policy_table *t)
{
    size_t bytes = 0;

    if (t->type->by & TABLE_BY_AGENT)
        CHECK(is_between(t->processes, 1, 64) && is_between(t->timeout, 1, 3600) &&
                  is_between(t->queue, 1, 1000000) && is_between(t->cache_ttl, 0, 86400) &&
                  is_between(t->negative_cache_ttl, 0, 86400) && is_between(t->cache_size, 1, 4096),
              "a limit of table \"%s\"", t->name);
    else
        CHECK(t->processes + t->timeout + t->queue + t->cache_ttl + t->cache_size == 0,
              "agents of \"%s\"", t->name);
    CHECK((t->database != NULL) == t->type->database &&
              (t->database == NULL || *t->database == '/'),
          "the database of \"%s\"", t->name);
    CHECK((t->nmembers > 0) == t->type->members && t->nmembers <= 64, "%zu members of \"%s\"",
          t->nmembers, t->name);
    for (size_t i = 0; i < t->nset; i++) {
        CHECK(t->set[i][0] != '=' && strchr(t->set[i], '=') != NULL, "\"%s\"", t->set[i]);
        bytes += strlen(t->set[i]) + 1;
    }
    CHECK(bytes <= BRIDGE_NAME_MAX, "a set of %zu bytes", bytes);
}

static void check_table(const struct policy_table *t)
{
    const char *why;

    REQUIRE(t->type != NULL && t->type == table_type_of(t->name, &why), "the type of \"%s\"",
            t->name);
    CHECK(strncmp(t->name, "proxy:", 6) != 0 && strlen(t->name) <= BRIDGE_NAME_MAX, "\"%s\"",
          t->name);
    CHECK((t->path != NULL) == (t->type->path != NULL || has_path(t)), "the path of \"%s\"",
          t->name);
    check_answers(t);
    CHECK(t->path == NULL || (t->path[0] == '/' && strstr(t->path, "/../") == NULL),
          "the path of \"%s\" is \"%s\"", t->name, t->path);
    CHECK(is_between(t->load_time, 1, 86400) && is_between(t->load_memory, 16, 1 << 20) &&
              is_between(t->image_size, 0, 4095),
          "a limit of table \"%s\"", t->name);
}

static bool is_allowed(const struct policy *policy, size_t table)
{
    for (size_t i = 0; i < policy->nallows; i++)
        if (policy->allows[i].tables[table])
            return true;
    return false;
}

/* A composite is approved only if its members are. */
static void check_members(const struct policy *policy, const struct policy_peer *peer, size_t table,
                          enum policy_decision decision)
{
    const struct policy_table *t = &policy->tables[table];

    CHECK(t->nmembers == 0 || (policy_table_flags(policy, table) & 48) != 0, "flags of \"%s\"",
          t->name);
    for (size_t i = 0; decision == POLICY_APPROVE && i < t->nmembers; i++) {
        size_t index;

        REQUIRE(t->members[i] < policy->ntables, "a member that is none");
        CHECK(policy_decide(policy, peer, text_slice(policy->tables[t->members[i]].name), &index) ==
                  POLICY_APPROVE,
              "\"%s\" has a member that is denied", t->name);
    }
}

/* What is approved is what an allow section names, and nothing else. */
static void check_decisions(const struct policy *policy, const struct policy_allow *allow)
{
    struct policy_peer peer = {.uid = allow->uid, .groups = &allow->gid};
    char text[256];

    while (allow->listens != NULL && !allow->listens[peer.listener])
        peer.listener++;
    peer.ngroups = allow->who == WHO_GROUP;
    CHECK(policy_standing(policy, &peer) >=
              (allow->who == WHO_USER ? STANDING_NAMED : STANDING_GUEST),
          "whom allow \"%s\" speaks of is not known", allow->title);
    for (size_t i = 0; i < policy->ntables; i++) {
        struct slice name = text_slice(policy->tables[i].name);
        size_t table = SIZE_MAX;
        enum policy_decision decision = policy_decide(policy, &peer, name, &table);

        check_members(policy, &peer, i, decision);
        CHECK(decision == POLICY_APPROVE || !allow->tables[i] || policy->tables[i].nmembers > 0,
              "\"%s\" is denied", name.ptr);
        CHECK(decision == POLICY_DENY || is_allowed(policy, i), "\"%s\" is approved", name.ptr);
        CHECK(table == i, "\"%s\" is table %zu", name.ptr, table);
        name.len--;
        CHECK(policy_decide(policy, &peer, name, &table) == POLICY_DENY || table != i,
              "a part of a name is approved");
        CHECK(strlen(policy_advice(policy, &peer, name, text, sizeof text)) < sizeof text,
              "the advice has no end");
    }
}

static void check_policy(const struct policy *policy)
{
    struct policy_peer stranger = {.uid = 12345};
    size_t table;

    CHECK(policy->uid != 0 && policy->gid != 0, "children would be root");
    CHECK(policy->runtime_dir[0] == '/' && policy->libexec_dir[0] == '/', "a relative path");
    CHECK(is_between(policy->loaders, 1, 64) && policy->nlistens > 0, "loaders or listeners");
    for (size_t i = 0; i < policy->nlistens; i++)
        check_listen(&policy->listens[i]);
    for (size_t i = 0; i < policy->ntables; i++)
        check_table(&policy->tables[i]);
    for (size_t i = 0; i < policy->nlimits; i++) {
        const struct policy_limit *l = &policy->limits[i];

        CHECK(l->clients <= 1000000 && l->lookups_per_second <= 10000000 &&
                  l->misses_per_minute <= 600000000 && l->action <= ACTION_RETRY,
              "a limit of limit \"%s\"", l->title);
    }
    for (size_t i = 0; i < policy->nallows; i++)
        check_decisions(policy, &policy->allows[i]);
    if (policy_standing(policy, &stranger) != STANDING_NONE)
        return;
    for (size_t i = 0; i < policy->ntables; i++)
        CHECK(policy_decide(policy, &stranger, text_slice(policy->tables[i].name), &table) ==
                  POLICY_DENY,
              "a stranger is approved");
}

/* ---- there and back ---- */

static char *print(const struct policy *policy, size_t *size)
{
    char *text = NULL;
    FILE *out = open_memstream(&text, size);

    REQUIRE(out != NULL && policy_print(policy, out) && fclose(out) == 0, "not printed");
    return text;
}

/* What is printed is read back, and says the same again. */
static void check_print(const struct policy *policy)
{
    size_t size, again_size;
    char *text = print(policy, &size), *again, why[1024];
    struct policy *back = policy_parse(text, size, why, sizeof why);

    REQUIRE(back != NULL, "%s\n%s", why, text);
    again = print(back, &again_size);
    CHECK(size == again_size && memcmp(text, again, size) == 0, "%s\n---\n%s", text, again);
    policy_free(back);
    free(again);
    free(text);
}

/* As if a process that was taken over sent it for a policy. */
static void check_canonical(const char *text, size_t size)
{
    char why[1024];
    struct policy *policy = policy_parse(text, size, why, sizeof why);

    if (policy != NULL)
        check_policy(policy);
    else
        CHECK(why[0] != '\0' && strchr(why, '\n') == NULL, "\"%s\"", why);
    policy_free(policy);
}

/* ---- names ---- */

/* A name that the log shows can be copied into the file. */
static void check_name(const char *bytes, size_t len)
{
    size_t room = 4 * len + 16;
    char *escaped = need_memory(room), *text = NULL, why[512];
    struct slice name = {bytes, strnlen(bytes, len)};
    struct policy *policy;

    if (name.len == 0 || name.len > 1000)
        name = (struct slice)SLICE("x");
    policy_escape(name, escaped, room);
    for (const char *at = escaped; *at != '\0'; at++)
        CHECK(*at >= ' ' && *at < 0x7f, "an escaped name has the byte %d", *at);
    REQUIRE(asprintf(&text, "listen \"/s\" { }\ntable \"static:%s\" { }\n", escaped) > 0,
            "out of memory");
    policy = read_policy(text, strlen(text), why, sizeof why);
    REQUIRE(policy != NULL && policy->ntables == 1, "refused: %s\n%s", why, text);
    CHECK(slice_same(text_slice(policy->tables[0].name + strlen("static:")), name),
          "\"%s\" is read as another name", escaped);
    policy_free(policy);
    free(text);
    free(escaped);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = exact_copy(data, size), why[1024];
    struct policy *policy;

    policy = read_policy(text, size, why, sizeof why);
    if (policy == NULL) {
        check_reason(why, text, size);
    } else {
        check_policy(policy);
        check_print(policy);
    }
    policy_free(policy);
    check_canonical(text, size);
    check_name(text, size);
    free(text);
    return 0;
}
