#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/fs.h>

#include <atomic>
#include <set>
#include <thread>

#include "dht/settle.h"
#include "tests/lib/cluster.h"

namespace voldfs::test {
namespace {

const dht::Caller kRoot{};

int code(const auto& result) { return result ? 0 : result.error().code; }

struct Mount {
  explicit Mount(Cluster& cluster) : volume(cluster.mount()), root(volume->root()) {}

  Id make_file(const dht::NodePtr& dir, const std::string& name) {
    auto made = volume->create(dir, name, 0644, O_RDWR | O_CREAT | O_EXCL, kRoot);
    EXPECT_EQ(code(made), 0) << name;
    if (!made) return {};
    volume->release(made->file, kRoot);
    return made->entry.node->id();
  }
  dht::NodePtr make_dir(const dht::NodePtr& dir, const std::string& name) {
    auto made = volume->mkdir(dir, name, 0755, kRoot);
    EXPECT_EQ(code(made), 0) << name;
    return made ? made->node : nullptr;
  }
  // None: it does not exist. Anything else than that is a failure.
  Id id_of(const dht::NodePtr& dir, const std::string& name) {
    auto found = volume->lookup(dir, name, kRoot);
    if (!found) {
      EXPECT_EQ(found.error().code, ENOENT) << name;
    }
    return found ? found->node->id() : Id{};
  }
  std::multiset<std::string> list(const dht::NodePtr& dir) {
    std::multiset<std::string> names;
    auto stream = volume->open_directory(dir, kRoot);
    auto done = volume->read_directory(**stream, 0, 0, kRoot, [&](const dht::ListedEntry& entry) {
      if (entry.name != "." && entry.name != "..") names.insert(entry.name);
      return true;
    });
    EXPECT_EQ(code(done), 0);
    return names;
  }

  std::unique_ptr<dht::Volume> volume;
  dht::NodePtr root;
};

using Names = std::multiset<std::string>;

class Rename : public testing::Test {
 protected:
  Cluster cluster_{Cluster::Options{.bricks = 3}};
  Mount mount_{cluster_};
  dht::Volume& volume_ = *mount_.volume;
  dht::NodePtr root_ = mount_.root;
  const std::string at1_ = cluster_.name_at(1, root_, "a"), at2_ = cluster_.name_at(2, root_, "b"),
                    at3_ = cluster_.name_at(3, root_, "c");

