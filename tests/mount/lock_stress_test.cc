#include <fcntl.h>
#include <gmock/gmock.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "tests/lib/mount.h"

// Random locks of several processes on one file, through several mounts, against a model that knows each byte's holders.
// Longer and again: VOLDFS_STRESS_SECONDS, VOLDFS_SEED.
namespace voldfs::test {
namespace {

constexpr int kDeadlineMs = 20'000;
constexpr size_t kWorkers = 6;
constexpr off_t kBytes = 24;

uint64_t environment(const char* name, uint64_t otherwise) {
  const char* const text = std::getenv(name);
  return text ? std::strtoull(text, nullptr, 10) : otherwise;
}

enum class Ask { kSet, kSetWait, kGet, kFlock, kReopen };
struct Order {
  Ask ask;
  struct flock lock;
  int flock_operation;
};
struct Answer {
  int error;
  struct flock lock;
};

struct flock range(short type, off_t start, off_t size) {
  struct flock lock {};
  lock.l_type = type, lock.l_whence = SEEK_SET, lock.l_start = start, lock.l_len = size;
  return lock;
}

// A process that does as it is told with a descriptor of its own.
class Worker {
 public:
  explicit Worker(const std::string& path) {
    int ends[2];
    if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) std::abort();
    child_ = std::make_unique<Child>([&] { return serve(path, ends[1]); });
    ::close(ends[1]);
    socket_ = ends[0];
  }
  ~Worker() { ::close(socket_); }
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  pid_t pid() const { return child_->pid(); }
  void tell(const Order& order) { ASSERT_EQ(::send(socket_, &order, sizeof order, 0), static_cast<ssize_t>(sizeof order)); }
  bool has_answered(int wait_ms) {
    pollfd one{socket_, POLLIN, 0};
    return ::poll(&one, 1, wait_ms) == 1;
  }
  // errno ETIME: none came.
  Answer answer() {
    Answer out{ETIME, {}};
    if (has_answered(kDeadlineMs) && ::recv(socket_, &out, sizeof out, 0) != static_cast<ssize_t>(sizeof out)) out.error = EPIPE;
    return out;
  }

 private:
  static int serve(const std::string& path, int socket) {
    int fd = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
    Order order;
    while (fd >= 0 && ::recv(socket, &order, sizeof order, 0) == static_cast<ssize_t>(sizeof order)) {
      Answer out{0, order.lock};
      int done = 0;
      switch (order.ask) {
        case Ask::kSet: done = ::fcntl(fd, F_SETLK, &out.lock); break;
        case Ask::kSetWait: done = ::fcntl(fd, F_SETLKW, &out.lock); break;
        case Ask::kGet: done = ::fcntl(fd, F_GETLK, &out.lock); break;
        case Ask::kFlock: done = ::flock(fd, order.flock_operation | LOCK_NB); break;
        case Ask::kReopen: done = ::close(fd) == 0 && (fd = ::open(path.c_str(), O_RDWR | O_CLOEXEC)) >= 0 ? 0 : -1; break;
      }
      if (done < 0) out.error = errno;
      if (::send(socket, &out, sizeof out, MSG_NOSIGNAL) < 0) return 1;
    }
    return fd < 0;
  }

  std::unique_ptr<Child> child_;
  int socket_ = -1;
};

// What each worker holds: F_UNLCK, F_RDLCK or F_WRLCK of each byte, and of the whole by flock(2).
class Model {
 public:
  Model() {
    for (auto& bytes : held_) bytes.fill(F_UNLCK);
  }
  bool conflicts(size_t who, const struct flock& lock) const {
    for (size_t other = 0; other < kWorkers; ++other)
      for (off_t at = lock.l_start; other != who && at < lock.l_start + lock.l_len; ++at)
        if (held_[other][at] == F_WRLCK || (held_[other][at] == F_RDLCK && lock.l_type == F_WRLCK)) return true;
    return false;
  }
  void set(size_t who, const struct flock& lock) {
    for (off_t at = lock.l_start; at < lock.l_start + lock.l_len; ++at) held_[who][at] = lock.l_type;
  }
  bool holds(size_t who, short type, off_t at) const { return at >= 0 && at < kBytes && held_[who][at] == type; }
  // 0, or EWOULDBLOCK. Changing a lock gives it up first (flock(2)), which is seen when another is in the way.
  int flock(size_t who, int operation) {
    whole_[who] = LOCK_UN;
    if (operation == LOCK_UN) return 0;
    for (const int other : whole_)
      if (other == LOCK_EX || (other == LOCK_SH && operation == LOCK_EX)) return EWOULDBLOCK;
    whole_[who] = operation;
    return 0;
  }
  bool holds_whole(size_t who) const { return whole_[who] != LOCK_UN; }
  void closed(size_t who) { held_[who].fill(F_UNLCK), whole_[who] = LOCK_UN; }

