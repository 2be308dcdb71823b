#include "tests/mount/tree_stress.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <map>

#include "tests/mount/calls.h"

namespace voldfs::test {
namespace {

constexpr size_t kLogMax = 100;
constexpr int kDepthMax = 4;

enum Kind {
  kCreate,
  kMkdir,
  kUnlink,
  kRmdir,
  kRename,
  kRenameNoreplace,
  kExchange,
  kLink,
  kSymlink,
  kMknod,
  kWrite,
  kAppend,
  kTruncate,
  kChmod,
  kChown,
  kUtimens,
  kSetxattr,
  kRemovexattr,
  kStat,
  kList,
  kReadlink,
  kRead,
  kFallocate,
  kTmpfile,
  kOpenUnlinked,
  kCopy,
  kWalk,
  kKinds
};
constexpr const char* kNames[] = {"create",
                                  "mkdir",
                                  "unlink",
                                  "rmdir",
                                  "rename",
                                  "rename noreplace",
                                  "exchange",
                                  "link",
                                  "symlink",
                                  "mknod",
                                  "write",
                                  "append",
                                  "truncate",
                                  "chmod",
                                  "chown",
                                  "utimens",
                                  "setxattr",
                                  "removexattr",
                                  "stat",
                                  "list",
                                  "readlink",
                                  "read",
                                  "fallocate",
                                  "tmpfile",
                                  "open and unlink",
                                  "copy",
                                  "walk"};
static_assert(std::size(kNames) == kKinds);

std::string answer(long result) {
  return result < 0 ? ::strerrorname_np(errno) : "ok";
}

std::string stat_of(const std::string& path) {
  struct stat found {};
  if (::lstat(path.c_str(), &found) < 0) return ::strerrorname_np(errno);
  char line[200];
  std::snprintf(line, sizeof line, "%o %lu %u:%u %ld %u:%u", found.st_mode,
                static_cast<unsigned long>(found.st_nlink), found.st_uid, found.st_gid,
                S_ISDIR(found.st_mode) ? -1L : static_cast<long>(found.st_size), major(found.st_rdev),
                minor(found.st_rdev));
  return line;
}

std::string content_of(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
  if (fd < 0) return ::strerrorname_np(errno);
  std::vector<char> all(1 << 20);
  const ssize_t size = ::read(fd, all.data(), all.size());
  const int error = errno;
  ::close(fd);
  if (size < 0) return ::strerrorname_np(error);
  uint64_t hash = 0;
  for (ssize_t i = 0; i < size; i++)
    hash = hash * 31 + static_cast<unsigned char>(all[static_cast<size_t>(i)]);
  return std::to_string(size) + "/" + std::to_string(hash);
}

std::vector<std::string> names_of(const std::string& path, std::string& error) {
  std::vector<std::string> out;
  DIR* const dir = ::opendir(path.c_str());
  if (!dir) return error = ::strerrorname_np(errno), out;
  errno = 0;
  while (const dirent* entry = ::readdir(dir))
    out.push_back(std::string(entry->d_name) + "\t" + std::to_string(entry->d_type));
  if (errno) error = ::strerrorname_np(errno);
  ::closedir(dir);
  std::sort(out.begin(), out.end());
  return out;
}

std::string list_of(const std::string& path) {
  std::string out;
  for (const std::string& name : names_of(path, out))
    out += name + " ";
  return out;
}

std::string xattrs_of(const std::string& path) {
  char list[4096], value[4096];
  const ssize_t size = ::llistxattr(path.c_str(), list, sizeof list);
  std::map<std::string, std::string> all;
  for (ssize_t at = 0; at < size; at += static_cast<ssize_t>(std::strlen(list + at)) + 1) {
    const ssize_t length = ::lgetxattr(path.c_str(), list + at, value, sizeof value);
    all[list + at] = length < 0 ? ::strerrorname_np(errno) : std::string(value, static_cast<size_t>(length));
  }
  std::string out;
  for (const auto& [name, text] : all)
    out += " " + name + "=" + text;
  return out;
}

long written(const std::string& path, int flags, size_t size, off_t offset, char byte) {
  const int fd = ::open(path.c_str(), flags | O_NONBLOCK | O_NOFOLLOW, 0640);
  if (fd < 0) return -1;
  const std::vector<char> data(size, byte);
  struct stat found {};
  ::fstat(fd, &found);
  const ssize_t done = !S_ISREG(found.st_mode) ? 0
                       : flags & O_APPEND      ? ::write(fd, data.data(), size)
                                               : ::pwrite(fd, data.data(), size, offset);
  const int error = errno;
  ::close(fd);
  errno = error;
  return done;
}

// An open file that loses its name goes on.
std::string open_unlinked(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDWR | O_NONBLOCK | O_NOFOLLOW);
  if (fd < 0) return answer(-1);
  struct stat found {};
  ::fstat(fd, &found);
  std::string out;
  if (S_ISREG(found.st_mode)) {
    char byte = 0;
    out += answer(::unlink(path.c_str())) + answer(::pwrite(fd, "U", 1, 3)) +
           answer(::pread(fd, &byte, 1, 3)) + std::to_string(byte);
    ::fstat(fd, &found);
    out += std::to_string(found.st_nlink) + "/" + std::to_string(found.st_size);
  }
  ::close(fd);
  return out;
}

std::string copied(const std::string& from, const std::string& to, uint64_t number) {
  const int in = ::open(from.c_str(), O_RDONLY | O_NONBLOCK | O_NOFOLLOW),
            out = ::open(to.c_str(), O_RDWR | O_CREAT | O_NONBLOCK | O_NOFOLLOW, 0600);
  off_t at = static_cast<off_t>(number % 3000), there = static_cast<off_t>(number / 7 % 5000);
  struct stat a {
  }, b{};
  std::string result = answer(in) + answer(out);
  if (in >= 0 && out >= 0 && ::fstat(in, &a) == 0 && ::fstat(out, &b) == 0 && S_ISREG(a.st_mode) &&
      S_ISREG(b.st_mode) && a.st_ino != b.st_ino) {
    const ssize_t size = ::copy_file_range(in, &at, out, &there, 2000, 0);
    result += size < 0 ? answer(size) : std::to_string(size);
  }
  ::close(in), ::close(out);
  return result;
}

// By telldir and seekdir, what is behind each position is the same as before.
std::string walked(const std::string& path) {
  DIR* const dir = ::opendir(path.c_str());
  if (!dir) return answer(-1);
  std::vector<std::pair<long, std::string>> seen;
  for (;;) {
    const long at = ::telldir(dir);
    const dirent* const entry = ::readdir(dir);
    if (!entry) break;
    seen.emplace_back(at, entry->d_name);
  }
  int wrong = 0;
  for (auto each = seen.rbegin(); each != seen.rend(); ++each) {
    ::seekdir(dir, each->first);
    const dirent* const entry = ::readdir(dir);
    wrong += !entry || each->second != entry->d_name;
  }
  ::closedir(dir);
  return std::to_string(seen.size()) + " entries, " + std::to_string(wrong) + " wrong";
}

void describe_tree(const std::string& root, const std::string& below, std::string& out) {
  const std::string path = below.empty() ? root : root + "/" + below;
  std::string error;
  const auto names = names_of(path, error);
  if (!error.empty()) out += below + ": " + error + "\n";
  for (const std::string& each : names) {
    const std::string name = each.substr(0, each.find('\t'));
    if (name == "." || name == "..") continue;
    const std::string at = below.empty() ? name : below + "/" + name, whole = root + "/" + at;
    struct stat found {};
    ::lstat(whole.c_str(), &found);
    out += at + "\t" + each.substr(each.find('\t') + 1) + " " + stat_of(whole) + xattrs_of(whole);
    if (S_ISREG(found.st_mode)) out += " " + content_of(whole);
    if (S_ISLNK(found.st_mode)) {
      char target[200] = {};
      if (::readlink(whole.c_str(), target, sizeof target - 1) < 0)
        std::strcpy(target, ::strerrorname_np(errno));
      out += std::string(" -> ") + target;
    }
    out += "\n";
    if (S_ISDIR(found.st_mode)) describe_tree(root, at, out);
  }
}

// The first line in which two texts differ.
std::string first_difference(const std::string& a, const std::string& b) {
  size_t at = 0;
  while (at < a.size() && at < b.size() && a[at] == b[at])
    at++;
  const auto line = [at](const std::string& text) {
    const size_t start = at == 0 ? std::string::npos : text.rfind('\n', at - 1),
                 from = start == std::string::npos ? 0 : start + 1;
    return from < text.size() ? text.substr(from, text.find('\n', at) - from) : std::string("(end)");
  };
  return "local: " + line(a) + "\n  mount: " + line(b);
}

}  // namespace