  int rename(const std::string& from, const std::string& to, uint32_t flags = 0) {
    return code(volume_.rename(root_, from, root_, to, flags, kRoot));
  }
};

// The transaction's record is still there when the new name is removed, and so it is settled once more: what has the old name by then is
// another link.
TEST_F(Rename, OldNameIsALinkAgain_BeforeTheRecordHasGone_StaysWhenTheNewNameGoes) {
  for (const bool lies_elsewhere : {false, true}) {
    const std::string first = lies_elsewhere ? at3_ : at1_;
    const Id file = mount_.make_file(root_, first);
    if (lies_elsewhere) {
      EXPECT_EQ(rename(first, at1_), 0);
    }
    volume_.impl().chores.wait();
    volume_.impl().before_request = [](uint16_t, const wire::Request& request) -> Result<void> {
      if (static_cast<wire::Op>(request.header().op) == wire::Op::kTxnFinish) return fail(EIO);
      return {};
    };
    EXPECT_EQ(rename(at1_, at2_), 0);
    auto node = volume_.lookup(root_, at2_, kRoot);
    ASSERT_EQ(code(node), 0);
    EXPECT_EQ(code(volume_.link(node->node, root_, at1_, kRoot)), 0);
    volume_.impl().chores.wait();
    volume_.impl().before_request = nullptr;
    Mount other(cluster_);
    EXPECT_EQ(code(other.volume->unlink(other.root, at2_, kRoot)), 0);
    EXPECT_EQ(other.id_of(other.root, at2_), Id{});
    EXPECT_EQ(other.id_of(other.root, at1_), file) << lies_elsewhere;
    auto left = other.volume->lookup(other.root, at1_, kRoot);
    if (left) {
      EXPECT_EQ(left->attr.nlink, 1u) << lies_elsewhere;
    }
    EXPECT_EQ(code(other.volume->unlink(other.root, at1_, kRoot)), 0);
  }
}

TEST_F(Rename, SameAuthority_IsOneRequest) {
  const Id id = mount_.make_file(root_, at1_);
  const std::string to = cluster_.name_at(1, root_, "to");
  RequestCount requests(volume_);
  EXPECT_EQ(rename(at1_, to), 0);
  EXPECT_EQ(requests.count(), 1);
  EXPECT_EQ(mount_.id_of(root_, to), id);
  EXPECT_TRUE(mount_.id_of(root_, at1_).is_none());
}

TEST_F(Rename, AcrossBricks_FollowsTheName) {
  const Id id = mount_.make_file(root_, at1_);
  const std::string names[] = {at1_, at2_, at3_, cluster_.name_at(3, root_, "d"), at2_, at1_};
  for (size_t i = 1; i < std::size(names); ++i) {
    ASSERT_EQ(rename(names[i - 1], names[i]), 0) << i;
    EXPECT_EQ(mount_.id_of(root_, names[i]), id) << i;
    EXPECT_TRUE(mount_.id_of(root_, names[i - 1]).is_none()) << i;
    EXPECT_EQ(mount_.list(root_), Names{names[i]});
    EXPECT_TRUE(std::filesystem::exists(cluster_.brick_path(1) / names[i])) << i;
  }
  EXPECT_EQ(code(volume_.unlink(root_, at1_, kRoot)), 0);
  EXPECT_EQ(mount_.list(root_), Names{});
}

TEST_F(Rename, OntoAFile_ReplacesIt) {
  for (const std::string& target : {cluster_.name_at(1, root_, "t"), at2_}) {
    const Id id = mount_.make_file(root_, at1_);
    mount_.make_file(root_, target);
    EXPECT_EQ(rename(at1_, target, RENAME_NOREPLACE), EEXIST);
    EXPECT_EQ(rename(at1_, target), 0);
    EXPECT_EQ(mount_.id_of(root_, target), id);
    EXPECT_EQ(mount_.list(root_), Names{target});
    EXPECT_EQ(code(volume_.unlink(root_, target, kRoot)), 0);
  }
}

TEST_F(Rename, Types_AsOnOneDisk) {
  mount_.make_file(root_, at1_);
  mount_.make_dir(root_, at2_);
  EXPECT_EQ(rename(at1_, at2_), EISDIR);
  EXPECT_EQ(rename(at2_, at1_), ENOTDIR);
  EXPECT_EQ(rename("missing", at1_), ENOENT);
  EXPECT_EQ(rename(at1_, at1_), 0);
  EXPECT_EQ(rename(at1_, at2_, RENAME_NOREPLACE | RENAME_EXCHANGE), EINVAL);
  EXPECT_EQ(rename(at1_, at3_, RENAME_EXCHANGE), ENOENT);
}

TEST_F(Rename, Directory_AcrossBricks_KeepsWhatIsInIt) {
  const dht::NodePtr dir = mount_.make_dir(root_, at1_);
  Names inside;
  for (uint16_t ordinal = 1; ordinal <= 3; ++ordinal) {
    inside.insert(cluster_.name_at(ordinal, dir));
    mount_.make_file(dir, cluster_.name_at(ordinal, dir));
  }
  const dht::NodePtr parent = mount_.make_dir(root_, "parent");
  ASSERT_EQ(code(volume_.rename(root_, at1_, parent, "moved", 0, kRoot)), 0);
  Mount other(cluster_);
  auto other_parent = other.volume->lookup(other.root, "parent", kRoot);
  ASSERT_EQ(code(other_parent), 0);
  EXPECT_EQ(other_parent->attr.nlink, 3u);
  auto moved = other.volume->lookup(other_parent->node, "moved", kRoot);
  ASSERT_EQ(code(moved), 0);
  EXPECT_EQ(moved->node->id(), dir->id());
  EXPECT_EQ(other.list(moved->node), inside);
  EXPECT_EQ(other.list(other.root), Names{"parent"});
  EXPECT_EQ(code(volume_.rename(root_, "parent", dir, "below", 0, kRoot)), EINVAL);
  for (const std::string& name : inside) EXPECT_EQ(code(other.volume->unlink(moved->node, name, kRoot)), 0);
  EXPECT_EQ(code(other.volume->rmdir(other_parent->node, "moved", kRoot)), 0);
  EXPECT_EQ(code(other.volume->rmdir(other.root, "parent", kRoot)), 0);
  EXPECT_EQ(mount_.list(root_), Names{});
}

TEST_F(Rename, Directory_OntoDirectory_OnlyIfEmpty) {
  for (const std::string& target : {at2_, cluster_.name_at(1, root_, "t")}) {
    const dht::NodePtr dir = mount_.make_dir(root_, at1_);
    const dht::NodePtr old = mount_.make_dir(root_, target);
    const std::string inside = cluster_.name_at(3, old);
    mount_.make_file(old, inside);
    EXPECT_EQ(rename(at1_, target), ENOTEMPTY);
    EXPECT_EQ(mount_.list(old), Names{inside});
    EXPECT_EQ(code(volume_.unlink(old, inside, kRoot)), 0);
    EXPECT_EQ(rename(at1_, target), 0);
    EXPECT_EQ(mount_.id_of(root_, target), dir->id());
    EXPECT_EQ(mount_.list(root_), Names{target});
    mount_.make_file(dir, "alive");
    EXPECT_EQ(code(volume_.unlink(dir, "alive", kRoot)), 0);
    EXPECT_EQ(code(volume_.rmdir(root_, target, kRoot)), 0);
  }
}

TEST_F(Rename, Exchange_AcrossBricks_SwapsBoth) {
  const Id first = mount_.make_file(root_, at1_);
  const Id second = mount_.make_file(root_, at2_);
  ASSERT_EQ(rename(at1_, at2_, RENAME_EXCHANGE), 0);
  EXPECT_EQ(mount_.id_of(root_, at1_), second);
  EXPECT_EQ(mount_.id_of(root_, at2_), first);
  const dht::NodePtr dir = mount_.make_dir(root_, at3_);
  mount_.make_file(dir, "inside");
  ASSERT_EQ(rename(at3_, at1_, RENAME_EXCHANGE), 0);
  EXPECT_EQ(mount_.id_of(root_, at1_), dir->id());
  EXPECT_EQ(mount_.id_of(root_, at3_), second);
  EXPECT_EQ(mount_.list(dir), Names{"inside"});
  EXPECT_EQ(mount_.list(root_), (Names{at1_, at2_, at3_}));
}

// --- A client that dies after its n-th request ---------------------------------------------------------------

constexpr int kRequestsMax = 40;  // more than any operation here needs

// Runs the operation on clients that die one request later each time, then checks with another client.
void for_each_death(Cluster& cluster, const std::function<void(Mount&)>& prepare,
                    const std::function<int(Mount&)>& operation, const std::function<void(Mount&)>& check) {
  for (int requests = 0; requests < kRequestsMax; ++requests) {
    SCOPED_TRACE("the client dies after request " + std::to_string(requests));
    Mount witness(cluster);
    witness.volume->impl().settle_after_ms = 0;
    prepare(witness);
    int result = 0;
    {
      Mount victim(cluster);
      die_after(*victim.volume, requests);
      result = operation(victim);
      die_after(*victim.volume, 0);
    }
    check(witness);
    auto settled = dht::settle_all(witness.volume->impl(), kRoot);
    EXPECT_EQ(code(settled), 0);
    check(witness);
    if (testing::Test::HasFailure()) return;
    for (const std::string& name : witness.list(witness.root)) {
      int removed = code(witness.volume->unlink(witness.root, name, kRoot));
      if (removed == EISDIR) removed = code(witness.volume->rmdir(witness.root, name, kRoot));
      EXPECT_EQ(removed, 0) << name;
    }
    EXPECT_EQ(witness.list(witness.root), Names{});
    if (result == 0) return;
  }
  ADD_FAILURE() << "the operation never ended";
}

class RenameFault : public Rename {};

TEST_F(RenameFault, ClientDies_FileAcross_OldOrNew) {
  Id moved, replaced;
  for_each_death(
      cluster_,
      [&](Mount& witness) {
        moved = witness.make_file(witness.root, at1_);
        replaced = witness.make_file(witness.root, at2_);
      },
      [&](Mount& victim) { return code(victim.volume->rename(victim.root, at1_, victim.root, at2_, 0, kRoot)); },
      [&](Mount& witness) {
        const Id from = witness.id_of(witness.root, at1_), to = witness.id_of(witness.root, at2_);
        EXPECT_TRUE((from == moved && to == replaced) || (from.is_none() && to == moved));
        EXPECT_EQ(witness.list(witness.root), from.is_none() ? Names{at2_} : (Names{at1_, at2_}));
      });
}

TEST_F(RenameFault, ClientDies_DirectoryAcross_OldOrNew) {
  Id moved;
  for_each_death(
      cluster_,
      [&](Mount& witness) {
        const dht::NodePtr dir = witness.make_dir(witness.root, at1_);
        moved = dir->id();
      },
      [&](Mount& victim) { return code(victim.volume->rename(victim.root, at1_, victim.root, at2_, 0, kRoot)); },
      [&](Mount& witness) {
        const Id from = witness.id_of(witness.root, at1_), to = witness.id_of(witness.root, at2_);
        EXPECT_TRUE((from == moved && to.is_none()) || (from.is_none() && to == moved));
        EXPECT_EQ(witness.list(witness.root).size(), 1u);
      });
}

TEST_F(RenameFault, ClientDies_Exchange_NeitherOrBoth) {
  Id first, second;
  for_each_death(
      cluster_,
      [&](Mount& witness) {
        first = witness.make_file(witness.root, at1_);
        second = witness.make_file(witness.root, at2_);
      },
      [&](Mount& victim) {
        return code(victim.volume->rename(victim.root, at1_, victim.root, at2_, RENAME_EXCHANGE, kRoot));
      },
      [&](Mount& witness) {
        const Id a = witness.id_of(witness.root, at1_), b = witness.id_of(witness.root, at2_);
        EXPECT_TRUE((a == first && b == second) || (a == second && b == first));
        EXPECT_EQ(witness.list(witness.root), (Names{at1_, at2_}));
      });
}

TEST_F(RenameFault, ClientDies_LinkAcross_OneOrTwoNames) {
  Id file;
  for_each_death(
      cluster_, [&](Mount& witness) { file = witness.make_file(witness.root, at1_); },
      [&](Mount& victim) {
        auto found = victim.volume->lookup(victim.root, at1_, kRoot);
        return found ? code(victim.volume->link(found->node, victim.root, at2_, kRoot)) : found.error().code;
      },
      [&](Mount& witness) {
        EXPECT_EQ(witness.id_of(witness.root, at1_), file);
        const Id second = witness.id_of(witness.root, at2_);
        EXPECT_TRUE(second.is_none() || second == file);
      });
}

TEST_F(RenameFault, ClientDies_RmdirAndMkdir_ThereOrNot) {
  Id dir;
  for_each_death(
      cluster_,
      [&](Mount& witness) {
        const dht::NodePtr made = witness.make_dir(witness.root, at1_);
        dir = made->id();
        for (uint16_t ordinal = 1; ordinal <= 3; ++ordinal) {
          witness.make_file(made, cluster_.name_at(ordinal, made));
          EXPECT_EQ(code(witness.volume->unlink(made, cluster_.name_at(ordinal, made), kRoot)), 0);
        }
      },
      [&](Mount& victim) { return code(victim.volume->rmdir(victim.root, at1_, kRoot)); },
      [&](Mount& witness) {
        auto found = witness.volume->lookup(witness.root, at1_, kRoot);
        if (!found) {
          EXPECT_EQ(found.error().code, ENOENT);
          return;
        }
        EXPECT_EQ(found->node->id(), dir);
        for (uint16_t ordinal = 1; ordinal <= 3; ++ordinal) {
          const std::string name = cluster_.name_at(ordinal, found->node);
          witness.make_file(found->node, name);
          EXPECT_EQ(code(witness.volume->unlink(found->node, name, kRoot)), 0);
        }
      });
}

// Two clean up behind a rename at once. One of them is late: the other has finished, and the old name is the file's again.
class RenameLateFault : public RenameFault {
 protected:
  // Renames it, and back; a second client's `op`, of the first rename's cleanup, arrives after that.
  void rename_and_back(wire::Op op, const std::string& from, const std::string& to) {
    Mount late(cluster_);
    late.volume->impl().settle_after_ms = 0;
    std::atomic<bool> both = false, is_late = false, goes_on = false;
    const auto is_op = [op](const wire::Request& request) {
      auto copy = request;
      return copy.header().op == static_cast<uint16_t>(op);
    };
    std::thread thread;
    volume_.impl().before_request = [&](uint16_t, const wire::Request& request) -> Result<void> {
      if (!is_op(request) || both.exchange(true)) return {};
      late.volume->impl().before_request = [&](uint16_t, const wire::Request& its) -> Result<void> {
        if (is_op(its) && !is_late.exchange(true))
          while (!goes_on) std::this_thread::yield();
        return {};
      };
      thread = std::thread([&] { (void)dht::settle_all(late.volume->impl(), kRoot); });
      while (!is_late) std::this_thread::yield();
      return {};
    };
    EXPECT_EQ(rename(from, to), 0);
    EXPECT_EQ(rename(to, from), 0);
    goes_on = true;
    ASSERT_TRUE(thread.joinable());
    thread.join();
    late.volume->impl().before_request = nullptr;
    volume_.impl().before_request = nullptr;
  }
};

TEST_F(RenameLateFault, FileHasItsOldNameAgain_LateCleanupLeavesIt) {
  const Id id = mount_.make_file(root_, at1_);
  rename_and_back(wire::Op::kSettle, at1_, at2_);
  Mount other(cluster_);
  EXPECT_EQ(other.id_of(other.root, at1_), id);
  EXPECT_TRUE(other.id_of(other.root, at2_).is_none());
  EXPECT_EQ(other.list(other.root), Names{at1_});
  EXPECT_EQ(code(other.volume->unlink(other.root, at1_, kRoot)), 0);
  EXPECT_EQ(cluster_.check(), "");
}

TEST_F(RenameLateFault, DirectoryHasItsOldNameAgain_LateCleanupLeavesIt) {
  const dht::NodePtr dir = mount_.make_dir(root_, at1_);
  mount_.make_file(dir, "inside");
  rename_and_back(wire::Op::kDirUpdate, at1_, at2_);
  Mount other(cluster_);
  EXPECT_EQ(other.id_of(other.root, at1_), dir->id());
  EXPECT_TRUE(other.id_of(other.root, at2_).is_none());
  EXPECT_EQ(other.list(other.root), Names{at1_});
  EXPECT_EQ(cluster_.check(), "");
}

TEST_F(RenameFault, TwoClients_SameNames_LosersHearENOENT) {
  constexpr int kRounds = 30;
  for (int round = 0; round < kRounds; ++round) {
    const Id id = mount_.make_file(root_, at1_);
    Mount other(cluster_);
    int results[2];
    std::thread racer([&] { results[0] = code(other.volume->rename(other.root, at1_, other.root, at2_, 0, kRoot)); });
    results[1] = rename(at1_, at3_);
    racer.join();
    EXPECT_EQ((results[0] == 0) + (results[1] == 0), 1) << results[0] << ' ' << results[1];
    const std::string winner = results[0] == 0 ? at2_ : at3_;
    EXPECT_EQ(mount_.list(root_), Names{winner});
    EXPECT_EQ(mount_.id_of(root_, winner), id);
    EXPECT_EQ(code(volume_.unlink(root_, winner, kRoot)), 0);
    if (HasFailure()) return;
  }
}

TEST_F(RenameFault, TwoClients_DirectoriesIntoEachOther_NoLoop) {
  constexpr int kRounds = 10;
  for (int round = 0; round < kRounds; ++round) {
    const dht::NodePtr a = mount_.make_dir(root_, at1_), b = mount_.make_dir(root_, at2_);
    Mount other(cluster_);
    auto other_a = other.volume->lookup(other.root, at1_, kRoot), other_b = other.volume->lookup(other.root, at2_, kRoot);
    ASSERT_TRUE(other_a && other_b);
    int results[2];
    std::thread racer([&] { results[0] = code(other.volume->rename(other.root, at1_, other_b->node, "x", 0, kRoot)); });
    results[1] = code(volume_.rename(root_, at2_, a, "y", 0, kRoot));
    racer.join();
    EXPECT_EQ((results[0] == 0) + (results[1] == 0), 1) << results[0] << ' ' << results[1];
    if (HasFailure()) return;
    if (results[0] == 0) {
      EXPECT_EQ(code(volume_.rmdir(b, "x", kRoot)), 0);
      EXPECT_EQ(code(volume_.rmdir(root_, at2_, kRoot)), 0);
    } else {
      EXPECT_EQ(code(volume_.rmdir(a, "y", kRoot)), 0);
      EXPECT_EQ(code(volume_.rmdir(root_, at1_, kRoot)), 0);
    }
    EXPECT_EQ(mount_.list(root_), Names{});
  }
}

}  // namespace
}  // namespace voldfs::test
