/* Preloaded into a store, it adds to the clock of the wall what stands in the file CLOCK_STEPS: microseconds, 8 bytes.
   Only into programs whose name begins with CLOCK_STEPS_OF. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile long long *steps;

__attribute__((constructor)) static void find_steps(void) {
  const char *file = getenv("CLOCK_STEPS"), *of = getenv("CLOCK_STEPS_OF");
  if (!file || !of || strncmp(program_invocation_short_name, of, strlen(of)) != 0) return;
  int opened = open(file, O_RDONLY);
  void *mapped = opened < 0 ? MAP_FAILED : mmap(NULL, 8, PROT_READ, MAP_SHARED, opened, 0);
  if (mapped != MAP_FAILED) steps = mapped;
}

int clock_gettime(clockid_t id, struct timespec *time) {
  int failed = (int)syscall(SYS_clock_gettime, id, time);
  if (!failed && steps && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)) {
    long long ns = time->tv_sec * 1000000000LL + time->tv_nsec + *steps * 1000;
    time->tv_sec = ns / 1000000000LL;
    time->tv_nsec = ns % 1000000000LL;
  }
  return failed;
}

int gettimeofday(struct timeval *restrict time, void *restrict zone) {
  struct timespec now;
  int failed = clock_gettime(CLOCK_REALTIME, &now);
  time->tv_sec = now.tv_sec;
  time->tv_usec = now.tv_nsec / 1000;
  return failed;
}

time_t time(time_t *to) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  if (to) *to = now.tv_sec;
  return now.tv_sec;
}
