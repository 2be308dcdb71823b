// Preloaded into a daemon by a test: its clock of the day is as many seconds off as the file that VOLDFS_TEST_CLOCK names says,
// and jumps when that is changed. The clocks that only go forward are as they were.
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>

static long offset_s(void) {
  long offset = 0;
  const char *path = getenv("VOLDFS_TEST_CLOCK");
  FILE *file = path ? fopen(path, "re") : NULL;
  if (!file) return 0;
  if (fscanf(file, "%ld", &offset) != 1) offset = 0;
  fclose(file);
  return offset;
}

int clock_gettime(clockid_t id, struct timespec *now) {
  static int (*next)(clockid_t, struct timespec *);
  if (!next) next = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
  const int result = next(id, now);
  if (result == 0 && id == CLOCK_REALTIME) now->tv_sec += offset_s();
  return result;
}

time_t time(time_t *out) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  if (out) *out = now.tv_sec;
  return now.tv_sec;
}

int gettimeofday(struct timeval *restrict out, void *restrict zone) {
  (void)zone;
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  out->tv_sec = now.tv_sec;
  out->tv_usec = now.tv_nsec / 1000;
  return 0;
}
