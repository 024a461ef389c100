/*
 * An agent: an unprivileged process outside the chroot that answers queries for one answer table.
 * Runs in jailmap-agent-*. The frame below owns the bridge and the links to workers; a back end
 * supplies the answers. Must never hold more than one answer for a worker that does not read.
 */
#ifndef JAILMAP_SERVER_AGENT_AGENT_H
#define JAILMAP_SERVER_AGENT_AGENT_H

#include "policy/table_type.h"
#include "privsep/bridge.h"
#include "privsep/profile.h"
#include "proto/slice.h"

struct agent_backend {
    const struct profile *profile;
    /*
     * Answers one query of the table that source describes, with what it reveals and no more. On
     * ANSWER_FOUND *value borrows from the back end until the next call. On ANSWER_RETRY *why says
     * what fails. Never ANSWER_NOT_FOUND unless the source said so.
     */
    enum bridge_answer (*answer)(const struct msg_source *source, struct slice key,
                                 struct slice *value, const char **why);
};

/* Runs the agent until the monitor goes. Returns the exit status. */
int agent_main(const struct agent_backend *backend);

#endif
