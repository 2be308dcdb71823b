#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include "dht/look_ahead.h"
#include "tests/lib/cluster.h"
#include "tests/lib/mount.h"

// Lookups of a directory's files one by one: pages of it are fetched ahead, and what others and this mount change meanwhile is seen.
namespace voldfs::test {
namespace {

constexpr int kDeadlineMs = 10'000;
const dht::Caller kRoot{};

int code(const auto& result) { return result ? 0 : result.error().code; }

class LookAhead : public testing::Test {
 protected:
  static constexpr int kFiles = 400;

  LookAhead() {
    for (int i = 0; i < kFiles; ++i) {
      auto made = other_->create(dir_of_other_, name(i), 0644, O_RDWR | O_CREAT | O_EXCL, kRoot);
      EXPECT_EQ(code(made), 0);
      if (made) other_->release(made->file, kRoot);
    }
    // A mount's, to which nothing is known.
    volume_ = cluster_.mount();
    dir_ = volume_->lookup(volume_->root(), "dir", kRoot)->node;
    EXPECT_EQ(code(volume_->getattr(dir_, nullptr, kRoot)), 0);
  }
  static std::string name(int i) { return "file" + std::to_string(i); }

  Result<dht::Entry> lookup(int i) { return volume_->lookup(dir_, name(i), kRoot); }
  bool costs_nothing(int i) {
    RequestCount requests(*volume_);
    EXPECT_EQ(code(lookup(i)), 0) << i;
    return requests.count() == 0;
  }
  // Looks up names from the last one down, enough of them for the rest to be fetched, and waits for that. The next name.
  int look_until_ahead() {
    constexpr int kLooked = 100;
    for (int i = kFiles - 1; i >= kFiles - kLooked; --i) EXPECT_EQ(code(lookup(i)), 0) << i;
    EXPECT_TRUE(wait_until(kDeadlineMs, [&] { return volume_->impl().look_ahead->size() >= kFiles - kLooked; }));
    return kFiles - kLooked;
  }

