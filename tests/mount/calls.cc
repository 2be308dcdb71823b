#include "tests/mount/calls.h"

#include <dirent.h>
#include <fcntl.h>
#include <grp.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <set>
#include <thread>

namespace voldfs::test {
namespace {

std::string octal(mode_t mode) {
  char text[16];
  std::snprintf(text, sizeof text, "%o", mode);
  return text;
}

struct Stamps {
  timespec times[3] = {};  // atime, mtime, ctime; not a directory's atime, which whoever reads it changes
};

Stamps stamps_of(const std::string& path) {
  struct stat found {};
  Stamps out;
  if (::lstat(path.c_str(), &found) < 0) return out;
  if (!S_ISDIR(found.st_mode)) out.times[0] = found.st_atim;
  out.times[1] = found.st_mtim, out.times[2] = found.st_ctim;
  return out;
}

bool is_later(const timespec& a, const timespec& b) {
  return std::pair(a.tv_sec, a.tv_nsec) > std::pair(b.tv_sec, b.tv_nsec);
}

timespec coarse_now() {
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME_COARSE, &now);
  return now;
}

// File systems stamp with the clock of ticks.
void wait_for_tick() {
  timespec begun{};
  ::clock_gettime(CLOCK_REALTIME, &begun);
  while (!is_later(coarse_now(), begun))
    std::this_thread::sleep_for(std::chrono::microseconds(500));
}

}  // namespace

void Transcript::stat(const std::string& what, const std::string& path) {
  struct stat found {};
  if (::lstat(path.c_str(), &found) < 0) return note("stat " + what, "errno " + std::to_string(errno));
  char line[160];
  std::snprintf(line, sizeof line, "mode %o links %lu owner %u:%u size %ld device %u:%u", found.st_mode,
                static_cast<unsigned long>(found.st_nlink), found.st_uid, found.st_gid,
                S_ISDIR(found.st_mode) ? -1L : static_cast<long>(found.st_size), major(found.st_rdev),
                minor(found.st_rdev));
  note("stat " + what, line);
}

const char* type_name(char type) {
  switch (type) {
    case 'f':
      return "file";
    case 'd':
      return "directory";
    case 'D':
      return "full directory";
    case 's':
      return "symlink";
    case 'p':
      return "pipe";
    case 'c':
      return "character device";
    case 'b':
      return "block device";
    case 'k':
      return "socket";
    default:
      return "nothing";
  }
}

std::string Calls::path(std::string_view name) const {
  return name.starts_with('/') ? std::string(name) : directory_ + "/" + std::string(name);
}

// Without the directory, which differs between what is compared; a long name by its length.
std::string Calls::told(std::string_view name) const {
  if (name.starts_with(directory_)) name.remove_prefix(directory_.size());
  if (name.size() <= 100) return std::string(name);
  return std::string(name.substr(0, 20)) + "..." + std::to_string(name.size());
}

int Calls::note(const std::string& what, long result) {
  const int error = result < 0 ? errno : 0;
  out_.note(what, error ? std::string(::strerrorname_np(error)) : "ok");
  return error;
}

int Calls::mkdir(std::string_view name, mode_t mode) {
  return note("mkdir " + told(name) + " " + octal(mode), ::mkdir(path(name).c_str(), mode));
}
int Calls::rmdir(std::string_view name) {
  return note("rmdir " + told(name), ::rmdir(path(name).c_str()));
}

int Calls::file(std::string_view name, mode_t mode, std::string_view content) {
  const int fd = ::open(path(name).c_str(), O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, mode);
  if (fd < 0) return note("file " + told(name), fd);
  if (::write(fd, content.data(), content.size()) != static_cast<ssize_t>(content.size()))
    note("write " + told(name), -1);
  ::close(fd);
  return 0;
}

int Calls::create(std::string_view name, int flags, mode_t mode) {
  const int fd = ::open(path(name).c_str(), flags | O_CLOEXEC, mode);
  const int error =
      note("open " + told(name) + " flags " + octal(static_cast<mode_t>(flags)) + " " + octal(mode), fd);
  if (fd >= 0) ::close(fd);
  return error;
}

