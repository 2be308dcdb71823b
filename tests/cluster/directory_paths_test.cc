#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/fs.h>

#include <filesystem>
#include <set>

#include "tests/lib/check.h"
#include "tests/lib/steps.h"
#include "tools/check/export.h"

// On each brick, what it has of a directory lies under the path that the directory has in the volume: to be read there if everything else
// is gone.
namespace voldfs::test {
namespace {

namespace fs = std::filesystem;

class DirectoryPaths : public testing::Test {
 protected:
  // A directory with its backup on brick 2.
  dht::NodePtr make_dir(const dht::NodePtr& parent, const std::string& prefix, std::string* name = nullptr, uint16_t home = 1) {
    std::string own;
    for (int i = 0;; ++i) {
      own = prefix + std::to_string(i);
      const auto rank = cluster_.map().layout(parent->record().epoch)->rank(parent->id(), own, 2);
      if (rank[0] == home && rank[1] == 2) break;
    }
    if (name) *name = own;
    return mount_.directory(parent, own);
  }
  bool is_on(uint16_t ordinal, const std::string& path) { return fs::exists(cluster_.brick_path(ordinal) / path); }
  int move(const dht::NodePtr& from, const std::string& name, const dht::NodePtr& to, const std::string& to_name, uint32_t flags = 0) {
    return code(mount_.volume->rename(from, name, to, to_name, flags, kRoot));
  }

