#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>
#include <thread>

#include "mgmt/supervisor.h"
#include "tests/lib/managed.h"

// Whole clusters of real voldmgmt processes and their bricks, driven by the real voldctl. Only in a sandbox (sandbox_main.cc), which also
// ends what they leave running.
namespace voldfs::test {

using namespace std::chrono_literals;
using Json = nlohmann::json;
namespace fs = std::filesystem;

template <class Condition>
bool eventually(Condition condition, std::chrono::seconds deadline = 30s) {
  const auto end = std::chrono::steady_clock::now() + deadline;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::sleep_for(50ms);
  }
  return true;
}

inline std::string slurp(const std::string& path) { return read_text(path); }

class MgmtNodes : public testing::Test {
 protected:
  struct Node {
    std::string dir, address;
    uint16_t api_port = 24107, raft_port = 24106, brick_port = 24200;  // nobody else's in the sandbox, and below what the kernel gives away
    pid_t pid = 0;
    std::vector<std::string> wrapper;  // the command that runs its daemon, if not the daemon itself
    std::string state() const { return dir + "/var"; }
    std::string brick(const std::string& name) const { return dir + "/" + name; }
  };

  MgmtNodes() {
    std::string pattern = std::string(std::getenv("VOLDFS_TEST_SANDBOX")) + "/m.XXXXXX";
    top_ = ::mkdtemp(pattern.data());
  }

  ~MgmtNodes() override {
    for (Node& node : nodes_) kill_node(node);
    for (const Node& node : nodes_) {
      for (const auto& entry : fs::directory_iterator(node.dir)) {
        if (const pid_t pid = mgmt::brick_server(entry.path()).value_or(0)) ::kill(pid, SIGKILL);
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
      fs::create_directories(node.dir + "/etc");
      // The same secret on all, as an operator would copy it.
      std::ofstream(node.dir + "/etc/secret") << std::string(64, 'a') << "\n";
      fs::permissions(node.dir + "/etc/secret", fs::perms::owner_read | fs::perms::owner_write);
      if (wrap_) node.wrapper = wrap_(node);
      nodes_.push_back(node);
      start_node(nodes_.back());
    }
  }

  // Before add_nodes(): further flags of the daemons.
  void add_flag(const std::string& flag) { flags_.push_back(flag); }

  // Before add_nodes(): the daemons heed fault points (mgmt/fault_point.h).
  void with_fault_points() { fault_points_ = true; }
  static std::string faults(const Node& node) { return node.dir + "/faults"; }
  static void arm(const Node& node, const std::string& step) { std::ofstream(faults(node) + "/kill/" + step) << ""; }
  static bool disarm(const Node& node, const std::string& step) { return fs::remove(faults(node) + "/kill/" + step); }
  // Each time that the node comes by the step takes so long; 0: no more than it does.
  static void slow_down(const Node& node, const std::string& step, int ms) {
    const std::string file = faults(node) + "/slow/" + step;
    if (ms == 0) fs::remove(file);
    else std::ofstream(file) << ms;
  }
  // The way between two nodes, in both directions.
  static void cut(const Node& a, const Node& b) {
    std::ofstream(faults(a) + "/cut/" + b.address) << "";
    std::ofstream(faults(b) + "/cut/" + a.address) << "";
  }
  static void mend(const Node& a, const Node& b) {
    fs::remove(faults(a) + "/cut/" + b.address);
    fs::remove(faults(b) + "/cut/" + a.address);
  }
  // Whether the daemon has ended by itself.
  static bool ended(Node& node) {
    if (node.pid && ::waitpid(node.pid, nullptr, WNOHANG) == node.pid) node.pid = 0;
    return node.pid == 0;
  }

  void start_node(Node& node) {
    std::vector<std::string> arguments = {
        std::string(VOLDFS_BINARY_DIR) + "/voldmgmt", "--listen=" + node.address + ":" + std::to_string(node.api_port),
        "--raft_port=" + std::to_string(node.raft_port), "--state_dir=" + node.state(), "--conf_dir=" + node.dir + "/etc",
        "--run_dir=" + node.dir + "/run", "--log_dir=" + node.dir + "/log",
        "--brick_manager=fork", "--map_port=0", "--election_ms=400", "--brick_port_first=" + std::to_string(node.brick_port)};
    arguments.insert(arguments.end(), flags_.begin(), flags_.end());
    if (fault_points_) {
      for (const char* part : {"/seen", "/kill", "/slow", "/cut"}) fs::create_directories(faults(node) + part);
      arguments.insert(arguments.begin(), {"/usr/bin/env", "VOLDFS_MGMT_FAULTS=" + faults(node)});
    }
    arguments.insert(arguments.begin(), node.wrapper.begin(), node.wrapper.end());
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
    Output output{WIFEXITED(status) ? WEXITSTATUS(status) : -1, slurp(base + ".out"), slurp(base + ".err"), {}};
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
  std::atomic<int> calls_ = 0;
  std::vector<std::string> flags_;
  bool fault_points_ = false;
  std::function<std::vector<std::string>(const Node&)> wrap_;  // before add_nodes(): what runs a node's daemon
};

}  // namespace voldfs::test
