#include "mgmt/reconciler.h"

#include <spdlog/spdlog.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include <cstring>
#include <filesystem>

#include "mgmt/files.h"

namespace voldfs::mgmt {

namespace fs = std::filesystem;

constexpr auto kPassPeriod = std::chrono::seconds(1);

Reconciler::Reconciler(Node& node, Supervisor::Options supervisor) : node_(node), supervisor_(std::move(supervisor)) {
  thread_ = std::thread([this] { run(); });
}

Reconciler::~Reconciler() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  thread_.join();
}

void Reconciler::wake() {
  {
    const std::lock_guard lock(mutex_);
    changed_ = true;
  }
  wake_.notify_all();
}

std::map<Id, std::string> Reconciler::troubles() const {
  const std::lock_guard lock(mutex_);
  return troubles_;
}

void Reconciler::run() {
  for (;;) {
    {
      std::unique_lock lock(mutex_);
      wake_.wait_for(lock, kPassPeriod, [&] { return changed_ || stopping_; });
      if (stopping_) return;
      changed_ = false;
    }
    pass();
  }
}

void Reconciler::pass() {
  const auto state = node_.state();
  if (state->cluster.is_none()) return;  // knows nothing yet: nothing is wrong, nothing is stray
  write_state(*state);
  write_maps(*state);
  run_bricks(*state);
}

