#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <random>
#include <set>
#include <thread>

#include "tests/lib/mount.h"

// Bricks and clients are killed at random instants under a workload whose every result is known outside of the file
// system. A worker has a directory tree of its own, so that it alone decides what is there.
//
// By hand, for as long as one likes and with the instants of a failed run:
//   VOLDFS_CRASH_SECONDS=3600 VOLDFS_SEED=N tests/mount_tests --gtest_filter='Crash*'
namespace voldfs::test {
namespace {

namespace fs = std::filesystem;

constexpr int kWorkers = 3;
constexpr int kNames = 12;           // of a worker, in each of its directories
constexpr int kSecondsDefault = 15;

uint64_t environment(const char* name, uint64_t otherwise) {
  const char* const text = std::getenv(name);
  return text ? std::strtoull(text, nullptr, 10) : otherwise;
}

// What one worker knows to be there: names of its two directories, and what each file holds.
class Worker {
 public:
  Worker(fs::path root, uint64_t seed) : root_(std::move(root)), random_(seed) {}

  // The same tree, through another mount.
  void move_to(fs::path root) { root_ = std::move(root); }

  void begin() {
    for (int i = 0; i < 2; i++) ASSERT_EQ(::mkdir(directory(i).c_str(), 0755), 0) << std::strerror(errno);
  }

  // One operation. False: the mount is gone, and the operation may or may not have happened.
  bool step() {
    const std::string from = name(), to = name();
    switch (random_() % 8) {
      case 0: case 1: return create(from);
      case 2: return remove(from);
      case 3: case 4: return rename(from, to);
      case 5: return link(from, to);
      case 6: return append(from);
      default: return check_listing();
    }
  }

  // What became of the operation that was cut.
  void settle() {
    for (const std::string& each : doubtful_) {
      std::string found;
      const int error = read(each, found);
      ASSERT_TRUE(error == 0 || error == ENOENT) << each << ": " << std::strerror(error);
      const auto& allowed = possible_[each];
      const std::string state = error == ENOENT ? kMissing : found;
      EXPECT_TRUE(allowed.contains(state)) << each << " is \"" << state << "\"";
      files_.erase(each);
      if (error == 0 && !found.empty()) files_[each] = found;
      // Created and not written: contents tell hard links, so it goes.
      EXPECT_TRUE(error != 0 || !found.empty() || ::unlink(path(each).c_str()) == 0) << std::strerror(errno);
    }
    // A rename has happened on both names or on neither.
    const bool is_change = cut_rename_ && cut_to_ != cut_from_ && cut_from_had_ != cut_to_had_;
    EXPECT_FALSE(is_change && files_.contains(cut_from_) && state(cut_to_) == cut_from_had_)
        << cut_from_ << " and " << cut_to_ << " both lead to the renamed file";
    doubtful_.clear();
    possible_.clear();
    cut_rename_ = false;
  }

  void check_all() {
    for (const auto& [name, content] : files_) {
      std::string found;
      EXPECT_EQ(read(name, found), 0) << name;
      EXPECT_EQ(found, content) << name;
    }
    check_listing();
  }

  uint64_t operations() const { return operations_; }

 private:
  static inline const std::string kMissing = "(missing)";

  std::string directory(int i) const { return (root_ / ("d" + std::to_string(i))).string(); }
  std::string path(const std::string& name) const { return (root_ / name).string(); }
  std::string name() { return "d" + std::to_string(random_() % 2) + "/n" + std::to_string(random_() % kNames); }
  std::string state(const std::string& name) const { return files_.contains(name) ? files_.at(name) : kMissing; }
  // ENOTCONN and ECONNABORTED: the client was killed. (EIO would be a lost file.)
  // ECANCELED, EINTR: the kernel ends so what a killed client had taken over io_uring.
  static bool gone() { return errno == ENOTCONN || errno == ECONNABORTED || errno == ENODEV || errno == ECANCELED || errno == EINTR; }

  bool cut(std::initializer_list<std::string> names, const std::map<std::string, std::set<std::string>>& after) {
    for (const std::string& each : names) {
      doubtful_.insert(each);
      possible_[each] = after.contains(each) ? after.at(each) : std::set<std::string>{};
      possible_[each].insert(state(each));
    }
    return false;
  }

