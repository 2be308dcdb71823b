#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <list>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "brick/base/unique_fd.h"
#include "tests/lib/mount.h"
#include "tests/mount/content_stress.h"
#include "tests/mount/tree_stress.h"

// Random operations, a few seconds of them. By hand for as long as one likes, and again what went wrong:
//   VOLDFS_STRESS_SECONDS=120 VOLDFS_SEED=12345 mount_tests --gtest_filter='*Stress*'
namespace voldfs::test {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kSecondsDefault = 2;
constexpr int kDeadlineMs = 30'000;
constexpr uint32_t kOtherUser = 1234;

uint64_t environment(const char* name, uint64_t otherwise) {
  const char* const text = std::getenv(name);
  return text ? std::strtoull(text, nullptr, 10) : otherwise;
}

// The options of each mount: operations go through them by turns.
struct Mounts {
  const char* name;
  std::vector<std::string> options;
  bool readers = false;  // each mount also looks at everything all the time, and so has its kernel keep what is about to change
};

// Lists, looks up, opens and reads all that is there, until this goes. What it sees is of no account.
class Reader {
 public:
  explicit Reader(const fs::path& top) : thread_([this, top] {
    while (!stop_) read_below(top);
  }) {}
  ~Reader() {
    stop_ = true;
    thread_.join();
  }

 private:
  void read_below(const fs::path& dir) {
    std::error_code gone;
    for (auto entry = fs::directory_iterator(dir, gone); !stop_ && entry != fs::directory_iterator(); entry.increment(gone)) {
      struct stat stat{};
      if (::lstat(entry->path().c_str(), &stat) != 0) continue;
      if (S_ISDIR(stat.st_mode)) read_below(entry->path());
      if (!S_ISREG(stat.st_mode)) continue;
      char bytes[4096];
      const unique_fd fd(::open(entry->path().c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC));
      if (fd && ::read(fd.get(), bytes, sizeof bytes) < 0) continue;
    }
  }

  std::atomic<bool> stop_ = false;
  std::thread thread_;
};

class Stress : public testing::TestWithParam<Mounts> {
 protected:
  Stress() {
    ::umask(022);
    for (const std::string& options : GetParam().options) mounts_.push_back(volume_.mount(options));
  }

  std::string how_to_repeat() const { return "repeat with VOLDFS_SEED=" + std::to_string(seed_) + "\n"; }

  // What the mounts do not show lies on the bricks: it must be right, and go with the files.
  void check_bricks() {
    check_offline();
    for (size_t i = 0; i < kBricks; i++) volume_.start_brick(i);
    const std::string mount = volume_.mount();
    for (const auto& entry : fs::directory_iterator(mount)) EXPECT_NO_THROW(fs::remove_all(entry.path())) << how_to_repeat();
    for (size_t i = 0; i < kBricks; i++) {
      const fs::path brick = volume_.brick_path(i);
      // What a client does after its answer, and what was open, is done soon.
      EXPECT_TRUE(wait_until(kDeadlineMs, [&] { return left_in(brick).empty(); }))
          << how_to_repeat() << brick << " keeps " << left_in(brick) << "\n" << volume_.logs();
    }
  }

  void check_offline() {
    for (size_t i = 0; i < mounts_.size(); i++) volume_.unmount(i);
    std::vector<std::string> arguments{"--map=" + volume_.map_file().string()};
    for (size_t i = 0; i < kBricks; i++) {
      EXPECT_EQ(volume_.brick(i).terminate(kDeadlineMs), 0);
      arguments.push_back(volume_.brick_path(i).string());
    }
    Process check("voldcheck", arguments, volume_.directory() / "voldcheck.log");
    ASSERT_TRUE(wait_until(kDeadlineMs, [&check] { return !check.is_running(); }));
    EXPECT_EQ(check.terminate(1000), 0) << how_to_repeat() << volume_.logs();
  }

