/*
 * jailmap-agent-nss: answers unix:passwd.byname and unix:group.byname from the system's name
 * service. Started by the monitor, one for each table, as an unprivileged user, outside the chroot
 * because NSS modules need their files and sockets; read-only by Landlock, and without exec, ptrace
 * and the like by its filter. It must never report an NSS failure as "not found": that would make a
 * mail server refuse valid recipients for good.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "privsep/landlock.h"
#include "server/agent/agent.h"
#include "server/entry_line.h"

/* Linux ends names at 256 bytes (LOGIN_NAME_MAX); modules are spared what is far beyond. */
#define NAME_LIMIT 1024
#define ENTRY_MAX  (1024u * 1024) /* bytes of one passwd or group entry, as NSS hands it out */

static const struct agent_source *source;
static char *entry_buf;
static size_t entry_cap;
static struct entry_line line; /* the answer */

static bool grow(size_t want)
{
    char *grown = want > entry_cap ? realloc(entry_buf, want) : entry_buf;

    if (grown == NULL)
        return false;
    entry_buf = grown;
    if (want > entry_cap)
        entry_cap = want;
    return true;
}

static struct slice string(const char *text)
{
    return (struct slice){text, strlen(text)};
}

static void add_passwd(const struct passwd *pw)
{
    entry_text(&line, string(pw->pw_name));
    entry_text(&line, string(pw->pw_passwd));
    entry_id(&line, (long)pw->pw_uid);
    entry_id(&line, (long)pw->pw_gid);
    entry_text(&line, string(pw->pw_gecos));
    entry_text(&line, string(pw->pw_dir));
    entry_text(&line, string(pw->pw_shell));
}

/* The last colon is there even if there is no member. */
static void add_group(const struct group *gr)
{
    bool first = true;

    entry_text(&line, string(gr->gr_name));
    entry_text(&line, string(gr->gr_passwd));
    entry_id(&line, (long)gr->gr_gid);
    entry_field(&line);
    for (char **m = gr->gr_mem; *m != NULL; m++)
        entry_member(&line, string(*m), &first);
}

/* One call of the name service. Returns its error; *found tells whether there is an entry. */
static int look_up(enum table_type type, const char *name, bool *found)
{
    struct passwd pw, *pw_result = NULL;
    struct group gr, *gr_result = NULL;
    int rc;

    if (type == TYPE_PASSWD) {
        rc = getpwnam_r(name, &pw, entry_buf, entry_cap, &pw_result);
        if (rc == 0 && pw_result != NULL)
            add_passwd(pw_result);
    } else {
        rc = getgrnam_r(name, &gr, entry_buf, entry_cap, &gr_result);
        if (rc == 0 && gr_result != NULL)
            add_group(gr_result);
    }
    *found = pw_result != NULL || gr_result != NULL;
    return line.failed ? ENOMEM : rc;
}

static bool prepare(const struct agent_source *given, struct agent_report *report)
{
    (void)report;
    source = given;
    return agent_end_at_alarm(EVENT_FAILING, "the name service takes longer than timeout says");
}

static void ask(const struct agent_query *query)
{
    static char name[NAME_LIMIT + 1];
    struct slice key = query->key;
    char reason[128];
    bool found = false;
    int rc;

    if (key.len == 0 || key.len > NAME_LIMIT) { /* no user or group has such a name */
        agent_answer(ANSWER_NOT_FOUND, key, NULL);
        return;
    }
    memcpy(name, key.ptr, key.len);
    name[key.len] = '\0';
    alarm(source->timeout);
    for (size_t cap = 4096;; cap *= 4) {
        if (!grow(cap)) {
            rc = ENOMEM;
            break;
        }
        entry_begin(&line, source->reveal);
        rc = look_up(source->type, name, &found);
        if (rc != ERANGE || cap >= ENTRY_MAX)
            break;
    }
    alarm(0);
    snprintf(reason, sizeof reason, "the name service fails: %s", strerror(rc));
    agent_answer(rc != 0 ? ANSWER_RETRY
                 : found ? ANSWER_FOUND
                         : ANSWER_NOT_FOUND,
                 (struct slice){line.ptr, line.len}, reason);
}

/* Reading, and nothing else. NULL, or what is lacking. */
static const char *enter_landlock(void)
{
    struct landlock_grant all = {open("/", O_PATH | O_DIRECTORY | O_CLOEXEC), LANDLOCK_MAY_READ};
    int rc = landlock_enter(&all, 1, LANDLOCK_NO_SIGNALS);

    close(all.fd);
    return rc == 0 ? NULL : "without Landlock its agent is confined by its filter and user alone";
}

int main(void)
{
    static const struct agent_backend nss = {
        .profile = &profile_agent_nss, .enter = enter_landlock, .prepare = prepare, .ask = ask};

    return agent_main(&nss);
}
