/*
 * Tables of the policy and their images. Runs in jailmapd only, with privilege. Indices are those
 * of monitor_policy->tables; descriptors that are returned stay the tables' own.
 */
#ifndef JAILMAP_PRIVSEP_TABLES_H
#define JAILMAP_PRIVSEP_TABLES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "policy/policy.h"
#include "privsep/bridge.h"

bool tables_start(void);
/* What a worker that asked for a table is to be told: changes when there is something new; 0:
 * nothing to tell yet. Then: what answers the table, and its image, or -1: RETRY. */
uint64_t table_version(size_t index);
enum bridge_kind table_answered_by(size_t index);
int table_image(size_t index);
void table_spoiled(size_t index, const char *why);
/* What a crew of agents has made of its source. */
struct offered {
    uint64_t entries;
    uint32_t ignored; /* lines left out; text: the first of them */
    bool refused;     /* text: why it cannot answer from that */
    bool died;        /* text: how */
    char text[512];
};
void table_offered(size_t index, const struct offered *said);
/* Those who answer are to start again, and the source is to be read anew for that. */
void table_offer_again(size_t index);
/* Something happened to a source. */
void table_touched(size_t index, uint64_t now);
uint64_t tables_tick(uint64_t now);
/* Makes room for so many tables; false: out of memory. Then monitor_policy may become another, and
 * this goes over to it from the old one. */
bool tables_prepare(size_t ntables);
void tables_reload(const struct policy *old);
/* Has the latest reload let go of what the table held? */
bool table_is_anew(size_t index);
void tables_check_all(void);
/* Tells the census what is new of every table. False: it does not take more now. */
bool tables_tell(void);

#endif
