#include "tests/lib/managed.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <fstream>
#include <sstream>

#include "brick/base/unique_fd.h"

namespace voldfs::test {

namespace fs = std::filesystem;

namespace {

constexpr int kStartMs = 60'000;  // of a daemon, on a busy machine

[[noreturn]] void die(const std::string& what) {
  std::fprintf(stderr, "managed cluster: %s\n", what.c_str());
  std::_Exit(1);  // and with it everything in the sandbox
}

fs::path programs() { return fs::read_symlink("/proc/self/exe").parent_path().parent_path() / "bin"; }

void write_text(const fs::path& path, const std::string& text, fs::perms mode) {
  std::ofstream(path) << text;
  fs::permissions(path, mode);
}

// Reads both ends to their ends.
void drain(int out, int err, Output& output) {
  pollfd ends[2] = {{out, POLLIN, 0}, {err, POLLIN, 0}};
  while (ends[0].fd >= 0 || ends[1].fd >= 0) {
    if (::poll(ends, 2, -1) < 0) continue;
    for (int i = 0; i < 2; ++i) {
      if (ends[i].fd < 0 || ends[i].revents == 0) continue;
      char buffer[4096];
      const ssize_t size = ::read(ends[i].fd, buffer, sizeof buffer);
      if (size <= 0) ends[i].fd = -1;
      else (i == 0 ? output.out : output.err).append(buffer, static_cast<size_t>(size));
    }
  }
}

}  // namespace

std::ostream& operator<<(std::ostream& to, const Output& output) {
  return to << "exit status " << output.code << " after " << output.took.count() << " ms\n" << output.out << output.err;
}

Output run_program(const std::vector<std::string>& arguments, const std::string& input) {
  std::vector<std::string> words = arguments;
  if (const fs::path own = programs() / words[0]; fs::exists(own)) words[0] = own;
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  int in[2], out[2], err[2];
  if (::pipe2(in, O_CLOEXEC) || ::pipe2(out, O_CLOEXEC) || ::pipe2(err, O_CLOEXEC)) die("pipe");
  const auto begun = std::chrono::steady_clock::now();
  const pid_t pid = ::fork();
  if (pid < 0) die("fork");
  if (pid == 0) {
    ::dup2(in[0], 0), ::dup2(out[1], 1), ::dup2(err[1], 2);
    ::execvp(argv[0], argv.data());
    ::_exit(127);
  }
  for (const int fd : {in[0], out[1], err[1]}) ::close(fd);
  if (::write(in[1], input.data(), input.size()) < 0 && !input.empty()) die("write");
  ::close(in[1]);
  Output output;
  drain(out[0], err[0], output);
  ::close(out[0]), ::close(err[0]);
  int status = 0;
  ::waitpid(pid, &status, 0);
  output.code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  output.took = std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now() - begun);
  return output;
}

Output shell(const std::string& line) {
  return run_program({"bash", "-c", "PATH=" + programs().string() + ":$PATH; " + line});
}

bool is_alive(pid_t pid) {
  return pid > 0 && ::kill(pid, 0) == 0;
}