std::string tree_of(const std::string& root) {
  std::string out = stat_of(root) + "\n";
  describe_tree(root, "", out);
  return out;
}

std::string TreeStress::run() {
  const auto end = std::chrono::steady_clock::now() + options_.time;
  while (failure_.empty() && operations_ < options_.operations_max &&
         std::chrono::steady_clock::now() < end) {
    const Operation operation = make();
    const std::string& mount = options_.mounts[random_() % options_.mounts.size()];
    const bool as_other = options_.other_user && random_() % 4 == 0;
    const auto run = [&](const std::string& root) {
      return as_other ? in_child(operation, root) : carry_out(operation, root);
    };
    const std::string local = run(options_.local), mounted = run(mount);
    operations_++;
    // What was refused has changed nothing, and would only lengthen the log.
    const bool refused = local.find_first_not_of("ABCDEFGHIJKLMNOPQRSTUVWXYZ") == std::string::npos;
    if (!refused || local != mounted)
      log_.push_back(std::to_string(operations_) + " " + (as_other ? "other's " : "") + describe(operation) +
                     " through " + std::filesystem::path(mount).parent_path().filename().string() + ": " + local);
    if (log_.size() > kLogMax) log_.pop_front();
    if (local != mounted) failure_ = "answers differ\n  local: " + local + "\n  mount: " + mounted;
    if (failure_.empty() && operations_ % options_.compare_every == 0) compare_trees();
  }
  if (failure_.empty()) compare_trees();
  if (failure_.empty()) return {};
  std::string out = failure_ + "\n(seed " + std::to_string(options_.seed) + ", operation " +
                    std::to_string(operations_) + ")\n";
  for (const std::string& line : log_)
    out += "  " + line.substr(0, 300) + "\n";
  return out;
}

