/*
 * Attempts to get out by a system call, one function each. Run in attacker programs: see attack.h.
 * They call the kernel directly, so that nothing that the C library does first is what is stopped.
 * What would do harm if it were not stopped is asked in a form that does none: signal 0, a time
 * that is no time, a module that is none.
 */
#include "tests/sandbox/attack.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/openat2.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timex.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define ATTEMPT(name) static long name(struct order *o __attribute__((unused)))
#define PAGE          4096

/* ---- files ---- */

/* Says in which words the file begins, which is what an attacker is after. */
static long look_into(struct order *o, long fd)
{
    if (fd >= 0) {
        ssize_t n = syscall(SYS_read, fd, o->detail, 40);

        o->detail[n > 0 ? n : 0] = '\0';
        o->detail[strcspn(o->detail, "\n")] = '\0';
    }
    return fd;
}

ATTEMPT(open_read)
{
    return look_into(o, syscall(SYS_openat, AT_FDCWD, o->text, O_RDONLY));
}

ATTEMPT(open_write)
{
    return syscall(SYS_openat, AT_FDCWD, o->text, O_WRONLY);
}

ATTEMPT(open_create)
{
    return syscall(SYS_openat, AT_FDCWD, o->text, O_WRONLY | O_CREAT | O_EXCL, 0600);
}

ATTEMPT(open_temporary)
{
    return syscall(SYS_openat, AT_FDCWD, o->text, O_TMPFILE | O_RDWR, 0600);
}

ATTEMPT(openat2_read)
{
    struct open_how how = {.flags = O_RDONLY};

    return look_into(o, syscall(SYS_openat2, AT_FDCWD, o->text, &how, sizeof how));
}

ATTEMPT(open_handle)
{
    struct {
        struct file_handle handle;
        char bytes[128];
    } h = {.handle.handle_bytes = 8, .handle.handle_type = 1};

    return syscall(SYS_open_by_handle_at, AT_FDCWD, &h, O_RDONLY);
}

ATTEMPT(make_directory)
{
    return syscall(SYS_mkdirat, AT_FDCWD, o->text, 0700);
}

ATTEMPT(remove_file)
{
    return syscall(SYS_unlinkat, AT_FDCWD, o->text, 0);
}

ATTEMPT(change_mode)
{
    return syscall(SYS_fchmodat, AT_FDCWD, o->text, 0777);
}

/* ---- /proc and other processes: number 0 is whom it is about ---- */

static long proc_file(struct order *o, const char *file, int flags)
{
    char path[64];

    snprintf(path, sizeof path, "/proc/%ld/%s", o->numbers[0], file);
    return syscall(SYS_openat, AT_FDCWD, path, flags);
}

ATTEMPT(proc_memory)
{
    return proc_file(o, "mem", O_RDWR);
}

ATTEMPT(proc_descriptors)
{
    return proc_file(o, "fd", O_RDONLY | O_DIRECTORY);
}

ATTEMPT(proc_own_memory)
{
    return syscall(SYS_openat, AT_FDCWD, "/proc/self/mem", O_RDWR);
}

ATTEMPT(trace)
{
    return syscall(SYS_ptrace, PTRACE_SEIZE, o->numbers[0], 0, 0);
}

ATTEMPT(memory_read)
{
    struct iovec here = {o->detail, 1}, there = {o->detail, 1};

    return syscall(SYS_process_vm_readv, o->numbers[0], &here, 1, &there, 1, 0);
}

ATTEMPT(memory_write)
{
    struct iovec here = {o->detail, 1}, there = {o->detail, 1};

    return syscall(SYS_process_vm_writev, o->numbers[0], &here, 1, &there, 1, 0);
}

ATTEMPT(signal_process)
{
    return syscall(SYS_kill, o->numbers[0], (int)o->numbers[1]);
}

ATTEMPT(signal_thread)
{
    return syscall(SYS_tgkill, o->numbers[0], o->numbers[0], (int)o->numbers[1]);
}

