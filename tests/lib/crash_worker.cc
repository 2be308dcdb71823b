#include "tests/lib/crash_worker.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/fs.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <set>

namespace voldfs::test {
namespace {

namespace fs = std::filesystem;

constexpr int kNames = 12;  // in each of the two directories
constexpr char kInside[] = "inside";
constexpr char kNote[] = "user.note";

// The client was killed. (EIO would be a lost file.) ECANCELED: so the kernel ends what a killed client had taken over io_uring.
bool is_gone(int error) { return error == ENOTCONN || error == ECONNABORTED || error == ENODEV || error == ECANCELED; }

int answer(int result) { return result < 0 ? errno : 0; }

int write_new(const std::string& path, const std::string& content) {
  const int fd = ::open(path.c_str(), O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0644);
  if (fd < 0) return errno;
  const ssize_t wrote = ::write(fd, content.data(), content.size());
  const int error = wrote == static_cast<ssize_t>(content.size()) ? 0 : wrote < 0 ? errno : ENOSPC;
  const int closed = answer(::close(fd));
  return error ? error : closed;
}

int read_whole(const std::string& path, std::string& content) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return errno;
  char buffer[4096];
  const ssize_t size = ::read(fd, buffer, sizeof buffer);
  const int error = size < 0 ? errno : 0;
  ::close(fd);
  content.assign(buffer, static_cast<size_t>(std::max<ssize_t>(size, 0)));
  return error;
}

}  // namespace

void CrashWorker::begin() {
  for (int i = 0; i < 2; i++) ASSERT_EQ(::mkdir(directory(i).c_str(), 0755), 0) << std::strerror(errno);
}

bool CrashWorker::step() {
  const std::string from = any_name(), to = any_name();
  switch (random_() % 14) {
    case 0: case 1: return create(from);
    case 2: return make_directory(from);
    case 3: case 4: return remove(from);
    case 5: case 6: case 7: return rename(from, to);
    case 8: return exchange(from, to);
    case 9: return link(from, to);
    case 10: return append(from);
    case 11: return change_mode(from);
    case 12: return change_note(from);
    default: return check_listing();
  }
}

std::string CrashWorker::any_name() { return "d" + std::to_string(random_() % 2) + "/n" + std::to_string(random_() % kNames); }

std::string CrashWorker::new_content() { return "c" + std::to_string(++made_) + "." + std::to_string(random_()); }

CrashWorker::ObjectPtr CrashWorker::at(const std::string& name) const {
  const auto found = names_.find(name);
  return found == names_.end() ? nullptr : found->second;
}

std::vector<std::string> CrashWorker::links_of(const ObjectPtr& object) const {
  std::vector<std::string> links;
  for (const auto& [name, other] : names_)
    if (other == object) links.push_back(name);
  return links;
}

std::string CrashWorker::shown(const Object& object) {
  char mode[16];
  std::snprintf(mode, sizeof mode, " %04o ", object.mode);
  return (object.is_directory ? "directory" : "file") + std::string(mode) + object.note + " " + object.content;
}

int CrashWorker::look(const std::string& name, Object& object) const {
  struct stat stat;
  if (::lstat(path(name).c_str(), &stat) != 0) return errno;
  object.mode = stat.st_mode & 07777;
  object.is_directory = S_ISDIR(stat.st_mode);
  char note[64];
  const ssize_t size = ::getxattr(path(name).c_str(), kNote, note, sizeof note);
  if (size < 0 && errno != ENODATA) return errno;
  object.note.assign(note, static_cast<size_t>(std::max<ssize_t>(size, 0)));
  const int error = read_whole(object.is_directory ? path(name + "/" + kInside) : path(name), object.content);
  return object.is_directory && error == ENOENT ? 0 : error;  // made, and not yet filled
}

bool CrashWorker::done() {
  operations_++;
  return true;
}

bool CrashWorker::is_lost(int error) const { return may_be_lost_ && (error == EIO || error == ESTALE); }

int CrashWorker::remove_surely(const std::function<int()>& remove) const {
  for (bool again = false;; again = true) {
    const int error = remove();
    if (!is_lost(error)) return again && error == ENOENT ? 0 : error;
  }
}

bool CrashWorker::judge(int result, int expected, const std::string& call, const std::vector<Names>& after) {
  // EINTR: so it ends a request that it was about to copy into the memory of a client that is dying.
  struct stat stat;
  if (is_gone(result) || (result == EINTR && is_gone(answer(::lstat(root_.c_str(), &stat))))) return cut(after);
  if (is_lost(result)) {
    cut(after);
    settle();
    return done();
  }
  EXPECT_EQ(result, expected) << call << ": " << std::strerror(result) << " instead of " << std::strerror(expected)
                              << "; now there are:\n" << seen_now();
  return done();
}

bool CrashWorker::cut(const std::vector<Names>& after) {
  possible_ = after;
  possible_.push_back(names_);
  return false;
}