  Cluster cluster_{Cluster::Options{.bricks = 3}};
  TreeMount mount_{cluster_};
  const dht::NodePtr root_ = mount_.root;
};

TEST_F(DirectoryPaths, Rename_BrickOnlyHasWhatIsBelow_FilesFollow) {
  std::string a, b, c;
  const dht::NodePtr dir_a = make_dir(root_, "a", &a), dir_b = make_dir(dir_a, "b", &b), dir_c = make_dir(dir_b, "c", &c);
  const std::string file = cluster_.name_at(3, dir_c);
  mount_.file(dir_c, file);
  ASSERT_TRUE(is_on(3, a + "/" + b + "/" + c + "/" + file));
  // Within its parent, to another parent that the brick has, and to one that it does not have. Never a name of which it is the authority.
  const std::string b2 = cluster_.name_at(1, dir_a, "x"), b3 = cluster_.name_at(1, root_, "x");
  ASSERT_EQ(move(dir_a, b, dir_a, b2), 0);
  EXPECT_TRUE(is_on(3, a + "/" + b2 + "/" + c + "/" + file));
  EXPECT_FALSE(is_on(3, a + "/" + b));
  ASSERT_EQ(move(dir_a, b2, root_, b3), 0);
  EXPECT_TRUE(is_on(3, b3 + "/" + c + "/" + file));
  std::string d, e;
  const dht::NodePtr dir_d = make_dir(root_, "d", &d), dir_e = make_dir(dir_d, "e", &e);
  const std::string b4 = cluster_.name_at(1, dir_e, "x");
  ASSERT_FALSE(is_on(3, d));
  ASSERT_EQ(move(root_, b3, dir_e, b4), 0);
  EXPECT_TRUE(is_on(3, d + "/" + e + "/" + b4 + "/" + c + "/" + file));
  // What is of no use any more does not stay behind, or follow.
  const std::string a2 = cluster_.name_at(1, root_, "away");
  ASSERT_EQ(move(root_, a, root_, a2), 0);
  EXPECT_FALSE(is_on(3, a));
  EXPECT_FALSE(is_on(3, a2));
  EXPECT_EQ(cluster_.check(), "");
}

// A skeleton lies where the stub of its name would, and has nothing below any more: it is still the name.
TEST_F(DirectoryPaths, Rename_EmptySkeletonIsTheName_IsCountedOnce) {
  std::string a, c;
  const dht::NodePtr dir_a = make_dir(root_, "a", &a), dir_c = make_dir(dir_a, "c", &c);
  const std::string file = cluster_.name_at(3, dir_c), at3 = cluster_.name_at(3, root_, "x");
  mount_.file(dir_c, file);
  ASSERT_EQ(move(root_, a, root_, at3), 0);
  ASSERT_TRUE(is_on(3, at3 + "/" + c + "/" + file));
  ASSERT_EQ(code(mount_.volume->unlink(dir_c, file, kRoot)), 0);
  ASSERT_EQ(code(mount_.volume->rmdir(dir_a, c, kRoot)), 0);
  for (const std::string& name : {a, at3, cluster_.name_at(2, root_, "y")}) {
    TreeMount other(cluster_);
    ASSERT_EQ(move(root_, mount_.tree().begin()->first, root_, name), 0);
    EXPECT_TRUE(matches(other.tree(), {{name, dir_a->id()}})) << text(other.tree());
    auto root = other.volume->getattr(other.root, nullptr, kRoot);
    ASSERT_EQ(code(root), 0);
    EXPECT_EQ(root->attr.nlink, 3u) << name;
  }
  EXPECT_EQ(cluster_.check(), "");
}

TEST_F(DirectoryPaths, Rename_BrickIsDown_FilesFollowWhenItGetsMore) {
  std::string a, b, c;
  const dht::NodePtr dir_a = make_dir(root_, "a", &a), dir_b = make_dir(dir_a, "b", &b), dir_c = make_dir(dir_b, "c", &c);
  const std::string file = cluster_.name_at(3, dir_c);
  mount_.file(dir_c, file);
  cluster_.stop(3);
  const std::string b2 = cluster_.name_at(1, root_, "other");
  ASSERT_EQ(move(dir_a, b, root_, b2), 0);
  cluster_.restart(3);
  mount_.file(dir_b, cluster_.name_at(3, dir_b));
  EXPECT_TRUE(is_on(3, b2 + "/" + c + "/" + file));
  EXPECT_EQ(cluster_.check(), "");
}

// By the paths of a brick that has missed a rename, the new parent is below the directory.
TEST_F(DirectoryPaths, Exchange_NewParentStillLiesBelow_BothFollow) {
  std::string old_name, b;
  const dht::NodePtr dir_a = make_dir(root_, "a", &old_name, 3);
  const std::string a = cluster_.name_at(1, root_, "moved");
  ASSERT_EQ(move(root_, old_name, root_, a), 0);  // its home is brick 3, its name a stub on brick 1
  const dht::NodePtr dir_b = make_dir(dir_a, "b", &b);
  const std::string x = cluster_.name_at(3, dir_b, "x"), inside = cluster_.name_at(3, dir_a, "inside");
  const Id file = mount_.file(dir_b, x);
  mount_.file(dir_a, inside);
  cluster_.stop(3);
  const std::string b2 = cluster_.name_at(1, root_, "other");
  ASSERT_EQ(move(dir_a, b, root_, b2), 0);
  cluster_.restart(3);

  ASSERT_EQ(move(root_, a, dir_b, x, RENAME_EXCHANGE), 0);
  EXPECT_TRUE(is_on(3, b2 + "/" + x + "/" + inside));
  TreeMount other(cluster_);
  const Tree tree = other.tree();
  EXPECT_TRUE(matches(tree, {{a, file}, {b2, dir_b->id()}, {b2 + "/" + x, dir_a->id()}, {b2 + "/" + x + "/" + inside, Id{}}})) << text(tree);
  EXPECT_EQ(code(other.volume->unlink(other.root, a, kRoot)), 0);
  EXPECT_EQ(cluster_.check(), "");
}

// One brick has missed a rename, and has another directory parked.
TEST_F(DirectoryPaths, Export_HasAllUnderThePathsOfTheVolume) {
  std::string a, b, c;
  const dht::NodePtr dir_a = make_dir(root_, "a", &a), dir_b = make_dir(dir_a, "b", &b), dir_c = make_dir(root_, "c", &c);
  const std::string in_b = cluster_.name_at(3, dir_b), in_c = cluster_.name_at(3, dir_c);
  mount_.file(dir_b, in_b);
  mount_.file(dir_c, in_c);
  cluster_.stop(3);
  const std::string b2 = cluster_.name_at(1, root_, "other");
  ASSERT_EQ(move(dir_a, b, root_, b2), 0);
  mount_.volume.reset();
  for (uint16_t ordinal = 1; ordinal <= 2; ++ordinal) cluster_.stop(ordinal);
  fs::rename(cluster_.brick_path(3) / c, cluster_.brick_path(3) / ".voldfs/parked" / dir_c->id().hex());

  const auto scans = scan_bricks(cluster_);
  const fs::path target = cluster_.brick_path(1).parent_path() / "export";
  const auto findings = check::export_files(scans, cluster_.map(), target);
  ASSERT_TRUE(findings);
  EXPECT_TRUE(findings->empty());
  std::set<std::string> found;
  for (const auto& entry : fs::recursive_directory_iterator(target)) found.insert(fs::relative(entry.path(), target));
  EXPECT_EQ(found, (std::set<std::string>{a, b2, b2 + "/" + in_b, c, c + "/" + in_c}));
}

}  // namespace
}  // namespace voldfs::test
