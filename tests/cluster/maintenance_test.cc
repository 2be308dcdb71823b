#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <thread>

#include "brick/store/record.h"
#include "brick/store/xattr.h"
#include "dht/maintenance.h"
#include "tests/lib/check.h"
#include "tests/lib/cluster.h"
#include "tests/lib/mount.h"

// What is left behind by clients that die and by hosts that go down, and who puts it right.
namespace voldfs::test {
namespace {

namespace fs = std::filesystem;
const dht::Caller kRoot{};
constexpr int kDeadlineMs = 10'000;

int code(const auto& result) { return result ? 0 : result.error().code; }

class MaintenanceFault : public testing::Test {
 protected:
  dht::Housework housework(dht::Volume& volume, uint16_t own) { return {volume.impl(), own, stop_}; }

  void make_file(dht::Volume& volume, const dht::NodePtr& dir, const std::string& name) {
    auto made = volume.create(dir, name, 0644, O_RDWR | O_CREAT | O_EXCL, kRoot);
    ASSERT_EQ(code(made), 0) << name;
    volume.release(made->file, kRoot);
  }

  // A file on brick 1 that a stub on brick 2 leads to. Its name.
  std::string make_stubbed(dht::Volume& volume, const std::string& prefix = "n") {
    const auto root = volume.root();
    const std::string at1 = cluster_.name_at(1, root, prefix + "a"), at2 = cluster_.name_at(2, root, prefix + "b");
    make_file(volume, root, at1);
    EXPECT_EQ(code(volume.rename(root, at1, root, at2, 0, kRoot)), 0);
    volume.impl().chores.wait();  // the transaction is forgotten, or a brick that is killed now would keep it
    EXPECT_TRUE(is_stub(2, at2));
    EXPECT_TRUE(exists(1, at2));
    // The transaction is forgotten behind the rename's back.
    EXPECT_TRUE(wait_until(kDeadlineMs, [&] { return fs::is_empty(cluster_.brick_path(2) / ".voldfs/txn"); }));
    return at2;
  }

  bool exists(uint16_t brick, const std::string& name) const { return fs::exists(cluster_.brick_path(brick) / name); }
  bool is_stub(uint16_t brick, const std::string& name) const {
    struct stat stat;
    return ::stat((cluster_.brick_path(brick) / name).c_str(), &stat) == 0 && (stat.st_mode & 07777) == store::kStubMode;
  }
  size_t parked(uint16_t brick) const {
    return static_cast<size_t>(std::distance(fs::directory_iterator(cluster_.brick_path(brick) / ".voldfs/parked"), {}));
  }
  // A client that dies after so many requests of what it does.
  void dying(int requests, const std::function<void(dht::Volume&)>& act) {
    auto volume = cluster_.mount();
    die_after(*volume, requests);
    act(*volume);
    volume->impl().before_request = nullptr;
  }
  // As a brick's maintenance does, without its waits.
  size_t clean_up(dht::Volume& volume, uint16_t own) {
    volume.impl().settle_after_ms = 0;
    auto work = housework(volume, own);
    auto found = work.find_orphans();
    EXPECT_EQ(code(found), 0);
    auto done = work.park_orphans(found ? *found : std::vector<dht::Housework::Orphan>{});
    EXPECT_EQ(code(done), 0);
    return done ? *done : 0;
  }