std::optional<Reconciler::Signature> Reconciler::signature_of(const std::string& path) {
  struct stat st{};
  if (::lstat(path.c_str(), &st) != 0) return std::nullopt;
  return Signature{st.st_ino, st.st_size, int64_t{st.st_ctim.tv_sec} * 1'000'000'000 + st.st_ctim.tv_nsec};
}

void Reconciler::write_derived(const std::string& path, uint64_t source, mode_t mode, const std::function<std::string()>& content) {
  Derived& derived = derived_[path];
  const auto before = signature_of(path);
  if (before && derived.source == source && *before == derived.signature) return;
  const bool lost = derived.source == source && derived.signature.inode != 0;
  const auto written = ensure_file(path, content(), mode);
  if (!written) {
    spdlog::error("derived file not written path={} reason=\"{}\"", path, written.error());
    return;
  }
  if (lost && *written) spdlog::warn("derived file mended path={}", path);
  derived = {signature_of(path).value_or(Signature{}), source};
}

void Reconciler::write_state(const ClusterState& state) {
  write_derived(node_.options().state_dir + "/state.json", state.version, 0600,
                [&] { return document_text({{"node", node_.identity().node.uuid()}, {"state", state.to_json()}}); });
}

void Reconciler::write_maps(const ClusterState& state) {
  const std::string directory = node_.options().state_dir + "/maps/";
  for (const auto& [name, volume] : state.volumes) {
    // The version alone does not tell a volume from one that was made anew under its name.
    uint64_t source = XXH3_64bits_withSeed(volume->map.volume.bytes.data(), 16, volume->map.version);
    source ^= XXH3_64bits(volume->map.incarnation.bytes.data(), 16);
    write_derived(directory + name + ".json.secret", source, 0600, [&] { return volume->secret + "\n"; });
    write_derived(directory + name + ".json", source, 0644, [&] { return volume->map.to_json(); });
  }
}

std::string Reconciler::conf_path(const Id& brick) const { return node_.options().conf_dir + "/bricks/" + brick.uuid() + ".conf"; }

void Reconciler::run_bricks(const ClusterState& state) {
  const Id me = node_.identity().node;
  std::set<std::string> maps;
  std::set<Id> mine;
  for (const auto& [name, volume] : state.volumes) {
    maps.insert(name);
    for (const dht::BrickEntry& brick : volume->map.bricks) {
      if (volume->owners.at(brick.id) != me) continue;
      mine.insert(brick.id);
      run_brick(state, *volume, brick);
    }
  }
  remove_strays(maps, mine);
}

void Reconciler::run_brick(const ClusterState& state, const Volume& volume, const dht::BrickEntry& brick) {
  const std::string map = node_.options().state_dir + "/maps/" + volume.map.name + ".json";
  const bool ready = volume.ready.contains(brick.id);
  const std::string host = brick.host.find(':') == std::string::npos ? brick.host : "[" + brick.host + "]";
  std::string conf = "--path=" + brick.path + "\n--map=" + map + "\n--listen=" + host + ":" + std::to_string(brick.port) + "\n";
  conf += "--brick=" + brick.id.uuid() + "\n";
  if (!brick.unix_socket.empty()) conf += "--unix=" + brick.unix_socket + "\n";
  if (node_.options().map_port) conf += "--map_port=" + std::to_string(node_.options().map_port) + "\n";
  const auto option = [&](const char* key, const char* flag) {
    const auto set = volume.map.options.find(key);
    if (set != volume.map.options.end()) conf += std::string("--") + flag + "=" + set->second + "\n";
  };
  option("brick.min-free", "min_free");
  option("brick.log-level", "log_level");
  if (const std::string log = supervisor_.log_of(brick.id); !log.empty()) conf += "--log_file=" + log + "\n";
  if (!ready) conf += "--init\n";
  write_derived(conf_path(brick.id), state.version, 0644, [&] { return conf; });

  std::string trouble;
  if (!volume.started) {
    supervisor_.bring_down(brick.id, brick.path);
  } else {
    // Made once. Later a missing directory is an unmounted disk, which is said and not papered over.
    if (!ready && ::mkdir(brick.path.c_str(), 0755) != 0 && errno != EEXIST)
      trouble = "Could not make " + brick.path + ": " + std::strerror(errno) + ".";
    struct stat st{};
    if (trouble.empty() && ::stat(brick.path.c_str(), &st) != 0)
      trouble = "The brick directory " + brick.path + " is missing. Is its disk mounted?";
    if (trouble.empty()) {
      if (const auto up = supervisor_.keep_up(brick.id, brick.path, conf_path(brick.id)); !up) trouble = up.error();
    }
    if (trouble.empty() && !ready && brick_server(brick.path)) {
      // Without a majority: said again in the next pass.
      node_.commit(new_command("brick-ready", {{"volume_id", volume.map.volume.uuid()}, {"brick", brick.id.uuid()}}));
    }
  }
  const std::lock_guard lock(mutex_);
  if (!trouble.empty() && troubles_[brick.id] != trouble) spdlog::error("brick down id={} reason=\"{}\"", brick.id.uuid(), trouble);
  if (trouble.empty()) troubles_.erase(brick.id); else troubles_[brick.id] = trouble;
}

// Files of volumes and bricks that are no more. A brick that runs without being in the state is stopped first: only its
// own conf file tells where it is.
void Reconciler::remove_strays(const std::set<std::string>& maps, const std::set<Id>& bricks) {
  std::error_code ignored;
  for (const auto& file : fs::directory_iterator(node_.options().state_dir + "/maps", ignored)) {
    std::string name = file.path().filename();
    for (const char* suffix : {".secret", ".json"}) {
      if (name.ends_with(suffix)) name.resize(name.size() - std::strlen(suffix));
    }
    if (maps.contains(name)) continue;
    derived_.erase(file.path());
    ::unlink(file.path().c_str());
  }
  for (const auto& file : fs::directory_iterator(node_.options().conf_dir + "/bricks", ignored)) {
    const auto id = Id::parse(file.path().stem().string());
    if (!id || bricks.contains(*id)) continue;
    const std::string conf = read_file(file.path()).value_or("");
    const size_t at = conf.find("--path=");
    const std::string path = at == std::string::npos ? "" : conf.substr(at + 7, conf.find('\n', at) - at - 7);
    if (!path.empty() && !supervisor_.bring_down(*id, path)) continue;
    derived_.erase(file.path());
    ::unlink(file.path().c_str());
  }
}

}  // namespace voldfs::mgmt
