#include "tools/ctl/map_create.h"

#include <fcntl.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>

#include "brick/base/unique_fd.h"
#include "dht/secret.h"

namespace voldfs::ctl {
namespace {

// Chooses ports: those given first, so that a chosen one is never somebody's further back.
class Ports {
 public:
  Ports(const NewVolume& volume, const std::vector<std::string>& hosts) : base_(volume.port_base) {
    for (size_t i = 0; i < hosts.size(); ++i) taken_.emplace(hosts[i], volume.bricks[i].port);
  }
  Explained<uint16_t> choose(const std::string& host) {
    for (uint32_t port = base_; port <= UINT16_MAX; ++port) {
      if (taken_.emplace(host, port).second) return static_cast<uint16_t>(port);
    }
    return explain("There is no port from " + std::to_string(base_) + " on left for a brick on " + host + '.');
  }

 private:
  const uint16_t base_;
  std::set<std::pair<std::string, uint32_t>> taken_;
};

std::string error_text() { return std::strerror(errno); }

// The directory's entry too is on the disk.
Explained<void> write_new_file(const std::string& path, const std::string& text) {
  unique_fd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644));
  if (!fd) return explain("Cannot make " + path + ": " + error_text() + '.');
  size_t done = 0;
  while (done < text.size()) {
    const ssize_t n = ::write(fd.get(), text.data() + done, text.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) break;
    done += static_cast<size_t>(n);
  }
  const std::string parent = std::filesystem::absolute(path).parent_path();
  const unique_fd dir(::open(parent.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (done == text.size() && ::fsync(fd.get()) == 0 && dir && ::fsync(dir.get()) == 0) return {};
  std::string sentence = "Cannot write " + path + ": " + error_text() + '.';
  ::unlink(path.c_str());
  return explain(std::move(sentence));
}

}  // namespace

Explained<dht::VolumeMap> make_map(const NewVolume& volume) {
  dht::VolumeMap map;
  map.volume = Id::random();
  map.incarnation = Id::random();
  map.name = volume.name;
  map.root_home = 1;
  std::vector<std::string> hosts;
  for (const BrickSpec& spec : volume.bricks) {
    auto host = resolve(spec.host);
    if (!host) return explain(host.error());
    hosts.push_back(std::move(*host));
  }
  Ports ports(volume, hosts);
  std::vector<dht::Target> targets;
  for (size_t i = 0; i < volume.bricks.size(); ++i) {
    const BrickSpec& spec = volume.bricks[i];
    dht::BrickEntry brick;
    brick.id = Id::random();
    brick.ordinal = static_cast<uint16_t>(i + 1);
    brick.node = spec.host;
    brick.host = hosts[i];
    brick.path = spec.path;
    brick.port = spec.port;
    if (spec.port == 0) {
      const auto port = ports.choose(brick.host);
      if (!port) return explain(port.error());
      brick.port = *port;
    }
    if (!volume.unix_dir.empty()) brick.unix_socket = volume.unix_dir + '/' + brick.id.hex() + ".sock";
    targets.push_back({brick.ordinal, brick.id, brick.weight});
    map.bricks.push_back(std::move(brick));
  }
  map.layouts.emplace_back(1, dht::HashRule::kXxh3Rendezvous1, std::move(targets));
  return dht::VolumeMap::parse(map.to_json());  // says what is wrong with it
}

Explained<void> write_map_and_secret(const dht::VolumeMap& map, const std::string& path) {
  std::error_code ignored;
  if (std::filesystem::exists(path, ignored)) {
    return explain(path + " exists. A volume's map is not made twice: choose another name, or remove it and its secret.");
  }
  const std::string secret = path + ".secret";
  if (auto made = dht::make_secret(secret); !made) return made;
  auto written = write_new_file(path, map.to_json());
  if (!written) ::unlink(secret.c_str());
  return written;
}

Explained<dht::VolumeMap> read_map(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  if (!file || !(text << file.rdbuf())) return explain("Cannot read the map " + path + ": " + error_text() + '.');
  auto map = dht::VolumeMap::parse(text.str());
  if (!map) return explain(path + ": " + map.error());
  return map;
}

}  // namespace voldfs::ctl
