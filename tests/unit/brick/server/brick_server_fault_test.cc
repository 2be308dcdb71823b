#include "brick/server/brick_server.h"

#include <sys/xattr.h>

#include <atomic>
#include <nlohmann/json.hpp>
#include <thread>

#include "brick/wire/ops.h"
#include "tests/unit/brick/server/running_brick.h"
#include "tests/unit/brick/server/server_requests.h"

namespace voldfs::server {
namespace {

using client::Caller;
using wire::Op;

TEST(BrickServerSession, Bye_EndsTheSession) {
  RunningBrick brick;
  auto client = brick.connect();
  must_create(*client, "file");
  client.reset();
  EXPECT_TRUE(eventually([&] { return brick.server->sessions() == 0; }));
}

TEST(BrickServerSessionFault, Silence_BeyondTheLease_EndsTheSession) {
  RunningBrick brick(500);
  std::atomic<int> lost{0};
  client::Notifications notifications;
  notifications.reclaim = [&](uint16_t, bool session_lost) { return lost += session_lost, true; };
  auto client = brick.connect(notifications);
  const uint32_t open = must_create(*client, "file");
  brick.server->faults().refuse_connections = true;
  brick.server->faults().any = true;
  brick.server->cut_connections();
  EXPECT_TRUE(eventually([&] { return brick.server->sessions() == 0; }));
  brick.server->faults().refuse_connections = false;
  const auto read = client->call(read_request(open, 0, 10), kRoot);
  ASSERT_FALSE(read);
  EXPECT_EQ(wire::kOpenUnknown, read.error().code);
  EXPECT_EQ(1, lost);
}

TEST(BrickServerFault, Cut_AfterTheOperation_ReplaysItsAnswer) {
  RunningBrick brick;
  auto client = brick.connect();
  const uint32_t open = must_create(*client, "file");
  const auto data = pattern(100);
  for (int i = 0; i < 5; ++i) {
    brick.server->faults().dial(Op::kWrite).cut_after = 1;
    const auto written = client->call(write_request(open, 0, data, 1), kRoot);  // appends: twice would show
    ASSERT_TRUE(written) << written.error().code;
    EXPECT_NE(0, written->header.flags & wire::kFlagReplayed);
    EXPECT_EQ(100u * static_cast<unsigned>(i + 1), written->body<wire::WriteReply>()->attr.size);
  }
}

TEST(BrickServerFault, Cut_BeforeTheOperation_RunsItOnce) {
  RunningBrick brick;
  auto client = brick.connect();
  const uint32_t open = must_create(*client, "file");
  brick.server->faults().dial(Op::kWrite).cut_before = 3;
  const auto written = client->call(write_request(open, 0, pattern(100), 1), kRoot);
  ASSERT_TRUE(written) << written.error().code;
  EXPECT_EQ(0, written->header.flags & wire::kFlagReplayed);
  EXPECT_EQ(100u, written->body<wire::WriteReply>()->attr.size);
}

TEST(BrickServerFault, Resend_WhileTheFirstStillRuns_WaitsForItsAnswer) {
  RunningBrick brick;
  auto client = brick.connect();
  const uint32_t open = must_create(*client, "file");
  brick.server->faults().dial(Op::kWrite).delay_ms = 1500;  // beyond kSlotWaitMs: kSlotBusy is met too
  const auto data = pattern(100);  // sent from where it is
  client::PendingCall call(*client, write_request(open, 0, data, 1), kRoot);
  call.send();
  brick.server->cut_connections();
  const auto result = call.wait();
  ASSERT_TRUE(result) << result.error().code;
  EXPECT_EQ(100u, call.reply().body<wire::WriteReply>()->attr.size);
}

TEST(BrickServerFault, Restart_BringsTheSessionBack) {
  RunningBrick brick;
  std::atomic<int> reclaims{0}, lost{0};
  client::Notifications notifications;
  notifications.reclaim = [&](uint16_t, bool session_lost) { return ++reclaims, lost += session_lost, true; };
  auto client = brick.connect(notifications);
  must_create(*client, "first");
  for (int i = 1; i <= 3; ++i) {
    brick.kill();
    brick.start();
    must_create(*client, "file" + std::to_string(i));
    EXPECT_EQ(i, reclaims);
  }
  EXPECT_EQ(0, lost);
  EXPECT_EQ(1u, brick.server->sessions());
}

// A client's removal of a file, which the brick has begun when the client loses it; then it makes the file anew.
class BrickServerZombieFault : public testing::Test {
 protected:
  void connect(client::OnBrickDown how) {
    client_ = brick_.connect({}, [&](client::ClientOptions& options) { options.on_brick_down = how, id_ = options.client; });
    must_create(*client_, "file");
    faults_ = &brick_.server->faults();
    faults_->dial(Op::kUnlink).hold_before = 1;
    wire::UnlinkBody body{};
    body.dir.id = kRootId, body.dir.epoch = 1;
    unlink_ = std::make_unique<client::PendingCall>(*client_, wire::Request(Op::kUnlink, body, "file"), kRoot);
    unlink_->send();
    ASSERT_TRUE(eventually([&] { return faults_->held == 1; }));
  }

