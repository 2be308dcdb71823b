#pragma once

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <atomic>
#include <chrono>
#include <fstream>
#include <functional>
#include <memory>
#include <string>
#include <thread>

#include "brick/base/clock.h"
#include "brick/client/brick_client.h"
#include "brick/client/connection.h"
#include "brick/server/brick_server.h"
#include "brick/store/credentials.h"
#include "brick/wire/status.h"
#include "tests/unit/brick/store/scratch_directory.h"

namespace voldfs::server {

// Waits for a condition, not for a time.
inline bool eventually(const std::function<bool()>& condition, int64_t within_ms = 20'000) {
  const int64_t until = boottime_ms() + within_ms;
  while (!condition()) {
    if (boottime_ms() > until) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  return true;
}

// A brick server in this process, on a scratch directory, and clients of it.
class RunningBrick {
 public:
  explicit RunningBrick(uint32_t lease_ms = 20'000) {
    store::RootScope root;
    const std::string path = scratch_ / "brick";
    EXPECT_EQ(0, ::mkdir(path.c_str(), 0755));
    const std::string map = scratch_ / "map.json";
    std::ofstream(map) << R"({"format": 1, "volume": {"id": ")" << volume.hex() << R"(", "name": "test"},)"
                       << R"("incarnation": ")" << Id::random().hex() << R"(", "version": 1, "root_home": 1,)"
                       << R"("bricks": [{"id": ")" << brick.hex() << R"(", "ordinal": 1, "path": ")" << path
                       << R"("}], "layouts": [{"epoch": 1}]})";
    std::ofstream(map + ".secret") << std::string(64, 'a') << "\n";
    EXPECT_EQ(0, ::chmod((map + ".secret").c_str(), 0600));
    options.store.path = path, options.store.map_file = map, options.store.init = true;
    options.store.min_free_percent = 0, options.store.grace_ms = 10'000;
    options.unix_socket = scratch_ / "socket";
    options.lease_ms = lease_ms;
    start();
  }

  void start() {
    auto started = BrickServer::start(options);
    if (!started) {
      ADD_FAILURE() << started.error();
      return;
    }
    server = std::move(*started);
    options.port = server->port();  // clients look for it where it was
  }
  void kill() {
    server->kill();
    server.reset();
  }

  client::BrickAddress address(bool unix_socket = false) const {
    return {brick, 1, "127.0.0.1", options.port, unix_socket ? options.unix_socket : ""};
  }
  client::ClientOptions client_options() const {
    client::ClientOptions out;
    out.volume = volume;
    out.client = Id::random();
    out.secret.assign(32, 0xaa);
    return out;
  }
  std::unique_ptr<client::BrickClient> connect(client::Notifications notifications = {},
                                               const std::function<void(client::ClientOptions&)>& change = {},
                                               bool unix_socket = false) {
    auto own = std::make_shared<client::ClientOptions>(client_options());
    if (change) change(*own);
    return std::make_unique<client::BrickClient>(address(unix_socket), std::move(own), std::move(notifications));
  }

  const Id volume = Id::random(), brick = Id::random();
  BrickServerOptions options;
  std::unique_ptr<BrickServer> server;

 private:
  store::ScratchDirectory scratch_;
};

}  // namespace voldfs::server
