/*
 * Tests of privsep/priv_open: the safe path rule, component by component, on real files of several
 * owners, links, FIFOs and devices. Runs as root, in a directory of its own below /var/lib that
 * only root can write and that is removed at the end. It must never open what it has not made, but
 * /dev.
 */
#include "privsep/priv_open.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <unistd.h>

#include "tests/unit/unit.h"

#define NOBODY   ((uid_t)65534)
#define SOMEBODY ((uid_t)4711)
#define NO_OWNER ((uid_t)-1)

static char top[] = "/var/lib/jailmap-unit.XXXXXX";

/* A path below the test's own directory; valid until the fifth next call. */
static const char *below(const char *name)
{
    static char paths[5][PATH_MAX + 64];
    static unsigned next;
    char *path = paths[next++ % COUNT(paths)];

    snprintf(path, sizeof paths[0], "%s/%s", top, name);
    return path;
}

static void make_file(const char *name, const char *content)
{
    const char *path = below(name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

    REQUIRE(fd >= 0 && write(fd, content, strlen(content)) == (ssize_t)strlen(content), "%s: %s",
            path, strerror(errno));
    close(fd);
}

static void set(const char *name, uid_t uid, gid_t gid, mode_t mode)
{
    const char *path = below(name);

    REQUIRE(chown(path, uid, gid) == 0 && chmod(path, mode) == 0, "%s: %s", path, strerror(errno));
}

/* dir/sub/file, all of root, 0755 and 0644. */
static void make_tree(void)
{
    mkdir(below("dir"), 0755);
    mkdir(below("dir/sub"), 0755);
    make_file("dir/sub/file", "content");
    set("dir", 0, 0, 0755);
    set("dir/sub", 0, 0, 0755);
    set("dir/sub/file", 0, 0, 0644);
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *ftw)
{
    (void)st;
    (void)kind;
    (void)ftw;
    return remove(path);
}

static int remove_all(void)
{
    return nftw(top, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static int start(void)
{
    umask(022);
    if (mkdtemp(top) == NULL || chmod(top, 0755) != 0)
        return -1;
    make_tree();
    return 0;
}

/* ---- the two outcomes ---- */

static void check_reason(const char *path, const char *why, const char *word)
{
    CHECK(why[0] != '\0' && strchr(why, '\n') == NULL, "%s: the reason is \"%s\"", path, why);
    if (word != NULL)
        CHECK(strstr(why, word) != NULL, "%s: \"%s\" does not say \"%s\"", path, why, word);
}

static void refused(const char *path, uid_t owner, const char *word)
{
    unsigned before = open_descriptors();

    for (int execute = 0; execute < 2; execute++) {
        char why[PATH_MAX + 200] = "";
        struct stat st;
        int fd = priv_open_file(path, owner, execute, &st, why, sizeof why);

        if (CHECK(fd == -1, "%s is opened%s", path, execute ? " for execution" : ""))
            check_reason(path, why, word);
        else
            close(fd);
    }
    CHECK(open_descriptors() == before, "%s: a descriptor is left open", path);
}

static void opened(const char *path, uid_t owner)
{
    unsigned before = open_descriptors();
    char why[PATH_MAX + 200] = "", buf[8] = "";
    struct stat st = {0}, own;
    int fd = priv_open_file(path, owner, false, &st, why, sizeof why);

    if (!CHECK(fd >= 0, "%s is refused: %s", path, why))
        return;
    CHECK(open_descriptors() == before + 1, "%s: more than one descriptor is left", path);
    CHECK(is_cloexec(fd), "%s: the descriptor survives exec", path);
    CHECK((fcntl(fd, F_GETFL) & O_ACCMODE) == O_RDONLY, "%s: not read-only", path);
    CHECK(read(fd, buf, 7) == 7 && strcmp(buf, "content") == 0, "%s: reads \"%s\"", path, buf);
    CHECK(write(fd, "x", 1) == -1, "%s can be written", path);
    CHECK(fstat(fd, &own) == 0 && own.st_ino == st.st_ino && own.st_dev == st.st_dev &&
              own.st_size == st.st_size && S_ISREG(st.st_mode),
          "%s: the status is another file's", path);
    close(fd);
}

static void dir_refused(const char *path, uid_t owner, bool whole, const char *word)
{
    unsigned before = open_descriptors();
    char why[PATH_MAX + 200] = "";
    struct stat st;
    int fd = priv_open_dir(path, owner, whole, &st, why, sizeof why);

    if (CHECK(fd == -1, "%s is opened", path))
        check_reason(path, why, word);
    else
        close(fd);
    CHECK(open_descriptors() == before, "%s: a descriptor is left open", path);
}

static void dir_opened(const char *path, uid_t owner, bool whole, const char *which)
{
    char why[PATH_MAX + 200] = "";
    struct stat st = {0}, real = {0};
    int fd = priv_open_dir(path, owner, whole, &st, why, sizeof why);

    if (!CHECK(fd >= 0, "%s is refused: %s", path, why))
        return;
    CHECK(stat(which, &real) == 0 && S_ISDIR(st.st_mode) && st.st_ino == real.st_ino &&
              st.st_dev == real.st_dev,
          "%s is not %s", path, which);
    CHECK((fcntl(fd, F_GETFL) & O_PATH) && is_cloexec(fd), "%s: not O_PATH and close-on-exec",
          path);
    close(fd);
}

/* ---- what is opened ---- */

static void plain_file(void)
{
    opened(below("dir/sub/file"), NO_OWNER);
    opened(below("dir/sub/file"), NOBODY); /* root remains accepted */
    opened(below("dir/sub/file"), 0);
}

static void double_slashes(void)
{
    char path[256];

    opened(below("dir//sub/file"), NO_OWNER);
    opened(below("dir///sub////file"), NO_OWNER);
    snprintf(path, sizeof path, "//%s/dir/sub/file", top);
    opened(path, NO_OWNER);
}

static void for_execution(void)
{
    char why[512] = "";
    struct stat st = {0}, real = {0};
    int fd;

    set("dir/sub/file", 0, 0, 0755);
    fd = priv_open_file(below("dir/sub/file"), NO_OWNER, true, &st, why, sizeof why);
    REQUIRE(fd >= 0, "%s", why);
    CHECK((fcntl(fd, F_GETFL) & O_PATH) != 0, "a descriptor for execution is O_PATH");
    CHECK(is_cloexec(fd), "it survives exec");
    CHECK(stat(below("dir/sub/file"), &real) == 0 && real.st_ino == st.st_ino, "its status");
    CHECK(read(fd, why, 1) == -1, "it can be read");
    close(fd);
    make_tree();
}

/* The mode does not hinder root, and says nothing about who may write. */
static void modes_without_read_permission(void)
{
    static const mode_t modes[] = {0000, 0200, 0400, 0111, 0644, 0755, 0604, 04755, 02644};

    for (size_t i = 0; i < COUNT(modes); i++) {
        set("dir/sub/file", 0, 0, modes[i]);
        opened(below("dir/sub/file"), NO_OWNER);
    }
    set("dir/sub", 0, 0, 0000);
    opened(below("dir/sub/file"), NO_OWNER);
    make_tree();
}

/* ---- who may own it ---- */

static void owners_of_the_file(void)
{
    set("dir/sub/file", NOBODY, 0, 0644);
    refused(below("dir/sub/file"), NO_OWNER, "65534");
    refused(below("dir/sub/file"), SOMEBODY, "65534");
    refused(below("dir/sub/file"), 0, "65534");
    opened(below("dir/sub/file"), NOBODY);
    set("dir/sub/file", 0, NOBODY, 0644); /* the group may not write, so it does not matter */
    opened(below("dir/sub/file"), NO_OWNER);
    make_tree();
}

static void owners_of_directories(void)
{
    static const char *const dirs[] = {"dir", "dir/sub"};

    for (size_t i = 0; i < COUNT(dirs); i++) {
        set(dirs[i], NOBODY, 0, 0755);
        refused(below("dir/sub/file"), NO_OWNER, below(dirs[i]));
        refused(below("dir/sub/file"), SOMEBODY, below(dirs[i]));
        opened(below("dir/sub/file"), NOBODY);
        dir_refused(below("dir/sub"), NO_OWNER, true, "65534");
        dir_opened(below("dir/sub"), NOBODY, true, below("dir/sub"));
        make_tree();
    }
}

/* ---- who may write ---- */

static void writable_files(void)
{
    static const mode_t modes[] = {0664, 0646, 0666, 0620, 0602, 0777, 0020, 0002};

    for (size_t i = 0; i < COUNT(modes); i++) {
        set("dir/sub/file", 0, 0, modes[i]);
        refused(below("dir/sub/file"), NO_OWNER, below("dir/sub/file"));
        set("dir/sub/file", NOBODY, 0, modes[i]);
        refused(below("dir/sub/file"), NOBODY, "written");
    }
    make_tree();
}

static void writable_directories(void)
{
    static const mode_t modes[] = {0775, 0757, 0777, 01777, 02775, 0720, 0702};
    static const char *const dirs[] = {"dir", "dir/sub"};

    for (size_t d = 0; d < COUNT(dirs); d++)
        for (size_t i = 0; i < COUNT(modes); i++) {
            set(dirs[d], 0, 0, modes[i]);
            refused(below("dir/sub/file"), NO_OWNER, "written");
            dir_refused(below("dir/sub"), NO_OWNER, true, below(dirs[d]));
            make_tree();
        }
}

static void sticky_directories_are_no_better(void)
{
    struct stat st;
    char path[] = "/tmp/jailmap-unit.XXXXXX";
    int fd = mkstemp(path);

    REQUIRE(fd >= 0, "/tmp: %s", strerror(errno));
    if (stat("/tmp", &st) == 0 && (st.st_mode & 0022))
        refused(path, NO_OWNER, "/tmp");
    close(fd);
    unlink(path);
}

/* ---- what it may be ---- */

static void links_in_the_path(void)
{
    static const struct {
        const char *link, *target, *path;
    } rows[] = {
        {"dir/sub/link", "file", "dir/sub/link"},
        {"dir/link", "sub", "dir/link/file"},
        {"link", "dir", "link/sub/file"},
        {"dir/sub/away", "/etc/passwd", "dir/sub/away"},
        {"dir/sub/loop", "loop", "dir/sub/loop"},
        {"dir/nowhere", "gone", "dir/nowhere"},
        {"dir/nowhere2", "gone", "dir/nowhere2/file"},
        {"dir/self", ".", "dir/self/sub/file"},
        {"dir/up", "..", "dir/up/dir/sub/file"},
        {"root", "/", "root/etc/passwd"},
    };

    for (size_t i = 0; i < COUNT(rows); i++) {
        REQUIRE(symlink(rows[i].target, below(rows[i].link)) == 0, "symlink: %s", strerror(errno));
        refused(below(rows[i].path), NO_OWNER, "symbolic link");
        CHECK(lchown(below(rows[i].link), NOBODY, NOBODY) == 0, "lchown");
        refused(below(rows[i].path), NOBODY, NULL);
        unlink(below(rows[i].link));
    }
}

static void link_to_a_directory(void)
{
    REQUIRE(symlink("sub", below("dir/link")) == 0, "symlink: %s", strerror(errno));
    dir_refused(below("dir/link"), NO_OWNER, true, "symbolic link");
    dir_refused(below("dir/link/"), NO_OWNER, true, "symbolic link");
    dir_refused(below("dir/link/file"), NO_OWNER, false, "symbolic link");
    unlink(below("dir/link"));
}

/* A FIFO without a writer: an open that waits would never end. */
static void fifo_does_not_hang(void)
{
    REQUIRE(mkfifo(below("dir/fifo"), 0644) == 0, "mkfifo: %s", strerror(errno));
    refused(below("dir/fifo"), NO_OWNER, "regular");
    refused(below("dir/fifo/file"), NO_OWNER, "directory");
    chmod(below("dir/fifo"), 0666);
    refused(below("dir/fifo"), NO_OWNER, NULL);
    unlink(below("dir/fifo"));
}

static void directory_is_no_file(void)
{
    refused(below("dir/sub"), NO_OWNER, "regular");
    refused(top, NO_OWNER, "regular");
    refused("/", NO_OWNER, NULL);
    refused(below("dir/sub/"), NO_OWNER, NULL);
    refused(below("dir/sub/file/"), NO_OWNER, NULL);
    refused(below("dir/."), NO_OWNER, NULL);
    refused(below("dir/sub/.."), NO_OWNER, NULL);
}

static void devices_are_no_files(void)
{
    if (mknod(below("dir/null"), S_IFCHR | 0644, makedev(1, 3)) == 0) {
        refused(below("dir/null"), NO_OWNER, NULL);
        unlink(below("dir/null"));
    }
    /* A terminal must not become the caller's, a disk must not be read; these are there, too. */
    refused("/dev/null", NO_OWNER, NULL);
    refused("/dev/tty", NO_OWNER, NULL);
    refused("/dev/stdin", NO_OWNER, NULL);
    refused("/proc/self/mem", NO_OWNER, NULL);
}

static void socket_is_no_file(void)
{
    struct sockaddr_un sun = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    snprintf(sun.sun_path, sizeof sun.sun_path, "%s/dir/sock", top);
    REQUIRE(fd >= 0 && bind(fd, (struct sockaddr *)&sun, sizeof sun) == 0, "%s", strerror(errno));
    chmod(sun.sun_path, 0644);
    refused(sun.sun_path, NO_OWNER, NULL);
    unlink(sun.sun_path);
    close(fd);
}

/* ---- paths that lead nowhere ---- */

static void missing_components(void)
{
    refused(below("dir/sub/gone"), NO_OWNER, strerror(ENOENT));
    refused(below("dir/gone/file"), NO_OWNER, below("dir/gone"));
    refused(below("gone/sub/file"), NO_OWNER, below("gone"));
    refused(below("dir/sub/file/more"), NO_OWNER, "directory");
    refused(below("dir/sub/file/more/still"), NO_OWNER, "directory");
}

static void relative_paths(void)
{
    static const char *const paths[] = {"",     "file", "dir/sub/file", "./dir/sub/file",
                                        "../x", ".",    " /etc/passwd", "etc/passwd"};
    int here = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);

    REQUIRE(here >= 0 && chdir(top) == 0, "chdir: %s", strerror(errno));
    for (size_t i = 0; i < COUNT(paths); i++) {
        refused(paths[i], NO_OWNER, "absolute");
        dir_refused(paths[i], NO_OWNER, true, "absolute");
        dir_refused(paths[i], NO_OWNER, false, "absolute");
    }
    CHECK(fchdir(here) == 0, "fchdir: %s", strerror(errno));
    close(here);
}

static void long_names(void)
{
    for (size_t len = NAME_MAX - 1; len <= NAME_MAX + 2; len++) {
        char name[NAME_MAX + 32], inner[NAME_MAX + 64];

        memcpy(name, "dir/", 4);
        memset(name + 4, 'n', len);
        name[4 + len] = '\0';
        snprintf(inner, sizeof inner, "%s/file", name);
        if (len <= NAME_MAX) {
            make_file(name, "content");
            opened(below(name), NO_OWNER);
            refused(below(inner), NO_OWNER, "directory");
            unlink(below(name));
        } else {
            refused(below(name), NO_OWNER, strerror(ENAMETOOLONG));
            refused(below(inner), NO_OWNER, strerror(ENAMETOOLONG));
        }
    }
}

static void very_long_paths(void)
{
    const size_t len = 100000;
    char *path = need_memory(len + 1);

    memset(path, '/', len);
    path[len] = '\0';
    refused(path, NO_OWNER, NULL);
    for (size_t i = 1; i < len; i += 2)
        path[i] = 'a';
    refused(path, NO_OWNER, NULL);
    free(path);
}

static void short_reason_buffers(void)
{
    static const char *const names[] = {"dir/sub/gone", "gone/x", "dir/sub", "dir/sub/file/x"};

    for (size_t i = 0; i < COUNT(names); i++)
        for (size_t room = 1; room < 120; room++) {
            char *why = need_memory(room);
            struct stat st;

            memset(why, 'x', room);
            CHECK(priv_open_file(below(names[i]), NO_OWNER, false, &st, why, room) == -1, "opened");
            CHECK(memchr(why, '\0', room) != NULL, "no end in a buffer of %zu", room);
            free(why);
        }
}

/* ---- directories ---- */

static void directories(void)
{
    dir_opened(below("dir/sub"), NO_OWNER, true, below("dir/sub"));
    dir_opened(below("dir/sub/"), NO_OWNER, true, below("dir/sub"));
    dir_opened(below("dir//sub//"), NO_OWNER, true, below("dir/sub"));
    dir_opened(below("dir/sub"), NO_OWNER, false, below("dir"));
    dir_opened(below("dir/sub/file"), NO_OWNER, false, below("dir/sub"));
    dir_opened(below("dir/sub/gone"), NO_OWNER, false, below("dir/sub"));
    dir_opened("/", NO_OWNER, true, "/");
    dir_opened("/var", NO_OWNER, false, "/");
    dir_refused(below("dir/sub/file"), NO_OWNER, true, "not a directory");
    dir_refused(below("dir/sub/file/x"), NO_OWNER, false, "not a directory");
    dir_refused(below("dir/gone"), NO_OWNER, true, strerror(ENOENT));
}

/* The last component of a path that is only its holder's is not looked at. */
static void holder_of_a_bad_file(void)
{
    set("dir/sub/file", NOBODY, 0, 0666);
    dir_opened(below("dir/sub/file"), NO_OWNER, false, below("dir/sub"));
    make_tree();
}

/* ---- links that are followed ---- */

#define STEPS_MOST 64

/* What step() was told: "directory/name", of whatever the descriptor is. */
static char steps[STEPS_MOST][PATH_MAX + 300];
static unsigned nsteps;

static void note_step(void *arg, int dir, const char *name)
{
    char link[64], where[PATH_MAX];
    ssize_t n;

    CHECK(arg == &nsteps, "the argument is another");
    snprintf(link, sizeof link, "/proc/self/fd/%d", dir);
    n = readlink(link, where, sizeof where - 1);
    where[n > 0 ? n : 0] = '\0';
    if (nsteps < STEPS_MOST)
        snprintf(steps[nsteps++], sizeof steps[0], "%s/%s", strcmp(where, "/") == 0 ? "" : where,
                 name);
}

static bool stepped(const char *path)
{
    for (unsigned i = 0; i < nsteps; i++)
        if (strcmp(steps[i], path) == 0)
            return true;
    return false;
}

/* Follows path; word: what the refusal must say, NULL: it is opened, and has the content. */
static void follow(const char *path, uid_t owner, const char *word)
{
    unsigned before = open_descriptors();
    char why[PATH_MAX + 200] = "", buf[8] = "";
    struct stat st;
    int fd;

    nsteps = 0;
    fd = priv_open_source(path, owner, PRIV_FOLLOW, note_step, &nsteps, &st, why, sizeof why);
    if (word == NULL && CHECK(fd >= 0, "%s is refused: %s", path, why))
        CHECK(read(fd, buf, 7) == 7 && strcmp(buf, "content") == 0, "%s: reads \"%s\"", path, buf);
    if (word != NULL && CHECK(fd == -1, "%s is opened", path))
        check_reason(path, why, word);
    if (fd >= 0)
        close(fd);
    CHECK(open_descriptors() == before, "%s: a descriptor is left open", path);
}

static void make_link(const char *name, const char *target)
{
    unlink(below(name));
    REQUIRE(symlink(target, below(name)) == 0, "%s: %s", name, strerror(errno));
}

static void links_are_followed(void)
{
    static const struct {
        const char *name, *target, *path;
    } links[] = {
        {"dir/sub/link", "file", "dir/sub/link"},
        {"dir/link", "sub", "dir/link/file"},
        {"link", "dir//sub/", "link/file"},
        {"dir/up", "..", "dir/up/dir/sub/file"},
        {"dir/sub/round", "../../dir/./sub/../sub/file", "dir/sub/round"},
    };

    for (size_t i = 0; i < COUNT(links); i++) {
        make_link(links[i].name, links[i].target);
        follow(below(links[i].path), NO_OWNER, NULL);
        CHECK(stepped(below(links[i].name)), "%s: no step for the link", links[i].name);
        CHECK(stepped(below("dir/sub/file")), "%s: no step for the file", links[i].name);
        unlink(below(links[i].name));
    }
    make_link("absolute", below("dir/sub"));
    make_link("chain", "absolute");
    follow(below("chain/file"), NO_OWNER, NULL);
    CHECK(stepped(below("chain")) && stepped(below("absolute")), "a link of the chain is no step");
    unlink(below("absolute"));
    follow(below("chain/file"), NO_OWNER, "absolute");
    CHECK(stepped(below("absolute")), "what is missing is no step");
    unlink(below("chain"));
}

static void bad_links_are_refused(void)
{
    make_link("dir/loop", "loop");
    follow(below("dir/loop"), NO_OWNER, strerror(ELOOP));
    make_link("dir/loop", "../dir/loop/x");
    follow(below("dir/loop"), NO_OWNER, strerror(ELOOP));
    make_link("dir/loop", "sub");
    follow(below("dir/loop"), NO_OWNER, "not a regular file");
    make_link("dir/loop", ".");
    follow(below("dir/loop"), NO_OWNER, "not a regular file");
    make_link("dir/loop", "..");
    follow(below("dir/loop"), NO_OWNER, "not a regular file");
    make_link("dir/loop", "/");
    follow(below("dir/loop"), NO_OWNER, "not a regular file");
    make_link("dir/loop", "/dev/null");
    follow(below("dir/loop"), NO_OWNER, "/dev/null");
    unlink(below("dir/loop"));
}

/* The rule holds for where a link leads to, not only for where it stands. */
static void targets_are_checked(void)
{
    mkdir(below("open"), 0755);
    make_file("open/file", "content");
    make_link("dir/link", "../open/file");
    follow(below("dir/link"), NO_OWNER, NULL);
    set("open", 0, 0, 0777);
    follow(below("dir/link"), NO_OWNER, "open can be written by others");
    set("open", SOMEBODY, 0, 0755);
    follow(below("dir/link"), NO_OWNER, "belongs to uid 4711");
    set("open", 0, 0, 0755);
    set("open/file", SOMEBODY, 0, 0644);
    follow(below("dir/link"), NO_OWNER, "belongs to uid 4711");
    follow(below("dir/link"), SOMEBODY, NULL);
    REQUIRE(lchown(below("dir/link"), SOMEBODY, 0) == 0, "lchown: %s", strerror(errno));
    follow(below("dir/link"), NO_OWNER, "dir/link belongs to uid 4711");
    unlink(below("dir/link"));
    unlink(below("open/file"));
    rmdir(below("open"));
}

/* Whoever owns a directory on the way could lead the monitor to any file of root's. */
static void owner_leads_to_its_own(void)
{
    mkdir(below("home"), 0755);
    make_file("home/own", "content");
    set("home/own", SOMEBODY, 0, 0644);
    set("home", SOMEBODY, 0, 0755);
    make_link("home/link", "own");
    follow(below("home/link"), SOMEBODY, NULL);
    make_link("home/link", "../dir/sub/file");
    follow(below("home/link"), SOMEBODY, "symbolic link of uid 4711");
    make_link("home/link", "../dir");
    follow(below("home/link/sub/file"), SOMEBODY, "symbolic link of uid 4711");
    /* A link of root's that leads through there is root's decision. */
    make_link("dir/link", "../home/own");
    follow(below("dir/link"), SOMEBODY, NULL);
    unlink(below("dir/link"));
    unlink(below("home/link"));
    /* A file of root's is accepted there, unless it may be the owner's second name for it. */
    make_file("home/roots", "content");
    opened(below("home/roots"), SOMEBODY);
    REQUIRE(link(below("dir/sub/file"), below("home/second")) == 0, "link: %s", strerror(errno));
    refused(below("home/second"), SOMEBODY, "has another name");
    unlink(below("home/second"));
    REQUIRE(link(below("home/own"), below("home/second")) == 0, "link: %s", strerror(errno));
    opened(below("home/second"), SOMEBODY);
    unlink(below("home/second"));
    unlink(below("home/own"));
    unlink(below("home/roots"));
    rmdir(below("home"));
    /* In directories of root's alone a second name is root's. */
    REQUIRE(link(below("dir/sub/file"), below("dir/second")) == 0, "link: %s", strerror(errno));
    opened(below("dir/second"), NO_OWNER);
    unlink(below("dir/second"));
}

static void long_targets(void)
{
    static char target[PATH_MAX];

    memset(target, '/', sizeof target - 1);
    make_link("dir/link", target);
    follow(below("dir/link/file"), NO_OWNER, strerror(ENAMETOOLONG));
    unlink(below("dir/link"));
}

static const struct unit_test tests[] = {
    {"a file of root is opened read-only and close-on-exec", plain_file},
    {"double slashes do not matter", double_slashes},
    {"a file for execution is opened as O_PATH", for_execution},
    {"read permission does not matter", modes_without_read_permission},
    {"the file belongs to root or the accepted owner", owners_of_the_file},
    {"every directory belongs to root or the accepted owner", owners_of_directories},
    {"a file that others can write is refused", writable_files},
    {"a directory that others can write is refused wherever it stands", writable_directories},
    {"a sticky directory is no better", sticky_directories_are_no_better},
    {"a symbolic link is refused wherever it stands", links_in_the_path},
    {"a symbolic link to a directory is refused", link_to_a_directory},
    {"a FIFO is refused and does not hang", fifo_does_not_hang},
    {"a directory is not a file", directory_is_no_file},
    {"a device is not a file", devices_are_no_files},
    {"a socket is not a file", socket_is_no_file},
    {"a missing component is named", missing_components},
    {"a relative path is refused", relative_paths},
    {"a name has NAME_MAX bytes at most", long_names},
    {"paths of 100,000 bytes are refused", very_long_paths},
    {"a reason fits any buffer", short_reason_buffers},
    {"directories are opened whole, or as the holder of a file", directories},
    {"the holder of a file is opened whatever the file is", holder_of_a_bad_file},
    {"links are followed where that is asked for, each of them a step", links_are_followed},
    {"links that lead nowhere good are refused", bad_links_are_refused},
    {"where a link leads to is checked as where it stands", targets_are_checked},
    {"an owner's links and second names lead to the owner's files only", owner_leads_to_its_own},
    {"a link may be too long", long_targets},
};

const struct unit_suite open_suite = {.name = "open",
                                      .tests = tests,
                                      .ntests = COUNT(tests),
                                      .needs_root = true,
                                      .start = start,
                                      .stop = remove_all};
