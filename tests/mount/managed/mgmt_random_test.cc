#include <algorithm>
#include <array>
#include <mutex>
#include <random>
#include <set>

#include "brick/base/id.h"
#include "mgmt/http.h"
#include "tests/lib/mgmt_nodes.h"

// Daemons that are killed, frozen and cut off from each other, while clients change things through all of them.
// VOLDFS_SEED repeats a run's choices; VOLDFS_FAULT_SECONDS makes it longer.

namespace voldfs {
namespace {

using namespace test;
using Clock = std::chrono::steady_clock;

class MgmtPartitionFault : public MgmtNodes {
 protected:
  MgmtPartitionFault() { with_fault_points(); }
  Output set(const Node& node, const std::string& value) { return ctl(node, {"volume", "set", "vol", "user.x", value}); }
  std::string get(const Node& node) { return ctl(node, {"volume", "get", "vol", "user.x"}).out; }
  bool has(const Node& node, const std::string& value) { return get(node).find(value) != std::string::npos; }
};

TEST_F(MgmtPartitionFault, Three_OneCutOff_MinorityChangesNothingAndIsBroughtBack) {
  ASSERT_NO_FATAL_FAILURE(add_nodes(3));
  join_all();
  create_volume("vol");
  for (size_t alone = 0; alone < 3; ++alone) {
    SCOPED_TRACE(alone);
    const std::string inside = "in" + std::to_string(alone), outside = "out" + std::to_string(alone);
    const std::array<size_t, 2> others = {(alone + 1) % 3, (alone + 2) % 3};
    for (const size_t other : others) cut(nodes_[alone], nodes_[other]);
    // The one that may have led notices that it does not any more; reads say that they may be old.
    ASSERT_TRUE(eventually([&] { return ctl(nodes_[alone], {"volume", "list"}).code == 3; }));
    ASSERT_TRUE(eventually([&] { return set(nodes_[(alone + 1) % 3], inside).code == 0; }));
    const Output refused = set(nodes_[alone], outside);
    EXPECT_EQ(refused.code, 1) << refused;
    EXPECT_NE(refused.err.find("Nothing was changed"), std::string::npos) << refused;
    for (const size_t other : others) EXPECT_NE(refused.err.find(nodes_[other].address), std::string::npos) << refused;
    for (const size_t other : others) mend(nodes_[alone], nodes_[other]);
    ASSERT_TRUE(eventually([&] { return has(nodes_[alone], inside); }));
  }
}

TEST_F(MgmtPartitionFault, Three_TwoCutFromEachOther_ChangesGoThroughTheThird) {
  ASSERT_NO_FATAL_FAILURE(add_nodes(3));
  join_all();
  create_volume("vol");
  cut(nodes_[0], nodes_[1]);
  // Whoever is asked finds a leader, or says that nothing was changed; with the third one up somebody leads in the end.
  ASSERT_TRUE(eventually([&] { return set(nodes_[2], "through").code == 0; }));
  mend(nodes_[0], nodes_[1]);
  for (const Node& node : nodes_) EXPECT_TRUE(eventually([&] { return has(node, "through"); }));
}

// Who leads after a restart has applied nothing of its log until a majority has taken an entry of its own.
TEST_F(MgmtPartitionFault, Three_LeaderThatHasReadNothingYet_BeginsNothingAnew) {
  ASSERT_NO_FATAL_FAILURE(add_nodes(3));
  join_all();
  create_volume("vol");
  ASSERT_EQ(set(nodes_[0], "before").code, 0);
  const auto map = [&](const Node& node) { return ctl(node, {"volume", "map", "vol", "--json"}).out; };
  const auto cuts = [&](const auto& act) {
    for (const Node& from : nodes_)
      for (const Node& to : nodes_) act(faults(from) + "/cut/" + to.address + ".entries");
  };
  const std::string before = map(nodes_[0]);
  for (const Node& node : nodes_) ASSERT_TRUE(eventually([&] { return slurp(node.state() + "/state.json").find("before") != std::string::npos; }));
  for (Node& node : nodes_) kill_node(node);
  cuts([](const std::string& file) { std::ofstream(file) << ""; });
  for (Node& node : nodes_) {
    fs::remove(faults(node) + "/seen/commit.begin");
    ASSERT_NO_FATAL_FAILURE(start_node(node));
  }
  const auto leads = [](const Node& node) {
    const auto reply = mgmt::http_call({node.dir + "/run/voldmgmt.socket", "", 0, nullptr}, "GET", "/metrics", "", 3000);
    return reply && reply->body.find("\nvoldfs_mgmt_leading 1") != std::string::npos;
  };
  ASSERT_TRUE(eventually([&] { return std::any_of(nodes_.begin(), nodes_.end(), leads); }));
  EXPECT_FALSE(eventually([&] { return std::any_of(nodes_.begin(), nodes_.end(), [](const Node& node) { return fs::exists(faults(node) + "/seen/commit.begin"); }); }, 2s));
  cuts([](const std::string& file) { fs::remove(file); });
  ASSERT_TRUE(eventually([&] { return all_see("vol\n"); }));
  for (const Node& node : nodes_) EXPECT_EQ(map(node), before);
}

class MgmtRandomFault : public MgmtPartitionFault {
 protected:
  struct Done {
    Clock::time_point begun, answered;
    uint64_t version = 0;  // place in the log's order
    std::string value;
  };

