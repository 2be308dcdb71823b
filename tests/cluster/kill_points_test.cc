#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/fs.h>

#include <atomic>
#include <cstdlib>
#include <functional>
#include <map>
#include <optional>
#include <thread>

#include "dht/housework.h"
#include "dht/settle.h"
#include "tests/lib/cluster.h"
#include "tests/lib/mount.h"

// Every operation of several steps, killed at each of them: the client, the brick that is asked, or both. What is seen then is the
// old tree or the new one, never anything else; and nothing is wrong on the bricks.
namespace voldfs::test {
namespace {

const dht::Caller kRoot{};
constexpr int kRequestsMax = 60;  // more than any operation here needs
constexpr int kDeadlineMs = 60'000;

int code(const auto& result) { return result ? 0 : result.error().code; }

// Path to id; none: whatever id it may have.
using Tree = std::map<std::string, Id>;

class Mount {
 public:
  explicit Mount(Cluster& cluster) : volume(cluster.mount()), root(volume->root()) {}

  Id file(const dht::NodePtr& dir, const std::string& name) {
    auto made = volume->create(dir, name, 0644, O_RDWR | O_CREAT | O_EXCL, kRoot);
    EXPECT_EQ(code(made), 0) << name;
    if (!made) return {};
    volume->release(made->file, kRoot);
    return made->entry.node->id();
  }
  dht::NodePtr directory(const dht::NodePtr& dir, const std::string& name) {
    auto made = volume->mkdir(dir, name, 0755, kRoot);
    EXPECT_EQ(code(made), 0) << name;
    return made ? made->node : nullptr;
  }
  int rename(const std::string& from, const std::string& to, uint32_t flags = 0) {
    return code(volume->rename(root, from, root, to, flags, kRoot));
  }
  Tree tree() {
    Tree found;
    collect(root, "", found);
    return found;
  }
  void remove_all() {
    remove_below(root);
    EXPECT_EQ(tree(), Tree{});
  }

  std::unique_ptr<dht::Volume> volume;
  dht::NodePtr root;

