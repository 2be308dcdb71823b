#include <fcntl.h>
#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <thread>

#include "tests/lib/cluster.h"
#include "tests/lib/mount.h"

// Locks of two mounts while their brick is killed: who holds one goes on holding it, and nobody else.
namespace voldfs::test {
namespace {

constexpr int kDeadlineMs = 30'000;
const dht::Caller kRoot{};
using Request = dht::Volume::LockRequest;

int code(const auto& result) { return result ? 0 : result.error().code; }

class LocksFault : public testing::Test {
 protected:
  struct Client {
    std::unique_ptr<dht::Volume> volume;
    dht::OpenFilePtr file;
    uint64_t owner = 0;

    Request request(wire::LockType type) const { return {wire::LockKind::kPosix, type, owner, 0, INT64_MAX, 1}; }
    void ask(wire::LockType type, bool wait, std::function<void(int)> granted) {
      volume->lock(file, request(type), wait, kRoot, volume->next_ticket(), std::move(granted));
    }
    // To its end.
    int lock(wire::LockType type) {
      std::promise<int> end;
      ask(type, false, [&end](int error) { end.set_value(error); });
      return end.get_future().get();
    }
  };

  void SetUp() override {
    name_ = cluster_.name_at(1, a_.volume->root(), "file");
    auto made = a_.volume->create(a_.volume->root(), name_, 0644, O_RDWR | O_CREAT, kRoot);
    ASSERT_EQ(code(made), 0);
    a_.file = made->file, a_.owner = 1;
    auto found = b_.volume->lookup(b_.volume->root(), name_, kRoot);
    ASSERT_EQ(code(found), 0);
    auto opened = b_.volume->open(found->node, O_RDWR, kRoot);
    ASSERT_EQ(code(opened), 0);
    b_.file = *opened, b_.owner = 2;
  }
  void TearDown() override {
    for (Client* client : {&a_, &b_}) client->volume->release(client->file, kRoot);
  }
  // Calls `at` before the client's requests that take a lock again.
  static void at_reclaim(Client& client, std::function<void()> at) {
    client.volume->impl().before_request = [at = std::move(at)](uint16_t, const wire::Request& request) -> Result<void> {
      auto copy = request;
      const bool locks = copy.header().op == static_cast<uint16_t>(wire::Op::kLock);
      if (locks && (copy.header().flags & wire::kFlagReclaim)) at();
      return {};
    };
  }

