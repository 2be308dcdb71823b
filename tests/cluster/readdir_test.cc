#include <fcntl.h>
#include <gtest/gtest.h>

#include <fstream>
#include <set>

#include "dht/dir_stream.h"
#include "tests/lib/cluster.h"

namespace voldfs::test {
namespace {

const dht::Caller kRoot{};

int code(const auto& result) { return result ? 0 : result.error().code; }

Id make_file(dht::Volume& volume, const dht::NodePtr& dir, const std::string& name) {
  auto made = volume.create(dir, name, 0644, O_RDWR | O_CREAT | O_EXCL, kRoot);
  EXPECT_EQ(code(made), 0) << name;
  if (!made) return {};
  volume.release(made->file, kRoot);
  return made->entry.node->id();
}

// Reads on from `cookie`, at most `at_most` entries, adding their names; the cookie behind them, 0: that was the end.
uint64_t read_some(dht::Volume& volume, dht::DirStream& stream, uint64_t cookie, size_t at_most,
                   std::multiset<std::string>& names, int expected = 0) {
  size_t taken = 0;
  auto done = volume.read_directory(stream, cookie, 0, kRoot, [&](const dht::ListedEntry& entry) {
    if (taken == at_most) return false;
    ++taken;
    cookie = entry.cookie;
    if (entry.name != "." && entry.name != "..") names.insert(entry.name);
    return true;
  });
  EXPECT_EQ(code(done), expected);
  return taken == at_most ? cookie : 0;
}

class Readdir : public testing::Test {
 protected:
  static constexpr int kFiles = 1500;

  std::multiset<std::string> fill(dht::Volume& volume, const dht::NodePtr& dir) {
    std::multiset<std::string> names;
    for (int i = 0; i < kFiles; ++i) {
      names.insert("file" + std::to_string(i));
      make_file(volume, dir, "file" + std::to_string(i));
    }
    return names;
  }
};

TEST_F(Readdir, InSmallReplies_EveryNameOnce) {
  Cluster cluster{{.bricks = 3}};
  auto volume = cluster.mount();
  auto dir = volume->mkdir(volume->root(), "dir", 0755, kRoot);
  ASSERT_EQ(code(dir), 0);
  const auto expected = fill(*volume, dir->node);
  for (const bool reopen : {false, true}) {  // positions hold for another open too
    std::multiset<std::string> names;
    auto stream = volume->open_directory(dir->node, kRoot);
    uint64_t cookie = 0;
    do {
      if (reopen) stream = volume->open_directory(dir->node, kRoot);
      cookie = read_some(*volume, **stream, cookie, 97, names);
    } while (cookie != 0);
    EXPECT_EQ(names, expected);
  }
}

TEST_F(Readdir, WhileNamesComeAndGo_TheOthersOnce) {
  Cluster cluster{{.bricks = 2}};
  auto volume = cluster.mount();
  auto dir = volume->mkdir(volume->root(), "dir", 0755, kRoot);
  ASSERT_EQ(code(dir), 0);
  const auto expected = fill(*volume, dir->node);
  auto stream = volume->open_directory(dir->node, kRoot);
  std::multiset<std::string> names;
  uint64_t cookie = 0;
  int round = 0;
  do {
    cookie = read_some(*volume, **stream, cookie, 100, names);
    const std::string passing = "passing" + std::to_string(round++);
    make_file(*volume, dir->node, passing);
    const std::string renamed = passing + "-renamed";
    const int changed = round % 2 == 0 ? code(volume->unlink(dir->node, passing, kRoot))
                                       : code(volume->rename(dir->node, passing, dir->node, renamed, 0, kRoot));
    EXPECT_EQ(changed, 0);
  } while (cookie != 0);
  std::erase_if(names, [](const std::string& name) { return name.starts_with("passing"); });
  EXPECT_EQ(names, expected);
}

TEST_F(Readdir, Adopted_FilesOfAllBricks_OnceAndFound) {
  Cluster cluster{{.bricks = 2, .adopt = true}};
  std::multiset<std::string> expected;
  for (uint16_t ordinal = 1; ordinal <= 2; ++ordinal) {
    for (int i = 0; i < 20; ++i) {
      const std::string name = "old" + std::to_string(ordinal) + "-" + std::to_string(i);
      std::ofstream(cluster.brick_path(ordinal) / name) << "content";
      expected.insert(name);
    }
    std::ofstream(cluster.brick_path(ordinal) / "both") << ordinal;
  }
  expected.insert("both");
  cluster.start_all();
  auto volume = cluster.mount();
  ASSERT_EQ(volume->root()->record().epoch, 0u);
  auto stream = volume->open_directory(volume->root(), kRoot);
  std::multiset<std::string> names;
  while (read_some(*volume, **stream, 0, 1000, names) != 0) {}
  EXPECT_EQ(names, expected);
  for (const std::string& name : expected) EXPECT_EQ(code(volume->lookup(volume->root(), name, kRoot)), 0) << name;
  EXPECT_EQ(code(volume->lookup(volume->root(), "none", kRoot)), ENOENT);
  EXPECT_EQ(code(volume->create(volume->root(), "old1-3", 0644, O_CREAT | O_EXCL | O_RDWR, kRoot)), EEXIST);
}

class ReaddirFault : public Readdir {};

TEST_F(ReaddirFault, BrickDown_OthersThenEIO_NeverAShortList) {
  Cluster cluster{{.bricks = 2}};
  auto volume = cluster.mount(client::OnBrickDown::kError, 0);
  auto dir = volume->mkdir(volume->root(), cluster.name_at(1, volume->root()), 0755, kRoot);
  ASSERT_EQ(code(dir), 0);
  const std::string on1 = cluster.name_at(1, dir->node), on2 = cluster.name_at(2, dir->node);
  make_file(*volume, dir->node, on1);
  make_file(*volume, dir->node, on2);
  cluster.kill(1);
  auto stream = volume->open_directory(dir->node, kRoot);
  std::multiset<std::string> names;
  (void)read_some(*volume, **stream, 0, 100, names, EIO);
  EXPECT_EQ(names, std::multiset<std::string>{on2});
  // The path goes on over the directory's backup; what is on the brick that is down is no "no such file".
  auto found = volume->lookup(volume->root(), dir->node->name().name, kRoot);
  ASSERT_EQ(code(found), 0);
  EXPECT_EQ(found->node, dir->node);
  EXPECT_EQ(code(volume->lookup(dir->node, on2, kRoot)), 0);
  EXPECT_EQ(code(volume->lookup(dir->node, on1, kRoot)), EIO);
  EXPECT_EQ(code(volume->lookup(dir->node, cluster.name_at(1, dir->node, "missing"), kRoot)), EIO);
  make_file(*volume, dir->node, cluster.name_at(2, dir->node, "new"));
  cluster.restart(1);
  names.clear();
  auto again = cluster.mount();
  auto listed = again->lookup(again->root(), dir->node->name().name, kRoot);
  ASSERT_EQ(code(listed), 0);
  auto whole = again->open_directory(listed->node, kRoot);
  (void)read_some(*again, **whole, 0, 100, names);
  EXPECT_EQ(names, (std::multiset<std::string>{on1, on2, cluster.name_at(2, dir->node, "new")}));
}

}  // namespace
}  // namespace voldfs::test
