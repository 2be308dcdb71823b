#include <fcntl.h>
#include <gflags/gflags.h>
#include <linux/capability.h>
#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <iostream>
#include <string>
#include <thread>

#include "brick/base/descriptors.h"
#include "brick/base/metrics_server.h"
#include "dht/volume.h"
#include "fuse/limits.h"
#include "fuse/mount_options.h"
#include "fuse/mount_point.h"
#include "fuse/mount_source.h"
#include "fuse/session.h"

DEFINE_string(o, "", "Mount options, separated by commas: ro, log-level=debug, ...; see mount.voldfs(8)");
DEFINE_bool(foreground, false, "Stay in the foreground, log to stderr unless log-file= says otherwise");
DEFINE_bool(sloppy, false, "Pass over mount options that are not known");

namespace voldfs::fuse {
namespace {

constexpr char kLogLevel[] = "info";
constexpr int kFailed = 1, kAlreadyMounted = 32;  // of mount(8)

struct Job {
  std::string source_text, directory;
  MountSource source;
  MountOptions options;
};

Explained<void> start_log(const Job& job) {
  std::shared_ptr<spdlog::logger> logger;
  if (FLAGS_foreground && job.options.log_file.empty()) {
    logger = spdlog::stderr_logger_mt("voldfs");
  } else {
    std::string path = job.options.log_file;
    if (path.empty()) {
      std::string name = job.directory.substr(std::min<size_t>(1, job.directory.size() - 1));
      std::replace(name.begin(), name.end(), '/', '-');
      path = "/var/log/voldfs/" + name + ".log";
    }
    try {
      logger = spdlog::basic_logger_mt("voldfs", path);
    } catch (const spdlog::spdlog_ex& error) {
      return explain("cannot write the log " + path + " (log-file=FILE names another): " + error.what());
    }
    logger->flush_on(spdlog::level::info);
  }
  logger->set_level(spdlog::level::from_str(job.options.log_level.value_or(kLogLevel)));
  spdlog::set_default_logger(std::move(logger));
  return {};
}

// The directory of the volume that is to be the mount's root.
Explained<dht::NodePtr> find_root(dht::Volume& volume, const std::string& path) {
  dht::NodePtr node = volume.root();
  for (size_t start = 0; start < path.size();) {
    const size_t end = std::min(path.find('/', start), path.size());
    const std::string name = path.substr(start, end - start);
    start = end + 1;
    if (name.empty()) continue;
    const auto found = volume.lookup(node, name, {});
    if (!found) return explain("directory " + path + " of the volume: " + std::strerror(found.error().code));
    if (!found->node->is_directory()) return explain(path + " of the volume is not a directory");
    node = found->node;
  }
  return node;
}

// The volume's option, when the mount has none of its own.
void heed_log_level(const dht::VolumeMap& map) {
  const auto set = map.options.find("client.log-level");
  const auto level = spdlog::level::from_str(set != map.options.end() ? set->second : kLogLevel);
  if (level == spdlog::get_level()) return;
  spdlog::set_level(level);
  spdlog::info("log_level level={}", spdlog::level::to_string_view(level));
}

Explained<std::unique_ptr<dht::Volume>> open_volume(const Job& job, FoundVolume found, uint32_t wait_ms) {
  dht::VolumeOptions options;
  options.client.connections_max = job.options.connections;
  options.client.use_unix_sockets = job.options.unix_sockets;
  options.on_brick_down = job.options.on_brick_down;
  if (job.options.brick_timeout_s) options.down_timeout_ms = *job.options.brick_timeout_s * 1000;
  if (!job.options.log_level) options.heed_map = heed_log_level;
  if (!found.cached_map.empty())
    options.save_map = [path = found.cached_map](std::string_view json) { save_map(path, json); };
  return dht::Volume::open(std::move(found.map), std::move(found.secret), std::move(options), wait_ms);
}

Explained<std::unique_ptr<dht::Volume>> open_volume(const Job& job) {
  auto found = find_volume(job.source, job.options);
  if (!found) return explain(std::move(found.error()));
  const bool from_copy = found->from_copy;
  auto volume = open_volume(job, std::move(*found), from_copy ? kMountWaitCopyMs : kMountWaitMs);
  if (volume || !from_copy) return volume;
  found = find_volume(job.source, job.options, Copies::kNot);
  if (!found) return explain(volume.error() + " And " + found.error());
  return open_volume(job, std::move(*found), kMountWaitMs);
}

// What the kernel does for an application by passthrough, it does with this process's rights. So no reserved blocks and no quota
// beyond its limit for anybody, and a write takes suid and sgid away whoever writes.
void give_up_rights() {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct sets[2]{};
  if (::syscall(SYS_capget, &header, sets) < 0) return;
  sets[0].effective &= ~(1u << CAP_SYS_RESOURCE | 1u << CAP_FSETID);
  if (::syscall(SYS_capset, &header, sets) < 0)
    spdlog::warn("mount.rights not given up error=\"{}\"", std::strerror(errno));
}

// Ends the mount at SIGTERM or SIGINT.
class Terminator {
 public:
  // Before any other thread is made: they inherit the mask.
  Terminator() {
    ::sigemptyset(&signals_);
    for (const int signal : {SIGTERM, SIGINT, SIGHUP}) ::sigaddset(&signals_, signal);
    ::pthread_sigmask(SIG_BLOCK, &signals_, nullptr);
    ::signal(SIGPIPE, SIG_IGN);
  }
  ~Terminator() { stop(); }
  void watch(const MountPoint& point) {
    thread_ = std::thread([this, &point] {
      int signal = 0;
      ::sigwait(&signals_, &signal);
      if (over_) return;
      signalled_ = true;
      spdlog::info("mount.end signal={}", signal);
      point.unmount();
    });
  }
  bool signalled() const { return signalled_; }
  void stop() {
    if (!thread_.joinable()) return;
    over_ = true;
    ::pthread_kill(thread_.native_handle(), SIGTERM);
    thread_.join();
  }

