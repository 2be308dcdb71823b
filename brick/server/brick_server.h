#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "brick/base/result.h"
#include "brick/server/faults.h"
#include "brick/server/limits.h"
#include "brick/store/store.h"

namespace voldfs::server {

struct BrickServerOptions {
  store::StoreOptions store;
  std::string listen_address = "127.0.0.1";  // literal
  uint16_t port = 0;                         // 0: any; port() tells
  std::string unix_socket;                   // path; empty: none
  uint16_t map_port = 0;                     // shared by the node's bricks; 0: none
  uint32_t lease_ms = kLeaseMsDefault;       // how long a session lives without a heartbeat
  uint32_t connections_max = kConnectionsMaxDefault;
  // The map's options, at the start and whenever they may have changed; may be empty. Housekeeping's thread.
  std::function<void(const std::map<std::string, std::string>&)> heed_options;
};

// A brick that serves: store, sessions, locks, listener and the lanes of its connections. Several may live in one process
// (tests). start(), stop() and kill() are one thread's, the rest any thread's.
class BrickServer {
 public:
  // Opens the brick (and makes it first, if options.store.init says so), settles what an earlier life has left,
  // then listens. A sentence says why not.
  static Explained<std::unique_ptr<BrickServer>> start(BrickServerOptions options);
  ~BrickServer();  // stop(), if nobody did
  BrickServer(const BrickServer&) = delete;
  BrickServer& operator=(const BrickServer&) = delete;

  uint16_t port() const;
  const store::Identity& identity() const;
  size_t sessions() const;

  // Accepts nobody any more, lets running requests finish and be answered, and leaves the brick clean. Sessions stay
  // in their files: clients find them again after the next start.
  void stop();
  // For tests: as kill -9. No reply leaves any more, no outcome is noted in a slot, nothing is flushed or marked clean. (What
  // a running operation still does to the disk, it does, noted as ever: it is as if the kill had come right after.)
  void kill();

  // For tests.
  Faults& faults();
  void cut_connections();
  void end_sessions(const Id& client);  // as if their leases had run out

  // What there is to do for somebody who looks after the brick (tools/voldbrick_main.cc).
  struct Chores {
    bool unclean = false;          // the host went down while the brick served: names may be missing
    bool adopted = false;          // directories of epoch 0 were met
    bool overdue = false;          // a transaction is so old that its driver must be dead
    uint64_t clients_died = 0;     // so far
  };
  Chores chores(uint32_t overdue_ms) const;
  void adopted_done();             // all that were met before have been taken in
  void scrubbed();                 // no name is missing any more

  std::string map() const;
  const std::vector<uint8_t>& secret() const;

  std::string status() const;      // JSON, as kStatus answers
  std::string prometheus() const;

 private:
  struct Impl;
  explicit BrickServer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace voldfs::server
