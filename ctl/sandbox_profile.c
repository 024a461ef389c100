/*
 * A system call profile in words, for the page of `jailmap sandbox`. Runs in the tool. It reads the
 * tables that the programs themselves enter (privsep/profile.h) and nothing else; it must never
 * leave a rule out.
 */
#include "ctl/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <linux/sockios.h>

#include "privsep/bridge.h"

#define CALL_WIDTH 20
#define TEXT_MAX   2048
#define RULES_MOST 512

/* ---- names of values ---- */

struct value {
    uint64_t value;
    const char *name;
};

static const struct value protections[] = {
    {PROT_READ, "PROT_READ"}, {PROT_WRITE, "PROT_WRITE"}, {PROT_EXEC, "PROT_EXEC"}, {0, NULL}};
static const struct value mappings[] = {{MAP_SHARED, "MAP_SHARED"},
                                        {MAP_PRIVATE, "MAP_PRIVATE"},
                                        {MAP_ANONYMOUS, "MAP_ANONYMOUS"},
                                        {0, NULL}};
static const struct value openings[] = {{O_WRONLY, "O_WRONLY"},
                                        {O_RDWR, "O_RDWR"},
                                        {O_CREAT, "O_CREAT"},
                                        {O_TRUNC, "O_TRUNC"},
                                        {O_TMPFILE & ~O_DIRECTORY, "O_TMPFILE"},
                                        {O_DIRECTORY, "O_DIRECTORY"},
                                        {O_NOFOLLOW, "O_NOFOLLOW"},
                                        {O_CLOEXEC, "O_CLOEXEC"},
                                        {O_PATH, "O_PATH"},
                                        {0, NULL}};
static const struct value messages[] = {{MSG_DONTWAIT, "MSG_DONTWAIT"},
                                        {MSG_NOSIGNAL, "MSG_NOSIGNAL"},
                                        {MSG_CMSG_CLOEXEC, "MSG_CMSG_CLOEXEC"},
                                        {MSG_PEEK, "MSG_PEEK"},
                                        {0, NULL}};
static const struct value levels[] = {{SOL_SOCKET, "SOL_SOCKET"}, {0, NULL}};
static const struct value options[] = {{SO_SNDBUF, "SO_SNDBUF"},
                                       {SO_PEERCRED, "SO_PEERCRED"},
                                       {SO_TYPE, "SO_TYPE"},
                                       {SO_DOMAIN, "SO_DOMAIN"},
                                       {SO_PEERGROUPS, "SO_PEERGROUPS"},
                                       {SO_PASSRIGHTS, "SO_PASSRIGHTS"},
                                       {0, NULL}};
static const struct value fcntls[] = {{F_DUPFD, "F_DUPFD"},
                                      {F_GETFD, "F_GETFD"},
                                      {F_SETFD, "F_SETFD"},
                                      {F_GETFL, "F_GETFL"},
                                      {F_SETFL, "F_SETFL"},
                                      {F_SETLK, "F_SETLK"},
                                      {F_GETLK, "F_GETLK"},
                                      {F_SETOWN, "F_SETOWN"},
                                      {F_SETSIG, "F_SETSIG"},
                                      {F_SETOWN_EX, "F_SETOWN_EX"},
                                      {F_OFD_SETLK, "F_OFD_SETLK"},
                                      {F_OFD_GETLK, "F_OFD_GETLK"},
                                      {F_SETLEASE, "F_SETLEASE"},
                                      {F_GETLEASE, "F_GETLEASE"},
                                      {F_DUPFD_CLOEXEC, "F_DUPFD_CLOEXEC"},
                                      {F_ADD_SEALS, "F_ADD_SEALS"},
                                      {F_GET_SEALS, "F_GET_SEALS"},
                                      {0, NULL}};
static const struct value ioctls[] = {{FIOSETOWN, "FIOSETOWN"},
                                      {SIOCSPGRP, "SIOCSPGRP"},
                                      {SIOCOUTQ, "SIOCOUTQ"},
                                      {TIOCSTI, "TIOCSTI"},
                                      {TIOCLINUX, "TIOCLINUX"},
                                      {FIONREAD, "FIONREAD"},
                                      {0, NULL}};
static const struct value families[] = {{AF_UNIX, "AF_UNIX"},
                                        {AF_INET, "AF_INET"},
                                        {AF_INET6, "AF_INET6"},
                                        {AF_NETLINK, "AF_NETLINK"},
                                        {AF_PACKET, "AF_PACKET"},
                                        {AF_VSOCK, "AF_VSOCK"},
                                        {0, NULL}};
