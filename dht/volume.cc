#include "dht/volume.h"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <thread>
#include <utility>

#include <spdlog/spdlog.h>

#include "brick/base/clock.h"
#include "brick/client/connection.h"
#include "dht/lock_waits.h"
#include "dht/look_ahead.h"
#include "dht/recent_names.h"
#include "dht/volume_impl.h"

namespace voldfs::dht {

namespace {

constexpr int64_t kRootHomeMs = 3'000;            // a mount waits so long for a root's home that says nothing
constexpr std::chrono::milliseconds kRootPoll{5};

client::BrickAddress address_of(const BrickEntry& brick) {
  client::BrickAddress address;
  address.brick = brick.id;
  address.ordinal = brick.ordinal;
  address.host = brick.host;
  address.port = brick.port;
  address.unix_socket = brick.unix_socket;
  return address;
}

}  // namespace

// --- Volume -------------------------------------------------------------------------------------------------

Volume::Volume() = default;
Volume::~Volume() = default;

NodePtr Volume::root() { return impl_->root; }
Grants& Volume::grants() { return impl_->grants; }
DeliveredPages& Volume::delivered_pages() { return impl_->delivered_pages; }
void Volume::set_caches(Caches* caches) { impl_->caches = caches; }
std::vector<BrickUse> Volume::brick_use() const {
  std::vector<BrickUse> all;
  for (const uint16_t ordinal : impl_->all_ordinals())
    if (const client::BrickClient* brick = impl_->brick(ordinal)) all.push_back({ordinal, brick->is_up(), brick->round_trips()});
  return all;
}
NodeTable& Volume::nodes() { return impl_->nodes; }
std::shared_ptr<const VolumeMap> Volume::map() const { return impl_->map(); }

Explained<std::unique_ptr<Volume>> Volume::open(VolumeMap map, std::vector<uint8_t> secret, VolumeOptions options,
                                                uint32_t wait_ms) {
  if (map.bricks.empty() || map.layouts.empty())
    return explain("The volume map names no brick: nothing can be mounted.");
  options.client.volume = map.volume;
  options.client.secret = std::move(secret);
  if (options.client.client.is_none()) options.client.client = Id::random();

  auto volume = std::unique_ptr<Volume>(new Volume);
  volume->impl_ = std::make_unique<Impl>(std::move(options));
  Impl& impl = *volume->impl_;
  {
    std::lock_guard lock(impl.mutex_);
    impl.map_ = std::make_shared<const VolumeMap>(std::move(map));
    impl.connect_bricks(*impl.map_);
    impl.heed_options(*impl.map_);
  }
  if (impl.options.heed_map) impl.options.heed_map(*impl.map());
  impl.map_watch_ = std::make_unique<MapWatch>([&impl](uint16_t ordinal) { return impl.ask_for_map(ordinal); });
  if (auto reached = impl.reach_root(wait_ms); !reached) return explain(reached.error());
  return volume;
}

// --- Map and bricks -----------------------------------------------------------------------------------------

Volume::Impl::Impl(VolumeOptions options_in)
    : options(std::move(options_in)),
      client_options(std::make_shared<const client::ClientOptions>(options.client)),
      root(nodes.get(kRootId, wire::ObjectType::kDirectory)),
      recent_names(std::make_unique<RecentNames>()),
      look_ahead(std::make_unique<LookAhead>(*this)) {}

// First the threads that ask bricks by themselves, then the clients, whose control threads call back into what is behind
// them.
Volume::Impl::~Impl() {
  if (lock_waits) lock_waits->stop();
  look_ahead->stop();
  releases.stop();
  chores.finish();
  if (map_watch_) map_watch_->stop();
  std::unordered_map<uint16_t, std::unique_ptr<client::BrickClient>> bricks;
  {
    std::lock_guard lock(mutex_);
    bricks.swap(bricks_);
  }
}

// Any brick that has the root will do: every brick has it. Its home answers with the record that counts, its
// backup with one that is good enough to begin with: so the home is waited for as long as it may be on its way.
Explained<void> Volume::Impl::reach_root(uint32_t wait_ms) {
  const int64_t begin = boottime_ms();
  const std::shared_ptr<const VolumeMap> map = this->map();
  std::vector<uint16_t> ordinals{map->root_home};
  for (const uint16_t ordinal : all_ordinals())
    if (ordinal != map->root_home) ordinals.push_back(ordinal);

  std::string why = "no brick is in the map";
  do {
    for (const uint16_t ordinal : ordinals) {
      client::BrickClient* brick = this->brick(ordinal);
      if (!brick) continue;
      const auto up = brick->connect(0);
      if (up) {
        if (fetch_root(ordinal)) {
          // Bricks that have files of their own in the root say so (unite_root); those that do not answer now are asked again by a stat.
          Caller quick;
          quick.only_if_up = true;
          if (auto whole = stat_directory(root, quick); !whole)
            spdlog::info("root_incomplete error={}", whole.error().code);
          return {};
        }
        why = fmt::format("brick {} does not have the root directory", ordinal);
        continue;
      }
      why = fmt::format("brick {} at {}:{}: {}", ordinal, brick->address().host, brick->address().port,
                        up.error().is_errno() ? strerror(up.error().code) : "refused");
      const bool on_its_way = up.error().code == ETIMEDOUT && boottime_ms() < begin + kRootHomeMs;
      if (ordinal == map->root_home && on_its_way) break;
    }
    std::this_thread::sleep_for(kRootPoll);
  } while (boottime_ms() < begin + wait_ms);
  return explain(fmt::format(
      "No brick of volume {} answers; the last one tried: {}. Check that the bricks run and that the map and its "
      "secret are this volume's.", map->name, why));
}

Result<void> Volume::Impl::fetch_root(uint16_t ordinal) {
  const wire::DirBody body{{kRootId, 0, 0, 0}};
  auto reply = call(ordinal, wire::Request(wire::Op::kDirGet, body), Caller{});
  if (!reply) return fail(reply.error());
  auto entry = reply->body<wire::EntryBody>();
  if (!entry) return fail(entry.error());
  return entry_from(*entry, nullptr, {}, ordinal).map([](const Entry&) {});
}

std::shared_ptr<const VolumeMap> Volume::Impl::map() const {
  std::lock_guard lock(mutex_);
  return map_;
}

client::BrickClient* Volume::Impl::brick(uint16_t ordinal) const {
  std::lock_guard lock(mutex_);
  const auto found = bricks_.find(ordinal);
  return found == bricks_.end() ? nullptr : found->second.get();
}

uint16_t Volume::Impl::ordinal_of(const Id& id) const {
  const auto map = this->map();
  const BrickEntry* brick = map->brick(id);
  return brick ? brick->ordinal : 0;
}

Id Volume::Impl::brick_id(uint16_t ordinal) const {
  const auto map = this->map();
  const BrickEntry* brick = map->brick(ordinal);
  return brick ? brick->id : Id{};
}

bool Volume::Impl::is_up(uint16_t ordinal) const {
  const client::BrickClient* brick = this->brick(ordinal);
  return brick && brick->is_up();
}

std::vector<uint16_t> Volume::Impl::all_ordinals() const {
  std::vector<uint16_t> ordinals;
  for (const BrickEntry& brick : map()->bricks)
    if (brick.state != BrickState::kGone) ordinals.push_back(brick.ordinal);
  std::sort(ordinals.begin(), ordinals.end());
  return ordinals;
}

uint32_t Volume::Impl::dir_copies() const {
  constexpr uint32_t kDefault = 2;
  const auto map = this->map();
  const auto found = map->options.find("volume.dir-copies");
  if (found == map->options.end()) return kDefault;
  uint32_t copies = 0;
  const std::string& text = found->second;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), copies);
  if (parsed.ec != std::errc() || parsed.ptr != text.data() + text.size() || copies < 1 || copies > kDefault)
    return kDefault;
  return copies;
}

