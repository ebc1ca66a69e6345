/*
 * file_watch.c - inotify on directories, and the moment of quiet after a burst of events.
 *
 * One thread. Owns the inotify descriptor. Which events count: of files that were named, of any
 * *.lua beside them (a module that is missing until now), and of "..data", by which Kubernetes
 * exchanges all files of a volume at once. Must not know what is in the files. Tests:
 * tests/integration/reload_spec.lua.
 */
#include "cli/file_watch.h"

#include "base/buf.h"
#include "base/clock.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    QUIET_MS = 100,  /* an editor that writes several files is done by then */
    BURST_MS = 1000, /* who writes all the time is not waited for */
    LINKS_MAX = 8,   /* symbolic links to symbolic links */
    EVENTS = IN_CLOSE_WRITE | IN_MOVED_TO | IN_MOVED_FROM | IN_CREATE | IN_DELETE | IN_ATTRIB |
             IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR
};

struct directory {
    char *path;
    int wd; /* -1: it is not there */
};

struct mr_file_watch {
    int fd;
    struct directory *directories;
    char **names; /* of files, without their directories */
    size_t n_directories, n_names, n_missing;
    int64_t first_ms, last_ms; /* of the burst; 0: nothing has changed */
};

bool mr_file_watch_new(struct mr_file_watch **out, struct mr_error *err)
{
    int fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    *out = NULL;
    if (fd < 0)
        return mr_error_set(
            err, MR_STOP, MR_EXIT_TRY_AGAIN,
            "--watch: the files cannot be watched: %s (fs.inotify.max_user_instances "
            "bounds how many may)",
            strerror(errno));
    *out = mr_calloc(1, sizeof **out);
    (*out)->fd = fd;
    return true;
}

void mr_file_watch_free(struct mr_file_watch *watch)
{
    if (!watch)
        return;
    for (size_t i = 0; i < watch->n_directories; i++)
        free(watch->directories[i].path);
    for (size_t i = 0; i < watch->n_names; i++)
        free(watch->names[i]);
    free(watch->directories);
    free(watch->names);
    close(watch->fd);
    free(watch);
}

static void note_change(struct mr_file_watch *watch)
{
    watch->last_ms = mr_clock_mono_ms();
    if (!watch->first_ms)
        watch->first_ms = watch->last_ms;
}

static void look_for(struct mr_file_watch *watch, struct directory *directory)
{
    directory->wd = inotify_add_watch(watch->fd, directory->path, EVENTS);
    if (directory->wd < 0)
        watch->n_missing++;
    else
        note_change(watch);
}

static void add_name(struct mr_file_watch *watch, const char *name)
{
    for (size_t i = 0; i < watch->n_names; i++)
        if (strcmp(watch->names[i], name) == 0)
            return;
    watch->names = mr_realloc(watch->names, (watch->n_names + 1) * sizeof *watch->names);
    watch->names[watch->n_names++] = mr_strdup(name);
}

/* The directory of `path`, and its name. */
static void add_path(struct mr_file_watch *watch, const char *path)
{
    const char *slash = strrchr(path, '/');
    char *directory = !slash          ? mr_strdup(".")
                      : slash == path ? mr_strdup("/")
                                      : mr_strndup(path, (size_t)(slash - path));
    add_name(watch, slash ? slash + 1 : path);
    for (size_t i = 0; i < watch->n_directories; i++)
        if (strcmp(watch->directories[i].path, directory) == 0) {
            free(directory);
            return;
        }
    watch->directories =
        mr_realloc(watch->directories, (watch->n_directories + 1) * sizeof *watch->directories);
    watch->directories[watch->n_directories] = (struct directory){.path = directory};
    look_for(watch, &watch->directories[watch->n_directories++]);
}

/* Each symbolic link on the way to `path`: whoever exchanges it exchanges the file. */
static void add_links(struct mr_file_watch *watch, const char *path, int depth)
{
    char target[PATH_MAX];
    for (size_t len = 1; *path && depth; len++) {
        if (path[len] && path[len] != '/')
            continue;
        char *link = mr_strndup(path, len);
        ssize_t n = readlink(link, target, sizeof target - 1);
        if (n > 0) {
            struct mr_buf next = {0};
            const char *slash = strrchr(link, '/');
            target[n] = '\0';
            if (*target != '/' && slash)
                mr_buf_put(&next, link, (size_t)(slash - link) + 1);
            mr_buf_put_text(&next, target);
            add_path(watch, link);
            add_links(watch, mr_buf_cstr(&next), depth - 1);
            mr_buf_fini(&next);
        }
        free(link);
        if (!path[len])
            break;
    }
}

