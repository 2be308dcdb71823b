#include <arpa/inet.h>
#include <fcntl.h>
#include <gflags/gflags.h>
#include <malloc.h>
#include <signal.h>
#include <netinet/in.h>
#include <spdlog/sinks/systemd_sink.h>
#include <spdlog/spdlog.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include <climits>

#include "brick/base/unique_fd.h"
#include "mgmt/api.h"
#include "mgmt/events.h"
#include "mgmt/files.h"
#include "mgmt/watch.h"

// voldmgmt: the management daemon of a node. Bricks that it started outlive it, however it ends.

DEFINE_string(listen, "", "ADDRESS:PORT of the HTTP API; the address, a literal, is where peers and clients reach this node (default: the address that the default route goes out from, port 24107)");
DEFINE_int32(raft_port, 0, "port of the replicated log, on the same address (0: one below the API's)");
DEFINE_int32(brick_port_first, 24200, "first port given to bricks of this node");
DEFINE_int32(map_port, 24108, "port of this node on which its bricks answer with their volume's map; 0: none");
DEFINE_string(name, "", "name of this node, the HOST of HOST:/PATH (default: the host name; with --listen=127.x, the address)");
DEFINE_string(state_dir, "/var/lib/voldfs", "directory of the log and of what is derived from it");
DEFINE_string(conf_dir, "/etc/voldfs", "directory of this node's identity and secret, and of the bricks' flags");
DEFINE_string(run_dir, "/run/voldfs", "directory of the control socket, voldmgmt.socket");
DEFINE_string(log_dir, "/var/log/voldfs", "directory of the logs of bricks that this daemon starts");
DEFINE_string(voldbrick, "", "program that serves a brick (default: beside this program)");
DEFINE_string(brick_manager, "auto", "who runs bricks: systemd (voldbrick@ID.service), fork (sessions of their own), auto");
DEFINE_int32(voter_lost_s, 600, "after how long a silent voter's place goes to a stand-by, in seconds; 1 to 604800");
DEFINE_int32(election_ms, 1000, "after how long without a leader, in milliseconds, another is chosen");