// In this order: nothing older gets to the caches any more, then what is there goes; the acknowledgement follows.
void Volume::Impl::take_back(uint16_t ordinal, const wire::RecallBody& recall, bool by_other) {
  grants.recalled(ordinal, recall.object, recall.object_sequence);
  Caches* const held = caches.load();
  if (!held) return;
  // With another's change of attributes too: the owner may be another, which the kernel looks at again when it comes by a name.
  const bool names = recall.what & (wire::kRecallEntry | wire::kRecallEntries);
  if (names || by_other) held->drop_names(recall.object);
  if (names && delivered_pages.wait(recall.object)) held->drop_names(recall.object);
  const NodePtr node = nodes.find(recall.object);
  if (!node || !(recall.what & (wire::kRecallAttr | wire::kRecallData) || node->is_directory())) return;
  held->drop_open(node);
  // What the kernel does not keep is not taken back: it would ignore the answer that it may be waiting for, and with it a size that is told nowhere
  // else (kernel_pages.h).
  const bool may_be_kept = grants.between_deliveries([&node] { return node->end_kept(); });
  if (may_be_kept || node->is_directory()) held->drop_attributes(node);
}

client::Notifications Volume::Impl::notifications(uint16_t ordinal) {
  client::Notifications notify;
  notify.lock_granted = [this](const wire::LockBody& lock) {
    std::function<void(const wire::LockBody&)> take;
    {
      std::lock_guard guard(mutex_);
      take = lock_granted_;
    }
    if (take) take(lock);
  };
  notify.recall = [this, ordinal](const wire::RecallBody& recall, std::string_view) { take_back(ordinal, recall, true); };
  notify.drop_cached = [this](uint16_t brick) {
    grants.dropped(brick);
    if (Caches* const all = caches.load()) all->drop_all(brick);
  };
  notify.map_changed = [this](uint16_t ordinal) { map_watch_->behind(ordinal); };
  notify.reclaim = [this](uint16_t ordinal, bool lost) { return reclaim_all(ordinal, lost); };
  return notify;
}