void CrashWorker::settle() {
  // Names that the operation may have changed; the others are check_all's.
  std::set<std::string> names;
  for (const Names& each : possible_)
    for (const auto& [name, object] : each) names.insert(name);
  Shown found;
  for (const std::string& name : names) {
    Object object;
    int error = look(name, object);
    while (is_lost(error)) error = look(name, object = {});
    EXPECT_TRUE(error == 0 || error == ENOENT) << name << ": " << std::strerror(error);
    if (error == 0) found[name] = shown(object);
  }
  bool fits = false;
  std::string expected;
  for (const Names& each : possible_) {
    Shown wanted;
    for (const auto& [name, object] : each) wanted[name] = shown(*object);
    fits = wanted == found;
    if (fits) names_ = each;
    if (fits) break;
    for (const auto& [name, how] : wanted)
      if (!found.contains(name) || found.at(name) != how) expected += "  " + name + " should be " + how + "\n";
    for (const auto& [name, how] : found)
      if (!wanted.contains(name)) expected += "  " + name + " should not be there: " + how + "\n";
    expected += "or\n";
  }
  EXPECT_TRUE(fits || possible_.empty()) << "what was cut has neither happened nor not:\n" << expected;
  possible_.clear();
  remove_half_made();
}

// A directory without content may have its file in it or not.
void CrashWorker::remove_half_made() {
  std::erase_if(names_, [this](const auto& entry) {
    if (!entry.second->is_directory || !entry.second->content.empty()) return false;
    const int emptied = remove_surely([&] { return answer(::unlink((path(entry.first) + "/" + kInside).c_str())); });
    EXPECT_TRUE(emptied == 0 || emptied == ENOENT) << entry.first << ": " << std::strerror(emptied);
    EXPECT_EQ(remove_surely([&] { return answer(::rmdir(path(entry.first).c_str())); }), 0) << entry.first;
    return true;
  });
}

// For whoever has to find out what went wrong.
std::string CrashWorker::seen_now() const {
  std::string seen;
  for (int i = 0; i < 2; i++) {
    for (int n = 0; n < kNames; n++) {
      const std::string name = "d" + std::to_string(i) + "/n" + std::to_string(n);
      const ObjectPtr object = at(name);
      struct stat stat;
      const int error = answer(::lstat(path(name).c_str(), &stat));
      if (error == ENOENT && !object) continue;
      seen += "  " + name + ": " + (error == 0 ? "inode " + std::to_string(stat.st_ino) : std::strerror(error)) +
              (object ? ", should be " + shown(*object) : ", should not be") + "\n";
    }
  }
  return seen;
}

size_t CrashWorker::links_seen(const std::string& name) const {
  struct stat stat;
  return ::lstat(path(name).c_str(), &stat) == 0 ? stat.st_nlink : 0;
}

bool CrashWorker::links_are_right() const {
  return std::all_of(names_.begin(), names_.end(), [this](const auto& entry) {
    return entry.second->is_directory || links_seen(entry.first) == links_of(entry.second).size();
  });
}

void CrashWorker::check_all(Links links) {
  for (const auto& [name, object] : names_) {
    Object found;
    EXPECT_EQ(look(name, found), 0) << name;
    EXPECT_EQ(shown(found), shown(*object)) << name;
    if (object->is_directory) continue;
    const size_t seen = links_seen(name), wanted = links_of(object).size();
    EXPECT_TRUE(seen == wanted || (links == Links::kAtLeast && seen > wanted)) << name << " has " << seen << " links instead of " << wanted;
  }
  for (int i = 0; i < 4; i++) check_listing();
}

bool CrashWorker::create(const std::string& name) {
  const auto object = std::make_shared<Object>(Object{new_content(), 0644, "", false});
  Names empty = names_, whole = names_;
  const bool was_there = at(name) != nullptr;
  if (!was_there) {
    empty[name] = std::make_shared<Object>(Object{"", 0644, "", false});
    whole[name] = object;
  }
  const int result = write_new(path(name), object->content);
  if (result == 0) names_ = whole;
  return judge(result, was_there ? EEXIST : 0, "create " + name, {empty, whole});
}

bool CrashWorker::make_directory(const std::string& name) {
  const auto object = std::make_shared<Object>(Object{new_content(), 0755, "", true});
  Names bare = names_, empty = names_, whole = names_;
  const bool was_there = at(name) != nullptr;
  if (!was_there) {
    bare[name] = empty[name] = std::make_shared<Object>(Object{"", 0755, "", true});
    whole[name] = object;
  }
  int result = answer(::mkdir(path(name).c_str(), 0755));
  if (result == 0) result = write_new(path(name) + "/" + kInside, object->content);
  if (result == 0) names_ = whole;
  return judge(result, was_there ? EEXIST : 0, "mkdir " + name, {bare, empty, whole});
}