ATTEMPT(signal_queue)
{
    siginfo_t info = {.si_signo = SIGUSR1, .si_code = SI_QUEUE};

    return syscall(SYS_rt_sigqueueinfo, o->numbers[0], 0, &info);
}

ATTEMPT(pidfd)
{
    return syscall(SYS_pidfd_open, o->numbers[0], 0);
}

ATTEMPT(pidfd_signal)
{
    long fd = syscall(SYS_pidfd_open, o->numbers[0], 0);

    return fd < 0 ? fd : syscall(SYS_pidfd_send_signal, fd, (int)o->numbers[1], NULL, 0);
}

ATTEMPT(pidfd_descriptor)
{
    long fd = syscall(SYS_pidfd_open, o->numbers[0], 0);

    return fd < 0 ? fd : syscall(SYS_pidfd_getfd, fd, BRIDGE_FD, 0);
}

/* Have the kernel signal somebody else when the bridge becomes readable. */
ATTEMPT(signal_by_owner)
{
    return syscall(SYS_fcntl, BRIDGE_FD, F_SETOWN, o->numbers[0]);
}

/* With a bit that a filter sees and the kernel does not. */
ATTEMPT(signal_by_hidden_owner)
{
    return syscall(SYS_fcntl, BRIDGE_FD, (1L << 32) + F_SETOWN, o->numbers[0]);
}

ATTEMPT(limits_of_other)
{
    struct rlimit r = {0, 0};

    return syscall(SYS_prlimit64, o->numbers[0], RLIMIT_CORE, &r, NULL);
}

ATTEMPT(priority_of_other)
{
    return syscall(SYS_setpriority, PRIO_PROCESS, o->numbers[0], 19);
}

ATTEMPT(affinity_of_other)
{
    unsigned long mask = 1;

    return syscall(SYS_sched_setaffinity, o->numbers[0], sizeof mask, &mask);
}

ATTEMPT(scheduler_of_other)
{
    struct sched_param p = {0};

    return syscall(SYS_sched_setscheduler, o->numbers[0], SCHED_IDLE, &p);
}

ATTEMPT(compare_other)
{
    return syscall(SYS_kcmp, o->numbers[0], o->numbers[0], 0, 0, 0);
}

ATTEMPT(raise_own_limits)
{
    struct rlimit r = {64, 64};

    return syscall(SYS_prlimit64, 0, RLIMIT_NPROC, &r, NULL);
}

/* ---- processes ---- */

ATTEMPT(execute)
{
    const char *const argv[] = {o->text, NULL}, *const envp[] = {NULL};

    return syscall(SYS_execve, o->text, argv, envp);
}

/* By descriptor, of what it can find: its image, its source, its bridge. */
ATTEMPT(execute_descriptor)
{
    const char *const argv[] = {"x", NULL}, *const envp[] = {NULL};
    int fd = loot.source >= 0 ? loot.source : loot.image >= 0 ? loot.image : BRIDGE_FD;

    return syscall(SYS_execveat, fd, "", argv, envp, AT_EMPTY_PATH);
}

/* A program of its own making, from memory. */
ATTEMPT(execute_memory)
{
    const char *const argv[] = {"x", NULL}, *const envp[] = {NULL};
    long fd = syscall(SYS_memfd_create, "x", 0);

    if (fd < 0 || syscall(SYS_write, fd, "#!/bin/true\n", 12) < 0)
        return -1;
    return syscall(SYS_execveat, fd, "", argv, envp, AT_EMPTY_PATH);
}

static long child_ends(long pid)
{
    if (pid == 0)
        syscall(SYS_exit_group, 0);
    return pid;
}

ATTEMPT(fork_process)
{
    return child_ends(syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0));
}

ATTEMPT(clone3_process)
{
    struct clone_args args = {.exit_signal = SIGCHLD};

    return child_ends(syscall(SYS_clone3, &args, sizeof args));
}