  Cluster cluster_{Cluster::Options{.bricks = 2, .grace_ms = 3'000, .down_timeout_ms = 30'000}};
  Client a_{cluster_.mount(), nullptr, 0}, b_{cluster_.mount(), nullptr, 0};
  std::string name_;
};

// The brick has given the lock to the next in line, and dies before the one who gave it back has heard: he must not take it again.
TEST_F(LocksFault, Unlock_AnswerLostAndBrickKilled_NextHolderKeepsIt) {
  ASSERT_EQ(a_.lock(wire::LockType::kWrite), 0);
  std::promise<int> granted;
  b_.ask(wire::LockType::kWrite, true, [&granted](int error) { granted.set_value(error); });
  std::atomic<int> reclaims = 0;
  at_reclaim(a_, [&] { ++reclaims; });

  server::Faults& faults = cluster_.brick(1).faults();
  faults.dial(wire::Op::kLock).cut_after = UINT32_MAX;
  faults.any = true;
  std::thread unlocks([&] { EXPECT_EQ(a_.lock(wire::LockType::kUnlock), 0); });
  EXPECT_EQ(granted.get_future().get(), 0);
  cluster_.kill(1);
  cluster_.restart(1);
  unlocks.join();
  EXPECT_EQ(reclaims, 0);
  EXPECT_EQ(a_.lock(wire::LockType::kWrite), EAGAIN);
  EXPECT_EQ(b_.lock(wire::LockType::kUnlock), 0);
  EXPECT_EQ(a_.lock(wire::LockType::kWrite), 0);
}

// The same of a lock that became weaker: readers are let in, and no writer that was.
TEST_F(LocksFault, Downgrade_AnswerLostAndBrickKilled_OtherReaderKeepsIts) {
  ASSERT_EQ(a_.lock(wire::LockType::kWrite), 0);
  std::promise<int> granted;
  b_.ask(wire::LockType::kRead, true, [&granted](int error) { granted.set_value(error); });
  server::Faults& faults = cluster_.brick(1).faults();
  faults.dial(wire::Op::kLock).cut_after = UINT32_MAX;
  faults.any = true;
  std::thread weakens([&] { EXPECT_EQ(a_.lock(wire::LockType::kRead), 0); });
  EXPECT_EQ(granted.get_future().get(), 0);
  cluster_.kill(1);
  cluster_.restart(1);
  weakens.join();
  EXPECT_EQ(a_.lock(wire::LockType::kWrite), EAGAIN);
  EXPECT_EQ(b_.lock(wire::LockType::kWrite), EAGAIN);
}

// The brick dies once more while locks are being taken again.
TEST_F(LocksFault, Reclaim_BrickKilledInIt_LockIsKept) {
  ASSERT_EQ(a_.lock(wire::LockType::kWrite), 0);
  std::atomic<int> reclaims = 0;
  std::atomic<bool> killed = false;
  at_reclaim(a_, [&] {
    if (reclaims++ == 0) wait_until(kDeadlineMs, [&] { return killed.load(); });
  });
  cluster_.kill(1);
  cluster_.restart(1);
  ASSERT_TRUE(wait_until(kDeadlineMs, [&] { return reclaims > 0; }));
  cluster_.kill(1);
  killed = true;
  cluster_.restart(1);
  ASSERT_TRUE(wait_until(kDeadlineMs, [&] { return reclaims > 1; }));
  EXPECT_EQ(b_.lock(wire::LockType::kWrite), EAGAIN);
}

// Its connections are lost in the same place: the brick still waits for what is not taken again.
TEST_F(LocksFault, Reclaim_ConnectionsCutInIt_LockIsKept) {
  ASSERT_EQ(a_.lock(wire::LockType::kWrite), 0);
  std::atomic<int> reclaims = 0;
  std::atomic<bool> cut = false;
  at_reclaim(a_, [&] {
    if (reclaims++ == 0) wait_until(kDeadlineMs, [&] { return cut.load(); });
  });
  cluster_.kill(1);
  cluster_.restart(1);
  ASSERT_TRUE(wait_until(kDeadlineMs, [&] { return reclaims > 0; }));
  cluster_.brick(1).cut_connections();
  cut = true;
  ASSERT_TRUE(wait_until(kDeadlineMs, [&] { return reclaims > 1; }));
  EXPECT_EQ(b_.lock(wire::LockType::kWrite), EAGAIN);
}

// A grant whose acknowledgement was lost is told once more: the lock has been given back by then, and taken again.
TEST_F(LocksFault, Grant_ToldTwice_LaterLockIsKept) {
  ASSERT_EQ(b_.lock(wire::LockType::kWrite), 0);
  server::Faults& faults = cluster_.brick(1).faults();
  faults.dial(wire::Op::kAck).error = EIO;  // is lost
  faults.any = true;
  std::promise<int> granted;
  a_.ask(wire::LockType::kWrite, true, [&granted](int error) { granted.set_value(error); });
  ASSERT_EQ(b_.lock(wire::LockType::kUnlock), 0);
  ASSERT_EQ(granted.get_future().get(), 0);
  ASSERT_EQ(a_.lock(wire::LockType::kUnlock), 0);
  cluster_.brick(1).cut_connections();
  faults.dial(wire::Op::kAck).error = 0;
  // Another wait's end comes behind it, over the same connection.
  std::promise<int> again;
  ASSERT_EQ(b_.lock(wire::LockType::kWrite), 0);
  a_.ask(wire::LockType::kWrite, true, [&again](int error) { again.set_value(error); });
  ASSERT_EQ(b_.lock(wire::LockType::kUnlock), 0);
  ASSERT_EQ(again.get_future().get(), 0);
  EXPECT_FALSE(wait_until(500, [&] { return b_.lock(wire::LockType::kWrite) == 0; }));  // later than a lock would be given back
}

// Two waits for each other, of which one has ended before the other can be taken back: that is no deadlock.
TEST_F(LocksFault, Cycle_OpenedBeforeItIsRefused_IsWaitedOut) {
  const std::string other_name = cluster_.name_at(2, a_.volume->root(), "other");
  Client a{std::move(a_.volume), nullptr, a_.owner}, b{std::move(b_.volume), nullptr, b_.owner};  // with the file of the other brick
  auto made = a.volume->create(a.volume->root(), other_name, 0644, O_RDWR | O_CREAT, kRoot);
  ASSERT_EQ(code(made), 0);
  a.file = made->file;
  auto found = b.volume->lookup(b.volume->root(), other_name, kRoot);
  ASSERT_EQ(code(found), 0);
  b.file = *b.volume->open(found->node, O_RDWR, kRoot);
  const auto lock = [](Client& client, const dht::OpenFilePtr& file, wire::LockType type, bool wait, std::function<void(int)> granted) {
    client.volume->lock(file, client.request(type), wait, kRoot, client.volume->next_ticket(), std::move(granted));
  };
  std::promise<int> b_waits, a_waits;
  ASSERT_EQ(a.lock(wire::LockType::kWrite), 0);
  lock(b, b_.file, wire::LockType::kWrite, false, [](int error) { EXPECT_EQ(error, 0); });
  b.ask(wire::LockType::kWrite, true, [&](int error) { b_waits.set_value(error); });
  std::atomic<int> refusals = 0;
  a.volume->impl().before_request = [&](uint16_t, const wire::Request& request) -> Result<void> {
    auto copy = request;
    if (copy.header().op != static_cast<uint16_t>(wire::Op::kLockCancel) || refusals++ != 0) return {};
    EXPECT_EQ(a.lock(wire::LockType::kUnlock), 0);
    return fail(EIO);
  };
  lock(a, a_.file, wire::LockType::kWrite, true, [&](int error) { a_waits.set_value(error); });
  EXPECT_EQ(b_waits.get_future().get(), 0);
  EXPECT_EQ(refusals, 1);
  lock(b, b_.file, wire::LockType::kUnlock, false, [](int error) { EXPECT_EQ(error, 0); });
  EXPECT_EQ(a_waits.get_future().get(), 0);
  a.volume->impl().before_request = nullptr;
  for (Client* client : {&a, &b}) client->volume->release(client->file, kRoot);
  a_.volume = std::move(a.volume), b_.volume = std::move(b.volume);
}

}  // namespace
}  // namespace voldfs::test
