/*
 * Orders and reports in shared memory: see mailbox.h. Runs in attacker programs; makes no system
 * call once the file is mapped.
 */
#include "tests/sandbox/mailbox.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/sandbox/attack.h"

#define PAGE   4096
#define REPORT 2048 /* where in the page it stands */

static char *page;

void mailbox_open(void)
{
    char path[4096] = "";
    ssize_t len = readlink("/proc/self/exe", path, sizeof path - sizeof "mailbox");
    char *slash = strrchr(path, '/');
    int fd;

    if (len < 0 || slash == NULL)
        return;
    strcpy(slash + 1, "mailbox");
    fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return;
    page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (page == MAP_FAILED)
        page = NULL;
    close(fd);
}

bool mailbox_says(const char *word)
{
    return page != NULL && strcmp(page, word) == 0;
}

const char *mailbox_serve(const char *to)
{
    char order[REPORT], report[1024];
    size_t len = strlen(to);

    if (page == NULL || strncmp(page, to, len) != 0 || page[len] != ' ')
        return NULL;
    snprintf(order, sizeof order, "%s", page + len + 1);
    page[0] = '\0';
    if (attack((struct slice){order, strlen(order)}, report, sizeof report) == NULL)
        return NULL;
    return strcpy(page + REPORT, report);
}
