#include "mgmt/examine.h"

#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>

#include <cstring>
#include <filesystem>
#include <fstream>

#include "brick/client/brick_client.h"
#include "brick/client/connection.h"
#include "mgmt/files.h"
#include "mgmt/secret.h"
#include "mgmt/supervisor.h"

namespace voldfs::mgmt {

namespace fs = std::filesystem;

namespace {

constexpr uint64_t kStateSpaceMin = 256u << 20;  // for the log, its snapshots and a new state.json beside the old one
constexpr uint32_t kMapTimeoutMs = 300;
constexpr char kRootAttribute[] = "trusted.voldfs.id";

class Examination {
 public:
  Examination(const ClusterState& state, const ExamineOptions& options) : state_(state), options_(options) {}

  Json run() {
    examine_files();
    examine_address();
    for (const auto& [name, volume] : state_.volumes) {
      for (const dht::BrickEntry& brick : volume->map.bricks) {
        const auto owner = volume->owners.find(brick.id);
        if (owner != volume->owners.end() && owner->second == options_.node) examine_brick(volume, brick);
      }
    }
    return std::move(findings_);
  }

 private:
  void say(const char* severity, const char* area, std::string what, std::string mend) {
    findings_.push_back(finding(severity, area, std::move(what), std::move(mend)));
  }

  void examine_files();
  void examine_address();
  void examine_brick(const VolumePtr& volume, const dht::BrickEntry& brick);
  bool examine_directory(const Volume& volume, const dht::BrickEntry& brick, const std::string& name);
  void examine_process(const Volume& volume, const dht::BrickEntry& brick, const std::string& name);
  void examine_port(const dht::BrickEntry& brick, const std::string& name, bool served);
  void examine_map(const VolumePtr& volume, const dht::BrickEntry& brick, const std::string& name);

  const ClusterState& state_;
  const ExamineOptions& options_;
  Json findings_ = Json::array();
};

void Examination::examine_files() {
  struct stat st{};
  const std::string secret = options_.conf_dir + "/secret";
  if (::stat(secret.c_str(), &st) != 0)
    say("error", "state", "The cluster's secret " + secret + " cannot be read: " + std::strerror(errno) + ".", "Copy it from another node of the cluster (scp -p).");
  else if ((st.st_mode & 077) != 0)
    say("error", "state", secret + " can be read by others than root.", "chmod 600 " + secret);
  struct statvfs space{};
  if (::statvfs(options_.state_dir.c_str(), &space) != 0)
    say("error", "state", "The state directory " + options_.state_dir + " cannot be looked at: " + std::strerror(errno) + ".", "Start voldmgmt, which makes it, or mount its disk.");
  else if (space.f_flag & ST_RDONLY)
    say("error", "state", "The file system of " + options_.state_dir + " is read-only: no change of the cluster can be kept on this node.", "Look at the kernel's log (dmesg), then mount it writable.");
  else if (uint64_t{space.f_bavail} * space.f_frsize < kStateSpaceMin)
    say("error", "state", "The file system of " + options_.state_dir + " is nearly full (" + std::to_string(uint64_t{space.f_bavail} * space.f_frsize >> 20) + " MiB left).", "Make room there: without it this node takes no part in changes.");
  std::error_code ignored;
  const std::string aside = options_.state_dir + "/log.lost";
  if (fs::exists(aside, ignored))
    say("warning", "state", "A log that was lost or damaged was set aside as " + aside + ".", "This node has taken everything from its peers again. Look for the cause (a full or failing disk?); then: rm -r " + aside);
  if (const auto state = read_document(options_.state_dir + "/state.json"); !state && state.error().code == EBADMSG)
    say("error", "state", options_.state_dir + "/state.json is damaged or was edited.", "Start voldmgmt: it writes it again.");
}

void Examination::examine_address() {
  const Peer* me = state_.peer(options_.node);
  if (!me) return say("error", "peers", "This node is not a peer of the cluster that it knows.", "Take it in again, on another node: voldctl peer probe ADDRESS.");
  if (!options_.address.empty() && me->address != options_.address)
    say("error", "peers", "The daemon listens on " + options_.address + ", and the cluster looks for it at " + me->address + ".", "voldctl peer set-address " + me->name + " " + options_.address);
}

void Examination::examine_brick(const VolumePtr& volume, const dht::BrickEntry& brick) {
  const std::string name = "Brick " + brick.node + ":" + brick.path + " of volume " + volume->map.name;
  if (!volume->ready.contains(brick.id) && !volume->map.started) return;  // not made yet
  if (!examine_directory(*volume, brick, name)) return;
  examine_process(*volume, brick, name);
  examine_map(volume, brick, name);
}

// Without CAP_SYS_ADMIN the kernel answers as if there were none (xattr(7)): only whoever may see them can miss them.
bool may_see_trusted() {
  constexpr int kCapSysAdmin = 21;  // linux/capability.h
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("CapEff:")) return std::stoull(line.substr(7), nullptr, 16) >> kCapSysAdmin & 1;
  }
  return false;
}

