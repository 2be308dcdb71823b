#include "tests/lib/cluster.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <thread>

#include "tests/lib/mount.h"

namespace voldfs::test {

namespace {

constexpr uint32_t kMountWaitMs = 10'000;
constexpr int kCheckMs = 60'000;

[[noreturn]] void give_up(const std::string& why) {
  std::fprintf(stderr, "cluster: %s\n", why.c_str());
  std::abort();
}

std::string hex(const std::vector<uint8_t>& bytes) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  for (const uint8_t byte : bytes) text += kDigits[byte >> 4], text += kDigits[byte & 15];
  return text;
}

std::filesystem::path private_directory() {
  const char* base = std::getenv("TMPDIR");
  std::string pattern = std::string(base ? base : "/tmp") + "/voldfs-cluster-XXXXXX";
  if (!mkdtemp(pattern.data())) give_up("no private directory in " + pattern);
  return pattern;
}

void write_file(const std::filesystem::path& path, const std::string& text) {
  std::ofstream(path) << text;
  if (::chmod(path.c_str(), 0600) != 0) give_up("cannot write " + path.string());
}

}  // namespace

Cluster::Cluster(const Options& options) : options_(options), directory_(private_directory()) {
  for (const Id id : {Id::random(), Id::random()}) secret_.insert(secret_.end(), id.bytes.begin(), id.bytes.end());
  map_.volume = Id::random();
  map_.name = "test";
  map_.incarnation = Id::random();
  map_.root_home = 1;
  map_.options["volume.dir-copies"] = std::to_string(options.dir_copies);
  std::vector<dht::Target> targets;
  for (size_t i = 0; i < options.bricks; ++i) {
    dht::BrickEntry entry;
    entry.id = Id::random();
    entry.ordinal = static_cast<uint16_t>(i + 1);
    entry.node = "local";
    entry.host = "127.0.0.1";
    entry.port = static_cast<uint16_t>(24200 + i);  // the bricks' own copy of the map; who mounts gets the real one
    entry.path = brick_path(entry.ordinal);
    targets.push_back({entry.ordinal, entry.id, entry.weight});
    map_.bricks.push_back(entry);
    std::filesystem::create_directory(entry.path);
    bricks_.push_back({entry.path, 0, {}, nullptr});
  }
  map_.layouts.emplace_back(1, dht::HashRule::kXxh3Rendezvous1, targets);
  write_file(directory_ / "map.json", map_.to_json());
  write_file(directory_ / "map.json.secret", hex(secret_) + "\n");
  if (options.adopt) return;  // the test puts files there, then starts the bricks
  start_all();
}

Cluster::~Cluster() {
  for (Brick& brick : bricks_) brick.server.reset();
  std::error_code ignored;
  std::filesystem::remove_all(directory_, ignored);
}

void Cluster::start_all() {
  for (uint16_t ordinal = 1; ordinal <= count(); ++ordinal) start(ordinal, true);
}

void Cluster::start(uint16_t ordinal, bool init) {
  Brick& brick = bricks_.at(ordinal - 1);
  server::BrickServerOptions options;
  options.store.path = brick.path;
  options.store.init = init;
  options.store.map_file = directory_ / "map.json";
  options.store.brick = map_.bricks.at(ordinal - 1).id;
  options.store.min_free_percent = 0;
  options.store.grace_ms = options_.grace_ms;
  options.store.boot = brick.boot;
  options.port = brick.port;
  options.lease_ms = options_.lease_ms;
  auto server = server::BrickServer::start(std::move(options));
  if (!server) give_up(server.error());
  brick.server = std::move(*server);
  brick.port = brick.server->port();
  map_.bricks.at(ordinal - 1).port = brick.port;
}

std::unique_ptr<dht::Volume> Cluster::mount() { return mount(client::OnBrickDown::kWait, options_.down_timeout_ms); }

std::unique_ptr<dht::Volume> Cluster::mount(client::OnBrickDown on_down, uint32_t down_timeout_ms) {
  dht::VolumeOptions options;
  options.client.on_brick_down = on_down;
  options.client.down_timeout_ms = down_timeout_ms;
  options.client.use_unix_sockets = false;
  auto volume = dht::Volume::open(map_, secret_, std::move(options), kMountWaitMs);
  if (!volume) give_up(volume.error());
  return std::move(*volume);
}

server::BrickServer& Cluster::brick(uint16_t ordinal) { return *bricks_.at(ordinal - 1).server; }
std::filesystem::path Cluster::brick_path(uint16_t ordinal) const { return directory_ / ("b" + std::to_string(ordinal)); }

void Cluster::stop(uint16_t ordinal) { bricks_.at(ordinal - 1).server.reset(); }

void Cluster::kill(uint16_t ordinal) {
  brick(ordinal).kill();
  bricks_.at(ordinal - 1).server.reset();
}

void Cluster::restart(uint16_t ordinal) {
  bricks_.at(ordinal - 1).server.reset();
  start(ordinal, false);
}

void Cluster::reboot_host(uint16_t ordinal) {
  kill(ordinal);
  bricks_.at(ordinal - 1).boot = Id::random();
  start(ordinal, false);
}

void Cluster::fail_operation(uint16_t ordinal, wire::Op op, int error) { brick(ordinal).faults().dial(op).error = error; }
void Cluster::delay_operation(uint16_t ordinal, wire::Op op, uint32_t delay_ms) {
  brick(ordinal).faults().dial(op).delay_ms = delay_ms;
}

std::string Cluster::check() {
  std::vector<std::string> arguments{"--map=" + (directory_ / "map.json").string()};
  for (Brick& brick : bricks_) {
    brick.server.reset();
    arguments.push_back(brick.path);
  }
  const std::filesystem::path log = directory_ / "voldcheck.log";
  Process voldcheck("voldcheck", arguments, log);
  const bool ended = wait_until(kCheckMs, [&] { return !voldcheck.is_running(); });
  if (ended && voldcheck.terminate(0) == 0) return "";
  std::ostringstream text;
  text << std::ifstream(log).rdbuf();
  return ended ? text.str() : "voldcheck does not end: " + text.str();
}

std::string Cluster::name_at(uint16_t ordinal, const dht::NodePtr& dir, const std::string& prefix) const {
  for (int i = 0;; ++i) {
    std::string name = prefix + std::to_string(i);
    if (map_.layout(dir->record().epoch)->place(dir->id(), name) == ordinal) return name;
  }
}

void die_after(dht::Volume& volume, int requests) {
  auto left = std::make_shared<std::atomic<int>>(requests);
  volume.impl().before_request = [left](uint16_t, const wire::Request&) -> Result<void> {
    return left->fetch_sub(1) > 0 ? Result<void>{} : fail(EIO);
  };
}

RequestCount::RequestCount(dht::Volume& volume) : volume_(volume), count_(std::make_shared<std::atomic<int>>(0)) {
  volume.impl().before_request = [count = count_, own = std::this_thread::get_id()](uint16_t, const wire::Request&) -> Result<void> {
    if (std::this_thread::get_id() == own) ++*count;
    return {};
  };
}

RequestCount::~RequestCount() { volume_.impl().before_request = nullptr; }

}  // namespace voldfs::test
