#include "mgmt/cluster_state.h"

#include <gtest/gtest.h>

#include <random>

namespace voldfs::mgmt {
namespace {

Id id_of(uint64_t number) {
  Id id;
  std::memcpy(id.bytes.data(), &number, 8);
  id.bytes[15] = 7;
  return id;
}

// Commands as a proposer would make them, ids counted up.
class ClusterStateTest : public testing::Test {
 protected:
  Json command(const std::string& op, Json fields = Json::object()) {
    fields["id"] = id_of(++last_).uuid();
    fields["op"] = op;
    return fields;
  }

  static Json peer(unsigned n) {
    Peer peer;
    peer.id = id_of(1'000'000 + n);
    peer.name = "node" + std::to_string(n);
    peer.address = "127.0.0." + std::to_string(n + 2);
    peer.api_port = 24107;
    peer.raft_port = 24106;
    peer.voter = 100 + n;
    return peer_to_json(peer);
  }

  Json init() {
    return command("cluster-init",
                   {{"cluster", id_of(500).uuid()}, {"incarnation", id_of(501).uuid()}, {"peer", peer(0)}});
  }

  Json create(const std::string& name, unsigned node, const std::string& path, uint64_t volume_id) {
    const Json brick = {{"id", id_of(volume_id * 1000).uuid()}, {"peer", id_of(1'000'000 + node).uuid()}, {"path", path}};
    return command("volume-create", {{"volume", name},
                                     {"volume_id", id_of(volume_id).uuid()},
                                     {"secret", std::string(64, 'a')},
                                     {"created", 1'700'000'000},
                                     {"bricks", Json::array({brick})}});
  }

  void expect_ok(const Json& result) { EXPECT_TRUE(result.at("ok").get<bool>()) << result; }
  void expect_refused(const Json& result, const std::string& word) {
    ASSERT_FALSE(result.at("ok").get<bool>()) << result;
    EXPECT_NE(result.at("error").get<std::string>().find(word), std::string::npos) << result;
  }

  ClusterState state_;
  uint64_t last_ = 0;
};

TEST_F(ClusterStateTest, Apply_BeforeInit_IsRefused) {
  expect_refused(state_.apply(command("volume-start", {{"volume", "v"}})), "not been set up");
}

TEST_F(ClusterStateTest, Apply_AnyJson_NeverThrows) {
  expect_ok(state_.apply(init()));
  for (const char* text : {"null", "[]", "7", "{}", R"({"id":3})", R"({"id":"x","op":"volume-start"})"}) {
    expect_refused(state_.apply(Json::parse(text)), "command");
  }
  expect_refused(state_.apply(command("no-such-op")), "no command");
  for (const char* op : {"volume-create", "volume-set", "peer-add", "peer-renew", "cluster-replace", "brick-ready"}) {
    const Json result = state_.apply(command(op, {{"volume", 5}, {"peer", Json::array()}}));
    EXPECT_FALSE(result.at("ok").get<bool>()) << op;
  }
}

TEST_F(ClusterStateTest, Apply_SameCommandAgain_ChangesNothingAndAnswersTheSame) {
  expect_ok(state_.apply(init()));
  const Json make = create("vol", 0, "/data/b1", 1);
  const Json first = state_.apply(make);
  expect_ok(first);
  const std::string before = state_.snapshot();
  EXPECT_EQ(state_.apply(make), first);
  EXPECT_EQ(state_.snapshot(), before);
}

// Texts that volumes keep are those of the volumes as they are, and a reader's text has no secret whatever options say.
TEST_F(ClusterStateTest, Texts_AfterChanges_AreThoseOfTheState) {
  expect_ok(state_.apply(init()));
  expect_ok(state_.apply(create("a", 0, "/data/b1", 1)));
  expect_ok(state_.apply(create("b", 0, "/data/b2", 2)));
  const std::string first = state_.snapshot();
  EXPECT_EQ(Json::parse(first).dump(), first);
  expect_ok(state_.apply(command("volume-set", {{"volume", "a"}, {"options", {{"user.x", "\",\"secret\":\"y\",\"volumes\":null,\"webhooks\":["}}}})));
  EXPECT_NE(state_.snapshot(), first);
  const auto again = ClusterState::restore(state_.snapshot());
  ASSERT_TRUE(again) << again.error();
  EXPECT_EQ(again->snapshot(), state_.snapshot());
  // Names and secrets of a stranger's backup are taken as they are, and harm no text.
  Json strange = state_.to_json();
  Json volume = strange["volumes"]["b"];
  volume["secret"] = "a\\\",\"started\":1,\"";
  strange["volumes"]["b\",\"c"] = volume;
  const auto taken = ClusterState::from_json(strange);
  ASSERT_TRUE(taken) << taken.error();
  EXPECT_EQ(taken->to_json(), strange);
  EXPECT_EQ(Json::parse(taken->public_text())["volumes"].size(), 3u);
  Json shown = Json::parse(state_.public_text()), whole = state_.to_json();
  for (auto& [name, volume] : whole["volumes"].items()) EXPECT_EQ(volume.erase("secret"), 1u);
  EXPECT_EQ(shown["volumes"], whole["volumes"]);
  EXPECT_FALSE(shown.contains("remembered"));
  EXPECT_EQ(Json::parse(state_.public_text("b"))["volumes"].size(), 1u);
  EXPECT_EQ(Json::parse(state_.public_text(""))["volumes"], Json::object());
}

TEST_F(ClusterStateTest, VolumeCreate_Conflicts_AreRefusedWithAReason) {
  expect_ok(state_.apply(init()));
  expect_ok(state_.apply(create("vol", 0, "/data/b1", 1)));
  expect_refused(state_.apply(create("vol", 0, "/data/b2", 2)), "already exists");
  expect_refused(state_.apply(create("vol2", 0, "/data/b1", 3)), "already part of volume vol");
  expect_refused(state_.apply(create("vol2", 0, "/data/b1/x", 4)), "lie in each other");
  expect_refused(state_.apply(create("vol2", 0, "/data", 5)), "lie in each other");
  expect_refused(state_.apply(create("-v", 0, "/data/b3", 6)), "no name");
  expect_refused(state_.apply(create("v", 5, "/data/b3", 7)), "not in this cluster");
  expect_ok(state_.apply(create("vol2", 0, "/data/b10", 8)));
  EXPECT_EQ(state_.volume("vol")->map.bricks[0].port, 24200);
  EXPECT_EQ(state_.volume("vol2")->map.bricks[0].port, 24201);
}

TEST_F(ClusterStateTest, VolumeDelete_StartedOrGone_SaysSo) {
  expect_ok(state_.apply(init()));
  expect_ok(state_.apply(create("vol", 0, "/data/b1", 1)));
  expect_ok(state_.apply(command("volume-start", {{"volume", "vol"}})));
  expect_refused(state_.apply(command("volume-delete", {{"volume", "vol"}})), "stop it before");
  expect_ok(state_.apply(command("volume-stop", {{"volume", "vol"}})));
  expect_refused(state_.apply(command("volume-delete", {{"volume", "vol"}, {"volume_id", id_of(9).uuid()}})), "another one");
  expect_ok(state_.apply(command("volume-delete", {{"volume", "vol"}})));
  expect_refused(state_.apply(command("volume-delete", {{"volume", "vol"}})), "does not exist");
}

TEST_F(ClusterStateTest, VolumeSet_OneBadOption_SetsNone) {
  expect_ok(state_.apply(init()));
  expect_ok(state_.apply(create("vol", 0, "/data/b1", 1)));
  expect_refused(state_.apply(command("volume-set", {{"volume", "vol"},
                                                     {"options", {{"brick.min-free", "5"}, {"client.on-brick-down", "maybe"}}}})),
                 "wait, error");
  EXPECT_TRUE(state_.volume("vol")->map.options.empty());
  expect_ok(state_.apply(command("volume-set", {{"volume", "vol"}, {"options", {{"brick.min-free", "5%"}}}})));
  EXPECT_EQ(state_.volume("vol")->map.options.at("brick.min-free"), "5");
  EXPECT_EQ(state_.volume("vol")->map.version, 2u);
}

TEST_F(ClusterStateTest, PeerSetAddress_ReaddressesItsBricks) {
  expect_ok(state_.apply(init()));
  expect_ok(state_.apply(create("vol", 0, "/data/b1", 1)));
  expect_refused(state_.apply(command("peer-set-address", {{"peer", id_of(1'000'000).uuid()}, {"address", "somewhere"}})), "no address literal");
  expect_ok(state_.apply(command("peer-set-address", {{"peer", id_of(1'000'000).uuid()}, {"address", "127.0.0.9"}})));
  EXPECT_EQ(state_.volume("vol")->map.bricks[0].host, "127.0.0.9");
  EXPECT_EQ(state_.volume("vol")->map.version, 2u);
}

TEST_F(ClusterStateTest, PeerRemove_WithBricks_IsRefused) {
  expect_ok(state_.apply(init()));
  expect_ok(state_.apply(command("peer-add", {{"peer", peer(1)}})));
  expect_ok(state_.apply(create("vol", 1, "/data/b1", 1)));
  expect_refused(state_.apply(command("peer-remove", {{"peer", peer(1).at("id")}})), "holds a brick");
  expect_ok(state_.apply(command("volume-delete", {{"volume", "vol"}})));
  expect_ok(state_.apply(command("peer-remove", {{"peer", peer(1).at("id")}})));
  // The voter number of a detached node never votes again.
  expect_refused(state_.apply(command("peer-add", {{"peer", peer(1)}})), "voter number");
}

TEST_F(ClusterStateTest, PeerAdd_BeyondTheVoters_IsStandbyAndPromotedWhenOneLeaves) {
  expect_ok(state_.apply(init()));
  for (unsigned n = 1; n < 7; ++n) expect_ok(state_.apply(command("peer-add", {{"peer", peer(n)}})));
  EXPECT_EQ(state_.peer(id_of(1'000'005))->role, PeerRole::kStandby);
  expect_ok(state_.apply(command("peer-remove", {{"peer", peer(2).at("id")}})));
  EXPECT_EQ(state_.peer(id_of(1'000'005))->role, PeerRole::kVoter);
  EXPECT_EQ(state_.peer(id_of(1'000'006))->role, PeerRole::kStandby);
}

TEST_F(ClusterStateTest, ClusterReplace_WithNewIncarnation_MakesDescendantMaps) {
  expect_ok(state_.apply(init()));
  expect_ok(state_.apply(command("peer-add", {{"peer", peer(1)}})));
  expect_ok(state_.apply(create("vol", 0, "/data/b1", 1)));
  const dht::VolumeMap before = state_.volume("vol")->map;
  ClusterState fresh;
  Json survivor = peer(0);
  survivor["voter"] = 900;
  expect_ok(fresh.apply(command("cluster-replace", {{"state", state_.to_json()},
                                                    {"peers", Json::array({survivor})},
                                                    {"lost", Json::array({peer(1).at("id")})},
                                                    {"incarnation", id_of(502).uuid()}})));
  EXPECT_EQ(dht::compare_maps(before, fresh.volume("vol")->map), dht::MapOrder::kNewer);
  EXPECT_EQ(fresh.retired, (std::set<uint64_t>{100, 101}));
  EXPECT_EQ(fresh.peer(id_of(1'000'001))->role, PeerRole::kStandby);
}

TEST_F(ClusterStateTest, ClusterReplace_AtTheBeginningOfALogAlone_LeavesALogThatHasACluster) {
  expect_ok(state_.apply(init()));
  expect_ok(state_.apply(create("vol", 0, "/data/b1", 1)));
  const Json earlier = state_.to_json();
  expect_ok(state_.apply(command("volume-set", {{"volume", "vol"}, {"options", {{"user.x", "1"}}}})));
  const Json begin = command("cluster-replace", {{"state", earlier}, {"incarnation", id_of(502).uuid()}, {"blank", true}});
  const dht::VolumeMap before = state_.volume("vol")->map;
  expect_refused(state_.apply(begin), "not a new one");
  EXPECT_EQ(state_.volume("vol")->map.to_json(), before.to_json());
  ClusterState fresh;
  expect_ok(fresh.apply(begin));
}

// Random commands, most of them near the edge of being valid.
class RandomCommands {
 public:
  explicit RandomCommands(uint32_t seed) : random_(seed) {}

