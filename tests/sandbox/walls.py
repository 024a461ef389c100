"""The walls, each as what takes it down and which tests must notice: see mutate.

name: (edits, tests). An edit is (file, text that is there once, text instead).
"""

JAIL = "privsep/priv_jail.c"
LAUNCHER = "privsep/launcher.c"
CHILD = "privsep/child.c"
CONFINE = "privsep/priv_confine.c"
CLIENTS = "privsep/clients.c"
COMPARTMENTS = "privsep/compartments.c"
GRANTS = "privsep/grants.c"
WORKERS = "privsep/workers.c"
TABLES = "privsep/tables.c"
BRIDGE = "privsep/bridge.c"
OPEN = "privsep/priv_open.c"
MONITOR = "privsep/profile_monitor.c"
DENIED = "privsep/profile_denied.c"


def line(file, text, instead=""):
    return [(file, text, instead)]


def unfiltered(file, profile):
    return line(file, f"profile_enter(&{profile});")


WALLS = {
    # ---- what a helper is born with ----
    "root directory of the jail": (
        line(JAIL, "mounted = mount_only();", "mounted = true;"),
        ["system jail.root_directory"],
    ),
    "jail as the only mount": (
        line(JAIL, "mounted = mount_only();", "mounted = false;"),
        ["system jail.root_directory"],
    ),
    "network namespace": (
        line(JAIL, "{CLONE_NEWNET, WALL_NETWORK}", "{0, WALL_NETWORK}"),
        ["system jail.namespaces"],
    ),
    "IPC namespace": (
        line(JAIL, "{CLONE_NEWIPC, WALL_IPC}", "{0, WALL_IPC}"),
        ["system jail.namespaces"],
    ),
    "UTS namespace": (
        line(JAIL, "{CLONE_NEWUTS, WALL_HOST_NAME}", "{0, WALL_HOST_NAME}"),
        ["system jail.namespaces"],
    ),
    "process id namespace": (
        line(JAIL, "unshare(CLONE_NEWPID)", "unshare(0)"),
        ["system jail.namespaces"],
    ),
    "supplementary groups": (
        line(JAIL, "setgroups(0, NULL) != 0 || "),
        ["system jail.identity"],
    ),
    "gid": (line(JAIL, "setresgid(gid, gid, gid) != 0 || "), ["system jail.identity"]),
    "uid": (
        [
            (JAIL, "|| setresuid(uid, uid, uid) != 0", ""),
            (JAIL, "if (!no_capabilities())", "if (false && !no_capabilities())"),
        ],
        ["system jail.identity"],
    ),
    "bounding set of helpers": (
        [
            (JAIL, "cap_drop_bound(cap) != 0", "false"),
            (JAIL, "empty = cap_get_bound(cap) == 0 &&", "empty ="),
        ],
        ["system jail.capabilities"],
    ),
    "no_new_privs": (
        [
            (CONFINE, "if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)", "if (0)"),
            (JAIL, "if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)", "if (0)"),
            (
                "privsep/profile.c",
                "seccomp_load(filter) != 0",
                "seccomp_attr_set(filter, SCMP_FLTATR_CTL_NNP, 0) != 0 || seccomp_load(filter) != 0",
            ),
        ],
        ["system jail.capabilities", "system jail.monitor_capabilities"],
    ),
    "no new processes": (line(LAUNCHER, "limit(RLIMIT_NPROC, 0)", "true"), ["system jail.limits"]),
    "no core dumps": (line(LAUNCHER, "!limit(RLIMIT_CORE, 0) || "), ["system jail.limits"]),
    "no files": (
        line(LAUNCHER, "limit(RLIMIT_FSIZE, s->file_size)", "true"),
        ["system jail.limits", "system limits.image_limit"],
    ),
    "limit of memory": (
        line(LAUNCHER, "limit(RLIMIT_DATA, s->memory) && "),
        ["system loader_limits"],
    ),
    "descriptors of a helper": (
        line(LAUNCHER, "syscall(SYS_close_range, PROGRAM_FD + 1, ~0U, 0) == 0", "true"),
        ["system jail.descriptors"],
    ),
    "descriptors of a launcher": (
        [
            ("privsep/launchers.c", "return syscall(SYS_close_range, END, ~0U, 0) == 0;",
             "for (int fd = END; fd < 64; fd++) fcntl(fd, F_SETFD, 0);\n    return true;"),
        ],
        ["system jail.descriptors"],
    ),
    "environment": (
        line(LAUNCHER, "char *envp[] = {NULL};", 'char *envp[] = {"A=1", NULL};'),
        ["system jail.environment"],
    ),
    "end with the monitor": (
        [
            (LAUNCHER, "prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != parent", "false"),
            (LAUNCHER, "if ((lacking->walls & WALL_PROCESSES) == 0) {", "if (0) {"),
        ],
        ["system faults.monitor_killed", "system nss.busy_agent_ends"],
    ),
    # ---- filters ----
    "filter of the monitor": (
        unfiltered("privsep/jailmapd.c", "profile_monitor"),
        ["system jail.filters"],
    ),
    "filter of the launchers": (
        unfiltered(LAUNCHER, "profile_launcher"),
        ["system jail.filters"],
    ),
    "filter of the worker": (
        unfiltered("server/worker/worker.c", "profile_worker"),
        ["system jail.filters"],
    ),
    "filter of the loader": (
        line("server/loader/loader.c", "profile_enter(sources[i].profile);"),
        ["system jail.filters"],
    ),
    "filter of the scribe": (
        unfiltered("server/scribe/scribe.c", "profile_scribe"),
        ["system jail.filters"],
    ),
    "filter of the agent": (
        line("server/agent/agent.c", "profile_enter(b->profile);"),
        ["system jail.filters"],
    ),
    # ---- the monitor ----
    "capabilities of the monitor": (
        line(CONFINE, "CAP_DAC_READ_SEARCH, CAP_KILL}", "CAP_DAC_READ_SEARCH, CAP_KILL, CAP_SYS_ADMIN}"),
        ["system jail.monitor_capabilities"],
    ),
    "bounding set of the monitor": (
        line(CONFINE, "cap_get_bound(cap) != 0 &&", "false &&"),
        ["system jail.monitor_capabilities"],
    ),
    "strict means strict": (
        line("privsep/jailmapd.c", "if (!monitor_policy->strict || walls.count == 0)", "if (true)"),
        ["system walls.strict"],
    ),
    "what is lacking is said": (
        line("privsep/launchers.c", "if (ready->missing & names[i].wall)", "if (0)"),
        ["system walls.available"],
    ),
    "an empty jail, or no start": (
        line("privsep/jailmapd.c", 'strcmp(entry->d_name, "..") != 0)', 'strcmp(entry->d_name, "..") != 0 && false)'),
        ["system walls.jail_not_empty"],
    ),
    # ---- the bridge ----
    "message: number": (
        line(BRIDGE, "if (rule == NULL || header.zero != 0)", "if (rule == NULL)"),
        ["unit"],
    ),
    "message: sender": (
        line(BRIDGE, "(rule->from & from) == 0 || "),
        ["unit"],
    ),
    "message: state": (line(BRIDGE, "if ((rule->states & state) == 0)", "if (0)"), ["unit"]),
    "message: shortest": (
        line(BRIDGE, "if (len < sizeof header + rule->fixed)", "if (0)"),
        ["unit"],
    ),
    "message: longest": (
        line(BRIDGE, "if (len > sizeof header + rule->fixed + rule->tail)", "if (0)"),
        ["unit"],
    ),
    "message: descriptors": (line(BRIDGE, "if (nfds != rule->fds)", "if (0)"), ["unit"]),
    "message: descriptors that are not wanted are closed": (
        line(BRIDGE, "    while (msg->nfds > 0)\n        bridge_discard(msg->fds[--msg->nfds]);\n", ""),
        ["unit"],
    ),
    "message: descriptors beyond the table's are not taken": (
        line(BRIDGE, "mh.msg_flags & MSG_CTRUNC)", "0)"),
        ["unit"],
    ),
    "message: cut": (line(BRIDGE, "mh.msg_flags & MSG_TRUNC)", "0)"), ["unit"]),
    # ---- opening ----
    "path: owner": (
        line(OPEN, "if (w->st->st_uid != 0 && w->st->st_uid != w->owner)", "if (0)"),
        ["unit"],
    ),
    "path: written by others": (line(OPEN, "(w->st->st_mode & (S_IWGRP | S_IWOTH))", "0"), ["unit"]),
    "path: regular files": ([
            (OPEN, "if (!S_ISREG(w->st->st_mode)) {", "if (false) {"),
            (OPEN, "if (!S_ISREG(w->st->st_mode))\n        return refuse", "if (false)\n        return refuse"),
        ], ["unit"]),
    # ---- tables and images ----
    "seals": (
        line("privsep/memfd.c", "fcntl(fd, F_ADD_SEALS, seals) != 0 || (fcntl(fd, F_GET_SEALS) & seals) != seals", "0"),
        ["system jail.images_are_sealed"],
    ),
    "images are read-only": (
        line("privsep/memfd.c", "reader = open(path, O_RDONLY | O_CLOEXEC);", "reader = dup(fd);"),
        ["system jail.descriptor_rights", "system jail.images_are_sealed"],
    ),
    "reveal, in the loader": (
        line("server/loader/loader.c", "if (is->order->reveal == REVEAL_EXISTENCE)", "if (false)"),
        ["system jail.existence"],
    ),
    "reveal, in the agent": (
        line("server/agent/agent.c", "status == ANSWER_FOUND && source.reveal == REVEAL_EXISTENCE", "false"),
        ["system nss", "system unix"],
    ),
    "fields that are not revealed": (
        line("server/entry_line.c", "if (line->reveal & 1u << (line->fields - 1))"),
        ["unit", "system reveal.uid"],
    ),
    "fields, in the loader": (
        line("server/loader/loader.c", "source->reveal = order->reveal;", "source->reveal = REVEAL_ALL;"),
        ["system reveal.uid"],
    ),
    "fields, in the agent": (
        line("server/agent/nss.c", "entry_begin(&line, source->reveal);", "entry_begin(&line, REVEAL_ALL);"),
        ["system reveal.of_a_name_service"],
    ),
    "limits of keys, in the worker": (
        line("server/worker/lookup.c", "table->limited && !key_limit_passes(&table->limit, key)", "false"),
        ["system reveal.the_agent_is_not_asked"],
    ),
    "limits of keys, in the agent": (
        line("server/agent/agent.c", "if (key_limit_passes(&source.limit, query_key))", "if (true)"),
        ["system reveal.the_agent_keeps_to_the_limit"],
    ),
    "limits of keys, in the loader": (
        line("server/loader/loader.c", "if (!key_limit_passes(&is->order->limit, key)) {", "if (false) {"),
        ["system reveal.stored_tables"],
    ),
    "records of an image are inside": (
        line("server/image.c", "if (word > len - sizeof word)", "if (false)"),
        ["unit"],
    ),
    "a failing load keeps the last good image": (
        line(TABLES, "    else\n        fail_for_a_while(t, why);\n}", "    else\n        take_image(t, -1);\n}"),
        ["system loader_limits.stopped_loader"],
    ),
    "writers are waited for: lock": (
        line(TABLES, "return flock(fd, LOCK_SH | LOCK_NB) == 0 || errno != EWOULDBLOCK;", "return true;"),
        ["system faults.half_written", "system loader_limits.locked_hash"],
    ),
    "writers are waited for: lease": (
        line(TABLES, "} else if (!is_settled(t, INPUT_SOURCE) || !is_settled(t, INPUT_DATABASE)) {", "} else if (false) {"),
        ["system reload.slow_editor"],
    ),
    "time of a load": (
        line(TABLES, "t->loader->kill_at = t->loader->started + UINT64_C(1000) * t->conf->load_time;", ""),
        ["system loader_limits.stopped_loader"],
    ),
    "number of loaders": (
        line(TABLES, "if (loaders >= monitor_policy->loaders)", "if (0)"),
        ["system loader_limits.one_at_a_time", "system loader_limits.stopped_one"],
    ),
    # ---- clients ----
    "compartments by uid": (
        line(COMPARTMENTS, "c->peer.listener == peer->listener && c->peer.uid == peer->uid &&", "c->peer.listener == peer->listener &&"),
        ["system jail.compartments"],
    ),
    "who is suspect stays so": (
        line(COMPARTMENTS, "(c->suspect && !over)", "false"),
        ["system compartments.once_for_guests"],
    ),
    "compartments by listener": (
        line(COMPARTMENTS, "c->peer.listener == peer->listener && c->peer.uid == peer->uid &&", "c->peer.uid == peer->uid &&"),
        ["system start.socket_file"],
    ),
    "compartments by groups": (
        [
            (COMPARTMENTS, "c->peer.ngroups == peer->ngroups &&", ""),
            (COMPARTMENTS, "memcmp(c->groups, peer->groups, peer->ngroups * sizeof *c->groups) == 0", "true"),
        ],
        ["system reveal.a_worker_for_each_set_of_rights"],
    ),
    "groups are the peer's": (
        line("policy/decide.c", "if (allow->gid == peer->groups[i])", "if (true)"),
        ["unit", "system reveal.groups"],
    ),
    "sections are of listeners": (
        line("policy/decide.c", "if (!policy_is_on(allow, peer->listener))", "if (false)"),
        ["unit", "system reveal.listeners"],
    ),
    "places of guests": (
        line(COMPARTMENTS, "(count >= crowd->most && idle == NULL) ||", "false ||"),
        ["system reveal.guests_are_bounded", "system limits.strangers"],
    ),
    "places of a user with groups": (
        line(COMPARTMENTS, "if (!uid_place(c, urgent))", "if (false)"),
        ["system reveal.places_of_a_user_with_groups"],
    ),
    "denial": (
        line("policy/decide.c", "policy->allows[i].tables[table] && speaks_of", "speaks_of"),
        ["unit", "system jail.denied_table_stays_out"],
    ),
    "lines of a log are one": (
        line("policy/decide.c", "c < 0x20 || c >= 0x7f ||", "c >= 0x7f ||"),
        ["unit", "system clients.log_lines_are_the_daemons"],
    ),
    "number of lines": (
        line("privsep/log.c", "if (limit->count >= LINES_INTERVAL)", "if (0)"),
        ["system clients.log_lines_are_the_daemons", "system limits"],
    ),
    "a client has its uid and no other's workers": (
        [
            (COMPARTMENTS, "return c->crowd == &strangers ? 1 : listen_of(c)->workers;", "return 64;"),
            (COMPARTMENTS, "return policy->listens[listener].workers +", "return 64 +"),
        ],
        ["system compartments", "system limits"],
    ),
    "pending bytes": (
        line("server/worker/session.c", "if (pending + more <= session_limits.max_pending) {", "if (true) {"),
        ["system compartments.half_requests"],
    ),
    "pending bytes, of composites": (
        line("server/worker/lookup.c", "!session_keep(session, first + value.len)", "false"),
        ["system links.bounded"],
    ),
    "agents answer for their own table": (
        line("server/worker/answer.c", "s->held_table != table)", "false)"),
        ["system links.not_another_tables"],
    ),
    "queue of a table": (
        line("server/worker/tables.c", "if (table->use.queue > 0 &&", "if (false &&"),
        ["system links.queue"],
    ),
    "what is kept goes with the table": (
        line("server/worker/tables.c", "drop_cache(table);\n    if (!(table->answered_by", "if (!(table->answered_by"),
        ["system links.dropped"],
    ),
    "what a member said goes with it": (
        line("server/worker/answer.c", "memo_drop(&s->memo); /* what a table said", "/* what a table said"),
        ["system links.recalled"],
    ),
    "one crew finishes at a time": (
        line("privsep/agents.c", "    free_crew(p->old, NULL);\n    p->old = crew;", "    p->old = crew;"),
        ["system crews.changed_all_the_time"],
    ),
    "an agent reads what its crew has read": (
        line("privsep/agents.c", "if (crew->files[i] >= 0 && !fingerprint_unwritten(&crew->seen[i], &now))", "(void)now;\n        if (false)"),
        ["system crews.killed_while_written"],
    ),
    "a database is asked for by its own name": (
        line("privsep/tables.c", "return PRIV_FOLLOW | PRIV_REAL_NAME;", "return PRIV_FOLLOW;"),
        ["system crews.link_to_a_database"],
    ),
    "sockets have the mode of their section": (
        line("privsep/listen.c", "mask = umask(0777 & ~conf->mode);", "mask = umask(0);"),
        ["system start.socket_file"],
    ),
    # ---- the status ----
    "who asks for the status is looked at": (
        line("privsep/control.c", "if (peer->uid == 0 ||", "if (true ||"),
        ["system status.who"],
    ),
    "the census cannot write a page of counters": (
        line(WORKERS, "census_tell(MSG_PAGE, &page, NULL, &reader)", "census_tell(MSG_PAGE, &page, NULL, &writer)"),
        ["sandbox census.bare_*_page*"],
    ),
    "a page of counters keeps its size": (
        line("privsep/census.c", "#define SEALS       (F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL)", "#define SEALS       (F_SEAL_GROW)"),
        ["system jail.counters"],
    ),
    "filter of the census": (
        unfiltered("server/census/census.c", "profile_census"),
        ["sandbox census.any_message"],
    ),
    # ---- Landlock ----
    "Landlock of the jail": (
        line(LAUNCHER, "return landlock_enter(grants, n, LANDLOCK_NO_TCP | LANDLOCK_NO_SIGNALS | LANDLOCK_NO_ABSTRACT);", "return 0;"),
        ["sandbox launcher.bare*"],
    ),
    "Landlock of the monitor": (
        line(CONFINE, "rc = landlock_enter(grants, n, LANDLOCK_NO_TCP);", "rc = 0;"),
        ["sandbox monitor.bare_create_file", "sandbox monitor.bare_create_like_notes"],
    ),
    "signals of the monitor": (
        line(CONFINE, "return landlock_keep_signals();", "return 0;"),
        ["sandbox monitor.kill_foreign"],
    ),
    "agents write nothing (Landlock and filter)": (
        [
            ("server/agent/nss.c", "landlock_enter(&all, 1, LANDLOCK_NO_SIGNALS)", "0"),
            (DENIED, '    {SCMP_SYS(openat), REFUSE(EACCES), 1, FLAG(2, O_CREAT), "making files"},\n', ""),
            (DENIED, '    {SCMP_SYS(openat), REFUSE(EACCES), 1, ACCESS(2, O_WRONLY), "opening for writing"},\n', ""),
            (DENIED, '    {SCMP_SYS(openat), REFUSE(EACCES), 1, ACCESS(2, O_RDWR), "opening for writing"},\n', ""),
        ],
        ["sandbox agent.create_in_tmp"],
    ),
    "siblings send each other no signals (Landlock and filters)": (
        [
            (LAUNCHER, "landlock_keep_signals() != 0", "false"),
            (DENIED, '    {SCMP_SYS(kill), KILL, 0, {{0}}, "other processes: siblings have the same uid"},\n', ""),
        ],
        ["sandbox worker.bare_kill_sibling*"],
    ),
    # ---- what a filter holds ----
    "the worker opens nothing": (
        line("privsep/profile_worker.c", '    {SCMP_SYS(recvfrom), 0, 0,', '    {SCMP_SYS(openat), 0, 0, {{0}}, ""},\n    {SCMP_SYS(recvfrom), 0, 0,'),
        ["sandbox worker.open_passwd"],
    ),
    "the worker makes no code (both filters)": (
        [
            ("privsep/profile_worker.c", '{SCMP_SYS(mmap), 0, 2, {NOT_EXECUTABLE, NO_FILE}, "malloc"}', '{SCMP_SYS(mmap), 0, 1, {NO_FILE}, "malloc"}'),
            (DENIED, '    {SCMP_SYS(mmap), KILL, 1, {WRITABLE_CODE}, "code of its own making"},\n', ""),
        ],
        ["sandbox worker.code_map"],
    ),
    "the loader opens nothing": (
        line("privsep/profile_loader.c", '    {SCMP_SYS(poll), 0, 0,', '    {SCMP_SYS(openat), 0, 0, {{0}}, ""},\n    {SCMP_SYS(poll), 0, 0,'),
        ["sandbox loader.open_*"],
    ),
    "the scribe sends to nobody else": (
        line("privsep/profile_scribe.c", "{SCMP_SYS(sendto), 0, 1, {SCMP_A4(SCMP_CMP_EQ, 0, 0)}", "{SCMP_SYS(socket), 0, 0, {{0}}, \"\"},\n    {SCMP_SYS(sendto), 0, 0, {{0}}"),
        ["sandbox scribe.socket*"],
    ),
    "the agent executes nothing": (
        [
            (DENIED, '    {SCMP_SYS(execve), KILL, 0, {{0}}, "another program"},\n', ""),
            (DENIED, '    {SCMP_SYS(execveat), KILL, 0, {{0}}, "another program"},\n', ""),
        ],
        ["sandbox agent.execute*"],
    ),
    "launchers trace nobody": (
        line(DENIED, '    {SCMP_SYS(ptrace), KILL, 0, {{0}}, "other processes"},\n'),
        ["sandbox launcher.*_trace_*", "sandbox agent.trace_*"],
    ),
    "the monitor executes nothing": (
        line(MONITOR, '    {SCMP_SYS(epoll_wait), 0, 0,', '    {SCMP_SYS(execve), 0, 0, {{0}}, ""},\n    {SCMP_SYS(epoll_wait), 0, 0,'),
        ["sandbox monitor.execute"],
    ),
    "the monitor starts nothing": (
        line(MONITOR, '    {SCMP_SYS(epoll_wait), 0, 0,', '    {SCMP_SYS(clone), 0, 0, {{0}}, ""},\n    {SCMP_SYS(epoll_wait), 0, 0,'),
        ["sandbox monitor.fork"],
    ),
    "the monitor sends to nobody by name": (
        line(MONITOR, '    {SCMP_SYS(epoll_wait), 0, 0,', '    {SCMP_SYS(sendto), 0, 0, {{0}}, ""},\n    {SCMP_SYS(epoll_wait), 0, 0,'),
        ["sandbox monitor.send_to_name"],
    ),
    "the monitor reads no table": (
        line(MONITOR, "{SCMP_SYS(read), 0, 1, {IS(0, MONITOR_INOTIFY)}", "{SCMP_SYS(read), 0, 0, {{0}}"),
        ["sandbox monitor.read_*"],
    ),
    "what the monitor reads cannot be exchanged": (
        line(MONITOR, "    MAY_CLOSE(3),", '    {SCMP_SYS(close), 0, 0, {{0}}, ""},'),
        ["sandbox monitor.reopen_*"],
    ),
    "the monitor has no network": (
        line(MONITOR, "{SCMP_SYS(socket), 0, 1, {IS(0, AF_UNIX)}", "{SCMP_SYS(socket), 0, 0, {{0}}"),
        ["sandbox monitor.socket_*", "sandbox monitor.connect_inet"],
    ),
    # ---- reload ----
    "root alone may reload and stop": (
        [
            ("privsep/control.c", '"control.reload", reload, false,', '"control.reload", reload, true,'),
            ("privsep/control.c", '"control.stop", stop, false,', '"control.stop", stop, true,'),
        ],
        ["system control.who"],
    ),
    "groups that count since a reload are looked at": (
        line(COMPARTMENTS, "c->stale |= c->peer.listener == i;", ";"),
        ["system control.groups"],
    ),
    "what is of another listener is another approval": (
        line("policy/adopt.c", "good = reorder(&new->allows[i].listens,", "good = true || reorder(&new->allows[i].listens,"),
        ["unit", "system control.listeners_of_users"],
    ),
    "a socket that was passed in stays": (
        line("privsep/listen.c", "return listeners[index]->dir < 0;", "return false;"),
        ["system control.passed_sockets"],
    ),
    "counts are of the table that was there": (
        line("server/census/state.c", " && census->tables[slot].since <= w->since"),
        ["unit"],
    ),
    "what is withdrawn is taken from workers": (
        line(GRANTS, "if (policy_decide(monitor_policy, &w->compartment->peer, (struct slice){name, strlen(name)},\n                          &index) != POLICY_APPROVE)", "if (false)"),
        ["system reload_policy.withdrawn"],
    ),
    "who had what is withdrawn is replaced": (
        line(GRANTS, "w->tainted |= g->owed != OWED_NOTHING;"),
        ["system reload_policy.withdrawn"],
    ),
    "a tainted worker has its time": (
        line(WORKERS, "} else if (w->end_by <= now) {", "} else if (false) {"),
        ["system reload_policy.client_never_idle"],
    ),
    "a reload waits for every worker": (
        line(WORKERS, "        if (w->settling != SETTLED || w->compartment->stale)\n            return false;\n"),
        ["system reload_policy.stopped_worker"],
    ),
    "a worker lets go of what is withdrawn": (
        line("server/worker/tables.c", "        image_close(&table->image);\n    table->has_image = false;\n    table->generation++;", "        (void)table;"),
        ["system reload_policy.client_never_idle"],
    ),
    "denials are asked for again": (
        line("server/worker/tables.c", "denied_count > 0 && ref < refs_used", "false && ref < refs_used"),
        ["system reload_policy.added"],
    ),
    "a table of another reveal is another": (
        line("policy/adopt.c", "a->reveal != b->reveal || ", ""),
        ["unit", "system reload_policy.reveal_changed"],
    ),
    "a place is free only when nothing is there": (
        line("policy/adopt.c", "while (vacant < names->old && names->of(old, vacant) != NULL)", "while (false)"),
        ["unit"],
    ),
    "the reader gets what is beside the configuration": (
        line("privsep/reading.c", "if (!is_beside(wanted)) {", "if (false) {"),
        ["system reload_policy.hostile_reader"],
    ),
    "the reader's text has an end": (
        line("privsep/reading.c", "if (msg->tail_len > CONFIG_TEXT_MAX - reading.len) {", "if (false) {"),
        ["system reload_policy.hostile_reader"],
    ),
    "a configuration is of one time": (
        line("privsep/reading.c", "bool torn = how == NULL && is_torn();", "bool torn = false;"),
        ["system reload_policy.changed_while_read"],
    ),
    "what needs a restart is refused": (
        line("privsep/reload.c", "if (option != NULL)", "if (false)"),
        ["system reload_policy.needs_restart"],
    ),
    "sockets are made where some were": (
        line(CONFINE, "{listen_dir(i), LANDLOCK_MAY_BIND}", "{root, LANDLOCK_MAY_BIND}"),
        ["sandbox monitor.make_socket", "sandbox monitor.bare_make_socket"],
    ),
    # ---- what children say ----
    "floods": (
        line(CHILD, "return c->credit-- > 0;", "return true;"),
        ["sandbox worker.flood_of_denials", "sandbox worker.flood_of_closings"],
    ),
    "a child that does not read": (
        line(CHILD, "return c->stuck_at > now;", "return true;"),
        ["system walls.not_reading"],
    ),
    "last words are heard": (
        line(CHILD, "    while (hear(c)) /*", "    while (false) /*"),
        ["sandbox loader.failed_*", "sandbox loader.loaded_*"],
    ),
    "OPEN is for a client that the worker has": (
        line(GRANTS, "if (!is_client(w, open->client)) {", "if (false) {"),
        ["sandbox worker.client_*"],
    ),
    "OPEN is said once": (
        line(GRANTS, "if (w->grants[index].asked) {", "if (false) {"),
        ["sandbox worker.table_twice"],
    ),
    "denials are true": (
        line(CLIENTS, 'child_end(w->child, "it reports the denial of a table that is approved");', ";"),
        ["sandbox worker.approved_is_denied"],
    ),
    "links are not lost again and again": (
        line(GRANTS, "(uint64_t)AGAIN_MS << g->relinks", "(uint64_t)AGAIN_MS"),
        ["sandbox agents_jailed.links_lost"],
    ),
    "what is handed back is what it was": (
        line(CLIENTS, "!is_same(&client, &w->clients[number])", "false"),
        ["sandbox worker.handback_*", "system compartments.hands_back_what_it_was_not_given"],
    ),
    "a pid is of a child": (
        line(CHILD, "waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) != 0", "false"),
        ["sandbox launcher.foreign_process"],
    ),
    "a pid is of one child": (
        line(CHILD, "find(0, pid) != NULL ||"),
        ["sandbox launcher.other_child"],
    ),
    "the end of a launcher is the end": (
        line("privsep/launchers.c", "monitor_stop(EX_SOFTWARE, ", "(void)(0, "),
        ["system walls.launcher_killed"],
    ),
    "a walk in an image has an end": (
        line("server/image.c", " && next > pos"),
        ["unit"],
    ),
    # ---- agents of tables, and dialers ----
    **{
        f"filter of the agent: {name}": (
            line(f"privsep/profile_{file}.c", f'"jailmap-agent-{name}", SCMP_ACT_KILL_PROCESS',
                 f'"jailmap-agent-{name}", SCMP_ACT_LOG'),
            [f"sandbox agents_{tests}.{name}_[fk]*"],
        )
        for name, file, tests in (
            ("pattern", "pattern", "jailed"),
            ("sqlite", "sqlite", "jailed"),
            ("net", "net", "jailed"),
            ("mysql", "sql", "sql"),
            ("pgsql", "sql", "sql"),
        )
    },
    "filter of the dialer": (
        unfiltered("server/dialer/dialer.c", "profile_dialer"),
        ["sandbox dialer.execute*"],
    ),
    "Landlock of the dialer: files": (
        line("server/dialer/dialer.c", "    landlock_enter(&all, 1, LANDLOCK_NO_SIGNALS);\n"),
        ["sandbox dialer.bare_execute*"],
    ),
    "Landlock of the dialer: ports": (
        line("server/dialer/dialer.c", "landlock_ports(ports, n) != 0", "false"),
        ["sandbox dialer.connect_inet", "sandbox dialer.name_server", "sandbox dialer.bind"],
    ),
    "the dialer has no protocol that Landlock does not see": (
        line(DENIED, "{SCMP_A0(SCMP_CMP_GT, AF_NETLINK, 0)}", "{SCMP_A0(SCMP_CMP_GT, 1000, 0)}"),
        ["sandbox dialer.smc", "sandbox dialer.vsock"],
    ),
    "hosts are told once": (
        line("privsep/messages.h",
             "X(HOSTS, 30, ROLE_AGENT, ROLE_DIALER, msg_hosts, BRIDGE_NAME_MAX, 0, STATE_BEGIN)",
             "X(HOSTS, 30, ROLE_AGENT, ROLE_DIALER, msg_hosts, BRIDGE_NAME_MAX, 0, STATE_BEGIN | STATE_SERVE)"),
        ["sandbox agents_jailed.net_new_hosts"],
    ),
    "hosts are those that were told": (
        line("server/dialer/dialer.c", "dial->host >= hosts.count || "),
        ["sandbox agents_jailed.net_*host*"],
    ),
    "a connection has its time": (
        line("server/dialer/dialer.c", " || dial->timeout > TIMEOUT_MAX"),
        ["sandbox agents_jailed.net_endless"],
    ),
    "the end of a dialer is told": (
        line("privsep/agents.c", "if (how != NULL && may_log(p))", "if (false)"),
        ["sandbox dialer.killed"],
    ),
    "Landlock of database agents: files": (
        line("server/agent/sql/sql_files.c", "good = landlock_enter(", "good = true || landlock_enter("),
        ["sandbox agents_sql.*_others_file"],
    ),
    "Landlock of database agents: network": (
        line("server/agent/sql/sql_files.c", "LANDLOCK_NO_TCP | "),
        ["sandbox agents_sql.*_bare_connect_inet"],
    ),
    "an SQLite agent locks nothing": (
        line("privsep/profile_sqlite.c", "SCMP_A1(SCMP_CMP_EQ, F_GETLK, 0)", "SCMP_A1(SCMP_CMP_GE, 0, 0)"),
        ["sandbox agents_jailed.sqlite_l*"],
    ),
    "an agent speaks of its source once": (
        line("privsep/agents.c", "if (!a->unheard) {", "if (false) {"),
        ["sandbox agent.loaded_again", "sandbox agent.failed_after_all"],
    ),
    "events of agents": (
        line("privsep/agents.c", 'child_end(a->child, "it reports an event that it cannot have");', ";"),
        ["sandbox agent.event_10", "sandbox agent.event_0"],
    ),
    "a composite is approved with its members": (
        line("policy/decide.c", "if (!is_approved(policy, peer, t->members[i]))", "if (false)"),
        ["unit", "system composites.approvals_of_members"],
    ),
    "clients may refuse what anybody may answer": (
        line("server/worker/lookup.c",
             "((table->features & FEATURE_UNAUTH) && (l->flags & PM_FLAG_NO_UNAUTH))", "false"),
        ["system netmaps.no_unauth"],
    ),
    "jailmap sandbox tells": (
        line("ctl/sandbox.c", "    if (page->count == 0) {\n        fprintf", "    if (true) {\n        fprintf"),
        ["system sandbox_report"],
    ),
}
