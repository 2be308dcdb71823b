#pragma once

#include <sys/types.h>

#include <filesystem>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "brick/base/id.h"

namespace voldfs::test {

// A process of the test's own: killed by its pid when this goes, and by the kernel when the test dies. One thread.
class Process {
 public:
  // Looks for the program in the build's directory of programs. Output goes to the file.
  Process(const std::string& program, const std::vector<std::string>& arguments, const std::filesystem::path& log);
  ~Process();
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  pid_t pid() const { return pid_; }
  bool is_running();
  void kill_hard();                  // SIGKILL, and waits
  int terminate(int deadline_ms);    // SIGTERM, and waits; the exit status, -1 if it had to be killed

 private:
  bool reap(int options);

  pid_t pid_ = -1;
  int status_ = 0;
};

// A part of a test that runs in a process of its own, which is killed when this goes. `run` returns its exit status.
class Child {
 public:
  explicit Child(const std::function<int()>& run);
  ~Child();
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  pid_t pid() const { return pid_; }
  void signal(int number);
  // The exit status; -1: still running at the deadline; 256: a signal has ended it.
  int wait(int deadline_ms);

 private:
  pid_t pid_;
};

// A volume of real voldbrick processes on directories of its own, with any number of mounts by real voldfs processes in the
// test's private mount namespace. Bricks listen on a unix socket too: mounts are local ones unless `transport=tcp`. Needs root and /dev/fuse. One thread, the one that made it.
class MountedVolume {
 public:
  struct Options {
    size_t bricks = 2;
    std::vector<std::string> brick_flags;  // of voldbrick, beside those that it needs
    std::vector<uint64_t> disk_mib;        // by brick: on a file system (ext4) of its own of that size; 0, or none: where the test is
  };
  explicit MountedVolume(size_t bricks = 2) : MountedVolume(Options{bricks, {}, {}}) {}
  explicit MountedVolume(const Options& options);
  ~MountedVolume();
  MountedVolume(const MountedVolume&) = delete;
  MountedVolume& operator=(const MountedVolume&) = delete;

  // Mounts the volume; returns the directory. `options`: of -o.
  std::filesystem::path mount(const std::string& options = "");
  void unmount(size_t index);        // in the order of mount()
  Process& client(size_t index) { return *mounts_[index].process; }
  std::filesystem::path brick_path(size_t index) const { return bricks_[index].path; }
  Process& brick(size_t index) { return *bricks_[index].process; }
  void kill_brick(size_t index);
  void start_brick(size_t index);    // also after a kill
  // Kills all bricks and has voldcheck(8) look at them: how many errors it finds, orphans left out if there may be some; -1: it does not
  // end, or cannot look. Nothing that the mount has shown tells what lies there.
  int check_bricks(bool may_have_orphans = false);
  // The brick's status document, and the mount's, as an administrator gets them.
  nlohmann::json brick_status(size_t index) const;
  nlohmann::json mount_status(size_t index) const;
  // Requests that a mount's process has got from the kernel.
  uint64_t requests(size_t index, const std::string& operation) const;
  void cut_connections(size_t index);  // of all clients to the brick, as a network may; both ends notice
  std::filesystem::path directory() const { return directory_; }
  std::filesystem::path map_file() const { return directory_ / "vol.json"; }
  // A directory of the local file system, for comparison.
  std::filesystem::path native() const { return directory_ / "native"; }
  std::string logs() const;          // of all processes, for a failed test's message

 private:
  struct Brick {
    std::filesystem::path path;
    uint16_t port = 0;
    std::string unix_socket;
    std::unique_ptr<Process> process;
  };
  struct Mount {
    std::filesystem::path path;
    std::unique_ptr<Process> process;
  };

  void make_disk(const std::filesystem::path& at, uint64_t mib);

  const Options options_;
  std::filesystem::path directory_;
  std::vector<std::filesystem::path> disks_;  // mount points
  std::vector<Brick> bricks_;
  std::vector<Mount> mounts_;
  Id volume_;
};

// Resident memory of a process, KiB.
uint64_t resident_kib(pid_t pid);

// Polls until the condition holds. False: the time is over.
bool wait_until(int deadline_ms, const std::function<bool()>& condition);

}  // namespace voldfs::test
