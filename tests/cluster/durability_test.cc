#include <fcntl.h>
#include <gtest/gtest.h>

#include <mutex>
#include <set>

#include "dht/open_file.h"
#include "tests/lib/cluster.h"

// What an fsync promises, over several bricks and the loss of a host's memory.
namespace voldfs::test {
namespace {

const dht::Caller kRoot{};

int code(const auto& result) { return result ? 0 : result.error().code; }

// The bricks that a mount sends kFsync to.
class Syncs {
 public:
  explicit Syncs(dht::Volume& volume) : volume_(volume), seen_(std::make_shared<Seen>()) {
    volume_.impl().before_request = [seen = seen_](uint16_t ordinal, const wire::Request& request) -> Result<void> {
      std::lock_guard lock(seen->mutex);
      if (request.header().op == static_cast<uint16_t>(wire::Op::kFsync)) seen->bricks.insert(ordinal);
      return {};
    };
  }
  ~Syncs() { volume_.impl().before_request = nullptr; }
  std::multiset<uint16_t> take() {
    std::lock_guard lock(seen_->mutex);
    return std::exchange(seen_->bricks, {});
  }

 private:
  struct Seen {
    std::mutex mutex;
    std::multiset<uint16_t> bricks;
  };
  dht::Volume& volume_;
  std::shared_ptr<Seen> seen_;
};

using Bricks = std::multiset<uint16_t>;

class DurabilityFault : public testing::Test {
 protected:
  dht::OpenFilePtr make_file(const dht::NodePtr& dir, const std::string& name) {
    auto made = volume_->create(dir, name, 0644, O_RDWR | O_CREAT | O_EXCL, kRoot);
    EXPECT_EQ(code(made), 0) << name;
    return made ? made->file : nullptr;
  }
  int write(const dht::OpenFilePtr& file, const std::string& text) {
    return code(volume_->write(file, 0, std::as_bytes(std::span(text)), 0, kRoot));
  }

