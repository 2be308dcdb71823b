#include "tests/lib/mount.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <sstream>
#include <thread>

#include "brick/base/unique_fd.h"
#include "brick/client/connection.h"
#include "dht/secret.h"
#include "dht/volume_map.h"
#include "tests/lib/loopback.h"

namespace voldfs::test {
namespace {

constexpr int kStartMs = 30'000;       // of a brick or a mount, on a busy machine
constexpr int kCheckMs = 120'000;      // voldcheck(8) on all bricks of a test
constexpr long kFuseMagic = 0x65735546;

[[noreturn]] void die(const std::string& what) {
  std::fprintf(stderr, "mount harness: %s: %s\n", what.c_str(), std::strerror(errno));
  std::abort();
}

// Mounts are the test's own, and end with it.
void enter_private_namespace() {
  static thread_local bool entered = false;
  if (entered) return;
  if (::unshare(CLONE_NEWNS) < 0) die("unshare(CLONE_NEWNS)");
  if (::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) < 0) die("mount --make-rprivate /");
  entered = true;
}

// bin/ of the build directory that the test itself lies in.
std::filesystem::path programs() {
  return std::filesystem::read_symlink("/proc/self/exe").parent_path().parent_path() / "bin";
}

bool accepts(uint16_t port) {
  unique_fd socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return ::connect(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
}

std::string contents(const std::filesystem::path& path) {
  std::ostringstream out;
  out << std::ifstream(path).rdbuf();
  return out.str();
}

bool is_fuse(const std::filesystem::path& path) {
  struct statfs found{};
  return ::statfs(path.c_str(), &found) == 0 && found.f_type == kFuseMagic;
}

}  // namespace

uint64_t resident_kib(pid_t pid) {
  std::ifstream status("/proc/" + std::to_string(pid) + "/status");
  for (std::string line; std::getline(status, line);)
    if (line.starts_with("VmRSS:")) return std::strtoull(line.c_str() + 6, nullptr, 10);
  return 0;
}

bool wait_until(int deadline_ms, const std::function<bool()>& condition) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(deadline_ms);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return true;
}

Process::Process(const std::string& program, const std::vector<std::string>& arguments, const std::filesystem::path& log) {
  const std::string path = (programs() / program).string();
  std::vector<char*> argv = {const_cast<char*>(path.c_str())};
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  const pid_t parent = ::getpid();
  pid_ = ::fork();
  if (pid_ < 0) die("fork");
  if (pid_ > 0) return;
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != parent) ::_exit(1);
  ::setsid();
  const int out = ::open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0644);
  ::dup2(out, STDOUT_FILENO), ::dup2(out, STDERR_FILENO);
  ::execv(path.c_str(), argv.data());
  std::fprintf(stderr, "cannot run %s: %s\n", path.c_str(), std::strerror(errno));
  ::_exit(127);
}

Process::~Process() { kill_hard(); }

bool Process::reap(int options) {
  if (pid_ < 0) return true;
  if (::waitpid(pid_, &status_, options) != pid_) return false;
  pid_ = -1;
  return true;
}

bool Process::is_running() { return !reap(WNOHANG); }

void Process::kill_hard() {
  if (pid_ < 0) return;
  ::kill(pid_, SIGKILL);
  reap(0);
}

int Process::terminate(int deadline_ms) {
  if (pid_ >= 0) ::kill(pid_, SIGTERM);
  if (!wait_until(deadline_ms, [this] { return reap(WNOHANG); })) return kill_hard(), -1;
  return WIFEXITED(status_) ? WEXITSTATUS(status_) : -1;
}

Child::Child(const std::function<int()>& run) : pid_(::fork()) {
  if (pid_ < 0) die("fork");
  if (pid_ == 0) ::_exit(run());
}

Child::~Child() {
  if (pid_ > 0) ::kill(pid_, SIGKILL), ::waitpid(pid_, nullptr, 0);
}

void Child::signal(int number) { ::kill(pid_, number); }

int Child::wait(int deadline_ms) {
  int status = 0;
  if (!wait_until(deadline_ms, [&] { return ::waitpid(pid_, &status, WNOHANG) == pid_; })) return -1;
  pid_ = -1;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 256;
}

