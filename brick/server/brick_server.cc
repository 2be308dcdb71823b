#include "brick/server/brick_server.h"

#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <condition_variable>
#include <cstring>
#include <ctime>
#include <list>
#include <thread>
#include <unordered_set>

#include "brick/base/metrics_server.h"
#include "brick/server/hand_out.h"
#include "brick/server/lane.h"
#include "brick/server/listener.h"
#include "brick/server/ops_session.h"
#include "brick/store/directories.h"
#include "brick/store/open_files.h"
#include "brick/store/txn_log.h"

namespace voldfs::server {

namespace {

uint64_t random_number() {
  uint64_t number;
  std::memcpy(&number, Id::random().bytes.data(), sizeof number);
  return number;
}

}  // namespace

// Lock order: lanes_mutex_ is taken alone; tick_mutex_ likewise.
struct BrickServer::Impl : LeaseTeller {
  Impl(BrickServerOptions options_in, std::unique_ptr<store::Store> store_in)
      : options(std::move(options_in)),
        store(std::move(store_in)),
        locks([this](uint64_t session, const wire::LockBody& lock, int error) { tell_wait_ended(session, lock, error); }),
        sessions(store->dot(), store->boot(), options.lease_ms, [this](uint64_t session) { clean_up(session); }),
        leases(options.lease_ms, *this, &pins),
        pins(store->handles(), [this](const Id& id) { told_of_pinned(id); }),
        payloads(kPayloadBuffers),
        state{*store,  locks,  sessions,        leases,        pins, metrics,
              payloads, faults, random_number(), boottime_ms(), ::time(nullptr)} {}

  uint64_t tell(uint64_t session, const LeaseItem& item, uint64_t sequence) override {
    const auto found = sessions.find(session);
    if (!found) return 0;
    wire::RecallBody recall{};
    recall.object = item.object;
    recall.object_sequence = sequence;
    recall.what = (item.what & kLeaseAttr ? wire::kRecallAttr : 0) | (item.what & kLeaseEntries ? wire::kRecallEntries : 0);
    return state.notify(found, wire::Op::kNotifyRecall, &recall, sizeof recall);
  }