ATTEMPT(clone_namespace)
{
    return child_ends(syscall(SYS_clone, CLONE_NEWUSER | CLONE_NEWPID | SIGCHLD, 0, 0, 0, 0));
}

/* A child that would outlive the monitor's hold on this process. */
ATTEMPT(clone_sibling)
{
    struct clone_args args = {.flags = CLONE_PARENT};

    return child_ends(syscall(SYS_clone3, &args, sizeof args));
}

/* ---- identity ---- */

ATTEMPT(become_root)
{
    return syscall(SYS_setuid, 0);
}

ATTEMPT(become_root_by_resuid)
{
    return syscall(SYS_setresuid, 0, 0, 0);
}

ATTEMPT(become_root_group)
{
    return syscall(SYS_setresgid, 0, 0, 0);
}

ATTEMPT(join_group)
{
    gid_t shadow = 42;

    return syscall(SYS_setgroups, 1, &shadow);
}

ATTEMPT(file_identity)
{
    long rc = syscall(SYS_setfsuid, 0); /* answers the identity before; asked twice it tells */

    rc = syscall(SYS_setfsuid, -1);
    errno = EPERM;
    return rc == 0 ? 0 : -1;
}

ATTEMPT(take_capabilities)
{
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct all[2] = {{~0u, ~0u, ~0u}, {~0u, ~0u, ~0u}};

    return syscall(SYS_capset, &header, all);
}

ATTEMPT(dumpable)
{
    return syscall(SYS_prctl, PR_SET_DUMPABLE, 1, 0, 0, 0);
}

ATTEMPT(outlive_monitor)
{
    return syscall(SYS_prctl, PR_SET_PDEATHSIG, 0, 0, 0, 0);
}

ATTEMPT(filter_off)
{
    return syscall(SYS_prctl, PR_SET_SECCOMP, 0, 0, 0, 0);
}

/* ---- the file tree ---- */

ATTEMPT(change_root)
{
    return syscall(SYS_chroot, o->text);
}

/* The classic: a root below the working directory, and then up. */
ATTEMPT(chroot_twice)
{
    if (syscall(SYS_mkdirat, AT_FDCWD, "x", 0700) != 0 || syscall(SYS_chroot, "x") != 0)
        return -1;
    for (int i = 0; i < 32; i++)
        syscall(SYS_chdir, "..");
    return syscall(SYS_chroot, ".");
}

/* Up from the working directory; and is there anything? */
ATTEMPT(climb)
{
    for (int i = 0; i < 32; i++)
        if (syscall(SYS_chdir, "..") != 0)
            return -1;
    return look_into(o, syscall(SYS_openat, AT_FDCWD, "etc/passwd", O_RDONLY));
}

