/*
 * The databases of sqlite tables: the files that Postfix reads say where they are, and
 * jailmapd.conf(5) has to say so, too, since no process of jailmapd may name a path to it. Runs in
 * jailmap-import as whoever calls it; root can read such files, others mostly cannot. It may open
 * the files that tables name; it must never wait for one, nor open a database.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include "ctl/import.h"

#define SQLITE     "sqlite:"
#define FILE_BYTES ((size_t)1 << 20)

/* What the file gives dbpath; NULL with errno if it cannot be read, and else 0. */
static char *read_dbpath(const char *path)
{
    size_t len;
    char *text = import_read_file(path, FILE_BYTES, &len), *value;

    if (text == NULL)
        return NULL;
    value = import_main_cf((struct slice){text, len}, "dbpath");
    free(text);
    return value;
}

int import_databases(struct import *import)
{
    for (size_t i = 0; i < import->approved.n; i++) {
        struct import_name *name = import->approved.names[i];
        const char *path = name->name + strlen(SQLITE);
        char *value;

        if (strncmp(name->name, SQLITE "/", strlen(SQLITE "/")) != 0)
            continue;
        errno = 0;
        value = read_dbpath(path);
        if (value != NULL && import_refused_path(value) == NULL)
            name->database = value;
        else
            free(value);
        if (value == NULL && errno == ENOMEM)
            return import_say(EX_OSERR, "out of memory");
        if (name->database == NULL)
            import_say(0,
                       "%s: %s; a readable file with dbpath = PATH, an absolute one, is expected",
                       path, value == NULL && errno != 0 ? strerror(errno) : "no usable dbpath");
    }
    return EX_OK;
}
