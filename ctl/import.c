/*
 * The program jailmap-import, which is `jailmap import`: prints the policy that equals what
 * Postfix's proxymap(8) approves, or how a policy differs from it. It is a program of its own
 * because it asks the name service and reads configurations, which the static jailmap does not.
 * Runs as whoever calls it; it may run postconf(1), read the configurations of Postfix and
 * jailmapd, and ask a daemon for its policy, and must never write anything but to standard output.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <grp.h>
#include <pwd.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <sysexits.h>
#include <unistd.h>

#include "ctl/import.h"
#include "ctl/jailmap.h"
#include "policy/policy.h"

#define DIFFERS  1
#define PATIENCE 30 /* seconds */

struct choice {
    const char *directory, *socket, *postconf;
    const char *policy, *runtime; /* a file, or the runtime-dir of a daemon; NULL: not given */
    bool diff;
};

int import_say(int status, const char *format, ...)
{
    char text[2048], safe[4 * sizeof text];
    va_list ap;

    va_start(ap, format);
    vsnprintf(text, sizeof text, format, ap);
    va_end(ap);
    fprintf(stderr, "jailmap import: %s\n",
            policy_printable((struct slice){text, strlen(text)}, safe, sizeof safe));
    return status;
}

static const char *find_postconf(void)
{
    static const char *const places[] = {"/usr/sbin/postconf", "/usr/bin/postconf",
                                         "/sbin/postconf", "/bin/postconf"};

    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++)
        if (access(places[i], X_OK) == 0)
            return places[i];
    import_say(EX_UNAVAILABLE, "postconf is not in /usr/sbin, /usr/bin, /sbin or /bin; install "
                               "Postfix, or name it with --postconf=PATH");
    return NULL;
}

/* ---- printing ---- */

/* What mail_owner's group is called; its number, or the owner's name, if it has none. */
static void name_group(const char *owner, char *text, size_t len)
{
    const struct passwd *pw = getpwnam(owner);
    const struct group *gr = pw != NULL ? getgrgid(pw->pw_gid) : NULL;

    if (gr != NULL)
        snprintf(text, len, "%s", gr->gr_name);
    else if (pw != NULL)
        snprintf(text, len, "%u", (unsigned)pw->pw_gid);
    else
        snprintf(text, len, "%s", owner);
    if (pw == NULL)
        import_say(0,
                   "mail_owner \"%s\" is no user here; jailmapd will not take the policy before "
                   "there is one",
                   owner);
}

/* Where Postfix looks for $proxymap_service_name = jailmap. Returns an exit status. */
static int find_socket(const struct import *import, const struct choice *choice, char **path)
{
    const char *queue = import_setting(&import->plain, "queue_directory");

    *path = NULL;
    if (choice->socket != NULL)
        *path = strdup(choice->socket);
    else if (queue == NULL)
        return import_say(EX_PROTOCOL, "postconf does not print queue_directory; is it Postfix's?");
    else if (asprintf(path, "%s/private/jailmap", queue) < 0)
        *path = NULL;
    if (*path == NULL)
        return import_say(EX_OSERR, "out of memory");
    if ((*path)[0] != '/' || strlen(*path) >= sizeof((struct sockaddr_un *)NULL)->sun_path)
        return import_say(EX_USAGE,
                          "socket \"%s\": an absolute path of at most %zu bytes is "
                          "expected; option -l names another",
                          *path, sizeof((struct sockaddr_un *)NULL)->sun_path - 1);
    return EX_OK;
}

/* Words for whoever is about to use the policy. */
static void warn_unserved(const struct import *import)
{
    size_t n = 0;

    for (size_t i = 0; i < import->approved.n; i++)
        n += import_unserved(import, import->approved.names[i]) != NULL;
    if (n > 0)
        import_say(0,
                   "jailmapd cannot serve %zu of the %zu tables, see the lines that begin with "
                   "#table; take proxy: off them in main.cf before the daemons that use them get "
                   "proxymap_service_name = jailmap",
                   n, import->approved.n);
}

static int print_policy(const struct import *import, const struct choice *choice, const char *owner)
{
    const char *directory = import_setting(&import->plain, "config_directory");
    char *real = directory != NULL ? realpath(directory, NULL) : NULL, *path;
    char group[256];
    int status = find_socket(import, choice, &path);

    if (status == EX_OK) {
        name_group(owner, group, sizeof group);
        import_print(stdout, import,
                     &(struct import_place){.directory = real != NULL ? real : "a directory",
                                            .socket = path,
                                            .owner = owner,
                                            .group = group});
        warn_unserved(import);
    }
    free(real);
    free(path);
    return status;
}

/* ---- comparing ---- */

/* Does the policy approve the table for Postfix's own user, with his own group, on some socket? */
static bool is_approved(const struct policy *policy, const struct passwd *pw, const char *name)
{
    size_t index;

    for (size_t i = 0; i < policy->nlistens; i++) {
        gid_t group = pw->pw_gid;
        struct policy_peer peer = {i, pw->pw_uid, &group, policy_reduce(policy, i, &group, 1)};

        if (policy_decide(policy, &peer, (struct slice){name, strlen(name)}, &index) ==
            POLICY_APPROVE)
            return true;
    }
    return false;
}

/* The tables that a policy approves for that user, as an array whose names are the policy's; or
 * NULL. */
static const char **approved_by(const struct policy *policy, const struct passwd *pw, size_t *n)
{
    const char **names = calloc(policy->ntables + 1, sizeof *names);

    *n = 0;
    for (size_t i = 0; names != NULL && i < policy->ntables; i++)
        if (is_approved(policy, pw, policy->tables[i].name))
            names[(*n)++] = policy->tables[i].name;
    return names;
}