/* A descriptor of a directory outside the jail, which the client passes to its worker. */
static long gift(void)
{
    union {
        char space[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control;
    char byte;
    struct iovec iov = {&byte, 1};
    int fd = -1;

    for (int i = 0; i < 50000000 && fd < 0; i++) {
        struct msghdr mh = {.msg_iov = &iov,
                            .msg_iovlen = 1,
                            .msg_control = control.space,
                            .msg_controllen = sizeof control.space};

        ssize_t n = recvmsg(loot.client, &mh, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

        if (n < 0)
            continue;
        for (struct cmsghdr *c = CMSG_FIRSTHDR(&mh); c != NULL; c = CMSG_NXTHDR(&mh, c))
            memcpy(&fd, CMSG_DATA(c), sizeof fd);
        break;
    }
    return fd;
}

ATTEMPT(enter_directory)
{
    long fd = gift();

    if (fd < 0 || syscall(SYS_fchdir, fd) != 0)
        return -1;
    return look_into(o, syscall(SYS_openat, AT_FDCWD, "etc/passwd", O_RDONLY));
}

ATTEMPT(open_below_directory)
{
    long fd = gift();

    return fd < 0 ? -1 : look_into(o, syscall(SYS_openat, fd, "etc/passwd", O_RDONLY));
}

ATTEMPT(open_above_jail)
{
    return look_into(o, syscall(SYS_openat, AT_FDCWD, "../../../../../../etc/passwd", O_RDONLY));
}

ATTEMPT(mount_tmpfs)
{
    return syscall(SYS_mount, "x", o->text[0] != '\0' ? o->text : "/", "tmpfs", 0, NULL);
}

ATTEMPT(mount_anew)
{
    return syscall(SYS_fsopen, "tmpfs", 0);
}

ATTEMPT(mount_copy)
{
    return syscall(SYS_open_tree, AT_FDCWD, "/", 1 /* OPEN_TREE_CLONE */);
}

ATTEMPT(unmount)
{
    return syscall(SYS_umount2, "/", 2 /* MNT_DETACH */);
}

ATTEMPT(pivot)
{
    return syscall(SYS_pivot_root, ".", ".");
}

ATTEMPT(unshare_user)
{
    return syscall(SYS_unshare, CLONE_NEWUSER);
}

ATTEMPT(unshare_network)
{
    return syscall(SYS_unshare, CLONE_NEWNET);
}

ATTEMPT(enter_namespace)
{
    return syscall(SYS_setns, BRIDGE_FD, 0);
}

/* ---- the network and local sockets ---- */

ATTEMPT(socket_inet)
{
    return syscall(SYS_socket, AF_INET, SOCK_STREAM, 0);
}

ATTEMPT(socket_packet)
{
    return syscall(SYS_socket, AF_PACKET, SOCK_RAW, 0);
}

ATTEMPT(socket_netlink)
{
    return syscall(SYS_socket, AF_NETLINK, SOCK_RAW, 0);
}

ATTEMPT(socket_vsock)
{
    return syscall(SYS_socket, AF_VSOCK, SOCK_STREAM, 0);
}

ATTEMPT(socket_pair)
{
    int fds[2];

    return syscall(SYS_socketpair, AF_UNIX, SOCK_STREAM, 0, fds);
}

/* A TCP server that the test runs on the loopback interface; number 0 is its port. */
ATTEMPT(connect_inet)
{
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)o->numbers[0]),
                             .sin_addr = {htonl(INADDR_LOOPBACK)}};
    long fd = syscall(SYS_socket, AF_INET, SOCK_STREAM, 0);

    return fd < 0 ? fd : syscall(SYS_connect, fd, &to, sizeof to);
}

static long local(const char *text, struct sockaddr_un *to)
{
    *to = (struct sockaddr_un){.sun_family = AF_UNIX};
    strncpy(to->sun_path, text, sizeof to->sun_path - 1);
    if (text[0] == '@')
        to->sun_path[0] = '\0';
    return (long)(offsetof(struct sockaddr_un, sun_path) + strlen(text));
}

ATTEMPT(connect_local)
{
    struct sockaddr_un to;
    long len = local(o->text, &to), fd = syscall(SYS_socket, AF_UNIX, SOCK_STREAM, 0);

    return fd < 0 ? fd : syscall(SYS_connect, fd, &to, len);
}

static int held_socket(void)
{
    return loot.client >= 0 ? loot.client : BRIDGE_FD;
}

ATTEMPT(connect_held)
{
    struct sockaddr_un to;
    long len = local(o->text, &to);

    return syscall(SYS_connect, held_socket(), &to, len);
}

ATTEMPT(bind_held)
{
    struct sockaddr_un to;
    long len = local("@jailmap-attack", &to);

    return syscall(SYS_bind, held_socket(), &to, len);
}

ATTEMPT(listen_held)
{
    return syscall(SYS_listen, held_socket(), 1);
}

ATTEMPT(accept_held)
{
    return syscall(SYS_accept4, held_socket(), NULL, NULL, 0);
}

ATTEMPT(socket_option)
{
    int value = 1;

    return syscall(SYS_setsockopt, held_socket(), SOL_SOCKET, SO_PASSCRED, &value, sizeof value);
}

/* ---- the kernel's less trodden paths ---- */