static bool valid_port(const char*, int32_t value) { return value >= 0 && value <= 65535; }
DEFINE_validator(raft_port, &valid_port);
DEFINE_validator(map_port, &valid_port);
DEFINE_validator(brick_port_first, &valid_port);
DEFINE_validator(brick_manager, [](const char*, const std::string& value) { return value == "auto" || value == "systemd" || value == "fork"; });
DEFINE_validator(voter_lost_s, [](const char*, int32_t value) { return value >= 1 && value <= 604'800; });
DEFINE_validator(election_ms, [](const char*, int32_t value) { return value >= 100 && value <= 60'000; });

namespace {

using namespace voldfs;

// The address that packets to elsewhere carry: of a datagram socket that is "connected" (which sends nothing) to an address
// of the documentation. Empty: there is no route.
std::string default_address() {
  const auto ask = [](int family, const char* there) -> std::string {
    const unique_fd fd(::socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    sockaddr_in to4{};
    sockaddr_in6 to6{};
    to4.sin_family = AF_INET;
    to6.sin6_family = AF_INET6;
    to4.sin_port = to6.sin6_port = htons(9);
    const bool four = family == AF_INET;
    ::inet_pton(family, there, four ? static_cast<void*>(&to4.sin_addr) : &to6.sin6_addr);
    const auto* address = four ? reinterpret_cast<sockaddr*>(&to4) : reinterpret_cast<sockaddr*>(&to6);
    sockaddr_storage own{};
    socklen_t size = sizeof own;
    if (!fd || ::connect(fd.get(), address, four ? sizeof to4 : sizeof to6) != 0 ||
        ::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&own), &size) != 0)
      return "";
    char text[INET6_ADDRSTRLEN] = {};
    const void* found = four ? static_cast<void*>(&reinterpret_cast<sockaddr_in&>(own).sin_addr) : &reinterpret_cast<sockaddr_in6&>(own).sin6_addr;
    return ::inet_ntop(family, found, text, sizeof text) ? text : "";
  };
  const std::string four = ask(AF_INET, "192.0.2.1");
  return four.empty() ? ask(AF_INET6, "2001:db8::1") : four;
}

Explained<mgmt::NodeOptions> node_options() {
  mgmt::NodeOptions options;
  options.state_dir = FLAGS_state_dir;
  options.conf_dir = FLAGS_conf_dir;
  options.run_dir = FLAGS_run_dir;
  if (FLAGS_listen.empty()) {
    const std::string address = default_address();
    if (address.empty()) return explain("This host has no default route that would tell its address: say --listen=ADDRESS:24107.");
    FLAGS_listen = (address.find(':') == std::string::npos ? address : "[" + address + "]") + ":24107";
  }
  const size_t colon = FLAGS_listen.rfind(':');
  if (colon == std::string::npos) return explain("--listen is ADDRESS:PORT, as 192.0.2.1:24107.");
  options.address = FLAGS_listen.substr(0, colon);
  if (options.address.starts_with('[') && options.address.ends_with(']')) options.address = options.address.substr(1, options.address.size() - 2);
  in6_addr parsed{};
  if (::inet_pton(AF_INET, options.address.c_str(), &parsed) != 1 && ::inet_pton(AF_INET6, options.address.c_str(), &parsed) != 1)
    return explain("--listen: \"" + options.address + "\" is no address literal.");
  const int port = std::atoi(FLAGS_listen.c_str() + colon + 1);
  if (port < 2 || port > 65535) return explain("--listen: \"" + FLAGS_listen.substr(colon + 1) + "\" is no port.");
  options.api_port = static_cast<uint16_t>(port);
  options.raft_port = static_cast<uint16_t>(FLAGS_raft_port ? FLAGS_raft_port : port - 1);
  options.brick_port_first = static_cast<uint16_t>(FLAGS_brick_port_first);
  options.map_port = static_cast<uint16_t>(FLAGS_map_port);
  options.election_ms = static_cast<uint32_t>(FLAGS_election_ms);
  options.voter_lost_ms = static_cast<uint32_t>(FLAGS_voter_lost_s) * 1000;
  char host[HOST_NAME_MAX + 1] = {};
  ::gethostname(host, sizeof host - 1);
  options.name = !FLAGS_name.empty() ? FLAGS_name : options.address.starts_with("127.") ? options.address : host;
  if (!mgmt::valid_name(options.name)) return explain("\"" + options.name + "\" is no name for a node: say --name=NAME.");
  return options;
}

mgmt::Supervisor::Options supervisor_options() {
  mgmt::Supervisor::Options options;
  options.log_dir = FLAGS_log_dir;
  options.program = FLAGS_voldbrick;
  if (options.program.empty()) {
    char self[PATH_MAX] = {};
    const ssize_t n = ::readlink("/proc/self/exe", self, sizeof self - 1);
    options.program = std::string(self, n > 0 ? static_cast<size_t>(n) : 0);
    options.program.resize(options.program.rfind('/') + 1);
    options.program += "voldbrick";
  }
  // A daemon that systemd itself runs leaves the bricks to it.
  options.systemd = FLAGS_brick_manager == "systemd" || (FLAGS_brick_manager == "auto" && ::sd_booted() > 0 && ::getenv("INVOCATION_ID"));
  return options;
}

// One daemon a state directory.
Explained<unique_fd> lock_state(const std::string& directory) {
  if (auto made = mgmt::make_directories(directory, 0700); !made) return explain(made.error());
  unique_fd fd(::open((directory + "/lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (!fd || ::flock(fd.get(), LOCK_EX | LOCK_NB) != 0) return explain("Another voldmgmt uses " + directory + ".");
  return fd;
}

Explained<void> serve(const sigset_t& ends) {
  const auto options = node_options();
  if (!options) return explain(options.error());
  const auto lock = lock_state(options->state_dir);
  if (!lock) return explain(lock.error());
  auto node = mgmt::Node::start(*options);
  if (!node) return explain(node.error());
  mgmt::Reconciler reconciler(**node, supervisor_options());
  (*node)->on_change([&] { reconciler.wake(); });
  mgmt::Events events(**node);
  (*node)->on_event([&](const std::string& type, mgmt::Json data, bool of_the_state) {
    of_the_state ? events.changed(type, std::move(data)) : events.seen(type, std::move(data));
  });
  struct Unhook {  // however this ends, nobody is called who is gone
    mgmt::Node& node;
    ~Unhook() {
      node.on_change(nullptr);
      node.on_event(nullptr);
    }
  };
  const Unhook unhook{**node};
  const mgmt::Watch watch(**node, reconciler, events);
  mgmt::Api api(**node, reconciler, events, VOLDFS_VERSION);
  const auto handler = [&](const mgmt::HttpRequest& request) { return api.handle(request); };
  auto remote = mgmt::HttpServer::on_tcp(options->address, options->api_port, [&] { return (*node)->credentials(); }, handler);
  if (!remote) return explain(remote.error());
  // Last: who is answered there may give a command, for which nodes ask each other, and this one itself.
  auto local = mgmt::HttpServer::on_unix_socket(options->run_dir + "/voldmgmt.socket", handler);
  if (!local) return explain(local.error());
  spdlog::info("serving node={} name={} listen={} raft_port={}", (*node)->identity().node.uuid(), options->name, FLAGS_listen, options->raft_port);
  ::sd_notify(0, "READY=1");
  int signal = 0;
  ::sigwait(&ends, &signal);
  ::sd_notify(0, "STOPPING=1");
  spdlog::info("ending signal={}", signal);
  events.stop();  // who follows them does not hold up the end
  return {};
}

}  // namespace

int main(int argc, char** argv) {
  gflags::SetUsageMessage("the management daemon of a node.\n  voldmgmt [--listen=ADDRESS:PORT]");
  gflags::SetVersionString(VOLDFS_VERSION);
  gflags::ParseCommandLineFlags(&argc, &argv, true);
  if (argc > 1) {
    std::fprintf(stderr, "voldmgmt: \"%s\" was not understood; see voldmgmt --help.\n", argv[1]);
    return 2;
  }
  // With priorities, where the journal takes it.
  if (::getenv("JOURNAL_STREAM")) spdlog::set_default_logger(spdlog::systemd_logger_mt("voldmgmt", "voldmgmt"));
  ::mallopt(M_ARENA_MAX, 2);  // many threads, of which few work at a time: an arena for each would hold on to memory
  ::signal(SIGPIPE, SIG_IGN);
  sigset_t ends;
  ::sigemptyset(&ends);
  ::sigaddset(&ends, SIGTERM);
  ::sigaddset(&ends, SIGINT);
  ::pthread_sigmask(SIG_BLOCK, &ends, nullptr);  // before the first thread
  if (const auto served = serve(ends); !served) {
    std::fprintf(stderr, "voldmgmt: %s\n", served.error().c_str());
    return 1;
  }
  return 0;
}
