#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/fs.h>

#include <filesystem>
#include <set>

#include "tests/lib/check.h"
#include "tests/lib/cluster.h"
#include "tools/check/export.h"

// A directory whose name leads to another brick than the one that is asked for it, where it has files too: they lie under their
// own names there (FORMAT.md, "Named copies").
namespace voldfs::test {
namespace {

namespace fs = std::filesystem;

const dht::Caller kRoot{};

int code(const auto& result) { return result ? 0 : result.error().code; }

class NamedCopy : public testing::Test {
 protected:
  dht::NodePtr make_dir(const dht::NodePtr& parent, const std::string& name) {
    auto made = volume_->mkdir(parent, name, 0755, kRoot);
    EXPECT_EQ(code(made), 0) << name;
    return made ? made->node : nullptr;
  }
  void make_file(const dht::NodePtr& dir, const std::string& name) {
    auto made = volume_->create(dir, name, 0644, O_RDWR | O_CREAT | O_EXCL, kRoot);
    ASSERT_EQ(code(made), 0) << name;
    volume_->release(made->file, kRoot);
  }
  // A directory of all bricks, by the name of which brick 1 is the authority: a file of its on each.
  dht::NodePtr make_spread(const std::string& name) {
    const dht::NodePtr dir = make_dir(root_, name);
    for (uint16_t ordinal = 1; ordinal <= 3; ++ordinal) make_file(dir, cluster_.name_at(ordinal, dir));
    return dir;
  }
  void empty(const dht::NodePtr& dir) {
    for (uint16_t ordinal = 1; ordinal <= 3; ++ordinal)
      EXPECT_EQ(code(volume_->unlink(dir, cluster_.name_at(ordinal, dir), kRoot)), 0);
  }
  int rename(const std::string& from, const std::string& to, uint32_t flags = 0) {
    return code(volume_->rename(root_, from, root_, to, flags, kRoot));
  }
  // By a mount that remembers nothing. None: it does not exist.
  Id id_of(const std::string& name) {
    auto fresh = cluster_.mount();
    auto found = fresh->lookup(fresh->root(), name, kRoot);
    if (!found) {
      EXPECT_EQ(found.error().code, ENOENT) << name;
    }
    return found ? found->node->id() : Id{};
  }
  std::multiset<std::string> list() {
    auto fresh = cluster_.mount();
    std::multiset<std::string> names;
    auto stream = fresh->open_directory(fresh->root(), kRoot);
    auto done = fresh->read_directory(**stream, 0, 0, kRoot, [&](const dht::ListedEntry& entry) {
      if (entry.name != "." && entry.name != "..") names.insert(entry.name);
      return true;
    });
    EXPECT_EQ(code(done), 0);
    return names;
  }
  void expect_under_names(const std::string& name, const dht::NodePtr& dir) {
    for (uint16_t ordinal = 1; ordinal <= 3; ++ordinal)
      EXPECT_TRUE(fs::is_regular_file(cluster_.brick_path(ordinal) / name / cluster_.name_at(ordinal, dir))) << name << ordinal;
  }
  void expect_nothing_parked() {
    for (uint16_t ordinal = 1; ordinal <= 3; ++ordinal)
      EXPECT_TRUE(fs::is_empty(cluster_.brick_path(ordinal) / ".voldfs/parked")) << ordinal;
  }
  std::string check() {
    volume_.reset();
    return cluster_.check();
  }

