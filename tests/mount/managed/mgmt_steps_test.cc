#include <algorithm>
#include <csignal>
#include <random>
#include <set>

#include "tests/lib/mgmt_nodes.h"

// kill -9 of a daemon, or of voldctl, at every step of every changing command. The steps are those that the daemons say they have come
// by (mgmt/fault_point.h). Whatever is cut off: the command has happened on all nodes or on none, giving it again is safe, and all
// nodes come to the same. VOLDFS_STEPS=all: every step; a number: as many, chosen by VOLDFS_SEED; K/N: the Kth of N parts of them.

namespace voldfs {
namespace {

using namespace test;

using Line = std::vector<std::string>;

struct Change {
  const char* name;
  std::vector<Line> before;
  Line command, undo;  // "BRICKn": a brick of that node; "PEERn": its address and port; "HOSTn": its name
};

void PrintTo(const Change& change, std::ostream* out) { *out << change.name; }

const Line kCreate = {"volume", "create", "vol", "BRICK0", "BRICK1", "BRICK2", "force"};
const Line kStart = {"volume", "start", "vol"}, kStop = {"volume", "stop", "vol"}, kDelete = {"volume", "delete", "vol"};

const Change kFew[] = {
    {"Create", {}, kCreate, kDelete},
    {"Set", {kCreate}, {"volume", "set", "vol", "user.x", "1"}, {"volume", "reset", "vol"}},
};
const Change kAll[] = {
    {"Create", {}, kCreate, kDelete},
    {"Start", {kCreate}, kStart, kStop},
    {"Stop", {kCreate, kStart}, kStop, kStart},
    {"Delete", {kCreate}, kDelete, kCreate},
    {"Set", {kCreate}, {"volume", "set", "vol", "user.x", "1"}, {"volume", "reset", "vol"}},
    {"Reset", {kCreate, {"volume", "set", "vol", "user.x", "1"}}, {"volume", "reset", "vol"}, {"volume", "set", "vol", "user.x", "1"}},
    {"RenameVolume", {kCreate}, {"volume", "rename", "vol", "data"}, {"volume", "rename", "data", "vol"}},
    {"RenamePeer", {kCreate}, {"peer", "rename", "HOST2", "third"}, {"peer", "rename", "third", "HOST2"}},
    {"SetRole", {}, {"peer", "set-role", "HOST2", "standby"}, {"peer", "set-role", "HOST2", "voter"}},
    {"Probe", {}, {"peer", "probe", "PEER3"}, {"peer", "detach", "HOST3"}},
    {"Detach", {{"peer", "probe", "PEER3"}}, {"peer", "detach", "HOST3"}, {"peer", "probe", "PEER3"}},
    {"Webhook", {}, {"webhook", "add", "http://127.0.0.1:1/"}, {"webhook", "remove", "http://127.0.0.1:1/"}},
};

class MgmtSteps : public MgmtNodes {
 protected:
  MgmtSteps() {
    with_fault_points();
    const char* given = ::getenv("VOLDFS_SEED");
    seed_ = given ? static_cast<uint32_t>(std::stoul(given)) : std::random_device{}();
  }

  Line filled(Line words) const {
    for (std::string& word : words) {
      const size_t n = word.empty() ? 0 : static_cast<size_t>(word.back() - '0');
      if (word.starts_with("BRICK")) word = spec(nodes_[n], "b" + std::to_string(n));
      if (word.starts_with("PEER")) word = nodes_[n].address + ":" + std::to_string(nodes_[n].api_port);
      if (word.starts_with("HOST")) word = nodes_[n].address;
    }
    return words;
  }

  // Given again, a command that has happened says so; it is never done twice.
  static bool happened(const Output& output) {
    if (output.code == 0) return true;
    for (const char* word : {"already", "does not exist", "is not started", "is not a peer", "There is no webhook"}) {
      if (output.err.find(word) != std::string::npos) return true;
    }
    return false;
  }
  void must(const Line& command) {
    Output last;
    ASSERT_TRUE(eventually([&] { return happened(last = ctl(nodes_[0], filled(command))); }, 60s)) << command[0] << " " << command[1] << last;
  }

  std::set<std::string> take_seen(const Node& node) {
    std::set<std::string> names;
    for (const auto& file : fs::directory_iterator(faults(node) + "/seen")) names.insert(file.path().filename());
    for (const std::string& name : names) fs::remove(faults(node) + "/seen/" + name);
    return names;
  }

