#pragma once

#include <functional>
#include <vector>

#include "tools/bench_driver/worker.h"

namespace voldfs::bench {

enum class Caches {
  kKept,
  kClientCold,  // the client is mounted anew: the bricks still have theirs
  kAllCold,     // and the machine's are dropped
  kAged,        // what a client keeps for a second, as FUSE does by default, has gone
};

// One row: `step` is done with 0, 1, ... until `count` or the time is over. A workload finds what the ones
// before it have left.
struct Workload {
  const char* name;
  const char* unit;
  double amount = 1;     // of the unit, in a step
  unsigned threads = 0;  // 0: as many as asked for
  Caches caches = Caches::kKept;
  std::function<uint64_t(const Worker&)> count;
  std::function<void(Worker&)> prepare = [](Worker&) {
  };  // before the caches are made cold, leaving nothing open
  std::function<void(Worker&)> open = [](Worker&) {};  // after that, before the clock runs
  std::function<void(Worker&, uint64_t)> step;
  // What a thread more does meanwhile with 0, 1, ..., unmeasured, in the first worker's directory as another mount has it. Null: nothing.
  std::function<void(const std::string& dir, uint64_t)> beside = {};
  // A row more from the same steps: those of them that `of` names. E.g. the renames that crossed bricks.
  struct Part {
    const char* name;
    std::function<bool(const Worker&, uint64_t)> of;
  };
  std::vector<Part> parts = {};
};

// The rows on names and small files, those on data, and those beside another mount.
std::vector<Workload> names_workloads(const Options& options);
std::vector<Workload> data_workloads(const Options& options);
std::vector<Workload> shared_workloads();

}  // namespace voldfs::bench
