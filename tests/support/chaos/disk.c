/* A disk that fails on request and writes down what is done to it. Loaded into a server with LD_PRELOAD, it stands
   between the program and the kernel for the files of one directory; disk.py tells it what to do and reads what it did.
   Linux with a C library of its own as a shared object, 64 bits. Nothing of the product is in here.

   DISK_DIRECTORY  the data directory, absolute and without symbolic links
   DISK_CONTROL    a file that holds a `struct control`, mapped by us and by the test
   DISK_RECORD     where to append a `struct event` with its name and data for each change; not set: nothing is recorded

   One lock is held from the decision on a call to its record, so that the record has the order in which things happened. */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

_Static_assert(sizeof(off_t) == 8 && sizeof(void *) == 8, "64 bits");

enum call { READ = 1, WRITE = 2, SYNC = 4, TRUNCATE = 8, UNLINK = 16, OPEN = 32 };
enum file { DATABASE = 1, LOG = 2, INDEX = 4, DIRECTORY = 8, OTHER = 16 };
enum act { PASS, FAIL, HALF, WAIT, DIE_BEFORE, DIE_HALFWAY, DIE_AFTER };
enum kind { MADE = 1, WROTE = 2, CUT = 3, SYNCED = 4, REMOVED = 5, RENAMED = 6 };

struct rule {
  uint32_t calls, files;     /* sets of `call` and `file` */
  uint32_t act, argument;    /* an errno for FAIL, milliseconds for WAIT */
  uint64_t first, last;      /* which of the calls that match, counted from one since the rule was armed */
  uint64_t per_million;      /* how many of those, chosen by `random` */
  uint64_t random;           /* state of a generator, never zero */
  uint64_t matched, done;
};

struct control {
  uint64_t rules; /* how many are armed; written last */
  struct rule rule[15];
};

