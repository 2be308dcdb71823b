#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <thread>

#include "dht/adoption.h"
#include "tests/lib/check.h"
#include "tests/lib/cluster.h"

// Bricks that had files before voldfs (FORMAT.md, rules 3 and 4).
namespace voldfs::test {
namespace {

namespace fs = std::filesystem;
const dht::Caller kRoot{};

int code(const auto& result) { return result ? 0 : result.error().code; }

class Adoption : public testing::Test {
 protected:
  // Three bricks with files of their own and overlapping directories; the third has little.
  void put_files() {
    for (uint16_t ordinal = 1; ordinal <= 3; ++ordinal) {
      const fs::path root = cluster_.brick_path(ordinal);
      const std::string own = std::to_string(ordinal);
      if (ordinal != 3) {
        for (int i = 0; i < 10; ++i) put(root / ("top" + own + "-" + std::to_string(i)));
        for (int d = 0; d < 4; ++d) {
          const fs::path shared = root / ("shared" + std::to_string(d));
          fs::create_directory(shared);
          fs::create_directory(shared / "below");
          for (int i = 0; i < 6; ++i) put(shared / ("f" + own + "-" + std::to_string(i)));
          for (int i = 0; i < 4; ++i) put(shared / "below" / ("g" + own + "-" + std::to_string(i)));
        }
      }
      fs::create_directory(root / ("only" + own));
      put(root / ("only" + own) / "file");
    }
    cluster_.start_all();
  }

  void put(const fs::path& path) {
    const std::string relative = fs::relative(path, cluster_.brick_path(1).parent_path());
    const std::string name = relative.substr(relative.find('/') + 1);
    std::ofstream(path) << name;
    files_.insert(name);
  }

  dht::NodePtr walk(dht::Volume& volume, const std::string& path) {
    dht::NodePtr at = volume.root();
    for (const fs::path& name : fs::path(path)) {
      auto found = volume.lookup(at, name.string(), kRoot);
      EXPECT_EQ(code(found), 0) << path << " at " << name;
      if (!found) return nullptr;
      at = found->node;
    }
    return at;
  }

  std::string content(dht::Volume& volume, const dht::NodePtr& node) {
    auto file = volume.open(node, O_RDONLY, kRoot);
    EXPECT_EQ(code(file), 0);
    if (!file) return {};
    std::string text(256, '\0');
    auto size = volume.read(*file, 0, std::as_writable_bytes(std::span(text)), kRoot);
    EXPECT_EQ(code(size), 0);
    volume.release(*file, kRoot);
    text.resize(size ? *size : 0);
    return text;
  }

  // The whole tree as a mount lists it: files, and directories with a slash behind.
  void list(dht::Volume& volume, const dht::NodePtr& dir, const std::string& prefix, std::multiset<std::string>& all) {
    auto stream = volume.open_directory(dir, kRoot);
    std::vector<dht::ListedEntry> entries;
    auto done = volume.read_directory(**stream, 0, 0, kRoot, [&](const dht::ListedEntry& entry) {
      if (entry.name != "." && entry.name != "..") entries.push_back(entry);
      return true;
    });
    EXPECT_EQ(code(done), 0) << prefix;
    for (const dht::ListedEntry& entry : entries) {
      auto found = volume.lookup(dir, entry.name, kRoot);
      ASSERT_EQ(code(found), 0) << prefix << entry.name;
      EXPECT_EQ(found->node->type(), entry.type) << entry.name;
      EXPECT_EQ(dht::inode_number(found->node->id()), entry.inode) << entry.name;
      all.insert(prefix + entry.name + (found->node->is_directory() ? "/" : ""));
      if (found->node->is_directory()) list(volume, found->node, prefix + entry.name + "/", all);
    }
  }

  std::multiset<std::string> expected_tree() const {
    std::set<std::string> all;
    for (const std::string& file : files_) {
      all.insert(file);
      for (fs::path up = fs::path(file).parent_path(); !up.empty(); up = up.parent_path()) all.insert(up.string() + "/");
    }
    return {all.begin(), all.end()};
  }

  void remove_all(dht::Volume& volume, const dht::NodePtr& dir) {
    auto stream = volume.open_directory(dir, kRoot);
    std::vector<std::string> names;
    ASSERT_EQ(code(volume.read_directory(**stream, 0, 0, kRoot, [&](const dht::ListedEntry& entry) {
                if (entry.name != "." && entry.name != "..") names.push_back(entry.name);
                return true;
              })), 0);
    for (const std::string& name : names) {
      auto found = volume.lookup(dir, name, kRoot);
      ASSERT_EQ(code(found), 0) << name;
      if (found->node->is_directory()) {
        remove_all(volume, found->node);
        EXPECT_EQ(code(volume.rmdir(dir, name, kRoot)), 0) << name;
      } else {
        EXPECT_EQ(code(volume.unlink(dir, name, kRoot)), 0) << name;
      }
      EXPECT_EQ(code(volume.lookup(dir, name, kRoot)), ENOENT) << name;
    }
  }

