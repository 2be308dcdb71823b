// voldbrick: serves one brick's directory, and looks after it as a client of its volume.

#include <fcntl.h>
#include <gflags/gflags.h>
#include <signal.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <string>

#include "brick/base/descriptors.h"
#include "brick/server/brick_server.h"
#include "dht/maintenance.h"

DEFINE_string(path, "", "the brick's directory");
DEFINE_string(map, "", "the volume map's file; its secret lies beside it as FILE.secret. Needed with --init");
DEFINE_string(listen, "", "ADDRESS:PORT to listen on, as 192.0.2.1:24200 or [2001:db8::1]:24200; port 0: any");
DEFINE_string(unix, "", "path of a unix socket to listen on too, for mounts on this host; empty: none");
DEFINE_bool(init, false, "make the directory a brick if it is none");
DEFINE_string(brick, "", "id of the brick in the map; needed with --init where the map does not name the path");
DEFINE_string(log_file, "", "file to append the log to, opened anew at SIGHUP; empty: standard error");
DEFINE_string(log_level, "info", "the least that is logged: debug, info, warn, error");
DEFINE_uint32(lease_ms, 20'000, "milliseconds that a client's session lives without a heartbeat; 1000 to 600000");
DEFINE_uint32(min_free, 1, "percent of space and inodes below which new files are refused; 0 to 50");
DEFINE_bool(maintenance, true, "look after the brick: end what dead clients left half done, find names again after a power failure, take in "
                               "files that were here before");
DEFINE_uint32(map_port, 0, "port shared by this host's bricks that answers with the volume map, usually 24108; 0: none");

namespace {

constexpr int kExitRefused = 1, kExitUsage = 2;

bool in_range(const char* flag, uint32_t value, uint32_t least, uint32_t most) {
  if (value >= least && value <= most) return true;
  std::fprintf(stderr, "voldbrick: --%s must be from %u to %u.\n", flag, least, most);
  return false;
}

bool check_lease(const char* flag, uint32_t value) { return in_range(flag, value, 1'000, 600'000); }
bool check_min_free(const char* flag, uint32_t value) { return in_range(flag, value, 0, 50); }
bool check_port(const char* flag, uint32_t value) { return in_range(flag, value, 0, 65'535); }

bool check_log_level(const char* flag, const std::string& value) {
  if (value == "debug" || value == "info" || value == "warn" || value == "error") return true;
  std::fprintf(stderr, "voldbrick: --%s must be debug, info, warn or error.\n", flag);
  return false;
}

DEFINE_validator(lease_ms, check_lease);
DEFINE_validator(min_free, check_min_free);
DEFINE_validator(map_port, check_port);
DEFINE_validator(log_level, check_log_level);

struct ListenOn {
  std::string address;
  uint16_t port;
};

// ADDRESS:PORT, an IPv6 address in brackets.
std::optional<ListenOn> parse_listen(const std::string& text) {
  const size_t colon = text.rfind(':');
  if (colon == std::string::npos || colon == 0) return std::nullopt;
  ListenOn out{text.substr(0, colon), 0};
  if (out.address.front() == '[' && out.address.back() == ']') out.address = out.address.substr(1, out.address.size() - 2);
  const char* end = text.data() + text.size();
  const auto parsed = std::from_chars(text.data() + colon + 1, end, out.port);
  if (parsed.ec != std::errc() || parsed.ptr != end || colon + 1 == text.size()) return std::nullopt;
  return out;
}

int usage(const char* sentence) {
  std::fprintf(stderr, "voldbrick: %s `voldbrick --help` tells the flags.\n", sentence);
  return kExitUsage;
}

int refuse(const std::string& sentence) {
  spdlog::error("brick_refused reason={}", sentence);
  std::fprintf(stderr, "voldbrick: %s\n", sentence.c_str());
  return kExitRefused;
}

// Standard output and error become the log's file, so that also what a library says last is in it.
bool open_log_file() {
  const int fd = ::open(FLAGS_log_file.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
  if (fd < 0) return false;
  const bool done = ::dup2(fd, STDOUT_FILENO) >= 0 && ::dup2(fd, STDERR_FILENO) >= 0;
  ::close(fd);
  return done;
}

// Under systemd standard error is the journal's; it stamps the time itself.
bool open_log() {
  if (!FLAGS_log_file.empty() && !open_log_file()) {
    std::fprintf(stderr, "voldbrick: the log %s cannot be written: %s. Give another --log_file.\n",
                 FLAGS_log_file.c_str(), std::strerror(errno));
    return false;
  }
  spdlog::set_default_logger(spdlog::stderr_logger_mt("voldbrick"));
  const bool journal = FLAGS_log_file.empty() && ::getenv("JOURNAL_STREAM") != nullptr;
  spdlog::set_pattern(journal ? "%l %v" : "%Y-%m-%dT%H:%M:%S.%e%z %l %v");
  spdlog::set_level(spdlog::level::from_str(FLAGS_log_level));
  spdlog::flush_on(spdlog::level::info);
  return true;
}

// Waits for the end; SIGHUP means that the log was put aside.
void wait_for_end(const sigset_t& signals) {
  for (int signal = 0; ::sigwait(&signals, &signal) != 0 || signal == SIGHUP;) {
    if (signal == SIGHUP && !FLAGS_log_file.empty() && !open_log_file()) spdlog::error("log not opened anew file={} error={}", FLAGS_log_file, errno);
  }
}

// The volume's option wins over the flag, as long as it is set.
void heed_log_level(const std::map<std::string, std::string>& options) {
  const auto set = options.find("brick.log-level");
  const auto level = spdlog::level::from_str(set != options.end() ? set->second : FLAGS_log_level);
  if (level == spdlog::get_level()) return;
  spdlog::set_level(level);
  spdlog::info("log_level level={}", spdlog::level::to_string_view(level));
}

voldfs::dht::Maintenance::Brick looked_after(voldfs::server::BrickServer& server) {
  constexpr uint32_t kOverdueMs = 10'000;
  voldfs::dht::Maintenance::Brick brick;
  brick.ordinal = server.identity().ordinal;
  brick.chores = [&server] {
    const auto chores = server.chores(kOverdueMs);
    return voldfs::dht::Maintenance::Chores{chores.unclean, chores.adopted, chores.overdue, chores.clients_died};
  };
  brick.map = [&server] { return server.map(); };
  brick.secret = server.secret();
  brick.adopted_done = [&server] { server.adopted_done(); };
  brick.scrubbed = [&server] { server.scrubbed(); };
  return brick;
}

}  // namespace

int main(int argc, char** argv) {
  gflags::SetUsageMessage("serves one brick of a voldfs volume.\n  voldbrick --path=DIR --map=FILE --listen=ADDRESS:PORT");
  gflags::SetVersionString("0.1.0");
  gflags::ParseCommandLineFlags(&argc, &argv, true);
  if (argc > 1) return usage("Everything is given by flags.");
  if (FLAGS_path.empty()) return usage("--path is needed: the brick's directory.");
  const auto listen = parse_listen(FLAGS_listen);
  if (!listen) return usage("--listen=ADDRESS:PORT is needed.");
  const auto brick = voldfs::Id::parse(FLAGS_brick);
  if (!FLAGS_brick.empty() && !brick) return usage("--brick is no id.");
  if (::geteuid() != 0) {
    std::fprintf(stderr, "voldbrick: it must run as root: it makes files for all users.\n");
    return kExitRefused;
  }
  if (!open_log()) return kExitRefused;
  // Each connection needs two, each open file one.
  if (const auto room = voldfs::make_room_for_descriptors(); !room) spdlog::warn("descriptor_limit_low error={}", room.error().code);

  // Blocked before any thread is made, so that they all leave these to sigwait() below.
  sigset_t ends;
  ::sigemptyset(&ends);
  ::sigaddset(&ends, SIGTERM);
  ::sigaddset(&ends, SIGINT);
  ::sigaddset(&ends, SIGHUP);
  ::pthread_sigmask(SIG_BLOCK, &ends, nullptr);
  ::signal(SIGPIPE, SIG_IGN);

  voldfs::server::BrickServerOptions options;
  options.store.path = FLAGS_path;
  options.store.init = FLAGS_init;
  options.store.map_file = FLAGS_map;
  if (brick) options.store.brick = *brick;
  options.store.min_free_percent = FLAGS_min_free;
  options.store.grace_ms = FLAGS_lease_ms;  // who does not come back for so long has lost its session anyway
  options.listen_address = listen->address;
  options.port = listen->port;
  options.unix_socket = FLAGS_unix;
  options.map_port = static_cast<uint16_t>(FLAGS_map_port);
  options.lease_ms = FLAGS_lease_ms;
  options.heed_options = heed_log_level;
  auto server = voldfs::server::BrickServer::start(std::move(options));
  if (!server) return refuse(server.error());

  std::printf("voldbrick: serving %s on %s:%u\n", FLAGS_path.c_str(), listen->address.c_str(), (*server)->port());
  std::fflush(stdout);
  ::sd_notify(0, "READY=1");
  std::optional<voldfs::dht::Maintenance> maintenance;
  if (FLAGS_maintenance) maintenance.emplace(looked_after(**server), voldfs::dht::Maintenance::Options{});
  wait_for_end(ends);
  ::sd_notify(0, "STOPPING=1");
  if (maintenance) maintenance->ask_to_stop();
  (*server)->stop();
  maintenance.reset();  // before what it asks
  return 0;
}
