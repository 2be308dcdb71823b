#include "mgmt/reconciler.h"

#include <spdlog/spdlog.h>
#include <malloc.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <future>

#include "brick/base/clock.h"
#include "mgmt/fault_point.h"
#include "mgmt/files.h"

namespace voldfs::mgmt {

namespace fs = std::filesystem;

namespace {

constexpr std::chrono::milliseconds kPassPeriod{1'000}, kSoonPeriod{100};
constexpr int64_t kAllPeriodMs = 900;         // below kPassPeriod: a pass that nobody woke is one of everything
constexpr int64_t kAllFactor = 20;            // unless that takes long: it shall have a twentieth of a processor at most
constexpr size_t kLargeState = 1 << 20;
constexpr int64_t kStateGapFactor = 10, kStateGapMaxMs = 1'000;  // between writes of a large state.json, by what the last one took
constexpr uint32_t kTellTimeoutMs = 1'000;
constexpr int64_t kTellAgainMs = 3'000;       // to a brick that did not take it
// A brick of a volume that is stopped goes once it has been able to tell its clients so, or they would wait for it.
constexpr int64_t kFarewellMs = 300, kFarewellMaxMs = 3'000;

// The version alone does not tell a volume from one that was made anew under its name.
uint64_t source_of(const dht::VolumeMap& map) {
  return XXH3_64bits_withSeed(map.volume.bytes.data(), 16, map.version) ^ XXH3_64bits(map.incarnation.bytes.data(), 16);
}

bool is_brick(const std::string& path) { return ::access((path + "/.voldfs/brick.json").c_str(), F_OK) == 0; }

// Tells a directory from what is seen in its place with another file system mounted, also after a reboot. Empty: there is none.
std::string directory_identity(const std::string& path) {
  struct stat st{};
  struct statfs fs{};
  if (::stat(path.c_str(), &st) != 0 || !S_ISDIR(st.st_mode) || ::statfs(path.c_str(), &fs) != 0) return "";
  return std::to_string(st.st_ino) + " " + std::to_string(fs.f_fsid.__val[0]) + ":" + std::to_string(fs.f_fsid.__val[1]) + "\n";
}

}  // namespace

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
      const bool soon = !stopping_since_ms_.empty() || boottime_ms() < state_next_ms_;
      wake_.wait_for(lock, soon ? kSoonPeriod : kPassPeriod, [&] { return changed_ || stopping_; });
      if (stopping_) return;
      changed_ = false;
    }
    pass();
  }
}

// Everything is looked at once a second. In between, woken by a change, it is what has changed, and what is not there yet: thousands
// of volumes that are as they should be cost a change nothing.
void Reconciler::pass() {
  const auto state = node_.state();
  locks_ = HeldLocks::look();
  if (state->cluster.is_none()) return;  // knows nothing yet: nothing is wrong, nothing is stray
  const int64_t begun = boottime_ms();
  const bool all = begun >= all_next_ms_;
  const Volumes volumes = all ? state->volumes : changed_volumes(*state);
  const bool gone = std::any_of(seen_.begin(), seen_.end(), [&](const auto& entry) { return !state->volumes.contains(entry.first); });
  unsettled_.clear();
  write_state(*state);
  write_authority();
  fault_point("pass.state");
  write_maps(volumes);
  write_confs(volumes);
  flush_derived();
  fault_point("pass.files");
  run_bricks(volumes);
  if (all || gone) remove_strays(*state);
  fault_point("pass.bricks");
  tell_bricks(volumes);
  fault_point("pass.told");
  seen_ = state->volumes;
  if (all) all_next_ms_ = boottime_ms() + std::max(kAllPeriodMs, (boottime_ms() - begun) * kAllFactor);
}

Reconciler::Volumes Reconciler::changed_volumes(const ClusterState& state) const {
  Volumes changed;
  for (const auto& [name, volume] : state.volumes) {
    const auto seen = seen_.find(name);
    if (seen == seen_.end() || seen->second != volume || unsettled_.contains(name)) changed.emplace(name, volume);
  }
  return changed;
}