// False: there is nothing more to look at.
bool Examination::examine_directory(const Volume& volume, const dht::BrickEntry& brick, const std::string& name) {
  struct stat st{};
  if (::stat(brick.path.c_str(), &st) != 0) {
    say("error", "bricks", name + ": its directory is missing (" + std::strerror(errno) + ").", "Mount its disk. It is never made again by itself, so that no empty brick takes the place of a full one.");
    return false;
  }
  const auto identity = read_file(brick.path + "/.voldfs/brick.json");
  if (!identity) {
    if (!volume.ready.contains(brick.id))
      examine_process(volume, brick, name);  // it is to make the brick
    else
      say("error", "bricks", name + ": the directory is no brick (" + brick.path + "/.voldfs/brick.json: " + std::strerror(identity.error().code) + ").", "Is another disk, or none, mounted there? With the right disk there, the brick starts by itself.");
    return false;
  }
  const Json json = Json::parse(*identity, nullptr, false);
  if (!json.is_object() || json.value("brick", "") != brick.id.uuid())
    say("error", "bricks", name + ": the directory holds another brick (" + (json.is_object() ? json.value("brick", "?") : "damaged brick.json") + ", not " + brick.id.uuid() + ").", "Mount the disk that belongs there.");
  struct statvfs space{};
  if (::statvfs(brick.path.c_str(), &space) == 0) {
    if (space.f_flag & ST_RDONLY) say("error", "bricks", name + ": its file system is read-only.", "Look at the kernel's log (dmesg): after an error the kernel does that. Repair it, and mount it writable.");
    const auto percent = space.f_blocks ? 100.0 * static_cast<double>(space.f_bavail) / static_cast<double>(space.f_blocks) : 100.0;
    if (percent < 5) say("warning", "bricks", name + ": only " + std::to_string(static_cast<int>(percent)) + " % of its file system is free.", "New files go to other bricks when it is full; files on it cannot grow. Make room, or enlarge it.");
    if (space.f_files && space.f_favail * 20 < space.f_files) say("warning", "bricks", name + ": fewer than 5 % of its inodes are free.", "New files go to other bricks. Remove files, or make the file system anew with more inodes.");
  }
  char value[64];
  const ssize_t size = ::getxattr(brick.path.c_str(), kRootAttribute, value, sizeof value);
  if (size < 0 && (errno == ENOTSUP || errno == EOPNOTSUPP))
    say("error", "attributes", name + ": its file system has no extended attributes of the trusted kind.", "Use ext4, xfs or btrfs; an overlay or network file system will not do.");
  else if (size < 0 && errno == ENODATA && may_see_trusted())
    say("error", "attributes", name + ": its root has lost its attributes (" + std::string(kRootAttribute) + "); were its files copied without them?", "Copy them again with their attributes (rsync -aHAX, cp -a), or adopt them as new files in a new volume.");
  return true;
}

void Examination::examine_process(const Volume& volume, const dht::BrickEntry& brick, const std::string& name) {
  const auto server = brick_server(brick.path);
  const auto trouble = options_.troubles.find(brick.id);
  if (trouble != options_.troubles.end())
    say("error", "bricks", name + ": " + trouble->second, "Look at the brick's log, /var/log/voldfs/brick-" + brick.id.uuid() + ".log or journalctl -u voldbrick@" + brick.id.uuid());
  else if (volume.map.started && !server)
    say("error", "bricks", name + ": nobody serves it.", options_.address.empty() ? "Start voldmgmt, or the brick by hand: systemctl start voldbrick@" + brick.id.uuid() : "voldmgmt starts it within seconds; if this stays: journalctl -u voldbrick@" + brick.id.uuid());
  if (!volume.map.started && server)
    say("warning", "bricks", name + ": it is served (process " + std::to_string(*server) + "), though its volume is stopped.", "voldmgmt ends it; if this stays: kill " + std::to_string(*server));
  if (server) {
    std::string program;
    std::ifstream("/proc/" + std::to_string(*server) + "/comm") >> program;
    if (!program.empty() && program.find("voldbrick") == std::string::npos && program.find("brick") == std::string::npos)
      say("warning", "locks", name + ": its lock is held by process " + std::to_string(*server) + " (" + program + "), which is no voldbrick.", "End that process: as long as it holds the lock, the brick cannot be served.");
  }
  examine_port(brick, name, server.has_value());
}