bool CrashWorker::append(const std::string& name) {
  const ObjectPtr object = at(name);
  const std::string more = "+" + std::to_string(random_() % 1000);
  int result = 0;
  const int fd = ::open(path(name).c_str(), O_WRONLY | O_APPEND | O_CLOEXEC);
  if (fd < 0) {
    result = errno;
  } else {
    const ssize_t wrote = ::write(fd, more.data(), more.size());
    result = wrote == static_cast<ssize_t>(more.size()) ? 0 : wrote < 0 ? errno : ENOSPC;
    ::close(fd);
  }
  Names after = names_;
  if (object && !object->is_directory) {
    auto changed = std::make_shared<Object>(*object);
    changed->content += more;
    for (const std::string& link : links_of(object)) after[link] = changed;
  }
  if (result == 0) names_ = after;
  return judge(result, !object ? ENOENT : object->is_directory ? EISDIR : 0, "append " + name, {after});
}

bool CrashWorker::remove(const std::string& name) {
  const ObjectPtr object = at(name);
  Names after = names_;
  after.erase(name);
  if (object && object->is_directory) {
    Names emptied = names_;
    emptied[name] = std::make_shared<Object>(*object);
    emptied[name]->content.clear();
    int result = answer(::unlink((path(name) + "/" + kInside).c_str()));
    if (result == 0) result = answer(::rmdir(path(name).c_str()));
    if (result == 0) names_ = after;
    return judge(result, 0, "remove directory " + name, {emptied, after});
  }
  const int result = answer(::unlink(path(name).c_str()));
  if (result == 0) names_ = after;
  return judge(result, object ? 0 : ENOENT, "unlink " + name, {after});
}

bool CrashWorker::rename(const std::string& from, const std::string& to) {
  const ObjectPtr object = at(from), replaced = at(to);
  Names after = names_;
  int expected = 0;
  if (!object) expected = ENOENT;
  else if (object == replaced) expected = 0;  // two names of one file: rename(2) does nothing
  else if (replaced && replaced->is_directory && !object->is_directory) expected = EISDIR;
  else if (replaced && !replaced->is_directory && object->is_directory) expected = ENOTDIR;
  else if (replaced && replaced->is_directory) expected = ENOTEMPTY;
  else after.erase(from), after[to] = object;
  const int result = answer(::rename(path(from).c_str(), path(to).c_str()));
  if (result == 0) names_ = after;
  return judge(result, expected, "rename " + from + " " + to, {after});
}

bool CrashWorker::exchange(const std::string& from, const std::string& to) {
  const ObjectPtr one = at(from), other = at(to);
  Names after = names_;
  if (one && other) after[from] = other, after[to] = one;
  const int result = answer(::renameat2(AT_FDCWD, path(from).c_str(), AT_FDCWD, path(to).c_str(), RENAME_EXCHANGE));
  if (result == 0) names_ = after;
  return judge(result, one && other ? 0 : ENOENT, "exchange " + from + " " + to, {after});
}

bool CrashWorker::link(const std::string& from, const std::string& to) {
  const ObjectPtr object = at(from);
  const int expected = !object ? ENOENT : at(to) ? EEXIST : object->is_directory ? EPERM : 0;
  Names after = names_;
  if (expected == 0) after[to] = object;
  const int result = answer(::link(path(from).c_str(), path(to).c_str()));
  if (result == 0) names_ = after;
  return judge(result, expected, "link " + from + " " + to, {after});
}

bool CrashWorker::change_mode(const std::string& name) {
  const ObjectPtr object = at(name);
  const unsigned mode = 0600 | static_cast<unsigned>(random_() % 0100) | (object && object->is_directory ? 0700 : 0);
  Names after = names_;
  if (object) {
    auto changed = std::make_shared<Object>(*object);
    changed->mode = mode;
    for (const std::string& link : links_of(object)) after[link] = changed;
  }
  const int result = answer(::chmod(path(name).c_str(), mode));
  if (result == 0) names_ = after;
  return judge(result, object ? 0 : ENOENT, "chmod " + name, {after});
}

bool CrashWorker::change_note(const std::string& name) {
  const ObjectPtr object = at(name);
  const std::string note = "n" + std::to_string(random_());
  Names after = names_;
  if (object) {
    auto changed = std::make_shared<Object>(*object);
    changed->note = note;
    for (const std::string& link : links_of(object)) after[link] = changed;
  }
  const int result = answer(::setxattr(path(name).c_str(), kNote, note.data(), note.size(), 0));
  if (result == 0) names_ = after;
  return judge(result, object ? 0 : ENOENT, "setxattr " + name, {after});
}

bool CrashWorker::check_listing() {
  const int which = static_cast<int>(random_() % 2);
  const std::string prefix = "d" + std::to_string(which) + "/";
  std::error_code error;
  std::multiset<std::string> found, expected;
  for (auto entry = fs::directory_iterator(directory(which), error); !error && entry != fs::directory_iterator(); entry.increment(error))
    found.insert(prefix + entry->path().filename().string());
  for (const auto& [name, object] : names_)
    if (name.starts_with(prefix)) expected.insert(name);
  if (!error) {
    EXPECT_EQ(found, expected);
  }
  return judge(error.value(), 0, "list " + prefix);
}

}  // namespace voldfs::test