static const struct value signals[] = {{SIGKILL, "SIGKILL"}, {SIGTERM, "SIGTERM"}, {0, NULL}};
/* Whose numbers these are depends on the program. */
static const struct value descriptors[] = {
    {BRIDGE_FD, "the bridge"}, {WORKER_LOOP, "its epoll"}, {0, NULL}};
static const struct value of_monitor[] = {{MONITOR_NULL, "/dev/null"},
                                          {MONITOR_SIGNALS, "its signalfd"},
                                          {MONITOR_INOTIFY, "its inotify"},
                                          {MONITOR_RUNTIME, "runtime-dir"},
                                          {0, NULL}};
static const struct value addresses[] = {{0, "absent"}, {0, NULL}};
static const struct value prctls[] = {
    {PR_SET_NAME, "PR_SET_NAME"},           {PR_SET_DUMPABLE, "PR_SET_DUMPABLE"},
    {PR_SET_PDEATHSIG, "PR_SET_PDEATHSIG"}, {PR_SET_NO_NEW_PRIVS, "PR_SET_NO_NEW_PRIVS"},
    {PR_SET_SECCOMP, "PR_SET_SECCOMP"},     {0, NULL}};

/* ---- names of arguments ---- */

struct argument {
    int call;
    unsigned number;
    const char *name;
    const struct value *values;
};

static const struct argument arguments[] = {
    {SCMP_SYS(mmap), 2, "prot", protections},
    {SCMP_SYS(mmap), 3, "flags", mappings},
    {SCMP_SYS(mprotect), 2, "prot", protections},
    {SCMP_SYS(pkey_mprotect), 2, "prot", protections},
    {SCMP_SYS(open), 1, "flags", openings},
    {SCMP_SYS(openat), 0, "directory", descriptors},
    {SCMP_SYS(openat), 2, "flags", openings},
    {SCMP_SYS(renameat), 0, "directory", descriptors},
    {SCMP_SYS(renameat), 2, "new directory", descriptors},
    {SCMP_SYS(renameat2), 0, "directory", descriptors},
    {SCMP_SYS(renameat2), 2, "new directory", descriptors},
    {SCMP_SYS(unlinkat), 0, "directory", descriptors},
    {SCMP_SYS(fcntl), 1, "command", fcntls},
    {SCMP_SYS(ioctl), 1, "command", ioctls},
    {SCMP_SYS(socket), 0, "family", families},
    {SCMP_SYS(socketpair), 0, "family", families},
    {SCMP_SYS(setsockopt), 1, "level", levels},
    {SCMP_SYS(setsockopt), 2, "option", options},
    {SCMP_SYS(getsockopt), 1, "level", levels},
    {SCMP_SYS(getsockopt), 2, "option", options},
    {SCMP_SYS(kill), 0, "pid", NULL},
    {SCMP_SYS(kill), 1, "signal", signals},
    {SCMP_SYS(prctl), 0, "option", prctls},
    {SCMP_SYS(prlimit64), 0, "pid", NULL},
    {SCMP_SYS(sched_setattr), 0, "pid", NULL},
    {SCMP_SYS(sendto), 4, "address", addresses},
    {SCMP_SYS(recvmsg), 0, "fd", descriptors},
    {SCMP_SYS(recvmsg), 2, "flags", messages},
    {SCMP_SYS(sendmsg), 0, "fd", descriptors},
    {SCMP_SYS(sendmsg), 2, "flags", messages},
    {SCMP_SYS(recvfrom), 0, "fd", descriptors},
    {SCMP_SYS(recvfrom), 3, "flags", messages},
    {SCMP_SYS(sendto), 3, "flags", messages},
    {SCMP_SYS(read), 0, "fd", descriptors},
    {SCMP_SYS(write), 0, "fd", descriptors},
    {SCMP_SYS(close), 0, "fd", descriptors},
    {SCMP_SYS(dup2), 1, "new fd", descriptors},
    {SCMP_SYS(dup3), 1, "new fd", descriptors},
    {SCMP_SYS(epoll_ctl), 0, "fd", descriptors},
    {SCMP_SYS(inotify_add_watch), 0, "fd", descriptors},
    {SCMP_SYS(inotify_rm_watch), 0, "fd", descriptors},
    {SCMP_SYS(clone), 0, "flags", NULL},
    {SCMP_SYS(memfd_create), 1, "flags", NULL},
};

