#pragma once

#include <sched.h>

#include <cstddef>
#include <cstdint>

namespace voldfs::server {

// Keeps a lane on the CPU of a client that runs on the same host. The client sleeps while the lane works and the lane
// while the client does, so that one warm CPU serves both; waking a sleeping one costs more than the whole request.
// Large transfers are better off with a CPU for either side. The lane's thread only.
class LaneCpu {
 public:
  // Before a request is carried out. `told`: RequestHeader::cpu. `transfer`: bytes of its payload.
  void follow(uint16_t told, size_t transfer);

 private:
  void stay_on(const cpu_set_t& cpus);

  cpu_set_t all_{};        // where the thread may run at all
  bool know_all_ = false;
  uint16_t told_ = 0;      // by the last request
  uint16_t followed_ = 0;  // 0: none
};

}  // namespace voldfs::server