ATTEMPT(key_control)
{
    return syscall(SYS_keyctl, 0, -3, 1, 0, 0);
}

ATTEMPT(key_add)
{
    return syscall(SYS_add_key, "user", "x", "x", 1, -3);
}

ATTEMPT(key_request)
{
    return syscall(SYS_request_key, "user", "x", NULL, -3);
}

ATTEMPT(bpf_map)
{
    uint64_t attr[16] = {2 | UINT64_C(4) << 32, 4 | UINT64_C(1) << 32}; /* an array, 4, 4, 1 */

    return syscall(SYS_bpf, 0, attr, sizeof attr);
}

ATTEMPT(performance_event)
{
    uint64_t attr[16] = {UINT64_C(128) << 32};

    return syscall(SYS_perf_event_open, attr, -1, 0, -1, 0);
}

ATTEMPT(user_faults)
{
    return syscall(SYS_userfaultfd, 0);
}

ATTEMPT(ring)
{
    char params[256] = {0};

    return syscall(SYS_io_uring_setup, 1, params);
}

ATTEMPT(kernel_log)
{
    return syscall(SYS_syslog, 3, o->detail, 64);
}

ATTEMPT(kernel_module)
{
    return syscall(SYS_init_module, "", 0, "");
}

ATTEMPT(kernel_boot)
{
    return syscall(SYS_reboot, 0, 0, 0, 0); /* magic numbers that are none */
}

ATTEMPT(kernel_clock)
{
    struct timex by_nothing = {.modes = ADJ_SETOFFSET};

    return syscall(SYS_clock_adjtime, CLOCK_REALTIME, &by_nothing);
}

ATTEMPT(host_name)
{
    return syscall(SYS_sethostname, o->text, -1);
}

ATTEMPT(accounting)
{
    return syscall(SYS_acct, "/nowhere");
}

ATTEMPT(swap_on)
{
    return syscall(SYS_swapon, "/nowhere", 0);
}

ATTEMPT(shared_memory)
{
    long id = syscall(SYS_shmget, 0, PAGE, 01600);

    return id < 0 ? id : syscall(SYS_shmctl, id, 0 /* IPC_RMID */, NULL);
}

ATTEMPT(shared_semaphore)
{
    long id = syscall(SYS_semget, 0, 1, 01600);

    return id < 0 ? id : syscall(SYS_semctl, id, 0, 0 /* IPC_RMID */, NULL);
}

ATTEMPT(message_queue)
{
    long fd = syscall(SYS_mq_open, "jailmap-attack", O_CREAT | O_EXCL | O_RDWR, 0600, NULL);

    return fd < 0 ? fd : syscall(SYS_mq_unlink, "jailmap-attack");
}

ATTEMPT(watch_files)
{
    return syscall(SYS_inotify_init1, 0);
}

ATTEMPT(watch_all_files)
{
    return syscall(SYS_fanotify_init, 0, 0);
}

/* Push input into a terminal. */
ATTEMPT(terminal_input)
{
    return syscall(SYS_ioctl, 0, TIOCSTI, "x");
}

ATTEMPT(new_personality)
{
    return syscall(SYS_personality, 0x0400000); /* READ_IMPLIES_EXEC */
}

/* ---- another way into the kernel ---- */

ATTEMPT(x32_open)
{
    return syscall(0x40000000 | SYS_openat, AT_FDCWD, "/", O_RDONLY);
}

ATTEMPT(i386_open)
{
#ifdef __x86_64__
    long rc;

    /* open("", O_RDONLY) is number 5 there; pointers are 32 bits, so the name is no name. */
    __asm__ volatile("int $0x80" : "=a"(rc) : "a"(5), "b"(0), "c"(0), "d"(0) : "memory");
    errno = (int)-rc;
    return rc < 0 ? -1 : rc;
#else
    errno = ENOSYS;
    return -1;
#endif
}

/* ---- memory and images ---- */

ATTEMPT(make_memory_file)
{
    return syscall(SYS_memfd_create, "x", 0);
}