  // A session that is gone without having said so leaves a kernel that believes what it was told, until the lease's end.
  bool await(uint64_t session, uint64_t recall, int64_t deadline) override {
    const auto found = recall != 0 ? sessions.find(session) : nullptr;
    if (found && found->notifications().await_acknowledged(recall, deadline)) return true;
    while (boottime_ms() < deadline && !state.stopping.load()) {
      if (sessions.said_bye(session)) return true;
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    return false;
  }

  void tell_wait_ended(uint64_t session, wire::LockBody lock, int error) {
    lock.flags = static_cast<uint32_t>(error);
    if (const auto found = sessions.find(session, lock.owner.client)) {
      state.notify(found, wire::Op::kNotifyLock, &lock, sizeof lock);
    }
  }

  // What was read while the file was pinned, and is not granted yet, is not to be.
  void told_of_pinned(const Id& file) {
    const LeaseItem item{file, kLeaseAttr};
    leases.changed(0, {&item, 1});
  }

  void clean_up(uint64_t session) {
    locks.drop_session(session);
    for (auto& file : store->open_files().close_session(session)) take_back(state, std::move(file), false);
  }

  void accept_loop();
  void admit(Listener::Accepted accepted);
  void housekeeping_loop();
  void housekeep();
  void close_lanes(const std::function<void(Lane&)>& how);

  const BrickServerOptions options;
  const std::unique_ptr<store::Store> store;
  LockTable locks;
  Sessions sessions;
  LeaseTable leases;
  store::Pins pins;
  Metrics metrics;
  PayloadPool payloads;
  Faults faults;
  ServerState state;
  Listener listener;

  std::mutex lanes_mutex;
  std::list<std::unique_ptr<Lane>> lanes;   // guarded by lanes_mutex

  std::mutex tick_mutex;
  std::condition_variable tick;
  bool stopping = false;                    // guarded by tick_mutex
  std::atomic<bool> accepting{true};
  int64_t grace_end_ms = 0;                 // housekeeping's
  bool grace_lasts = false;                 // housekeeping's
  uint64_t map_version_heeded = 0;          // housekeeping's
  int64_t next_tombstone_sweep_ms = boottime_ms() + kTombstoneSweepMs;  // housekeeping's; the start has swept
  std::thread accept_thread, housekeeping_thread;
  std::unique_ptr<MetricsServer> metrics_server;
};

Explained<std::unique_ptr<BrickServer>> BrickServer::start(BrickServerOptions options) {
  auto store = store::Store::open(options.store);
  if (!store) return explain(store.error());
  auto impl = std::make_unique<Impl>(std::move(options), std::move(*store));
  const BrickServerOptions& own = impl->options;

  if (auto loaded = impl->sessions.load(*impl->store); !loaded) {
    return explain("The sessions of " + own.store.path + " cannot be read (error " +
                   std::to_string(loaded.error().code) + "): see .voldfs/sessions there.");
  }
  impl->grace_end_ms = boottime_ms() + own.store.grace_ms;
  impl->grace_lasts = impl->store->in_grace() && !impl->sessions.all_reclaimed();
  if (!impl->grace_lasts) impl->state.end_grace();

  if (auto listening = impl->listener.listen_tcp(own.listen_address, own.port, false); !listening) {
    return explain(listening.error());
  }
  const bool six = own.listen_address.find(':') != std::string::npos;
  impl->state.listens_on = (six ? "[" + own.listen_address + "]" : own.listen_address) + ":" + std::to_string(impl->listener.port());
  if (!own.unix_socket.empty()) {
    if (auto listening = impl->listener.listen_unix(own.unix_socket); !listening) return explain(listening.error());
  }
  if (own.map_port != 0) {
    if (auto listening = impl->listener.listen_tcp(own.listen_address, own.map_port, true); !listening) {
      return explain(listening.error());
    }
  }
  impl->accept_thread = std::thread([raw = impl.get()] { raw->accept_loop(); });
  impl->housekeeping_thread = std::thread([raw = impl.get()] { raw->housekeeping_loop(); });
  // Monitoring must not keep a brick from serving.
  auto metrics = MetricsServer::start("voldfs/brick/" + impl->store->identity().brick.uuid() + "/" + std::to_string(::getpid()),
                                      [raw = impl.get()] { return prometheus_document(raw->state); });
  if (metrics) impl->metrics_server = std::move(*metrics);
  else spdlog::warn("metrics_not_served error={}", metrics.error().code);
  spdlog::info("brick_serves brick={} volume={} path={} address={} port={}", impl->store->identity().brick.uuid(),
               impl->store->identity().volume.uuid(), own.store.path, own.listen_address, impl->listener.port());
  return std::unique_ptr<BrickServer>(new BrickServer(std::move(impl)));
}

BrickServer::BrickServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
BrickServer::~BrickServer() { stop(); }

uint16_t BrickServer::port() const { return impl_->listener.port(); }
const store::Identity& BrickServer::identity() const { return impl_->store->identity(); }
size_t BrickServer::sessions() const { return impl_->sessions.all().size(); }
BrickServer::Chores BrickServer::chores(uint32_t overdue_ms) const {
  store::Store& store = *impl_->store;
  return {store.unclean(), store.directories().has_adopted(), store::has_older_txn(store, overdue_ms), impl_->sessions.died()};
}

void BrickServer::adopted_done() { impl_->store->directories().forget_adopted(); }
void BrickServer::scrubbed() { impl_->store->set_clean(); }
std::string BrickServer::map() const { return impl_->store->map(); }
const std::vector<uint8_t>& BrickServer::secret() const { return impl_->store->secret(); }

Faults& BrickServer::faults() { return impl_->faults; }
std::string BrickServer::status() const { return status_document(impl_->state); }
std::string BrickServer::prometheus() const { return prometheus_document(impl_->state); }

void BrickServer::cut_connections() {
  std::lock_guard lock(impl_->lanes_mutex);
  for (const auto& lane : impl_->lanes) lane->cut();
}

void BrickServer::end_sessions(const Id& client) {
  for (const auto& session : impl_->sessions.all()) {
    if (session->client() != client) continue;
    impl_->leases.forget(session->id());
    impl_->sessions.end(session);
  }
}

void BrickServer::stop() {
  if (!impl_ || !impl_->accept_thread.joinable()) return;
  impl_->state.stop();
  impl_->close_lanes([](Lane& lane) { lane.stop_receiving(); });
  for (const auto& session : impl_->sessions.all()) session->save_lease();
  spdlog::info("brick_stopped brick={}", impl_->store->identity().brick.uuid());
}

void BrickServer::kill() {
  if (!impl_ || !impl_->accept_thread.joinable()) return;
  impl_->state.killed.store(true);
  impl_->store->abandon();
  impl_->state.stop();
  impl_->sessions.freeze();
  for (const auto& session : impl_->sessions.all()) session->notifications().attach();  // nobody waits for an acknowledgement any more
  impl_->close_lanes([](Lane& lane) { lane.cut(); });
}

// Ends all threads: the accepting one first, so that no lane comes after `how` has been done to all.
void BrickServer::Impl::close_lanes(const std::function<void(Lane&)>& how) {
  metrics_server.reset();  // it reads what is taken down here
  accepting.store(false);
  listener.wake();
  accept_thread.join();
  listener.close();
  {
    std::lock_guard lock(tick_mutex);
    stopping = true;
  }
  tick.notify_all();
  housekeeping_thread.join();
  std::lock_guard lock(lanes_mutex);
  for (const auto& lane : lanes) how(*lane);
  for (const auto& session : sessions.all()) session->notifications().wake();
  lanes.clear();  // joins
}

void BrickServer::Impl::accept_loop() {
  ::pthread_setname_np(::pthread_self(), "accept");
  while (accepting.load()) {
    listener.accept([this](Listener::Accepted accepted) { admit(std::move(accepted)); });
  }
}

void BrickServer::Impl::admit(Listener::Accepted accepted) {
  if (faults.any.load() && faults.refuse_connections.load()) return;
  std::lock_guard lock(lanes_mutex);
  const auto strangers =
      static_cast<size_t>(std::count_if(lanes.begin(), lanes.end(), [](const auto& lane) { return !lane->let_in(); }));
  if (lanes.size() >= options.connections_max || strangers >= kUnauthenticatedMax) {
    metrics.connections_refused.fetch_add(1);
    return;  // the socket closes
  }
  auto lane = std::make_unique<Lane>(state, std::move(accepted.socket), std::move(accepted.peer));
  if (auto started = lane->start(); !started) {
    spdlog::error("lane_failed error={}: no thread for a connection", started.error().code);
    return;
  }
  lanes.push_back(std::move(lane));
  metrics.connections.store(lanes.size());
}

void BrickServer::Impl::housekeeping_loop() {
  ::pthread_setname_np(::pthread_self(), "housekeeping");
  std::unique_lock lock(tick_mutex);
  while (!tick.wait_for(lock, std::chrono::milliseconds(kHousekeepingMs), [this] { return stopping; })) {
    lock.unlock();
    housekeep();
    lock.lock();
  }
}

void BrickServer::Impl::housekeep() {
  metrics.sessions_expired.fetch_add(sessions.expire());
  // By the clock too, for who waits has to be woken.
  if (grace_lasts && (sessions.all_reclaimed() || boottime_ms() >= grace_end_ms)) {
    spdlog::info("grace_ended all_reclaimed={}", sessions.all_reclaimed());
    grace_lasts = false;
    state.end_grace();
  }
  leases.sweep();
  pins.sweep();
  if (boottime_ms() >= next_tombstone_sweep_ms) {
    next_tombstone_sweep_ms = boottime_ms() + kTombstoneSweepMs;
    store->directories().sweep_tombstones();
  }
  if (const uint64_t version = store->map_version(); version != map_version_heeded) {
    if (map_version_heeded != 0) state.spread_map();  // also when the map file was replaced under us
    map_version_heeded = version;
    if (options.heed_options) options.heed_options(store->map_options());
  }
  payloads.trim();

  std::unordered_set<uint64_t> alive;
  for (const auto& session : sessions.all()) alive.insert(session->id());
  std::lock_guard lock(lanes_mutex);
  for (const auto& lane : lanes) {
    if (lane->session_id() != 0 && !alive.contains(lane->session_id())) lane->cut();
  }
  lanes.remove_if([](const auto& lane) { return lane->finished(); });
  metrics.connections.store(lanes.size());
}

}  // namespace voldfs::server
