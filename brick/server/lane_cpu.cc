#include "brick/server/lane_cpu.h"

#include "brick/server/limits.h"

namespace voldfs::server {

void LaneCpu::follow(uint16_t told, size_t transfer) {
  const uint16_t wanted = transfer >= kSpreadTransfer ? 0 : told;
  // Twice in a row: a client that wanders is not run after.
  const bool settled = wanted == told_;
  told_ = wanted;
  if (!settled || wanted == followed_) return;
  if (!know_all_ && ::sched_getaffinity(0, sizeof all_, &all_) != 0) return;
  know_all_ = true;
  if (wanted == 0) {
    stay_on(all_);
  } else if (wanted <= CPU_SETSIZE && CPU_ISSET(wanted - 1, &all_)) {
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(wanted - 1, &one);
    stay_on(one);
  }
  followed_ = wanted;
}

// Refused where the set of allowed CPUs has changed meanwhile: slower, no less right.
void LaneCpu::stay_on(const cpu_set_t& cpus) { static_cast<void>(::sched_setaffinity(0, sizeof cpus, &cpus)); }

}  // namespace voldfs::server