 private:
  sigset_t signals_;
  std::atomic<bool> over_ = false, signalled_ = false;
  std::thread thread_;
};

// Mounts and serves until the end. `ready` is called once the kernel answers for the mount.
Explained<void> serve(const Job& job, const std::function<void()>& ready) {
  if (const auto room = make_room_for_descriptors(); !room) spdlog::warn("mount.descriptors limit low error=\"{}\"", std::strerror(room.error().code));
  Terminator terminator;
  give_up_rights();
  Mount mount;
  mount.behaviour = job.options.behaviour;
  auto volume = open_volume(job);
  if (!volume) return explain(std::move(volume.error()));
  mount.volume = std::move(*volume);
  const std::string& path = job.options.subdirectory.empty() ? job.source.subdirectory : job.options.subdirectory;
  auto root = find_root(*mount.volume, path);
  if (!root) return explain(std::move(root.error()));
  mount.root = *root;

  MountPointOptions how;
  how.source = job.source_text;
  how.flags = job.options.mount_flags;
  how.allow_other = job.options.allow_other;
  how.contexts = job.options.contexts;
  auto point = MountPoint::mount(job.directory, how);
  if (!point) return explain(std::move(point.error()));
  auto session = Session::start(mount, point->take_device());
  if (!session) {
    point->unmount();
    return explain(std::move(session.error()));
  }
  terminator.watch(*point);
  point->set_readahead(kReadaheadKib);
  if (auto works = point->check(); !works) {
    const bool ended = terminator.signalled();  // by who has mounted it, before it was ready
    if (!ended) point->unmount();
    (*session)->wait(kUnmountWaitMs);
    if (!ended) return works;
    return {};
  }
  spdlog::info("mount.begin source={} directory={} bricks={}", job.source_text, point->directory(), mount.volume->map()->bricks.size());
  const auto metrics = MetricsServer::start("voldfs/mount/" + std::to_string(::getpid()), [&mount, labels = label("volume", mount.volume->map()->name) + "," + label("directory", point->directory())] {
    return mount.metrics.prometheus(labels);
  });
  if (!metrics) spdlog::warn("mount.metrics not served error=\"{}\"", std::strerror(metrics.error().code));
  ready();
  (*session)->wait_over();
  terminator.stop();
  if (!(*session)->wait(kUnmountWaitMs)) {
    // They wait for a brick that is down, or for a lock: nobody is left to hear the answer.
    spdlog::warn("mount.ended with requests at work directory={}", point->directory());
    spdlog::shutdown();
    std::_Exit(0);
  }
  spdlog::info("mount.ended directory={}", point->directory());
  return {};
}

// The child that serves tells by a byte that the mount works, or by a sentence that it does not.
int serve_in_background(const Job& job) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) < 0) return std::perror("voldfs: pipe"), kFailed;
  const pid_t child = ::fork();
  if (child < 0) return std::perror("voldfs: fork"), kFailed;
  if (child > 0) {
    ::close(ends[1]);
    std::string told;
    char buffer[512];
    for (ssize_t size; (size = ::read(ends[0], buffer, sizeof buffer)) > 0;) told.append(buffer, static_cast<size_t>(size));
    if (told == "+") return 0;
    std::cerr << "voldfs: " << (told.empty() ? "ended before the mount worked; see its log" : told) << "\n";
    ::waitpid(child, nullptr, 0);
    return kFailed;
  }
  ::close(ends[0]);
  ::setsid();
  if (::chdir("/") < 0) std::perror("voldfs: chdir /");
  unique_fd tell(ends[1]);
  const auto say = [&tell](const std::string& what) {
    if (::write(tell.get(), what.data(), what.size()) < 0) spdlog::warn("mount.report nobody waits for the mount");
    tell.reset();
  };
  const auto detach = [] {
    const int null = ::open("/dev/null", O_RDWR);
    for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) ::dup2(null, fd);
    if (null > STDERR_FILENO) ::close(null);
  };
  auto logging = start_log(job);
  auto done = logging ? serve(job, [&] { detach(), say("+"); }) : logging;
  if (done) return 0;
  if (!tell) {
    spdlog::error("mount.failed reason=\"{}\"", done.error());
  } else {
    say(done.error());
  }
  return kFailed;
}

