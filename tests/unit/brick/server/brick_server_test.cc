#include "brick/server/brick_server.h"

#include <gmock/gmock.h>

#include <atomic>
#include <map>
#include <mutex>
#include <nlohmann/json.hpp>
#include <thread>

#include "brick/wire/ops.h"
#include "tests/unit/brick/server/running_brick.h"
#include "tests/unit/brick/server/server_requests.h"

namespace voldfs::server {
namespace {

using wire::Op;

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
  EXPECT_EQ(brick_.brick.uuid(), status["brick"].get<std::string>());
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

}  // namespace
}  // namespace voldfs::server
