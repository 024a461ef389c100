/*
 * Memory that is passed on as a descriptor: images, and pages of counters. Runs in the monitor,
 * with privilege. It may make such memory and settle what can be done to it; it must never map it.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>

#include "privsep/memfd.h"

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 8 /* Linux 6.3 */
#endif

int memfd_make(const char *name)
{
    int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);

    return fd >= 0 || errno != EINVAL ? fd : memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
}

int memfd_seal(int fd, int seals, const char **why)
{
    char path[32];
    int reader;

    *why = "the memory cannot be sealed";
    if (fcntl(fd, F_ADD_SEALS, seals) != 0 || (fcntl(fd, F_GET_SEALS) & seals) != seals)
        return -1;
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    reader = open(path, O_RDONLY | O_CLOEXEC);
    if (reader < 0)
        *why = "the memory cannot be opened for reading; is /proc mounted?";
    return reader;
}
