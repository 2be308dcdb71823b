#include <arpa/inet.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <thread>

#include "brick/base/unique_fd.h"

// Whole clusters of real voldmgmt processes, driven by the real voldctl. The bricks are stand-ins that do what
// management knows of a brick: they make the directory a brick, hold its lock and end at SIGTERM.

namespace voldfs {
namespace {

using namespace std::chrono_literals;
using Json = nlohmann::json;
namespace fs = std::filesystem;

constexpr char kFakeBrick[] = R"(#!/usr/bin/python3
import fcntl, os, signal, sys
flags = dict(line[2:].rstrip().partition('=')[::2] for line in open(sys.argv[1].split('=', 1)[1]))
path = flags['path']
if not os.path.isdir(path): sys.exit('no brick directory')
if not os.path.isdir(path + '/.voldfs'):
    if 'init' not in flags: sys.exit('not a brick')
    os.mkdir(path + '/.voldfs')
lock = open(path + '/.voldfs/lock', 'a+')
fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
lock.truncate(0); lock.write(str(os.getpid())); lock.flush()
signal.pause()
)";

struct Output {
  int code = -1;
  std::string out, err;
  Json json() const { return Json::parse(out, nullptr, false); }
};

template <class Condition>
bool eventually(Condition condition, std::chrono::seconds deadline = 30s) {
  const auto end = std::chrono::steady_clock::now() + deadline;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::sleep_for(50ms);
  }
  return true;
}

std::string slurp(const std::string& path) {
  std::ifstream in(path);
  std::stringstream text;
  text << in.rdbuf();
  return text.str();
}

uint16_t free_port(const std::string& address) {
  const unique_fd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in name{};
  name.sin_family = AF_INET;
  ::inet_pton(AF_INET, address.c_str(), &name.sin_addr);
  socklen_t size = sizeof name;
  EXPECT_EQ(::bind(fd.get(), reinterpret_cast<sockaddr*>(&name), size), 0);
  EXPECT_EQ(::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&name), &size), 0);
  return ntohs(name.sin_port);
}

class MgmtFaultTest : public testing::Test {
 protected:
  struct Node {
    std::string dir, address;
    uint16_t api_port = 0, raft_port = 0;
    pid_t pid = 0;
    std::string state() const { return dir + "/var"; }
    std::string brick(const std::string& name) const { return dir + "/" + name; }
  };

  MgmtFaultTest() {
    std::string pattern = (fs::temp_directory_path() / "voldfs-mgmt-XXXXXX").string();
    top_ = ::mkdtemp(pattern.data());
    std::ofstream(top_ + "/brick.py") << kFakeBrick;
    fs::permissions(top_ + "/brick.py", fs::perms::owner_all);
  }

  ~MgmtFaultTest() override {
    for (Node& node : nodes_) kill_node(node);
    for (const Node& node : nodes_) {
      for (const auto& entry : fs::directory_iterator(node.dir)) {
        if (const pid_t pid = brick_pid(entry.path())) ::kill(pid, SIGKILL);
      }
    }
    if (HasFailure()) {
      for (const Node& node : nodes_) std::cerr << "--- " << node.address << "\n" << slurp(node.dir + "/daemon.log");
    }
    fs::remove_all(top_);
  }

  void add_nodes(size_t n) {
    for (size_t i = 0; i < n; ++i) {
      Node node;
      node.address = "127.0.0." + std::to_string(nodes_.size() + 2);
      node.dir = top_ + "/" + std::to_string(nodes_.size() + 2);
      node.api_port = free_port(node.address);
      node.raft_port = free_port(node.address);
      fs::create_directories(node.dir + "/etc");
      // The same secret on all, as an operator would copy it.
      std::ofstream(node.dir + "/etc/secret") << std::string(64, 'a') << "\n";
      fs::permissions(node.dir + "/etc/secret", fs::perms::owner_read | fs::perms::owner_write);
      nodes_.push_back(node);
      start_node(nodes_.back());
    }
  }