  // The state as a node's daemon tells it, and what of it a command can have changed.
  Json state_of(const Node& node) {
    const Output output = ctl(node, {"get-state", "--json"});
    return output.code == 0 ? output.json().value("state", Json()) : Json();
  }
  static Json brief(const Json& state) {
    Json brief = {{"volumes", Json::object()}, {"peers", Json::array()}, {"webhooks", state.at("webhooks")}};
    for (const auto& [name, volume] : state.at("volumes").items())
      brief["volumes"][name] = {volume.at("started"), volume.at("map").value("options", Json::object()), volume.at("map").at("bricks").size()};
    std::set<std::string> peers;
    for (const Json& peer : state.at("peers")) peers.insert(peer.at("name").get<std::string>() + " " + peer.at("role").get<std::string>());
    brief["peers"] = peers;
    return brief;
  }

  // Of the nodes that are in the cluster; null: not equal yet. The maps that mounts and bricks are given are equal too.
  Json common_state() {
    const Json first = state_of(nodes_[0]);
    if (!first.is_object()) return Json();
    for (const Json& peer : first.at("peers")) {
      const auto node = std::find_if(nodes_.begin(), nodes_.end(), [&](const Node& each) { return peer.at("address").get<std::string>() == each.address; });
      if (state_of(*node) != first) return Json();
      for (const auto& [name, volume] : first.at("volumes").items()) {
        if (Json::parse(slurp(node->state() + "/maps/" + name + ".json"), nullptr, false) != Json::parse(slurp(nodes_[0].state() + "/maps/" + name + ".json"), nullptr, false)) return Json();
      }
    }
    return brief(first);
  }
  Json settled() {
    Json common;
    EXPECT_TRUE(eventually([&] { return !(common = common_state()).is_null(); }, 60s)) << state_of(nodes_[0]);
    return common;
  }

  // Which steps there are, on which node: of the command given to each of them.
  std::vector<std::pair<size_t, std::string>> learn_steps(const Change& change) {
    std::set<std::pair<size_t, std::string>> steps;
    for (size_t through = 0; through < 3; ++through) {
      settled();
      for (const Node& node : nodes_) take_seen(node);
      const Output done = ctl(nodes_[through], filled(change.command));
      EXPECT_TRUE(happened(done)) << done;
      settled();
      for (size_t i = 0; i < nodes_.size(); ++i) {
        for (const std::string& name : take_seen(nodes_[i])) steps.emplace(i, name);
      }
      must(change.undo);
    }
    return {steps.begin(), steps.end()};
  }

  // Brings them into an order; how many of them are to be tried.
  size_t choose(std::vector<std::pair<size_t, std::string>>& steps, size_t few) const {
    std::mt19937 random(seed_);
    std::shuffle(steps.begin(), steps.end(), random);
    const std::string given = ::getenv("VOLDFS_STEPS") ? ::getenv("VOLDFS_STEPS") : std::to_string(few);
    if (const size_t slash = given.find('/'); slash != std::string::npos) {
      // By their names, for not every run comes by the same.
      const size_t part = std::stoul(given), parts = std::stoul(given.substr(slash + 1));
      std::erase_if(steps, [&](const auto& step) { return std::hash<std::string>()(step.second + std::to_string(step.first)) % parts != part % parts; });
      return steps.size();
    }
    return given == "all" ? steps.size() : std::min<size_t>(std::stoul(given), steps.size());
  }

