/*
 * jailmap-agent-nss: answers unix:passwd.byname and unix:group.byname from the system's name
 * service. Started by the monitor, one for each table, as an unprivileged user, outside the chroot
 * because NSS modules need their files and sockets; read-only by Landlock, and without exec, ptrace
 * and the like by its filter. It must never report an NSS failure as "not found": that would make a
 * mail server refuse valid recipients for good.
 */
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/agent/agent.h"

/* Linux ends names at 256 bytes (LOGIN_NAME_MAX); modules are spared what is far beyond. */
#define NAME_LIMIT 1024
#define ENTRY_MAX  (1024u * 1024) /* bytes of one passwd or group entry, as NSS hands it out */

static char *entry_buf;
static size_t entry_cap;
static char *text_buf;
static size_t text_cap;

static bool grow(char **buf, size_t *cap, size_t want)
{
    char *grown = want > *cap ? realloc(*buf, want) : *buf;

    if (grown == NULL)
        return false;
    *buf = grown;
    if (want > *cap)
        *cap = want;
    return true;
}

static void text_reset(struct slice *text)
{
    *text = (struct slice){text_buf, 0};
}

/* Appends to the answer; false without memory. */
static bool text_add(struct slice *text, const char *part)
{
    size_t len = strlen(part);

    if (!grow(&text_buf, &text_cap, (text->len + len + 1) * 2))
        return false;
    memcpy(text_buf + text->len, part, len);
    *text = (struct slice){text_buf, text->len + len};
    return true;
}

/* Numbers as Postfix prints them: through a signed long. */
static bool text_add_id(struct slice *text, long id)
{
    char digits[24];

    snprintf(digits, sizeof digits, ":%ld", id);
    return text_add(text, digits);
}

static bool format_passwd(struct slice *text, const struct passwd *pw)
{
    return text_add(text, pw->pw_name) && text_add(text, ":") && text_add(text, pw->pw_passwd) &&
           text_add_id(text, (long)pw->pw_uid) && text_add_id(text, (long)pw->pw_gid) &&
           text_add(text, ":") && text_add(text, pw->pw_gecos) && text_add(text, ":") &&
           text_add(text, pw->pw_dir) && text_add(text, ":") && text_add(text, pw->pw_shell);
}

/* The last colon is there even if there is no member. */
static bool format_group(struct slice *text, const struct group *gr)
{
    if (!text_add(text, gr->gr_name) || !text_add(text, ":") || !text_add(text, gr->gr_passwd) ||
        !text_add_id(text, (long)gr->gr_gid) || !text_add(text, ":"))
        return false;
    for (char **m = gr->gr_mem; *m != NULL; m++)
        if ((m != gr->gr_mem && !text_add(text, ",")) || !text_add(text, *m))
            return false;
    return true;
}

/* One call of the name service. Returns its error; *found tells whether there is an entry. */
static int look_up(enum table_type type, const char *name, struct slice *text, bool *found)
{
    struct passwd pw, *pw_result = NULL;
    struct group gr, *gr_result = NULL;
    bool ok = true;
    int rc;

    if (type == TYPE_PASSWD) {
        rc = getpwnam_r(name, &pw, entry_buf, entry_cap, &pw_result);
        if (rc == 0 && pw_result != NULL)
            ok = format_passwd(text, pw_result);
    } else {
        rc = getgrnam_r(name, &gr, entry_buf, entry_cap, &gr_result);
        if (rc == 0 && gr_result != NULL)
            ok = format_group(text, gr_result);
    }
    *found = pw_result != NULL || gr_result != NULL;
    return ok ? rc : ENOMEM;
}

static enum bridge_answer answer(enum table_type type, struct slice key, struct slice *value,
                                 const char **why)
{
    static char name[NAME_LIMIT + 1];
    static char reason[128];
    bool found = false;
    int rc;

    if (key.len == 0 || key.len > NAME_LIMIT)
        return ANSWER_NOT_FOUND; /* no user or group has such a name */
    memcpy(name, key.ptr, key.len);
    name[key.len] = '\0';
    for (size_t cap = 4096;; cap *= 4) {
        if (!grow(&entry_buf, &entry_cap, cap)) {
            rc = ENOMEM;
            break;
        }
        text_reset(value);
        rc = look_up(type, name, value, &found);
        if (rc != ERANGE || cap >= ENTRY_MAX)
            break;
    }
    if (rc == 0)
        return found ? ANSWER_FOUND : ANSWER_NOT_FOUND;
    snprintf(reason, sizeof reason, "the name service fails: %s", strerror(rc));
    *why = reason;
    return ANSWER_RETRY;
}

int main(void)
{
    static const struct agent_backend nss = {&profile_agent_nss, answer};

    return agent_main(&nss);
}
