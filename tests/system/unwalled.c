/*
 * Stand-ins without walls, for test_sandbox_report.py. As "jailmapd DIR TITLE" it locks the pid
 * file in DIR, listens there, and starts the jailmap-worker next to it under that title; if the
 * title has "chroot" in it, with DIR/empty as its root. As anything else it has a descriptor too
 * many, which it maps, and a filter that filters nothing; if it finds itself outside of a jail,
 * also a thread, a child, memory that can be written and executed, and another working directory.
 * It takes any connection, and waits. It must end with whoever started it.
 */
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define LISTENER 10

static bool filter_nothing(void)
{
    struct sock_filter allow = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    struct sock_fprog filter = {.len = 1, .filter = &allow};

    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0;
}

static _Noreturn void *wait_for_ever(void *unused)
{
    (void)unused;
    for (;;)
        pause();
}

/* What a helper of the design cannot do: there it fails, or is killed. */
static void spread(void)
{
    pthread_t thread;

    if (chdir("/usr") != 0)
        return;
    if (fork() == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        wait_for_ever(NULL);
    }
    mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    pthread_create(&thread, NULL, wait_for_ever, NULL);
}

static int stand_in_for_helper(void)
{
    int fd;

    spread();
    fd = memfd_create("too-many", 0);
    if (fd < 0 || mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED ||
        !filter_nothing() || dup(fd) < 0)
        return 1;
    while (accept(LISTENER, NULL, NULL) >= 0)
        ;
    wait_for_ever(NULL);
}

static bool listen_in(const char *dir)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);

    snprintf(address.sun_path, sizeof address.sun_path, "%s/s", dir);
    return fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof address) == 0 &&
           chmod(address.sun_path, 0666) == 0 && listen(fd, 8) == 0 && dup2(fd, LISTENER) >= 0;
}

static int stand_in_for_monitor(const char *self, const char *dir, char *title)
{
    char path[4096], *argv[] = {title, NULL};
    int fd, program;

    snprintf(path, sizeof path, "%s/jailmapd.pid", dir);
    fd = open(path, O_RDWR | O_CREAT, 0644);
    if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) != 0 || dprintf(fd, "%d\n", (int)getpid()) < 0 ||
        !listen_in(dir))
        return 1;
    snprintf(path, sizeof path, "%.*s/jailmap-worker", (int)(strrchr(self, '/') - self), self);
    program = open(path, O_PATH);
    snprintf(path, sizeof path, "%s/empty", dir);
    if (fork() == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (strstr(title, "chroot") == NULL || (chroot(path) == 0 && chdir("/") == 0))
            execveat(program, "", argv, environ, AT_EMPTY_PATH);
        _exit(1);
    }
    wait_for_ever(NULL);
}

int main(int argc, char **argv)
{
    return argc == 3 ? stand_in_for_monitor(argv[0], argv[1], argv[2]) : stand_in_for_helper();
}