  // One client: a change after the other, each until it is known to have happened, at any node, under the same id.
  void change(uint32_t seed, const std::string& name) {
    std::mt19937 random(seed);
    for (int n = 0; !over_; ++n) {
      Done done;
      done.value = name + "-" + std::to_string(n);
      const Json command = {{"id", Id::random().uuid()}, {"op", "volume-set"}, {"volume", "vol"}, {"options", {{"user.x", done.value}}}};
      ++begun_;
      done.begun = Clock::now();
      while (done.version == 0 && !over_) {
        const auto reply = mgmt::http_call({nodes_[random() % nodes_.size()].dir + "/run/voldmgmt.socket", "", 0, nullptr}, "POST", "/v1/commands", command.dump(), 3000);
        const Json answer = reply ? Json::parse(reply->body, nullptr, false) : Json();
        if (answer.is_object() && answer.value("ok", false)) done.version = answer.at("version");
        else std::this_thread::sleep_for(20ms);
      }
      done.answered = Clock::now();
      if (done.version == 0) return;
      const std::lock_guard lock(mutex_);
      history_.push_back(done);
    }
  }

  void fault(std::mt19937& random) {
    Node& victim = nodes_[random() % nodes_.size()];
    Node& other = nodes_[random() % nodes_.size()];
    const auto some = std::chrono::milliseconds(100 + random() % 1200);
    switch (random() % 3) {
      case 0:
        ::kill(victim.pid, SIGSTOP);
        std::this_thread::sleep_for(some);
        ::kill(victim.pid, SIGCONT);
        break;
      case 1:
        kill_node(victim);
        std::this_thread::sleep_for(some);
        start_node(victim);
        break;
      default:
        if (victim.address == other.address) break;
        cut(victim, other);
        std::this_thread::sleep_for(some);
        mend(victim, other);
    }
  }

  size_t done_so_far() {
    const std::lock_guard lock(mutex_);
    return history_.size();
  }
  uint64_t map_version() { return ctl(nodes_[0], {"volume", "map", "vol", "--json"}).json().value("version", uint64_t{0}); }

  // The log is one order of all changes. It is one that the clients can have seen if no change comes behind another that was
  // begun only after it had been answered; and each change has a place of its own.
  void check_history() {
    std::sort(history_.begin(), history_.end(), [](const Done& a, const Done& b) { return a.version < b.version; });
    auto latest_begin = history_.at(0).begun;
    for (size_t i = 1; i < history_.size(); ++i) {
      ASSERT_NE(history_[i].version, history_[i - 1].version) << history_[i].value << " and " << history_[i - 1].value << " have one place";
      latest_begin = std::max(latest_begin, history_[i - 1].begun);
      ASSERT_GE(history_[i].answered, latest_begin) << history_[i].value << " was answered before something in front of it was begun";
    }
  }

  std::mutex mutex_;
  std::vector<Done> history_;   // guarded by mutex_, while clients run
  std::atomic<size_t> begun_ = 0;
  std::atomic<bool> over_ = false;
};

TEST_F(MgmtRandomFault, ChangesUnderKillsFreezesAndPartitions_AreLinearizableAndDoneOnce) {
  const char* given = ::getenv("VOLDFS_SEED");
  const uint32_t seed = given ? static_cast<uint32_t>(std::stoul(given)) : std::random_device{}();
  const char* seconds = ::getenv("VOLDFS_FAULT_SECONDS");
  SCOPED_TRACE("VOLDFS_SEED=" + std::to_string(seed));
  ASSERT_NO_FATAL_FAILURE(add_nodes(3));
  join_all();
  create_volume("vol");
  ASSERT_TRUE(eventually([&] { return map_version() == 1; }));
  std::vector<std::thread> clients;
  for (uint32_t i = 0; i < 3; ++i) clients.emplace_back([this, seed, i] { change(seed + i, std::to_string(i)); });
  std::mt19937 random(seed + 100);
  const auto end = Clock::now() + std::chrono::seconds(seconds ? std::stoi(seconds) : 10);
  while (Clock::now() < end && !HasFatalFailure()) fault(random);
  const size_t so_far = done_so_far();
  EXPECT_TRUE(eventually([&] { return done_so_far() > so_far + 3; })) << "changes go on afterwards";
  over_ = true;
  for (std::thread& client : clients) client.join();
  ASSERT_GT(history_.size(), 10u);
  ASSERT_NO_FATAL_FAILURE(check_history());

  // All nodes show the same value, which is the last of the order or one that nobody was told of.
  std::set<std::string> values;
  ASSERT_TRUE(eventually([&] {
    values.clear();
    for (const Node& node : nodes_) values.insert(get(node));
    return values.size() == 1 && values.begin()->find("user.x") != std::string::npos;
  }));
  std::set<std::string> told;
  for (const Done& done : history_) told.insert(done.value);
  const std::string last = history_.back().value;
  const std::string shown = values.begin()->substr(0, values.begin()->find_last_not_of(" \n") + 1);
  const std::string value = shown.substr(shown.find_last_of(" \n") + 1);
  EXPECT_TRUE(value == last || !told.contains(value)) << value << ", and the last that was answered is " << last;
  // The volume's map has a version for each change that happened: those that were answered, once, and perhaps those that were not.
  const uint64_t happened = map_version() - 1;
  EXPECT_GE(happened, history_.size());
  EXPECT_LE(happened, begun_.load());
}

}  // namespace
}  // namespace voldfs
