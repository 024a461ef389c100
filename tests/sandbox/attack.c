/*
 * Finding and carrying out an order: see attack.h. Runs in attacker programs, behind their filter,
 * so it makes no system call but those of the attempt.
 */
#include "tests/sandbox/attack.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct loot loot = {.client = -1, .image = -1, .source = -1, .report = -1};

static const struct attempt *find(const char *name)
{
    static const struct attempt *const lists[] = {system_attempts, bridge_attempts, own_attempts};

    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++)
        for (const struct attempt *a = lists[i]; a->name != NULL; a++)
            if (strcmp(a->name, name) == 0)
                return a;
    return NULL;
}

/* Cuts "NAME ARGUMENT" in two and reads what numbers the argument has. */
static void parse(char *words, struct order *order)
{
    char *space = strchr(words, ' ');

    *order = (struct order){.text = ""};
    if (space == NULL)
        return;
    *space = '\0';
    order->text = space + 1;
    for (char *at = space + 1, i = 0; i < 4; i++)
        order->numbers[(int)i] = strtol(at, &at, 0);
}

const char *attack(struct slice text, char *report, size_t size)
{
    static char words[512];
    const char *at = memmem(text.ptr, text.len, ATTACK_PREFIX, strlen(ATTACK_PREFIX));
    const struct attempt *attempt;
    struct order order;
    size_t len;
    long rc;

    if (at == NULL)
        return NULL;
    at += strlen(ATTACK_PREFIX);
    len = text.len - (size_t)(at - text.ptr);
    if (len >= sizeof words)
        len = sizeof words - 1;
    memcpy(words, at, len);
    words[len] = '\0';
    words[strcspn(words, "\n\";")] = '\0';
    parse(words, &order);
    attempt = find(words);
    if (attempt == NULL) {
        snprintf(report, size, "there is no attempt %s", words);
        return report;
    }
    errno = 0;
    rc = attempt->run(&order);
    if (rc >= 0)
        snprintf(report, size, "done: %ld%s%s", rc, order.detail[0] != '\0' ? " " : "",
                 order.detail);
    else
        snprintf(report, size, "%s%s%s", errno != 0 ? strerrorname_np(errno) : "refused",
                 order.detail[0] != '\0' ? " " : "", order.detail);
    return report;
}
