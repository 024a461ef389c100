/*
 * The two launchers, which start every child. Runs in jailmapd only, with privilege. A child is
 * asked for by the number of its program and its limits, never by a path.
 */
#ifndef JAILMAP_PRIVSEP_LAUNCHERS_H
#define JAILMAP_PRIVSEP_LAUNCHERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "privsep/launch.h"

/* Walls of the sandbox that could not be had, one after the other in words. */
struct walls {
    char missing[16][160];
    unsigned count;
};
__attribute__((format(printf, 2, 3))) void walls_lack(struct walls *walls, const char *format, ...);

/*
 * Starts both, before priv_confine(): programs holds a descriptor for each helper, jail that of the
 * empty directory. Returns once they are confined and ready. False with a message in why.
 */
bool launchers_start(const int programs[HELPERS], int jail, struct walls *walls, char *why,
                     size_t len);
/* From now on they are children like others. */
bool launchers_watch(void);
/* Asks for a new child, whose bridge is the other end of fd; child_born() tells of it. False with
 * errno if that cannot be asked now. */
bool launch(enum helper helper, uint64_t birth, const struct spawn *limits, const char *title,
            int fd);

#endif
