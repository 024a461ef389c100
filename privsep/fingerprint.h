/*
 * What tells one content of a file from another. Runs in jailmapd only, with privilege; nothing
 * here touches a file.
 */
#ifndef JAILMAP_PRIVSEP_FINGERPRINT_H
#define JAILMAP_PRIVSEP_FINGERPRINT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <time.h>

#define TICK_MS 10 /* times of files are no finer on some kernels */

struct fingerprint {
    dev_t dev;
    ino_t ino;
    off_t size;
    nlink_t nlink;
    struct timespec mtime, ctime;
};

struct fingerprint fingerprint(const struct stat *st);

/* The same content as far as its writer lets that be known; and the same file with nothing done to
 * it: the time of change tells even of writers that set the other one back. */
bool fingerprint_same_content(const struct fingerprint *a, const struct fingerprint *b);
bool fingerprint_same(const struct fingerprint *a, const struct fingerprint *b);

/* Has nobody written the file meanwhile? One that has got or lost a name has changed, but not its
 * content. */
bool fingerprint_unwritten(const struct fingerprint *before, const struct fingerprint *now);

/* Milliseconds since that time by the wall clock; below 0 if it is in the future. */
int64_t fingerprint_age(struct timespec time);

#endif