  bool create(const std::string& name) {
    const std::string content = "c" + std::to_string(++made_) + "." + std::to_string(random_());
    const int fd = ::open(path(name).c_str(), O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0644);
    if (fd < 0 && gone()) return cut({name}, {{name, {""}}});
    if (files_.contains(name)) {
      EXPECT_TRUE(fd < 0 && errno == EEXIST) << "create " << name << ": " << std::strerror(errno);
      if (fd >= 0) ::close(fd);
      return done();
    }
    EXPECT_GE(fd, 0) << "create " << name << ": " << std::strerror(errno);
    if (fd < 0) return done();
    const ssize_t wrote = ::write(fd, content.data(), content.size());
    const bool lost = wrote < 0 && gone();
    EXPECT_TRUE(lost || wrote == static_cast<ssize_t>(content.size())) << std::strerror(errno);
    ::close(fd);
    if (lost) return cut({name}, {{name, {"", content}}});
    files_[name] = content;
    return done();
  }

  bool append(const std::string& name) {
    const std::string more = "+" + std::to_string(random_() % 1000);
    const int fd = ::open(path(name).c_str(), O_WRONLY | O_APPEND | O_CLOEXEC);
    if (fd < 0 && gone()) return cut({name}, {});
    if (!files_.contains(name)) {
      EXPECT_TRUE(fd < 0 && errno == ENOENT) << "open " << name << ": " << std::strerror(errno);
      if (fd >= 0) ::close(fd);
      return done();
    }
    EXPECT_GE(fd, 0) << "open " << name << ": " << std::strerror(errno);
    if (fd < 0) return done();
    const ssize_t wrote = ::write(fd, more.data(), more.size());
    const bool lost = wrote < 0 && gone();
    EXPECT_TRUE(lost || wrote == static_cast<ssize_t>(more.size())) << std::strerror(errno);
    ::close(fd);
    const std::string before = files_[name];
    // Every hard link of the file shows it.
    for (auto& [other, content] : files_) {
      if (content != before) continue;
      if (lost) cut({other}, {{other, {before + more}}});
      else content = before + more;
    }
    return !lost && done();
  }

  bool remove(const std::string& name) {
    const int result = ::unlink(path(name).c_str());
    if (result != 0 && gone()) return cut({name}, {{name, {kMissing}}});
    const int expected = files_.contains(name) ? 0 : ENOENT;
    EXPECT_EQ(result == 0 ? 0 : errno, expected) << "unlink " << name;
    files_.erase(name);
    return done();
  }

  bool rename(const std::string& from, const std::string& to) {
    const std::string before = state(from), replaced = state(to);
    const int result = ::rename(path(from).c_str(), path(to).c_str());
    if (result != 0 && gone()) {
      if (before == kMissing) return cut({from, to}, {});
      cut_rename_ = true, cut_from_ = from, cut_to_ = to, cut_from_had_ = before, cut_to_had_ = replaced;
      return cut({from, to}, {{from, {kMissing}}, {to, {before}}});
    }
    EXPECT_EQ(result == 0 ? 0 : errno, before == kMissing ? ENOENT : 0) << "rename " << from << " " << to;
    // Two names of one file: rename(2) does nothing.
    if (before == kMissing || before == replaced || from == to) return done();
    files_.erase(from);
    files_[to] = before;
    return done();
  }

  bool link(const std::string& from, const std::string& to) {
    const std::string before = state(from);
    const int result = ::link(path(from).c_str(), path(to).c_str());
    if (result != 0 && gone()) return before == kMissing || files_.contains(to) ? cut({from, to}, {}) : cut({from, to}, {{to, {before}}});
    const int expected = before == kMissing ? ENOENT : files_.contains(to) ? EEXIST : 0;
    EXPECT_EQ(result == 0 ? 0 : errno, expected) << "link " << from << " " << to;
    if (expected == 0) files_[to] = before;
    return done();
  }

  bool check_listing() {
    const int which = static_cast<int>(random_() % 2);
    const std::string prefix = "d" + std::to_string(which) + "/";
    std::error_code error;
    std::multiset<std::string> found;
    for (auto at = fs::directory_iterator(directory(which), error); !error && at != fs::directory_iterator(); at.increment(error))
      found.insert(prefix + at->path().filename().string());
    if (error) {
      errno = error.value();
      EXPECT_TRUE(gone()) << "list " << directory(which) << ": " << error.message();
      return false;
    }
    std::multiset<std::string> expected;
    for (const auto& [name, content] : files_)
      if (name.starts_with(prefix)) expected.insert(name);
    EXPECT_EQ(found, expected);
    return done();
  }

  int read(const std::string& name, std::string& content) const {
    const int fd = ::open(path(name).c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) return errno;
    char buffer[4096];
    const ssize_t size = ::read(fd, buffer, sizeof buffer);
    const int error = size < 0 ? errno : 0;
    ::close(fd);
    content.assign(buffer, static_cast<size_t>(std::max<ssize_t>(size, 0)));
    return error;
  }

  bool done() {
    operations_++;
    return true;
  }