  Json next() {
    Json json = make();
    // Now and then a retry of an earlier command.
    if (!sent_.empty() && pick(10) == 0) return sent_[pick(sent_.size())];
    json["id"] = id_of(++last_).uuid();
    sent_.push_back(json);
    return json;
  }

 private:
  uint64_t pick(uint64_t n) { return random_() % n; }
  std::string name() { return "v" + std::to_string(pick(6)); }
  std::string peer_id() { return id_of(1'000'000 + pick(8)).uuid(); }

  Json make() {
    static const char* const keys[] = {"brick.min-free", "client.on-brick-down", "user.x", "nonsense"};
    static const char* const values[] = {"1", "wait", "99", ""};
    switch (pick(10)) {
      case 0:
      case 1: {
        Json bricks = Json::array();
        for (uint64_t i = 0, n = 1 + pick(4); i < n; ++i) {
          bricks.push_back({{"id", id_of(10'000 + pick(1000)).uuid()}, {"peer", peer_id()},
                            {"path", "/d" + std::to_string(pick(5)) + "/b" + std::to_string(pick(20))}});
        }
        return {{"op", "volume-create"}, {"volume", name()}, {"volume_id", id_of(2000 + pick(500)).uuid()},
                {"secret", std::string(64, 'b')}, {"created", 5}, {"bricks", bricks}};
      }
      case 2: return {{"op", "volume-start"}, {"volume", name()}, {"force", pick(2) == 0}};
      case 3: return {{"op", "volume-stop"}, {"volume", name()}};
      case 4: return {{"op", "volume-delete"}, {"volume", name()}};
      case 5: return {{"op", "volume-set"}, {"volume", name()}, {"options", {{keys[pick(4)], values[pick(4)]}}}};
      case 6: return {{"op", "volume-rename"}, {"volume", name()}, {"to", name()}};
      case 7: return {{"op", "peer-remove"}, {"peer", peer_id()}};
      case 8: {
        if (pick(3) == 0) return {{"op", "peer-renew"}, {"peer", peer_id()}, {"voter", 200 + pick(50)}};
        if (pick(3) == 0) return {{"op", "peer-set-address"}, {"peer", peer_id()}, {"address", "127.0.1." + std::to_string(pick(4))}};
        Peer peer;
        const uint64_t n = pick(8);
        peer.id = id_of(1'000'000 + n);
        peer.name = "node" + std::to_string(n);
        peer.address = "127.0.0." + std::to_string(n);
        peer.api_port = peer.raft_port = 1000;
        peer.voter = 100 + pick(200);
        return {{"op", "peer-add"}, {"peer", peer_to_json(peer)}};
      }
      default: return {{"op", "volume-reset"}, {"volume", name()}, {"keys", Json::array()}};
    }
  }

  std::mt19937 random_;
  std::vector<Json> sent_;
  uint64_t last_ = 50'000'000;
};

// What must hold in every state.
void check_invariants(const ClusterState& state) {
  std::set<std::pair<std::string, uint16_t>> ports;
  std::set<Id> volume_ids;
  size_t voters = 0;
  for (const auto& [id, peer] : state.peers) {
    voters += peer.role == PeerRole::kVoter;
    ASSERT_FALSE(state.retired.contains(peer.voter));
  }
  ASSERT_GE(voters, 1u);
  ASSERT_LE(voters, kVotersMax);
  for (const auto& [name, volume] : state.volumes) {
    ASSERT_EQ(name, volume->map.name);
    ASSERT_TRUE(volume_ids.insert(volume->map.volume).second);
    for (const auto& brick : volume->map.bricks) {
      ASSERT_TRUE(ports.insert({brick.host, brick.port}).second) << brick.host << ":" << brick.port;
      ASSERT_TRUE(state.peer(volume->owners.at(brick.id)));
    }
  }
}

class ClusterStateRandomTest : public testing::TestWithParam<uint32_t> {};

TEST_P(ClusterStateRandomTest, TwoReplicas_AndSnapshotPlusReplay_AreEqual) {
  SCOPED_TRACE("seed " + std::to_string(GetParam()));
  RandomCommands commands(GetParam());
  ClusterState one, two;
  Peer first;
  first.id = id_of(1'000'000);
  first.name = "node0";
  first.address = "127.0.0.0";
  first.api_port = first.raft_port = 1000;
  first.voter = 99;
  const Json init = {{"id", id_of(1).uuid()}, {"op", "cluster-init"}, {"cluster", id_of(2).uuid()},
                     {"incarnation", id_of(3).uuid()}, {"peer", peer_to_json(first)}};
  ASSERT_EQ(one.apply(init), two.apply(init));
  size_t done = 0;
  for (int i = 0; i < 1500; ++i) {
    const Json command = commands.next();
    const std::string text = command.dump();
    const Json result = one.apply(command);
    done += result.at("ok").get<bool>();
    if (i % 300 == 150) {  // the second replica restarts from its snapshot
      auto restored = ClusterState::restore(two.snapshot());
      ASSERT_TRUE(restored) << restored.error();
      two = std::move(*restored);
    }
    ASSERT_EQ(result, two.apply(Json::parse(text))) << text;
    if (i % 100 == 0) {
      ASSERT_EQ(one.snapshot(), two.snapshot());
      ASSERT_NO_FATAL_FAILURE(check_invariants(one)) << text;
    }
  }
  EXPECT_EQ(one, two);
  EXPECT_GT(done, 100u);  // not everything was refused
}

INSTANTIATE_TEST_SUITE_P(Seeds, ClusterStateRandomTest, testing::Range(1u, 9u));

}  // namespace
}  // namespace voldfs::mgmt