ATTEMPT(code_map)
{
    void *at =
        mmap(NULL, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    return at == MAP_FAILED ? -1 : 0;
}

ATTEMPT(code_from_file)
{
    int fd = loot.source >= 0 ? loot.source : loot.image;

    return mmap(NULL, PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0) == MAP_FAILED ? -1 : 0;
}

ATTEMPT(code_protect)
{
    void *at = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    return at == MAP_FAILED ? -1 : syscall(SYS_mprotect, at, PAGE, PROT_READ | PROT_EXEC);
}

ATTEMPT(code_protect_key)
{
    void *at = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    return at == MAP_FAILED ? -1 : syscall(SYS_pkey_mprotect, at, PAGE, PROT_READ | PROT_EXEC, -1);
}

/* Make the program's own code writable. */
ATTEMPT(code_patch)
{
    uintptr_t at = (uintptr_t)code_patch & ~(uintptr_t)(PAGE - 1);

    return syscall(SYS_mprotect, at, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC);
}

ATTEMPT(image_write)
{
    return syscall(SYS_write, loot.image, "x", 1);
}

ATTEMPT(image_write_at)
{
    return syscall(SYS_pwrite64, loot.image, "x", 1, 0);
}

ATTEMPT(image_truncate)
{
    return syscall(SYS_ftruncate, loot.image, 0);
}

ATTEMPT(image_punch)
{
    return syscall(SYS_fallocate, loot.image, 3, 0, PAGE);
}

ATTEMPT(image_map_writable)
{
    void *at = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, loot.image, 0);

    if (at == MAP_FAILED)
        return -1;
    *(volatile char *)at = 'x';
    return 0;
}

/* The mapping that it has, made writable. */
ATTEMPT(image_protect)
{
    uintptr_t at = (uintptr_t)loot.map & ~(uintptr_t)(PAGE - 1);

    if (syscall(SYS_mprotect, at, PAGE, PROT_READ | PROT_WRITE) != 0)
        return -1;
    *(volatile char *)at = 'x';
    return 0;
}

ATTEMPT(image_open_anew)
{
    char path[32];

    snprintf(path, sizeof path, "/proc/self/fd/%d", loot.image);
    return syscall(SYS_openat, AT_FDCWD, path, O_RDWR);
}

ATTEMPT(image_seals)
{
    return syscall(SYS_fcntl, loot.image, F_ADD_SEALS, F_SEAL_SEAL);
}

ATTEMPT(source_write)
{
    return syscall(SYS_write, loot.source, "x", 1);
}

ATTEMPT(source_map_writable)
{
    return mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, loot.source, 0) == MAP_FAILED ? -1
                                                                                              : 0;
}

ATTEMPT(source_open_anew)
{
    char path[32];

    snprintf(path, sizeof path, "/proc/self/fd/%d", loot.source);
    return syscall(SYS_openat, AT_FDCWD, path, O_RDWR);
}

ATTEMPT(duplicate)
{
    return syscall(SYS_dup, BRIDGE_FD);
}

/* Every descriptor there can be: how many are images, and of what size in all? */
ATTEMPT(look_for_images)
{
    long images = 0;

    for (int fd = 3; fd < 1024; fd++) {
        void *at = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0);

        if (at == MAP_FAILED)
            continue;
        images++;
        munmap(at, PAGE);
    }
    return images;
}

/* All the memory there is, in pieces of a megabyte, and no harm if it is half the machine's. */
ATTEMPT(eat_memory)
{
    for (long megabytes = 0; megabytes < 2048; megabytes++) {
        char *at = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        if (at == MAP_FAILED) {
            snprintf(o->detail, sizeof o->detail, "after %ld MB", megabytes);
            return -1;
        }
    }
    return 2048;
}

#define ENTRY(name)                                                                                \
    {                                                                                              \
#name, name                                                                                \
    }