struct event {
  uint32_t kind;
  int32_t error; /* what a failed sync said; nothing else that fails changes anything */
  uint64_t inode, offset;
  uint32_t name_bytes, data_bytes;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct control *control;
static const char *directory;
static size_t directory_bytes;
static int record = -1;

static void give_up(const char *what) {
  dprintf(2, "disk: %s: %s\n", what, strerror(errno));
  abort(); /* a record with a gap would prove nothing */
}

static void note(enum kind kind, int error, uint64_t inode, uint64_t offset, const char *name, const void *data,
                 size_t bytes) {
  if (record < 0) return;
  struct event event = {kind, error, inode, offset, (uint32_t)strlen(name), (uint32_t)bytes};
  struct iovec parts[] = {{&event, sizeof event}, {(void *)name, event.name_bytes}, {(void *)data, bytes}};
  ssize_t whole = (ssize_t)(sizeof event + event.name_bytes + bytes);
  if (syscall(SYS_writev, record, parts, 3) != whole) give_up("the record cannot be written");
}

__attribute__((constructor)) static void begin(void) {
  const char *shared = getenv("DISK_CONTROL"), *events = getenv("DISK_RECORD");
  directory = getenv("DISK_DIRECTORY");
  if (!directory || !shared) return;
  directory_bytes = strlen(directory);
  int file = (int)syscall(SYS_openat, AT_FDCWD, shared, O_RDWR | O_CLOEXEC);
  if (file < 0) give_up(shared);
  control = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  syscall(SYS_close, file);
  if (control == MAP_FAILED) give_up(shared);
  if (!events) return;
  int low = (int)syscall(SYS_openat, AT_FDCWD, events, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
  record = low < 0 ? -1 : (int)syscall(SYS_fcntl, low, F_DUPFD_CLOEXEC, 900); /* out of the program's way */
  if (record < 0) give_up(events);
  syscall(SYS_close, low);
}

/* --- whose file it is ---------------------------------------------------------------------------------------------- */

struct target {
  enum file file;
  uint64_t inode;
  char path[PATH_MAX];
  const char *name; /* within the directory; "." for itself, ".." for the one above */
};

static int ends(const char *text, const char *end) {
  size_t bytes = strlen(text), of_end = strlen(end);
  return bytes >= of_end && !strcmp(text + bytes - of_end, end);
}

static int is_above(const char *path) {
  size_t bytes = strlen(path);
  return !strncmp(directory, path, bytes) && strrchr(directory, '/') == directory + (bytes > 1 ? bytes : 0);
}

/* Fills in everything but the inode. False if the path is none of ours. */
static int place(struct target *target) {
  const char *path = target->path;
  target->file = DIRECTORY;
  if (is_above(path)) return (target->name = "..", 1);
  if (strncmp(path, directory, directory_bytes)) return 0;
  if (!path[directory_bytes]) return (target->name = ".", 1);
  if (path[directory_bytes] != '/') return 0;
  target->name = path + directory_bytes + 1;
  target->file = ends(path, "-wal") ? LOG : ends(path, "-shm") ? INDEX : ends(path, ".sqlite3") ? DATABASE : OTHER;
  return 1;
}

static int by_path(const char *path, struct target *target) {
  if (!control || strlen(path) >= sizeof target->path) return 0;
  strcpy(target->path, path);
  target->inode = 0;
  return place(target);
}

static int by_descriptor(int descriptor, struct target *target) {
  struct stat status;
  char link[40];
  if (!control || fstat(descriptor, &status) || !(S_ISREG(status.st_mode) || S_ISDIR(status.st_mode))) return 0;
  snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
  ssize_t bytes = readlink(link, target->path, sizeof target->path - 1);
  if (bytes < 0) return 0;
  target->path[bytes] = 0;
  target->inode = status.st_ino;
  return place(target);
}

/* --- what goes wrong ----------------------------------------------------------------------------------------------- */

static uint64_t draw(uint64_t *state) { /* xorshift64* */
  *state ^= *state >> 12, *state ^= *state << 25, *state ^= *state >> 27;
  return *state * 2685821657736338717u >> 33;
}

static void die(void) {
  syscall(SYS_kill, getpid(), SIGKILL);
  for (;;) pause();
}

/* What the first rule that matches says. Waits and dies here; the rest is the caller's. */
static enum act fate(enum call call, enum file file, int *error) {
  uint64_t rules = __atomic_load_n(&control->rules, __ATOMIC_ACQUIRE);
  for (uint64_t i = 0; i < rules && i < sizeof control->rule / sizeof *control->rule; i++) {
    struct rule *rule = &control->rule[i];
    if (!(rule->calls & call) || !(rule->files & file)) continue;
    uint64_t nth = ++rule->matched;
    if (nth < rule->first || nth > rule->last || draw(&rule->random) % 1000000 >= rule->per_million) continue;
    rule->done++;
    if (rule->act == DIE_BEFORE) die();
    if (rule->act == WAIT) {
      struct timespec pause = {rule->argument / 1000, rule->argument % 1000 * 1000000L};
      syscall(SYS_nanosleep, &pause, NULL);
      return PASS;
    }
    *error = (int)rule->argument;
    return rule->act;
  }
  return PASS;
}

static long refuse(int error) {
  pthread_mutex_unlock(&lock);
  errno = error;
  return -1;
}

static long leave(enum act act, long result, int error) {
  if (act == DIE_AFTER || act == DIE_HALFWAY) die();
  pthread_mutex_unlock(&lock);
  errno = error;
  return result;
}

/* --- the calls ----------------------------------------------------------------------------------------------------- */

static ssize_t write_at(int descriptor, const void *data, size_t bytes, off_t offset, int positioned) {
  struct target target;
  if (!by_descriptor(descriptor, &target) || target.file == DIRECTORY)
    return positioned ? syscall(SYS_pwrite64, descriptor, data, bytes, offset)
                      : syscall(SYS_write, descriptor, data, bytes);
  pthread_mutex_lock(&lock);
  int error;
  enum act act = fate(WRITE, target.file, &error);
  if (act == FAIL) return refuse(error);
  if (act == HALF || act == DIE_HALFWAY) bytes = (bytes + 1) / 2;
  if (!positioned) {
    int flags = fcntl(descriptor, F_GETFL);
    offset = lseek(descriptor, 0, flags & O_APPEND ? SEEK_END : SEEK_CUR);
  }
  ssize_t written = positioned ? syscall(SYS_pwrite64, descriptor, data, bytes, offset)
                               : syscall(SYS_write, descriptor, data, bytes);
  error = errno;
  if (written > 0) note(WROTE, 0, target.inode, (uint64_t)offset, target.name, data, (size_t)written);
  return leave(act, written, error);
}

ssize_t write(int descriptor, const void *data, size_t bytes) { return write_at(descriptor, data, bytes, 0, 0); }
ssize_t pwrite(int descriptor, const void *data, size_t bytes, off_t offset) {
  return write_at(descriptor, data, bytes, offset, 1);
}
ssize_t pwrite64(int, const void *, size_t, off_t) __attribute__((alias("pwrite")));

static ssize_t read_at(int descriptor, void *data, size_t bytes, off_t offset, int positioned) {
  struct target target;
  int error;
  if (control && control->rules && by_descriptor(descriptor, &target)) {
    pthread_mutex_lock(&lock);
    if (fate(READ, target.file, &error) == FAIL) return refuse(error);
    pthread_mutex_unlock(&lock);
  }
  return positioned ? syscall(SYS_pread64, descriptor, data, bytes, offset)
                    : syscall(SYS_read, descriptor, data, bytes);
}

ssize_t read(int descriptor, void *data, size_t bytes) { return read_at(descriptor, data, bytes, 0, 0); }
ssize_t pread(int descriptor, void *data, size_t bytes, off_t offset) {
  return read_at(descriptor, data, bytes, offset, 1);
}
ssize_t pread64(int, void *, size_t, off_t) __attribute__((alias("pread")));

static int sync_file(int descriptor, long number) {
  struct target target;
  if (!by_descriptor(descriptor, &target)) return (int)syscall(number, descriptor);
  pthread_mutex_lock(&lock);
  int error;
  enum act act = fate(SYNC, target.file, &error);
  if (act == FAIL) {
    note(SYNCED, error, target.inode, 0, target.name, NULL, 0);
    return (int)refuse(error);
  }
  int result = (int)syscall(number, descriptor);
  error = errno;
  note(SYNCED, result ? error : 0, target.inode, 0, target.name, NULL, 0);
  return (int)leave(act, result, error);
}

int fsync(int descriptor) { return sync_file(descriptor, SYS_fsync); }
int fdatasync(int descriptor) { return sync_file(descriptor, SYS_fdatasync); }

int ftruncate(int descriptor, off_t bytes) {
  struct target target;
  if (!by_descriptor(descriptor, &target)) return (int)syscall(SYS_ftruncate, descriptor, bytes);
  pthread_mutex_lock(&lock);
  int error;
  enum act act = fate(TRUNCATE, target.file, &error);
  if (act == FAIL) return (int)refuse(error);
  int result = (int)syscall(SYS_ftruncate, descriptor, bytes);
  error = errno;
  if (!result) note(CUT, 0, target.inode, (uint64_t)bytes, target.name, NULL, 0);
  return (int)leave(act, result, error);
}
int ftruncate64(int, off_t) __attribute__((alias("ftruncate")));

static int open_path(int from, const char *path, int flags, mode_t mode) {
  struct target target;
  if (!by_path(path, &target) || target.file == DIRECTORY)
    return (int)syscall(SYS_openat, from, path, flags, mode);
  pthread_mutex_lock(&lock);
  int error;
  enum act act = fate(OPEN, target.file, &error);
  if (act == FAIL) return (int)refuse(error);
  int descriptor = (int)syscall(SYS_openat, from, path, flags, mode);
  error = errno;
  if (descriptor >= 0 && flags & O_CREAT && by_descriptor(descriptor, &target)) {
    note(MADE, 0, target.inode, 0, target.name, NULL, 0); /* also when it was there: the reader knows */
    if (flags & O_TRUNC) note(CUT, 0, target.inode, 0, target.name, NULL, 0);
  }
  return (int)leave(act, descriptor, error);
}

#define OPEN_LIKE(NAME, FROM, ...)                              \
  int NAME(__VA_ARGS__ const char *path, int flags, ...) {      \
    va_list more;                                               \
    va_start(more, flags);                                      \
    mode_t mode = flags & O_CREAT ? va_arg(more, mode_t) : 0;   \
    va_end(more);                                               \
    return open_path(FROM, path, flags, mode);                  \
  }
OPEN_LIKE(open, AT_FDCWD)
OPEN_LIKE(open64, AT_FDCWD)
OPEN_LIKE(openat, from, int from, )
OPEN_LIKE(openat64, from, int from, )

int mkdir(const char *path, mode_t mode) {
  struct target target;
  int result = (int)syscall(SYS_mkdirat, AT_FDCWD, path, mode), error = errno;
  if (!result && by_path(path, &target) && target.file == DIRECTORY) note(MADE, 0, 0, 0, target.name, NULL, 0);
  errno = error;
  return result;
}

int unlink(const char *path) {
  struct target target;
  if (!by_path(path, &target)) return (int)syscall(SYS_unlinkat, AT_FDCWD, path, 0);
  pthread_mutex_lock(&lock);
  int error;
  enum act act = fate(UNLINK, target.file, &error);
  if (act == FAIL) return (int)refuse(error);
  int result = (int)syscall(SYS_unlinkat, AT_FDCWD, path, 0);
  error = errno;
  if (!result) note(REMOVED, 0, 0, 0, target.name, NULL, 0);
  return (int)leave(act, result, error);
}

int rename(const char *path, const char *to) {
  struct target target, goal;
  int ours = by_path(path, &target) && by_path(to, &goal);
  if (ours) pthread_mutex_lock(&lock);
  int result = (int)syscall(SYS_renameat2, AT_FDCWD, path, AT_FDCWD, to, 0), error = errno;
  if (ours) {
    if (!result) note(RENAMED, 0, 0, 0, target.name, goal.name, strlen(goal.name));
    pthread_mutex_unlock(&lock);
  }
  errno = error;
  return result;
}