std::optional<Reconciler::Signature> Reconciler::signature_of(const std::string& path) {
  struct stat st{};
  if (::lstat(path.c_str(), &st) != 0) return std::nullopt;
  return Signature{st.st_ino, st.st_size, int64_t{st.st_ctim.tv_sec} * 1'000'000'000 + st.st_ctim.tv_nsec};
}

// Gathers what is to be written; flush_derived() writes it.
void Reconciler::write_derived(const std::string& path, uint64_t source, mode_t mode, const std::function<std::string()>& content) {
  const Derived& derived = derived_[path];
  const auto before = signature_of(path);
  if (before && derived.source == source && *before == derived.signature) return;
  const bool lost = derived.source == source && derived.signature.inode != 0;
  const auto written = ensure_file(batch_, path, content(), mode);
  if (!written) {
    spdlog::error("derived file not written path={} reason=\"{}\"", path, written.error());
    return;
  }
  if (lost && *written) spdlog::warn("derived file mended path={}", path);
  in_batch_.emplace_back(path, source);
}

void Reconciler::flush_derived() {
  if (const auto done = batch_.commit(); !done) spdlog::error("derived files not written reason=\"{}\"", done.error());
  else
    for (const auto& [path, source] : in_batch_) derived_[path] = {signature_of(path).value_or(Signature{}), source};
  in_batch_.clear();
}

// A large one is not written for each of many changes: the pass after the last of them writes it.
void Reconciler::write_state(const ClusterState& state) {
  const int64_t now = boottime_ms();
  if (now < state_next_ms_) return;
  size_t size = 0;
  write_derived(node_.options().state_dir + "/state.json", state.version, 0600, [&] {
    const std::string snapshot = state.snapshot();
    size = snapshot.size();
    return document_text_of("{\"node\":\"" + node_.identity().node.uuid() + "\",\"state\":" + snapshot + "}");
  });
  flush_derived();
  if (size < kLargeState) return;
  ::malloc_trim(0);  // there were several copies for a moment
  state_next_ms_ = boottime_ms() + std::min(kStateGapMaxMs, (boottime_ms() - now) * kStateGapFactor);
}

void Reconciler::write_authority() {
  const std::string pem = node_.credentials().tls->authority_pem();
  write_derived(node_.options().conf_dir + "/authority.pem", XXH3_64bits(pem.data(), pem.size()), 0644, [&] { return pem; });
}

void Reconciler::write_maps(const Volumes& volumes) {
  const std::string directory = node_.options().state_dir + "/maps/";
  for (const auto& [name, volume] : volumes) {
    const uint64_t source = source_of(volume->map);
    write_derived(directory + name + ".json.secret", source, 0600, [&volume = volume] { return volume->secret + "\n"; });
    write_derived(directory + name + ".json", source, 0644, [&volume = volume] { return volume->map.to_json(); });
  }
}

std::string Reconciler::prepared_path(const Id& brick) const { return node_.options().conf_dir + "/bricks/" + brick.uuid() + ".prepared"; }

std::string Reconciler::conf_path(const Id& brick) const { return node_.options().conf_dir + "/bricks/" + brick.uuid() + ".conf"; }

// Before any brick is started that reads them.
void Reconciler::write_confs(const Volumes& volumes) {
  const Id me = node_.identity().node;
  for (const auto& [name, volume] : volumes) {
    for (const dht::BrickEntry& brick : volume->map.bricks) {
      if (volume->owners.at(brick.id) != me) continue;
      const std::string conf = conf_text(*volume, brick);
      write_derived(conf_path(brick.id), XXH3_64bits(conf.data(), conf.size()), 0644, [&] { return conf; });
    }
  }
}

void Reconciler::run_bricks(const Volumes& volumes) {
  const Id me = node_.identity().node;
  for (const auto& [name, volume] : volumes) {
    for (const dht::BrickEntry& brick : volume->map.bricks) {
      if (volume->owners.at(brick.id) == me) run_brick(*volume, brick);
    }
  }
}

std::string Reconciler::conf_text(const Volume& volume, const dht::BrickEntry& brick) const {
  std::string conf = "--path=" + brick.path + "\n--map=" + node_.options().state_dir + "/maps/" + volume.map.name + ".json\n";
  conf += "--listen=" + endpoint_of(brick) + "\n--brick=" + brick.id.uuid() + "\n";
  if (!brick.unix_socket.empty()) conf += "--unix=" + brick.unix_socket + "\n";
  if (node_.options().map_port) conf += "--map_port=" + std::to_string(node_.options().map_port) + "\n";
  if (const std::string log = supervisor_.log_of(brick.id); !log.empty()) conf += "--log_file=" + log + "\n";
  // Not a moment longer than needed: whoever starts the brick next may find another disk there.
  if (!volume.ready.contains(brick.id) && !is_brick(brick.path)) conf += "--init\n";
  return conf;
}

void Reconciler::run_brick(const Volume& volume, const dht::BrickEntry& brick) {
  std::string trouble;
  if (volume.map.started) {
    stopping_since_ms_.erase(brick.id);
    trouble = bring_up(volume, brick);
  } else {
    bring_down(volume, brick);
  }
  // The brick has been made, whether it runs or not. Without a majority: said again in the next pass.
  if (volume.ready.contains(brick.id))
    ::unlink(prepared_path(brick.id).c_str());
  else if (is_brick(brick.path) && node_.knowledge().led)
    node_.commit(new_command("brick-ready", {{"volume_id", volume.map.volume.uuid()}, {"brick", brick.id.uuid()}}));
  if (!trouble.empty() || stopping_since_ms_.contains(brick.id)) unsettled_.insert(volume.map.name);
  const std::lock_guard lock(mutex_);
  if (!trouble.empty() && troubles_[brick.id] != trouble) spdlog::error("brick down id={} reason=\"{}\"", brick.id.uuid(), trouble);
  if (trouble.empty()) troubles_.erase(brick.id); else troubles_[brick.id] = trouble;
}

// A sentence: why it is down.
std::string Reconciler::bring_up(const Volume& volume, const dht::BrickEntry& brick) {
  const bool ready = volume.ready.contains(brick.id);
  if (!ready) {
    if (std::string trouble = prepare(brick); !trouble.empty()) return trouble;
  }
  struct stat st{};
  if (::stat(brick.path.c_str(), &st) != 0) return "The brick directory " + brick.path + " is missing. Is its disk mounted?";
  if (ready && ::stat((brick.path + "/.voldfs").c_str(), &st) != 0)
    return "The directory " + brick.path + " is not the brick: it has no .voldfs. Is its disk mounted?";
  const auto server = locks_.brick_server(brick.path);
  // It is ended, and started again where the map has it. Its clients know where that is, and wait for it meanwhile.
  if (const auto told = told_.find(brick.id); server && told != told_.end() && told->second.pid == *server && told->second.elsewhere) {
    supervisor_.bring_down(brick.id, server, brick.path);
    return "The brick " + brick.path + " is moving to its new address, " + endpoint_of(brick) + ".";
  }
  if (const auto up = supervisor_.keep_up(brick.id, server, brick.path, conf_path(brick.id)); !up) return up.error();
  return "";
}

// The directory of a brick that is not known to have been made yet. It is made at most once, and noted before anything is put into
// it: later a missing one is an unmounted disk, which is said and not papered over; nor is what lies under the mount point then taken for it.
std::string Reconciler::prepare(const dht::BrickEntry& brick) {
  const std::string note = prepared_path(brick.id);
  const auto prepared = read_file(note);
  if (!prepared && prepared.error().code != ENOENT) return "Could not read " + note + ": " + std::strerror(prepared.error().code) + ".";
  if (!prepared && ::mkdir(brick.path.c_str(), 0755) != 0 && errno != EEXIST)
    return "Could not make " + brick.path + ": " + std::strerror(errno) + ".";
  const std::string now = directory_identity(brick.path);
  if (now.empty()) return "The brick directory " + brick.path + " is missing. Is its disk mounted?";
  if (!prepared) {
    fault_point("brick.directory");
    const auto written = ensure_file(note, now, 0644);
    return written ? "" : written.error();
  }
  if (now == *prepared || is_brick(brick.path)) return "";
  return "The directory " + brick.path + " is not the one that was there when the volume was started first. Is its disk mounted? If it is to become the brick nevertheless: rm " + note;
}

void Reconciler::bring_down(const Volume& volume, const dht::BrickEntry& brick) {
  const auto server = locks_.brick_server(brick.path);
  if (server) {
    const int64_t now = boottime_ms();
    const int64_t since = stopping_since_ms_.try_emplace(brick.id, now).first->second;
    const Told& told = told_[brick.id];
    const bool farewell = told.done && told.source == source_of(volume.map) && now >= told.at_ms + kFarewellMs;
    if (!farewell && now < since + kFarewellMaxMs) return;
  }
  if (supervisor_.bring_down(brick.id, server, brick.path)) stopping_since_ms_.erase(brick.id);
}

// Whether it was started before its node had the address that it has now.
bool Reconciler::listens_elsewhere(const BrickContact& contact) {
  const Json status = ask_bricks({contact}, kTellTimeoutMs).front();
  return status.contains("listen") && status.at("listen") != endpoint_of(contact.brick);
}

// Running bricks of this node get the newest map, and tell their clients. One that does not take it is asked again
// later, and holds up nobody but this pass.
void Reconciler::tell_bricks(const Volumes& volumes) {
  struct Telling {
    BrickContact contact;
    std::string map;
    bool again;
    Told* told;
    std::future<Result<void>> result;
    bool elsewhere = false;
  };
  const Id me = node_.identity().node;
  std::vector<Telling> tellings;
  for (const auto& [name, volume] : volumes) {
    for (const dht::BrickEntry& brick : volume->map.bricks) {
      if (volume->owners.at(brick.id) != me) continue;
      const auto pid = locks_.brick_server(brick.path);
      if (!pid) continue;
      Told& told = told_[brick.id];
      const uint64_t source = source_of(volume->map);
      const bool again = told.pid == *pid && told.source == source;
      if (!again || !told.done) unsettled_.insert(name);
      if (again && (told.done || boottime_ms() < told.at_ms + kTellAgainMs)) continue;
      told = {*pid, source, false, 0, false};
      tellings.push_back({{volume->map.volume, volume->secret, brick}, volume->map.to_json(), again, &told, {}});
    }
  }
  const std::string here = node_.options().address;
  for (Telling& telling : tellings) {
    telling.result = std::async(std::launch::async, [&telling, &here] {
      const auto put = push_map(telling.contact, telling.map, kTellTimeoutMs);
      // Not before this node has moved there itself: until then the old address is the one that can be listened on.
      if (put && telling.contact.brick.host == here) telling.elsewhere = listens_elsewhere(telling.contact);
      return put;
    });
  }
  for (Telling& telling : tellings) {
    const auto result = telling.result.get();
    telling.told->at_ms = boottime_ms();
    telling.told->done = result.has_value();
    telling.told->elsewhere = telling.elsewhere;
    if (result || telling.again) continue;
    if (result.error().code == ESTALE)
      spdlog::error("map refused brick={} reason=\"it has a newer map, or one that is no ancestor of this cluster's\"", telling.contact.brick.id.uuid());
    else
      spdlog::info("map not taken brick={} error={}", telling.contact.brick.id.uuid(), result.error().code);  // it is starting, or hangs
  }
  if (!tellings.empty()) wake();
}

// Files of volumes and bricks that are no more. A brick that runs without being in the state is stopped first: only its
// own conf file tells where it is.
void Reconciler::remove_strays(const ClusterState& state) {
  const Id me = node_.identity().node;
  std::set<Id> bricks;
  for (const auto& [name, volume] : state.volumes) {
    for (const dht::BrickEntry& brick : volume->map.bricks) {
      if (volume->owners.at(brick.id) == me) bricks.insert(brick.id);
    }
  }
  std::error_code ignored;
  for (const auto& file : fs::directory_iterator(node_.options().state_dir + "/maps", ignored)) {
    std::string name = file.path().filename();
    for (const char* suffix : {".secret", ".json"}) {
      if (name.ends_with(suffix)) name.resize(name.size() - std::strlen(suffix));
    }
    if (state.volumes.contains(name)) continue;
    derived_.erase(file.path());
    ::unlink(file.path().c_str());
  }
  for (const auto& file : fs::directory_iterator(node_.options().conf_dir + "/bricks", ignored)) {
    const auto id = Id::parse(file.path().stem().string());
    if (!id || bricks.contains(*id)) continue;
    const std::string conf = read_file(file.path()).value_or("");
    const size_t at = conf.find("--path=");
    const std::string path = at == std::string::npos ? "" : conf.substr(at + 7, conf.find('\n', at) - at - 7);
    if (!path.empty() && !supervisor_.bring_down(*id, locks_.brick_server(path), path)) continue;
    derived_.erase(file.path());
    ::unlink(file.path().c_str());
  }
}

}  // namespace voldfs::mgmt
