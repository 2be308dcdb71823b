#include "fuse/mount_source.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netdb.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>
#include <unistd.h>

#include <climits>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <memory>
#include <sstream>

#include "brick/base/unique_fd.h"
#include "brick/client/connection.h"
#include "fuse/limits.h"

namespace voldfs::fuse {
namespace {

constexpr char kMapDirectory[] = "/var/lib/voldfs/maps";
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
      client::BrickAddress address;
      address.host = literal;
      address.port = options.map_port;
      const auto answer = client::ask(address, asking, wire::Op::kMapGet);
      if (!answer) {
        tried += " " + server + ": " + (answer.error().is_errno() ? std::strerror(answer.error().code) : "refused") + ";";
        continue;
      }
      auto map = dht::VolumeMap::parse({reinterpret_cast<const char*>(answer->data()), answer->size()});
      if (map && map->name == source.volume) return map;
      tried += " " + server + ": " + (map ? "serves volume " + map->name + " there" : map.error()) + ";";
    }
  }
  return explain("no server told where volume " + source.volume + " is (port " + std::to_string(options.map_port) + "):" + tried);
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

Explained<FoundVolume> find_volume(const MountSource& source, const MountOptions& options) {
  FoundVolume out;
  const bool is_file = !source.map_file.empty();
  std::string secret_file = options.secret;
  if (secret_file.empty())
    secret_file = is_file ? source.map_file + ".secret" : std::string(kSecretDirectory) + "/" + source.volume;
  auto secret = dht::read_secret(secret_file);
  if (!secret) return explain(std::move(secret.error()));
  out.secret = std::move(*secret);

  const std::string map_file = is_file ? source.map_file : std::string(kMapDirectory) + "/" + source.volume + ".json";
  auto text = read_file(map_file);
  Explained<dht::VolumeMap> map = text ? dht::VolumeMap::parse(*text) : explain(text.error());
  if (!is_file) {
    out.cached_map = map_file;
    if (!map) map = ask_servers(source, options, out.secret);
  }
  if (!map) return explain(is_file ? map_file + ": " + map.error() : map.error());
  out.map = std::move(*map);
  if (!is_file && !text) save_map(map_file, out.map.to_json());
  return out;
}

void save_map(const std::string& path, std::string_view json) {
  const size_t slash = path.rfind('/');
  ::mkdir("/var/lib/voldfs", 0755);
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
