#include <gtest/gtest.h>
#include <linux/fs.h>
#include <sys/xattr.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <functional>
#include <thread>
#include <utility>
#include <vector>

#include "dht/settle.h"
#include "tests/lib/mount.h"
#include "tests/lib/steps.h"

// A step of an operation that arrives when another client has ended that operation, and the names have changed again since: nothing of it
// is left to be done.
namespace voldfs::test {
namespace {

namespace fs = std::filesystem;
constexpr int kDeadlineMs = 30'000;

wire::Op op_of(const wire::Request& request) {
  wire::Request copy = request;
  return static_cast<wire::Op>(copy.header().op);
}

// A client that cleans up behind whatever it finds, and stops right before its first request of this kind.
class LateSettler {
 public:
  LateSettler(Cluster& cluster, wire::Op op) : mount_(cluster) {
    mount_.volume->impl().settle_after_ms = 0;
    mount_.volume->impl().before_request = [this, op](uint16_t, const wire::Request& request) -> Result<void> {
      if (op_of(request) == op && !is_there_.exchange(true))
        while (!goes_on_) std::this_thread::yield();
      return {};
    };
  }
  ~LateSettler() { go_on(); }

  void begin() {
    thread_ = std::thread([this] { (void)dht::settle_all(mount_.volume->impl(), kRoot); });
    EXPECT_TRUE(wait_until(kDeadlineMs, [&] { return is_there_.load(); }));
  }
  void go_on() {
    goes_on_ = true;
    if (thread_.joinable()) thread_.join();
  }

 private:
  TreeMount mount_;
  std::atomic<bool> is_there_ = false, goes_on_ = false;
  std::thread thread_;
};

class LateStepsFault : public testing::Test {
 protected:
  // Once, before the mount's first request of this kind.
  static void before(TreeMount& mount, wire::Op op, const std::function<void()>& act) {
    auto done = std::make_shared<std::atomic<bool>>(false);
    mount.volume->impl().before_request = [=](uint16_t, const wire::Request& request) -> Result<void> {
      if (op_of(request) == op && !done->exchange(true)) act();
      return {};
    };
  }

  dht::NodePtr look(TreeMount& mount, const std::string& name) {
    auto found = mount.volume->lookup(mount.root, name, kRoot);
    EXPECT_EQ(code(found), 0) << name;
    return found ? found->node : nullptr;
  }
  int link(TreeMount& mount, const std::string& from, const std::string& to) {
    return code(mount.volume->link(look(mount, from), mount.root, to, kRoot));
  }
  int unlink(TreeMount& mount, const std::string& name) { return code(mount.volume->unlink(mount.root, name, kRoot)); }

  void expect_links(const std::vector<std::string>& names, const Id& id, uint16_t brick) {
    TreeMount other(cluster_);
    for (const std::string& name : names) {
      auto found = other.volume->lookup(other.root, name, kRoot);
      ASSERT_EQ(code(found), 0) << name;
      EXPECT_EQ(found->node->id(), id) << name;
      EXPECT_EQ(found->attr.nlink, names.size()) << name;
      EXPECT_TRUE(fs::exists(cluster_.brick_path(brick) / name)) << name;
    }
  }