 private:
  std::vector<std::string> names(const dht::NodePtr& dir) {
    std::vector<std::string> names;
    auto stream = volume->open_directory(dir, kRoot);
    auto done = volume->read_directory(**stream, 0, false, kRoot, [&](const dht::ListedEntry& entry) {
      if (entry.name != "." && entry.name != "..") names.push_back(entry.name);
      return true;
    });
    EXPECT_EQ(code(done), 0);
    return names;
  }
  void collect(const dht::NodePtr& dir, const std::string& prefix, Tree& found) {
    for (const std::string& name : names(dir)) {
      auto entry = volume->lookup(dir, name, kRoot);
      EXPECT_EQ(code(entry), 0) << prefix << name << " is listed and cannot be looked up";
      if (!entry) continue;
      EXPECT_TRUE(found.emplace(prefix + name, entry->node->id()).second) << prefix << name << " is listed twice";
      if (entry->node->is_directory()) collect(entry->node, prefix + name + "/", found);
    }
  }
  void remove_below(const dht::NodePtr& dir) {
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
};

bool matches(const Tree& found, const Tree& expected) {
  return found.size() == expected.size() &&
         std::equal(found.begin(), found.end(), expected.begin(), [](const auto& is, const auto& should) {
           return is.first == should.first && (should.second.is_none() || is.second == should.second);
         });
}

struct Names {
  std::string a, a2, b, c;  // a and a2: of brick 1; b: of 2; c: of 3
};

struct Operation {
  std::string title;
  // Makes the old tree; the result is the new one.
  std::function<Tree(Cluster&, Mount&, const Names&)> prepare;
  std::function<int(Mount&, const Names&)> run;
};

dht::NodePtr full_directory(Cluster& cluster, Mount& mount, const std::string& name, Tree& tree, const std::string& prefix) {
  const dht::NodePtr dir = mount.directory(mount.root, name);
  tree[prefix] = dir->id();
  for (uint16_t ordinal = 1; ordinal <= cluster.count(); ++ordinal) {
    const std::string inside = cluster.name_at(ordinal, dir);
    tree[prefix + "/" + inside] = mount.file(dir, inside);
  }
  return dir;
}

std::vector<Operation> operations() {
  using M = Mount&;
  using N = const Names&;
  return {
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
         Tree inside;
         const dht::NodePtr dir = full_directory(c, m, n.a, inside, n.a);
         for (uint16_t ordinal = 1; ordinal <= c.count(); ++ordinal)
           EXPECT_EQ(code(m.volume->unlink(dir, c.name_at(ordinal, dir), kRoot)), 0);
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

enum class Death { kClient, kBrickBefore, kBrickAfter, kBoth };

std::string to_string(Death death) {
  switch (death) {
    case Death::kClient: return "ClientDies";
    case Death::kBrickBefore: return "BrickDiesBefore";
    case Death::kBrickAfter: return "BrickDiesAfter";
    case Death::kBoth: return "BothDie";
  }
  return {};
}

using Point = std::tuple<size_t, Death>;

class KillPointsFaultSlow : public testing::TestWithParam<Point> {
 protected:
  // One run, with the death at this request. True: the operation needed no more requests.
  bool run_once(int at) {
    SCOPED_TRACE("request " + std::to_string(at));
    const Operation operation = operations()[std::get<0>(GetParam())];
    Mount witness(cluster_);
    witness.volume->impl().settle_after_ms = 0;
    const Names names{cluster_.name_at(1, witness.root, "a"), cluster_.name_at(1, witness.root, "t"),
                      cluster_.name_at(2, witness.root, "b"), cluster_.name_at(3, witness.root, "c")};
    const Tree after = operation.prepare(cluster_, witness, names);
    const Tree before = witness.tree();
    Outcome outcome;
    {
      Mount victim(cluster_);
      outcome = run_victim(victim, [&] { return operation.run(victim, names); }, at);
      die_after(*victim.volume, 0);
    }
    check(witness, outcome, before, after);
    EXPECT_EQ(code(dht::settle_all(witness.volume->impl(), kRoot)), 0);
    check(witness, outcome, before, after);
    cluster_.fail_operation(1, wire::Op::kCreate, 0);
    if (!HasFailure()) witness.remove_all();
    return outcome.requests <= at;
  }

  // What maintenance does beside each brick.
  void park_orphans() {
    const std::atomic<bool> stop = false;
    const auto volume = cluster_.mount();
    for (uint16_t ordinal = 1; ordinal <= cluster_.count(); ++ordinal) {
      dht::Housework housework(volume->impl(), ordinal, stop);
      auto orphans = housework.find_orphans();
      ASSERT_EQ(code(orphans), 0);
      EXPECT_EQ(code(housework.park_orphans(*orphans)), 0);
    }
  }

  Cluster cluster_{Cluster::Options{.bricks = 3, .grace_ms = 200, .down_timeout_ms = 60'000}};

 private:
  struct Outcome {
    int result = 0;
    int requests = 0;
  };

  // The operation, with the death at its request number `at`. Bricks are killed by this thread, at a request of which the
  // victim's waits for the end.
  Outcome run_victim(Mount& victim, const std::function<int()>& run, int at) {
    const Death death = std::get<1>(GetParam());
    std::atomic<int> requests = 0;
    std::atomic<uint16_t> asked = 0;  // the brick that gets request number `at`
    std::atomic<int> op = 0;
    std::atomic<bool> killed = false;
    victim.volume->impl().before_request = [&](uint16_t ordinal, const wire::Request& request) -> Result<void> {
      const int number = requests++;
      if (number > at && (death == Death::kClient || death == Death::kBoth)) return fail(EIO);
      if (number != at) return {};
      if (death == Death::kBrickAfter)
        cluster_.brick(ordinal).faults().dial(static_cast<wire::Op>(request.header().op)).cut_after = 1;
      op = request.header().op;
      asked = ordinal;
      while (death == Death::kBrickBefore && !killed) std::this_thread::yield();
      return {};
    };
    int result = 0;
    std::atomic<bool> ended = false;
    std::thread thread([&] { result = run(), ended = true; });
    if (death == Death::kBrickBefore || death == Death::kBrickAfter) {
      EXPECT_TRUE(wait_until(kDeadlineMs, [&] { return asked != 0 || ended; }));
      if (asked != 0 && death == Death::kBrickAfter) {
        auto& dial = cluster_.brick(asked).faults().dial(static_cast<wire::Op>(op.load()));
        EXPECT_TRUE(wait_until(kDeadlineMs, [&] { return dial.cut_after == 0; }));
      }
      if (asked != 0) {
        cluster_.kill(asked);
        cluster_.restart(asked);
      }
      killed = true;
    }
    thread.join();
    if (death == Death::kBoth && asked != 0) {
      cluster_.kill(asked);
      cluster_.restart(asked);
    }
    victim.volume->impl().before_request = nullptr;
    return {result, requests};
  }

  void check(Mount& witness, const Outcome& outcome, const Tree& before, const Tree& after) {
    const Death death = std::get<1>(GetParam());
    const Tree found = witness.tree();
    const bool client_lives = death == Death::kBrickBefore || death == Death::kBrickAfter;
    if (client_lives) {
      EXPECT_EQ(outcome.result, 0);
    }
    if (client_lives || outcome.result == 0) {
      EXPECT_TRUE(matches(found, after)) << "not the new tree: " << text(found);
      return;
    }
    // Each of its files is created or not.
    bool either = matches(found, before) || matches(found, after);
    for (const auto& [path, id] : after) {
      Tree between = before;
      if (id.is_none() && !before.contains(path)) between[path] = id;
      either |= matches(found, between);
    }
    EXPECT_TRUE(either) << "neither the old tree nor the new one: " << text(found);
  }

  static std::string text(const Tree& tree) {
    std::string text;
    for (const auto& [path, id] : tree) text += path + " " + id.hex() + "\n";
    return text;
  }
};

TEST_P(KillPointsFaultSlow, AtEachRequest_OldOrNew) {
  for (int at = 0; !run_once(at) && !HasFailure(); ++at) ASSERT_LT(at, kRequestsMax) << "the operation never ended";
  park_orphans();
  EXPECT_EQ(cluster_.check(), "");
}

INSTANTIATE_TEST_SUITE_P(
    Every, KillPointsFaultSlow,
    testing::Combine(testing::Range<size_t>(0, operations().size()),
                     testing::Values(Death::kClient, Death::kBrickBefore, Death::kBrickAfter, Death::kBoth)),
    [](const testing::TestParamInfo<Point>& info) {
      return operations()[std::get<0>(info.param)].title + "_" + to_string(std::get<1>(info.param));
    });

}  // namespace
}  // namespace voldfs::test