void Volume::Impl::connect_bricks(const VolumeMap& map) {
  for (const BrickEntry& brick : map.bricks) {
    if (brick.state == BrickState::kGone) continue;
    if (const auto known = bricks_.find(brick.ordinal); known != bricks_.end()) {
      known->second->move_to(address_of(brick));
      continue;
    }
    bricks_[brick.ordinal] =
        std::make_unique<client::BrickClient>(address_of(brick), client_options, notifications(brick.ordinal));
  }
}

Result<void> Volume::Impl::adopt_map(std::string_view json) {
  auto found = VolumeMap::parse(json);
  if (!found) {
    spdlog::warn("map_refused why=\"{}\"", found.error());
    return fail(EPROTO);
  }
  {
    std::lock_guard lock(mutex_);
    switch (compare_maps(*map_, *found)) {
      case MapOrder::kNewer: break;
      case MapOrder::kSame:
      case MapOrder::kOlder: return {};
      case MapOrder::kSibling:
      case MapOrder::kOtherVolume:
        spdlog::error("map_refused volume={} version={} why=\"not a successor of the map in use\"",
                      found->volume.uuid(), found->version);
        return fail(EPROTO);
    }
    map_ = std::make_shared<const VolumeMap>(std::move(*found));
    connect_bricks(*map_);
    heed_options(*map_);
  }
  if (options.save_map) options.save_map(json);
  if (options.heed_map) options.heed_map(*map());
  return {};
}

// Requests that already wait heed it too.
void Volume::Impl::heed_options(const VolumeMap& map) {
  const auto set = [&](const char* key) {
    const auto found = map.options.find(key);
    return found == map.options.end() ? std::string() : found->second;
  };
  client::OnBrickDown how = options.client.on_brick_down;
  if (set("client.on-brick-down") == "wait") how = client::OnBrickDown::kWait;
  if (set("client.on-brick-down") == "error") how = client::OnBrickDown::kError;
  how = options.on_brick_down.value_or(how);
  if (!map.started) how = client::OnBrickDown::kStopped;
  uint32_t timeout_ms = options.client.down_timeout_ms;
  uint32_t seconds = 0;
  const std::string text = set("client.brick-down-timeout");
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), seconds);
  if (parsed.ec == std::errc() && parsed.ptr == text.data() + text.size() && seconds <= UINT32_MAX / 1000) timeout_ms = seconds * 1000;
  timeout_ms = options.down_timeout_ms.value_or(timeout_ms);
  for (const auto& [ordinal, brick] : bricks_) brick->set_on_brick_down(how, timeout_ms);
}

// Over a connection of its own, so that it ends in time also where the brick hangs.
bool Volume::Impl::ask_for_map(uint16_t ordinal) {
  client::BrickClient* brick = this->brick(ordinal);
  if (!brick) return true;
  const auto text = client::ask(brick->address(), *client_options, wire::Op::kMapGet);
  if (!text) return false;
  // A map that is refused now would be so again: adopt_map() has said why.
  static_cast<void>(adopt_map({reinterpret_cast<const char*>(text->data()), text->size()}));
  return true;
}

Result<void> Volume::Impl::fetch_map(uint16_t ordinal) {
  client::BrickClient* brick = this->brick(ordinal);
  if (!brick) return fail(EIO);
  Caller quick;
  quick.only_if_up = true;  // whoever asks for the map on the way to another brick does not wait for this one
  auto reply = brick->call(wire::Request(wire::Op::kMapGet), quick);
  if (!reply) return fail(reply.error().code == EHOSTDOWN ? EIO : reply.error().code);
  return adopt_map({reinterpret_cast<const char*>(reply->data.data()), reply->data.size()});
}

// --- What bricks may forget ---------------------------------------------------------------------------------

void Volume::Impl::hold(std::shared_ptr<Reclaimable> what) {
  std::lock_guard lock(mutex_);
  const Reclaimable* key = what.get();
  held_[key] = std::move(what);
}

void Volume::Impl::drop(const Reclaimable* what) {
  std::lock_guard lock(mutex_);
  held_.erase(what);
}

bool Volume::Impl::reclaim_all(uint16_t ordinal, bool lost) {
  std::vector<std::shared_ptr<Reclaimable>> held;
  {
    std::lock_guard lock(mutex_);
    held.reserve(held_.size());
    for (const auto& [key, weak] : held_)
      if (auto what = weak.lock()) held.push_back(std::move(what));
  }
  if (lost) releases.forget(ordinal);
  reclaiming = true;
  const bool all = std::all_of(held.begin(), held.end(), [&](const auto& what) { return what->reclaim(ordinal, lost); });
  reclaiming = false;
  return all;
}

void Volume::Impl::set_lock_granted(std::function<void(const wire::LockBody&)> take) {
  std::lock_guard lock(mutex_);
  lock_granted_ = std::move(take);
}

}  // namespace voldfs::dht
