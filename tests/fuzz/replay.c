/*
 * In the place of libFuzzer: hands each file that is named, and each file of a directory that is
 * named, to the target once. Run by tests/fuzz/run to measure coverage, which is counted over the
 * same inputs every time; it may read what is named and must never invent an input.
 */
#include "tests/fuzz/common.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static void replay_file(int dir, const char *name)
{
    int fd = openat(dir, name, O_RDONLY | O_CLOEXEC);
    size_t len;
    char *bytes;

    REQUIRE(fd >= 0, "%s: %s", name, strerror(errno));
    bytes = bytes_of_file(fd, &len);
    close(fd);
    LLVMFuzzerTestOneInput((const uint8_t *)bytes, len);
    free(bytes);
}

static void replay_directory(const char *path)
{
    DIR *dir = opendir(path);
    const struct dirent *entry;

    REQUIRE(dir != NULL, "%s: %s", path, strerror(errno));
    while ((entry = readdir(dir)) != NULL)
        if (entry->d_name[0] != '.')
            replay_file(dirfd(dir), entry->d_name);
    closedir(dir);
}

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        struct stat st;

        REQUIRE(stat(argv[i], &st) == 0, "%s: %s", argv[i], strerror(errno));
        if (S_ISDIR(st.st_mode))
            replay_directory(argv[i]);
        else
            replay_file(AT_FDCWD, argv[i]);
    }
    return 0;
}