  Cluster cluster_{Cluster::Options{.bricks = 3, .grace_ms = 200}};
  TreeMount mount_{cluster_};
  const std::string a_ = cluster_.name_at(1, mount_.root, "a"), b_ = cluster_.name_at(2, mount_.root, "b"),
                    c_ = cluster_.name_at(3, mount_.root, "c");
};

TEST_F(LateStepsFault, Settle_OverARestartOfTheBrick_LeavesTheFileThatHasItsOldNameAgain) {
  const Id id = mount_.file(mount_.root, a_);
  LateSettler late(cluster_, wire::Op::kSettle);
  before(mount_, wire::Op::kSettle, [&] { late.begin(); });
  ASSERT_EQ(mount_.rename(a_, b_), 0);
  mount_.volume->impl().chores.wait();
  cluster_.kill(1);
  cluster_.restart(1);
  ASSERT_EQ(mount_.rename(b_, a_), 0);
  late.go_on();
  expect_links({a_}, id, 1);
  TreeMount other(cluster_);
  EXPECT_TRUE(matches(other.tree(), {{a_, id}})) << text(other.tree());
  EXPECT_EQ(cluster_.check(), "");
}

// The brick was down when the record was to be forgotten, and the name has moved on: the one who finds the record later is late.
TEST_F(LateStepsFault, RecordThatStayed_MakesNoNameAgain) {
  const Id id = mount_.file(mount_.root, a_);
  ASSERT_EQ(mount_.rename(a_, b_), 0);
  mount_.volume->impl().chores.wait();
  mount_.volume->impl().before_request = [](uint16_t, const wire::Request& request) -> Result<void> {
    return op_of(request) == wire::Op::kTxnFinish ? Result<void>(fail(EIO)) : Result<void>();
  };
  ASSERT_EQ(mount_.rename(b_, a_), 0);
  mount_.volume->impl().chores.wait();
  mount_.volume->impl().before_request = nullptr;
  ASSERT_EQ(mount_.rename(a_, b_), 0);
  cluster_.kill(1);
  cluster_.restart(1);
  TreeMount other(cluster_);
  other.volume->impl().settle_after_ms = 0;
  EXPECT_EQ(code(dht::settle_all(other.volume->impl(), kRoot)), 0);
  expect_links({b_}, id, 1);
  EXPECT_TRUE(matches(other.tree(), {{b_, id}})) << text(other.tree());
  EXPECT_EQ(cluster_.check(), "");
}

TEST_F(LateStepsFault, AbortOfALink_LeavesTheLinkThatWasMadeSince) {
  const Id id = mount_.file(mount_.root, a_);
  {
    TreeMount victim(cluster_);
    std::atomic<bool> dead = false;
    victim.volume->impl().before_request = [&](uint16_t, const wire::Request& request) -> Result<void> {
      dead = dead || op_of(request) == wire::Op::kTxnCommit;
      return dead ? Result<void>(fail(EIO)) : Result<void>();
    };
    EXPECT_EQ(link(victim, a_, b_), EIO);
    victim.volume->impl().before_request = nullptr;
  }
  LateSettler late(cluster_, wire::Op::kUnlink);
  before(mount_, wire::Op::kUnlink, [&] { late.begin(); });
  mount_.volume->impl().settle_after_ms = 0;
  EXPECT_EQ(code(dht::settle_all(mount_.volume->impl(), kRoot)), 0);
  expect_links({a_}, id, 1);
  ASSERT_EQ(link(mount_, a_, b_), 0);
  late.go_on();
  expect_links({a_, b_}, id, 1);
  EXPECT_EQ(unlink(mount_, a_), 0);
  expect_links({b_}, id, 1);
  EXPECT_EQ(cluster_.check(), "");
}

// The driver itself is late: thought dead before it has made the link on the object's brick.
TEST_F(LateStepsFault, LinkThatWasAborted_IsMadeOnce) {
  const Id id = mount_.file(mount_.root, a_);
  TreeMount settler(cluster_);
  settler.volume->impl().settle_after_ms = 0;
  before(mount_, wire::Op::kLink, [&] { EXPECT_EQ(code(dht::settle_all(settler.volume->impl(), kRoot)), 0); });
  EXPECT_EQ(link(mount_, a_, b_), 0);
  expect_links({a_, b_}, id, 1);
  EXPECT_EQ(cluster_.check(), "");
}

TEST_F(LateStepsFault, LinkThatWasAborted_OfADriverThatDiesThen_IsNotMade) {
  const Id id = mount_.file(mount_.root, a_);
  {
    TreeMount victim(cluster_);
    std::atomic<bool> dead = false;
    victim.volume->impl().before_request = [&](uint16_t, const wire::Request& request) -> Result<void> {
      if (dead) return fail(EIO);
      if (op_of(request) != wire::Op::kLink) return {};
      TreeMount settler(cluster_);
      settler.volume->impl().settle_after_ms = 0;
      EXPECT_EQ(code(dht::settle_all(settler.volume->impl(), kRoot)), 0);
      dead = true;
      return {};
    };
    EXPECT_EQ(link(victim, a_, b_), EIO);
    victim.volume->impl().before_request = nullptr;
  }
  expect_links({a_}, id, 1);
  EXPECT_EQ(fs::hard_link_count(cluster_.brick_path(1) / a_), 1u);
  EXPECT_EQ(cluster_.check(), "");
}

// The settler came between the link and the commit, and has forgotten the transaction: what it could not see must not stay.
TEST_F(LateStepsFault, LinkThatIsAbortedAtItsCommit_IsCountedOnce) {
  const Id id = mount_.file(mount_.root, a_);
  TreeMount settler(cluster_);
  settler.volume->impl().settle_after_ms = 0;
  before(mount_, wire::Op::kTxnCommit, [&] { EXPECT_EQ(code(dht::settle_all(settler.volume->impl(), kRoot)), 0); });
  EXPECT_EQ(link(mount_, a_, b_), 0);
  expect_links({a_, b_}, id, 1);
  EXPECT_EQ(cluster_.check(), "");
}

TEST_F(LateStepsFault, RemovalOfWhatWasReplaced_LeavesTheNameThatItHasAgain) {
  const Id moved = mount_.file(mount_.root, a_), replaced = mount_.file(mount_.root, c_);
  ASSERT_EQ(link(mount_, c_, b_), 0);
  mount_.volume->impl().chores.wait();
  LateSettler late(cluster_, wire::Op::kUnlink);
  before(mount_, wire::Op::kUnlink, [&] { late.begin(); });
  ASSERT_EQ(mount_.rename(a_, b_), 0);
  expect_links({b_}, moved, 1);
  mount_.volume->impl().before_request = nullptr;
  ASSERT_EQ(unlink(mount_, b_), 0);
  ASSERT_EQ(link(mount_, c_, b_), 0);
  late.go_on();
  expect_links({b_, c_}, replaced, 3);
  EXPECT_EQ(cluster_.check(), "");
}

TEST_F(LateStepsFault, ExchangeOfFilesOfAThirdBrick_IsNotDoneAgain) {
  const std::string first_name = c_, second_name = cluster_.name_at(3, mount_.root, "d");
  const Id first = mount_.file(mount_.root, first_name), second = mount_.file(mount_.root, second_name);
  ASSERT_EQ(mount_.rename(first_name, a_), 0);
  ASSERT_EQ(mount_.rename(second_name, b_), 0);
  mount_.volume->impl().chores.wait();
  LateSettler late(cluster_, wire::Op::kSettle);
  before(mount_, wire::Op::kSettle, [&] { late.begin(); });
  ASSERT_EQ(mount_.rename(a_, b_, RENAME_EXCHANGE), 0);
  const auto inode = [&](const std::string& name) {
    struct stat stat {};
    EXPECT_EQ(::lstat((cluster_.brick_path(3) / name).c_str(), &stat), 0) << name;
    return stat.st_ino;
  };
  const ino_t at_a = inode(a_), at_b = inode(b_);
  ASSERT_EQ(mount_.rename(a_, b_, RENAME_EXCHANGE), 0);
  late.go_on();
  expect_links({a_}, first, 3);
  expect_links({b_}, second, 3);
  EXPECT_EQ(inode(a_), at_b);
  EXPECT_EQ(inode(b_), at_a);
  EXPECT_EQ(cluster_.check(), "");
}

// A brick was killed where it had moved the file and not yet taken the mark of its old name off it; and the transaction's record stayed.
TEST_F(LateStepsFault, MarkOfANameThatHasGone_SaysNothingWhenTheFileGetsThatNameAgain) {
  const Id id = mount_.file(mount_.root, a_);
  constexpr char kMark[] = "trusted.voldfs.leaving";
  std::vector<char> mark(512);
  ssize_t size = -1;
  mount_.volume->impl().before_request = [&](uint16_t, const wire::Request& request) -> Result<void> {
    if (op_of(request) == wire::Op::kTxnFinish) return fail(EIO);
    if (op_of(request) == wire::Op::kSettle) size = ::getxattr((cluster_.brick_path(1) / a_).c_str(), kMark, mark.data(), mark.size());
    return {};
  };
  ASSERT_EQ(mount_.rename(a_, b_), 0);
  mount_.volume->impl().chores.wait();
  mount_.volume->impl().before_request = nullptr;
  ASSERT_GT(size, 0);
  ASSERT_EQ(::setxattr((cluster_.brick_path(1) / b_).c_str(), kMark, mark.data(), static_cast<size_t>(size), 0), 0);
  ASSERT_EQ(link(mount_, b_, a_), 0);
  expect_links({a_, b_}, id, 1);
  EXPECT_EQ(unlink(mount_, b_), 0);
  expect_links({a_}, id, 1);
  EXPECT_EQ(cluster_.check(), "");
}

// A link of a file that no name leads to, as an unlink leaves it that was cut behind the stub's removal, is one too many.
TEST_F(LateStepsFault, LinkThatNothingLeadsTo_GoesWhenItIsParked) {
  const Id id = mount_.file(mount_.root, a_);
  ASSERT_EQ(link(mount_, a_, b_), 0);
  mount_.volume->impl().chores.wait();
  {
    TreeMount victim(cluster_);
    std::atomic<int> unlinks = 0;  // of the name, which is a stub; of the stub; of the file
    victim.volume->impl().before_request = [&](uint16_t, const wire::Request& request) -> Result<void> {
      return op_of(request) == wire::Op::kUnlink && ++unlinks > 2 ? Result<void>(fail(EIO)) : Result<void>();
    };
    EXPECT_EQ(unlink(victim, b_), EIO);
    victim.volume->impl().before_request = nullptr;
  }
  EXPECT_EQ(fs::hard_link_count(cluster_.brick_path(1) / a_), 2u);
  EXPECT_EQ(code(mount_.volume->impl().park(1, mount_.root, b_, id, kRoot)), 0);
  expect_links({a_}, id, 1);
  EXPECT_TRUE(fs::is_empty(cluster_.brick_path(1) / ".voldfs/parked"));
  EXPECT_EQ(cluster_.check(), "");
}

// A file from before voldfs: who has found it leads to it by a stub, late.
TEST(LateStubFault, OfAFileThatWasRemoved_IsNoName) {
  constexpr int kFiles = 8;  // one of them lies elsewhere than at its authority
  Cluster cluster(Cluster::Options{.bricks = 3, .adopt = true});
  for (int i = 0; i < kFiles; ++i) std::ofstream(cluster.brick_path(1) / ("f" + std::to_string(i))).flush();
  cluster.start_all();
  TreeMount mount(cluster), late(cluster);
  int removed = 0;
  for (int i = 0; i < kFiles; ++i) {
    const std::string name = "f" + std::to_string(i);
    if (mount.volume->impl().hashed(mount.root, name) == 1) continue;
    bool made = false;
    late.volume->impl().before_request = [&](uint16_t, const wire::Request& request) -> Result<void> {
      if (op_of(request) != wire::Op::kStubMake || std::exchange(made, true)) return {};
      EXPECT_EQ(code(mount.volume->unlink(mount.root, name, kRoot)), 0);
      return {};
    };
    EXPECT_EQ(code(late.volume->lookup(late.root, name, kRoot)), ENOENT);
    late.volume->impl().before_request = nullptr;
    EXPECT_TRUE(made);
    TreeMount other(cluster);
    EXPECT_EQ(code(other.volume->lookup(other.root, name, kRoot)), ENOENT);
    ++removed;
  }
  EXPECT_GT(removed, 0);
  EXPECT_EQ(cluster.check(), "");
}

}  // namespace
}  // namespace voldfs::test