/* For policy_read(): the file itself, a directory beside it, or a file in that. */
static int open_policy(void *context, const char *name, char *why, size_t len)
{
    const char *path = context, *slash = strrchr(path, '/');
    char *full = NULL;
    int fd = -1;

    if (name[0] == '\0')
        full = strdup(path);
    else if (asprintf(&full, "%.*s%s", slash != NULL ? (int)(slash + 1 - path) : 0, path, name) < 0)
        full = NULL;
    if (full != NULL)
        fd = open(full, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        snprintf(why, len, "%s", strerror(errno));
    free(full);
    return fd;
}

static struct policy *policy_of_file(const char *path, int *status)
{
    const struct policy_files files = {open_policy, (void *)path};
    struct policy *policy = NULL;
    char why[2048];

    if (access(path, R_OK) != 0)
        *status = import_say(EX_NOINPUT, "%s: %s; option -f names the policy to compare with", path,
                             strerror(errno));
    else if ((policy = policy_read(&files, path, why, sizeof why)) == NULL)
        *status = import_say(EX_CONFIG, "%s", why);
    return policy;
}

/* Of the daemon with that runtime-dir. */
static struct policy *policy_in_force(const char *dir, int *status)
{
    const struct ctl_socket control = {dir, "control.policy", PATIENCE};
    struct policy *policy;
    char why[2048], *text;
    size_t len;

    *status = ctl_ask(&control, &text, &len);
    if (*status != EX_OK)
        return NULL;
    policy = policy_parse(text, len, why, sizeof why);
    if (policy == NULL)
        *status = import_say(EX_PROTOCOL, "%s/control.policy: %s", dir, why);
    free(text);
    return policy;
}

static int compare_with(const struct import *import, const struct choice *choice, const char *owner)
{
    const struct passwd *pw = getpwnam(owner);
    struct passwd user; /* what getpwnam(3) returns does not last */
    struct policy *policy;
    const char **names;
    size_t n = 0;
    int status;

    if (pw == NULL)
        return import_say(EX_NOUSER, "mail_owner \"%s\" is no user here", owner);
    user = *pw;
    policy = choice->policy != NULL ? policy_of_file(choice->policy, &status)
                                    : policy_in_force(choice->runtime, &status);
    if (policy == NULL)
        return status;
    names = approved_by(policy, &user, &n);
    if (names == NULL)
        status = import_say(EX_OSERR, "out of memory");
    else
        status = import_diff(stdout, import, names, n) == 0 ? EX_OK : DIFFERS;
    free(names);
    policy_free(policy);
    return status;
}

/* ---- the command line ---- */

static bool read_options(int argc, char **argv, struct choice *choice)
{
    static const struct option options[] = {{"diff", no_argument, NULL, 'D'},
                                            {"postconf", required_argument, NULL, 'p'},
                                            {NULL, 0, NULL, 0}};
    int opt;

    while ((opt = getopt_long(argc, argv, "c:d:l:f:", options, NULL)) != -1) {
        if (opt == 'c')
            choice->directory = optarg;
        else if (opt == 'l')
            choice->socket = optarg;
        else if (opt == 'f')
            choice->policy = optarg;
        else if (opt == 'p')
            choice->postconf = optarg;
        else if (opt == 'd')
            choice->runtime = optarg;
        else if (opt == 'D')
            choice->diff = true;
        else
            return false;
    }
    if (choice->diff)
        return optind == argc && choice->socket == NULL &&
               (choice->policy == NULL || choice->runtime == NULL);
    return optind == argc && choice->policy == NULL && choice->runtime == NULL;
}

/* Descriptors 0 to 2 are there, so that no other file gets their numbers. */
static bool have_standard_files(void)
{
    int fd;

    do
        fd = open("/dev/null", O_RDWR);
    while (fd >= 0 && fd <= 2);
    return fd < 0 || close(fd) == 0;
}

static int run(const struct choice *choice, struct import *import)
{
    struct import_postconf postconf = {choice->postconf, choice->directory};
    const char *owner;
    int status;

    if (postconf.program == NULL)
        postconf.program = find_postconf();
    if (postconf.program == NULL)
        return EX_UNAVAILABLE;
    status = import_gather(&postconf, import);
    if (status == EX_OK)
        status = import_databases(import);
    if (status != EX_OK)
        return status;
    owner = import_setting(&import->plain, "mail_owner");
    if (owner == NULL)
        return import_say(EX_PROTOCOL, "postconf does not print mail_owner; is it Postfix's?");
    clearenv(); /* a policy may not depend on it */
    return choice->diff ? compare_with(import, choice, owner) : print_policy(import, choice, owner);
}

int main(int argc, char **argv)
{
    struct choice choice = {.policy = NULL};
    struct import import = {.existence = false};
    int status;

    signal(SIGCHLD, SIG_DFL); /* or postconf's exit status would be lost */
    if (!have_standard_files())
        return EX_OSERR;
    if (!read_options(argc, argv, &choice)) {
        fputs("usage: jailmap import [-c DIR] [-l SOCKET] [--postconf=PATH]\n"
              "       jailmap import --diff [-c DIR] [-d DIR | -f FILE] [--postconf=PATH]\n",
              stderr);
        return EX_USAGE;
    }
    if (choice.runtime == NULL)
        choice.runtime = CTL_RUNTIME_DIR;
    status = run(&choice, &import);
    import_free(&import);
    if (fflush(stdout) != 0 || ferror(stdout))
        return import_say(EX_IOERR, "standard output: %s", strerror(errno));
    return status;
}
