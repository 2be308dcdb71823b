#include "brick/server/ops_session.h"

#include <sys/statvfs.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "brick/server/server_state.h"
#include "brick/store/open_files.h"

namespace voldfs::server {

namespace {

using nlohmann::json;

Result<void> reply_text(Call& call, std::string_view text) {
  if (text.size() > wire::kDataMax) return fail(EFBIG);
  const auto* bytes = reinterpret_cast<const std::byte*>(text.data());
  call.reply.data.assign(bytes, bytes + text.size());
  return {};
}

json operations_of(const Metrics& metrics) {
  json out = json::object();
  for (const wire::OpInfo& info : wire::all_op_infos()) {
    const OperationMetrics& counts = metrics.operation(info.op);
    const uint64_t count = counts.count.load(std::memory_order_relaxed);
    if (count == 0) continue;
    out[info.name] = {{"count", count},
                      {"errors", counts.errors.load(std::memory_order_relaxed)},
                      {"replayed", counts.replayed.load(std::memory_order_relaxed)},
                      {"microseconds", counts.microseconds.load(std::memory_order_relaxed)},
                      {"p50_us_below", counts.quantile_us(0.5)},
                      {"p99_us_below", counts.quantile_us(0.99)},
                      {"bytes_in", counts.bytes_in.load(std::memory_order_relaxed)},
                      {"bytes_out", counts.bytes_out.load(std::memory_order_relaxed)}};
  }
  return out;
}

json leases_of(const LeaseTable& leases) {
  const LeaseTable::Counters counters = leases.counters();
  return {{"held", leases.size()},
          {"granted", counters.granted},
          {"refused", counters.refused},
          {"recalls", counters.recalls},
          {"expiries", counters.expiries}};
}

json clients_of(const Sessions& sessions) {
  json out = json::array();
  const int64_t now = boottime_ms();
  for (const auto& session : sessions.all()) {
    out.push_back({{"client", session->client().hex()},
                   {"host", session->peer()},
                   {"since", session->since()},
                   {"session", session->id()},
                   {"connections", session->connections.load()},
                   {"requests", session->requests.load(std::memory_order_relaxed)},
                   {"bytes_in", session->bytes_in.load(std::memory_order_relaxed)},
                   {"bytes_out", session->bytes_out.load(std::memory_order_relaxed)},
                   {"lease_left_ms", session->lease_end() - now},
                   {"reclaiming", session->to_reclaim()}});
  }
  return out;
}

}  // namespace

std::string status_document(ServerState& server) {
  const store::Identity& identity = server.store.identity();
  const Metrics& metrics = server.metrics;
  json out = {{"brick", identity.brick.uuid()},
              {"volume", identity.volume.uuid()},
              {"ordinal", identity.ordinal},
              {"pid", ::getpid()},
              {"listen", server.listens_on},
              {"started", server.started_at},
              {"uptime_s", (boottime_ms() - server.started_ms) / 1000},
              {"map_version", server.store.map_version()},
              {"grace", server.store.in_grace()},
              {"unclean", server.store.unclean()},
              {"connections", metrics.connections.load()},
              {"connections_refused", metrics.connections_refused.load()},
              {"protocol_errors", metrics.protocol_errors.load()},
              {"sessions_expired", metrics.sessions_expired.load()},
              {"locks", server.locks.count()},
              {"open_files", server.store.open_files().count()},
              {"leases", leases_of(server.leases)},
              {"descriptors",
               {{"handed_out", metrics.descriptors.load()}, {"held", server.pins.handed_out()}, {"pinned", server.pins.pinned()}}},
              {"clients", clients_of(server.sessions)},
              {"operations", operations_of(metrics)}};
  struct statvfs space;
  if (::fstatvfs(server.store.root(), &space) == 0) {
    out["bytes_total"] = uint64_t{space.f_blocks} * space.f_frsize;
    out["bytes_available"] = uint64_t{space.f_bavail} * space.f_frsize;
    out["inodes_total"] = uint64_t{space.f_files};
    out["inodes_free"] = uint64_t{space.f_favail};
  }
  return out.dump();
}

std::string prometheus_document(ServerState& server) {
  const store::Identity& identity = server.store.identity();
  Exposition text("voldfs_brick_", label("brick", identity.brick.uuid()) + "," + label("volume", identity.volume.uuid()));
  server.metrics.expose(text);
  const auto sessions = server.sessions.all();
  using Field = std::atomic<uint64_t> Session::*;
  struct Counter {
    const char* name;
    Field field;
    const char* help;
  };
  constexpr Counter kCounters[] = {{"client_requests_total", &Session::requests, "Requests of a client that is connected."},
                                   {"client_received_bytes_total", &Session::bytes_in, "Payload received from it."},
                                   {"client_sent_bytes_total", &Session::bytes_out, "Payload sent to it."}};
  for (const Counter& counter : kCounters) {
    text.family(counter.name, "counter", counter.help);
    for (const auto& session : sessions)
      text.sample(counter.name, label("client", session->client().hex()) + "," + label("host", session->peer()), ((*session).*counter.field).load(std::memory_order_relaxed));
  }
  const auto gauge = [&](const char* name, const char* help, uint64_t value) {
    text.family(name, "gauge", help);
    text.sample(name, "", value);
  };
  gauge("clients", "Clients that have a session.", sessions.size());
  gauge("leases", "What clients may keep.", server.leases.size());
  gauge("locks", "File locks held.", server.locks.count());
  gauge("uptime_seconds", "Since the brick's process started.", static_cast<uint64_t>((boottime_ms() - server.started_ms) / 1000));
  gauge("map_version", "Version of the volume's map that it has.", server.store.map_version());
  struct statvfs space;
  if (::fstatvfs(server.store.root(), &space) == 0) {
    gauge("bytes", "Size of its file system.", uint64_t{space.f_blocks} * space.f_frsize);
    gauge("free_bytes", "Free for users.", uint64_t{space.f_bavail} * space.f_frsize);
    gauge("inodes", "Inodes of its file system.", space.f_files);
    gauge("free_inodes", "Inodes free for users.", space.f_favail);
  }
  return text.take();
}

Result<void> op_map_get(Call& call) { return reply_text(call, call.store.map()); }

Result<void> op_map_put(Call& call) {
  const uint64_t before = call.store.map_version();
  const std::string_view document(reinterpret_cast<const char*>(call.request.data.data()), call.request.data.size());
  if (auto put = call.store.put_map(document); !put) return put;
  if (call.store.map_version() != before && call.server != nullptr) call.server->spread_map();
  return {};
}

Result<void> op_status(Call& call) {
  if (call.server == nullptr) return fail(ENOSYS);
  return reply_text(call, status_document(*call.server));
}

}  // namespace voldfs::server