  // Every adopted directory, the root last.
  void finish(dht::Volume& volume, const dht::NodePtr& dir) {
    std::multiset<std::string> names;
    auto stream = volume.open_directory(dir, kRoot);
    ASSERT_EQ(code(volume.read_directory(**stream, 0, 0, kRoot, [&](const dht::ListedEntry& entry) {
                if (entry.type == wire::ObjectType::kDirectory && entry.name != "." && entry.name != "..") names.insert(entry.name);
                return true;
              })), 0);
    for (const std::string& name : names) {
      auto found = volume.lookup(dir, name, kRoot);
      ASSERT_EQ(code(found), 0);
      finish(volume, found->node);
    }
    ASSERT_EQ(code(dht::finish_adoption(volume.impl(), dir, kRoot)), 0);
  }

  Cluster cluster_{{.bricks = 3, .adopt = true}};
  std::set<std::string> files_;
};

TEST_F(Adoption, OverlappingTrees_EveryFileOnce_WithItsContent) {
  put_files();
  auto volume = cluster_.mount();
  for (const std::string& file : files_) {
    const auto node = walk(*volume, file);
    ASSERT_TRUE(node);
    EXPECT_EQ(content(*volume, node), file);
  }
  std::multiset<std::string> all;
  list(*volume, volume->root(), "", all);
  EXPECT_EQ(all, expected_tree());
  EXPECT_EQ(check_bricks(cluster_), "");
}

TEST_F(Adoption, ListedBeforeAnyLookup_EveryFileOnce) {
  put_files();
  auto volume = cluster_.mount();
  std::multiset<std::string> all;
  list(*volume, volume->root(), "", all);
  EXPECT_EQ(all, expected_tree());
  EXPECT_EQ(check_bricks(cluster_), "");
}

TEST_F(Adoption, RemoveEverything_NothingIsLeft) {
  put_files();
  auto volume = cluster_.mount();
  remove_all(*volume, volume->root());
  auto witness = cluster_.mount();
  std::multiset<std::string> all;
  list(*witness, witness->root(), "", all);
  EXPECT_EQ(all, std::multiset<std::string>{});
  EXPECT_EQ(check_bricks(cluster_), "");
}

TEST_F(Adoption, UnlinkWithoutALookup_FileIsGone) {
  put_files();
  auto volume = cluster_.mount();
  for (int i = 0; i < 10; ++i)
    for (const std::string brick : {"1", "2"}) {
      const std::string name = "top" + brick + "-" + std::to_string(i);
      EXPECT_EQ(code(volume->unlink(volume->root(), name, kRoot)), 0) << name;
      EXPECT_EQ(code(volume->lookup(volume->root(), name, kRoot)), ENOENT) << name;
      EXPECT_EQ(code(volume->unlink(volume->root(), name, kRoot)), ENOENT) << name;
    }
  EXPECT_EQ(check_bricks(cluster_), "");
}

TEST_F(Adoption, RenameAndLink_FilesAndDirectories_MoveWithContent) {
  put_files();
  auto volume = cluster_.mount();
  const auto root = volume->root();
  for (int i = 0; i < 10; ++i) {
    const std::string name = "top1-" + std::to_string(i), moved = "moved" + std::to_string(i), linked = "link" + std::to_string(i);
    ASSERT_EQ(code(volume->rename(root, name, root, moved, 0, kRoot)), 0) << name;
    EXPECT_EQ(code(volume->lookup(root, name, kRoot)), ENOENT) << name;
    auto found = volume->lookup(root, moved, kRoot);
    ASSERT_EQ(code(found), 0) << moved;
    EXPECT_EQ(content(*volume, found->node), name);
    ASSERT_EQ(code(volume->link(found->node, root, linked, kRoot)), 0) << linked;
    auto other = volume->lookup(root, linked, kRoot);
    ASSERT_EQ(code(other), 0);
    EXPECT_EQ(other->node, found->node);
    EXPECT_EQ(other->attr.nlink, 2u);
    // Over another adopted file.
    const std::string victim = "top2-" + std::to_string(i);
    ASSERT_EQ(code(volume->rename(root, moved, root, victim, 0, kRoot)), 0) << victim;
    EXPECT_EQ(code(volume->lookup(root, moved, kRoot)), ENOENT) << moved;
    auto replaced = volume->lookup(root, victim, kRoot);
    ASSERT_EQ(code(replaced), 0) << victim;
    EXPECT_EQ(content(*volume, replaced->node), name);
  }
  auto dir = volume->mkdir(root, "new", 0755, kRoot);
  ASSERT_EQ(code(dir), 0);
  for (int d = 0; d < 4; ++d) {
    const std::string name = "shared" + std::to_string(d);
    ASSERT_EQ(code(volume->rename(root, name, dir->node, "s" + std::to_string(d), 0, kRoot)), 0) << name;
    EXPECT_EQ(code(volume->lookup(root, name, kRoot)), ENOENT) << name;
    for (const std::string& file : files_) {
      if (!file.starts_with(name + "/")) continue;
      const auto node = walk(*volume, "new/s" + std::to_string(d) + file.substr(name.size()));
      ASSERT_TRUE(node);
      EXPECT_EQ(content(*volume, node), file);
    }
  }
  EXPECT_EQ(check_bricks(cluster_), "");
}

TEST_F(Adoption, CreateAndMkdir_OverWhatIsThere_EEXIST) {
  put_files();
  auto volume = cluster_.mount();
  const auto root = volume->root();
  EXPECT_EQ(code(volume->mkdir(root, "shared0", 0755, kRoot)), EEXIST);
  EXPECT_EQ(code(volume->mkdir(root, "top2-1", 0755, kRoot)), EEXIST);
  EXPECT_EQ(code(volume->symlink(root, "top1-1", "x", kRoot)), EEXIST);
  EXPECT_EQ(code(volume->rmdir(root, "shared0", kRoot)), ENOTEMPTY);
  EXPECT_EQ(code(volume->rmdir(root, "shared1", kRoot)), ENOTEMPTY);
  // They are as they were.
  for (const std::string& file : files_) ASSERT_TRUE(walk(*volume, file));
  auto shared = walk(*volume, "shared0");
  ASSERT_TRUE(shared);
  auto made = volume->create(shared, "created", 0644, O_CREAT | O_EXCL | O_RDWR, kRoot);
  ASSERT_EQ(code(made), 0);
  volume->release(made->file, kRoot);
  EXPECT_EQ(code(volume->mkdir(shared, "made", 0755, kRoot)), 0);
  EXPECT_EQ(check_bricks(cluster_), "");
}

TEST_F(Adoption, Directory_OnSeveralBricks_HasOneHomeForEverybody) {
  put_files();
  std::vector<std::unique_ptr<dht::Volume>> mounts;
  for (int i = 0; i < 4; ++i) mounts.push_back(cluster_.mount());
  // At once: each brings the parts together.
  std::vector<std::thread> threads;
  for (auto& mount : mounts)
    threads.emplace_back([&mount, this] {
      for (int d = 0; d < 4; ++d) ASSERT_TRUE(walk(*mount, "shared" + std::to_string(d) + "/below"));
    });
  for (auto& thread : threads) thread.join();
  for (int d = 0; d < 4; ++d) {
    const std::string path = "shared" + std::to_string(d);
    wire::Attr attr{};
    attr.mode = 0700;
    const auto node = walk(*mounts[0], path);
    EXPECT_EQ(node->record().home, cluster_.map().layout(0)->place(kRootId, path));
    ASSERT_EQ(code(mounts[0]->setattr(node, nullptr, attr, wire::kSetMode, kRoot)), 0);
    for (auto& mount : mounts) {
      auto seen = mount->getattr(walk(*mount, path), nullptr, kRoot);
      ASSERT_EQ(code(seen), 0);
      EXPECT_EQ(seen->attr.mode & 07777, 0700u);
      EXPECT_EQ(seen->attr.nlink, 3u);
      EXPECT_EQ(seen->node->record().home, node->record().home);
    }
    for (uint16_t ordinal = 1; ordinal <= 2; ++ordinal) {
      struct stat on_disk;
      ASSERT_EQ(::stat((cluster_.brick_path(ordinal) / path).c_str(), &on_disk), 0);
      EXPECT_EQ(on_disk.st_mode & 07777, 0700u);
    }
  }
  EXPECT_EQ(check_bricks(cluster_), "");
}

// Another brings the parts together between the two questions of a lookup: to the authority, and to the others.
TEST_F(Adoption, Directory_BroughtTogetherDuringALookup_IsThere) {
  std::string name;
  for (int i = 0; name.empty() || cluster_.map().layout(0)->place(kRootId, name) != 2; ++i) name = "directory" + std::to_string(i);
  fs::create_directory(cluster_.brick_path(1) / name);
  put(cluster_.brick_path(1) / name / "file");
  for (uint16_t ordinal = 1; ordinal <= 3; ++ordinal) put(cluster_.brick_path(ordinal) / ("top" + std::to_string(ordinal)));
  cluster_.start_all();
  auto slow = cluster_.mount(), fast = cluster_.mount();
  std::atomic<int> lookups = 0;
  slow->impl().before_request = [&](uint16_t ordinal, const wire::Request& request) -> Result<void> {
    auto copy = request;
    const bool asks_others = copy.header().op == static_cast<uint16_t>(wire::Op::kLookup) && ordinal != 2;
    if (asks_others && lookups++ == 0) walk(*fast, name);
    return {};
  };
  auto found = slow->lookup(slow->root(), name, kRoot);
  EXPECT_EQ(code(found), 0);
  EXPECT_GT(lookups, 0);
  slow->impl().before_request = nullptr;
  EXPECT_EQ(code(slow->lookup(slow->root(), "missing", kRoot)), ENOENT);
  EXPECT_EQ(check_bricks(cluster_), "");
}

TEST_F(Adoption, Finished_NamesAreWhereTheyBelong_OneBrickIsAsked) {
  put_files();
  {
    auto volume = cluster_.mount();
    finish(*volume, volume->root());
  }
  auto volume = cluster_.mount();
  EXPECT_EQ(volume->root()->record().epoch, 1u);
  std::multiset<std::string> all;
  list(*volume, volume->root(), "", all);
  EXPECT_EQ(all, expected_tree());
  auto other = cluster_.mount();  // for which no directory has been listed ahead
  RequestCount requests(*other);
  EXPECT_EQ(code(other->lookup(other->root(), "missing", kRoot)), ENOENT);
  EXPECT_EQ(requests.count(), 1);
  EXPECT_EQ(check_bricks(cluster_), "");
}

TEST_F(Adoption, SameFileOnTwoBricks_TheAuthoritysIsShown_TheOtherIsKept) {
  for (uint16_t ordinal = 1; ordinal <= 3; ++ordinal)
    for (int i = 0; i < 8; ++i)
      std::ofstream(cluster_.brick_path(ordinal) / ("both" + std::to_string(i))) << ordinal;
  cluster_.start_all();
  auto volume = cluster_.mount();
  for (int i = 0; i < 8; ++i) {
    const std::string name = "both" + std::to_string(i);
    const auto node = walk(*volume, name);
    ASSERT_TRUE(node);
    EXPECT_EQ(content(*volume, node), std::to_string(cluster_.map().layout(0)->place(kRootId, name)));
  }
  for (uint16_t ordinal = 1; ordinal <= 3; ++ordinal)
    for (int i = 0; i < 8; ++i) EXPECT_TRUE(fs::exists(cluster_.brick_path(ordinal) / ("both" + std::to_string(i))));
}

class AdoptionFault : public Adoption {};

TEST(AdoptionOfOneBrick, FilesOnOneBrickAlone_AreThere_AndTheBricksAgree) {
  for (const uint16_t with_files : {1, 2, 3}) {
    for (const bool looked_at : {false, true}) {
      Cluster cluster(Cluster::Options{.bricks = 3, .adopt = true});
      const fs::path brick = cluster.brick_path(with_files);
      fs::create_directory(brick / "dir");
      std::ofstream(brick / "dir" / "file") << "content";
      cluster.start_all();
      if (looked_at) {
        auto volume = cluster.mount();
        auto dir = volume->lookup(volume->root(), "dir", kRoot);
        ASSERT_EQ(code(dir), 0) << with_files;
        EXPECT_EQ(code(volume->lookup(dir->node, "file", kRoot)), 0) << with_files;
      }
      EXPECT_EQ(cluster.check(), "") << with_files << (looked_at ? ", looked at" : "");
    }
  }
}

TEST_F(AdoptionFault, BrickDown_AbsentNameIsNoENOENT) {
  put_files();
  cluster_.kill(2);
  auto volume = cluster_.mount(client::OnBrickDown::kError, 0);
  EXPECT_EQ(code(volume->lookup(volume->root(), "missing", kRoot)), EIO);
  cluster_.restart(2);
  auto back = cluster_.mount();
  for (const std::string& file : files_) ASSERT_TRUE(walk(*back, file));
}

TEST_F(AdoptionFault, ClientDiesWhileUniting_NextOneCompletesIt) {
  put_files();
  for (int requests = 1; requests < 30; ++requests) {
    auto dying = cluster_.mount();
    die_after(*dying, requests);
    (void)dying->lookup(dying->root(), "shared" + std::to_string(requests % 4), kRoot);
    dying->impl().before_request = nullptr;
  }
  auto volume = cluster_.mount();
  for (const std::string& file : files_) ASSERT_TRUE(walk(*volume, file));
  std::multiset<std::string> all;
  list(*volume, volume->root(), "", all);
  EXPECT_EQ(all, expected_tree());
  EXPECT_EQ(check_bricks(cluster_), "");
}

}  // namespace
}  // namespace voldfs::test
