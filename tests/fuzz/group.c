/*
 * Fuzz target group: the loader's source type unix:group.byname, on a group file. Run by
 * tests/fuzz/run; for what is checked see unix_file.c. Input: the file.
 */
#include <grp.h>
#include <stdlib.h>

#include "tests/fuzz/unix_file.h"

static char *value_of(const struct group *gr)
{
    char *value = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&value, &len);

    REQUIRE(out != NULL, "out of memory");
    fprintf(out, "%s:%s:%ld:", gr->gr_name, gr->gr_passwd, (long)gr->gr_gid);
    for (char **member = gr->gr_mem; *member != NULL; member++)
        fprintf(out, "%s%s", member > gr->gr_mem ? "," : "", *member);
    fclose(out);
    return value;
}

static void read_all(FILE *in, struct entries *entries)
{
    static char buf[65536];
    struct group entry, *gr;

    while (fgetgrent_r(in, &entry, buf, sizeof buf, &gr) == 0)
        entries_add(entries, gr->gr_name, value_of(gr));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    check_unix_file(&source_group, data, size, read_all);
    return 0;
}
