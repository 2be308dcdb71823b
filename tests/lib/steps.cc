#include "tests/lib/steps.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/fs.h>

#include <algorithm>

namespace voldfs::test {

Id TreeMount::file(const dht::NodePtr& dir, const std::string& name) {
  auto made = volume->create(dir, name, 0644, O_RDWR | O_CREAT | O_EXCL, kRoot);
  EXPECT_EQ(code(made), 0) << name;
  if (!made) return {};
  volume->release(made->file, kRoot);
  return made->entry.node->id();
}

dht::NodePtr TreeMount::directory(const dht::NodePtr& dir, const std::string& name) {
  auto made = volume->mkdir(dir, name, 0755, kRoot);
  EXPECT_EQ(code(made), 0) << name;
  return made ? made->node : nullptr;
}

int TreeMount::rename(const std::string& from, const std::string& to, uint32_t flags) {
  return code(volume->rename(root, from, root, to, flags, kRoot));
}

Tree TreeMount::tree() {
  Tree found;
  collect(root, "", found);
  return found;
}

void TreeMount::remove_all() {
  remove_below(root);
  EXPECT_EQ(tree(), Tree{});
}

std::vector<std::string> TreeMount::names(const dht::NodePtr& dir) {
  std::vector<std::string> names;
  auto stream = volume->open_directory(dir, kRoot);
  auto done = volume->read_directory(**stream, 0, 0, kRoot, [&](const dht::ListedEntry& entry) {
    if (entry.name != "." && entry.name != "..") names.push_back(entry.name);
    return true;
  });
  EXPECT_EQ(code(done), 0);
  return names;
}

void TreeMount::collect(const dht::NodePtr& dir, const std::string& prefix, Tree& found) {
  for (const std::string& name : names(dir)) {
    auto entry = volume->lookup(dir, name, kRoot);
    EXPECT_EQ(code(entry), 0) << prefix << name << " is listed and cannot be looked up";
    if (!entry) continue;
    EXPECT_TRUE(found.emplace(prefix + name, entry->node->id()).second) << prefix << name << " is listed twice";
    if (entry->node->is_directory()) collect(entry->node, prefix + name + "/", found);
  }
}

void TreeMount::remove_below(const dht::NodePtr& dir) {
  for (const std::string& name : names(dir)) {
    auto entry = volume->lookup(dir, name, kRoot);
    if (!entry) continue;  // tree() tells
    if (!entry->node->is_directory()) {
      EXPECT_EQ(code(volume->unlink(dir, name, kRoot)), 0) << name;
      continue;
    }
    remove_below(entry->node);
    EXPECT_EQ(code(volume->rmdir(dir, name, kRoot)), 0) << name;
  }
}

bool matches(const Tree& found, const Tree& expected) {
  return found.size() == expected.size() &&
         std::equal(found.begin(), found.end(), expected.begin(), [](const auto& is, const auto& should) {
           return is.first == should.first && (should.second.is_none() || is.second == should.second);
         });
}
std::string text(const Tree& tree) {
  std::string text;
  for (const auto& [path, id] : tree) text += path + " " + id.hex() + "\n";
  return text;
}

bool is_old_or_new(const Tree& found, const Tree& before, const Tree& after) {
  bool either = matches(found, before) || matches(found, after);
  for (const auto& [path, id] : after) {
    Tree between = before;
    if (id.is_none() && !before.contains(path)) between[path] = id;
    either |= matches(found, between);
  }
  return either;
}

StepNames::StepNames(Cluster& cluster, const dht::NodePtr& root)
    : a(cluster.name_at(1, root, "a")), a2(cluster.name_at(1, root, "t")), b(cluster.name_at(2, root, "b")), c(cluster.name_at(3, root, "c")) {}

namespace {

dht::NodePtr full_directory(Cluster& cluster, TreeMount& mount, const std::string& name, Tree& tree, const std::string& prefix) {
  const dht::NodePtr dir = mount.directory(mount.root, name);
  tree[prefix] = dir->id();
  for (uint16_t ordinal = 1; ordinal <= cluster.count(); ++ordinal) {
    const std::string inside = cluster.name_at(ordinal, dir);
    tree[prefix + "/" + inside] = mount.file(dir, inside);
  }
  return dir;
}

// On all bricks, with nothing in it.
void emptied_directory(Cluster& cluster, TreeMount& mount, const std::string& name) {
  Tree inside;
  const dht::NodePtr dir = full_directory(cluster, mount, name, inside, name);
  for (uint16_t ordinal = 1; ordinal <= cluster.count(); ++ordinal)
    EXPECT_EQ(code(mount.volume->unlink(dir, cluster.name_at(ordinal, dir), kRoot)), 0);
}

}  // namespace

std::vector<Steps> operations_of_steps() {
  using M = TreeMount&;
  using N = const StepNames&;
  return {
      {"Create", [](Cluster&, M, N n) { return Tree{{n.a, Id{}}}; },
       [](M m, N n) {
         auto made = m.volume->create(m.root, n.a, 0644, O_RDWR | O_CREAT | O_EXCL, kRoot);
         if (made) m.volume->release(made->file, kRoot);
         return code(made);
       }},
      {"Symlink", [](Cluster&, M, N n) { return Tree{{n.a, Id{}}}; },
       [](M m, N n) { return code(m.volume->symlink(m.root, n.a, "target", kRoot)); }},
      {"Unlink", [](Cluster&, M m, N n) { return m.file(m.root, n.a), Tree{}; },
       [](M m, N n) { return code(m.volume->unlink(m.root, n.a, kRoot)); }},
      {"RmdirOfAnEmptyOne", [](Cluster&, M m, N n) { return m.directory(m.root, n.a), Tree{}; },
       [](M m, N n) { return code(m.volume->rmdir(m.root, n.a, kRoot)); }},
      {"Rename", [](Cluster&, M m, N n) { return Tree{{n.a2, m.file(m.root, n.a)}}; },
       [](M m, N n) { return m.rename(n.a, n.a2); }},
      {"RenameAcross", [](Cluster&, M m, N n) { return Tree{{n.b, m.file(m.root, n.a)}}; },
       [](M m, N n) { return m.rename(n.a, n.b); }},
      {"RenameReplaces",
       [](Cluster&, M m, N n) {
         m.file(m.root, n.b);
         return Tree{{n.b, m.file(m.root, n.a)}};
       },
       [](M m, N n) { return m.rename(n.a, n.b); }},
      {"RenameOfStub",
       [](Cluster&, M m, N n) {
         const Id id = m.file(m.root, n.a);
         EXPECT_EQ(m.rename(n.a, n.b), 0);
         return Tree{{n.c, id}};
       },
       [](M m, N n) { return m.rename(n.b, n.c); }},
      {"RenameHome",
       [](Cluster&, M m, N n) {
         const Id id = m.file(m.root, n.a);
         EXPECT_EQ(m.rename(n.a, n.b), 0);
         m.file(m.root, n.a2);
         return Tree{{n.a2, id}};
       },
       [](M m, N n) { return m.rename(n.b, n.a2); }},
      {"Exchange",
       [](Cluster&, M m, N n) {
         const Id a = m.file(m.root, n.a), b = m.file(m.root, n.b);
         return Tree{{n.a, b}, {n.b, a}};
       },
       [](M m, N n) { return m.rename(n.a, n.b, RENAME_EXCHANGE); }},
      {"ExchangeOfStubs",
       [](Cluster&, M m, N n) {
         const Id a = m.file(m.root, n.a), b = m.file(m.root, n.b);
         EXPECT_EQ(m.rename(n.a, n.c), 0);
         EXPECT_EQ(m.rename(n.b, n.a), 0);
         return Tree{{n.a, a}, {n.c, b}};
       },
       [](M m, N n) { return m.rename(n.a, n.c, RENAME_EXCHANGE); }},
      {"ExchangeWithDirectory",
       [](Cluster& c, M m, N n) {
         Tree tree;
         full_directory(c, m, n.a, tree, n.b);
         tree[n.a] = m.file(m.root, n.b);
         return tree;
       },
       [](M m, N n) { return m.rename(n.a, n.b, RENAME_EXCHANGE); }},
      {"Link",
       [](Cluster&, M m, N n) {
         const Id id = m.file(m.root, n.a);
         return Tree{{n.a, id}, {n.b, id}};
       },
       [](M m, N n) {
         auto found = m.volume->lookup(m.root, n.a, kRoot);
         return found ? code(m.volume->link(found->node, m.root, n.b, kRoot)) : found.error().code;
       }},
      {"UnlinkOfStub",
       [](Cluster&, M m, N n) {
         m.file(m.root, n.a);
         EXPECT_EQ(m.rename(n.a, n.b), 0);
         return Tree{};
       },
       [](M m, N n) { return code(m.volume->unlink(m.root, n.b, kRoot)); }},
      {"UnlinkOfOneOfTwo",
       [](Cluster&, M m, N n) {
         const Id id = m.file(m.root, n.a);
         auto found = m.volume->lookup(m.root, n.a, kRoot);
         EXPECT_EQ(code(m.volume->link(found->node, m.root, n.b, kRoot)), 0);
         return Tree{{n.b, id}};
       },
       [](M m, N n) { return code(m.volume->unlink(m.root, n.a, kRoot)); }},
      {"Mkdir", [](Cluster&, M, N n) { return Tree{{n.a, Id{}}}; },
       [](M m, N n) { return code(m.volume->mkdir(m.root, n.a, 0755, kRoot)); }},
      {"Rmdir",
       [](Cluster& c, M m, N n) {
         emptied_directory(c, m, n.a);
         return Tree{};
       },
       [](M m, N n) { return code(m.volume->rmdir(m.root, n.a, kRoot)); }},
      {"RenameDirectory",
       [](Cluster& c, M m, N n) {
         Tree tree;
         full_directory(c, m, n.a, tree, n.b);
         return tree;
       },
       [](M m, N n) { return m.rename(n.a, n.b); }},
      {"RenameDirectoryReplaces",
       [](Cluster& c, M m, N n) {
         Tree tree;
         full_directory(c, m, n.a, tree, n.b);
         m.directory(m.root, n.b);
         return tree;
       },
       [](M m, N n) { return m.rename(n.a, n.b); }},
      {"RenameDirectoryReplacesHere",
       [](Cluster& c, M m, N n) {
         Tree tree;
         full_directory(c, m, n.a, tree, n.a2);
         emptied_directory(c, m, n.a2);
         return tree;
       },
       [](M m, N n) { return m.rename(n.a, n.a2); }},
      {"RmdirOfAStub",
       [](Cluster& c, M m, N n) {
         emptied_directory(c, m, n.a);
         EXPECT_EQ(m.rename(n.a, n.b), 0);
         return Tree{};
       },
       [](M m, N n) { return code(m.volume->rmdir(m.root, n.b, kRoot)); }},
      {"RenameDirectoryToAnotherParent",
       [](Cluster& c, M m, N n) {
         Tree tree;
         full_directory(c, m, n.a, tree, n.c + "/moved");
         tree[n.c] = m.directory(m.root, n.c)->id();
         return tree;
       },
       [](M m, N n) {
         auto to = m.volume->lookup(m.root, n.c, kRoot);
         return to ? code(m.volume->rename(m.root, n.a, to->node, "moved", 0, kRoot)) : to.error().code;
       }},
      {"FirstFileOnABrick",
       [](Cluster&, M m, N n) {
         const Id dir = m.directory(m.root, n.a)->id();
         return Tree{{n.a, dir}, {n.a + "/file", Id{}}, {n.a + "/other", Id{}}};
       },
       [](M m, N n) {  // the two are on different bricks, or both at home: either way a state between is one of them
         auto dir = m.volume->lookup(m.root, n.a, kRoot);
         if (!dir) return dir.error().code;
         for (const char* const name : {"file", "other"}) {
           auto made = m.volume->create(dir->node, name, 0644, O_RDWR | O_CREAT, kRoot);
           if (!made) return made.error().code;
           m.volume->release(made->file, kRoot);
         }
         return 0;
       }},
      {"CreateOnAFullBrick",
       [](Cluster& c, M, N n) {
         c.fail_operation(1, wire::Op::kCreate, ENOSPC);
         return Tree{{n.a, Id{}}};
       },
       [](M m, N n) {
         auto made = m.volume->create(m.root, n.a, 0644, O_RDWR | O_CREAT | O_EXCL, kRoot);
         if (made) m.volume->release(made->file, kRoot);
         return code(made);
       }},
  };
}

}  // namespace voldfs::test