std::string read_text(const fs::path& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

ManagedCluster::ManagedCluster(size_t nodes) {
  const char* sandbox = std::getenv("VOLDFS_TEST_SANDBOX");
  if (!sandbox) die("wants a sandbox");
  std::string name = std::string(sandbox) + "/c.XXXXXX";  // short: sockets are in it
  if (!::mkdtemp(name.data())) die("mkdtemp");
  directory_ = name;
  nodes_.resize(nodes);
  for (size_t node = 0; node < nodes; ++node) addresses_.push_back("127.0.0." + std::to_string(node + 2));
  for (size_t node = 0; node < nodes; ++node) {
    fs::create_directories(conf(node));
    // The same secret on all, as an operator would copy it.
    write_text(conf(node) / "secret", std::string(64, 'a') + "\n", fs::perms::owner_read | fs::perms::owner_write);
    start_daemon(node);
  }
  for (size_t node = 1; node < nodes; ++node) {
    const Output joined = ctl(0, {"peer", "probe", address(node)});
    if (joined.code != 0) die("node " + std::to_string(node) + " does not join: " + joined.err + logs());
  }
}

ManagedCluster::~ManagedCluster() {
  for (const fs::path& where : mounts_) ::umount2(where.c_str(), MNT_DETACH);
  nodes_.clear();
  // What is left in the sandbox is of this cluster: mounts, and bricks that outlive their daemons.
  for (const auto& entry : fs::directory_iterator("/proc")) {
    const std::string name = entry.path().filename();
    if (name.find_first_not_of("0123456789") != std::string::npos) continue;
    std::error_code none;
    const std::string program = fs::read_symlink(entry.path() / "exe", none).filename();
    if (program == "voldbrick" || program == "voldfs") ::kill(std::stoi(name), SIGKILL);
  }
  std::error_code ignored;
  fs::remove("/sbin/mount.voldfs", ignored);
  fs::remove_all(directory_, ignored);
}

void ManagedCluster::start_daemon(size_t node) {
  const fs::path own = directory(node);
  nodes_[node] = std::make_unique<Process>(
      "voldmgmt",
      std::vector<std::string>{"--listen=" + address(node) + ":24107", "--state_dir=" + state(node).string(), "--conf_dir=" + conf(node).string(),
                               "--run_dir=" + (own / "run").string(), "--log_dir=" + (own / "log").string(), "--brick_manager=fork",
                               "--election_ms=400"},
      own / "voldmgmt.log");
  const bool answers = wait_until(kStartMs, [&] {
    const Output output = ctl(node, {"volume", "list"});
    return output.code == 0 || (output.code == 3 && output.err.find("does not run") == std::string::npos);
  });
  if (!answers) die("voldmgmt does not answer on " + address(node) + "\n" + logs());
}

void ManagedCluster::kill_daemon(size_t node) { nodes_[node]->kill_hard(); }

void ManagedCluster::move(size_t node, const std::string& address) {
  kill_daemon(node);
  addresses_[node] = address;
  start_daemon(node);
}

Output ManagedCluster::ctl(size_t node, std::vector<std::string> arguments) const {
  arguments.insert(arguments.begin(), {"voldctl", "--mode=script", "--run-dir=" + (directory(node) / "run").string(), "--state-dir=" + state(node).string()});
  return run_program(arguments);
}

std::string ManagedCluster::run(size_t node, const std::vector<std::string>& arguments) const {
  const Output output = ctl(node, arguments);
  std::string line;
  for (const std::string& argument : arguments) line += " " + argument;
  EXPECT_EQ(output.code, 0) << "voldctl" << line << "\n" << output;
  return output.out;
}

void ManagedCluster::make_volume(const std::string& name) {
  std::vector<std::string> arguments = {"volume", "create", name};
  for (size_t node = 0; node < count(); ++node) arguments.push_back(spec(node, name));
  arguments.push_back("force");  // the tests' directory may be on the root file system
  run(0, arguments);
  run(0, {"volume", "start", name});
  // Until it is known that the bricks have been made: from then on a directory that is missing is a disk that is missing.
  for (size_t node = 0; node < count(); ++node) {
    const bool ready = wait_until(kStartMs, [&] {
      const std::string conf = read_text(brick_conf(node, name));
      return !conf.empty() && conf.find("--init") == std::string::npos;
    });
    EXPECT_TRUE(ready) << logs();
  }
}

pid_t ManagedCluster::brick_pid(size_t node, const std::string& volume) const { return brick_pid_at(brick(node, volume)); }

pid_t ManagedCluster::brick_pid_at(const fs::path& directory) {
  const std::string text = read_text(directory / ".voldfs/lock");
  const pid_t pid = text.empty() ? 0 : std::atoi(text.c_str());
  return is_alive(pid) ? pid : 0;
}

std::string ManagedCluster::brick_id(size_t node, const std::string& volume) const {
  const std::string wanted = "--path=" + brick(node, volume).string() + "\n";
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(conf(node) / "bricks", ignored))
    if (read_text(entry.path()).find(wanted) != std::string::npos) return entry.path().stem();
  return "";
}

fs::path ManagedCluster::brick_conf(size_t node, const std::string& volume) const {
  return conf(node) / "bricks" / (brick_id(node, volume) + ".conf");
}

fs::path ManagedCluster::mount(const std::string& volume, const std::string& options, const std::string& cache) {
  const fs::path where = directory_ / ("mnt" + std::to_string(++mounted_));
  fs::create_directories(where);
  fs::create_directories(directory_ / cache);
  const std::string all = "secret=" + (state(0) / "maps" / (volume + ".json.secret")).string() + ",map-cache=" + (directory_ / cache).string() +
                          (options.empty() ? "" : "," + options);
  const Output mounted = try_mount(address(0) + ":/" + volume, where, all);
  EXPECT_EQ(mounted.code, 0) << mounted << logs();
  mounts_.push_back(where);
  return where;
}

Output ManagedCluster::try_mount(const std::string& source, const fs::path& where, const std::string& options) const {
  const std::string log = "log-file=" + (directory_ / (where.filename().string() + ".log")).string();
  if (!fs::exists("/sbin/mount.voldfs")) fs::create_symlink(programs() / "mount.voldfs", "/sbin/mount.voldfs");
  return shell("mount -t voldfs -o " + log + (options.empty() ? "" : "," + options) + " " + source + " " + where.string());
}

void ManagedCluster::unmount(const fs::path& where) {
  EXPECT_EQ(shell("umount " + where.string()).code, 0);
  std::erase(mounts_, where);
}

std::string ManagedCluster::logs() const {
  std::vector<fs::path> places = {directory_};
  for (size_t node = 0; node < count(); ++node) places.insert(places.end(), {directory(node), directory(node) / "log"});
  std::ostringstream out;
  std::error_code ignored;
  for (const fs::path& place : places) {
    for (const auto& entry : fs::directory_iterator(place, ignored))
      if (entry.path().extension() == ".log") out << "--- " << entry.path().string() << "\n" << read_text(entry.path());
  }
  return out.str();
}

}  // namespace voldfs::test