int Calls::unlink(std::string_view name) {
  return note("unlink " + told(name), ::unlink(path(name).c_str()));
}
int Calls::symlink(std::string_view target, std::string_view name) {
  return note("symlink " + told(target) + " " + told(name),
              ::symlink(std::string(target).c_str(), path(name).c_str()));
}
int Calls::link(std::string_view name, std::string_view to) {
  return note("link " + told(name) + " " + told(to), ::link(path(name).c_str(), path(to).c_str()));
}
int Calls::rename(std::string_view from, std::string_view to, unsigned flags) {
  return note("rename " + told(from) + " " + told(to) + " " + std::to_string(flags),
              ::renameat2(AT_FDCWD, path(from).c_str(), AT_FDCWD, path(to).c_str(), flags));
}
int Calls::mknod(std::string_view name, mode_t mode, dev_t device) {
  return note("mknod " + told(name) + " " + octal(mode), ::mknod(path(name).c_str(), mode, device));
}
int Calls::chmod(std::string_view name, mode_t mode) {
  return note("chmod " + told(name) + " " + octal(mode), ::chmod(path(name).c_str(), mode));
}
int Calls::chown(std::string_view name, uid_t uid, gid_t gid) {
  return note("chown " + told(name) + " " + std::to_string(uid) + ":" + std::to_string(gid),
              ::chown(path(name).c_str(), uid, gid));
}
int Calls::lchown(std::string_view name, uid_t uid, gid_t gid) {
  return note("lchown " + told(name) + " " + std::to_string(uid) + ":" + std::to_string(gid),
              ::lchown(path(name).c_str(), uid, gid));
}
int Calls::truncate(std::string_view name, off_t size) {
  return note("truncate " + told(name) + " " + std::to_string(size), ::truncate(path(name).c_str(), size));
}
int Calls::access(std::string_view name, int mode) {
  return note("access " + told(name) + " " + std::to_string(mode),
              ::faccessat(AT_FDCWD, path(name).c_str(), mode, AT_EACCESS));
}

int Calls::utimens(std::string_view name, long atime, long mtime, int flags) {
  const auto time = [](long value) {
    if (value == -1) return timespec{0, UTIME_NOW};
    if (value == -2) return timespec{0, UTIME_OMIT};
    return timespec{value, 123'456'789};
  };
  const timespec times[2] = {time(atime), time(mtime)};
  return note("utimens " + told(name) + " " + std::to_string(atime) + " " + std::to_string(mtime),
              ::utimensat(AT_FDCWD, path(name).c_str(), times, flags));
}

void Calls::make(char type, std::string_view name, mode_t mode) {
  const std::string at = path(name);
  int result = 0;
  switch (type) {
    case 'f':
      file(name, mode ? mode : 0644);
      break;
    case 'd':
      result = ::mkdir(at.c_str(), mode ? mode : 0755);
      break;
    case 'D':
      result = ::mkdir(at.c_str(), mode ? mode : 0755);
      file(std::string(name) + "/in");
      break;
    case 's':
      result = ::symlink("nowhere", at.c_str());
      break;
    case 'p':
      result = ::mkfifo(at.c_str(), mode ? mode : 0644);
      break;
    case 'c':
      result = ::mknod(at.c_str(), S_IFCHR | (mode ? mode : 0644), makedev(1, 3));
      break;
    case 'b':
      result = ::mknod(at.c_str(), S_IFBLK | (mode ? mode : 0644), makedev(7, 9));
      break;
    case 'k':
      result = ::mknod(at.c_str(), S_IFSOCK | (mode ? mode : 0644), 0);
      break;
    default:
      return;
  }
  if (result < 0) note(std::string("make ") + type_name(type) + " " + told(name), result);
}

void Calls::look(std::string_view name) {
  out_.stat(told(name), path(name));
}

void Calls::list(std::string_view name) {
  DIR* const dir = ::opendir(path(name).c_str());
  if (!dir) return void(note("list " + told(name), -1));
  std::multiset<std::string> names;
  while (const dirent* entry = ::readdir(dir))
    names.insert(told(entry->d_name));
  ::closedir(dir);
  std::string all;
  for (const std::string& each : names)
    all += each + " ";
  out_.note("list " + told(name), all);
}