  Cluster cluster_{{.bricks = 3, .dir_copies = 1}};
  std::unique_ptr<dht::Volume> volume_ = cluster_.mount();
  dht::NodePtr root_ = volume_->root();
};

TEST_F(DurabilityFault, Fsync_OfANewFile_SyncsItsParentsHome_Once) {
  auto dir = volume_->mkdir(root_, cluster_.name_at(2, root_), 0755, kRoot);
  ASSERT_EQ(code(dir), 0);
  auto file = make_file(dir->node, cluster_.name_at(3, dir->node));
  ASSERT_EQ(write(file, "x"), 0);
  Syncs syncs(*volume_);
  EXPECT_EQ(code(volume_->fsync(file, false, kRoot)), 0);
  EXPECT_EQ(syncs.take(), (Bricks{1, 2, 3}));  // the root's home, whose set or names may be new; the directory's; the file's
  EXPECT_EQ(code(volume_->fsync(file, false, kRoot)), 0);
  EXPECT_EQ(syncs.take(), Bricks{3});
  auto other = make_file(dir->node, cluster_.name_at(3, dir->node, "other"));
  EXPECT_EQ(code(volume_->fsync(other, true, kRoot)), 0);
  EXPECT_EQ(syncs.take(), Bricks{3});  // nothing has changed above it
  auto on1 = make_file(dir->node, cluster_.name_at(1, dir->node));  // the set grows
  EXPECT_EQ(code(volume_->fsync(on1, true, kRoot)), 0);
  EXPECT_EQ(syncs.take(), (Bricks{1, 2}));
}

TEST_F(DurabilityFault, Fsync_OfARenamedFile_SyncsItsStub) {
  const std::string at1 = cluster_.name_at(1, root_), at2 = cluster_.name_at(2, root_);
  auto file = make_file(root_, at1);
  EXPECT_EQ(code(volume_->fsync(file, false, kRoot)), 0);
  ASSERT_EQ(code(volume_->rename(root_, at1, root_, at2, 0, kRoot)), 0);
  Syncs syncs(*volume_);
  EXPECT_EQ(code(volume_->fsync(file, false, kRoot)), 0);
  EXPECT_EQ(syncs.take(), (Bricks{1, 2}));
  EXPECT_EQ(code(volume_->fsync(file, false, kRoot)), 0);
  EXPECT_EQ(syncs.take(), Bricks{1});
}

TEST_F(DurabilityFault, Fsyncdir_OfANewDirectory_SyncsItsSetAndTheWayThere) {
  auto dir = volume_->mkdir(root_, cluster_.name_at(2, root_), 0755, kRoot);
  ASSERT_EQ(code(dir), 0);
  make_file(dir->node, cluster_.name_at(3, dir->node));
  Syncs syncs(*volume_);
  EXPECT_EQ(code(volume_->fsync_directory(dir->node, kRoot)), 0);
  EXPECT_EQ(syncs.take(), (Bricks{1, 2, 3}));
}

TEST_F(DurabilityFault, HostReboot_UnsyncedWrites_AreEIO_Once) {
  auto file = make_file(root_, cluster_.name_at(1, root_));
  ASSERT_EQ(write(file, "lost"), 0);
  cluster_.reboot_host(1);
  EXPECT_EQ(code(volume_->fsync(file, false, kRoot)), EIO);
  EXPECT_EQ(code(volume_->fsync(file, false, kRoot)), 0);  // each loss is told once
  ASSERT_EQ(write(file, "safe"), 0);
  EXPECT_EQ(code(volume_->fsync(file, false, kRoot)), 0);
}

TEST_F(DurabilityFault, HostReboot_Close_TellsOfTheLoss) {
  auto file = make_file(root_, cluster_.name_at(1, root_));
  ASSERT_EQ(write(file, "lost"), 0);
  cluster_.reboot_host(1);
  // The mount learns of it with the next answer.
  std::vector<std::byte> into(4);
  ASSERT_EQ(code(volume_->read(file, 0, into, kRoot)), 0);
  EXPECT_EQ(code(volume_->flush(file)), EIO);
  EXPECT_EQ(code(volume_->flush(file)), 0);
}

TEST_F(DurabilityFault, HostReboot_SyncedWrites_AreNoLoss) {
  auto file = make_file(root_, cluster_.name_at(1, root_));
  ASSERT_EQ(write(file, "safe"), 0);
  EXPECT_EQ(code(volume_->fsync(file, false, kRoot)), 0);
  cluster_.reboot_host(1);
  EXPECT_EQ(code(volume_->fsync(file, false, kRoot)), 0);
  EXPECT_EQ(code(volume_->flush(file)), 0);
}

TEST_F(DurabilityFault, Kill_WithoutAReboot_IsNoLoss) {
  auto file = make_file(root_, cluster_.name_at(1, root_));
  ASSERT_EQ(write(file, "kept"), 0);
  cluster_.kill(1);
  cluster_.restart(1);
  EXPECT_EQ(code(volume_->fsync(file, false, kRoot)), 0);
}

TEST_F(DurabilityFault, FailedFsync_EIOUntilOpenedAgain_OverARestartToo) {
  auto file = make_file(root_, cluster_.name_at(1, root_));
  ASSERT_EQ(write(file, "x"), 0);
  cluster_.fail_operation(1, wire::Op::kFsync, EIO);
  EXPECT_EQ(code(volume_->fsync(file, false, kRoot)), EIO);
  cluster_.fail_operation(1, wire::Op::kFsync, 0);
  EXPECT_EQ(code(volume_->fsync(file, false, kRoot)), EIO);
  EXPECT_EQ(write(file, "y"), EIO);
  cluster_.kill(1);
  cluster_.restart(1);
  EXPECT_EQ(code(volume_->fsync(file, false, kRoot)), EIO);
  auto again = volume_->open(file->node(), O_RDWR, kRoot);
  ASSERT_EQ(code(again), 0);
  EXPECT_EQ(write(*again, "y"), 0);
  EXPECT_EQ(code(volume_->fsync(*again, false, kRoot)), 0);
}

// The grace period after a reboot lasts its time, though no session has outlived it: a lock that was held is reclaimed before anybody
// else gets it.
TEST_F(DurabilityFault, HostReboot_HeldLock_IsReclaimedBeforeOthersGetIt) {
  auto file = make_file(root_, cluster_.name_at(1, root_));
  auto other = cluster_.mount();
  auto found = other->lookup(other->root(), file->node()->name().name, kRoot);
  ASSERT_EQ(code(found), 0);
  auto theirs = other->open(found->node, O_RDWR, kRoot);
  ASSERT_EQ(code(theirs), 0);
  const dht::Volume::LockRequest lock{wire::LockKind::kPosix, wire::LockType::kWrite, 7, 0, 10, 1};
  std::atomic<int> mine = -1, yours = -1;
  volume_->lock(file, lock, false, kRoot, volume_->next_ticket(), [&](int error) { mine = error; });
  ASSERT_EQ(mine, 0);
  for (int round = 0; round < 3; ++round) {
    cluster_.reboot_host(1);
    yours = -1;
    other->lock(*theirs, lock, false, kRoot, other->next_ticket(), [&](int error) { yours = error; });
    EXPECT_EQ(yours, EAGAIN);
  }
}

}  // namespace
}  // namespace voldfs::test
