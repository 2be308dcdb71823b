#include "brick/server/server_state.h"

#include <spdlog/spdlog.h>

namespace voldfs::server {

uint64_t ServerState::notify(const std::shared_ptr<Session>& session, wire::Op op, const void* body,
                             size_t body_size, std::string_view name) {
  const uint64_t number = session->notifications().push(op, body, body_size, name, store.map_version());
  if (number != 0) return number;
  spdlog::warn("session_deaf session={} client={}: does not take its notifications", session->id(),
               session->client().hex());
  sessions.end(session);
  return 0;
}

bool ServerState::wait_out_grace() {
  if (!store.in_grace()) return true;
  std::unique_lock lock(grace_mutex);
  grace_ended.wait(lock, [this] { return !store.in_grace() || stopping.load(); });
  return !stopping.load();
}

void ServerState::stop() {
  {
    std::lock_guard lock(grace_mutex);
    stopping.store(true);
  }
  grace_ended.notify_all();
}

void ServerState::end_grace() {
  {
    std::lock_guard lock(grace_mutex);
    store.end_grace();
  }
  grace_ended.notify_all();
}

void ServerState::spread_map() {
  for (const auto& session : sessions.all()) notify(session, wire::Op::kNotifyMap, nullptr, 0);
}

}  // namespace voldfs::server