void TreeStress::compare_trees() {
  const std::string local = tree_of(options_.local);
  for (const std::string& mount : options_.mounts) {
    const std::string mounted = tree_of(mount);
    if (local != mounted)
      failure_ = "trees differ through " + mount + "\n  " + first_difference(local, mounted);
  }
}

std::string TreeStress::name() {
  return std::string(1, static_cast<char>('a' + random_() % options_.names));
}

// Mostly of what is there, else most operations would meet nothing.
std::string TreeStress::path() {
  std::string out;
  for (uint64_t depth = random_() % kDepthMax;; depth--) {
    std::string error;
    auto there = names_of(options_.local + "/" + out, error);
    std::erase_if(there, [](const std::string& each) { return each[0] == '.'; });
    const std::string each = there.empty() || random_() % 4 == 0 ? name() : there[random_() % there.size()];
    out += each.substr(0, each.find('\t'));
    if (depth == 0) return out;
    out += "/";
  }
}

TreeStress::Operation TreeStress::make() {
  constexpr int kLikely[] = {kCreate, kMkdir, kMkdir, kRename, kRename, kExchange, kLink, kUnlink, kWrite};
  Operation out;
  out.kind =
      random_() % 3 == 0 ? kLikely[random_() % std::size(kLikely)] : static_cast<int>(random_() % kKinds);
  out.a = path(), out.b = path();
  out.number = random_();
  return out;
}

std::string TreeStress::describe(const Operation& operation) const {
  const bool two = operation.kind == kRename || operation.kind == kRenameNoreplace ||
                   operation.kind == kExchange || operation.kind == kLink || operation.kind == kCopy;
  return std::string(kNames[operation.kind]) + " " + operation.a + (two ? " " + operation.b : "");
}

std::string TreeStress::in_child(const Operation& operation, const std::string& root) {
  int ends[2];
  if (::pipe(ends) < 0) return "no pipe";
  const pid_t child = ::fork();
  if (child == 0) {
    if (::setgid(options_.other_user) < 0 || ::setuid(options_.other_user) < 0) ::_exit(1);
    const std::string text = carry_out(operation, root);
    ::_exit(::write(ends[1], text.data(), text.size()) == static_cast<ssize_t>(text.size()) ? 0 : 1);
  }
  ::close(ends[1]);
  const std::string text = read_to_the_end(ends[0]);
  ::close(ends[0]);
  ::waitpid(child, nullptr, 0);
  return text;
}

