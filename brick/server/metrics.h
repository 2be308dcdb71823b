#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <string>

#include "brick/wire/op_info.h"

namespace voldfs::server {

// Counts of one operation. Any thread.
struct OperationMetrics {
  static constexpr size_t kBuckets = 26;  // bucket n: below 2^n microseconds; the last: everything longer

  std::atomic<uint64_t> count{0}, errors{0}, replayed{0}, microseconds{0};
  std::atomic<uint64_t> bytes_in{0}, bytes_out{0};
  std::array<std::atomic<uint64_t>, kBuckets> latency{};

  void add(int status, int64_t duration_us, uint64_t in, uint64_t out);
  // The bound of the bucket that the given share (0 to 1) of the requests stays below; 0: there were none.
  uint64_t quantile_us(double share) const;
};

// What a brick has done since its start. Always on; relaxed counters, so sums may be a request apart.
class Metrics {
 public:
  OperationMetrics& operation(wire::Op op) { return operations_[static_cast<size_t>(op) % kOperations]; }
  const OperationMetrics& operation(wire::Op op) const { return operations_[static_cast<size_t>(op) % kOperations]; }

  std::atomic<uint64_t> connections{0};             // open now
  std::atomic<uint64_t> connections_refused{0};     // over a limit, or failed the handshake
  std::atomic<uint64_t> protocol_errors{0};         // frames that closed their connection
  std::atomic<uint64_t> sessions_expired{0};
  std::atomic<uint64_t> descriptors{0};             // handed out

  // The text exposition format of Prometheus, version 0.0.4.
  std::string prometheus() const;

 private:
  static constexpr size_t kOperations = 256;
  std::array<OperationMetrics, kOperations> operations_;
};

}  // namespace voldfs::server