  Cluster cluster_{{.bricks = 2}};
  std::atomic<bool> stop_ = false;
};

TEST_F(MaintenanceFault, ClientDiesInUnlink_ObjectIsParked) {
  auto witness = cluster_.mount();
  const std::string name = make_stubbed(*witness);
  // Unlink, look, object, stub: the object's own name stays.
  dying(4, [&](dht::Volume& volume) { EXPECT_NE(code(volume.unlink(volume.root(), name, kRoot)), 0); });
  ASSERT_EQ(code(witness->lookup(witness->root(), name, kRoot)), ENOENT);
  ASSERT_TRUE(exists(1, name));
  EXPECT_EQ(clean_up(*witness, 2), 0u);
  EXPECT_EQ(clean_up(*witness, 1), 1u);
  EXPECT_FALSE(exists(1, name));
  EXPECT_EQ(parked(1), 1u);
  witness.reset();
  EXPECT_EQ(check_bricks(cluster_), "");
}

TEST_F(MaintenanceFault, ClientDiesInMkdir_CopyWithoutAHomeIsRemoved) {
  auto witness = cluster_.mount();
  const std::string name = cluster_.name_at(2, witness->root());  // its backup is brick 1, which is asked first
  dying(1, [&](dht::Volume& volume) { EXPECT_NE(code(volume.mkdir(volume.root(), name, 0755, kRoot)), 0); });
  ASSERT_TRUE(exists(1, name));
  ASSERT_FALSE(exists(2, name));
  EXPECT_EQ(clean_up(*witness, 1), 1u);
  EXPECT_FALSE(exists(1, name));
  EXPECT_EQ(code(witness->mkdir(witness->root(), name, 0755, kRoot)), 0);
  EXPECT_EQ(clean_up(*witness, 1), 0u);
  EXPECT_TRUE(exists(1, name));
  witness.reset();
  EXPECT_EQ(check_bricks(cluster_), "");
}

TEST_F(MaintenanceFault, WorkInProgress_IsNotTouched) {
  auto witness = cluster_.mount();
  const std::string name = cluster_.name_at(2, witness->root());
  cluster_.fail_operation(2, wire::Op::kCreate, ENOSPC);
  // Prepared, made on the other brick, not committed.
  dying(3, [&](dht::Volume& volume) {
    EXPECT_NE(code(volume.create(volume.root(), name, 0644, O_RDWR | O_CREAT | O_EXCL, kRoot)), 0);
  });
  ASSERT_TRUE(exists(1, name));
  witness->impl().settle_after_ms = 3'600'000;  // its driver may be alive
  auto work = housework(*witness, 1);
  auto found = work.find_orphans();
  ASSERT_EQ(code(found), 0);
  ASSERT_EQ(found->size(), 1u);
  EXPECT_EQ(work.park_orphans(*found).value(), 0u);
  EXPECT_TRUE(exists(1, name));
  witness->impl().settle_after_ms = 0;  // it is dead: the transaction's end takes the file along
  EXPECT_EQ(work.park_orphans(*found).value(), 0u);
  EXPECT_FALSE(exists(1, name));
  EXPECT_EQ(parked(1), 0u);
  witness.reset();
  EXPECT_EQ(check_bricks(cluster_), "");
}

TEST_F(MaintenanceFault, Scrub_StubLostWithThePower_IsMadeAgain) {
  auto witness = cluster_.mount();
  const std::string met = make_stubbed(*witness, "met"), unmet = make_stubbed(*witness, "unmet");
  fs::remove(cluster_.brick_path(2) / met);
  fs::remove(cluster_.brick_path(2) / unmet);
  cluster_.reboot_host(2);
  auto volume = cluster_.mount();
  // A lookup goes everywhere, and leads to it.
  EXPECT_EQ(code(volume->lookup(volume->root(), met, kRoot)), 0);
  EXPECT_TRUE(is_stub(2, met));
  EXPECT_EQ(code(volume->lookup(volume->root(), "missing", kRoot)), ENOENT);
  EXPECT_FALSE(is_stub(2, unmet));
  ASSERT_TRUE(cluster_.brick(2).chores(0).unclean);
  auto scrubbed = housework(*volume, 2).scrub();
  ASSERT_EQ(code(scrubbed), 0);
  EXPECT_TRUE(*scrubbed);
  EXPECT_TRUE(is_stub(2, unmet));
  cluster_.brick(2).scrubbed();
  EXPECT_FALSE(cluster_.brick(2).chores(0).unclean);
  {
    RequestCount requests(*volume);
    EXPECT_EQ(code(volume->lookup(volume->root(), cluster_.name_at(2, volume->root(), "none"), kRoot)), ENOENT);
    EXPECT_EQ(requests.count(), 1);
  }
  EXPECT_EQ(code(volume->lookup(volume->root(), unmet, kRoot)), 0);
  volume.reset(), witness.reset();
  cluster_.restart(2);
  EXPECT_FALSE(cluster_.brick(2).chores(0).unclean);
  EXPECT_EQ(check_bricks(cluster_), "");
}

TEST_F(MaintenanceFault, Scrub_StubOfALostFile_IsParked) {
  auto witness = cluster_.mount();
  const std::string name = make_stubbed(*witness);
  fs::remove(cluster_.brick_path(1) / name);
  cluster_.reboot_host(1);
  cluster_.reboot_host(2);
  auto volume = cluster_.mount();
  EXPECT_EQ(code(volume->lookup(volume->root(), name, kRoot)), EIO);  // never "no such file" before somebody has looked
  ASSERT_EQ(code(housework(*volume, 2).scrub()), 0);
  EXPECT_EQ(code(volume->lookup(volume->root(), name, kRoot)), ENOENT);
  EXPECT_EQ(parked(2), 1u);
}

TEST_F(MaintenanceFault, Scrub_DirectoryStubLost_IsMadeAgain) {
  auto witness = cluster_.mount();
  const auto root = witness->root();
  const std::string at1 = cluster_.name_at(1, root, "a"), at2 = cluster_.name_at(2, root, "b");
  auto dir = witness->mkdir(root, at1, 0755, kRoot);
  ASSERT_EQ(code(dir), 0);
  ASSERT_EQ(code(witness->rename(root, at1, root, at2, 0, kRoot)), 0);
  const std::string inside = cluster_.name_at(1, dir->node, "inside");
  make_file(*witness, dir->node, inside);
  ASSERT_TRUE(fs::is_directory(cluster_.brick_path(2) / at2));  // a backup, in the stub's place
  fs::remove_all(cluster_.brick_path(2) / at2);
  cluster_.reboot_host(2);
  auto volume = cluster_.mount();
  ASSERT_EQ(code(housework(*volume, 2).scrub()), 0);
  cluster_.brick(2).scrubbed();
  auto found = volume->lookup(volume->root(), at2, kRoot);
  ASSERT_EQ(code(found), 0);
  EXPECT_EQ(code(volume->lookup(found->node, inside, kRoot)), 0);
}

TEST_F(MaintenanceFault, Scrub_BrickDown_IsNotDone) {
  auto witness = cluster_.mount();
  const std::string name = make_stubbed(*witness);
  fs::remove(cluster_.brick_path(2) / name);
  cluster_.reboot_host(2);
  cluster_.kill(1);
  auto volume = cluster_.mount(client::OnBrickDown::kError, 0);
  EXPECT_EQ(code(volume->lookup(volume->root(), name, kRoot)), EIO);  // the brick that is down may have it
  EXPECT_NE(code(housework(*volume, 2).scrub()), 0);
  cluster_.restart(1);
  ASSERT_TRUE(wait_until(10'000, [&] { return code(housework(*volume, 2).scrub()) == 0; }));
  EXPECT_TRUE(is_stub(2, name));
}

dht::Maintenance::Brick looked_after(Cluster& cluster, uint16_t ordinal) {
  dht::Maintenance::Brick brick;
  brick.ordinal = ordinal;
  brick.chores = [&cluster, ordinal] {
    const auto chores = cluster.brick(ordinal).chores(0);
    return dht::Maintenance::Chores{chores.unclean, chores.adopted, chores.overdue, chores.clients_died};
  };
  brick.map = [&cluster] { return cluster.map().to_json(); };  // with the ports that the bricks have
  brick.secret = cluster.secret();
  brick.adopted_done = [&cluster, ordinal] { cluster.brick(ordinal).adopted_done(); };
  brick.scrubbed = [&cluster, ordinal] { cluster.brick(ordinal).scrubbed(); };
  return brick;
}

dht::Maintenance::Options quick_options() {
  dht::Maintenance::Options options;
  options.look_ms = 20, options.settle_after_ms = 50, options.again_ms = 50, options.leave_ms = 100;
  options.client.use_unix_sockets = false;
  return options;
}

TEST_F(MaintenanceFault, Nothing_ToDo_VolumeIsNotMounted) {
  const size_t before = cluster_.brick(1).sessions();
  std::atomic<int> looks = 0;
  auto brick = looked_after(cluster_, 1);
  brick.chores = [&looks] { return ++looks, dht::Maintenance::Chores{}; };
  dht::Maintenance maintenance(std::move(brick), quick_options());
  ASSERT_TRUE(wait_until(10'000, [&] { return looks > 5; }));
  EXPECT_FALSE(maintenance.has_mounted());
  EXPECT_EQ(cluster_.brick(1).sessions(), before);
}

TEST_F(MaintenanceFault, DeadClientsTransaction_IsEnded_AndTheVolumeLeft) {
  auto witness = cluster_.mount();
  const auto root = witness->root();
  const std::string at1 = cluster_.name_at(1, root), at2 = cluster_.name_at(2, root);
  make_file(*witness, root, at1);
  dying(5, [&](dht::Volume& volume) { (void)volume.rename(volume.root(), at1, volume.root(), at2, 0, kRoot); });
  const fs::path txns = cluster_.brick_path(2) / ".voldfs/txn";
  ASSERT_FALSE(fs::is_empty(txns));
  {
    dht::Maintenance maintenance(looked_after(cluster_, 2), quick_options());
    EXPECT_TRUE(wait_until(20'000, [&] { return fs::is_empty(txns); }));
    EXPECT_TRUE(wait_until(20'000, [&] { return !maintenance.has_mounted(); }));
  }
  EXPECT_NE(code(witness->lookup(root, at1, kRoot)) == 0, code(witness->lookup(root, at2, kRoot)) == 0);
  witness.reset();
  EXPECT_EQ(check_bricks(cluster_), "");
}

TEST_F(MaintenanceFault, DeadClientsOrphans_AreParked) {
  auto witness = cluster_.mount();
  const std::string name = make_stubbed(*witness);
  dying(4, [&](dht::Volume& volume) { EXPECT_NE(code(volume.unlink(volume.root(), name, kRoot)), 0); });
  std::atomic<uint64_t> died = 0;
  auto brick = looked_after(cluster_, 1);
  brick.chores = [&died] { return dht::Maintenance::Chores{.clients_died = died}; };
  dht::Maintenance maintenance(std::move(brick), quick_options());
  died = 1;
  EXPECT_TRUE(wait_until(20'000, [&] { return parked(1) == 1; }));
  EXPECT_FALSE(exists(1, name));
}

TEST_F(MaintenanceFault, OtherBrickDown_IsDoneWhenItIsBack) {
  auto witness = cluster_.mount();
  const std::string name = make_stubbed(*witness);
  fs::remove(cluster_.brick_path(2) / name);
  cluster_.reboot_host(2);
  cluster_.kill(1);
  dht::Maintenance maintenance(looked_after(cluster_, 2), quick_options());
  ASSERT_TRUE(wait_until(20'000, [&] { return maintenance.has_mounted(); }));
  cluster_.restart(1);
  EXPECT_TRUE(wait_until(20'000, [&] { return is_stub(2, name); }));
  EXPECT_TRUE(wait_until(20'000, [&] { return !cluster_.brick(2).chores(0).unclean; }));
}

}  // namespace
}  // namespace voldfs::test
