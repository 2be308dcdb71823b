#include "tools/ctl/brick_start.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <thread>
#include <vector>

#include "brick/base/clock.h"
#include "brick/base/unique_fd.h"

namespace voldfs::ctl {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kStartTimeoutMs = 15'000;

struct Conf {
  std::string file, id;
  std::map<std::string, std::string> flags;
  std::string flag(const std::string& name) const { return flags.contains(name) ? flags.at(name) : ""; }
  std::string path() const { return flag("path"); }
};

Conf read_conf(const fs::path& file) {
  Conf conf{file, file.stem(), {}};
  std::ifstream in(file);
  for (std::string line; std::getline(in, line);) {
    if (!line.starts_with("--")) continue;
    const size_t equals = line.find('=');
    conf.flags[line.substr(2, equals - 2)] = equals == std::string::npos ? "" : line.substr(equals + 1);
  }
  return conf;
}

Explained<Conf> find_conf(const std::string& conf_dir, const std::string& which) {
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(conf_dir + "/bricks", error)) {
    if (entry.path().extension() != ".conf") continue;
    Conf conf = read_conf(entry.path());
    if (conf.id == which || conf.path() == which || conf.path() == fs::absolute(which).lexically_normal()) return conf;
  }
  return explain("No brick " + which + " is known on this machine: the files in " + conf_dir + "/bricks tell which are.");
}

// Who serves holds this lock for its life.
bool is_served(const std::string& path) {
  const unique_fd lock(::open((path + "/.voldfs/lock").c_str(), O_RDWR | O_CLOEXEC));
  return lock && ::flock(lock.get(), LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK;
}

std::string voldbrick() {
  std::error_code none;
  const fs::path beside = fs::read_symlink("/proc/self/exe", none).parent_path() / "voldbrick";
  return fs::exists(beside, none) ? beside.string() : "voldbrick";
}

// In a session of its own, and with nothing of the shell's, so that it outlives it.
pid_t spawn(const std::vector<std::string>& words, const std::string& log) {
  std::vector<char*> argv;
  for (const std::string& word : words) argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(nullptr);
  const pid_t pid = ::fork();
  if (pid != 0) return pid;
  ::setsid();
  const int null = ::open("/dev/null", O_RDWR);
  const int out = ::open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0640);
  ::dup2(null, 0);
  ::dup2(out < 0 ? null : out, 1), ::dup2(out < 0 ? null : out, 2);
  ::close_range(3, ~0u, 0);
  ::execvp(argv[0], argv.data());
  ::_exit(127);
}

std::string log_of(const Conf& conf) {
  return conf.flag("log_file").empty() ? "journalctl -u voldbrick@" + conf.id : conf.flag("log_file");
}

// Until somebody serves the brick; or the child has ended without that.
Explained<void> await_served(const Conf& conf, pid_t child) {
  const int64_t deadline = boottime_ms() + kStartTimeoutMs;
  while (boottime_ms() < deadline) {
    int status = 0;
    if (child > 0 && ::waitpid(child, &status, WNOHANG) == child && (!WIFEXITED(status) || WEXITSTATUS(status) != 0))
      return explain("The brick " + conf.path() + " did not start; see " + log_of(conf) + ".");
    if (is_served(conf.path())) return {};
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  return explain("The brick " + conf.path() + " has not started yet; see " + log_of(conf) + ".");
}

}  // namespace

Explained<Report> start_brick(const std::string& conf_dir, const std::string& which) {
  const auto conf = find_conf(conf_dir, which);
  if (!conf) return explain(conf.error());
  if (::access(conf->path().c_str(), F_OK) != 0) return explain("The brick directory " + conf->path() + " is missing. Is its disk mounted?");
  const nlohmann::json json = {{"brick", conf->id}, {"path", conf->path()}};
  if (is_served(conf->path())) return Report{"The brick " + conf->path() + " is served already.\n", json};
  // The default place is the one that the units read.
  const bool unit = ::sd_booted() > 0 && conf_dir == "/etc/voldfs";
  const pid_t child = unit ? spawn({"systemctl", "start", "voldbrick@" + conf->id + ".service"}, "/dev/null") : spawn({voldbrick(), "--flagfile=" + conf->file}, conf->flag("log_file"));
  if (child < 0) return explain(std::string("No process for the brick: ") + std::strerror(errno) + ".");
  if (const auto served = await_served(*conf, child); !served) return explain(served.error());
  return Report{"The brick " + conf->path() + " is being served.\n", json};
}

}  // namespace voldfs::ctl