std::string TreeStress::carry_out(const Operation& operation, const std::string& root) {
  const std::string a = root + "/" + operation.a, b = root + "/" + operation.b;
  const uint64_t n = operation.number;
  const auto mode = static_cast<mode_t>(n & 07777);
  const char byte = static_cast<char>('A' + n % 26);
  switch (operation.kind) {
    case kCreate:
      return answer(written(a, O_CREAT | O_EXCL | O_WRONLY, n % 50, 0, byte));
    case kMkdir:
      return answer(::mkdir(a.c_str(), mode | 0700));
    case kUnlink:
      return answer(::unlink(a.c_str()));
    case kRmdir:
      return answer(::rmdir(a.c_str()));
    case kRename:
      return answer(::rename(a.c_str(), b.c_str()));
    case kRenameNoreplace:
      return answer(::renameat2(AT_FDCWD, a.c_str(), AT_FDCWD, b.c_str(), RENAME_NOREPLACE));
    case kExchange:
      return answer(::renameat2(AT_FDCWD, a.c_str(), AT_FDCWD, b.c_str(), RENAME_EXCHANGE));
    case kLink:
      return answer(::link(a.c_str(), b.c_str()));
    case kSymlink:
      return answer(::symlink(("t" + std::to_string(n % 1000)).c_str(), a.c_str()));
    case kMknod:
      return answer(::mknod(a.c_str(),
                            (n % 3 == 0   ? S_IFIFO
                             : n % 3 == 1 ? S_IFSOCK
                                          : S_IFCHR) |
                                0644,
                            makedev(1, 3)));
    case kWrite:
      return answer(written(a, O_CREAT | O_RDWR, n % 9000, static_cast<off_t>(n / 9000 % 20000), byte));
    case kAppend:
      return answer(written(a, O_WRONLY | O_APPEND, n % 500, 0, byte));
    case kTruncate:
      return answer(::truncate(a.c_str(), static_cast<off_t>(n % 30000)));
    case kChmod:
      return answer(::chmod(a.c_str(), mode | (options_.other_user ? 0 : 0700)));
    case kChown:
      return answer(::lchown(a.c_str(), n % 3 ? options_.other_user : 0, n % 5 ? options_.other_user : 7));
    case kUtimens: {
      const timespec times[2] = {{static_cast<time_t>(n % 2'000'000'000), 5},
                                 {static_cast<time_t>(n / 3 % 2'000'000'000), 7}};
      const long result = ::utimensat(AT_FDCWD, a.c_str(), times, AT_SYMLINK_NOFOLLOW);
      struct stat found {};
      if (result < 0 || ::lstat(a.c_str(), &found) < 0) return answer(-1);
      return (options_.others_read ? "" : std::to_string(found.st_atim.tv_sec)) + "/" + std::to_string(found.st_mtim.tv_sec);
    }
    case kSetxattr:
      return answer(::lsetxattr(a.c_str(), n % 2 ? "user.x" : "trusted.x", std::to_string(n).data(), n % 10,
                                static_cast<int>(n / 10 % 3)));
    case kRemovexattr:
      return answer(::lremovexattr(a.c_str(), n % 2 ? "user.x" : "trusted.x"));
    case kStat:
      return stat_of(a);
    case kList:
      return list_of(a);
    case kReadlink: {
      char target[100] = {};
      return answer(::readlink(a.c_str(), target, sizeof target - 1)) + target;
    }
    case kRead:
      return content_of(a);
    case kFallocate: {
      const int fd = ::open(a.c_str(), O_RDWR | O_NONBLOCK | O_NOFOLLOW);
      constexpr int kModes[] = {0, FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                                FALLOC_FL_ZERO_RANGE};
      const std::string out = fd < 0
                                  ? answer(fd)
                                  : answer(::fallocate(fd, kModes[n % 4], static_cast<off_t>(n / 4 % 20000),
                                                       static_cast<off_t>(1 + n / 9 % 9000)));
      ::close(fd);
      return out;
    }
    case kTmpfile: {
      const int fd = ::open(a.c_str(), O_TMPFILE | O_RDWR, 0640);
      if (fd < 0) return answer(fd);
      const std::string out = answer(::write(fd, "tmpfile", 7)) +
                              answer(::linkat(AT_FDCWD, ("/proc/self/fd/" + std::to_string(fd)).c_str(),
                                              AT_FDCWD, b.c_str(), AT_SYMLINK_FOLLOW));
      ::close(fd);
      return out;
    }
    case kOpenUnlinked:
      return open_unlinked(a);
    case kCopy:
      return copied(a, b, n);
    default:
      return walked(a);
  }
}

}  // namespace voldfs::test