static void describe_argument(int call, unsigned number, const char **name,
                              const struct value **values)
{
    static char text[32];

    for (size_t i = 0; i < sizeof arguments / sizeof arguments[0]; i++)
        if (arguments[i].call == call && arguments[i].number == number) {
            *name = arguments[i].name;
            *values = arguments[i].values;
            return;
        }
    snprintf(text, sizeof text, "argument %u", number + 1);
    *name = text;
    *values = NULL;
}

/* Bits by name, and what is left as a number. */
static void describe_bits(char *text, size_t len, uint64_t bits, const struct value *values)
{
    size_t used = 0;

    text[0] = '\0';
    for (; values != NULL && values->name != NULL && used < len; values++)
        if (values->value != 0 && (bits & values->value) == values->value) {
            used += (size_t)snprintf(text + used, len - used, "%s%s", used > 0 ? "|" : "",
                                     values->name);
            bits &= ~values->value;
        }
    if (bits != 0 && used < len)
        snprintf(text + used, len - used, "%s%#llx", used > 0 ? "|" : "", (unsigned long long)bits);
}

static void describe_value(char *text, size_t len, uint64_t value, const struct value *values)
{
    for (; values != NULL && values->name != NULL; values++)
        if (values->value == value) {
            snprintf(text, len, "%s", values->name);
            return;
        }
    if (value > 0xffff)
        snprintf(text, len, "%#llx", (unsigned long long)value);
    else
        snprintf(text, len, "%llu", (unsigned long long)value);
}

static bool is_flags(const struct value *values)
{
    return values == protections || values == mappings || values == openings || values == messages;
}

static void describe_masked(char *text, size_t len, const struct scmp_arg_cmp *arg,
                            const char *name, const struct value *values)
{
    char mask[256], value[256];

    if (values == openings && arg->datum_a == O_ACCMODE) {
        snprintf(text, len, "%s",
                 arg->datum_b == O_RDONLY   ? "for reading"
                 : arg->datum_b == O_WRONLY ? "for writing"
                                            : "for reading and writing");
        return;
    }
    if (arg->datum_a == UINT32_MAX) { /* an int, of which the kernel ignores the upper half */
        describe_value(value, sizeof value, arg->datum_b, values);
        snprintf(text, len, "%s is %s", name, value);
        return;
    }
    describe_bits(mask, sizeof mask, arg->datum_a, values);
    describe_bits(value, sizeof value, arg->datum_b, values);
    if (arg->datum_b == 0)
        snprintf(text, len, "%s without %s", name, mask);
    else if (arg->datum_a == arg->datum_b)
        snprintf(text, len, "%s with %s", name, mask);
    else
        snprintf(text, len, "%s & %s is %s", name, mask, value);
}

static void describe_condition(char *text, size_t len, const struct profile *profile, int call,
                               const struct scmp_arg_cmp *arg)
{
    static const char *const words[] = {
        [SCMP_CMP_NE] = "is not", [SCMP_CMP_LT] = "is below",    [SCMP_CMP_LE] = "is at most",
        [SCMP_CMP_EQ] = "is",     [SCMP_CMP_GE] = "is at least", [SCMP_CMP_GT] = "is above"};
    const struct value *values;
    char value[256];
    const char *name;

    describe_argument(call, arg->arg, &name, &values);
    if (values == descriptors && profile == &profile_monitor)
        values = of_monitor;
    if (arg->op != SCMP_CMP_EQ && arg->op != SCMP_CMP_NE && arg->op != SCMP_CMP_MASKED_EQ)
        values = NULL; /* an order is one of numbers */
    if (arg->op == SCMP_CMP_MASKED_EQ) {
        describe_masked(text, len, arg, name, values);
        return;
    }
    if (is_flags(values) && arg->datum_a != 0)
        describe_bits(value, sizeof value, arg->datum_a, values);
    else
        describe_value(value, sizeof value, arg->datum_a, is_flags(values) ? NULL : values);
    snprintf(text, len, "%s %s %s", name, words[arg->op], value);
}

static void describe_conditions(char *text, size_t len, const struct profile *profile,
                                const struct profile_rule *rule)
{
    size_t used = 0;

    text[0] = '\0';
    for (unsigned i = 0; i < rule->nargs && used + 64 < len; i++) {
        used += (size_t)snprintf(text + used, len - used, "%s", i > 0 ? " and " : "");
        describe_condition(text + used, len - used, profile, rule->syscall, &rule->args[i]);
        used += strlen(text + used);
    }
}

/* ---- calls and actions ---- */

static void name_call(char *text, size_t len, int call)
{
    static const struct value newer[] = {{452, "fchmodat2"}, {0, NULL}}; /* than libseccomp */
    char *name = seccomp_syscall_resolve_num_arch(SCMP_ARCH_NATIVE, call);

    if (name != NULL)
        snprintf(text, len, "%s", name);
    else
        describe_value(text, len, (uint64_t)call, newer);
    free(name);
}