  // It must not be made before the removal has come to its end.
  void make_anew() {
    std::atomic<bool> is_made = false;
    std::thread maker([&] {
      Result<wire::Reply> made;
      do made = client_->call(create_request("file"), kRoot);
      while (!made && made.error().code == EIO);
      EXPECT_TRUE(made) << made.error().code;
      is_made = true;
    });
    EXPECT_FALSE(eventually([&] { return is_made.load(); }, 300));
    faults_->release = true;
    maker.join();
    wire::NameBody body{};
    body.dir.id = kRootId, body.dir.epoch = 1;
    EXPECT_TRUE(client_->call(wire::Request(Op::kLookup, body, "file"), kRoot));
  }

  RunningBrick brick_;
  std::unique_ptr<client::BrickClient> client_;
  std::unique_ptr<client::PendingCall> unlink_;
  Faults* faults_ = nullptr;
  Id id_;
};

TEST_F(BrickServerZombieFault, SessionEnds_NextOneComesBehindWhatRuns) {
  connect(client::OnBrickDown::kWait);
  brick_.server->end_sessions(id_);
  brick_.server->cut_connections();
  make_anew();
  const auto unlinked = unlink_->wait();
  ASSERT_FALSE(unlinked);
  EXPECT_EQ(wire::kUnsettled, unlinked.error().code);
}

TEST_F(BrickServerZombieFault, RequestIsGivenUp_NextOneComesBehindIt) {
  connect(client::OnBrickDown::kError);
  faults_->refuse_connections = true;
  brick_.server->cut_connections();
  const auto unlinked = unlink_->wait();
  ASSERT_FALSE(unlinked);
  EXPECT_EQ(EIO, unlinked.error().code);
  unlink_.reset();
  faults_->refuse_connections = false;
  make_anew();
}

// A brick that has restarted holds back what it answers from memory, with the payload, until all have come back. Who is told to come
// again must not think that nothing has happened: his session may end.
TEST(BrickServerSessionFault, EndsWhileAnAnswerIsHeldBack_IsNotCarriedOutAgain) {
  RunningBrick brick;
  Id id;
  auto client = brick.connect({}, [&](client::ClientOptions& options) { id = options.client; });
  client::Notifications silent;
  silent.reclaim = [](uint16_t, bool) { return false; };
  auto other = brick.connect(std::move(silent));
  ASSERT_TRUE(other->connect(10'000));
  must_create(*client, "file");
  const auto file = *client->call(create_request("file"), kRoot)->body<wire::EntryBody>();
  wire::XattrBody body{};
  body.object = file.object, body.flags = XATTR_CREATE;
  const auto value = pattern(10);
  brick.server->faults().dial(Op::kSetxattr).hold_after = 1;
  client::PendingCall set(*client, wire::Request(Op::kSetxattr, body, "user.note", {}, value), kRoot);
  set.send();
  ASSERT_TRUE(eventually([&] { return brick.server->faults().held == 1; }));
  brick.kill();
  brick.start();
  Result<void> result;
  std::thread waiter([&] { result = set.wait(); });
  EXPECT_TRUE(eventually([&] {
    const auto operations = nlohmann::json::parse(brick.server->status())["operations"];
    return operations.contains("setxattr") && operations["setxattr"]["count"] > 1;
  }));
  brick.server->end_sessions(id);
  waiter.join();
  ASSERT_FALSE(result);
  EXPECT_EQ(wire::kUnsettled, result.error().code);
}

TEST(BrickServerFault, Kill_BetweenCreateAndReply_CreatesOnce) {
  RunningBrick brick;
  auto client = brick.connect();
  ASSERT_TRUE(client->connect(10'000));
  brick.server->faults().dial(Op::kCreate).delay_ms = 200;
  client::PendingCall call(*client, create_request("file"), kRoot);
  call.send();
  brick.kill();   // the operation runs to its end; nothing of it is noted or answered
  brick.start();
  const auto result = call.wait();
  ASSERT_TRUE(result) << result.error().code;
}

TEST(BrickServerFault, Down_OnBrickDownError_IsEIOAtOnce) {
  RunningBrick brick;
  auto client = brick.connect({}, [](client::ClientOptions& options) { options.on_brick_down = client::OnBrickDown::kError; });
  must_create(*client, "file");
  brick.kill();
  const auto reply = client->call(wire::Request(Op::kStatus), kRoot);
  ASSERT_FALSE(reply);
  EXPECT_EQ(EIO, reply.error().code);
}

TEST(BrickServerFault, Down_OnBrickDownWait_EndsByInterruptOrTimeout) {
  RunningBrick brick;
  auto client = brick.connect({}, [](client::ClientOptions& options) { options.down_timeout_ms = 1'000; });
  must_create(*client, "file");
  brick.kill();
  EXPECT_TRUE(eventually([&] { return !client->is_up(); }));
  std::atomic<bool> interrupted{true};
  Caller caller;
  caller.interrupted = &interrupted;
  EXPECT_EQ(EINTR, client->call(wire::Request(Op::kStatus), caller).error().code);
  EXPECT_EQ(EIO, client->call(wire::Request(Op::kStatus), kRoot).error().code);
}

TEST(BrickServerFault, Grace_ClientNeverReturns_EndsAndChangesGoOn) {
  RunningBrick brick;
  brick.options.store.grace_ms = 500;
  auto gone = brick.connect();
  must_create(*gone, "file");
  brick.kill();
  gone.reset();
  brick.start();
  auto other = brick.connect({}, [](client::ClientOptions& options) { options.down_timeout_ms = 10'000; });
  must_create(*other, "other");  // waits until nobody may reclaim any more
}

wire::LockBody write_lock(const Id& file, const Id& client, wire::LockType type = wire::LockType::kWrite) {
  wire::LockBody lock{};
  lock.object.id = file;
  lock.owner = {client, 1};
  lock.end = INT64_MAX;
  lock.kind = wire::LockKind::kPosix;
  lock.type = type;
  return lock;
}

TEST(BrickServerLock, Wait_IsQueuedAndTheGrantIsTold) {
  RunningBrick brick;
  const Id file = Id::random(), one = Id::random(), two = Id::random();
  std::atomic<uint64_t> granted{0};
  client::Notifications notifications;
  notifications.lock_granted = [&](const wire::LockBody& lock) { granted = lock.ticket; };
  auto holder = brick.connect({}, [&](client::ClientOptions& options) { options.client = one; });
  auto waiter = brick.connect(notifications, [&](client::ClientOptions& options) { options.client = two; });
  ASSERT_TRUE(holder->call({Op::kLock, write_lock(file, one)}, kRoot));
  wire::LockBody wanted = write_lock(file, two);
  wanted.ticket = 7, wanted.flags = 1;
  EXPECT_EQ(wire::kQueued, waiter->call({Op::kLock, wanted}, kRoot).error().code);
  EXPECT_EQ(EPERM, waiter->call({Op::kLock, write_lock(file, one)}, kRoot).error().code);  // another's owner
  brick.server->cut_connections();
  ASSERT_TRUE(holder->call({Op::kLock, write_lock(file, one, wire::LockType::kUnlock)}, kRoot));
  EXPECT_TRUE(eventually([&] { return granted == 7; }));
}

TEST(BrickServerLockFault, Restart_LocksAreReclaimedBeforeOthersGetThem) {
  RunningBrick brick;
  const Id file = Id::random(), one = Id::random(), two = Id::random();
  client::BrickClient* reclaiming = nullptr;
  std::atomic<int> reclaimed{-1};
  client::Notifications notifications;
  notifications.reclaim = [&](uint16_t, bool) {
    wire::Request request(Op::kLock, write_lock(file, one));
    request.header().flags = wire::kFlagReclaim;
    const auto reply = reclaiming->call(request, kRoot);
    reclaimed = reply ? 0 : reply.error().code;
    return true;
  };
  auto holder = brick.connect(notifications, [&](client::ClientOptions& options) { options.client = one; });
  reclaiming = holder.get();
  auto other = brick.connect({}, [&](client::ClientOptions& options) { options.client = two; });
  ASSERT_TRUE(holder->call({Op::kLock, write_lock(file, one)}, kRoot));
  ASSERT_TRUE(other->connect(10'000));
  brick.kill();
  brick.start();
  const auto refused = other->call({Op::kLock, write_lock(file, two)}, kRoot);  // waits out the grace period
  ASSERT_FALSE(refused);
  EXPECT_EQ(EAGAIN, refused.error().code);
  EXPECT_EQ(0, reclaimed);
}

}  // namespace
}  // namespace voldfs::server