MountedVolume::MountedVolume(const Options& options) : options_(options) {
  enter_private_namespace();
  std::string name = "/var/tmp/voldfs-mount-test.XXXXXX";
  if (!::mkdtemp(name.data())) die("mkdtemp");
  directory_ = name;
  std::filesystem::permissions(directory_, std::filesystem::perms(0755));
  std::filesystem::create_directory(native());

  dht::VolumeMap map;
  map.volume = Id::random(), map.incarnation = Id::random();
  map.name = "test";
  volume_ = map.volume;
  map.root_home = 1;
  std::vector<dht::Target> targets;
  std::vector<unique_fd> ports;  // held, so that each is given once
  bricks_.resize(options.bricks);
  for (size_t i = 0; i < options.bricks; i++) {
    Brick& brick = bricks_[i];
    brick.path = directory_ / ("brick" + std::to_string(i + 1));
    Loopback bound = bind_loopback();
    brick.port = bound.port;
    ports.push_back(std::move(bound.socket));
    std::filesystem::create_directory(brick.path);
    if (i < options.disk_mib.size() && options.disk_mib[i] != 0) make_disk(brick.path, options.disk_mib[i]);
    dht::BrickEntry entry;
    entry.id = Id::random();
    entry.ordinal = static_cast<uint16_t>(i + 1);
    entry.unix_socket = brick.unix_socket = directory_ / ("brick" + std::to_string(i + 1) + ".sock");
    entry.node = "local", entry.host = "127.0.0.1", entry.port = brick.port, entry.path = brick.path;
    targets.push_back({entry.ordinal, entry.id, entry.weight});
    map.bricks.push_back(std::move(entry));
  }
  map.layouts.emplace_back(1, dht::HashRule::kXxh3Rendezvous1, std::move(targets));
  std::ofstream(map_file()) << map.to_json();
  if (auto made = dht::make_secret(map_file().string() + ".secret"); !made) die(made.error());
  ports.clear();
  for (size_t i = 0; i < options.bricks; i++) start_brick(i);
}

