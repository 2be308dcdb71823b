#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <fstream>
#include <set>

#include "tests/lib/cluster.h"

namespace voldfs::test {
namespace {

const dht::Caller kRoot{};

int code(const auto& result) { return result ? 0 : result.error().code; }

class Names : public testing::TestWithParam<size_t> {
 protected:
  Cluster cluster_{Cluster::Options{.bricks = GetParam()}};
  std::unique_ptr<dht::Volume> volume_ = cluster_.mount();
  dht::NodePtr root_ = volume_->root();

  Result<dht::Entry> make_file(const dht::NodePtr& dir, const std::string& name) {
    auto made = volume_->create(dir, name, 0644, O_RDWR | O_CREAT | O_EXCL, kRoot);
    if (!made) return fail(made.error());
    volume_->release(made->file, kRoot);
    return made->entry;
  }
  std::multiset<std::string> list(dht::Volume& volume, const dht::NodePtr& dir) {
    std::multiset<std::string> names;
    auto stream = volume.open_directory(dir, kRoot);
    EXPECT_TRUE(stream);
    auto done = volume.read_directory(**stream, 0, 0, kRoot, [&](const dht::ListedEntry& entry) {
      if (entry.name != "." && entry.name != "..") names.insert(entry.name);
      return true;
    });
    EXPECT_EQ(code(done), 0);
    return names;
  }
};

TEST_P(Names, Lookup_MissingName_IsOneRequest) {
  RequestCount requests(*volume_);
  EXPECT_EQ(code(volume_->lookup(root_, "missing", kRoot)), ENOENT);
  EXPECT_EQ(requests.count(), 1);
}

TEST_P(Names, Create_ThenLookup_FindsTheSameNode) {
  auto made = make_file(root_, "file");
  ASSERT_EQ(code(made), 0);
  auto found = volume_->lookup(root_, "file", kRoot);
  ASSERT_EQ(code(found), 0);
  EXPECT_EQ(found->node, made->node);
  EXPECT_EQ(found->attr.mode, S_IFREG | 0644u);
  EXPECT_EQ(code(volume_->create(root_, "file", 0644, O_RDWR | O_CREAT | O_EXCL, kRoot)), EEXIST);
}

TEST_P(Names, Create_InNewDirectory_ReachesEveryBrick) {
  auto dir = volume_->mkdir(root_, "dir", 0755, kRoot);
  ASSERT_EQ(code(dir), 0);
  auto below = volume_->mkdir(dir->node, "below", 0755, kRoot);
  ASSERT_EQ(code(below), 0);
  std::multiset<std::string> made;
  for (uint16_t ordinal = 1; ordinal <= cluster_.count(); ++ordinal) {
    const std::string name = cluster_.name_at(ordinal, below->node, "f");
    ASSERT_EQ(code(make_file(below->node, name)), 0) << name;
    EXPECT_TRUE(std::filesystem::exists(cluster_.brick_path(ordinal) / "dir/below" / name));
    made.insert(name);
  }
  EXPECT_EQ(list(*volume_, below->node), made);
  auto other = cluster_.mount();
  auto other_dir = other->lookup(other->root(), "dir", kRoot);
  ASSERT_EQ(code(other_dir), 0);
  EXPECT_EQ(other_dir->attr.nlink, 3u);
  auto other_below = other->lookup(other_dir->node, "below", kRoot);
  ASSERT_EQ(code(other_below), 0);
  EXPECT_EQ(list(*other, other_below->node), made);
}

TEST_P(Names, Unlink_File_IsOneRequestAndGone) {
  ASSERT_EQ(code(make_file(root_, "file")), 0);
  {
    RequestCount requests(*volume_);
    EXPECT_EQ(code(volume_->unlink(root_, "file", kRoot)), 0);
    EXPECT_EQ(requests.count(), 1);
  }
  EXPECT_EQ(code(volume_->lookup(root_, "file", kRoot)), ENOENT);
  EXPECT_EQ(code(volume_->unlink(root_, "file", kRoot)), ENOENT);
}

TEST_P(Names, Rmdir_EmptyAndFull_AsOnOneDisk) {
  auto dir = volume_->mkdir(root_, "dir", 0755, kRoot);
  ASSERT_EQ(code(dir), 0);
  EXPECT_EQ(code(volume_->mkdir(root_, "dir", 0755, kRoot)), EEXIST);
  EXPECT_EQ(code(volume_->unlink(root_, "dir", kRoot)), EISDIR);
  std::vector<std::string> names;
  for (uint16_t ordinal = 1; ordinal <= cluster_.count(); ++ordinal) {
    names.push_back(cluster_.name_at(ordinal, dir->node));
    ASSERT_EQ(code(make_file(dir->node, names.back())), 0);
  }
  for (const std::string& name : names) {
    EXPECT_EQ(code(volume_->rmdir(root_, "dir", kRoot)), ENOTEMPTY);
    EXPECT_EQ(code(volume_->unlink(dir->node, name, kRoot)), 0);
  }
  EXPECT_EQ(code(volume_->rmdir(root_, "dir", kRoot)), 0);
  EXPECT_EQ(code(volume_->lookup(root_, "dir", kRoot)), ENOENT);
  EXPECT_EQ(code(make_file(dir->node, "late")), ENOENT);
  for (uint16_t ordinal = 1; ordinal <= cluster_.count(); ++ordinal)
    EXPECT_FALSE(std::filesystem::exists(cluster_.brick_path(ordinal) / "dir")) << ordinal;
  auto again = volume_->mkdir(root_, "dir", 0755, kRoot);
  ASSERT_EQ(code(again), 0);
  EXPECT_EQ(code(make_file(again->node, "new")), 0);
}

TEST_P(Names, SymlinkMknodTmpfile_Made_AreFound) {
  ASSERT_EQ(code(volume_->symlink(root_, "link", "target", kRoot)), 0);
  ASSERT_EQ(code(volume_->mknod(root_, "pipe", S_IFIFO | 0600, 0, kRoot)), 0);
  EXPECT_EQ(code(volume_->symlink(root_, "link", "other", kRoot)), EEXIST);
  auto pipe = volume_->lookup(root_, "pipe", kRoot);
  ASSERT_EQ(code(pipe), 0);
  EXPECT_EQ(pipe->node->type(), wire::ObjectType::kFifo);
  auto nameless = volume_->tmpfile(root_, 0600, O_RDWR, kRoot);
  ASSERT_EQ(code(nameless), 0);
  for (uint16_t ordinal = 1; ordinal <= cluster_.count(); ++ordinal) {
    const std::string name = cluster_.name_at(ordinal, root_, "named");
    ASSERT_EQ(code(volume_->link(nameless->entry.node, root_, name, kRoot)), 0);
    auto found = volume_->lookup(root_, name, kRoot);
    ASSERT_EQ(code(found), 0);
    EXPECT_EQ(found->node, nameless->entry.node);
    EXPECT_EQ(found->attr.nlink, ordinal);
  }
  volume_->release(nameless->file, kRoot);
}

TEST_P(Names, Link_AcrossBricks_BothNamesLeadToTheFile) {
  const std::string name = cluster_.name_at(1, root_, "old");
  auto file = make_file(root_, name);
  ASSERT_EQ(code(file), 0);
  for (uint16_t ordinal = 1; ordinal <= cluster_.count(); ++ordinal) {
    const std::string second = cluster_.name_at(ordinal, root_, "second");
    auto linked = volume_->link(file->node, root_, second, kRoot);
    ASSERT_EQ(code(linked), 0) << ordinal;
    EXPECT_EQ(linked->attr.nlink, 1u + ordinal);
    EXPECT_EQ(code(volume_->link(file->node, root_, second, kRoot)), EEXIST);
  }
  for (uint16_t ordinal = 1; ordinal <= cluster_.count(); ++ordinal)
    EXPECT_EQ(code(volume_->unlink(root_, cluster_.name_at(ordinal, root_, "second"), kRoot)), 0);
  auto found = volume_->lookup(root_, name, kRoot);
  ASSERT_EQ(code(found), 0);
  EXPECT_EQ(found->attr.nlink, 1u);
  EXPECT_EQ(list(*volume_, root_), std::multiset<std::string>{name});
}

TEST_P(Names, Create_AuthorityFull_GoesElsewhereBehindAStub) {
  if (cluster_.count() < 2) return;
  const std::string name = cluster_.name_at(1, root_);
  cluster_.fail_operation(1, wire::Op::kCreate, ENOSPC);
  auto made = make_file(root_, name);
  cluster_.fail_operation(1, wire::Op::kCreate, 0);
  ASSERT_EQ(code(made), 0);
  const uint16_t elsewhere = made->node->location().brick;
  EXPECT_NE(elsewhere, 1);
  auto found = volume_->lookup(root_, name, kRoot);
  ASSERT_EQ(code(found), 0);
  EXPECT_EQ(found->node, made->node);
  EXPECT_EQ(list(*volume_, root_), std::multiset<std::string>{name});
  EXPECT_EQ(code(volume_->unlink(root_, name, kRoot)), 0);
  EXPECT_FALSE(std::filesystem::exists(cluster_.brick_path(elsewhere) / name));
  EXPECT_EQ(code(volume_->lookup(root_, name, kRoot)), ENOENT);
}

INSTANTIATE_TEST_SUITE_P(Bricks, Names, testing::Values(1, 2, 3));

}  // namespace
}  // namespace voldfs::test
