#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <functional>
#include <random>
#include <thread>

#include "tests/lib/crash_shared.h"
#include "tests/lib/crash_worker.h"
#include "tests/lib/mount.h"

// Bricks and clients are killed, stopped and cut off at random instants under a workload of two mounts, whose every result is known outside
// of the file system. A worker has a directory tree of its own, so that it alone decides what is there; besides, all add to one number
// under a lock and append to one file.
//
// By hand, for as long as one likes and with the instants of a failed run:
//   VOLDFS_CRASH_SECONDS=3600 VOLDFS_SEED=N tests/mount_tests --gtest_filter='Crash*'
namespace voldfs::test {
namespace {

namespace fs = std::filesystem;

constexpr int kWorkers = 4;
constexpr int kStopMsMax = 1'500;  // shorter than a lease
constexpr int kShortLeaseMs = 1'000;  // and one that is not
constexpr int kMaintainedMs = 120'000;  // of which the bricks' maintenance lets pass a minute
constexpr uint64_t kSeconds = 8, kSecondsSlow = 40;
// One mount reads and writes the files of bricks itself where it can, the other one by way of the bricks, over connections that can be cut.
constexpr const char* kMountOptions[] = {"", "transport=tcp"};

uint64_t environment(const char* name, uint64_t otherwise) {
  const char* const text = std::getenv(name);
  return text ? std::strtoull(text, nullptr, 10) : otherwise;
}

class CrashFault : public testing::Test {
 protected:
  explicit CrashFault(uint64_t seconds = kSeconds) {
    std::random_device device;
    seed_ = environment("VOLDFS_SEED", device());
    RecordProperty("seed", std::to_string(seed_));
    random_.seed(seed_);
    until_ = std::chrono::steady_clock::now() + std::chrono::seconds(environment("VOLDFS_CRASH_SECONDS", seconds));
  }

  // Two mounts at work, while one fault after the other happens, until the time is over.
  void work_under(MountedVolume& volume, const std::vector<fs::path>& mounts, const std::function<void()>& fault, bool may_have_orphans = false);
  void kill_bricks();
  void stop_and_cut_off();
  void kill_client();
  void stop_beyond_leases();

  bool time_is_over() const { return std::chrono::steady_clock::now() >= until_ || HasFailure(); }
  uint64_t random(uint64_t below) { return random_() % below; }

  // Workers take turns at the mounts; a client of the shared files on each.
  void make_workers(const std::vector<fs::path>& mounts) {
    for (size_t i = 0; i < kWorkers; i++) {
      const fs::path root = mounts[i % mounts.size()] / ("w" + std::to_string(i));
      ASSERT_EQ(::mkdir(root.c_str(), 0755), 0) << std::strerror(errno);
      workers_.push_back(std::make_unique<CrashWorker>(root, random_()));
      workers_.back()->begin();
    }
    CrashShared::begin(mounts[0]);
    for (const fs::path& mount : mounts)
      shared_.push_back(std::make_unique<CrashShared>(mount, "client" + std::to_string(shared_.size())));
  }

  template <class Each>
  static std::thread repeat(Each* each, const std::atomic<bool>& stop) {
    return std::thread([each, &stop] {
      while (!stop && each->step()) {
      }
    });
  }

  // Workers at work until `stop`, or until their mount is gone.
  std::vector<std::thread> set_to_work(const std::atomic<bool>& stop) {
    std::vector<std::thread> threads;
    for (auto& worker : workers_) threads.push_back(repeat(worker.get(), stop));
    for (auto& shared : shared_) threads.push_back(repeat(shared.get(), stop));
    return threads;
  }

  void pause(uint64_t milliseconds_max) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(random(milliseconds_max));
    wait_until(static_cast<int>(milliseconds_max), [end] { return std::chrono::steady_clock::now() >= end; });
  }

  void check_results(MountedVolume& volume, const fs::path& mount) {
    for (auto& worker : workers_) {
      worker->check_all();
      EXPECT_GT(worker->operations(), 0u);
    }
    if (!shared_.empty()) CrashShared::check(mount, shared_);
    shared_.clear();
    if (HasFailure()) FAIL() << how_to_repeat() << "\n" << volume.logs();
  }

  std::string how_to_repeat() const { return "repeat with VOLDFS_SEED=" + std::to_string(seed_); }

  // A client that was killed may leave a file that no name leads to (dht/README.md); maintenance parks it in its time.
  void check_bricks(MountedVolume& volume, bool may_have_orphans = false) {
    EXPECT_EQ(volume.check_bricks(may_have_orphans), 0) << how_to_repeat() << "\n" << volume.logs();
  }

