/* Fails the n-th call of a kind on files below a folder; loaded by LD_PRELOAD.
 *
 * Each function asks the real one unless its turn has come. Calls are counted from fault_arm on, and
 * only for paths that begin with its prefix, which is looked up in /proc/self/fd for descriptors.
 */
#define _GNU_SOURCE
#undef _FORTIFY_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { OPEN, READ, WRITE, FSYNC, RENAME, MKDIR, KINDS };

static atomic_int armed, fired;
static atomic_long counts[KINDS];
static int kind_, error_, sticky_, tell_ = -1;
static long nth_;
static char prefix_[PATH_MAX], fired_path_[PATH_MAX];

/* nth 0: only count. sticky: all calls from the n-th on fail, as on a full disk. */
void fault_arm(int kind, long nth, int error, int sticky, const char *prefix) {
  kind_ = kind; nth_ = nth; error_ = error; sticky_ = sticky;
  snprintf(prefix_, sizeof prefix_, "%s", prefix);
  for (int i = 0; i < KINDS; i++) counts[i] = 0;
  fired = 0; fired_path_[0] = 0;
  armed = 1;
}
/* Where the path of the first call that fails is written, for a process that dies of it. */
void fault_tell(int fd) { tell_ = fd; }
void fault_disarm(void) { armed = 0; }
long fault_count(int kind) { return counts[kind]; }
int fault_fired(void) { return fired; }
const char *fault_path(void) { return fired_path_; }

static int fails_at(int kind, const char *path) {
  if (strncmp(path, prefix_, strlen(prefix_))) return 0;
  if (!strncmp(path, "/proc", 5) || !strncmp(path, "/sys", 4) || !strncmp(path, "/dev", 4)) return 0;
  long n = ++counts[kind];
  if (kind != kind_ || !nth_ || (sticky_ ? n < nth_ : n != nth_)) return 0;
  if (!fired++) {
    snprintf(fired_path_, sizeof fired_path_, "%s", path);
    if (tell_ >= 0) syscall(SYS_write, tell_, path, strlen(path));
  }
  errno = error_;
  return 1;
}
static int fails_name(int kind, int dir, const char *name) {
  if (!armed || !name) return 0;
  if (name[0] == '/') return fails_at(kind, name);
  char link[64], path[2 * PATH_MAX];
  if (dir == AT_FDCWD) { if (!getcwd(path, PATH_MAX)) return 0; }
  else {
    snprintf(link, sizeof link, "/proc/self/fd/%d", dir);
    ssize_t n = readlink(link, path, PATH_MAX - 1);
    if (n < 0) return 0;
    path[n] = 0;
  }
  strcat(path, "/"); strncat(path, name, PATH_MAX - 1);
  return fails_at(kind, path);
}
static int fails_fd(int kind, int fd) {
  if (!armed) return 0;
  char link[64], path[PATH_MAX];
  int before = errno;
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t n = readlink(link, path, sizeof path - 1);
  errno = before;
  if (n < 0 || path[0] != '/') return 0;
  path[n] = 0;
  return fails_at(kind, path);
}

#define REAL(name) \
  static __typeof__(&name) real; \
  if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)
#define MODE mode_t mode = 0; if (flags & (O_CREAT | __O_TMPFILE)) { \
  va_list args; va_start(args, flags); mode = va_arg(args, mode_t); va_end(args); }

int open(const char *p, int flags, ...) { REAL(open); MODE
  return fails_name(OPEN, AT_FDCWD, p) ? -1 : real(p, flags, mode); }
int open64(const char *p, int flags, ...) { REAL(open64); MODE
  return fails_name(OPEN, AT_FDCWD, p) ? -1 : real(p, flags, mode); }
int openat(int d, const char *p, int flags, ...) { REAL(openat); MODE
  return fails_name(OPEN, d, p) ? -1 : real(d, p, flags, mode); }
int openat64(int d, const char *p, int flags, ...) { REAL(openat64); MODE
  return fails_name(OPEN, d, p) ? -1 : real(d, p, flags, mode); }
FILE *fopen(const char *p, const char *m) { REAL(fopen);
  return fails_name(OPEN, AT_FDCWD, p) ? NULL : real(p, m); }
FILE *fopen64(const char *p, const char *m) { REAL(fopen64);
  return fails_name(OPEN, AT_FDCWD, p) ? NULL : real(p, m); }

ssize_t read(int fd, void *b, size_t n) { REAL(read); return fails_fd(READ, fd) ? -1 : real(fd, b, n); }
ssize_t pread(int fd, void *b, size_t n, off_t o) { REAL(pread);
  return fails_fd(READ, fd) ? -1 : real(fd, b, n, o); }