  void start_node(Node& node) {
    const std::vector<std::string> arguments = {
        std::string(VOLDFS_BINARY_DIR) + "/voldmgmt", "--listen=" + node.address + ":" + std::to_string(node.api_port),
        "--raft_port=" + std::to_string(node.raft_port), "--state_dir=" + node.state(), "--conf_dir=" + node.dir + "/etc",
        "--run_dir=" + node.dir + "/run", "--log_dir=" + node.dir + "/log", "--voldbrick=" + top_ + "/brick.py",
        "--brick_manager=fork", "--map_port=0", "--election_ms=400"};
    node.pid = spawn(arguments, node.dir + "/daemon.log", node.dir + "/daemon.log");
    ASSERT_TRUE(eventually([&] {
      const Output output = ctl(node, {"volume", "list"});
      return output.code == 0 || (output.code == 3 && output.err.find("does not run") == std::string::npos);
    })) << slurp(node.dir + "/daemon.log");
  }

  void kill_node(Node& node) {
    if (node.pid == 0) return;
    ::kill(node.pid, SIGKILL);
    ::waitpid(node.pid, nullptr, 0);
    node.pid = 0;
  }

  static pid_t spawn(const std::vector<std::string>& arguments, const std::string& out, const std::string& err) {
    std::vector<char*> argv;
    for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
    argv.push_back(nullptr);
    const pid_t pid = ::fork();
    if (pid != 0) return pid;
    const int to = ::open(out.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
    const int errors = ::open(err.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
    ::dup2(to, 1);
    ::dup2(errors, 2);
    ::close_range(3, ~0u, 0);
    ::execv(argv[0], argv.data());
    ::_exit(127);
  }

  Output ctl(const Node& node, std::vector<std::string> arguments) {
    const std::string base = top_ + "/ctl." + std::to_string(++calls_);
    arguments.insert(arguments.begin(), {std::string(VOLDFS_BINARY_DIR) + "/voldctl", "--mode=script", "--run-dir=" + node.dir + "/run", "--state-dir=" + node.state()});
    const pid_t pid = spawn(arguments, base + ".out", base + ".err");
    int status = 0;
    ::waitpid(pid, &status, 0);
    Output output{WIFEXITED(status) ? WEXITSTATUS(status) : -1, slurp(base + ".out"), slurp(base + ".err")};
    fs::remove(base + ".out");
    fs::remove(base + ".err");
    return output;
  }

  // ctl, that must succeed.
  std::string run(const Node& node, const std::vector<std::string>& arguments) {
    const Output output = ctl(node, arguments);
    EXPECT_EQ(output.code, 0) << arguments[0] << " " << arguments[1] << "\n" << output.out << output.err;
    return output.out;
  }

  void join_all() {
    for (size_t i = 1; i < nodes_.size(); ++i)
      EXPECT_NE(run(nodes_[0], {"peer", "probe", nodes_[i].address + ":" + std::to_string(nodes_[i].api_port)}).find("success"), std::string::npos);
  }

  std::string spec(const Node& node, const std::string& brick) const { return node.address + ":" + node.brick(brick); }

  void create_volume(const std::string& name) {
    std::vector<std::string> arguments = {"volume", "create", name};
    for (const Node& node : nodes_) arguments.push_back(spec(node, name + "-brick"));
    arguments.push_back("force");  // the tests' directory may be on the root file system
    EXPECT_NE(run(nodes_[0], arguments).find("volume create: " + name + ": success"), std::string::npos);
  }

  static pid_t brick_pid(const std::string& brick) {
    const std::string text = slurp(brick + "/.voldfs/lock");
    const pid_t pid = text.empty() ? 0 : std::stoi(text);
    return pid > 0 && ::kill(pid, 0) == 0 ? pid : 0;
  }

  bool all_see(const std::string& volumes) {
    for (const Node& node : nodes_) {
      const Output output = ctl(node, {"volume", "list"});
      if (output.code != 0 || output.out != volumes) return false;
    }
    return true;
  }

  std::string top_;
  std::vector<Node> nodes_;
  int calls_ = 0;
};

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
