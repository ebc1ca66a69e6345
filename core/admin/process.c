/*
 * process.c - process_* and millrace_build_info.
 *
 * The admin server's thread only. Owns nothing: the metrics belong to base/metrics. Must not know
 * HTTP. Tests: tests/unit/test_admin.c.
 */
#include "admin/process.h"

#include "base/metrics.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

static void set(enum mr_metric_kind kind, const char *name, const char *help, double value)
{
    mr_metric_set(mr_metrics_get(kind, name, help, ""), value);
}

/* The first bytes of a file of /proc; "" if it cannot be read. */
static void read_proc(const char *path, char *text, size_t size)
{
    text[0] = '\0';
    FILE *file = fopen(path, "re");
    if (!file)
        return;
    text[fread(text, 1, size - 1, file)] = '\0';
    fclose(file);
}

static void update_memory(void)
{
    char text[256];
    unsigned long long virtual_pages, resident_pages;
    read_proc("/proc/self/statm", text, sizeof text);
    if (sscanf(text, "%llu %llu", &virtual_pages, &resident_pages) != 2)
        return;
    double page_bytes = (double)sysconf(_SC_PAGESIZE);
    set(MR_GAUGE, "process_virtual_memory_bytes", "Virtual memory size in bytes.",
        (double)virtual_pages * page_bytes);
    set(MR_GAUGE, "process_resident_memory_bytes", "Resident memory size in bytes.",
        (double)resident_pages * page_bytes);
}

static void update_cpu(void)
{
    struct timespec used;
    if (clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used) == 0)
        set(MR_COUNTER, "process_cpu_seconds_total",
            "Total user and system CPU time spent in seconds.",
            (double)used.tv_sec + (double)used.tv_nsec / 1e9);
}

/* Boot time (wall clock) plus the start since boot, which /proc gives in clock ticks. */
static void update_start_time(void)
{
    char text[1024];
    read_proc("/proc/self/stat", text, sizeof text);
    const char *field = strrchr(text, ')'); /* the command name, field 2, may hold anything */
    for (int n = 2; field && n < 22; n++)
        field = strchr(field + 1, ' ');
    unsigned long long ticks;
    if (!field || sscanf(field, "%llu", &ticks) != 1)
        return;
    struct timespec wall, boot;
    if (clock_gettime(CLOCK_REALTIME, &wall) != 0 || clock_gettime(CLOCK_BOOTTIME, &boot) != 0)
        return;
    double booted =
        (double)(wall.tv_sec - boot.tv_sec) + (double)(wall.tv_nsec - boot.tv_nsec) / 1e9;
    set(MR_GAUGE, "process_start_time_seconds",
        "Start time of the process since unix epoch in seconds.",
        booted + (double)ticks / (double)sysconf(_SC_CLK_TCK));
}

static void update_fds(void)
{
    DIR *dir = opendir("/proc/self/fd");
    if (dir) {
        int n = 0;
        for (struct dirent *entry; (entry = readdir(dir));)
            n += entry->d_name[0] != '.';
        closedir(dir);
        set(MR_GAUGE, "process_open_fds", "Number of open file descriptors.",
            n - 1); /* less `dir` */
    }
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0)
        set(MR_GAUGE, "process_max_fds", "Maximum number of open file descriptors.",
            (double)limit.rlim_cur);
}

void mr_process_update(void)
{
    static bool start_time_known;
    update_memory();
    update_cpu();
    update_fds();
    /* Once: computed again it would move with each step of the wall clock. */
    if (!start_time_known)
        update_start_time();
    start_time_known = true;
    mr_metric_set(mr_metrics_get(MR_GAUGE, "millrace_build_info",
                                 "Always 1; the labels say which build this is.",
                                 "version=\"" MR_VERSION "\""),
                  1);
}