  uint64_t seed_ = 0;
  std::mt19937_64 random_;
  std::chrono::steady_clock::time_point until_;
  std::vector<std::unique_ptr<CrashWorker>> workers_;
  std::vector<std::unique_ptr<CrashShared>> shared_;
};

void CrashFault::work_under(MountedVolume& volume, const std::vector<fs::path>& mounts, const std::function<void()>& fault, bool may_have_orphans) {
  std::atomic<bool> stop = false;
  auto threads = set_to_work(stop);
  int faults = 0;
  for (; !time_is_over(); faults++) fault();
  stop = true;
  for (auto& thread : threads) thread.join();
  RecordProperty("faults", faults);
  ASSERT_NO_FATAL_FAILURE(check_results(volume, mounts[0]));
  for (size_t i = 0; i < mounts.size(); i++) volume.unmount(i);
  check_bricks(volume, may_have_orphans);
}

void CrashFault::kill_bricks() {
  MountedVolume volume;
  const std::vector<fs::path> mounts{volume.mount(kMountOptions[0]), volume.mount(kMountOptions[1])};
  make_workers(mounts);
  work_under(volume, mounts, [&] {
    const bool both = random(8) == 0;
    const size_t brick = random(2);
    pause(400);
    volume.kill_brick(brick);
    if (both) volume.kill_brick(1 - brick);
    pause(100);
    volume.start_brick(brick);
    if (both) volume.start_brick(1 - brick);
  });
}

// Processes that are stopped for a while, and connections that the network loses.
void CrashFault::stop_and_cut_off() {
  MountedVolume volume;
  const std::vector<fs::path> mounts{volume.mount(kMountOptions[0]), volume.mount(kMountOptions[1])};
  make_workers(mounts);
  work_under(volume, mounts, [&] {
    pause(300);
    const uint64_t kind = random(6);
    if (kind < 4) return volume.cut_connections(random(2));
    const size_t which = random(2);
    const pid_t pid = kind == 4 ? volume.brick(which).pid() : volume.client(which).pid();
    if (random(2) == 0) volume.cut_connections(random(2));  // not while one is stopped, for it runs a program: the exec closes files
    ::kill(pid, SIGSTOP);
    pause(kStopMsMax);
    ::kill(pid, SIGCONT);
  });
}

// Clients and bricks that are stopped for longer than a lease. What they had under way may answer EIO, and has happened or not; no
// other answer is wrong, and nothing is missing.
void CrashFault::stop_beyond_leases() {
  MountedVolume volume(MountedVolume::Options{2, {"--lease-ms=" + std::to_string(kShortLeaseMs)}, {}});
  const std::vector<fs::path> mounts{volume.mount(kMountOptions[0]), volume.mount(kMountOptions[1])};
  make_workers(mounts);
  shared_.clear();  // a lock ends with its session
  for (auto& worker : workers_) worker->answers_may_be_lost();
  const auto fault = [&] {
    pause(300);
    const size_t which = random(2);
    const pid_t pid = random(4) == 0 ? volume.brick(which).pid() : volume.client(which).pid();
    ::kill(pid, SIGSTOP);
    pause(2 * kShortLeaseMs);
    ::kill(pid, SIGCONT);
  };
  work_under(volume, mounts, fault, true);
}

void CrashFault::kill_client() {
  MountedVolume volume;
  fs::path mount = volume.mount();
  make_workers({mount});
  shared_.clear();
  int kills = 0;
  while (!time_is_over()) {
    std::atomic<bool> stop = false;
    auto threads = set_to_work(stop);
    pause(500);
    const size_t brick = random(2);
    const bool brick_too = random(3) == 0;
    if (brick_too) volume.kill_brick(brick);
    volume.client(static_cast<size_t>(kills)).kill_hard();
    for (auto& thread : threads) thread.join();
    if (brick_too) volume.start_brick(brick);
    volume.unmount(static_cast<size_t>(kills));
    kills++;
    mount = volume.mount();
    for (size_t i = 0; i < kWorkers; i++) {
      workers_[i]->move_to(mount / ("w" + std::to_string(i)));
      workers_[i]->settle();
      workers_[i]->check_all(CrashWorker::Links::kAtLeast);
    }
  }
  RecordProperty("kills", kills);
  // Maintenance finds what they have left.
  for (auto& worker : workers_) EXPECT_TRUE(wait_until(kMaintainedMs, [&] { return worker->links_are_right(); })) << how_to_repeat();
  ASSERT_NO_FATAL_FAILURE(check_results(volume, mount));
  volume.unmount(static_cast<size_t>(kills));
  check_bricks(volume, true);
}

TEST_F(CrashFault, Bricks_KilledAtRandom_NoResultChanges) { kill_bricks(); }
TEST_F(CrashFault, StoppedAndCutOffAtRandom_NoResultChanges) { stop_and_cut_off(); }
TEST_F(CrashFault, StoppedBeyondTheirLeases_NothingLostAndNoFalseAnswer) { stop_beyond_leases(); }
TEST_F(CrashFault, Client_KilledAtRandom_OldOrNewState) { kill_client(); }

class CrashFaultSlow : public CrashFault {
 protected:
  CrashFaultSlow() : CrashFault(kSecondsSlow) {}
};

TEST_F(CrashFaultSlow, Bricks_KilledAtRandom_NoResultChanges) { kill_bricks(); }
TEST_F(CrashFaultSlow, StoppedAndCutOffAtRandom_NoResultChanges) { stop_and_cut_off(); }
TEST_F(CrashFaultSlow, StoppedBeyondTheirLeases_NothingLostAndNoFalseAnswer) { stop_beyond_leases(); }
TEST_F(CrashFaultSlow, Client_KilledAtRandom_OldOrNewState) { kill_client(); }

}  // namespace
}  // namespace voldfs::test
