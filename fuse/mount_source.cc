#include "fuse/mount_source.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netdb.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <memory>
#include <optional>
#include <sstream>

#include "brick/base/unique_fd.h"
#include "brick/client/connection.h"
#include "fuse/limits.h"

namespace voldfs::fuse {
namespace {

constexpr char kCacheDirectory[] = "/var/lib/voldfs/mounts";
constexpr char kNodeDirectory[] = "/var/lib/voldfs/maps";  // voldmgmt's, on the nodes of the cluster
constexpr char kSecretDirectory[] = "/etc/voldfs/secrets";

std::string trim_slashes(std::string path) {
  path.erase(0, std::min(path.find_first_not_of('/'), path.size()));
  while (!path.empty() && path.back() == '/') path.pop_back();
  return path;
}

Explained<std::string> read_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream text;
  if (!in || !(text << in.rdbuf())) return explain("cannot read " + path + ": " + std::strerror(errno));
  return text.str();
}

std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> out;
  std::istringstream in(text);
  for (std::string item; std::getline(in, item, separator);)
    if (!item.empty()) out.push_back(item);
  return out;
}

// The address literals that a host's name stands for.
std::vector<std::string> resolve(std::string host) {
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') host = host.substr(1, host.size() - 2);
  addrinfo hints{}, *found = nullptr;
  hints.ai_socktype = SOCK_STREAM;
  std::vector<std::string> out;
  if (::getaddrinfo(host.c_str(), nullptr, &hints, &found) != 0) return out;
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> all(found, ::freeaddrinfo);
  for (const addrinfo* each = found; each; each = each->ai_next) {
    char literal[NI_MAXHOST];
    if (::getnameinfo(each->ai_addr, each->ai_addrlen, literal, sizeof literal, nullptr, 0, NI_NUMERICHOST) == 0)
      out.push_back(literal);
  }
  return out;
}

// The map of the volume from a brick at the server's map port. Bricks of all volumes of the node share that port, and the
// kernel chooses one by the connection's ports: another attempt meets another brick.
Explained<dht::VolumeMap> ask_server(const std::string& literal, const std::string& volume, uint16_t port, const client::ClientOptions& asking) {
  client::BrickAddress address;
  address.host = literal;
  address.port = port;
  std::string why;
  for (int tries = 0; tries < kMapAskTries; ++tries) {
    const auto answer = client::ask(address, asking, wire::Op::kMapGet);
    if (!answer) {
      why = answer.error().is_errno() ? std::strerror(answer.error().code) : "refused";
      if (answer.error().code != EACCES) break;
      why = "its bricks are of other volumes, or have another secret";
      continue;
    }
    auto map = dht::VolumeMap::parse({reinterpret_cast<const char*>(answer->data()), answer->size()});
    if (!map || map->name == volume) return map;
    why = "serves volume " + map->name + " there";
  }
  return explain(why);
}

Explained<dht::VolumeMap> ask_servers(const MountSource& source, const MountOptions& options, const std::vector<uint8_t>& secret) {
  std::vector<std::string> servers = source.servers;
  servers.insert(servers.end(), options.servers.begin(), options.servers.end());
  client::ClientOptions asking;
  asking.client = Id::random();
  asking.secret = secret;
  asking.connect_timeout_ms = kMapAskMs;
  asking.use_unix_sockets = false;
  std::string tried;
  for (const std::string& server : servers) {
    const auto literals = resolve(server);
    if (literals.empty()) tried += " " + server + ": unknown host;";
    for (const std::string& literal : literals) {
      auto map = ask_server(literal, source.volume, options.map_port, asking);
      if (map) return map;
      tried += " " + server + ": " + map.error() + ";";
    }
  }
  return explain("no server told where volume " + source.volume + " is (port " + std::to_string(options.map_port) + "):" + tried);
}

// Whether the map is of the volume that one of these servers serves, and not of one that has its name elsewhere.
bool names_server(const dht::VolumeMap& map, const MountSource& source) {
  for (const std::string& server : source.servers) {
    const auto literals = resolve(server);
    for (const dht::BrickEntry& brick : map.bricks) {
      if (brick.node == server || std::find(literals.begin(), literals.end(), brick.host) != literals.end()) return true;
    }
  }
  return false;
}

struct Copy {
  std::optional<dht::VolumeMap> map;
  bool fits = false;  // it names one of the servers
};