  fs::path root_;
  std::mt19937_64 random_;
  std::map<std::string, std::string> files_;   // name to content; contents are unique, but for hard links
  std::set<std::string> doubtful_;
  std::map<std::string, std::set<std::string>> possible_;
  bool cut_rename_ = false;
  std::string cut_from_, cut_to_, cut_from_had_, cut_to_had_;
  uint64_t made_ = 0, operations_ = 0;
};

class CrashFault : public testing::Test {
 protected:
  CrashFault() {
    std::random_device device;
    seed_ = environment("VOLDFS_SEED", device());
    RecordProperty("seed", std::to_string(seed_));
    random_.seed(seed_);
    until_ = std::chrono::steady_clock::now() + std::chrono::seconds(environment("VOLDFS_CRASH_SECONDS", kSecondsDefault));
  }

  bool time_is_over() const { return std::chrono::steady_clock::now() >= until_ || HasFailure(); }

  void make_workers(const fs::path& mount) {
    for (int i = 0; i < kWorkers; i++) {
      const fs::path root = mount / ("w" + std::to_string(i));
      ASSERT_EQ(::mkdir(root.c_str(), 0755), 0) << std::strerror(errno);
      workers_.push_back(std::make_unique<Worker>(root, random_()));
      workers_.back()->begin();
    }
  }

  // All workers at work until `stop`, or until their mount is gone.
  std::vector<std::thread> set_to_work(const std::atomic<bool>& stop) {
    std::vector<std::thread> threads;
    for (auto& worker : workers_)
      threads.emplace_back([&worker, &stop] {
        while (!stop && worker->step()) {
        }
      });
    return threads;
  }

  void pause(int milliseconds_max) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(random_() % static_cast<unsigned>(milliseconds_max));
    wait_until(milliseconds_max, [end] { return std::chrono::steady_clock::now() >= end; });
  }

  std::string how_to_repeat() const { return "repeat with VOLDFS_SEED=" + std::to_string(seed_); }

  // Nothing that the mount has shown tells what lies on the bricks.
  void check_bricks(MountedVolume& volume) {
    std::vector<std::string> arguments{"--map=" + volume.map_file().string()};
    for (size_t i = 0; i < 2; i++) {
      volume.kill_brick(i);
      arguments.push_back(volume.brick_path(i).string());
    }
    const fs::path log = volume.directory() / "voldcheck.log";
    Process check("voldcheck", arguments, log);
    ASSERT_TRUE(wait_until(30'000, [&check] { return !check.is_running(); }));
    EXPECT_EQ(check.terminate(1000), 0) << how_to_repeat() << "\n" << volume.logs();
  }

  uint64_t seed_ = 0;
  std::mt19937_64 random_;
  std::chrono::steady_clock::time_point until_;
  std::vector<std::unique_ptr<Worker>> workers_;
};

TEST_F(CrashFault, Bricks_KilledAtRandom_NoResultChanges) {
  MountedVolume volume;
  const fs::path mount = volume.mount();
  make_workers(mount);
  std::atomic<bool> stop = false;
  auto threads = set_to_work(stop);
  int kills = 0;
  while (!time_is_over()) {
    const size_t brick = random_() % 2;
    pause(400);
    volume.kill_brick(brick);
    pause(100);
    volume.start_brick(brick);
    kills++;
  }
  stop = true;
  for (auto& thread : threads) thread.join();
  uint64_t operations = 0;
  for (auto& worker : workers_) {
    worker->check_all();
    operations += worker->operations();
  }
  RecordProperty("kills", kills);
  EXPECT_GT(operations, 0u);
  if (HasFailure()) FAIL() << how_to_repeat() << "\n" << volume.logs();
  volume.unmount(0);
  check_bricks(volume);
}

TEST_F(CrashFault, Client_KilledAtRandom_OldOrNewState) {
  MountedVolume volume;
  fs::path mount = volume.mount();
  make_workers(mount);
  int kills = 0;
  while (!time_is_over()) {
    std::atomic<bool> stop = false;
    auto threads = set_to_work(stop);
    pause(500);
    volume.client(static_cast<size_t>(kills)).kill_hard();
    for (auto& thread : threads) thread.join();
    volume.unmount(static_cast<size_t>(kills));
    kills++;
    mount = volume.mount();
    for (int i = 0; i < kWorkers; i++) {
      workers_[static_cast<size_t>(i)]->move_to(mount / ("w" + std::to_string(i)));
      workers_[static_cast<size_t>(i)]->settle();
      workers_[static_cast<size_t>(i)]->check_all();
    }
  }
  RecordProperty("kills", kills);
  if (HasFailure()) FAIL() << how_to_repeat() << "\n" << volume.logs();
  volume.unmount(static_cast<size_t>(kills));
  check_bricks(volume);
}

}  // namespace
}  // namespace voldfs::test