  Cluster cluster_{Cluster::Options{.bricks = 2}};
  std::unique_ptr<dht::Volume> other_ = cluster_.mount();
  dht::NodePtr dir_of_other_ = other_->mkdir(other_->root(), "dir", 0755, kRoot)->node;
  std::unique_ptr<dht::Volume> volume_;
  dht::NodePtr dir_;
};

TEST_F(LookAhead, ManyLookups_TheOthersCostNothing) {
  const int end = look_until_ahead();
  for (int i = 0; i < end - 1; ++i) EXPECT_TRUE(costs_nothing(i)) << i;
  auto found = lookup(end - 1);
  ASSERT_EQ(code(found), 0);
  EXPECT_EQ(found->attr.mode, S_IFREG | 0644u);
}

TEST_F(LookAhead, NamesThatWereNotListed_AreMissingUntilSomebodyMakesThem) {
  look_until_ahead();
  const auto costs = [&](const std::string& missing) {
    RequestCount requests(*volume_);
    EXPECT_EQ(code(volume_->lookup(dir_, missing, kRoot)), ENOENT) << missing;
    return requests.count();
  };
  EXPECT_TRUE(wait_until(kDeadlineMs, [&] { return costs("missing") == 0; }));
  for (dht::Volume* maker : {volume_.get(), other_.get()}) {
    for (uint16_t ordinal : {1, 2}) {
      const std::string made = cluster_.name_at(ordinal, dir_, maker == other_.get() ? "other" : "own");
      auto file = maker->create(maker == other_.get() ? dir_of_other_ : dir_, made, 0644, O_RDWR | O_CREAT | O_EXCL, kRoot);
      ASSERT_EQ(code(file), 0);
      maker->release(file->file, kRoot);
      EXPECT_EQ(code(volume_->lookup(dir_, made, kRoot)), 0) << made;
    }
  }
}

TEST_F(LookAhead, Directory_IsNotReadAccordingToItsTimes) {
  wire::Attr set{};
  set.atime = 1'000, set.mtime = 2'000;  // older than mtime: a listing would change it
  ASSERT_EQ(code(other_->setattr(dir_of_other_, nullptr, set, wire::kSetAtime | wire::kSetMtime, kRoot)), 0);
  look_until_ahead();
  const auto after = other_->getattr(dir_of_other_, nullptr, kRoot);
  ASSERT_EQ(code(after), 0);
  EXPECT_EQ(after->attr.atime, 1'000);
}

TEST_F(LookAhead, FewLookups_FetchNothing) {
  for (int i = 0; i < 5; ++i) EXPECT_FALSE(costs_nothing(i));
  EXPECT_EQ(volume_->impl().look_ahead->size(), 0u);
}

TEST_F(LookAhead, ChangedByOther_IsSeen) {
  look_until_ahead();
  ASSERT_EQ(code(other_->unlink(dir_of_other_, name(0), kRoot)), 0);
  ASSERT_EQ(code(other_->rename(dir_of_other_, name(1), dir_of_other_, name(2), 0, kRoot)), 0);
  const auto changed = other_->lookup(dir_of_other_, name(3), kRoot);
  ASSERT_EQ(code(changed), 0);
  wire::Attr attr{};
  attr.mode = 0600;
  ASSERT_EQ(code(other_->setattr(changed->node, nullptr, attr, wire::kSetMode, kRoot)), 0);
  EXPECT_EQ(code(lookup(0)), ENOENT);
  EXPECT_EQ(code(lookup(1)), ENOENT);
  const auto moved = other_->lookup(dir_of_other_, name(2), kRoot);
  ASSERT_EQ(code(moved), 0);
  EXPECT_EQ(lookup(2)->node->id(), moved->node->id());
  EXPECT_EQ(lookup(3)->attr.mode, S_IFREG | 0600u);
}

TEST_F(LookAhead, FileChangedByOther_WhileTheRestIsKnown_IsSeen) {
  const int end = look_until_ahead();
  ASSERT_LT(10, end);
  for (int i = 0; i < 10; ++i) {
    const auto changed = other_->lookup(dir_of_other_, name(i), kRoot);
    wire::Attr attr{};
    attr.size = static_cast<uint64_t>(1000 + i);
    ASSERT_EQ(code(other_->setattr(changed->node, nullptr, attr, wire::kSetSize, kRoot)), 0);
    EXPECT_EQ(lookup(i)->attr.size, 1000u + static_cast<unsigned>(i));
  }
}

TEST_F(LookAhead, ChangedByThisMount_IsSeen) {
  look_until_ahead();
  {
    const dht::Changing changing(dir_);  // as the kernel side has it: a page of the listing may be on its way
    ASSERT_EQ(code(volume_->unlink(dir_, name(0), kRoot)), 0);
    ASSERT_EQ(code(volume_->rename(dir_, name(1), dir_, name(2), 0, kRoot)), 0);
  }
  EXPECT_EQ(code(lookup(0)), ENOENT);
  EXPECT_EQ(code(lookup(1)), ENOENT);
  EXPECT_EQ(code(lookup(2)), 0);
  auto changed = lookup(3);
  ASSERT_EQ(code(changed), 0);
  wire::Attr attr{};
  attr.mode = 0600;
  ASSERT_EQ(code(volume_->setattr(changed->node, nullptr, attr, wire::kSetMode, kRoot)), 0);
  EXPECT_EQ(lookup(3)->attr.mode, S_IFREG | 0600u);
}

TEST_F(LookAhead, BrickRestarted_NothingOldIsUsed) {
  look_until_ahead();
  cluster_.kill(1);
  cluster_.restart(1);
  for (uint16_t ordinal : {1, 2}) {
    const std::string gone = cluster_.name_at(ordinal, dir_, "file");
    ASSERT_EQ(code(other_->unlink(dir_of_other_, gone, kRoot)), 0);
    EXPECT_EQ(code(volume_->lookup(dir_, gone, kRoot)), ENOENT);
  }
}

}  // namespace
}  // namespace voldfs::test