ssize_t pread64(int fd, void *b, size_t n, off64_t o) { REAL(pread64);
  return fails_fd(READ, fd) ? -1 : real(fd, b, n, o); }
ssize_t readv(int fd, const struct iovec *v, int n) { REAL(readv);
  return fails_fd(READ, fd) ? -1 : real(fd, v, n); }
size_t fread(void *b, size_t s, size_t n, FILE *f) { REAL(fread);
  return fails_fd(READ, fileno(f)) ? 0 : real(b, s, n, f); }

ssize_t write(int fd, const void *b, size_t n) { REAL(write);
  return fails_fd(WRITE, fd) ? -1 : real(fd, b, n); }
ssize_t pwrite(int fd, const void *b, size_t n, off_t o) { REAL(pwrite);
  return fails_fd(WRITE, fd) ? -1 : real(fd, b, n, o); }
ssize_t pwrite64(int fd, const void *b, size_t n, off64_t o) { REAL(pwrite64);
  return fails_fd(WRITE, fd) ? -1 : real(fd, b, n, o); }
ssize_t writev(int fd, const struct iovec *v, int n) { REAL(writev);
  return fails_fd(WRITE, fd) ? -1 : real(fd, v, n); }
ssize_t sendfile(int to, int from, off_t *o, size_t n) { REAL(sendfile);
  return fails_fd(WRITE, to) ? -1 : real(to, from, o, n); }
ssize_t copy_file_range(int from, off64_t *a, int to, off64_t *b, size_t n, unsigned flags) {
  REAL(copy_file_range); return fails_fd(WRITE, to) ? -1 : real(from, a, to, b, n, flags); }
size_t fwrite(const void *b, size_t s, size_t n, FILE *f) { REAL(fwrite);
  return fails_fd(WRITE, fileno(f)) ? 0 : real(b, s, n, f); }
int fclose(FILE *f) { REAL(fclose);
  int written = armed && (fcntl(fileno(f), F_GETFL) & O_ACCMODE) != O_RDONLY;
  int fails = written && fails_fd(WRITE, fileno(f));
  int rc = real(f);
  if (fails) errno = error_;
  return fails ? EOF : rc; }
int fflush(FILE *f) { REAL(fflush); return f && fails_fd(WRITE, fileno(f)) ? EOF : real(f); }
int ftruncate(int fd, off_t n) { REAL(ftruncate); return fails_fd(WRITE, fd) ? -1 : real(fd, n); }
int ftruncate64(int fd, off64_t n) { REAL(ftruncate64);
  return fails_fd(WRITE, fd) ? -1 : real(fd, n); }
int posix_fallocate(int fd, off_t o, off_t n) { REAL(posix_fallocate);
  return fails_fd(WRITE, fd) ? error_ : real(fd, o, n); }
int posix_fallocate64(int fd, off64_t o, off64_t n) { REAL(posix_fallocate64);
  return fails_fd(WRITE, fd) ? error_ : real(fd, o, n); }

int fsync(int fd) { REAL(fsync); return fails_fd(FSYNC, fd) ? -1 : real(fd); }
int fdatasync(int fd) { REAL(fdatasync); return fails_fd(FSYNC, fd) ? -1 : real(fd); }

int rename(const char *a, const char *b) { REAL(rename);
  return fails_name(RENAME, AT_FDCWD, b) ? -1 : real(a, b); }
int renameat(int c, const char *a, int d, const char *b) { REAL(renameat);
  return fails_name(RENAME, d, b) ? -1 : real(c, a, d, b); }
int mkdir(const char *p, mode_t m) { REAL(mkdir);
  return fails_name(MKDIR, AT_FDCWD, p) ? -1 : real(p, m); }
int mkdirat(int d, const char *p, mode_t m) { REAL(mkdirat);
  return fails_name(MKDIR, d, p) ? -1 : real(d, p, m); }

/* A clock that jumps: each time it is asked, it is `jump` seconds ahead or behind. */
static long jump_;
static atomic_long asked;
void fault_clock(long jump) { jump_ = jump; }
static long jumped(void) { return jump_ ? (asked++ % 3 - 1) * jump_ : 0; }
int clock_gettime(clockid_t c, struct timespec *t) { REAL(clock_gettime);
  int rc = real(c, t);
  if (!rc && c == CLOCK_REALTIME) t->tv_sec += jumped();
  return rc; }
time_t time(time_t *t) { struct timespec now; clock_gettime(CLOCK_REALTIME, &now);
  if (t) *t = now.tv_sec;
  return now.tv_sec; }
int gettimeofday(struct timeval *restrict t, void *restrict z) { struct timespec now; (void)z;
  clock_gettime(CLOCK_REALTIME, &now);
  t->tv_sec = now.tv_sec; t->tv_usec = now.tv_nsec / 1000;
  return 0; }
