#include "dht/maintenance.h"

#include <sys/resource.h>
#include <unistd.h>

#include <chrono>

#include <spdlog/spdlog.h>

namespace voldfs::dht {

namespace {

constexpr uint32_t kMountWaitMs = 3'000;
constexpr int kNiceness = 19;

}  // namespace

Maintenance::Maintenance(Brick brick, Options options)
    : brick_(std::move(brick)), options_(std::move(options)), thread_([this] { run(); }) {}

void Maintenance::ask_to_stop() {
  {
    std::lock_guard lock(mutex_);
    stop_ = true;
  }
  changed_.notify_all();
}

void Maintenance::stop() {
  ask_to_stop();
  if (thread_.joinable()) thread_.join();
}

bool Maintenance::sleep(uint32_t milliseconds) {
  std::unique_lock lock(mutex_);
  return !changed_.wait_for(lock, std::chrono::milliseconds(milliseconds), [this] { return stop_.load(); });
}

void Maintenance::run() {
  ::pthread_setname_np(::pthread_self(), "maintenance");
  ::setpriority(PRIO_PROCESS, static_cast<id_t>(::gettid()), kNiceness);
  while (sleep(options_.look_ms)) look();
  leave();
}

void Maintenance::look() {
  const Clock::time_point now = Clock::now();
  const Chores chores = brick_.chores();
  const bool something = chores.unclean || chores.adopted || chores.overdue || chores.clients_died != deaths_seen_ || !orphans_.empty();
  if (!something) {
    if (volume_ && now - idle_since_ >= std::chrono::milliseconds(options_.leave_ms)) leave();
    return;
  }
  idle_since_ = now;
  if (now < not_before_) return;
  if (auto mounted = mount(); !mounted) {
    spdlog::info("maintenance_waits reason=\"{}\"", mounted.error());
    not_before_ = Clock::now() + std::chrono::milliseconds(options_.again_ms);
    return;
  }
  Housework housework(volume_->impl(), brick_.ordinal, stop_);
  if (auto done = work(housework, chores); !done) {
    if (!stop_) spdlog::info("maintenance_unfinished error={}", done.error().code);
    not_before_ = Clock::now() + std::chrono::milliseconds(options_.again_ms);
  }
  idle_since_ = Clock::now();
}

Explained<void> Maintenance::mount() {
  if (volume_) return {};
  auto map = VolumeMap::parse(brick_.map());
  if (!map) return explain(map.error());
  VolumeOptions options;
  options.client = options_.client;
  // Such a client keeps nothing: nobody waits for it when this process has died (WIRE.md, "Handshake").
  options.client.client = Id::random_adopted();
  options.client.on_brick_down = client::OnBrickDown::kError;
  auto volume = Volume::open(std::move(*map), brick_.secret, std::move(options), kMountWaitMs);
  if (!volume) return explain(volume.error());
  volume_ = std::move(*volume);
  volume_->impl().settle_after_ms = options_.settle_after_ms;
  mounted_ = true;
  return {};
}

void Maintenance::leave() {
  volume_.reset();
  mounted_ = false;
}

Result<void> Maintenance::work(Housework& housework, const Chores& chores) {
  Result<void> result;
  const auto note = [&result](const auto& done) {
    if (!done && result) result = fail(done.error());
  };
  if (chores.overdue || chores.unclean) note(housework.settle());
  if (chores.unclean && !stop_) {
    auto scrubbed = housework.scrub();
    note(scrubbed);
    if (scrubbed && *scrubbed) {
      spdlog::info("scrubbed brick={}", brick_.ordinal);
      brick_.scrubbed();
    }
  }
  if (chores.adopted && !stop_) {
    brick_.adopted_done();  // what is met from here on counts again
    auto adopted = housework.adopt();
    note(adopted);
    if (adopted && !*adopted) note(Result<void>(fail(EAGAIN)));
  }
  if (!stop_) note(look_for_orphans(housework, chores.clients_died));
  return result;
}

// Twice, so far apart that whoever had a hand in what was found first has ended his work or is dead.
Result<void> Maintenance::look_for_orphans(Housework& housework, uint64_t clients_died) {
  if (!orphans_.empty()) {
    if (Clock::now() < park_at_) return {};
    auto parked = housework.park_orphans(orphans_);
    if (!parked) return fail(parked.error());
    orphans_.clear();
  }
  if (clients_died == deaths_seen_) return {};
  auto found = housework.find_orphans();
  if (!found) return fail(found.error());
  deaths_seen_ = clients_died;
  orphans_ = std::move(*found);
  park_at_ = Clock::now() + std::chrono::milliseconds(2 * options_.settle_after_ms);
  return {};
}

}  // namespace voldfs::dht
