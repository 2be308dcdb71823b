#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include "tests/lib/cluster.h"

// A directory that this mount has made is known to be empty, and nobody is asked about names that it cannot have.
namespace voldfs::test {
namespace {

const dht::Caller kRoot{};

int code(const auto& result) { return result ? 0 : result.error().code; }

class KnownNames : public testing::TestWithParam<size_t> {
 protected:
  Cluster cluster_{Cluster::Options{.bricks = GetParam()}};
  std::unique_ptr<dht::Volume> volume_ = cluster_.mount();
  std::unique_ptr<dht::Volume> other_ = cluster_.mount();
  dht::NodePtr dir_ = make_directory(*volume_, "dir");
  dht::NodePtr dir_of_other_ = other_->lookup(other_->root(), "dir", kRoot)->node;

  static dht::NodePtr make_directory(dht::Volume& volume, const std::string& name) {
    return volume.mkdir(volume.root(), name, 0755, kRoot)->node;
  }
  static Result<dht::Entry> make_file(dht::Volume& volume, const dht::NodePtr& dir, const std::string& name) {
    auto made = volume.create(dir, name, 0644, O_RDWR | O_CREAT | O_EXCL, kRoot);
    if (!made) return fail(made.error());
    volume.release(made->file, kRoot);
    return made->entry;
  }
  int lookup(const std::string& name) { return code(volume_->lookup(dir_, name, kRoot)); }
  int requests_of_lookup(const std::string& name, int expected) {
    RequestCount requests(*volume_);
    EXPECT_EQ(lookup(name), expected) << name;
    return requests.count();
  }
};

TEST_P(KnownNames, Lookup_MissingInNewDirectory_AsksNobody) {
  for (uint16_t ordinal = 1; ordinal <= cluster_.count(); ++ordinal)
    EXPECT_EQ(requests_of_lookup(cluster_.name_at(ordinal, dir_), ENOENT), 0) << ordinal;
}

// That a name was missing is not to outlive the node: a directory that was forgotten meanwhile has had changes all the same.
TEST_P(KnownNames, Rename_InADirectoryThatWasForgotten_FindsWhatWasMade) {
  const auto forget = [&] {
    dir_.reset();
    dir_ = volume_->lookup(volume_->root(), "dir", kRoot)->node;
  };
  const std::string from = cluster_.name_at(1, dir_, "from"), to = cluster_.name_at(cluster_.count(), dir_, "to");
  forget();
  ASSERT_EQ(lookup(from), ENOENT);
  ASSERT_EQ(code(volume_->symlink(dir_, from, "target", kRoot)), 0);
  forget();
  EXPECT_EQ(code(volume_->rename(dir_, from, dir_, to, 0, kRoot)), 0);
  EXPECT_EQ(lookup(to), 0);
}

TEST_P(KnownNames, Lookup_NameOfAnyKind_IsFound) {
  const auto file = make_file(*volume_, dir_, "file");
  ASSERT_EQ(code(file), 0);
  ASSERT_EQ(code(volume_->mkdir(dir_, "directory", 0755, kRoot)), 0);
  ASSERT_EQ(code(volume_->symlink(dir_, "symlink", "target", kRoot)), 0);
  ASSERT_EQ(code(volume_->mknod(dir_, "fifo", S_IFIFO | 0600, 0, kRoot)), 0);
  ASSERT_EQ(code(volume_->link(file->node, dir_, "link", kRoot)), 0);
  for (const char* name : {"file", "directory", "symlink", "fifo", "link"}) EXPECT_EQ(lookup(name), 0) << name;
  for (int i = 0; i < 8; ++i) {  // to names of one authority and of two
    const std::string from = i == 0 ? "file" : "renamed" + std::to_string(i - 1), to = "renamed" + std::to_string(i);
    ASSERT_EQ(code(volume_->rename(dir_, from, dir_, to, 0, kRoot)), 0);
    EXPECT_EQ(lookup(to), 0) << to;
    EXPECT_EQ(lookup(from), ENOENT) << from;
  }
}

TEST_P(KnownNames, Lookup_NameMadeByOther_IsFound) {
  for (uint16_t ordinal = 1; ordinal <= cluster_.count(); ++ordinal) {
    const std::string name = cluster_.name_at(ordinal, dir_);
    ASSERT_EQ(code(make_file(*other_, dir_of_other_, name)), 0);
    EXPECT_EQ(lookup(name), 0) << name;
  }
}

// The set grows by this mount, so that the other does not have to ask home to make a name there.
TEST_P(KnownNames, Lookup_NameMadeByOtherWhereOwnIs_IsFound) {
  for (uint16_t ordinal = 1; ordinal <= cluster_.count(); ++ordinal) {
    const std::string directory = "dir" + std::to_string(ordinal);
    const dht::NodePtr dir = make_directory(*volume_, directory);
    ASSERT_EQ(code(make_file(*volume_, dir, cluster_.name_at(ordinal, dir, "own"))), 0);
    const dht::NodePtr same = other_->lookup(other_->root(), directory, kRoot)->node;
    const std::string name = cluster_.name_at(ordinal, dir, "other");
    ASSERT_EQ(code(make_file(*other_, same, name)), 0);
    EXPECT_EQ(code(volume_->lookup(dir, name, kRoot)), 0) << name;
  }
}

TEST_P(KnownNames, Lookup_NameMovedHereByOther_IsFound) {
  ASSERT_EQ(code(make_file(*other_, other_->root(), "file")), 0);
  for (uint16_t ordinal = 1; ordinal <= cluster_.count(); ++ordinal) {
    const std::string name = cluster_.name_at(ordinal, dir_, "moved");
    const bool first = ordinal == 1;
    ASSERT_EQ(code(other_->rename(first ? other_->root() : dir_of_other_, first ? "file" : cluster_.name_at(static_cast<uint16_t>(ordinal - 1), dir_, "moved"),
                                  dir_of_other_, name, 0, kRoot)), 0);
    EXPECT_EQ(lookup(name), 0) << name;
  }
}

TEST_P(KnownNames, Lookup_AfterRestartOfABrick_Asks) {
  cluster_.kill(1);
  cluster_.restart(1);
  ASSERT_EQ(code(make_file(*other_, dir_of_other_, cluster_.name_at(1, dir_, "made"))), 0);
  EXPECT_EQ(lookup(cluster_.name_at(1, dir_, "made")), 0);
  EXPECT_GT(requests_of_lookup(cluster_.name_at(1, dir_, "missing"), ENOENT), 0);
}

TEST_P(KnownNames, Lookup_NameThatIsGone_Asks) {
  ASSERT_EQ(code(make_file(*volume_, dir_, "file")), 0);
  ASSERT_EQ(code(volume_->unlink(dir_, "file", kRoot)), 0);
  EXPECT_EQ(requests_of_lookup("file", ENOENT), 1);
}

// prepare, mark, commit, settle; the transaction is forgotten behind the application's back.
TEST_P(KnownNames, Rename_OfNewFileToOtherAuthority_IsFourRequests) {
  if (GetParam() < 2) GTEST_SKIP() << "one authority";
  for (uint16_t ordinal : {1, 2}) ASSERT_EQ(code(make_file(*volume_, dir_, cluster_.name_at(ordinal, dir_, "first"))), 0);
  const std::string from = cluster_.name_at(1, dir_, "from"), to = cluster_.name_at(2, dir_, "to");
  ASSERT_EQ(code(make_file(*volume_, dir_, from)), 0);
  ASSERT_EQ(lookup(to), ENOENT);  // as the kernel looks first
  RequestCount requests(*volume_);
  ASSERT_EQ(code(volume_->rename(dir_, from, dir_, to, 0, kRoot)), 0);
  EXPECT_EQ(requests.count(), 4);
  EXPECT_EQ(code(other_->lookup(dir_of_other_, to, kRoot)), 0);
  EXPECT_EQ(code(other_->lookup(dir_of_other_, from, kRoot)), ENOENT);
  EXPECT_EQ(cluster_.check(), "");
}

INSTANTIATE_TEST_SUITE_P(Bricks, KnownNames, testing::Values(1, 2, 4));

}  // namespace
}  // namespace voldfs::test