/* Directories that are not there are looked for while somebody names them: a release that was
 * removed is not. */
static void forget_missing(struct mr_file_watch *watch)
{
    size_t n = 0;
    for (size_t i = 0; i < watch->n_directories; i++)
        if (watch->directories[i].wd < 0)
            free(watch->directories[i].path);
        else
            watch->directories[n++] = watch->directories[i];
    watch->n_directories = n;
    watch->n_missing = 0;
}

void mr_file_watch_add(struct mr_file_watch *watch, const char *files)
{
    forget_missing(watch);
    while (*files) {
        size_t len = strcspn(files, "\n");
        char *path = mr_strndup(files, len), *target = realpath(path, NULL);
        add_path(watch, path);
        add_links(watch, path, LINKS_MAX);
        if (target)
            add_path(watch, target);
        free(target);
        free(path);
        files += len + (files[len] == '\n');
    }
}

int mr_file_watch_fd(const struct mr_file_watch *watch)
{
    return watch->fd;
}

static bool counts(const struct mr_file_watch *watch, const char *name)
{
    size_t len = strlen(name);
    if ((len > 4 && strcmp(name + len - 4, ".lua") == 0) || strcmp(name, "..data") == 0)
        return true;
    for (size_t i = 0; i < watch->n_names; i++)
        if (strcmp(watch->names[i], name) == 0)
            return true;
    return false;
}

/* A file that somebody has just begun to write: it is news when it is closed. A link is at once. */
static bool is_unfinished(const char *directory, const char *name)
{
    struct stat st;
    struct mr_buf path = {0};
    mr_buf_printf(&path, "%s/%s", directory, name);
    bool unfinished =
        lstat(mr_buf_cstr(&path), &st) == 0 && S_ISREG(st.st_mode) && st.st_nlink == 1;
    mr_buf_fini(&path);
    return unfinished;
}

/* It may be known by several names, links to it. */
static void lose_directory(struct mr_file_watch *watch, int wd)
{
    for (size_t i = 0; i < watch->n_directories; i++)
        if (watch->directories[i].wd == wd) {
            watch->directories[i].wd = -1;
            watch->n_missing++;
        }
    note_change(watch);
}

static void take_event(struct mr_file_watch *watch, const struct inotify_event *event)
{
    const struct directory *directory = NULL;
    for (size_t i = 0; i < watch->n_directories && !directory; i++)
        if (watch->directories[i].wd == event->wd)
            directory = &watch->directories[i];
    if (event->mask & IN_Q_OVERFLOW) {
        note_change(watch);
    } else if (!directory) {
        return; /* one that is not watched any more */
    } else if (event->mask & (IN_IGNORED | IN_DELETE_SELF | IN_MOVE_SELF)) {
        if (event->mask & IN_MOVE_SELF)
            inotify_rm_watch(watch->fd, event->wd);
        lose_directory(watch, event->wd);
    } else if (event->len && counts(watch, event->name) &&
               !(event->mask & IN_CREATE && is_unfinished(directory->path, event->name))) {
        note_change(watch);
    }
}

static void read_events(struct mr_file_watch *watch)
{
    union {
        struct inotify_event event;
        char bytes[4096];
    } buffer;
    ssize_t n;
    while ((n = read(watch->fd, &buffer, sizeof buffer)) > 0)
        for (ssize_t at = 0; at < n;) {
            const struct inotify_event *event = (void *)(buffer.bytes + at);
            take_event(watch, event);
            at += (ssize_t)(sizeof *event + event->len);
        }
}

static void find_missing(struct mr_file_watch *watch)
{
    if (!watch->n_missing)
        return;
    watch->n_missing = 0;
    for (size_t i = 0; i < watch->n_directories; i++)
        if (watch->directories[i].wd < 0)
            look_for(watch, &watch->directories[i]);
}

bool mr_file_watch_due(struct mr_file_watch *watch, int *wait_ms)
{
    read_events(watch);
    find_missing(watch);
    if (!watch->first_ms)
        return false;
    int64_t now_ms = mr_clock_mono_ms(), due_ms = watch->last_ms + QUIET_MS;
    if (due_ms > watch->first_ms + BURST_MS)
        due_ms = watch->first_ms + BURST_MS;
    if (now_ms < due_ms) {
        if (due_ms - now_ms < *wait_ms)
            *wait_ms = (int)(due_ms - now_ms);
        return false;
    }
    watch->first_ms = 0;
    return true;
}