// Whether somebody listens on a TCP port of this host, and with which address; proc(5), /proc/net/tcp: "0100007F:5E88 00000000:0000 0A".
bool listened_to(uint16_t port) {
  char wanted[8];
  std::snprintf(wanted, sizeof wanted, ":%04X", port);
  for (const char* table : {"/proc/net/tcp", "/proc/net/tcp6"}) {
    std::ifstream lines(table);
    for (std::string line; std::getline(lines, line);) {
      char local[128], remote[128], state[8];
      if (std::sscanf(line.c_str(), " %*d: %127s %127s %7s", local, remote, state) != 3) continue;
      const std::string_view at(local);
      if (std::strcmp(state, "0A") == 0 && at.ends_with(wanted)) return true;
    }
  }
  return false;
}

void Examination::examine_port(const dht::BrickEntry& brick, const std::string& name, bool served) {
  const std::string port = std::to_string(brick.port);
  if (!served && listened_to(brick.port))
    say("error", "ports", name + ": another program listens on its port " + port + ".", "ss -ltnp 'sport = :" + port + "' names it. End it, or give it another port.");
  if (served && !listened_to(brick.port))
    say("warning", "ports", name + ": it runs, and does not listen on its port " + port + " yet.", "It may just be starting; if this stays, look at its log.");
  int low = 0, high = 0;
  std::ifstream("/proc/sys/net/ipv4/ip_local_port_range") >> low >> high;
  if (low > 0 && brick.port >= low && brick.port <= high) {
    std::string reserved;
    std::getline(std::ifstream("/proc/sys/net/ipv4/ip_local_reserved_ports"), reserved);
    if (reserved.find(port) == std::string::npos)
      say("warning", "ports", name + ": its port " + port + " is one that the kernel gives to outgoing connections (" + std::to_string(low) + " to " + std::to_string(high) + "), so that it may be taken when the brick starts.", "sysctl net.ipv4.ip_local_reserved_ports=" + port);
  }
}

// The map that a running brick has; empty: it does not answer.
std::string map_of(const Volume& volume, const dht::BrickEntry& brick) {
  client::ClientOptions options;
  options.volume = volume.map.volume;
  options.connect_timeout_ms = kMapTimeoutMs;
  const std::string secret = from_hex(volume.secret).value_or("");
  options.secret.assign(secret.begin(), secret.end());
  const auto answer = client::ask({brick.id, brick.ordinal, brick.host, brick.port, brick.unix_socket}, options, wire::Op::kMapGet);
  return answer ? std::string(reinterpret_cast<const char*>(answer->data()), answer->size()) : "";
}

void Examination::examine_map(const VolumePtr& volume, const dht::BrickEntry& brick, const std::string& name) {
  std::string text = map_of(*volume, brick);
  if (text.empty()) text = read_file(brick.path + "/.voldfs/map.json").value_or("");
  const auto map = dht::VolumeMap::parse(text);
  if (!map) return say("error", "maps", name + ": the map that it has cannot be read: " + map.error(), "Remove " + brick.path + "/.voldfs/map.json while the brick is down; it takes the map of --map.");
  switch (dht::compare_maps(volume->map, *map)) {
    case dht::MapOrder::kSame:
    case dht::MapOrder::kOlder: break;  // it is handed the newer one
    case dht::MapOrder::kNewer:
      say("warning", "maps", name + ": its map (version " + std::to_string(map->version) + ") is newer than the one that this node knows (" + std::to_string(volume->map.version) + ").",
          "This node is behind its cluster, or was restored from an old copy. It catches up when it reaches a majority.");
      break;
    case dht::MapOrder::kSibling:
      say("error", "maps", name + ": its map (incarnation " + map->incarnation.uuid() + ") and the cluster's (" + volume->map.incarnation.uuid() + ") come from two recoveries or restores that know nothing of each other. Mounts refuse one of them.",
          "Decide which cluster is the right one, and detach or stop the nodes of the other. To give this brick the cluster's map: stop it, remove " + brick.path + "/.voldfs/map.json, start it.");
      break;
    case dht::MapOrder::kOtherVolume:
      say("error", "maps", name + ": what listens on " + brick.host + ":" + std::to_string(brick.port) + " or lies in its directory is of another volume (" + map->name + ").", "Mount the disk that belongs there, and end what listens in its place.");
      break;
  }
}

}  // namespace

Json finding(const char* severity, const char* area, std::string what, std::string mend) {
  return {{"severity", severity}, {"area", area}, {"what", std::move(what)}, {"mend", std::move(mend)}};
}

Json examine_node(const ClusterState& state, const ExamineOptions& options) { return Examination(state, options).run(); }

}  // namespace voldfs::mgmt