  Cluster cluster_{Cluster::Options{.bricks = 3}};
  std::unique_ptr<dht::Volume> volume_ = cluster_.mount();
  dht::NodePtr root_ = volume_->root();
  const std::string at1_ = cluster_.name_at(1, root_, "a"), at2_ = cluster_.name_at(2, root_, "b"),
                    at3_ = cluster_.name_at(3, root_, "c");
};

TEST_F(NamedCopy, RenamedDirectory_FilesLieUnderTheirNames) {
  const dht::NodePtr dir = make_spread(at1_);
  const std::string names[] = {at1_, at2_, at3_, cluster_.name_at(3, root_, "d"), at2_, at1_};
  for (size_t i = 1; i < std::size(names); ++i) {
    ASSERT_EQ(rename(names[i - 1], names[i]), 0) << i;
    EXPECT_EQ(id_of(names[i]), dir->id()) << i;
    EXPECT_TRUE(id_of(names[i - 1]).is_none()) << i;
    EXPECT_EQ(list(), std::multiset<std::string>{names[i]}) << i;
    expect_under_names(names[i], dir);
    expect_nothing_parked();
  }
  EXPECT_EQ(check(), "");
}

TEST_F(NamedCopy, BricksRestarted_NameStays) {
  const dht::NodePtr dir = make_spread(at1_);
  ASSERT_EQ(rename(at1_, at2_), 0);
  for (uint16_t ordinal = 1; ordinal <= 3; ++ordinal) cluster_.kill(ordinal), cluster_.restart(ordinal);
  EXPECT_EQ(id_of(at2_), dir->id());
  EXPECT_EQ(list(), std::multiset<std::string>{at2_});
  expect_under_names(at2_, dir);
  EXPECT_EQ(check(), "");
}

TEST_F(NamedCopy, FirstFileOnTheNamesBrick_TakesTheStubsPlace) {
  const dht::NodePtr dir = make_dir(root_, at1_);
  // Of which brick 3 is the authority: neither home nor, always, backup.
  ASSERT_EQ(rename(at1_, at3_), 0);
  ASSERT_EQ(rename(at3_, at2_), 0);
  for (uint16_t ordinal = 1; ordinal <= 3; ++ordinal) make_file(dir, cluster_.name_at(ordinal, dir));
  expect_under_names(at2_, dir);
  expect_nothing_parked();
  EXPECT_EQ(id_of(at2_), dir->id());
  EXPECT_EQ(check(), "");
}

TEST_F(NamedCopy, Rmdir_OfAFullOne_LeavesIt_OfAnEmptyOneNothing) {
  const dht::NodePtr dir = make_spread(at1_);
  ASSERT_EQ(rename(at1_, at2_), 0);
  // The copy on brick 2 is empty and goes along with the attempt; the name does not.
  ASSERT_EQ(code(volume_->unlink(dir, cluster_.name_at(2, dir), kRoot)), 0);
  EXPECT_EQ(code(volume_->rmdir(root_, at2_, kRoot)), ENOTEMPTY);
  EXPECT_EQ(id_of(at2_), dir->id());
  make_file(dir, cluster_.name_at(2, dir));
  expect_under_names(at2_, dir);
  empty(dir);
  EXPECT_EQ(code(volume_->rmdir(root_, at2_, kRoot)), 0);
  EXPECT_TRUE(id_of(at2_).is_none());
  EXPECT_EQ(list(), std::multiset<std::string>{});
  EXPECT_EQ(check(), "");
  for (uint16_t ordinal = 1; ordinal <= 3; ++ordinal) EXPECT_FALSE(fs::exists(cluster_.brick_path(ordinal) / at2_)) << ordinal;
}

TEST_F(NamedCopy, ReplacedByARename_GivesWay) {
  const dht::NodePtr dir = make_spread(at1_);
  ASSERT_EQ(rename(at1_, at2_), 0);
  const dht::NodePtr other = make_spread(at3_);
  EXPECT_EQ(rename(at3_, at2_), ENOTEMPTY);
  empty(dir);
  EXPECT_EQ(rename(at3_, at2_), 0);
  EXPECT_EQ(id_of(at2_), other->id());
  EXPECT_EQ(list(), std::multiset<std::string>{at2_});
  expect_under_names(at2_, other);
  expect_nothing_parked();
  EXPECT_EQ(check(), "");
}

TEST_F(NamedCopy, Exchanged_BothFollow) {
  const dht::NodePtr one = make_spread(at1_), two = make_spread(at3_);
  ASSERT_EQ(rename(at1_, at2_), 0);
  const std::string again = cluster_.name_at(1, root_, "e");
  ASSERT_EQ(rename(at3_, again), 0);
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(rename(at2_, again, RENAME_EXCHANGE), 0) << i;
    EXPECT_EQ(id_of(i % 2 ? at2_ : again), one->id()) << i;
    EXPECT_EQ(id_of(i % 2 ? again : at2_), two->id()) << i;
    expect_under_names(i % 2 ? at2_ : again, one);
    expect_under_names(i % 2 ? again : at2_, two);
    expect_nothing_parked();
  }
  EXPECT_EQ(check(), "");
}

TEST_F(NamedCopy, Below_ASkeleton_IsNoCopyToRmdir) {
  const dht::NodePtr parent = make_dir(root_, at1_), dir = make_dir(parent, "x");
  for (uint16_t ordinal = 1; ordinal <= 3; ++ordinal) make_file(dir, cluster_.name_at(ordinal, dir));
  for (const char* name : {"y0", "y1", "y2", "y3", "y4", "y5"}) {
    ASSERT_EQ(code(volume_->rename(parent, "x", parent, name, 0, kRoot)), 0);
    EXPECT_EQ(code(volume_->rmdir(root_, at1_, kRoot)), ENOTEMPTY);
    EXPECT_EQ(code(volume_->lookup(parent, name, kRoot)), 0) << name;
    ASSERT_EQ(code(volume_->rename(parent, name, parent, "x", 0, kRoot)), 0);
  }
  EXPECT_EQ(check(), "");
}

TEST_F(NamedCopy, Export_HasItsFiles) {
  const dht::NodePtr dir = make_spread(at1_);
  ASSERT_EQ(rename(at1_, at2_), 0);
  const dht::VolumeMap map = cluster_.map();
  ASSERT_EQ(check(), "");
  const auto scans = scan_bricks(cluster_);
  const fs::path target = cluster_.brick_path(1).parent_path() / "export";
  ASSERT_TRUE(check::export_files(scans, map, target));
  for (uint16_t ordinal = 1; ordinal <= 3; ++ordinal)
    EXPECT_TRUE(fs::is_regular_file(target / at2_ / cluster_.name_at(ordinal, dir))) << ordinal;
}

}  // namespace
}  // namespace voldfs::test
