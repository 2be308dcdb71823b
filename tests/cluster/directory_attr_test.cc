#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include <array>
#include <string>

#include "tests/lib/cluster.h"

// What a stat shows of a directory that lies on several bricks, while one of them is away and after it is back.
namespace voldfs::test {
namespace {

const dht::Caller kRoot{};
constexpr int64_t kLongAgo = 1'000'000'000;

int code(const auto& result) { return result ? 0 : result.error().code; }

class DirectoryAttrFault : public testing::TestWithParam<uint16_t> {
 protected:
  static constexpr uint16_t kBricks = 3, kHome = 1;

  void SetUp() override {
    name_ = cluster_.name_at(kHome, volume_->root(), "dir");
    auto made = volume_->mkdir(volume_->root(), name_, 0755, kRoot);
    ASSERT_EQ(code(made), 0);
    dir_ = made->node;
    // A file and a directory on each brick.
    for (uint16_t ordinal = 1; ordinal <= kBricks; ++ordinal) {
      ASSERT_EQ(code(create(cluster_.name_at(ordinal, dir_, "f"))), 0);
      ASSERT_EQ(code(volume_->mkdir(dir_, cluster_.name_at(ordinal, dir_, "d"), 0755, kRoot)), 0);
    }
  }

  Result<void> create(const std::string& name) {
    auto made = volume_->create(dir_, name, 0644, O_RDWR | O_CREAT | O_EXCL, kRoot);
    if (!made) return fail(made.error());
    volume_->release(made->file, kRoot);
    return {};
  }
  wire::Attr stat() {
    auto entry = volume_->getattr(dir_, nullptr, kRoot);
    EXPECT_EQ(code(entry), 0);
    return entry ? entry->attr : wire::Attr{};
  }
  Result<dht::Entry> set_mtime(int64_t seconds) {
    wire::Attr attr{};
    attr.mtime = seconds;
    return volume_->setattr(dir_, nullptr, attr, wire::kSetMtime, kRoot);
  }
  std::filesystem::path copy(uint16_t ordinal) const { return cluster_.brick_path(ordinal) / name_; }

  Cluster cluster_{Cluster::Options{.bricks = kBricks, .down_timeout_ms = 20'000}};
  std::unique_ptr<dht::Volume> volume_ = cluster_.mount();
  std::string name_;
  dht::NodePtr dir_;
};
// A change waits for home: here another one is away.
class DirectoryChangeFault : public DirectoryAttrFault {};

TEST_P(DirectoryAttrFault, Stat_BrickAway_LastKnownValuesCount) {
  const wire::Attr before = stat();
  EXPECT_EQ(before.nlink, 2u + kBricks);
  cluster_.kill(GetParam());
  const wire::Attr away = stat();
  EXPECT_EQ(away.nlink, before.nlink);
  EXPECT_EQ(std::pair(away.mtime, away.mtime_ns), std::pair(before.mtime, before.mtime_ns));
  EXPECT_EQ(std::pair(away.ctime, away.ctime_ns), std::pair(before.ctime, before.ctime_ns));
  EXPECT_EQ(std::pair(away.atime, away.atime_ns), std::pair(before.atime, before.atime_ns));
  cluster_.restart(GetParam());
  const wire::Attr back = stat();
  EXPECT_EQ(back.nlink, before.nlink);
  EXPECT_EQ(std::pair(back.ctime, back.ctime_ns), std::pair(before.ctime, before.ctime_ns));
}

TEST_P(DirectoryChangeFault, SetTimes_BrickAway_NotUndoneByItsReturn) {
  stat();
  cluster_.kill(GetParam());
  auto set = set_mtime(kLongAgo);
  ASSERT_EQ(code(set), 0);
  EXPECT_EQ(set->attr.mtime, kLongAgo);
  EXPECT_EQ(stat().mtime, kLongAgo);
  cluster_.restart(GetParam());
  EXPECT_EQ(stat().mtime, kLongAgo);
  auto other = cluster_.mount();
  auto found = other->lookup(other->root(), name_, kRoot);
  ASSERT_EQ(code(found), 0);
  EXPECT_EQ(found->attr.mtime, kLongAgo);
  // It catches up when it is asked for a name, and from then on its times are true.
  ASSERT_EQ(code(create(cluster_.name_at(GetParam(), dir_, "late"))), 0);
  EXPECT_GT(stat().mtime, kLongAgo);
  ASSERT_EQ(code(set_mtime(kLongAgo + 1)), 0);
  EXPECT_EQ(stat().mtime, kLongAgo + 1);
}

TEST_P(DirectoryChangeFault, TwoChanges_BrickAwayAtTheFirst_ItGetsBoth) {
  cluster_.kill(GetParam());
  const std::array<std::byte, 3> value{std::byte{'r'}, std::byte{'e'}, std::byte{'d'}};
  ASSERT_EQ(code(volume_->setxattr(dir_, "user.colour", value, 0, kRoot)), 0);
  cluster_.restart(GetParam());
  wire::Attr attr{};
  attr.mode = 0700;
  auto other = cluster_.mount();  // the first may not have noticed yet that the brick is back
  auto found_dir = other->lookup(other->root(), name_, kRoot);
  ASSERT_EQ(code(found_dir), 0);
  ASSERT_EQ(code(other->setattr(found_dir->node, nullptr, attr, wire::kSetMode, kRoot)), 0);
  char found[8] = {};
  EXPECT_EQ(::getxattr(copy(GetParam()).c_str(), "user.colour", found, sizeof found), 3);
  struct stat local{};
  ASSERT_EQ(::stat(copy(GetParam()).c_str(), &local), 0);
  EXPECT_EQ(local.st_mode & 07777, 0700u);
}

// The remembered answer does not say what the directory looks like; what was known of it is old.
TEST_P(DirectoryChangeFault, Change_AnswerLost_AttributesAreAskedAgain) {
  const wire::Attr before = stat();
  server::Faults& faults = cluster_.brick(GetParam()).faults();
  faults.dial(wire::Op::kMkdir).cut_after = 1;
  faults.any = true;
  ASSERT_EQ(code(volume_->mkdir(dir_, cluster_.name_at(GetParam(), dir_, "lost"), 0755, kRoot)), 0);
  EXPECT_EQ(faults.dial(wire::Op::kMkdir).cut_after, 0u);
  EXPECT_EQ(stat().nlink, before.nlink + 1);
}

INSTANTIATE_TEST_SUITE_P(Away, DirectoryAttrFault, testing::Range<uint16_t>(1, 4), testing::PrintToStringParamName());
INSTANTIATE_TEST_SUITE_P(Away, DirectoryChangeFault, testing::Values<uint16_t>(2, 3), testing::PrintToStringParamName());

}  // namespace
}  // namespace voldfs::test