int serve_in_foreground(const Job& job) {
  if (auto logging = start_log(job); !logging) return std::cerr << "voldfs: " << logging.error() << "\n", kFailed;
  const auto done = serve(job, [] { ::sd_notify(0, "READY=1"); });
  if (done) return 0;
  std::cerr << "voldfs: " << done.error() << "\n";
  return kFailed;
}

int remount(const Job& job) {
  if (::mount(job.source_text.c_str(), job.directory.c_str(), nullptr, job.options.mount_flags | MS_REMOUNT, nullptr) == 0) return 0;
  std::cerr << "voldfs: cannot remount " << job.directory << ": " << std::strerror(errno) << "\n";
  return kFailed;
}

int run(const std::string& source, const std::string& directory) {
  Job job;
  job.source_text = source;
  job.directory = directory;
  if (auto parsed = parse_mount_options(FLAGS_o, FLAGS_sloppy, job.options); !parsed)
    return std::cerr << "voldfs: " << parsed.error() << "\n", kFailed;
  if (job.options.remount) return remount(job);
  if (is_mounted(directory)) return std::cerr << "voldfs: " << directory << " is mounted already\n", kAlreadyMounted;
  auto what = MountSource::parse(source);
  if (!what) return std::cerr << "voldfs: " << what.error() << "\n", kFailed;
  job.source = std::move(*what);
  if (!job.source.map_file.empty()) job.source_text = job.source.map_file;
  // The daemon leaves its directory.
  if (char* path = ::realpath(directory.c_str(), nullptr)) {
    job.directory = path;
    std::free(path);
  }
  for (std::string* file : {&job.options.secret, &job.options.map_cache}) {
    if (file->empty()) continue;
    if (char* path = ::realpath(file->c_str(), nullptr)) *file = path, std::free(path);
  }
  if (!job.options.log_file.empty() && job.options.log_file[0] != '/') {
    char here[4096];
    if (::getcwd(here, sizeof here)) job.options.log_file = std::string(here) + "/" + job.options.log_file;
  }
  ::mkdir("/var/log/voldfs", 0755);
  return FLAGS_foreground ? serve_in_foreground(job) : serve_in_background(job);
}

}  // namespace
}  // namespace voldfs::fuse

int main(int argc, char** argv) {
  gflags::SetUsageMessage(
      "mounts a volume.\n\n  voldfs [--foreground] MAPFILE DIRECTORY [-o OPTIONS]\n"
      "  voldfs [--foreground] SERVER[,SERVER..]:/VOLUME[/SUBDIRECTORY] DIRECTORY [-o OPTIONS]");
  gflags::ParseCommandLineFlags(&argc, &argv, true);
  if (argc != 3) {
    std::cerr << "voldfs: wants what to mount and where: voldfs MAPFILE|SERVER:/VOLUME DIRECTORY [-o OPTIONS]\n";
    return 1;
  }
  return voldfs::fuse::run(argv[1], argv[2]);
}
