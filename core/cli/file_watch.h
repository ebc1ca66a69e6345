/*
 * file_watch.h - tells when files that somebody edits have changed: once, after the editor has come
 * to rest.
 *
 * Directories are watched, not files, so that it does not matter whether an editor writes in place,
 * renames a new file over the old one, or deletes and creates. One thread.
 */
#ifndef MR_CLI_FILE_WATCH_H
#define MR_CLI_FILE_WATCH_H

#include "base/error.h"

struct mr_file_watch;

MR_MUSTCHECK bool mr_file_watch_new(struct mr_file_watch **out, struct mr_error *err);
void mr_file_watch_free(struct mr_file_watch *watch); /* NULL is nothing */

/*
 * `files`: paths, a newline after each. Their directories are watched from now on, with those of
 * earlier calls; for a symbolic link that of its target, too. A directory that is new here counts
 * as a change, since nobody has watched it until now; one that is missing is looked for again.
 */
void mr_file_watch_add(struct mr_file_watch *watch, const char *files);

int mr_file_watch_fd(const struct mr_file_watch *watch); /* to poll for input */
/* Reads what has happened. True, once, when something has changed and it is quiet since; else
 * *wait_ms is lowered to when to ask again. */
bool mr_file_watch_due(struct mr_file_watch *watch, int *wait_ms);

#endif