 private:
  std::array<std::array<short, kBytes>, kWorkers> held_;
  std::array<int, kWorkers> whole_{LOCK_UN, LOCK_UN, LOCK_UN, LOCK_UN, LOCK_UN, LOCK_UN};
};

struct Mounts {
  const char* name;
  std::vector<std::string> options;
};

class LockStress : public testing::TestWithParam<Mounts> {
 protected:
  void begin() {
    std::vector<std::string> mounts;
    for (const std::string& options : GetParam().options) mounts.push_back(volume_.mount(options));
    const int fd = ::open((mounts[0] + "/f").c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600);
    ASSERT_GE(fd, 0);
    ::close(fd);
    for (size_t i = 0; i < kWorkers; ++i) workers_.push_back(std::make_unique<Worker>(mounts[i % mounts.size()] + "/f"));
  }

  struct flock random_range() {
    const short types[] = {F_RDLCK, F_WRLCK, F_WRLCK, F_UNLCK, F_UNLCK};
    const auto start = static_cast<off_t>(random_() % kBytes);
    return range(types[random_() % std::size(types)], start, 1 + static_cast<off_t>(random_() % static_cast<uint64_t>(kBytes - start)));
  }
  Answer ask(size_t who, const Order& order) {
    workers_[who]->tell(order);
    return workers_[who]->answer();
  }

  void step() {
    const size_t who = random_() % kWorkers;
    if (who == waiting_) return;
    switch (random_() % 10) {
      case 0: return get(who);
      case 1: return flock(who);
      case 2:
        // The kernel tells of the end of an open file, and so of its flock(2), after close(2) has returned.
        if (random_() % 4 || model_.holds_whole(who)) return get(who);
        EXPECT_EQ(ask(who, {Ask::kReopen, {}, 0}).error, 0);
        return model_.closed(who);
      case 3: case 4: return set(who, true);
      default: return set(who, false);
    }
  }

  void set(size_t who, bool wait) {
    const struct flock lock = random_range();
    const bool blocked = lock.l_type != F_UNLCK && model_.conflicts(who, lock);
    if (wait && blocked) {
      if (waiting_ != kNobody) return;  // one at a time: two could wait for each other
      workers_[who]->tell({Ask::kSetWait, lock, 0});
      waiting_ = who, wanted_ = lock;
      return;
    }
    EXPECT_EQ(ask(who, {wait ? Ask::kSetWait : Ask::kSet, lock, 0}).error, blocked ? EAGAIN : 0);
    if (!blocked) model_.set(who, lock);
  }

  void get(size_t who) {
    struct flock lock = random_range();
    if (lock.l_type == F_UNLCK) lock.l_type = F_WRLCK;
    const Answer found = ask(who, {Ask::kGet, lock, 0});
    EXPECT_EQ(found.error, 0);
    if (!model_.conflicts(who, lock)) {
      EXPECT_EQ(found.lock.l_type, F_UNLCK);
      return;
    }
    size_t holder = 0;
    while (holder < kWorkers && workers_[holder]->pid() != found.lock.l_pid) ++holder;
    ASSERT_LT(holder, kWorkers) << found.lock.l_pid;
    EXPECT_NE(holder, who);
    for (off_t at = found.lock.l_start; at < found.lock.l_start + std::max<off_t>(found.lock.l_len, 1); ++at)
      EXPECT_TRUE(model_.holds(holder, found.lock.l_type, at)) << at;
  }

  void flock(size_t who) {
    const int operations[] = {LOCK_SH, LOCK_EX, LOCK_UN};
    const int operation = operations[random_() % 3];
    EXPECT_EQ(ask(who, {Ask::kFlock, {}, operation}).error, model_.flock(who, operation));
  }

  // Who waits gets the lock when nothing is in its way any more, and not before.
  void look_at_waiter() {
    if (waiting_ == kNobody) return;
    if (model_.conflicts(waiting_, wanted_)) {
      EXPECT_FALSE(workers_[waiting_]->has_answered(0));
      return;
    }
    EXPECT_EQ(workers_[waiting_]->answer().error, 0);
    model_.set(waiting_, wanted_);
    waiting_ = kNobody;
  }

  static constexpr size_t kNobody = kWorkers;
  const uint64_t seed_ = environment("VOLDFS_SEED", std::random_device()());
  std::mt19937_64 random_{seed_};
  MountedVolume volume_;
  Model model_;
  std::vector<std::unique_ptr<Worker>> workers_;
  size_t waiting_ = kNobody;
  struct flock wanted_ {};
};

TEST_P(LockStress, RandomLocks_OfManyProcesses_AreAsTheModelSays) {
  ASSERT_NO_FATAL_FAILURE(begin());
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(environment("VOLDFS_STRESS_SECONDS", 2));
  uint64_t steps = 0;
  for (; std::chrono::steady_clock::now() < end && !HasFailure(); ++steps) {
    step();
    look_at_waiter();
  }
  EXPECT_GT(steps, 0u);
  if (HasFailure()) FAIL() << "step " << steps << ", repeat with VOLDFS_SEED=" << seed_ << "\n" << volume_.logs();
  RecordProperty("steps", static_cast<int>(steps));
}

constexpr const char* kLocal = "";
constexpr const char* kTcp = "transport=tcp";
const Mounts kMounts[] = {{"One", {kTcp}}, {"Two", {kLocal, kTcp}}, {"Three", {kTcp, kTcp, kLocal}}};
INSTANTIATE_TEST_SUITE_P(All, LockStress, testing::ValuesIn(kMounts), [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace voldfs::test
