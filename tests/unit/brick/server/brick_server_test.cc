#include "brick/server/brick_server.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/xattr.h>

#include <atomic>
#include <map>
#include <mutex>
#include <nlohmann/json.hpp>
#include <thread>

#include "brick/wire/ops.h"
#include "tests/unit/brick/server/running_brick.h"

namespace voldfs::server {
namespace {

using client::Caller;
using wire::Op;

const Caller kRoot{};

wire::Request create_request(const std::string& name) {
  wire::CreateBody body{};
  body.dir.id = kRootId;
  body.dir.epoch = 1;
  body.id = Id::random();
  body.mode = S_IFREG | 0644;
  body.flags = O_RDWR;
  return {Op::kCreate, body, name};
}

wire::Request write_request(uint32_t open, uint64_t offset, std::span<const std::byte> data, uint32_t flags = 0) {
  wire::IoBody body{};
  body.open = open, body.offset = offset, body.size = static_cast<uint32_t>(data.size()), body.flags = flags;
  return {Op::kWrite, body, {}, {}, data};
}

wire::Request read_request(uint32_t open, uint64_t offset, uint32_t size) {
  wire::IoBody body{};
  body.open = open, body.offset = offset, body.size = size;
  return {Op::kRead, body};
}

std::vector<std::byte> pattern(size_t size) {
  std::vector<std::byte> out(size);
  for (size_t i = 0; i < size; ++i) out[i] = static_cast<std::byte>(i * 7 + i / 251);
  return out;
}

uint32_t must_create(client::BrickClient& client, const std::string& name) {
  const auto reply = client.call(create_request(name), kRoot);
  if (!reply) {
    ADD_FAILURE() << "create: " << reply.error().code;
    return 0;
  }
  return reply->body<wire::EntryBody>()->open;
}

class BrickServerTest : public testing::TestWithParam<bool> {
 protected:
  std::unique_ptr<client::BrickClient> connect() { return brick_.connect({}, {}, GetParam()); }
  RunningBrick brick_;
};
INSTANTIATE_TEST_SUITE_P(Transports, BrickServerTest, testing::Bool(),
                         [](const auto& info) { return info.param ? "Unix" : "Tcp"; });

TEST_P(BrickServerTest, Connect_RightSecret_MakesASession) {
  auto client = connect();
  const auto connected = client->connect(10'000);
  ASSERT_TRUE(connected) << connected.error().code;
  EXPECT_TRUE(client->is_up());
  EXPECT_EQ(1u, brick_.server->sessions());
}

TEST_P(BrickServerTest, Status_TellsOfBrickAndClients) {
  auto client = connect();
  const auto reply = client->call(wire::Request(Op::kStatus), kRoot);
  ASSERT_TRUE(reply) << reply.error().code;
  const std::string text(reinterpret_cast<const char*>(reply->data.data()), reply->data.size());
  const auto status = nlohmann::json::parse(text);
  EXPECT_EQ(brick_.brick.uuid(), status["brick"]);
  EXPECT_EQ(1u, status["clients"].size());
  EXPECT_GT(status["bytes_total"].get<uint64_t>(), 0u);
}

TEST_P(BrickServerTest, MapGet_GivesTheDocument) {
  auto client = connect();
  const auto reply = client->call(wire::Request(Op::kMapGet), kRoot);
  ASSERT_TRUE(reply) << reply.error().code;
  const std::string text(reinterpret_cast<const char*>(reply->data.data()), reply->data.size());
  EXPECT_THAT(text, testing::HasSubstr(brick_.volume.hex().substr(0, 8)));
}

TEST_P(BrickServerTest, WriteThenRead_EverySize_GivesTheSameBytes) {
  auto client = connect();
  const uint32_t open = must_create(*client, "file");
  for (const size_t size : {size_t{1}, size_t{4096}, size_t{8192}, size_t{100'000}, size_t{wire::kDataMax}}) {
    const auto data = pattern(size);
    const auto written = client->call(write_request(open, 0, data), kRoot);
    ASSERT_TRUE(written) << written.error().code;
    EXPECT_EQ(size, written->body<wire::WriteReply>()->size);
    std::vector<std::byte> back(size);
    const auto read = client->call(read_request(open, 0, static_cast<uint32_t>(size)), kRoot, back);
    ASSERT_TRUE(read) << read.error().code;
    ASSERT_EQ(size, read->data.size());
    EXPECT_EQ(read->data.data(), back.data());
    EXPECT_EQ(data, back);
  }
}

TEST_P(BrickServerTest, Call_FromManyThreads_EachGetsItsOwnAnswer) {
  auto client = connect();
  std::vector<std::thread> threads;
  for (int t = 0; t < 12; ++t) {
    threads.emplace_back([&, t] {
      const uint32_t open = must_create(*client, "file" + std::to_string(t));
      const auto data = pattern(3000 + static_cast<size_t>(t));
      for (int i = 0; i < 30; ++i) {
        ASSERT_TRUE(client->call(write_request(open, 0, data), kRoot));
        std::vector<std::byte> back(data.size());
        const auto read = client->call(read_request(open, 0, static_cast<uint32_t>(data.size())), kRoot, back);
        ASSERT_TRUE(read);
        ASSERT_EQ(data, back);
      }
    });
  }
  for (auto& thread : threads) thread.join();
}

TEST(BrickServerHandshake, Connect_WrongSecret_IsEACCES) {
  RunningBrick brick;
  auto client = brick.connect({}, [](client::ClientOptions& options) { options.secret.assign(32, 1); });
  const auto connected = client->connect(300);
  ASSERT_FALSE(connected);
  EXPECT_EQ(EACCES, connected.error().code);
  EXPECT_EQ(0u, brick.server->sessions());
}

TEST(BrickServerHandshake, Connect_OtherVolume_IsENODEV) {
  RunningBrick brick;
  auto client = brick.connect({}, [](client::ClientOptions& options) { options.volume = Id::random(); });
  const auto connected = client->connect(300);
  ASSERT_FALSE(connected);
  EXPECT_EQ(ENODEV, connected.error().code);
}

TEST(BrickServerHandshake, Ask_OfABrickThatHangs_EndsInTime) {
  RunningBrick brick;
  auto options = brick.client_options();
  options.connect_timeout_ms = 300;
  for (const bool unix_socket : {false, true}) {
    brick.server->faults().dial(Op::kMapGet).hold_before = 1;
    const auto map = client::ask(brick.address(unix_socket), options, Op::kMapGet);
    ASSERT_FALSE(map);
    EXPECT_EQ(ETIMEDOUT, map.error().code);
  }
  brick.server->faults().release = true;
}

TEST(BrickServerHandshake, Ask_WithoutVolume_GetsTheMapAndNothingElse) {
  RunningBrick brick;
  auto options = brick.client_options();
  options.volume = {};
  auto address = brick.address();
  address.brick = {};
  EXPECT_TRUE(client::ask(address, options, Op::kMapGet));
  const auto statfs = client::ask(address, options, Op::kStatfs);
  ASSERT_FALSE(statfs);
  EXPECT_EQ(EPERM, statfs.error().code);
  EXPECT_EQ(0u, brick.server->sessions());
}

// What a node's management does after a change: without a session, and the clients hear of it.
TEST(BrickServerMap, PutByWhoOnlyAsks_IsKeptToldAndHeeded) {
  RunningBrick brick;
  std::atomic<int> told = 0;
  client::Notifications notifications;
  notifications.map_changed = [&](uint16_t) { ++told; };
  auto client = brick.connect(std::move(notifications));
  must_create(*client, "before");
  const int at_first = told;
  const auto ask = [&](const std::string& map, const client::ClientOptions& options) {
    return client::ask(brick.address(), options, Op::kMapPut, std::as_bytes(std::span(map)));
  };
  const auto own = client::ask(brick.address(), brick.client_options(), Op::kMapGet);
  ASSERT_TRUE(own);
  auto map = nlohmann::json::parse(std::string(reinterpret_cast<const char*>(own->data()), own->size()));
  map["version"] = 2;
  map["options"] = {{"brick.min-free", "50"}, {"brick.log-level", "debug"}};
  auto stranger = brick.client_options();
  stranger.secret.assign(32, 0xbb);
  EXPECT_FALSE(ask(map.dump(), stranger));
  ASSERT_TRUE(ask(map.dump(), brick.client_options()));
  EXPECT_TRUE(eventually([&] { return told > at_first; }));
  EXPECT_EQ(2u, nlohmann::json::parse(brick.server->status())["map_version"]);
  map["version"] = 1;
  const auto older = ask(map.dump(), brick.client_options());
  ASSERT_FALSE(older);
  EXPECT_EQ(ESTALE, older.error().code);
}

TEST(BrickServerMap, Options_AreHeededAtTheStartAndAfterAChange) {
  RunningBrick brick;
  std::mutex mutex;
  std::map<std::string, std::string> heeded;
  brick.server.reset();
  brick.options.heed_options = [&](const std::map<std::string, std::string>& options) {
    const std::lock_guard lock(mutex);
    heeded = options;
    heeded["heard"] = "yes";
  };
  brick.start();
  const auto has = [&](const std::string& key, const std::string& value) {
    const std::lock_guard lock(mutex);
    return heeded[key] == value;
  };
  EXPECT_TRUE(eventually([&] { return has("heard", "yes"); }));
  const auto own = client::ask(brick.address(), brick.client_options(), Op::kMapGet);
  auto map = nlohmann::json::parse(std::string(reinterpret_cast<const char*>(own->data()), own->size()));
  map["version"] = 2;
  map["options"] = {{"brick.log-level", "debug"}};
  const std::string text = map.dump();
  ASSERT_TRUE(client::ask(brick.address(), brick.client_options(), Op::kMapPut, std::as_bytes(std::span(text))));
  EXPECT_TRUE(eventually([&] { return has("brick.log-level", "debug"); }));
  brick.server.reset();
}

TEST(BrickServerDown, StoppedVolume_IsENOTCONNAtOnceAlsoForWhoWaits) {
  RunningBrick brick;
  auto client = brick.connect();
  must_create(*client, "file");
  brick.kill();
  std::atomic<bool> waits = false;
  Result<wire::Reply> answer = fail(0);
  std::thread waiter([&] {
    waits = true;
    answer = client->call(wire::Request(Op::kStatfs), kRoot);
  });
  ASSERT_TRUE(eventually([&] { return waits && !client->is_up(); }));
  client->set_on_brick_down(client::OnBrickDown::kStopped, 0);
  waiter.join();
  ASSERT_FALSE(answer);
  EXPECT_EQ(ENOTCONN, answer.error().code);
  // Started again: nothing is to be done about it.
  brick.start();
  EXPECT_TRUE(eventually([&] { return client->call(wire::Request(Op::kStatfs), kRoot).has_value(); }));
}

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
