/*
 * Furnishing the jail: see privsep/sanitized.h. Runs in the jail's launcher of `make
 * system-sanitized`, as root, and is linked into no other program: a program with AddressSanitizer
 * cannot be linked statically, and its runtime reads /proc/self.
 */
#include "privsep/sanitized.h"

#include <errno.h>
#include <stddef.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

static bool show(const char *from, const char *to)
{
    return mkdir(to, 0555) == 0 && mount(from, to, NULL, MS_BIND, NULL) == 0 &&
           mount(NULL, to, NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV, NULL) ==
               0;
}

bool sanitized_furnish(void)
{
    static const char *const shown[] = {"/lib", "/lib64", "/proc"};
    char jail[4096];

    /* A name leads to what covers the directory; the working directory stays below. */
    if (getcwd(jail, sizeof jail) == NULL ||
        mount("tmpfs", jail, "tmpfs", MS_NOSUID | MS_NODEV, "mode=0555") != 0 || chdir(jail) != 0)
        return false;
    for (size_t i = 0; i < sizeof shown / sizeof shown[0]; i++)
        if (access(shown[i], F_OK) == 0 && !show(shown[i], shown[i] + 1))
            return false;
    return true;
}