void Calls::clear(std::string_view name) {
  std::error_code failed;
  std::filesystem::remove_all(path(name), failed);
  if (failed) out_.note("clear " + told(name), failed.message());
}

void Calls::as(uid_t uid, std::initializer_list<gid_t> groups, const std::function<void(Calls&)>& run) {
  int ends[2];
  if (::pipe(ends) < 0) return void(note("pipe", -1));
  const pid_t child = ::fork();
  if (child == 0) {
    Transcript notes;
    Calls calls(directory_, notes);
    const std::vector<gid_t> all(groups);
    if (::setgroups(all.size(), all.data()) < 0 || ::setgid(all.front()) < 0 || ::setuid(uid) < 0) ::_exit(1);
    run(calls);
    std::string text;
    for (const std::string& line : notes.lines())
      text += line + "\n";
    for (size_t at = 0; at < text.size();) {
      const ssize_t sent = ::write(ends[1], text.data() + at, text.size() - at);
      if (sent <= 0) ::_exit(1);
      at += static_cast<size_t>(sent);
    }
    ::_exit(0);
  }
  ::close(ends[1]);
  const std::string text = read_to_the_end(ends[0]);
  ::close(ends[0]);
  int status = 0;
  ::waitpid(child, &status, 0);
  const std::string who = "as " + std::to_string(uid) + ":" + std::to_string(*groups.begin()) + " ";
  for (size_t at = 0, end; (end = text.find('\n', at)) != std::string::npos; at = end + 1)
    out_.line(who + text.substr(at, end - at));
  if (status != 0) out_.note(who, "ended with " + std::to_string(status));
}

void Calls::times(std::string_view what, std::initializer_list<std::string_view> names,
                  const std::function<void()>& change) {
  std::vector<Stamps> before;
  for (const std::string_view name : names)
    before.push_back(stamps_of(path(name)));
  wait_for_tick();
  timespec begun = coarse_now();
  change();
  size_t i = 0;
  for (const std::string_view name : names) {
    const Stamps after = stamps_of(path(name));
    std::string changed;
    constexpr const char* kNames[] = {"atime", "mtime", "ctime"};
    for (int each = 0; each < 3; each++) {
      const timespec &was = before[i].times[each], &is = after.times[each];
      if (was.tv_sec == is.tv_sec && was.tv_nsec == is.tv_nsec) continue;
      changed += std::string(" ") + kNames[each] + (is_later(begun, is) ? " to the past" : " to now");
    }
    out_.note("times of " + told(name) + " after " + std::string(what),
              changed.empty() ? "kept" : changed.substr(1));
    i++;
  }
}

std::string file_of(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY);
  if (fd < 0) return "errno " + std::to_string(errno);
  std::string out(1 << 16, 0);
  const ssize_t size = ::read(fd, out.data(), out.size());
  ::close(fd);
  return size < 0 ? "errno " + std::to_string(errno) : out.substr(0, static_cast<size_t>(size));
}

void make_file(const std::string& path, const std::string& text, mode_t mode) {
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC, mode);
  if (fd >= 0 && ::write(fd, text.data(), text.size()) < 0) std::perror("write");
  ::close(fd);
}

std::string listing(const std::string& path) {
  std::set<std::string> names;
  DIR* const dir = ::opendir(path.c_str());
  if (!dir) return "errno " + std::to_string(errno);
  while (const dirent* entry = ::readdir(dir))
    if (!names.insert(entry->d_name).second) names.insert(std::string(entry->d_name) + " TWICE");
  ::closedir(dir);
  std::string out;
  for (const std::string& name : names) out += name + " ";
  return out;
}

std::string read_to_the_end(int fd) {
  std::string text;
  char part[4096];
  for (ssize_t size; (size = ::read(fd, part, sizeof part)) > 0;)
    text.append(part, static_cast<size_t>(size));
  return text;
}

}  // namespace voldfs::test
