#include "tools/bench_driver/measure.h"

#include <algorithm>
#include <atomic>
#include <barrier>
#include <chrono>
#include <limits>
#include <numeric>
#include <thread>

namespace voldfs::bench {
namespace {

using Clock = std::chrono::steady_clock;

// What one thread did in a workload.
struct Done {
  Clock::time_point begin, end;
  std::vector<uint32_t> latencies_ns;  // of each step, in order
};

uint32_t nanoseconds(Clock::duration time) {
  const auto count = std::chrono::duration_cast<std::chrono::nanoseconds>(time).count();
  return static_cast<uint32_t>(std::min<int64_t>(count, std::numeric_limits<uint32_t>::max()));
}

Done work(const Workload& workload, Worker& worker, double seconds, std::barrier<>& start) {
  const auto limit = std::chrono::duration<double>(seconds);
  const uint64_t count = workload.count(worker);
  Done done;
  done.latencies_ns.reserve(std::min<uint64_t>(count, 1 << 20));
  start.arrive_and_wait();
  done.begin = done.end = Clock::now();
  for (uint64_t step = 0; step < count && done.end - done.begin < limit; ++step) {
    workload.step(worker, step);
    const Clock::time_point now = Clock::now();
    done.latencies_ns.push_back(nanoseconds(now - done.end));
    done.end = now;
  }
  return done;
}

Measured whole(const Workload& workload, const std::vector<Done>& done) {
  Measured measured{workload.name, workload.unit, 0, {}};
  Clock::time_point begin = done.front().begin, end = done.front().end;
  for (const Done& d : done) {
    begin = std::min(begin, d.begin), end = std::max(end, d.end);
    measured.latencies_ns.insert(measured.latencies_ns.end(), d.latencies_ns.begin(), d.latencies_ns.end());
  }
  const double seconds = std::chrono::duration<double>(end - begin).count();
  measured.rate = workload.amount * static_cast<double>(measured.latencies_ns.size()) / seconds;
  return measured;
}

Measured part_of(const Workload& workload, const Workload::Part& part, const Workers& workers,
                 const std::vector<Done>& done) {
  Measured measured{part.name, workload.unit, 0, {}};
  for (size_t t = 0; t < done.size(); ++t) {
    for (size_t i = 0; i < done[t].latencies_ns.size(); ++i) {
      if (part.of(*workers[t], i)) measured.latencies_ns.push_back(done[t].latencies_ns[i]);
    }
  }
  const double nanoseconds = std::accumulate(measured.latencies_ns.begin(), measured.latencies_ns.end(), 0.0);
  const double seconds_a_thread = nanoseconds / 1e9 / static_cast<double>(done.size());
  if (seconds_a_thread > 0)
    measured.rate = workload.amount * static_cast<double>(measured.latencies_ns.size()) / seconds_a_thread;
  return measured;
}

}  // namespace

std::vector<Measured> measure(const Workload& workload, const Workers& workers, const Options& options) {
  for (const auto& worker : workers)
    workload.open(*worker);
  std::barrier start(static_cast<std::ptrdiff_t>(workers.size() + (workload.beside ? 1 : 0)));
  std::vector<Done> done(workers.size());
  std::vector<std::thread> threads;
  std::atomic<bool> over = false;
  std::thread beside;
  if (workload.beside) {
    beside = std::thread([&, dir = options.beside + '/' + workers.front()->name] {
      start.arrive_and_wait();
      for (uint64_t i = 0; !over; ++i)
        workload.beside(dir, i);
    });
  }
  for (size_t t = 0; t < workers.size(); ++t) {
    threads.emplace_back([&, t] { done[t] = work(workload, *workers[t], options.seconds, start); });
  }
  for (std::thread& thread : threads)
    thread.join();
  over = true;
  if (beside.joinable()) beside.join();
  for (const auto& worker : workers)
    worker->fd.reset();

  std::vector<Measured> rows = {whole(workload, done)};
  for (const Workload::Part& part : workload.parts)
    rows.push_back(part_of(workload, part, workers, done));
  for (Measured& row : rows)
    std::sort(row.latencies_ns.begin(), row.latencies_ns.end());
  return rows;
}

}  // namespace voldfs::bench
