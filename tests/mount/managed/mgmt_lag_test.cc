#include <signal.h>
#include <sys/wait.h>

#include "mgmt/http.h"
#include "tests/lib/mgmt_nodes.h"

// Nodes that are slow, and not dead: their disks, or all of them.

namespace voldfs {
namespace {

using namespace test;

class MgmtLagFault : public MgmtNodes {
 protected:
  MgmtLagFault() { with_fault_points(); }

  Output set(const Node& node, const std::string& value) { return ctl(node, {"volume", "set", "vol", "user.x", value}); }
  bool has(const Node& node, const std::string& value) { return ctl(node, {"volume", "get", "vol", "user.x"}).out.find(value) != std::string::npos; }
  size_t leader() {
    size_t found = nodes_.size();
    EXPECT_TRUE(eventually([&] {
      for (size_t i = 0; i < nodes_.size(); ++i) {
        const auto metrics = mgmt::http_call({nodes_[i].dir + "/run/voldmgmt.socket", "", 0, nullptr}, "GET", "/metrics", "", 20'000);
        if (metrics && metrics->body.find("voldfs_mgmt_leading 1") != std::string::npos) found = i;
      }
      return found < nodes_.size();
    }));
    return found;
  }
  Json state_of(const Node& node) { return ctl(node, {"get-state", "--json"}).json().value("state", Json()); }
};

// A log that is read again is not taken for a new one, however long that takes: or the cluster would go back to what its leader
// had known when it ended.
TEST_F(MgmtLagFault, Restart_ReadingTheLogIsSlow_IsTheSameCluster) {
  ASSERT_NO_FATAL_FAILURE(add_nodes(1));
  run(nodes_[0], {"volume", "create", "vol", spec(nodes_[0], "b"), "force"});
  ASSERT_EQ(set(nodes_[0], "last").code, 0);
  const Json before = state_of(nodes_[0]);
  for (int i = 0; i < 3; ++i) {
    kill_node(nodes_[0]);
    slow_down(nodes_[0], "replay.begin", 700);
    ASSERT_NO_FATAL_FAILURE(start_node(nodes_[0]));
    ASSERT_TRUE(eventually([&] { return ctl(nodes_[0], {"volume", "list"}).code == 0; }, 60s));
    slow_down(nodes_[0], "replay.begin", 0);
    EXPECT_EQ(state_of(nodes_[0]).dump(1), before.dump(1));
  }
}

TEST_F(MgmtLagFault, FollowersDiskIsSlow_ChangesDoNotWaitForIt) {
  ASSERT_NO_FATAL_FAILURE(add_nodes(3));
  join_all();
  create_volume("vol");
  const size_t leading = leader();
  const Node& slow = nodes_[(leading + 1) % 3];
  const Node& other = nodes_[(leading + 2) % 3];
  ASSERT_TRUE(eventually([&] { return has(slow, "user.x") || state_of(slow) == state_of(nodes_[leading]); }));
  slow_down(slow, "log.append", 20'000);
  for (const Node* through : {static_cast<const Node*>(&nodes_[leading]), &other}) {
    const Output done = set(*through, "while" + through->address);
    EXPECT_EQ(done.code, 0) << done;
  }
  // It is at its first entry still; what it knows, it tells.
  EXPECT_FALSE(has(slow, "while" + other.address)) << "the disk was not slow";
  EXPECT_EQ(ctl(slow, {"volume", "list"}).out, "vol\n");
  slow_down(slow, "log.append", 0);
  EXPECT_TRUE(eventually([&] { return has(slow, "while" + other.address); }, 60s));
}

TEST_F(MgmtLagFault, LeadersDiskIsSlow_ReadsDoNotWaitForIt) {
  ASSERT_NO_FATAL_FAILURE(add_nodes(3));
  join_all();
  create_volume("vol");
  for (const Node& node : nodes_) ASSERT_TRUE(eventually([&] { return ctl(node, {"volume", "map", "vol"}).code == 0; }));
  const size_t leading = leader();
  const Node& slow = nodes_[leading];
  slow_down(slow, "log.append", 30'000);
  const pid_t change = spawn({std::string(VOLDFS_BINARY_DIR) + "/voldctl", "--mode=script", "--run-dir=" + slow.dir + "/run", "--state-dir=" + slow.state(), "volume", "set", "vol", "user.x", "slowly"}, "/dev/null", "/dev/null");
  ASSERT_TRUE(eventually([&] { return fs::exists(faults(slow) + "/seen/commit.begin"); }));
  for (const Node& node : nodes_) {
    for (const std::vector<std::string>& read : {std::vector<std::string>{"volume", "info"}, {"volume", "list"}, {"volume", "status"}, {"peer", "status"}, {"get-state"}, {"volume", "map", "vol"}}) {
      const Output output = ctl(node, read);
      EXPECT_TRUE(output.code == 0 || output.code == 3) << read[0] << " " << read.back() << output;
    }
  }
  EXPECT_EQ(::waitpid(change, nullptr, WNOHANG), 0) << "the change did not wait, so that nothing was shown about reads";
  // Meanwhile the others go on without it.
  EXPECT_TRUE(eventually([&] { return set(nodes_[(leading + 1) % 3], "meanwhile").code == 0; }));
  slow_down(slow, "log.append", 0);
  ::waitpid(change, nullptr, 0);
  EXPECT_TRUE(eventually([&] { return state_of(slow) == state_of(nodes_[(leading + 1) % 3]); }, 60s));
}

// Each of them in turn does nothing for most of the time, as on a host that is overloaded; and is not away long enough to be given up.
TEST_F(MgmtLagFault, NodeRunsATenthOfTheTime_ChangesGoOnAndAllComeToTheSame) {
  ASSERT_NO_FATAL_FAILURE(add_nodes(3));
  join_all();
  create_volume("vol");
  for (size_t i = 0; i < 3; ++i) {
    std::atomic<bool> over = false;
    std::thread starver([&] {
      while (!over) {
        ::kill(nodes_[i].pid, SIGSTOP);
        std::this_thread::sleep_for(90ms);
        ::kill(nodes_[i].pid, SIGCONT);
        std::this_thread::sleep_for(10ms);
      }
    });
    for (int n = 0; n < 5; ++n) {
      const std::string value = std::to_string(i) + "-" + std::to_string(n);
      EXPECT_TRUE(eventually([&] { return set(nodes_[(i + 1) % 3], value).code == 0; }));
    }
    over = true;
    starver.join();
    for (const Node& node : nodes_) EXPECT_TRUE(eventually([&] { return has(node, std::to_string(i) + "-4"); }));
  }
}

class MgmtRecoverFault : public MgmtLagFault {};

TEST_F(MgmtRecoverFault, Three_TwoLost_OneGoesOn) {
  ASSERT_NO_FATAL_FAILURE(add_nodes(3));
  join_all();
  create_volume("vol");
  ASSERT_EQ(set(nodes_[1], "before").code, 0);
  ASSERT_TRUE(eventually([&] { return has(nodes_[0], "before"); }));
  for (size_t i : {1, 2}) kill_node(nodes_[i]);
  ASSERT_TRUE(eventually([&] { return ctl(nodes_[0], {"volume", "list"}).code == 3; }));
  Output output = ctl(nodes_[0], {"peer", "recover", nodes_[1].address});
  EXPECT_EQ(output.code, 1);
  EXPECT_NE(output.err.find("name it as well"), std::string::npos) << output;
  output = ctl(nodes_[0], {"peer", "recover", nodes_[1].address, nodes_[2].address});
  ASSERT_EQ(output.code, 0) << output;
  EXPECT_TRUE(has(nodes_[0], "before"));
  ASSERT_TRUE(eventually([&] { return set(nodes_[0], "after").code == 0; }));
  // One that is alive after all changes nothing, and says so.
  ASSERT_NO_FATAL_FAILURE(start_node(nodes_[1]));
  EXPECT_EQ(set(nodes_[1], "split").code, 1);
  EXPECT_TRUE(has(nodes_[0], "after"));
  EXPECT_TRUE(has(nodes_[1], "before"));
}

TEST_F(MgmtRecoverFault, Five_ThreeLost_TheTwoGoOnTogether) {
  ASSERT_NO_FATAL_FAILURE(add_nodes(5));
  join_all();
  create_volume("vol");
  ASSERT_EQ(set(nodes_[0], "before").code, 0);
  for (const Node& node : nodes_) ASSERT_TRUE(eventually([&] { return has(node, "before"); }));
  // The second one hears of one change more than the first, with two of those that will be lost.
  const size_t leading = leader();
  for (size_t i : {0, 1}) {
    if (i == leading) continue;
    for (const Node& node : nodes_) {
      if (node.address != nodes_[i].address && i == 0) cut(nodes_[i], node);
    }
  }
  const bool first_leads = leading == 0;
  if (!first_leads) {
    ASSERT_TRUE(eventually([&] { return set(nodes_[1], "last").code == 0; }));
  }
  for (size_t i : {2, 3, 4}) kill_node(nodes_[i]);
  for (const Node& node : nodes_) {
    if (node.address != nodes_[0].address) mend(nodes_[0], node);
  }
  ASSERT_TRUE(eventually([&] { return ctl(nodes_[0], {"volume", "list"}).code == 3 && ctl(nodes_[1], {"volume", "list"}).code == 3; }));
  EXPECT_EQ(set(nodes_[1], "refused").code, 1);
  std::vector<std::string> command = {"peer", "recover", nodes_[2].address, nodes_[3].address, nodes_[4].address};
  if (!first_leads) {
    const Output behind = ctl(nodes_[0], command);
    EXPECT_EQ(behind.code, 1) << behind;
    EXPECT_NE(behind.err.find("knows more than this node"), std::string::npos) << behind;
  }
  command.push_back(nodes_[0].address);
  const Output alive = ctl(nodes_[1], command);
  EXPECT_EQ(alive.code, 1) << alive;
  EXPECT_NE(alive.err.find("answers, so it is not lost"), std::string::npos) << alive;
  command.pop_back();
  const size_t at = first_leads ? 0 : 1;
  const Output done = ctl(nodes_[at], command);
  ASSERT_EQ(done.code, 0) << done;
  EXPECT_TRUE(has(nodes_[at], first_leads ? "before" : "last"));
  for (size_t i : {0, 1}) {
    const std::string value = "after" + std::to_string(i);
    EXPECT_TRUE(eventually([&] { return set(nodes_[i], value).code == 0; }, 60s));
    EXPECT_TRUE(eventually([&] { return has(nodes_[1 - i], value); }, 60s));
  }
  // Both vote: neither is enough alone.
  ASSERT_TRUE(eventually([&] { return ctl(nodes_[0], {"peer", "status"}).code == 3; })) << "the lost do not answer";
  kill_node(nodes_[0]);
  EXPECT_TRUE(eventually([&] { return set(nodes_[1], "alone").code == 1; }));
}

}  // namespace
}  // namespace voldfs
