#pragma once

#include <sys/types.h>

#include <chrono>
#include <filesystem>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/lib/mount.h"

namespace voldfs::test {

// What a command said.
struct Output {
  int code = -1;        // -1: it was ended by a signal
  std::string out, err;
  std::chrono::milliseconds took{0};
  nlohmann::json json() const { return nlohmann::json::parse(out, nullptr, false); }
};
std::ostream& operator<<(std::ostream& to, const Output& output);

// Runs a program to its end (found in the build's directory of programs, else in PATH). `input` is its standard input.
Output run_program(const std::vector<std::string>& arguments, const std::string& input = "");
// The same of a shell's line; the build's programs come first in its PATH.
Output shell(const std::string& line);

bool is_alive(pid_t pid);
std::string read_text(const std::filesystem::path& path);

// Whole nodes: real voldmgmt processes on 127.0.0.2, 127.0.0.3, ... with the ports that users have, the bricks that they
// start, and mounts by mount(8). Only in a sandbox (sandbox_main.cc), which also ends what the nodes leave running. One thread.
class ManagedCluster {
 public:
  // Starts the daemons and makes them one cluster. Ends the process with a message if that cannot be had.
  explicit ManagedCluster(size_t nodes = 2);
  ~ManagedCluster();
  ManagedCluster(const ManagedCluster&) = delete;
  ManagedCluster& operator=(const ManagedCluster&) = delete;

  size_t count() const { return nodes_.size(); }
  std::string address(size_t node) const { return addresses_[node]; }
  std::filesystem::path state(size_t node) const { return directory(node) / "var"; }
  std::filesystem::path conf(size_t node) const { return directory(node) / "etc"; }
  std::filesystem::path directory(size_t node) const { return directory_ / ("node" + std::to_string(node + 1)); }
  std::filesystem::path directory() const { return directory_; }

  void start_daemon(size_t node);          // and waits until it answers
  void kill_daemon(size_t node);           // -9
  void move(size_t node, const std::string& address);  // the daemon ends, and begins there
  bool daemon_runs(size_t node) const { return nodes_[node] && nodes_[node]->is_running(); }

  // voldctl on that node, --mode=script.
  Output ctl(size_t node, std::vector<std::string> arguments) const;
  // As above; must succeed, or the test fails. Returns its output.
  std::string run(size_t node, const std::vector<std::string>& arguments) const;

  // A volume with a brick on each node, started; and its parts.
  void make_volume(const std::string& name);
  std::filesystem::path brick(size_t node, const std::string& volume) const { return directory(node) / (volume + "-brick"); }
  std::string spec(size_t node, const std::string& volume) const { return address(node) + ":" + brick(node, volume).string(); }
  pid_t brick_pid(size_t node, const std::string& volume) const;  // 0: it is down
  static pid_t brick_pid_at(const std::filesystem::path& directory);
  std::string brick_id(size_t node, const std::string& volume) const;
  std::filesystem::path brick_conf(size_t node, const std::string& volume) const;

  // mount -t voldfs -o OPTIONS SOURCE; by default of VOLUME from the first node. Its map cache is its own if `cache` names one.
  std::filesystem::path mount(const std::string& volume, const std::string& options = "", const std::string& cache = "cache");
  Output try_mount(const std::string& source, const std::filesystem::path& where, const std::string& options) const;
  void unmount(const std::filesystem::path& where);

  std::string logs() const;  // of all processes, for a failed test's message

 private:
  std::filesystem::path directory_;
  std::vector<std::unique_ptr<Process>> nodes_;
  std::vector<std::string> addresses_;
  std::vector<std::filesystem::path> mounts_;
  int mounted_ = 0;
};

}  // namespace voldfs::test
