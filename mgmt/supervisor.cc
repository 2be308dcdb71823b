#include "mgmt/supervisor.h"

#include <fcntl.h>
#include <signal.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <fstream>

#include "brick/base/clock.h"
#include "mgmt/fault_point.h"
#include "mgmt/files.h"

namespace voldfs::mgmt {

namespace {

constexpr int64_t kFirstDelayMs = 500, kDelayMaxMs = 30'000;
constexpr int64_t kStopTimeoutMs = 15'000;  // then it is killed

}  // namespace

// proc(5): "1: FLOCK  ADVISORY  WRITE 4711 08:02:12345 0 EOF", device in hexadecimal.
HeldLocks HeldLocks::look() {
  HeldLocks locks;
  std::ifstream file("/proc/locks");
  for (std::string line; std::getline(file, line);) {
    if (line.find("FLOCK") == std::string::npos || line.find("->") != std::string::npos) continue;
    char place[64];
    int pid = 0;
    if (std::sscanf(line.c_str(), "%*[^:]: %*s %*s %*s %d %63s", &pid, place) == 2 && pid > 0) locks.holders_[place] = pid;
  }
  return locks;
}

std::optional<pid_t> HeldLocks::brick_server(const std::string& brick_path) const {
  struct stat st{};
  if (::stat((brick_path + "/.voldfs/lock").c_str(), &st) != 0) return std::nullopt;
  char wanted[64];
  std::snprintf(wanted, sizeof wanted, "%02x:%02x:%lu", major(st.st_dev), minor(st.st_dev), static_cast<unsigned long>(st.st_ino));
  const auto found = holders_.find(wanted);
  return found == holders_.end() ? std::nullopt : std::optional(found->second);
}

std::optional<pid_t> brick_server(const std::string& brick_path) { return HeldLocks::look().brick_server(brick_path); }

std::string brick_log(const std::string& log_dir, const Id& brick) { return log_dir + "/brick-" + brick.uuid() + ".log"; }

Explained<std::string> Supervisor::rotate_log(const Id& id, const std::string& path) const {
  if (options_.systemd) return std::string("the journal, which is rotated by journald (journalctl --rotate)");
  const std::string log = brick_log(options_.log_dir, id);
  const std::string aside = log + "." + std::to_string(::time(nullptr));
  if (::rename(log.c_str(), aside.c_str()) != 0) return explain("Could not rename " + log + ": " + std::strerror(errno) + ".");
  if (const auto server = brick_server(path)) ::kill(*server, SIGHUP);  // it opens its log anew
  return aside;
}

void Supervisor::reap(Brick& brick) {
  int status = 0;
  if (brick.child == 0 || ::waitpid(brick.child, &status, WNOHANG) != brick.child) return;
  brick.child = 0;
  brick.delay_ms = std::min(std::max(kFirstDelayMs, brick.delay_ms * 2), kDelayMaxMs);
  brick.next_try_ms = boottime_ms() + brick.delay_ms;
  brick.last_error = WIFSIGNALED(status) ? "was killed by signal " + std::to_string(WTERMSIG(status))
                                         : "ended with status " + std::to_string(WEXITSTATUS(status));
}

Explained<void> Supervisor::keep_up(const Id& id, std::optional<pid_t> server, const std::string& path, const std::string& conf) {
  Brick& brick = bricks_[id];
  brick.asked_ms = 0;
  reap(brick);
  if (server) {
    if (brick.next_try_ms && boottime_ms() > brick.next_try_ms + kDelayMaxMs) brick.delay_ms = brick.next_try_ms = 0;  // it stays up
    return {};
  }
  if (brick.child) return {};  // on its way
  const std::string log = brick_log(options_.log_dir, id);
  const std::string unit = "voldbrick@" + id.uuid() + ".service";
  if (boottime_ms() < brick.next_try_ms) {
    if (options_.systemd) return explain("The brick " + path + " is not up: see systemctl status " + unit + ".");
    return explain("The brick " + path + " " + brick.last_error + "; see " + log + ".");
  }
  // Enabled: after a reboot it starts without voldmgmt.
  const std::vector<std::string> command = options_.systemd ? std::vector<std::string>{"systemctl", "enable", "--now", "--no-block", unit}
                                                            : std::vector<std::string>{options_.program, "--flagfile=" + conf};
  const auto child = spawn(command, options_.systemd ? "/dev/null" : log);
  if (!child) return explain(child.error());
  fault_point("brick.spawned");
  brick.child = *child;
  spdlog::info("brick started id={} path={} pid={}", id.uuid(), path, *child);
  return {};
}

bool Supervisor::bring_down(const Id& id, std::optional<pid_t> server, const std::string& path) {
  Brick& brick = bricks_[id];
  reap(brick);
  brick.next_try_ms = brick.delay_ms = 0;
  if (!server && brick.child == 0) {
    bricks_.erase(id);
    return true;
  }
  const int64_t now = boottime_ms();
  const pid_t pid = server.value_or(brick.child);
  if (brick.asked_ms == 0) {
    brick.asked_ms = now;
    fault_point("brick.stopping");
    spdlog::info("brick stopping id={} path={} pid={}", id.uuid(), path, pid);
    if (options_.systemd) {
      static_cast<void>(spawn({"systemctl", "disable", "--now", "--no-block", "voldbrick@" + id.uuid() + ".service"}, "/dev/null"));
    } else {
      ::kill(pid, SIGTERM);
    }
  } else if (now > brick.asked_ms + kStopTimeoutMs) {
    spdlog::warn("brick killed id={} path={} pid={} reason=\"did not end in time\"", id.uuid(), path, pid);
    ::kill(pid, SIGKILL);
    brick.asked_ms = now;
  }
  return false;
}

Explained<pid_t> Supervisor::spawn(const std::vector<std::string>& arguments, const std::string& log) {
  if (auto made = make_directories(options_.log_dir, 0755); !made) return explain(made.error());
  std::vector<char*> argv;
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  const pid_t pid = ::fork();
  if (pid < 0) return explain(std::string("Could not start ") + arguments[0] + ": " + std::strerror(errno) + ".");
  if (pid > 0) return pid;
  // The child: nothing but async-signal-safe calls until exec (fork(2) in a program with threads).
  ::setsid();
  sigset_t none;
  ::sigemptyset(&none);
  ::pthread_sigmask(SIG_SETMASK, &none, nullptr);
  const int in = ::open("/dev/null", O_RDONLY);
  const int out = ::open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0640);
  if (in >= 0) ::dup2(in, 0);
  if (out >= 0) {
    ::dup2(out, 1);
    ::dup2(out, 2);
  }
  ::close_range(3, ~0u, 0);
  ::execvp(argv[0], argv.data());
  ::_exit(127);
}

}  // namespace voldfs::mgmt
