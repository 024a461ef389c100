/*
 * Lines of the page that `jailmap sandbox` prints. Runs in the tool, as root. It touches no
 * process; it must never let through a byte that moves a terminal's cursor.
 */
#include "ctl/sandbox.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define WIDTH 98
#define LABEL 4
#define TEXT  19

void page_wrap(FILE *out, int column, int indent, const char *text)
{
    bool first = true;

    while (*text != '\0') {
        int len = (int)strcspn(text, " ");

        if (!first && column + 1 + len > WIDTH) {
            fprintf(out, "\n%*s", indent, "");
            column = indent;
        } else if (!first) {
            fputc(' ', out);
            column++;
        }
        fprintf(out, "%.*s", len, text);
        column += len;
        text += len;
        text += strspn(text, " ");
        first = false;
    }
    fputc('\n', out);
}

void page_escape(char *escaped, size_t len, const char *text)
{
    size_t used = 0;

    for (; *text != '\0' && used + 5 < len; text++) {
        unsigned char c = (unsigned char)*text;

        if (c >= ' ' && c < 0x7f && c != '\\')
            escaped[used++] = (char)c;
        else
            used += (size_t)snprintf(escaped + used, len - used, "\\x%02x", c);
    }
    escaped[used] = '\0';
}

void page_fact(struct page *page, const char *label, const char *format, ...)
{
    char text[8192];
    va_list ap;

    va_start(ap, format);
    vsnprintf(text, sizeof text, format, ap);
    va_end(ap);
    fprintf(page->out, "%*s%-*s", LABEL, "", TEXT - LABEL, label);
    page_wrap(page->out, TEXT, TEXT, text);
}

void page_weaker(struct page *page, const char *format, ...)
{
    struct weakness *grown =
        realloc(page->weaknesses, (page->count + 1) * sizeof *page->weaknesses);
    char text[1024], marked[sizeof text + 16];
    va_list ap;

    va_start(ap, format);
    vsnprintf(text, sizeof text, format, ap);
    va_end(ap);
    if (page->process != NULL) {
        snprintf(marked, sizeof marked, "WEAKER: %s", text);
        fprintf(page->out, "%*s", TEXT, "");
        page_wrap(page->out, TEXT, TEXT + 8, marked);
    }
    if (grown == NULL)
        abort(); /* rather no page than one that leaves something out */
    page->weaknesses = grown;
    grown[page->count].pid = page->process != NULL ? page->process->pid : 0;
    grown[page->count].text = strdup(text);
    if (grown[page->count++].text == NULL)
        abort();
}

void page_forget(struct page *page, size_t count)
{
    while (page->count > count)
        free(page->weaknesses[--page->count].text);
}
