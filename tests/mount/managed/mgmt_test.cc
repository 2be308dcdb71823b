#include "tests/lib/mgmt_nodes.h"

// Clusters that lose files, daemons and majorities.

namespace voldfs {
namespace {

using namespace test;

class MgmtFaultTest : public MgmtNodes {};

constexpr char kNone[] = "No volumes present in cluster\n";

TEST_F(MgmtFaultTest, One_FreshNode_IsAClusterWithoutSetup) {
  ASSERT_NO_FATAL_FAILURE(add_nodes(1));
  create_volume("vol");
  EXPECT_NE(run(nodes_[0], {"volume", "info", "vol"}).find("Status: Created"), std::string::npos);
  EXPECT_EQ(run(nodes_[0], {"volume", "start", "vol"}), "volume start: vol: success\n");
  EXPECT_TRUE(eventually([&] { return brick_pid(nodes_[0].brick("vol-brick")) != 0; }));
  EXPECT_NE(run(nodes_[0], {"volume", "status", "vol"}).find(" Y "), std::string::npos);
  const Output again = ctl(nodes_[0], {"volume", "create", "vol", spec(nodes_[0], "x"), "force"});
  EXPECT_EQ(again.code, 1);
  EXPECT_NE(again.err.find("already exists"), std::string::npos) << again.err;
  EXPECT_NE(ctl(nodes_[0], {"volume", "delete", "vol"}).err.find("stop it"), std::string::npos);
  run(nodes_[0], {"volume", "stop", "vol"});
  EXPECT_TRUE(eventually([&] { return brick_pid(nodes_[0].brick("vol-brick")) == 0; }));
  run(nodes_[0], {"volume", "delete", "vol"});
  EXPECT_EQ(run(nodes_[0], {"volume", "list"}), kNone);
}

// A disk that goes away after a volume's first start, before its brick is known to have been made.
TEST_F(MgmtFaultTest, One_DirectoryGoneBeforeTheBrickIsMade_IsSaidAndNotMadeAgain) {
  add_flag("--voldbrick=/bin/false");
  ASSERT_NO_FATAL_FAILURE(add_nodes(1));
  create_volume("vol");
  const std::string brick = nodes_[0].brick("vol-brick"), away = brick + ".away";
  std::thread starter([&] { run(nodes_[0], {"volume", "start", "vol"}); });  // it waits for the brick, in vain
  const auto status = [&] { return ctl(nodes_[0], {"volume", "status", "vol"}).out; };
  const auto says = [&](const std::string& what) { return eventually([&] { return status().find(what) != std::string::npos; }); };
  EXPECT_TRUE(says("ended with status 1")) << status();
  fs::rename(brick, away);
  EXPECT_TRUE(says("is missing. Is its disk mounted?")) << status();
  EXPECT_FALSE(fs::exists(brick));
  fs::create_directory(brick);  // the mount point
  EXPECT_TRUE(says("is not the one that was there")) << status();
  // With a daemon that could make it a brick.
  starter.join();
  kill_node(nodes_[0]);
  flags_.clear();
  ASSERT_NO_FATAL_FAILURE(start_node(nodes_[0]));
  EXPECT_TRUE(says("is not the one that was there")) << status();
  EXPECT_TRUE(fs::is_empty(brick));
  fs::remove(brick);
  fs::rename(away, brick);
  EXPECT_TRUE(says(" Y ")) << status();
  // Once that is agreed on, the note has served its time.
  EXPECT_TRUE(eventually([&] {
    for (const auto& file : fs::directory_iterator(nodes_[0].dir + "/etc/bricks")) {
      if (file.path().extension() == ".prepared") return false;
    }
    return true;
  }));
}

TEST_F(MgmtFaultTest, Two_FilesOfOneNodeRemoved_DeleteHoldsEverywhere) {
  for (const bool restart : {false, true}) {
    for (const char* lost : {"maps", "state.json", "everything"}) {
      SCOPED_TRACE(std::string(lost) + (restart ? ", restarted" : ""));
      if (nodes_.empty()) {
        ASSERT_NO_FATAL_FAILURE(add_nodes(2));
        join_all();
      }
      create_volume("vol");
      ASSERT_TRUE(eventually([&] { return all_see("vol\n"); }));
      const std::string state = nodes_[0].state();
      if (restart) kill_node(nodes_[0]);
      for (const auto& entry : fs::directory_iterator(state)) {
        if (lost == std::string("everything") || entry.path().filename() == lost) fs::remove_all(entry.path());
      }
      if (restart) {
        ASSERT_NO_FATAL_FAILURE(start_node(nodes_[0]));
      }
      // Back by themselves.
      ASSERT_TRUE(eventually([&] { return fs::exists(state + "/maps/vol.json") && fs::exists(state + "/state.json"); }));
      ASSERT_TRUE(eventually([&] { return ctl(nodes_[1], {"volume", "delete", "vol"}).code == 0; }));
      EXPECT_TRUE(eventually([&] { return all_see(kNone); }));
      EXPECT_TRUE(eventually([&] { return !fs::exists(state + "/maps/vol.json"); }));
    }
  }
  // And nothing comes back after restarts, in either order.
  for (Node& node : nodes_) kill_node(node);
  for (Node& node : nodes_) ASSERT_NO_FATAL_FAILURE(start_node(node));
  EXPECT_TRUE(eventually([&] { return all_see(kNone); }));
}

TEST_F(MgmtFaultTest, Two_AllDaemonsKilled_ReadsAnswerAndBricksStay) {
  ASSERT_NO_FATAL_FAILURE(add_nodes(2));
  join_all();
  create_volume("vol");
  run(nodes_[0], {"volume", "start", "vol"});
  run(nodes_[0], {"volume", "set", "vol", "client.on-brick-down", "error"});
  const auto pid = [&](size_t i) { return brick_pid(nodes_[i].brick("vol-brick")); };
  ASSERT_TRUE(eventually([&] { return pid(0) && pid(1); }));
  const pid_t before[] = {pid(0), pid(1)};
  ASSERT_TRUE(eventually([&] { return slurp(nodes_[0].state() + "/state.json").find("on-brick-down") != std::string::npos; }));
  for (Node& node : nodes_) kill_node(node);
  for (const std::vector<std::string>& read : {std::vector<std::string>{"volume", "info", "vol"}, {"volume", "list"}, {"volume", "status"}, {"peer", "status"}, {"get-state"}, {"volume", "map", "vol"}}) {
    const auto begun = std::chrono::steady_clock::now();
    const Output output = ctl(nodes_[0], read);
    EXPECT_EQ(output.code, 3) << read[0] << output.err;
    EXPECT_NE(output.err.find("does not run"), std::string::npos) << output.err;
    EXPECT_FALSE(output.out.empty());
    EXPECT_LT(std::chrono::steady_clock::now() - begun, 5s);  // of a loaded machine; a second otherwise
  }
  const Output change = ctl(nodes_[0], {"volume", "stop", "vol"});
  EXPECT_EQ(change.code, 1);
  EXPECT_NE(change.err.find("Nothing was changed"), std::string::npos) << change.err;
  EXPECT_EQ(pid(0), before[0]);
  for (Node& node : nodes_) ASSERT_NO_FATAL_FAILURE(start_node(node));
  ASSERT_TRUE(eventually([&] { return all_see("vol\n"); }));  // they have found each other again
  EXPECT_NE(run(nodes_[0], {"volume", "info"}).find("client.on-brick-down: error"), std::string::npos);
  EXPECT_EQ(pid(0), before[0]);
  EXPECT_EQ(pid(1), before[1]);
  // A brick that dies is started again, the other left alone.
  ::kill(before[0], SIGKILL);
  EXPECT_TRUE(eventually([&] { return pid(0) != 0 && pid(0) != before[0]; }));
  EXPECT_EQ(pid(1), before[1]);
}

TEST_F(MgmtFaultTest, Two_OneDown_ChangeIsRefusedAtOnceAndNamesIt) {
  ASSERT_NO_FATAL_FAILURE(add_nodes(2));
  join_all();
  create_volume("vol");
  kill_node(nodes_[1]);
  ASSERT_TRUE(eventually([&] { return ctl(nodes_[0], {"volume", "info", "vol"}).code == 3; }));
  const Output change = ctl(nodes_[0], {"volume", "set", "vol", "user.x", "y"});
  EXPECT_EQ(change.code, 1);
  EXPECT_NE(change.err.find("Nothing was changed"), std::string::npos) << change.err;
  EXPECT_NE(change.err.find(nodes_[1].address), std::string::npos) << change.err;
  // The explicit way out; a lost peer does not come back as a voter.
  run(nodes_[0], {"peer", "recover", nodes_[1].address});
  run(nodes_[0], {"volume", "set", "vol", "user.x", "y"});
  const Json map = ctl(nodes_[0], {"volume", "map", "vol", "--json"}).json();
  EXPECT_NE(map.at("incarnation"), map.at("parent_incarnation"));
}

TEST_F(MgmtFaultTest, Three_OneLosesItsLog_TheOthersGoOnAndItComesBack) {
  ASSERT_NO_FATAL_FAILURE(add_nodes(3));
  join_all();
  create_volume("vol");
  for (size_t victim : {size_t{1}, size_t{0}}) {
    SCOPED_TRACE(victim);
    kill_node(nodes_[victim]);
    fs::remove_all(nodes_[victim].state());
    const Node& other = nodes_[2];
    ASSERT_TRUE(eventually([&] { return ctl(other, {"volume", "set", "vol", "user.x", std::to_string(victim)}).code == 0; }));
    ASSERT_NO_FATAL_FAILURE(start_node(nodes_[victim]));
    ASSERT_TRUE(eventually([&] { return ctl(nodes_[victim], {"volume", "get", "vol", "user.x"}).out.find(std::to_string(victim)) != std::string::npos; }));
    run(nodes_[victim], {"volume", "reset", "vol"});
  }
}

TEST_F(MgmtFaultTest, Probe_NodeOfAnotherClusterOrWithoutTheSecret_IsRefused) {
  ASSERT_NO_FATAL_FAILURE(add_nodes(2));
  run(nodes_[1], {"volume", "create", "theirs", spec(nodes_[1], "b"), "force"});
  const std::string there = nodes_[1].address + ":" + std::to_string(nodes_[1].api_port);
  Output probe = ctl(nodes_[0], {"peer", "probe", there});
  EXPECT_EQ(probe.code, 1);
  EXPECT_NE(probe.err.find("another cluster"), std::string::npos) << probe.err;
  run(nodes_[1], {"volume", "delete", "theirs"});
  kill_node(nodes_[1]);
  std::ofstream(nodes_[1].dir + "/etc/secret") << std::string(64, 'b') << "\n";
  ASSERT_NO_FATAL_FAILURE(start_node(nodes_[1]));
  probe = ctl(nodes_[0], {"peer", "probe", there});
  EXPECT_EQ(probe.code, 1);
  EXPECT_NE(probe.err.find("peer token"), std::string::npos) << probe.err;
  std::string token = run(nodes_[1], {"peer", "token"});
  token.pop_back();
  EXPECT_NE(run(nodes_[0], {"peer", "probe", there, "--token=" + token}).find("success"), std::string::npos);
  EXPECT_NE(run(nodes_[1], {"pool", "list"}).find(nodes_[0].address), std::string::npos);
}

}  // namespace
}  // namespace voldfs
