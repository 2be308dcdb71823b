#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "tools/bench_driver/workload.h"

namespace voldfs::bench {

using Workers = std::vector<std::unique_ptr<Worker>>;

struct Measured {
  std::string name, unit;
  double rate = 0;                     // units a second
  std::vector<uint32_t> latencies_ns;  // of every step, sorted
};

// Does a workload with a thread for each worker. Steps a second count from the first thread's start to the
// end of the last; of a part, as if its steps alone had been done.
std::vector<Measured> measure(const Workload& workload, const Workers& workers, const Options& options);

}  // namespace voldfs::bench