const struct attempt system_attempts[] = {
    ENTRY(open_read),
    ENTRY(open_write),
    ENTRY(open_create),
    ENTRY(open_temporary),
    ENTRY(openat2_read),
    ENTRY(open_handle),
    ENTRY(make_directory),
    ENTRY(remove_file),
    ENTRY(change_mode),
    ENTRY(proc_memory),
    ENTRY(proc_descriptors),
    ENTRY(proc_own_memory),
    ENTRY(trace),
    ENTRY(memory_read),
    ENTRY(memory_write),
    ENTRY(signal_process),
    ENTRY(signal_thread),
    ENTRY(signal_queue),
    ENTRY(pidfd),
    ENTRY(pidfd_signal),
    ENTRY(pidfd_descriptor),
    ENTRY(signal_by_owner),
    ENTRY(signal_by_hidden_owner),
    ENTRY(limits_of_other),
    ENTRY(priority_of_other),
    ENTRY(affinity_of_other),
    ENTRY(scheduler_of_other),
    ENTRY(compare_other),
    ENTRY(raise_own_limits),
    ENTRY(execute),
    ENTRY(execute_descriptor),
    ENTRY(execute_memory),
    ENTRY(fork_process),
    ENTRY(clone3_process),
    ENTRY(clone_namespace),
    ENTRY(clone_sibling),
    ENTRY(become_root),
    ENTRY(become_root_by_resuid),
    ENTRY(become_root_group),
    ENTRY(join_group),
    ENTRY(file_identity),
    ENTRY(take_capabilities),
    ENTRY(dumpable),
    ENTRY(outlive_monitor),
    ENTRY(filter_off),
    ENTRY(change_root),
    ENTRY(chroot_twice),
    ENTRY(climb),
    ENTRY(enter_directory),
    ENTRY(open_below_directory),
    ENTRY(open_above_jail),
    ENTRY(mount_tmpfs),
    ENTRY(mount_anew),
    ENTRY(mount_copy),
    ENTRY(unmount),
    ENTRY(pivot),
    ENTRY(unshare_user),
    ENTRY(unshare_network),
    ENTRY(enter_namespace),
    ENTRY(socket_inet),
    ENTRY(socket_packet),
    ENTRY(socket_netlink),
    ENTRY(socket_vsock),
    ENTRY(socket_pair),
    ENTRY(connect_inet),
    ENTRY(connect_local),
    ENTRY(connect_held),
    ENTRY(bind_held),
    ENTRY(listen_held),
    ENTRY(accept_held),
    ENTRY(socket_option),
    ENTRY(key_control),
    ENTRY(key_add),
    ENTRY(key_request),
    ENTRY(bpf_map),
    ENTRY(performance_event),
    ENTRY(user_faults),
    ENTRY(ring),
    ENTRY(kernel_log),
    ENTRY(kernel_module),
    ENTRY(kernel_boot),
    ENTRY(kernel_clock),
    ENTRY(host_name),
    ENTRY(accounting),
    ENTRY(swap_on),
    ENTRY(shared_memory),
    ENTRY(shared_semaphore),
    ENTRY(message_queue),
    ENTRY(watch_files),
    ENTRY(watch_all_files),
    ENTRY(terminal_input),
    ENTRY(new_personality),
    ENTRY(x32_open),
    ENTRY(i386_open),
    ENTRY(make_memory_file),
    ENTRY(code_map),
    ENTRY(code_from_file),
    ENTRY(code_protect),
    ENTRY(code_protect_key),
    ENTRY(code_patch),
    ENTRY(image_write),
    ENTRY(image_write_at),
    ENTRY(image_truncate),
    ENTRY(image_punch),
    ENTRY(image_map_writable),
    ENTRY(image_protect),
    ENTRY(image_open_anew),
    ENTRY(image_seals),
    ENTRY(source_write),
    ENTRY(source_map_writable),
    ENTRY(source_open_anew),
    ENTRY(duplicate),
    ENTRY(look_for_images),
    ENTRY(eat_memory),
    {NULL, NULL},
};