/* What happens, in the words of a heading: "kills: other processes". */
static void describe_action(char *text, size_t len, uint32_t action)
{
    int error = (int)(action & SECCOMP_RET_DATA);

    if (action == 0 || action == SCMP_ACT_ALLOW)
        snprintf(text, len, "is allowed");
    else if (action == SCMP_ACT_KILL_PROCESS)
        snprintf(text, len, "kills the process");
    else if ((action & SECCOMP_RET_ACTION_FULL) == SECCOMP_RET_ERRNO)
        snprintf(text, len, "fails (%s)", strerrorname_np(error));
    else
        snprintf(text, len, "action %#x", action);
}

/* ---- the rules ---- */

/* Of all parts, one after the other. */
struct list {
    const struct profile *profile;
    size_t count;
    const struct profile_rule *rules[RULES_MOST];
};

static void collect(struct list *list, const struct profile *profile)
{
    list->profile = profile;
    list->count = 0;
    for (size_t part = 0; part < PROFILE_PARTS; part++)
        for (size_t i = 0; i < profile->parts[part].count; i++) {
            if (list->count == RULES_MOST)
                abort(); /* rather no page than one that leaves something out */
            list->rules[list->count++] = &profile->parts[part].rules[i];
        }
}

/* "mmap [prot without PROT_EXEC]" */
static void describe_call(char *text, size_t len, const struct profile *profile,
                          const struct profile_rule *rule)
{
    char call[64], conditions[512];

    name_call(call, sizeof call, rule->syscall);
    describe_conditions(conditions, sizeof conditions, profile, rule);
    snprintf(text, len, conditions[0] != '\0' ? "%s [%s]" : "%s", call, conditions);
}

/* A list of what is allowed has a line for each call: who needs it, and under which condition. */
static void print_line(FILE *out, const struct profile *profile, const struct profile_rule *rule)
{
    char call[64], conditions[512], action[64] = "", text[TEXT_MAX];
    int column = 4 + CALL_WIDTH;

    name_call(call, sizeof call, rule->syscall);
    describe_conditions(conditions, sizeof conditions, profile, rule);
    if (rule->action != 0 && rule->action != SCMP_ACT_ALLOW)
        describe_action(action, sizeof action, rule->action);
    snprintf(text, sizeof text, "%s%s%s%s%s%s", action, action[0] != '\0' ? ": " : "", rule->why,
             conditions[0] != '\0' ? " [" : "", conditions, conditions[0] != '\0' ? "]" : "");
    fprintf(out, "    %-*s", CALL_WIDTH, call);
    if (strlen(call) >= CALL_WIDTH)
        fprintf(out, "\n%*s", column, "");
    page_wrap(out, column, column, text);
}

static bool alike(const struct profile_rule *a, const struct profile_rule *b)
{
    return a->action == b->action && strcmp(a->why, b->why) == 0;
}

/* A list of what is refused has a paragraph for each reason. */
static void print_paragraph(FILE *out, const struct list *list, size_t first)
{
    const struct profile_rule *head = list->rules[first];
    char action[64];
    char *text = NULL;
    size_t len;
    FILE *calls = open_memstream(&text, &len);

    if (calls == NULL)
        abort(); /* as above */
    for (size_t i = first; i < list->count; i++) {
        char call[600];

        if (!alike(list->rules[i], head))
            continue;
        describe_call(call, sizeof call, list->profile, list->rules[i]);
        fprintf(calls, "%s%s", i > first ? ", " : "", call);
    }
    fclose(calls);
    describe_action(action, sizeof action, head->action);
    fprintf(out, "    %s: %s\n        ", action, head->why);
    page_wrap(out, 8, 8, text);
    free(text);
}

static bool seen_before(const struct list *list, size_t i)
{
    for (size_t j = 0; j < i; j++)
        if (alike(list->rules[j], list->rules[i]))
            return true;
    return false;
}

void report_profile(FILE *out, const struct profile *profile)
{
    char otherwise[64];
    struct list list;

    collect(&list, profile);
    describe_action(otherwise, sizeof otherwise, profile->otherwise);
    fprintf(out, "Profile of %s; any other system call %s\n", design_name(profile), otherwise);
    for (size_t i = 0; i < list.count; i++)
        if (profile->otherwise != SCMP_ACT_ALLOW)
            print_line(out, profile, list.rules[i]);
        else if (!seen_before(&list, i))
            print_paragraph(out, &list, i);
}