  // What an empty volume's brick has that ought not to be there. Not directories: empty ones may stay on a brick that was only
  // on the way to something, until they are in the way themselves.
  static std::string left_in(const fs::path& brick) {
    std::string out;
    for (auto entry = fs::recursive_directory_iterator(brick); entry != fs::recursive_directory_iterator(); ++entry) {
      const std::string below = fs::relative(entry->path(), brick);
      const bool own = below.starts_with(".voldfs/");
      if (own && entry.depth() == 1 && below != ".voldfs/parked" && below != ".voldfs/open" && below != ".voldfs/txn")
        entry.disable_recursion_pending();
      if ((!own || entry.depth() > 1) && !entry->is_directory()) out += below + " ";
    }
    return out;
  }

  static constexpr size_t kBricks = 3;
  const uint64_t seed_ = environment("VOLDFS_SEED", std::random_device()());
  const std::chrono::milliseconds time_{environment("VOLDFS_STRESS_SECONDS", kSecondsDefault) * 1000};
  MountedVolume volume_{kBricks};
  std::vector<std::string> mounts_;
};

// One file after the other, each for a while, so that all bricks have some and states that last are left.
TEST_P(Stress, Content_ChangedAtRandom_IsWhatWasPutThere) {
  constexpr uint64_t kOperationsOfAFile = 1000;
  const auto end = std::chrono::steady_clock::now() + time_;
  uint64_t operations = 0;
  for (uint64_t file = 0;; file++) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(end - std::chrono::steady_clock::now());
    if (file > 0 && left.count() <= 0) break;
    ContentStress::Options options;
    for (const std::string& mount : mounts_) options.paths.push_back(mount + "/f" + std::to_string(file));
    options.seed = seed_ + file;
    options.time = left;
    options.operations_max = kOperationsOfAFile;
    ContentStress stress(options);
    ASSERT_EQ(stress.run(), "") << "repeat with VOLDFS_SEED=" << options.seed << "\n" << volume_.logs();
    operations += stress.operations();
  }
  RecordProperty("operations", static_cast<int>(operations));
  EXPECT_GT(operations, 0u);
  check_bricks();
}

TEST_P(Stress, Tree_ChangedAtRandom_IsAsOnTheLocalFileSystem) {
  TreeStress::Options options;
  options.local = volume_.native() / "tree";
  ASSERT_EQ(::mkdir(options.local.c_str(), 0777), 0);
  ASSERT_EQ(::mkdir((mounts_[0] + "/tree").c_str(), 0777), 0);
  for (const std::string& mount : mounts_) options.mounts.push_back(mount + "/tree");
  options.seed = seed_;
  options.time = time_;
  options.other_user = kOtherUser;
  options.others_read = GetParam().readers;
  TreeStress stress(options);
  std::list<Reader> readers;
  if (GetParam().readers)
    for (const std::string& top : options.mounts) readers.emplace_back(top);
  ASSERT_EQ(stress.run(), "") << how_to_repeat() << volume_.logs();
  RecordProperty("operations", static_cast<int>(stress.operations()));
  EXPECT_GT(stress.operations(), 0u);
  readers.clear();
  check_bricks();
}

// With the kernel's own access to the bricks' files, through the daemon on their host, and as from another host.
constexpr const char* kLocal = "";
constexpr const char* kDaemon = "passthrough=off";
constexpr const char* kTcp = "transport=tcp";
const Mounts kMounts[] = {{"Local", {kLocal}},
                          {"Daemon", {kDaemon}},
                          {"Tcp", {kTcp}},
                          {"TwoLocal", {kLocal, kLocal}},
                          {"TwoTcp", {kTcp, kTcp}},
                          {"LocalAndTcp", {kLocal, kTcp}},
                          {"DaemonLocalAndTcp", {kDaemon, kLocal, kTcp}},
                          {"TwoWithReaders", {kLocal, kTcp}, true},
                          {"Ten", {kLocal, kTcp, kLocal, kTcp, kDaemon, kTcp, kLocal, kTcp, kDaemon, kTcp}},
                          {"TenWithReaders", {kLocal, kTcp, kLocal, kTcp, kDaemon, kTcp, kLocal, kTcp, kDaemon, kTcp}, true}};
INSTANTIATE_TEST_SUITE_P(All, Stress, testing::ValuesIn(kMounts), [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace voldfs::test
