#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <string>

#include "brick/server/faults.h"
#include "brick/server/lease_table.h"
#include "brick/server/lock_table.h"
#include "brick/server/metrics.h"
#include "brick/server/payload_pool.h"
#include "brick/server/sessions.h"
#include "brick/store/pins.h"
#include "brick/store/store.h"

namespace voldfs::server {

// What all connections of a brick share. Every member is for any thread.
struct ServerState {
  store::Store& store;
  LockTable& locks;
  Sessions& sessions;
  LeaseTable& leases;
  store::Pins& pins;
  Metrics& metrics;
  PayloadPool& payloads;
  Faults& faults;
  const uint64_t incarnation;  // random, of this life of the brick
  const int64_t started_ms;    // boottime_ms()
  const int64_t started_at;    // seconds since 1970
  std::string listens_on{};    // HOST:PORT; written before the first connection
  std::atomic<bool> killed{false};  // a test's kill -9: nothing is written or answered any more

  // Tells every session that the store's map has become newer.
  void spread_map();
  // Queues a notification; its number. 0: the client does not listen, its session has ended.
  uint64_t notify(const std::shared_ptr<Session>& session, wire::Op op, const void* body, size_t body_size,
              std::string_view name = {});

  // After a start, until those who may still cache what an earlier life of the brick told them have come back with
  // empty hands, or can no more: nothing may change before. Returns at once ever after. False: the brick stops.
  bool wait_out_grace();
  void end_grace();
  void stop();  // whoever waits for grace or for an acknowledgement gives up

  std::atomic<bool> stopping{false};

  std::mutex grace_mutex{};
  std::condition_variable grace_ended{};
};

}  // namespace voldfs::server