Copy find_copy(const MountSource& source, const std::vector<std::string>& directories) {
  Copy best;
  for (const std::string& directory : directories) {
    const auto text = read_file(directory + "/" + source.volume + ".json");
    auto map = text ? dht::VolumeMap::parse(*text) : explain(text.error());
    if (!map) continue;
    const bool fits = names_server(*map, source);
    // The later directory is voldmgmt's, which knows when a volume was made anew under its name.
    const bool better = !best.map || (fits && !best.fits) || (fits == best.fits && dht::compare_maps(*map, *best.map) != dht::MapOrder::kNewer);
    if (better) best = {std::move(*map), fits};
  }
  return best;
}

std::string secret_of(const MountSource& source, const MountOptions& options) {
  if (!options.secret.empty()) return options.secret;
  if (!source.map_file.empty()) return source.map_file + ".secret";
  const std::string given = std::string(kSecretDirectory) + "/" + source.volume;
  const std::string of_node = std::string(kNodeDirectory) + "/" + source.volume + ".json.secret";
  return ::access(given.c_str(), F_OK) != 0 && ::access(of_node.c_str(), F_OK) == 0 ? of_node : given;
}

Explained<FoundVolume> read_map_file(const std::string& path, FoundVolume found) {
  const auto text = read_file(path);
  if (!text) return explain(path + ": " + text.error());
  auto map = dht::VolumeMap::parse(*text);
  if (!map) return explain(path + ": " + map.error());
  found.map = std::move(*map);
  return found;
}

}  // namespace

Explained<MountSource> MountSource::parse(const std::string& text) {
  MountSource source;
  struct stat found{};
  const size_t colon = text.rfind(":/");
  if (colon == std::string::npos || (::stat(text.c_str(), &found) == 0 && S_ISREG(found.st_mode))) {
    char path[PATH_MAX];
    if (text.find('/') == std::string::npos && ::access(text.c_str(), F_OK) != 0 && text.find(':') != std::string::npos)
      return explain("\"" + text + "\" is no volume: write SERVER:/VOLUME");
    if (!::realpath(text.c_str(), path)) return explain("volume map " + text + ": " + std::strerror(errno));
    source.map_file = path;
    return source;
  }
  source.servers = split(text.substr(0, colon), ',');
  const std::string path = trim_slashes(text.substr(colon + 2));
  const size_t slash = path.find('/');
  source.volume = path.substr(0, slash);
  if (slash != std::string::npos) source.subdirectory = trim_slashes(path.substr(slash));
  if (source.servers.empty() || source.volume.empty()) return explain("\"" + text + "\" is no volume: write SERVER:/VOLUME");
  return source;
}

Explained<FoundVolume> find_volume(const MountSource& source, const MountOptions& options, Copies copies) {
  FoundVolume out;
  auto secret = dht::read_secret(secret_of(source, options));
  if (!secret) return explain(std::move(secret.error()));
  out.secret = std::move(*secret);
  if (!source.map_file.empty()) return read_map_file(source.map_file, std::move(out));

  const std::string cache = options.map_cache.empty() ? kCacheDirectory : options.map_cache;
  out.cached_map = cache + "/" + source.volume + ".json";
  Copy copy;
  if (copies == Copies::kWelcome) copy = find_copy(source, {cache, kNodeDirectory});
  // Of a volume that was stopped when the copy was made, somebody may know more.
  Explained<dht::VolumeMap> map = explain("");
  if (!copy.fits || !copy.map->started) map = ask_servers(source, options, out.secret);
  if (!map && copy.map && !copy.map->started) return explain("volume " + source.volume + " is stopped; on one of its nodes: voldctl volume start " + source.volume);
  out.from_copy = !map && copy.map;
  if (out.from_copy) map = std::move(*copy.map);
  if (!map) return explain(map.error());
  out.map = std::move(*map);
  if (!out.from_copy) save_map(out.cached_map, out.map.to_json());
  return out;
}

void save_map(const std::string& path, std::string_view json) {
  const size_t slash = path.rfind('/');
  ::mkdir("/var/lib/voldfs", 0700);  // voldmgmt's, where there is one, with secrets in it
  ::mkdir(path.substr(0, slash).c_str(), 0755);
  const std::string fresh = path + ".new." + std::to_string(::getpid());
  {
    unique_fd file(::open(fresh.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
    if (file && ::write(file.get(), json.data(), json.size()) == static_cast<ssize_t>(json.size()) &&
        ::fsync(file.get()) == 0 && ::rename(fresh.c_str(), path.c_str()) == 0)
      return;
  }
  spdlog::warn("map.save failed path={} error=\"{}\"", path, std::strerror(errno));
  ::unlink(fresh.c_str());
}

}  // namespace voldfs::fuse