MountedVolume::~MountedVolume() {
  for (Mount& mount : mounts_) {
    if (mount.process) mount.process->terminate(5'000);
    ::umount2(mount.path.c_str(), MNT_DETACH);
  }
  mounts_.clear();
  bricks_.clear();
  for (const auto& disk : disks_) ::umount2(disk.c_str(), MNT_DETACH);
  std::error_code ignored;
  std::filesystem::remove_all(directory_, ignored);
}

// The loop device goes with the mount, and that with the test's namespace.
void MountedVolume::make_disk(const std::filesystem::path& at, uint64_t mib) {
  const std::string image = at.string() + ".img";
  const std::string make = "truncate -s " + std::to_string(mib) + "M " + image + " && mkfs.ext4 -q -F -m 0 -b 4096 " + image +
                           " && mount -o loop " + image + " " + at.string();
  if (std::system(make.c_str()) != 0) die("no loop file system at " + at.string());
  disks_.push_back(at);
}

void MountedVolume::start_brick(size_t index) {
  Brick& brick = bricks_[index];
  std::vector<std::string> flags{"--path=" + brick.path.string(), "--map=" + map_file().string(), "--init",
                                 "--listen=127.0.0.1:" + std::to_string(brick.port), "--unix=" + brick.unix_socket};
  flags.insert(flags.end(), options_.brick_flags.begin(), options_.brick_flags.end());
  brick.process = std::make_unique<Process>(
      "voldbrick", flags,
      directory_ / ("brick" + std::to_string(index + 1) + ".log"));
  if (!wait_until(kStartMs, [&] { return accepts(brick.port) || !brick.process->is_running(); }) || !brick.process->is_running())
    die("a brick does not start:\n" + logs());
}

// ss(8) needs a kernel with CONFIG_INET_DIAG_DESTROY; another cuts nothing.
void MountedVolume::cut_connections(size_t index) {
  const std::string port = std::to_string(bricks_[index].port);
  Child ss([&port] {
    const int nowhere = ::open("/dev/null", O_RDWR | O_CLOEXEC);
    ::dup2(nowhere, STDOUT_FILENO), ::dup2(nowhere, STDERR_FILENO);
    ::execlp("ss", "ss", "-K", "-tn", "dport", "=", port.c_str(), nullptr);
    return 127;
  });
  ss.wait(kStartMs);
}

void MountedVolume::kill_brick(size_t index) { bricks_[index].process->kill_hard(); }

int MountedVolume::check_bricks(bool may_have_orphans) {
  std::vector<std::string> arguments{"--map=" + map_file().string()};
  for (size_t i = 0; i < bricks_.size(); i++) {
    kill_brick(i);
    arguments.push_back(brick_path(i).string());
  }
  const std::filesystem::path log = directory_ / "voldcheck.log";
  Process check("voldcheck", arguments, log);
  if (!wait_until(kCheckMs, [&check] { return !check.is_running(); })) return -1;
  if (check.terminate(1'000) == 0) return 0;
  int errors = 0, orphans = 0;
  std::ifstream lines(log);
  for (std::string line; std::getline(lines, line);) {
    const bool orphan = line.starts_with("error orphan ");
    orphans += orphan;
    errors += line.starts_with("error ") && !(orphan && may_have_orphans);
  }
  return errors + orphans == 0 ? -1 : errors;  // it complains of something else
  return errors;
}

std::filesystem::path MountedVolume::mount(const std::string& options) {
  Mount mount;
  mount.path = directory_ / ("mnt" + std::to_string(mounts_.size() + 1));
  std::filesystem::create_directory(mount.path);
  std::vector<std::string> arguments = {"--foreground", map_file(), mount.path};
  if (!options.empty()) arguments.insert(arguments.begin(), {"-o", options});
  const std::filesystem::path log = directory_ / (mount.path.filename().string() + ".log");
  mount.process = std::make_unique<Process>("voldfs", arguments, log);
  // It looks itself whether the mount works, and gives up if a brick is killed meanwhile.
  const auto is_ready = [&] { return is_fuse(mount.path) && contents(log).find("mount.begin") != std::string::npos; };
  if (!wait_until(kStartMs, [&] { return is_ready() || !mount.process->is_running(); }) || !mount.process->is_running())
    die("the mount does not come:\n" + logs());
  mounts_.push_back(std::move(mount));
  return mounts_.back().path;
}

void MountedVolume::unmount(size_t index) {
  mounts_[index].process->terminate(5'000);
  ::umount2(mounts_[index].path.c_str(), MNT_DETACH);
}

nlohmann::json MountedVolume::brick_status(size_t index) const {
  client::BrickAddress address;
  address.host = "127.0.0.1", address.port = bricks_[index].port, address.unix_socket = bricks_[index].unix_socket;
  client::ClientOptions options;
  options.volume = volume_;
  auto status = client::ask(address, options, wire::Op::kStatus);
  wait_until(kStartMs, [&] { return status || (status = client::ask(address, options, wire::Op::kStatus)); });  // it may have just come back
  if (!status) die("no status of a brick:\n" + logs());
  const auto* text = reinterpret_cast<const char*>(status->data());
  return nlohmann::json::parse(text, text + status->size());
}

nlohmann::json MountedVolume::mount_status(size_t index) const {
  std::string status(64 << 10, 0);
  const ssize_t size = ::getxattr(mounts_[index].path.c_str(), "trusted.voldfs.status", status.data(), status.size());
  if (size < 0) die("no status of a mount:\n" + logs());
  return nlohmann::json::parse(status.substr(0, static_cast<size_t>(size)));
}

uint64_t MountedVolume::requests(size_t index, const std::string& operation) const {
  return mount_status(index)["requests"].value(operation, uint64_t{0});
}

std::string MountedVolume::logs() const {
  std::ostringstream out;
  for (const auto& entry : std::filesystem::directory_iterator(directory_))
    if (entry.path().extension() == ".log") out << "--- " << entry.path().filename() << "\n" << std::ifstream(entry.path()).rdbuf();
  return out.str();
}

}  // namespace voldfs::test