  void run_steps(const Change& change, size_t few);
  uint32_t seed_ = 0;
};

void MgmtSteps::run_steps(const Change& change, size_t few) {
  SCOPED_TRACE("VOLDFS_SEED=" + std::to_string(seed_));
  ASSERT_NO_FATAL_FAILURE(add_nodes(3));
  join_all();
  if (std::string(change.name) == "Probe" || std::string(change.name) == "Detach") {
    ASSERT_NO_FATAL_FAILURE(add_nodes(1));
  }
  for (const Line& line : change.before) ASSERT_NO_FATAL_FAILURE(must(line));
  const Json undone = settled();
  auto steps = learn_steps(change);
  ASSERT_GT(steps.size(), 10u);
  const size_t count = choose(steps, few);
  size_t killed = 0;
  for (size_t i = 0; i < count; ++i) {
    const auto& [victim, step] = steps[i];
    SCOPED_TRACE(std::string(change.name) + " node " + std::to_string(victim) + " " + step);
    arm(nodes_[victim], step);
    // Through the victim itself, if it is a member, so that also what the asking node does is cut off.
    const Output output = ctl(nodes_[victim < 3 ? victim : 0], filled(change.command));
    const bool died = eventually([&] { return ended(nodes_[victim]); }, 2s);
    disarm(nodes_[victim], step);
    if (died || ended(nodes_[victim])) {
      ++killed;
      ASSERT_NO_FATAL_FAILURE(start_node(nodes_[victim]));
    }
    const Json then = settled();
    if (output.code == 0) {
      EXPECT_NE(then, undone) << "what was said to be done is not" << output;
    }
    // Again: it is done now, or says that it was.
    ASSERT_NO_FATAL_FAILURE(must(change.command));
    const Json done = settled();
    EXPECT_TRUE(then == undone || then == done) << then << " is neither " << undone << " nor " << done;
    EXPECT_NE(done, undone);
    ASSERT_NO_FATAL_FAILURE(must(change.undo));
    ASSERT_EQ(settled(), undone);
  }
  EXPECT_GT(killed, count / 3) << "most steps are come by again";
  std::cerr << change.name << ": " << killed << " of " << count << " steps\n";
}

class MgmtStepsFault : public MgmtSteps, public testing::WithParamInterface<Change> {};
TEST_P(MgmtStepsFault, KilledAtSomeSteps_HappensOrNotOnAllAndConverges) { run_steps(GetParam(), 4); }
INSTANTIATE_TEST_SUITE_P(Changes, MgmtStepsFault, testing::ValuesIn(kFew), [](const auto& info) { return std::string(info.param.name); });

class MgmtStepsFaultSlow : public MgmtStepsFault {};
TEST_P(MgmtStepsFaultSlow, KilledAtManySteps_HappensOrNotOnAllAndConverges) { run_steps(GetParam(), 16); }
INSTANTIATE_TEST_SUITE_P(Changes, MgmtStepsFaultSlow, testing::ValuesIn(kAll), [](const auto& info) { return std::string(info.param.name); });

class MgmtCommandFault : public MgmtSteps {
 protected:
  std::string own_faults() const { return top_ + "/ctl-faults"; }
  // voldctl with fault points of its own.
  pid_t spawn_ctl(const Node& node, const Line& words) {
    for (const char* part : {"/seen", "/kill"}) fs::create_directories(own_faults() + part);
    Line arguments = {"/usr/bin/env", "VOLDFS_MGMT_FAULTS=" + own_faults(), std::string(VOLDFS_BINARY_DIR) + "/voldctl", "--mode=script", "--run-dir=" + node.dir + "/run", "--state-dir=" + node.state()};
    arguments.insert(arguments.end(), words.begin(), words.end());
    return spawn(arguments, top_ + "/ctl.out", top_ + "/ctl.err");
  }
  int end_of(pid_t pid) {
    int status = 0;
    ::waitpid(pid, &status, 0);
    return status;
  }
};

TEST_F(MgmtCommandFault, CommandKilledAtEachStep_GivenAgainSaysWhich) {
  ASSERT_NO_FATAL_FAILURE(add_nodes(3));
  join_all();
  for (const bool answered : {false, true}) {
    SCOPED_TRACE(answered ? "answered" : "begun");
    const Json undone = settled();
    for (const char* part : {"/seen", "/kill"}) fs::create_directories(own_faults() + part);
    std::ofstream(own_faults() + (answered ? "/kill/ctl.answered" : "/kill/ctl.begin")) << "";
    const int status = end_of(spawn_ctl(nodes_[0], filled(kCreate)));
    EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) << status;
    EXPECT_EQ(settled() != undone, answered);
    const Output again = ctl(nodes_[1], filled(kCreate));
    EXPECT_EQ(again.code, answered ? 1 : 0) << again;
    EXPECT_EQ(again.err.find("already exists") != std::string::npos, answered) << again;
    must(kDelete);
  }
}

TEST_F(MgmtCommandFault, CommandInterrupted_SaysWhatItMeans) {
  ASSERT_NO_FATAL_FAILURE(add_nodes(3));
  join_all();
  create_volume("vol");
  settled();
  // A change that can be taken, and not be agreed on.
  for (size_t i : {1, 2}) ::kill(nodes_[i].pid, SIGSTOP);
  const pid_t command = spawn_ctl(nodes_[0], {"volume", "set", "vol", "user.x", "1"});
  ASSERT_TRUE(eventually([&] { return fs::exists(own_faults() + "/seen/ctl.begin"); }));
  ::kill(command, SIGINT);
  const int status = end_of(command);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 130) << status;
  EXPECT_NE(slurp(top_ + "/ctl.err").find("Given again, the command says which"), std::string::npos);
  for (size_t i : {1, 2}) ::kill(nodes_[i].pid, SIGCONT);
  settled();
  must({"volume", "set", "vol", "user.x", "1"});
  EXPECT_EQ(settled().at("volumes").at("vol")[1].at("user.x"), "1");
}

}  // namespace
}  // namespace voldfs
