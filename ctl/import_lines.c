/*
 * Reading Postfix's files: logical lines, and what main.cf and master.cf have in their own white
 * space. That belongs to the name of a table, and proxymap(8) compares names byte for byte, but
 * postconf(1) turns each run of it into one blank. Runs in jailmap-import as whoever calls it. It
 * may open the files that it is told; it must never wait for one.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ctl/import.h"

#define BLANKS " \t\n\v\f\r"

static bool is_blank(char c)
{
    return c != '\0' && strchr(BLANKS, c) != NULL;
}

char *import_read_file(const char *path, size_t most, size_t *len)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    char *text = NULL;
    struct stat st;
    ssize_t n = 0;

    *len = 0;
    if (fd < 0)
        return NULL;
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && (size_t)st.st_size <= most)
        text = malloc((size_t)st.st_size + 1);
    else
        errno = S_ISREG(st.st_mode) ? EFBIG : EINVAL;
    while (text != NULL && *len < (size_t)st.st_size &&
           (n = read(fd, text + *len, (size_t)st.st_size - *len)) > 0)
        *len += (size_t)n;
    if (n < 0) {
        free(text);
        text = NULL;
    }
    close(fd);
    return text;
}

/* Is the line of that length empty, or a comment? Such lines end nothing and continue nothing. */
static bool is_dropped(const char *line, size_t len)
{
    size_t at = 0;

    while (at < len && is_blank(line[at]))
        at++;
    return at == len || line[at] == '#';
}

char *import_next_line(struct slice *rest)
{
    char *line = NULL, *grown;
    size_t used = 0;

    errno = 0;
    while (rest->len > 0) {
        const char *newline = memchr(rest->ptr, '\n', rest->len);
        size_t len = newline != NULL ? (size_t)(newline - rest->ptr) : rest->len;

        if (!is_dropped(rest->ptr, len)) {
            if (line != NULL && !is_blank(rest->ptr[0]))
                break;
            grown = realloc(line, used + len + 1);
            if (grown == NULL) {
                free(line);
                return NULL;
            }
            line = grown;
            memcpy(line + used, rest->ptr, len);
            used += len;
        }
        rest->ptr += len + (newline != NULL);
        rest->len -= len + (newline != NULL);
    }
    for (size_t i = 0; i < used; i++)
        if (line[i] == '\0')
            line[i] = ' ';
    if (line != NULL)
        line[used] = '\0';
    return line;
}

/* The value of `parameter = value`, trimmed in place; NULL if the line is of another one. */
static const char *value_on(char *line, const char *parameter)
{
    size_t len = strlen(parameter);
    char *at = line + len, *end = line + strlen(line);

    if (strncmp(line, parameter, len) != 0)
        return NULL;
    at += strspn(at, BLANKS);
    if (*at++ != '=')
        return NULL;
    at += strspn(at, BLANKS);
    while (end > at && is_blank(end[-1]))
        *--end = '\0';
    return at;
}

char *import_main_cf(struct slice text, const char *parameter)
{
    char *line, *found = NULL;

    while ((line = import_next_line(&text)) != NULL) {
        const char *value = value_on(line, parameter);

        if (value != NULL) { /* the last one counts */
            free(found);
            found = strdup(value);
        }
        free(line);
        if (value != NULL && found == NULL)
            break;
    }
    if (text.len == 0)
        return found;
    free(found);
    errno = ENOMEM;
    return NULL;
}

/* How long the text at the begin of line is that has the same words; 0: it has others. */
static size_t matches(const char *line, const char *words)
{
    const char *at = line;

    for (; *words != '\0'; words++) {
        if (*words == ' ' && is_blank(*at))
            at += strspn(at, BLANKS);
        else if (*at++ != *words)
            return 0;
    }
    return (size_t)(at - line);
}

char *import_master_cf(struct slice text, const char *service, const char *type, const char *value)
{
    char *line, *found = NULL;

    while (found == NULL && (line = import_next_line(&text)) != NULL) {
        size_t len = strcspn(line, BLANKS);
        const char *second = line + len + strspn(line + len, BLANKS);

        if (len == strlen(service) && strncmp(line, service, len) == 0 &&
            strcspn(second, BLANKS) == strlen(type) && strncmp(second, type, strlen(type)) == 0)
            for (const char *at = second; *at != '\0' && found == NULL; at++)
                if (matches(at, value) > 0)
                    found = strndup(at, matches(at, value));
        free(line);
    }
    return found;
}
