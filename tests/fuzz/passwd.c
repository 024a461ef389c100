/*
 * Fuzz target passwd: the loader's source type unix:passwd.byname, on a passwd file. Run by
 * tests/fuzz/run; for what is checked see unix_file.c. Input: the file.
 */
#include <pwd.h>
#include <stdlib.h>

#include "tests/fuzz/unix_file.h"

static void read_all(FILE *in, struct entries *entries)
{
    static char buf[65536];
    struct passwd entry, *pw;

    while (fgetpwent_r(in, &entry, buf, sizeof buf, &pw) == 0) {
        char *value;

        REQUIRE(asprintf(&value, "%s:%s:%ld:%ld:%s:%s:%s", pw->pw_name, pw->pw_passwd,
                         (long)pw->pw_uid, (long)pw->pw_gid, pw->pw_gecos, pw->pw_dir,
                         pw->pw_shell) > 0,
                "out of memory");
        entries_add(entries, pw->pw_name, value);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    check_unix_file(&source_passwd, data, size, read_all);
    return 0;
}
