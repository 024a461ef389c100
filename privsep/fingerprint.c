/*
 * What tells one content of a file from another. Runs in the monitor, with privilege. It may
 * compare what the kernel has told; it must never open, read or look at a file itself.
 */
#include "privsep/fingerprint.h"

struct fingerprint fingerprint(const struct stat *st)
{
    return (struct fingerprint){st->st_dev,   st->st_ino,  st->st_size,
                                st->st_nlink, st->st_mtim, st->st_ctim};
}

static bool same_time(struct timespec a, struct timespec b)
{
    return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

bool fingerprint_same_content(const struct fingerprint *a, const struct fingerprint *b)
{
    return a->dev == b->dev && a->ino == b->ino && a->size == b->size &&
           same_time(a->mtime, b->mtime);
}

bool fingerprint_same(const struct fingerprint *a, const struct fingerprint *b)
{
    return fingerprint_same_content(a, b) && same_time(a->ctime, b->ctime);
}

bool fingerprint_unwritten(const struct fingerprint *before, const struct fingerprint *now)
{
    return fingerprint_same_content(before, now) &&
           (before->nlink != now->nlink || fingerprint_same(before, now));
}

int64_t fingerprint_age(struct timespec time)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return (now.tv_sec - time.tv_sec) * 1000 + (now.tv_nsec - time.tv_nsec) / 1000000;
}
